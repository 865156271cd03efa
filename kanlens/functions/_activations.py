"""Closed forms of activations: derivatives and antiderivatives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kanlens._lazy import special, sympy
from kanlens.functions._elementary import Array, unsearched


def silu_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x * sigmoid(x) and its slope."""
    gate = torch.sigmoid(x)
    value = x * gate
    return value, torch.addcmul(gate, value, torch.sigmoid(-x))


def gelu(x: Tensor) -> Tensor:
    """Return torch's gelu, computed without cancellation."""
    wide = x.double()  # a float32 quotient would be off where erfc falls steeply
    return (0.5 * wide * torch.erfc(-wide / math.sqrt(2.0))).to(x.dtype)


def gelu_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `gelu` and its slope."""
    wide = x.double()
    gate = 0.5 * torch.erfc(-wide / math.sqrt(2.0))
    density = torch.exp(-0.5 * wide * wide) / math.sqrt(2.0 * math.pi)
    return (wide * gate).to(x.dtype), (gate + wide * density).to(x.dtype)


def tanh_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return tanh and its slope, which loses digits where tanh is near 1."""
    value = torch.tanh(x)
    return value, 1.0 - value**2


def tanh_slope(x: Tensor) -> Tensor:
    """Return the slope of tanh without the cancellation of 1 - tanh**2."""
    return 4.0 * torch.sigmoid(2.0 * x) * torch.sigmoid(-2.0 * x)


@functools.lru_cache(maxsize=64)
def _sigmoid_polynomial(n: int) -> Array:
    """Return the coefficients of P_n with sigmoid^(n) = P_n(sigmoid)."""
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(n):
        polynomial = polynomial.deriv() * np.polynomial.Polynomial([0.0, 1.0, -1.0])
    return np.asarray(polynomial.coef, dtype=np.float64)


def _logistic(x: Array, n: int, c: complex = 1.0) -> Any:
    """Return the n-th derivative of e^x / (e^x + c), accurate in tails."""
    small, right = np.exp(-np.abs(x)), x > 0
    share = np.where(right, c * small / (1.0 + c * small), small / (small + c))
    if n == 0:
        return np.where(right, 1.0 - share, share)
    tail = np.polynomial.polynomial.polyval(share, _sigmoid_polynomial(n))
    return np.where(right & (n % 2 == 0), -tail, tail)


def _mish_gate(x: Array, n: int) -> Array:
    """Return the n-th derivative of tanh(softplus(x))."""
    return np.asarray(((1 + 1j) * _logistic(x, n, 1 - 1j)).imag)


def _normal(x: Array, n: int) -> Array:
    """n-th derivative of the standard normal distribution function."""
    if n == 0:
        return np.asarray(special.ndtr(x), dtype=np.float64)
    return decaying((-1.0) ** (n - 1) / math.sqrt(2.0 * math.pi), n - 1, x)


def decaying(factor: float, degree: int, u: Array) -> Array:
    """Return `factor` times the Hermite polynomial He_degree(u) times exp(-u**2 / 2)."""
    hermite = np.polynomial.hermite_e.hermeval(u, [0.0] * degree + [1.0])
    return _product(np.asarray(factor * hermite), np.exp(-0.5 * u * u))


def _product(x: Array, factor: Array) -> Array:
    """Multiply x by a factor that decays faster; the product at infinity is 0."""
    return np.asarray(np.where(factor == 0.0, 0.0, x * factor), dtype=np.float64)


def _gated(gate: Callable[[Array, int], Array], x: Array, n: int) -> Array:
    """n-th derivative of x * gate(x)."""
    value = _product(x, gate(x, n))
    return value + n * gate(x, n - 1) if n else value


def tanh_nth(x: Array, n: int) -> Array:
    """Return the n-th derivative of tanh."""
    return np.tanh(x) if n == 0 else 2.0 ** (n + 1) * np.asarray(_logistic(2.0 * x, n))


def silu_integral(x: Array, c: complex = 1.0) -> Any:
    """Integrate x e^x / (e^x + c): x log(1 + e^x / c) + Li2(-e^x / c)."""
    decay = np.exp(-np.abs(x))
    at_c = special.spence(1 + c)
    right = 0.5 * x * x + x * np.log1p(c * decay) - special.spence(1 + c * decay) + at_c
    left = x * np.log1p(decay / c) + special.spence(1 + decay / c) - special.spence(1 + 1 / c)
    return np.where(x > 0, right, left)


def _softplus_integral(x: Array) -> Array:
    """Integrate log(1 + e^x) from 0 to x; by symmetry for positive x."""
    left = special.spence(2.0) - special.spence(1.0 + np.exp(-np.abs(x)))
    return np.asarray(np.where(x > 0, 0.5 * x * x - left, left))


def gelu_integral(x: Array) -> Array:
    """Integrate x times the normal distribution function from 0 to x."""
    cubic = _product(x * x - 1.0, _normal(x, 0)) + _product(x, _normal(x, 1))
    return 0.5 * cubic + 0.25


def tanh_integral(x: Array) -> Array:
    """Logarithm of cosh, without overflow and without loss near 0."""
    size = np.abs(x)
    near = np.log1p(2.0 * np.sinh(0.5 * np.minimum(size, 1.0)) ** 2)
    far = size + np.log1p(np.exp(-2.0 * size)) - math.log(2.0)
    return np.asarray(np.where(size < 1.0, near, far), dtype=np.float64)


_SWISH = np.polynomial.Polynomial([0.0, 0.5, 1 / 6])  # x (x + 3) / 6, between -3 and 3


def _softplus_sympy(u: sympy.Expr) -> sympy.Expr:
    """Return log(1 + e^u) in a form that does not overflow."""
    return sympy.Max(u, 0) + sympy.log(1 + sympy.exp(-abs(u)))


def _mish_pair(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gate tanh(softplus(u)), and u times its slope."""
    gate = torch.tanh(torch.logaddexp(u, torch.zeros_like(u)))
    return gate, u * torch.sigmoid(u) * (1 - gate**2)


GATED = (
    unsearched(
        name="silu",
        value=functional.silu,
        derivative=lambda u: silu_pair(u)[1],
        expression=lambda u: u / (1 + sympy.exp(-u)),
        complexity=4,
        torch_forms=(nn.SiLU, functional.silu),
        together=silu_pair,
        closed_form=functools.partial(_gated, _logistic),
        primitive=silu_integral,
    ),
    unsearched(
        name="gelu",
        value=gelu,
        derivative=lambda u: gelu_pair(u)[1],
        expression=lambda u: u * (1 + sympy.erf(u / sympy.sqrt(2))) / 2,
        complexity=5,
        torch_forms=(nn.GELU, functional.gelu),
        together=gelu_pair,
        closed_form=functools.partial(_gated, _normal),
        primitive=gelu_integral,
    ),
    unsearched(
        name="logistic",
        value=torch.sigmoid,
        derivative=lambda u: torch.sigmoid(u) * torch.sigmoid(-u),
        expression=lambda u: 1 / (1 + sympy.exp(-u)),
        complexity=3,
        torch_forms=(nn.Sigmoid, torch.sigmoid, functional.sigmoid),
        closed_form=_logistic,
        primitive=lambda u: np.logaddexp(0.0, u) - math.log(2.0),
    ),
    unsearched(
        name="softplus",
        value=lambda u: torch.logaddexp(u, torch.zeros_like(u)),
        derivative=torch.sigmoid,
        expression=_softplus_sympy,
        complexity=4,
        torch_forms=(nn.Softplus, functional.softplus),
        closed_form=lambda u, n: _logistic(u, n - 1) if n else np.logaddexp(0.0, u),
        primitive=_softplus_integral,
    ),
    unsearched(
        name="mish",
        value=lambda u: u * _mish_pair(u)[0],
        derivative=lambda u: torch.add(*_mish_pair(u)),
        expression=lambda u: u * sympy.tanh(_softplus_sympy(u)),
        complexity=5,
        torch_forms=(nn.Mish, functional.mish),
        closed_form=functools.partial(_gated, _mish_gate),
        primitive=lambda u: ((1 + 1j) * silu_integral(u, 1 - 1j)).imag,
    ),
    unsearched(
        name="elu",
        value=lambda u: torch.where(u > 0, u, torch.expm1(u.clamp(max=0.0))),
        derivative=lambda u: torch.exp(u.clamp(max=0.0)),
        expression=lambda u: sympy.Max(u, 0) + sympy.exp(sympy.Min(u, 0)) - 1,
        complexity=4,
        kinks=(0.0,),
        torch_forms=(nn.ELU, functional.elu),
        closed_form=lambda u, n: np.where(
            u > 0, float(n == 1) if n else u, np.exp(np.minimum(u, 0.0)) - (n == 0)
        ),
        primitive=lambda u: np.where(u > 0, 0.5 * u * u, np.expm1(np.minimum(u, 0.0)) - u),
    ),
    unsearched(
        name="leaky_relu",
        value=lambda u: torch.where(u > 0, u, 0.01 * u),
        derivative=lambda u: 0.01 + 0.99 * (u > 0).to(u),
        expression=lambda u: sympy.Max(u, u / 100),
        complexity=4,
        degree=1.0,
        kinks=(0.0,),
        torch_forms=(nn.LeakyReLU, functional.leaky_relu),
        closed_form=lambda u, n: np.where(u > 0, 1.0, 0.01) * (float(n == 1) if n else u),
        primitive=lambda u: np.where(u > 0, 0.5, 0.005) * u * u,
    ),
    unsearched(
        name="hardswish",
        value=lambda u: torch.where(u.abs() < 3, u * (u + 3) / 6, torch.relu(u)),
        derivative=lambda u: torch.where(u.abs() < 3, u / 3 + 0.5, (u > 0).to(u)),
        expression=lambda u: u * sympy.Min(sympy.Max(u + 3, 0), 6) / 6,
        complexity=4,
        kinks=(-3.0, 3.0),
        torch_forms=(nn.Hardswish, functional.hardswish),
        closed_form=lambda u, n: np.where(
            np.abs(u) < 3, _SWISH.deriv(n)(u), (u > 0) * float(n == 1) if n else np.maximum(u, 0.0)
        ),
        primitive=lambda u: _SWISH.integ()(np.clip(u, -3, 3)) + 0.5 * np.maximum(u, 3) ** 2 - 4.5,
    ),
)
