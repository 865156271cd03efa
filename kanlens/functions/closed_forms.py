"""Closed forms of the base activations in float64: derivatives of any order, antiderivatives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


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
    hermite = np.polynomial.hermite_e.hermeval(x, [0.0] * (n - 1) + [1.0])
    density = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return (-1.0) ** (n - 1) * _product(np.asarray(hermite, dtype=np.float64), density)


def _product(x: Array, factor: Array) -> Array:
    """Multiply, with 0 for infinity times 0: every factor here decays faster than x grows."""
    return np.asarray(np.where(factor == 0.0, 0.0, x * factor), dtype=np.float64)


def _gated(gate: Callable[[Array, int], Array], x: Array, n: int) -> Array:
    """n-th derivative of x * gate(x)."""
    value = _product(x, gate(x, n))
    return value + n * gate(x, n - 1) if n else value


def silu_nth(x: Array, n: int) -> Array:
    """Return the n-th derivative of x * sigmoid(x)."""
    return _gated(_sigmoid, x, n)


def gelu_nth(x: Array, n: int) -> Array:
    """Return the n-th derivative of x times the normal distribution function."""
    return _gated(_normal, x, n)


def tanh_nth(x: Array, n: int) -> Array:
    """Return the n-th derivative of tanh."""
    return np.tanh(x) if n == 0 else 2.0 ** (n + 1) * _sigmoid(2.0 * x, n)


def line_nth(x: Array, n: int) -> Array:
    """Return the n-th derivative of x."""
    return x.copy() if n == 0 else np.full_like(x, float(n == 1))


def zero_nth(x: Array, n: int) -> Array:
    """Return zeros."""
    return np.zeros_like(x)


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


def line_integral(x: Array) -> Array:
    """Integrate x."""
    return 0.5 * x * x
