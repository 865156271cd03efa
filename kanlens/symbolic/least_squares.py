"""Levenberg-Marquardt for a few hundred parameters, indifferent to redundant ones.

Steps that lead to NaN or infinity are rejected like steps that raise the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kanlens.deadlines import check_time

Array = np.ndarray[Any, np.dtype[np.float64]]

_REDUNDANT = 1e-14  # eigenvalue of the normal matrix, in parts of the largest, that is none
_SHARED = 1e-6  # squared share in such a direction from which a parameter is redundant


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """Where Levenberg-Marquardt ended."""

    parameters: Array  # (parameter,)
    loss: float  # mean squared residual; infinite if the start already was
    # (parameter,): from the inverse of the normal matrix; infinite for redundant ones
    standard_errors: Array
    steps: int  # steps tried


def minimize(
    residuals: Callable[[Array], Array],
    jacobian: Callable[[Array], Array],
    start: Array,
    *,
    steps: int = 50,
    tolerance: float = 1e-10,
) -> Minimum:
    """Minimize the sum of squared residuals.

    References
    ----------
    .. [1] D. W. Marquardt, An algorithm for least-squares estimation of nonlinear parameters,
       SIAM J. Appl. Math. 11, 1963.
    .. [2] H. B. Nielsen, Damping parameter in Marquardt's method, 1999 (how the damping moves).
    """
    theta = np.array(start, dtype=np.float64)
    r = residuals(theta)
    loss = _mean_square(r)
    if theta.size == 0 or not np.isfinite(loss):
        return Minimum(
            parameters=theta, loss=loss, standard_errors=np.full(theta.size, np.inf), steps=0
        )
    slopes, damping, rise, tried = jacobian(theta), 1e-3, 2.0, 0
    while tried < steps and damping < 1e10 and loss > 0:
        check_time()
        tried += 1
        step, promised = _damped_step(slopes, r, damping)
        r_new = residuals(theta - step)
        new = _mean_square(r_new)
        slopes_new = jacobian(theta - step) if new < loss else slopes
        if not new < loss or not np.isfinite(slopes_new).all():
            damping, rise = damping * rise, rise * 2.0
            continue
        kept = min((loss - new) / promised, 1.0) if promised > 0 else 1.0
        damping, rise = max(damping * max(0.1, 1 - (2 * kept - 1) ** 3), 1e-13), 2.0
        gain = (loss - new) / loss
        theta, r, loss, slopes = theta - step, r_new, new, slopes_new
        if gain < tolerance:
            break
    errors = _standard_errors(slopes, loss)
    return Minimum(parameters=theta, loss=loss, standard_errors=errors, steps=tried)


def _mean_square(r: Array) -> float:
    with np.errstate(all="ignore"):
        value = float(np.mean(np.square(r))) if r.size else 0.0
    return value if np.isfinite(value) else float("inf")


def _damped_step(slopes: Array, r: Array, damping: float) -> tuple[Array, float]:
    """Solve the damped normal equations, columns scaled to unit length.

    Returns the step and the fall of the loss that a linear model promises.
    """
    size = np.linalg.norm(slopes, axis=0)
    size = np.where(size > 0, size, 1.0)
    scaled = slopes / size
    normal = scaled.T @ scaled + damping * np.eye(len(size))
    try:
        step = np.linalg.solve(normal, scaled.T @ r)
    except np.linalg.LinAlgError:  # columns that are alike but for rounding: damp them more
        return np.zeros_like(size), 0.0
    promised = _mean_square(r) - _mean_square(r - scaled @ step)
    return np.asarray(step / size), promised


def _standard_errors(slopes: Array, loss: float) -> Array:
    """Return standard errors; infinite for parameters that others can make up for."""
    size = np.linalg.norm(slopes, axis=0)
    size = np.where((size > 0) & np.isfinite(size), size, 1.0)
    with np.errstate(all="ignore"):
        scaled = np.nan_to_num(slopes / size)
    try:
        values, vectors = np.linalg.eigh(scaled.T @ scaled)
    except np.linalg.LinAlgError:  # nothing is known of the numbers
        return np.full(len(size), np.inf)
    known = values > _REDUNDANT * max(values[-1], np.finfo(float).tiny)
    inverse = (np.square(vectors[:, known]) / values[known]).sum(axis=1)
    made_up_for = np.square(vectors[:, ~known]).sum(axis=1) > _SHARED
    freedom = max(len(slopes) - len(size), 1)
    errors = np.sqrt(loss * len(slopes) / freedom * inverse) / size
    return np.asarray(np.where(made_up_for, np.inf, errors))
