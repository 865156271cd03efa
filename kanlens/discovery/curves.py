"""One function of one variable: elementary functions, also inside and under others, and powers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy
import torch

from kanlens.discovery.problems import TRANSFORMS, Inverse, Transform
from kanlens.discovery.regression import Array, eliminate, relative_error, solve
from kanlens.functions.catalog import FUNCTIONS
from kanlens.symbolic.composition import Expr
from kanlens.symbolic.edge_fitting import EdgeSamples, fit_edges
from kanlens.symbolic.library import library

U = sympy.Symbol("_u", real=True)
_EPSILON = 1e-9  # relative squared error of a curve that was itself fitted
_INDEPENDENT = 40  # values of a curve that count as independent
_OUTER = {
    "id": 0,
    "log": 2,
    "inv": 1,
    "sq": 1,
    "invsq": 2,
    "sqrt": 1,
    "invsqrt": 2,
    "exp": 2,
    "sin": 3,
    "tan": 3,
    "cos": 3,
    "sinh": 3,
}


@dataclass(frozen=True, eq=False)
class Curve:
    """A formula for a curve.

    Attributes
    ----------
    error : float
        Relative squared error, of the curve or of its transform, whichever is less.
    price : float
        For its length.
    make : callable
        Returns the formula.
    """

    error: float
    price: float
    make: Callable[[], Expr]

    def score(self, epsilon: float) -> float:
        """Return error and length together, smaller is better; errors below epsilon are none."""
        return float(_INDEPENDENT * np.log(self.error + epsilon) + self.price)

    @cached_property
    def expression(self) -> Expr:
        """The formula, of the symbol `U`."""
        return self.make()


@dataclass(frozen=True, eq=False)
class _Inner:
    """A function of the variable under the elementary one."""

    name: str
    value: Callable[[Array], Array]
    expression: Inverse
    price: int


_INNER = (
    _Inner("id", lambda x: x, lambda e: e, 0),
    _Inner("sq", np.square, lambda e: e**2, 1),
    _Inner("inv", lambda x: 1 / x, lambda e: 1 / e, 1),
    _Inner("sqrt", np.sqrt, sympy.sqrt, 1),
    _Inner("log", np.log, sympy.log, 2),
    _Inner("exp", np.exp, sympy.exp, 2),
)


def _inner_fits(inner: _Inner, x: Array) -> bool:
    if inner.name == "id":
        return True
    if inner.name == "exp":
        return bool(np.abs(x).max() < 20)
    if inner.name == "sq":
        return bool(x.min() < 0 < x.max() or x.min() > 0)
    return bool(x.min() > 1e-3 * x.max() and x.min() > 0)


def fit_curves(
    x: Array,
    values: Sequence[Array],
    *,
    outer: Sequence[str] = ("id",),
    inner: Sequence[str] = ("id",),
    epsilon: float = _EPSILON,
    kept: int = 3,
) -> list[list[Curve]]:
    """Fit curves on one grid each.

    Parameters
    ----------
    x : ndarray, shape (curve, point)
        Evenly spaced points.
    values : sequence of ndarray, shape (point,)
        One per curve.
    outer : sequence of str
        Names of transforms of the values to try.
    inner : sequence of str
        Names of functions to put under the elementary one.
    epsilon : float
        Relative squared error of the curves themselves.
    kept : int
        Formulas per curve.

    Returns
    -------
    list of list of Curve
        Per curve, best first.
    """
    jobs = [
        (k, transform, under)
        for k, value in enumerate(values)
        for transform in TRANSFORMS
        if transform.name in outer and transform.fits(value)
        for under in _INNER
        if under.name in inner and _inner_fits(under, x[k])
    ]
    found: list[list[Curve]] = [_powers(x[k], v, outer) for k, v in enumerate(values)]
    for (k, *_), curves in zip(jobs, _families(jobs, x, values), strict=True):
        found[k] += curves
    return [_ranked(curves, epsilon)[:kept] for curves in found]


def _ranked(curves: list[Curve], epsilon: float) -> list[Curve]:
    """Order by score, in turns for curves known that well and less well."""
    levels = (epsilon, 1e-4) if epsilon < 1e-4 else (epsilon,)
    orders = [sorted(curves, key=lambda c: c.score(level)) for level in levels]
    ranked = [curve for turn in zip(*orders, strict=True) for curve in turn]
    return list(dict.fromkeys(ranked))


_Job = tuple[int, Transform, _Inner]


def _families(jobs: list[_Job], x: Array, values: Sequence[Array]) -> list[list[Curve]]:
    """Fit every elementary function to the curves of all jobs at once."""
    inputs, targets = [], []
    for k, transform, under in jobs:
        u, t = under.value(x[k]), transform.value(values[k])
        grid = np.linspace(u.min(), u.max(), len(u))
        inputs.append(grid)
        rising = np.argsort(u)
        targets.append(np.interp(grid, u[rising], t[rising]) if under.name != "id" else t)
    uniform = len(x[0])
    xs, ys = torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets))
    raw = [(under.value(x[k]), transform.value(values[k])) for k, transform, under in jobs]
    xs = torch.cat((xs, torch.from_numpy(np.stack([u for u, _ in raw]))), dim=1)
    ys = torch.cat((ys, torch.from_numpy(np.stack([t for _, t in raw]))), dim=1)
    low, high = xs.amin(1), xs.amax(1)
    fits = fit_edges(EdgeSamples(x=xs, y=ys, low=low, high=high, uniform=uniform), library())
    found = []
    for row, (k, transform, under) in enumerate(jobs):
        order = fits.r2[row].nan_to_num(-1e9).argsort(descending=True)[:8].tolist()
        curves = []
        for f in order:
            parameters = fits.parameters[row, f]
            if bool(torch.isfinite(parameters).all()):
                name = fits.families[f].name
                curves.append(_curve((k, transform, under), name, parameters, x, values))
        found.append(curves)
    return found


def _curve(
    job: _Job,
    name: str,
    parameters: torch.Tensor,
    x: Array,
    values: Sequence[Array],
) -> Curve:
    k, transform, under = job
    a, b, c, d = (float(p) for p in parameters)
    function = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        u = torch.from_numpy(a * under.value(x[k]) + b)
        made = c * function.value(u).numpy() + d
    error = _error(transform, made, values[k])
    numbers = 2 + (a != 1.0) + (abs(b) > 1e-6 * abs(a))
    price = function.complexity + _OUTER[transform.name] + under.price
    price = numbers * np.log(_INDEPENDENT) + 1.4 * price

    def make() -> Expr:
        inside = _number(a) * under.expression(U) + _number(b)
        expression = _number(c) * function.expression(inside) + _number(d)
        return _side(transform, values[k]) * transform.expression(expression)

    return Curve(error, float(price), make)


def _side(transform: Transform, value: Array) -> int:
    """Return the sign that a transform of the size loses."""
    return -1 if transform.name in ("sq", "invsq", "sqrt", "invsqrt", "log") and value[0] < 0 else 1


def _error(transform: Transform, made: Array, value: Array) -> float:
    """Return the error under the transform or without it, whichever is less.

    A pole or a zero makes either of them large for a formula that only needs a refit.
    """
    with np.errstate(all="ignore"):
        back = _side(transform, value) * transform.inverse(made)
        return min(relative_error(back, value), relative_error(made, transform.value(value)))


def _powers(x: Array, value: Array, outer: Sequence[str]) -> list[Curve]:
    """Fit short sums of powers to one curve and its transforms."""
    sets: list[tuple[float, ...]] = [(1, 2), (1, 2, 3, 4, 5, 6), (2, 4, 6, 8, 10, 12)]
    sets += [(1,), (2,), (3,), (4,)]
    if x.min() > 1e-3 * x.max():
        sets += [(-2, -1, 1, 2), (-4, -2, 2, 4), (-0.5, 0.5, 1, 1.5, 2)]
        sets += [(-1,), (-2,), (0.5,), (1.5,)]
    found = []
    for transform in TRANSFORMS:
        if transform.name not in outer or not transform.fits(value):
            continue
        target = transform.value(value)
        for powers in sets:
            found += _sums(x, value, target, transform, powers)
    return found


def _sums(
    x: Array,
    value: Array,
    target: Array,
    transform: Transform,
    powers: Sequence[float],
) -> list[Curve]:
    every = (0.0, *powers)
    matrix = np.stack([x**p for p in every], axis=1)
    found = []
    for selection in eliminate(matrix, target, np.arange(len(every)))[:2]:
        terms = list(selection.groups)
        coefficients = solve(matrix[:, terms], target)
        error = _error(transform, matrix[:, terms] @ coefficients, value)
        price = 1.4 * (2 * len(terms) + _OUTER[transform.name])
        kept = [(float(c), every[k]) for k, c in zip(terms, coefficients, strict=True)]

        def make(kept: list[tuple[float, float]] = kept) -> Expr:
            parts = (sympy.Float(c) * U ** sympy.Rational(p) for c, p in kept)
            return _side(transform, value) * transform.expression(sympy.Add(*parts))

        found.append(Curve(error, float(price + len(terms) * np.log(_INDEPENDENT)), make))
    return found


def _number(value: float) -> Expr:
    return sympy.Integer(int(value)) if value in (-1.0, 0.0, 1.0) else sympy.Float(value)
