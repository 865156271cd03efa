"""Levenberg-Marquardt on one least-squares problem, or on many of the same kind at once [1]_ [2]_.

References
----------
.. [1] D. W. Marquardt, An algorithm for least-squares estimation of nonlinear parameters,
   SIAM J. Appl. Math. 11, 1963.
.. [2] H. B. Nielsen, Damping parameter in Marquardt's method, 1999 (how the damping moves).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kanlens.long_work import check_time

Array = np.ndarray[Any, np.dtype[np.float64]]
Function = Callable[[Array], Array]

_REDUNDANT = 1e-14  # eigenvalue of the normal matrix, in parts of the largest, that is none
_SHARED = 1e-6  # squared share in such a direction from which a parameter is redundant
_LEAST = 1e-13  # damping
_SETTLED = 1e-10  # share by which a step that is taken lowers the loss, below which it is the last
_CROWDED = 0.8  # share of the problems that are worked on below which the others are put aside


class Residuals(ABC):
    """Least-squares problems with as many parameters each; theta has shape (problem, parameter)."""

    def allowed(self, theta: Array) -> Array:
        """Return the nearest parameters that are allowed."""
        return theta

    @abstractmethod
    def losses(self, theta: Array) -> Array:
        """Return the sum of squared residuals (problem,); infinite where it is not defined."""

    @abstractmethod
    def equations(self) -> tuple[Array, Array]:
        """Return ``J^T J`` and ``J^T r`` where losses were asked for last."""

    def pick(self, kept: Any) -> Residuals:
        """Keep the problems that a mask says."""
        return self


@dataclass(frozen=True, kw_only=True)
class Damping:
    """How strongly steps are damped at first and at most, and how that moves."""

    first: float = 1e-3
    most: float = 1e10
    factors: tuple[float, float] | None = None  # of a step taken, and not; None: Nielsen's rule

    def moved(self, damped: Array, rise: Array, better: Any, kept: Array) -> tuple[Array, Array]:
        """Return damping and its next rise; `kept` is the share of the promised fall that came."""
        if self.factors:
            return np.maximum(damped * np.where(better, *self.factors), _LEAST), rise
        lower = np.maximum(damped * np.maximum(0.1, 1 - (2 * kept - 1) ** 3), _LEAST)
        return np.where(better, lower, damped * rise), np.where(better, 2.0, 2 * rise)


NIELSEN = Damping()


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """Where Levenberg-Marquardt ended."""

    parameters: Array  # (parameter,)
    loss: float  # mean squared residual; infinite if the start already was
    standard_errors: Array  # (parameter,): infinite for redundant ones


def minimize(residuals: Function, jacobian: Function, start: Array, *, steps: int = 50) -> Minimum:
    """Minimize the mean square of residuals (residual,); the Jacobian is (residual, parameter)."""
    theta = np.array(start, dtype=np.float64)[None]
    problem = _OneProblem(residuals, jacobian)
    [theta], [total], [normal] = descend(problem, theta, steps=steps, tolerance=_SETTLED)
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
    """Run Levenberg-Marquardt on all problems; return parameters, losses, normal matrices."""
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
        with np.errstate(invalid="ignore"):  # infinite before and after
            gain = loss - new[1]
        kept = _kept_promise(gain, theta - trial, normal, right)
        damped, rise = damping.moved(damped, rise, better, kept)
        shapes = ((-1, *[1] * (value.ndim - 1)) for value in state)
        which = (better.reshape(shape) for shape in shapes)
        state = list(map(np.where, which, new, state))
        for out, value in zip(best, state, strict=False):
            out[active] = value
        settled = better & (gain < tolerance * loss)
        going = ~settled & (damped < damping.most) & (state[1] > exact)
    return best[0], best[1], best[2]


class _OneProblem(Residuals):
    """One problem, its residuals (residual,) and their derivatives (residual, parameter)."""

    def __init__(self, residuals: Function, jacobian: Function) -> None:
        self.residuals, self.jacobian = residuals, jacobian

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
    """Solve the damped normal equations, parameters in units of their columns' lengths."""
    size = _lengths(normal)
    scaled = normal / (size[:, :, None] * size[:, None, :])
    scaled = scaled + damping[:, None, None] * np.eye(size.shape[1])
    try:
        step = np.linalg.solve(scaled, (right / size)[..., None])[..., 0]
    except np.linalg.LinAlgError:  # columns that are alike but for rounding: damp them more
        return np.zeros_like(size)
    return np.asarray(step / size)


def _lengths(normal: Array) -> Array:
    """Return the lengths of the Jacobian's columns, one for zero."""
    size = np.sqrt(np.diagonal(normal, axis1=-2, axis2=-1))
    return np.where((size > 0) & np.isfinite(size), size, 1.0)


def _kept_promise(gain: Array, step: Array, normal: Array, right: Array) -> Array:
    """Return the share of the fall of the loss, as the linear model promises it, that came true."""
    promised = 2 * (step * right).sum(axis=1) - np.einsum("np,npq,nq->n", step, normal, step)
    with np.errstate(all="ignore"):
        return np.asarray(np.where(promised > 0, np.clip(gain / promised, 0.0, 1.0), 1.0))


def _standard_errors(normal: Array, loss: float, rows: int) -> Array:
    """Return standard errors; infinite for parameters that others can make up for."""
    size = _lengths(normal)
    if not np.isfinite(loss) or not np.isfinite(normal).all() or not len(size):
        return np.full(len(size), np.inf)
    try:
        values, vectors = np.linalg.eigh(normal / np.outer(size, size))
    except np.linalg.LinAlgError:  # nothing is known of the numbers
        return np.full(len(size), np.inf)
    known = values > _REDUNDANT * max(values[-1], np.finfo(float).tiny)
    inverse = (np.square(vectors[:, known]) / values[known]).sum(axis=1)
    made_up_for = np.square(vectors[:, ~known]).sum(axis=1) > _SHARED
    errors = np.sqrt(loss * rows / max(rows - len(size), 1) * inverse) / size
    return np.asarray(np.where(made_up_for, np.inf, errors))
