"""Base activations: the fixed function an edge adds to its spline, with all that is known of it.

A layer needs the value and the slope as torch code; the exact analyses of an edge need
derivatives of any order, an antiderivative, the range on an interval and the zeros of the
derivatives as float64 numbers. `BASES` holds one record of these per name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kanlens.checks import check_choice, check_count, message
from kanlens.errors import InvalidValueError
from kanlens.functions import closed_forms

Array = np.ndarray[Any, np.dtype[np.float64]]

MAX_ZERO_ORDER = 7
_SCAN = 40.0  # beyond it every derivative has settled: its zeros lie within about its order


@dataclass(frozen=True, eq=False)
class BaseActivation:
    """A base activation and what is known of it in closed form.

    Attributes
    ----------
    name : str
        Key into `BASES`.
    value : callable
        Tensor to Tensor of the same shape, differentiable.
    pair : callable
        The value and the first derivative, likewise, in less time than one after the other.
    sympy : callable
        A sympy Symbol or Expr to a sympy Expr, exact.
    module : type or None
        The torch module class that computes the same.
    closed_form, integral : callable
        What `nth` and `antiderivative` evaluate.
    line : float or None
        Slope of a base that is a straight line through 0, which B-splines can write as well.

    Examples
    --------
    >>> silu = BASES["silu"]
    >>> silu.value(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7311])
    >>> import sympy
    >>> silu.sympy(sympy.Symbol("x"))
    x/(1 + exp(-x))
    """

    name: str
    value: Callable[[Tensor], Tensor]
    pair: Callable[[Tensor], tuple[Tensor, Tensor]]
    sympy: Callable[[Any], Any]
    module: type[nn.Module] | None
    closed_form: Callable[[Array, int], Array]
    integral: Callable[[Array], Array]
    line: float | None = None

    def derivative(self, x: Tensor) -> Tensor:
        """Return the first derivative, of the shape of `x`, differentiable.

        Examples
        --------
        >>> BASES["tanh"].derivative(torch.tensor([0.0]))
        tensor([1.])
        """
        return self.pair(x)[1]

    def nth(self, x: Array | float, n: int) -> Array:
        """Return the `n`-th derivative (0: the value) at `x`, in float64.

        Parameters
        ----------
        x : ndarray or float
            Points; infinite ones give the limit.
        n : int
            Order, at least 0.

        Returns
        -------
        ndarray, shape of `x`

        Raises
        ------
        InvalidValueError
            If `n` is no whole number of at least 0.

        Examples
        --------
        >>> BASES["tanh"].nth(np.array([0.0, np.inf]), 1)
        array([1., 0.])
        """
        check_count("BaseActivation.nth", "n", n, least=0)
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            return self.closed_form(np.asarray(x, dtype=np.float64), n)

    def antiderivative(self, x: Array | float) -> Array:
        """Return the antiderivative that is 0 at 0, in float64.

        Parameters
        ----------
        x : ndarray or float

        Returns
        -------
        ndarray, shape of `x`

        Examples
        --------
        >>> BASES["identity"].antiderivative(np.array([2.0]))
        array([2.])
        """
        with np.errstate(under="ignore"):
            return self.integral(np.asarray(x, dtype=np.float64))

    def range_bounds(self, low: Array | float, high: Array | float) -> tuple[Array, Array]:
        """Return the least and the greatest value on each interval, exactly.

        Parameters
        ----------
        low, high : ndarray or float
            Ends of the intervals, of shapes that broadcast; may be infinite.

        Returns
        -------
        tuple of ndarray
            Minimum and maximum, of the broadcast shape.

        Examples
        --------
        >>> lower, upper = BASES["silu"].range_bounds(-2.0, 0.0)
        >>> round(float(lower), 6), float(upper)
        (-0.278465, 0.0)
        """
        low, high = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
        ends = self.nth(low, 0), self.nth(high, 0)
        lower, upper = np.minimum(*ends), np.maximum(*ends)
        for zero in self.zeros_of_derivative(1):
            inside = (low < zero) & (zero < high)
            turn = self.nth(zero, 0)
            lower = np.where(inside, np.minimum(lower, turn), lower)
            upper = np.where(inside, np.maximum(upper, turn), upper)
        return lower, upper

    def zeros_of_derivative(self, n: int) -> Array:
        """Return every isolated real zero of the `n`-th derivative, sorted.

        A derivative that vanishes everywhere (of "zero", or of "identity" from the
        second on) has no isolated zero.

        Parameters
        ----------
        n : int
            Order, 0 to 7; 0 asks for the zeros of the activation.

        Returns
        -------
        ndarray, shape (zero,)
            Read-only; found once, then remembered.

        Raises
        ------
        InvalidValueError
            If `n` is outside 0 to 7.

        Examples
        --------
        >>> BASES["silu"].zeros_of_derivative(1).round(6)
        array([-1.278465])
        """
        check_count("BaseActivation.zeros_of_derivative", "n", n, least=0)
        if n > MAX_ZERO_ORDER:
            call = "BaseActivation.zeros_of_derivative"
            advice = f"Ask for an order of at most {MAX_ZERO_ORDER}"
            raise InvalidValueError(message(call, "n of at most 7", repr(n), advice))
        return _zeros(self.name, n)


def base_activation(given: object, *, call: str = "base_activation") -> BaseActivation:
    """Recognize a base activation given by name, module class, module or torch function.

    Parameters
    ----------
    given : str or type or nn.Module or callable or BaseActivation
        E.g. ``"silu"``, ``torch.nn.SiLU``, ``torch.nn.SiLU()`` or
        ``torch.nn.functional.silu``.
    call : str
        The public call that an error names.

    Returns
    -------
    BaseActivation
        The entry of `BASES`.

    Raises
    ------
    InvalidValueError
        If it is none of them, e.g. GELU with the tanh approximation.

    Examples
    --------
    >>> base_activation(nn.SiLU).name, base_activation(torch.tanh).name
    ('silu', 'tanh')
    """
    if isinstance(given, BaseActivation):
        return given
    if isinstance(given, str):
        check_choice(call, "base_activation", given, BASES)
        return BASES[given]
    kind = given if isinstance(given, type) else type(given)
    exact = getattr(given, "approximate", "none") == "none"
    for base in BASES.values():
        if exact and base.module is not None and kind is base.module:
            return base
    for function, name in _FUNCTIONS:
        if given is function:
            return BASES[name]
    shown = given.__name__ if isinstance(given, type) else repr(given)
    expected = "a known base activation (its name, torch module or torch function)"
    names = ", ".join(sorted(BASES))
    raise InvalidValueError(message(call, expected, shown, f"Choose one of: {names}"))


@functools.lru_cache(maxsize=64)
def _zeros(name: str, n: int) -> Array:
    """Find the zeros of one derivative by a fine scan; they are simple and few."""
    from scipy.optimize import brentq

    base = BASES[name]
    grid = np.linspace(-_SCAN, _SCAN, 16384)  # even count: no grid point is 0
    values = base.nth(grid, n)
    starts = np.flatnonzero(values[:-1] * values[1:] < 0)
    found = [brentq(base.nth, grid[i], grid[i + 1], (n,), xtol=1e-16, rtol=1e-15) for i in starts]
    zeros = np.array([0.0 if abs(zero) < 1e-9 else zero for zero in found], dtype=np.float64)
    zeros.flags.writeable = False
    return zeros


def _silu_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(x)
    value = x * gate
    return value, torch.addcmul(gate, value, torch.sigmoid(-x))


def _gelu(x: Tensor) -> Tensor:
    """Return what torch's own gives, without its cancellation at negative numbers."""
    wide = x.double()  # a float32 quotient would be off where erfc falls steeply
    return (0.5 * wide * torch.erfc(-wide / math.sqrt(2.0))).to(x.dtype)


def _gelu_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    wide = x.double()
    gate = 0.5 * torch.erfc(-wide / math.sqrt(2.0))
    density = torch.exp(-0.5 * wide * wide) / math.sqrt(2.0 * math.pi)
    return (wide * gate).to(x.dtype), (gate + wide * density).to(x.dtype)


def _tanh_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    value = torch.tanh(x)
    return value, 1.0 - value**2


def _identity(x: Any) -> Any:
    return x


def _identity_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    return x, torch.ones_like(x)


def _zero_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(x), torch.zeros_like(x)


def _silu_sympy(symbol: Any) -> Any:
    import sympy

    return symbol / (1 + sympy.exp(-symbol))


def _gelu_sympy(symbol: Any) -> Any:
    import sympy

    return symbol * (1 + sympy.erf(symbol / sympy.sqrt(2))) / 2


def _tanh_sympy(symbol: Any) -> Any:
    import sympy

    return sympy.tanh(symbol)


def _zero_sympy(symbol: Any) -> Any:
    import sympy

    return sympy.Integer(0)


_ALL = (
    BaseActivation(
        "silu",
        functional.silu,
        _silu_pair,
        _silu_sympy,
        nn.SiLU,
        closed_forms.silu_nth,
        closed_forms.silu_integral,
    ),
    BaseActivation(
        "identity",
        _identity,
        _identity_pair,
        _identity,
        nn.Identity,
        closed_forms.line_nth,
        closed_forms.line_integral,
        line=1.0,
    ),
    BaseActivation(
        "zero",
        torch.zeros_like,
        _zero_pair,
        _zero_sympy,
        None,
        closed_forms.zero_nth,
        np.zeros_like,
        line=0.0,
    ),
    BaseActivation(
        "tanh",
        torch.tanh,
        _tanh_pair,
        _tanh_sympy,
        nn.Tanh,
        closed_forms.tanh_nth,
        closed_forms.tanh_integral,
    ),
    BaseActivation(
        "gelu",
        _gelu,
        _gelu_pair,
        _gelu_sympy,
        nn.GELU,
        closed_forms.gelu_nth,
        closed_forms.gelu_integral,
    ),
)
BASES: dict[str, BaseActivation] = {base.name: base for base in _ALL}

_FUNCTIONS: tuple[tuple[object, str], ...] = (
    (functional.silu, "silu"),
    (functional.gelu, "gelu"),
    (functional.tanh, "tanh"),
    (torch.tanh, "tanh"),
)
