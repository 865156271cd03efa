"""Closed forms of SiLU, GELU and tanh: derivatives of any order and antiderivatives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kanlens.functions.elementary import Array, sympy_call, unsearched


def silu_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x * sigmoid(x) and its slope."""
    gate = torch.sigmoid(x)
    value = x * gate
    return value, torch.addcmul(gate, value, torch.sigmoid(-x))


def gelu(x: Tensor) -> Tensor:
    """Return what torch's own gives, without its cancellation at negative numbers."""
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
    """Return the slope of tanh, accurate where it is small: 1 - tanh(x)**2 cancels."""
    return 4.0 * torch.sigmoid(2.0 * x) * torch.sigmoid(-2.0 * x)


@functools.lru_cache(maxsize=64)
def _sigmoid_polynomial(n: int) -> Array:
    """Coefficients of P_n, lowest power first, with sigmoid^(n) = P_n(sigmoid)."""
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(n):
        polynomial = polynomial.deriv() * np.polynomial.Polynomial([0.0, 1.0, -1.0])
    return np.asarray(polynomial.coef, dtype=np.float64)


def _sigmoid(x: Array, n: int) -> Array:
    """n-th derivative of the logistic function, with small relative error in both tails."""
    from scipy.special import expit

    if n == 0:
        return np.asarray(expit(x), dtype=np.float64)
    tail = np.polynomial.polynomial.polyval(expit(-np.abs(x)), _sigmoid_polynomial(n))
    return np.asarray(np.where((x > 0) & (n % 2 == 0), -tail, tail), dtype=np.float64)


def _normal(x: Array, n: int) -> Array:
    """n-th derivative of the standard normal distribution function."""
    from scipy.special import ndtr

    if n == 0:
        return np.asarray(ndtr(x), dtype=np.float64)
    return decaying((-1.0) ** (n - 1) / math.sqrt(2.0 * math.pi), n - 1, x)


def decaying(factor: float, degree: int, u: Array) -> Array:
    """Return a factor times the probabilists' Hermite polynomial times exp(-u**2 / 2)."""
    hermite = np.polynomial.hermite_e.hermeval(u, [0.0] * degree + [1.0])
    return _product(np.asarray(factor * hermite), np.exp(-0.5 * u * u))


def _product(x: Array, factor: Array) -> Array:
    """Multiply, with 0 for infinity times 0: every factor here decays faster than x grows."""
    return np.asarray(np.where(factor == 0.0, 0.0, x * factor), dtype=np.float64)


def _gated(gate: Callable[[Array, int], Array], x: Array, n: int) -> Array:
    """n-th derivative of x * gate(x)."""
    value = _product(x, gate(x, n))
    return value + n * gate(x, n - 1) if n else value


def tanh_nth(x: Array, n: int) -> Array:
    """Return the n-th derivative of tanh."""
    return np.tanh(x) if n == 0 else 2.0 ** (n + 1) * _sigmoid(2.0 * x, n)


def silu_integral(x: Array) -> Array:
    """Integrate x * sigmoid(x): x softplus(x) + Li2(-e^x), inverted for positive x."""
    from scipy.special import spence

    decay = np.exp(-np.abs(x))
    log, dilogarithm = np.log1p(decay), spence(1.0 + decay)
    right = 0.5 * x * x - math.pi**2 / 12.0 - dilogarithm
    left = dilogarithm + math.pi**2 / 12.0
    return np.asarray(x * log + np.where(x > 0, right, left), dtype=np.float64)


def gelu_integral(x: Array) -> Array:
    """Integrate x times the normal distribution function."""
    cubic = _product(x * x - 1.0, _normal(x, 0)) + _product(x, _normal(x, 1))
    return 0.5 * cubic + 0.25


def tanh_integral(x: Array) -> Array:
    """Logarithm of cosh, without overflow and without loss near 0."""
    size = np.abs(x)
    near = np.log1p(2.0 * np.sinh(0.5 * np.minimum(size, 1.0)) ** 2)
    far = size + np.log1p(np.exp(-2.0 * size)) - math.log(2.0)
    return np.asarray(np.where(size < 1.0, near, far), dtype=np.float64)


GATED = (
    unsearched(
        name="silu",
        value=functional.silu,
        derivative=lambda u: silu_pair(u)[1],
        expression=lambda u: u / (1 + sympy_call("exp", -u)),
        complexity=4,
        turning=(-1.2784645427610738,),
        slope_turning=(-2.399357280515468, 2.399357280515468),
        curvature_turning=(-3.435840993535111, 0.0, 3.435840993535111),
        torch_forms=(nn.SiLU, functional.silu),
        together=silu_pair,
        closed_form=functools.partial(_gated, _sigmoid),
        primitive=silu_integral,
    ),
    unsearched(
        name="gelu",
        value=gelu,
        derivative=lambda u: gelu_pair(u)[1],
        expression=lambda u: u * (1 + sympy_call("erf", u / sympy_call("sqrt", 2))) / 2,
        complexity=5,
        turning=(-0.7517915246935645,),
        slope_turning=(-(2**0.5), 2**0.5),
        curvature_turning=(-2.0, 0.0, 2.0),
        torch_forms=(nn.GELU, functional.gelu),
        together=gelu_pair,
        closed_form=functools.partial(_gated, _normal),
        primitive=gelu_integral,
    ),
)
