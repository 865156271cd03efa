"""Register user-defined elementary functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch as pytorch
from torch import Tensor

from kanlens._checks import check_count
from kanlens._lazy import sympy
from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import ALIASES, BASES, FUNCTIONS
from kanlens.functions._elementary import (
    ElementaryFunction,
    Interval,
    Scalar,
    Symmetry,
    repeated,
    sign_changes,
    slope_of,
)

_CALL = "register_function"
_RESERVED = ("spline", "constant")
MODULES = ["scipy", "numpy"]  # for the evaluation of formulas
_POINTS = 101  # test points of a check
_WIDTH = 3.0  # half width of the interval of test points if the domain is unbounded
_REACH = 50.0  # largest distance from 0 of turning points in a scan
_SCAN_POINTS = 10_000  # points of the scan
_KINKS = 0.1  # share of points at which the slope may be one-sided
_AGREE = 1e-9  # relative difference of two forms of one function
_LINE = 1e-12  # largest share of the squares that a line leaves, if g counts as a straight line


class Registration:
    """A registered function; a context manager that removes it.

    Attributes
    ----------
    function : ElementaryFunction
    """

    def __init__(self, function: ElementaryFunction) -> None:
        self.function = function
        self._before = FUNCTIONS.get(function.name)
        FUNCTIONS[function.name] = function
        if function.domain == "real":
            BASES.setdefault(function.name, function)

    def remove(self) -> None:
        """Remove the function from the library unless it was replaced."""
        if FUNCTIONS.get(self.function.name) is not self.function:
            return
        del FUNCTIONS[self.function.name]
        if BASES.get(self.function.name) is self.function:
            del BASES[self.function.name]
        if self._before is not None:
            FUNCTIONS[self.function.name] = self._before

    def __enter__(self) -> ElementaryFunction:
        return self.function

    def __exit__(self, *_: object) -> None:
        self.remove()


def register_function(
    name: str,
    torch: Scalar,
    sympy: Callable[[Any], Any],
    *,
    domain: Interval | None = None,
    complexity: int = 4,
    derivative: Scalar | None = None,
    turning: Sequence[float] | None = None,
    period: float | None = None,
) -> Registration:
    """Add a function g to the library, for edges ``c * g(a * x + b) + d``.

    Then `suggest` and `symbolize` try it, formulas hold its sympy expression, symbolic edges
    evaluate it, and files that name it can be loaded; with an unlimited domain, it can be a base
    activation. This lasts for the process; another one registers g before it loads such files.

    Parameters
    ----------
    name : str
        Name of g in tables and files.
    torch : callable
        g itself: from a Tensor to one of the same shape and dtype, by differentiable operations.
    sympy : callable
        From a sympy expression u to the expression g(u), of functions that ``sympy.lambdify``
        writes in NumPy and SciPy.
    domain : tuple of float, optional
        g is defined and finite strictly between these two numbers, which may be infinite.
        Default: everywhere.
    complexity : int
        Weight in the choice between functions. Those of the library have 1 (a straight line) to 5.
    derivative : callable, optional
        The derivative g', a callable like `torch`. Default: automatic differentiation.
    turning : sequence of float, optional
        Every point where g changes from rising to falling or back, () for none. Default: a search
        near 0; the bounds of an edge with this function are then infinite.
    period : float, optional
        Distance after which the turning points repeat.

    Returns
    -------
    Registration
        ``with register_function(...):`` removes the function at the end of the block, like
        ``.remove()``.

    Raises
    ------
    InvalidValueError
        If the name is taken, or the callables contradict each other, the domain, or the turning
        points.

    Examples
    --------
    Planck's law:

    >>> import sympy, torch
    >>> planck = register_function(
    ...     "planck",
    ...     lambda u: u**3 / torch.expm1(u),
    ...     lambda u: u**3 / (sympy.exp(u) - 1),
    ...     domain=(0.0, math.inf),
    ... )
    >>> from kanlens.model._edge import Edge
    >>> Edge.of("planck", a=2.0).to_sympy()
    8.0*x**3/(exp(2.0*x) - 1)
    >>> planck.remove()
    """
    _check_name(name)
    check_count(_CALL, "complexity", complexity)
    low, high = _checked_domain(domain)
    u = _places(low, high)
    value = _checked(torch, u, "torch")
    if derivative is not None:
        _checked(derivative, u, "derivative")
    _check_expression(sympy, u, value)
    slopes = _checked(slope_of(torch), u, "the slope of torch")
    _check_slopes(torch, u, slopes)
    if derivative is not None:
        _compare("derivative to be that of torch", derivative(u), slopes, u)
    _check_shape(u, value)
    _check_turning(turning, period, u, slopes)
    turns = _turning_near_zero(slope_of(torch), low, high) if turning is None else turning
    symmetry = _symmetry(torch, u, low, high)
    function = ElementaryFunction(
        name=name,
        value=torch,
        derivative=derivative or slope_of(torch),
        expression=sympy,
        complexity=complexity,
        domain="real" if domain is None else (low, high),
        symmetry=symmetry,
        degree=_degree(torch, symmetry, low, high),
        turns=(tuple(map(float, turns)),),
        period=period,
        turning_known=turning is not None,
    )
    return Registration(function)


def _refused(expected: str, got: str, advice: str) -> InvalidValueError:
    return InvalidValueError(_CALL, expected, got, advice)


def _looks(error: Exception) -> str:
    """Return an error raised by a caller's function as one line."""
    return " ".join(f"{type(error).__name__} from it: {error}".split())[:200]


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise _refused("name to be printable text", repr(name), "Name the function")
    taken = {*ALIASES, *_RESERVED, *(name for name, g in FUNCTIONS.items() if g.searched)}
    if name in taken:
        raise _refused("a name that is free", f"{name!r}, which is taken", "Choose another")


def _checked_domain(domain: Interval | None) -> Interval:
    if domain is None:
        return -math.inf, math.inf
    try:
        low, high = (float(end) for end in domain)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low < high:
        expected = "domain to be two numbers, the lower first"
        raise _refused(expected, repr(domain), "Use math.inf where it has no end")
    return low, high


def _places(low: float, high: float) -> Tensor:
    """Return test points inside the domain, away from its ends."""
    start = low if math.isfinite(low) else min(high, _WIDTH) - 2 * _WIDTH
    end = high if math.isfinite(high) else max(start, -_WIDTH) + 2 * _WIDTH
    places = pytorch.linspace(0.0, 1.0, _POINTS + 2, dtype=pytorch.float64)[1:-1]
    return start + (end - start) * places


def _checked(function: Scalar, u: Tensor, what: str) -> Tensor:
    """Return the values of a function; refuse wrong shapes and dtypes, NaN and infinity."""
    for point in (u.float(), u):
        try:
            value = function(point)
        except Exception as error:  # whatever a caller's function raises
            got = _looks(error)
            raise _refused(f"{what} to take a Tensor", got, "Use torch operations") from error
        form = (getattr(value, "shape", None), getattr(value, "dtype", None))
        if not isinstance(value, Tensor) or form != (point.shape, point.dtype):
            got = type(value).__name__
            if isinstance(value, Tensor):
                got = f"one of shape {tuple(value.shape)} and {value.dtype}"
            expected = f"{what} to return a Tensor of shape {tuple(u.shape)} and {point.dtype}"
            raise _refused(expected, got, "Keep the shape and dtype of its input")
    bad = (~pytorch.isfinite(value)).nonzero()
    if len(bad):
        place = f"{float(value[bad[0, 0]])!r} at {float(u[bad[0, 0]]):.6g}"
        raise _refused(f"{what} to be finite in the domain", place, "Pass domain=(low, high)")
    return value.detach()


def _check_expression(expression: Callable[[Any], Any], u: Tensor, value: Tensor) -> None:
    """Refuse an object that is not a sympy expression, or differs from `value` at u."""
    symbol = sympy.Dummy("u", real=True)  # in no expression by chance
    expected = "sympy to return an expression of u that NumPy or SciPy can evaluate"
    try:
        form = sympy.sympify(expression(symbol), strict=True)
        with np.errstate(all="ignore"):
            values = np.asarray(sympy.lambdify(symbol, form, MODULES)(u.numpy()))
        if np.iscomplexobj(values):
            values = np.where(values.imag == 0, values.real, np.nan)
        values = np.broadcast_to(np.asarray(values, np.float64), u.shape)
    except Exception as error:  # whatever a caller's function raises
        raise _refused(expected, _looks(error), "Use sympy functions") from error
    _compare("torch and sympy to be the same function", pytorch.tensor(values), value, u)


def _compare(expected: str, values: Tensor, others: Tensor, u: Tensor) -> None:
    """Refuse two forms of a function that differ."""
    gap = (values.detach() - others).abs()
    size = others.abs().clamp(min=1e-3 * float(others.abs().max()))
    k = int((gap / size.clamp(min=1e-300)).nan_to_num(math.inf).argmax())
    if not float(gap[k]) <= _AGREE * float(size[k]):
        got = f"{float(values[k]):.9g} and {float(others[k]):.9g} at {float(u[k]):.6g}"
        raise _refused(expected, got, "Correct one of them")


def _check_slopes(function: Scalar, u: Tensor, slopes: Tensor) -> None:
    """Refuse a function whose slopes by autograd differ from central differences."""
    step = 1e-3 * float(u[1] - u[0])
    with pytorch.no_grad():
        differences = (function(u + step) - function(u - step)) / (2 * step)
    far = (differences - slopes).abs() > 1e-3 * float(differences.abs().max())
    if float(far.double().mean()) > _KINKS:
        k = int(far.nonzero()[0, 0])
        got = f"slope {float(slopes[k]):.6g}, not {float(differences[k]):.6g}, at {float(u[k]):.6g}"
        raise _refused("torch to be differentiable by autograd", got, "Use torch operations")


def _check_shape(u: Tensor, value: Tensor) -> None:
    """Refuse constants and straight lines: the library has them."""
    centered, line = value - value.mean(), u - u.mean()
    rest = centered - (centered * line).sum() / line.square().sum() * line
    if float(rest.square().sum()) <= _LINE * float(value.square().sum()):
        raise _refused("a function other than a straight line", "a straight line", "Use 'x'")


def _check_turning(
    turning: Sequence[float] | None, period: float | None, u: Tensor, slopes: Tensor
) -> None:
    """Refuse turning points if the derivative changes sign where none is listed."""
    if period is not None and (turning is None or not 0 < period < math.inf):
        expected = "period to be a positive number, with turning points"
        raise _refused(expected, repr(period), "Pass the turning points of one period")
    if turning is None:
        return
    try:
        finite = all(math.isfinite(float(point)) for point in turning)
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise _refused("turning to be finite numbers", repr(turning), "Pass () for none")
    signs = pytorch.sign(slopes)
    for k in (signs[:-1] * signs[1:] < 0).nonzero()[:, 0].tolist():
        left, right = float(u[k]), float(u[k + 1])
        if not repeated(tuple(turning), period, left, right):
            got = f"none of them between {left:.6g} and {right:.6g}, where the slope changes sign"
            raise _refused("all turning points", got, "Add it, or leave turning out")


def _turning_near_zero(slope: Scalar, low: float, high: float) -> tuple[float, ...]:
    """Return where the derivative changes sign near 0, by bisection."""
    start, end = max(low, -_REACH), min(high, _REACH)
    if not start < end:
        return ()
    places = np.linspace(start, end, _SCAN_POINTS + 2)[1:-1]
    turns = sign_changes(lambda u: slope(pytorch.from_numpy(u)).numpy(force=True), places)
    return tuple(turns.tolist())


def _symmetry(function: Scalar, u: Tensor, low: float, high: float) -> Symmetry | None:
    """Return whether the values are even or odd; None if neither."""
    if low != -high:
        return None
    with pytorch.no_grad():
        values, mirrored = function(u), function(-u)
    size = _AGREE * 1e-3 * float(values.abs().max())
    if float((values - mirrored).abs().max()) <= size:
        return "even"
    return "odd" if float((values + mirrored).abs().max()) <= size else None


def _degree(function: Scalar, symmetry: Symmetry | None, low: float, high: float) -> float | None:
    """Return p if the values satisfy g(s * u) = s**p * g(u) for every s > 0."""
    if (low, high) not in ((-math.inf, math.inf), (0.0, math.inf)):
        return None
    u = _places(low, high)
    with pytorch.no_grad():
        values, double, triple = function(u), function(2 * u), function(3 * u)
    largest = int(values.abs().argmax())
    share = float(double[largest] / values[largest])
    if not share > 0:
        return None
    degree = math.log2(share)
    nearest = round(2 * degree) / 2
    degree = nearest if abs(degree - nearest) < _AGREE else degree
    size = _AGREE * float(triple.abs().max())
    gaps = (float((g - s**degree * values).abs().max()) for s, g in ((3.0, triple), (2.0, double)))
    fits = symmetry is None or degree == {"even": 0, "odd": 1}[symmetry] + 2 * (degree // 2)
    return degree if fits and not any(gap > size for gap in gaps) else None
