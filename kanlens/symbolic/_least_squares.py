"""Levenberg-Marquardt on one least-squares problem or many at once.

The damping is that of H. B. Nielsen, Damping parameter in Marquardt's method, 1999.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kanlens._runtime import check_time

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Function = Callable[[Array], Array]

_REDUNDANT = 1e-14  # eigenvalue of the normal matrix, relative to the largest, that counts as 0
_SHARED = 1e-6  # squared share in such a direction from which a parameter is redundant
_MIN_DAMPING = 1e-13
_TOLERANCE = 1e-10  # relative fall of the loss below which an accepted step is the last
_CROWDED = 0.8  # share of unfinished problems below which the finished ones are removed


class Residuals(ABC):
    """Least-squares problems in theta of shape (problem, parameter)."""

    def allowed(self, theta: Array) -> Array:
        """Return the nearest allowed parameters."""
        return theta

    @abstractmethod
    def losses(self, theta: Array) -> Array:
        """Return the sums of squared residuals, infinite where undefined."""

    @abstractmethod
    def equations(self) -> tuple[Array, Array]:
        """Return ``J^T J`` and ``J^T r`` after the last call of `losses`."""

    def pick(self, mask: Mask) -> Residuals:
        """Return the problems selected by a mask."""
        return self


@dataclass(frozen=True, kw_only=True)
class Damping:
    """Initial and largest damping, and how it changes."""

    first: float = 1e-3
    most: float = 1e10
    factors: tuple[float, float] | None = None  # of accepted and other steps; None: Nielsen's rule

    def updated(
        self, damped: Array, rise: Array, better: Mask, gain: Array, predicted: Array
    ) -> tuple[Array, Array]:
        """Return the damping after a step, and the factor of its next increase."""
        if self.factors:
            return np.maximum(damped * np.where(better, *self.factors), _MIN_DAMPING), rise
        with np.errstate(all="ignore"):
            ratio = np.where(predicted > 0, np.clip(gain / predicted, 0.0, 1.0), 1.0)
        lower = np.maximum(damped * np.maximum(0.1, 1 - (2 * ratio - 1) ** 3), _MIN_DAMPING)
        return np.where(better, lower, damped * rise), np.where(better, 2.0, 2 * rise)


NIELSEN = Damping()


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """Result of Levenberg-Marquardt."""

    parameters: Array  # (parameter,)
    loss: float  # mean squared residual; infinite if the start already was
    standard_errors: Array  # (parameter,): infinite for redundant ones


def minimize(residuals: Function, jacobian: Function, start: Array, *, steps: int = 50) -> Minimum:
    """Minimize the mean square of residuals with their Jacobian."""
    theta = np.array(start, dtype=np.float64)[None]
    problem = _OneProblem(residuals, jacobian)
    [theta], [total], [normal] = descend(problem, theta, steps=steps, tolerance=_TOLERANCE)
    loss = float(total) / max(problem.rows, 1)
    errors = _standard_errors(normal, loss, problem.rows)
    return Minimum(parameters=theta, loss=loss, standard_errors=errors)


def descend(
    problems: Residuals,
    start: Array,
    *,
    steps: int,
    tolerance: float,
    damping: Damping = NIELSEN,
    exact: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Return parameters, losses and normal matrices of all problems."""
    theta = problems.allowed(start)
    state = [theta, problems.losses(theta), *problems.equations()]
    best, active = [value.copy() for value in state[:3]], np.arange(len(theta))
    damped, rise = np.full(len(theta), damping.first), np.full(len(theta), 2.0)
    going = np.isfinite(state[1]) & (state[1] > exact) & (theta.shape[1] > 0)
    for _ in range(steps):
        if not going.any():
            break
        if np.count_nonzero(going) < _CROWDED * len(active):
            active, damped, rise = active[going], damped[going], rise[going]
            problems, state = problems.pick(going), [value[going] for value in state]
        check_time()
        theta, loss, normal, right = state
        trial = problems.allowed(theta - _damped_step(normal, right, damped))
        new = [trial, problems.losses(trial), normal, right]
        better = new[1] < loss
        if better.any():
            new[2:] = problems.equations()
            better &= np.isfinite(new[2]).all(axis=(1, 2)) & np.isfinite(new[3]).all(axis=1)
        step = theta - trial
        with np.errstate(all="ignore"):  # infinite before and after
            gain = loss - new[1]
            curved = np.einsum("np,npq,nq->n", step, normal, step)
            predicted = 2 * (step * right).sum(axis=1) - curved
        damped, rise = damping.updated(damped, rise, better, gain, predicted)
        masks = (better.reshape(-1, *[1] * (value.ndim - 1)) for value in state)
        state = list(map(np.where, masks, new, state))
        for out, value in zip(best, state, strict=False):
            out[active] = value
        converged = better & (gain < tolerance * loss)
        going = ~converged & (damped < damping.most) & (state[1] > exact)
    return best[0], best[1], best[2]


@dataclass(eq=False)
class _OneProblem(Residuals):
    """One problem with residuals and Jacobian (residual, parameter)."""

    residuals: Function
    jacobian: Function

    def losses(self, theta: Array) -> Array:
        self.theta, self.r = theta[0], self.residuals(theta[0])
        self.rows = self.r.size
        with np.errstate(all="ignore"):
            total = float(np.square(self.r).sum())
        return np.array([total if np.isfinite(total) else np.inf])

    def equations(self) -> tuple[Array, Array]:
        slopes = self.jacobian(self.theta)
        with np.errstate(all="ignore"):
            return (slopes.T @ slopes)[None], (slopes.T @ self.r)[None]


def _damped_step(normal: Array, right: Array, damping: Array) -> Array:
    """Solve the damped normal equations in units of the columns' lengths."""
    size = _lengths(normal)
    scaled = normal / (size[:, :, None] * size[:, None, :])
    scaled = scaled + damping[:, None, None] * np.eye(size.shape[1])
    try:
        step = np.linalg.solve(scaled, (right / size)[..., None])[..., 0]
    except np.linalg.LinAlgError:  # columns equal up to rounding: damp them more
        return np.zeros_like(size)
    return np.asarray(step / size)


def _lengths(normal: Array) -> Array:
    """Return the lengths of the Jacobian's columns; 1 in place of 0."""
    size = np.sqrt(np.diagonal(normal, axis1=-2, axis2=-1))
    return np.where((size > 0) & np.isfinite(size), size, 1.0)


def _standard_errors(normal: Array, loss: float, rows: int) -> Array:
    """Return standard errors; infinite for redundant parameters."""
    size = _lengths(normal)
    unknown = np.full(len(size), np.inf)
    if not np.isfinite(loss) or not np.isfinite(normal).all() or not len(size):
        return unknown
    try:
        values, vectors = np.linalg.eigh(normal / np.outer(size, size))
    except np.linalg.LinAlgError:
        return unknown
    full = values > _REDUNDANT * max(values[-1], np.finfo(float).tiny)
    inverse = (np.square(vectors[:, full]) / values[full]).sum(axis=1)
    redundant = np.square(vectors[:, ~full]).sum(axis=1) > _SHARED
    errors = np.sqrt(loss * rows / max(rows - len(size), 1) * inverse) / size
    return np.where(redundant, np.inf, errors)
