"""Small networks trained on a problem: what its target looks like, whatever its formula."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch

from kanlens.deadlines import Deadline, OutOfTimeError, check_time
from kanlens.discovery.problems import Problem
from kanlens.discovery.regression import Array, relative_error
from kanlens.errors import KanlensError
from kanlens.model.network import KAN
from kanlens.symbolic.composition import Expr
from kanlens.training.options import Options
from kanlens.training.run import TrainingRun

GRID = 3  # intervals of the grid of an edge
_SUMS, _PRODUCTS = 5, (0, 2)  # hidden nodes; products of two sums
_WIDE = 3.0  # largest over smallest value from which a logarithm is worth a try
_TRIAL, _MORE = 5, 24  # steps of training: to compare, and for the one that is kept
_PATIENCE = 6
_LEAST_ROWS = 30


@dataclass(frozen=True)
class View:
    """How a network sees a problem: which columns, and whether the target, by their logarithm.

    Attributes
    ----------
    logs : tuple of bool
        One per column.
    sign : int
        1 or -1 where the target is ``sign * exp(output)``, 0 where it is the output.
    """

    logs: tuple[bool, ...]
    sign: int

    def inputs(self, columns: Array) -> Array:
        """Return the columns as the network takes them."""
        with np.errstate(all="ignore"):
            found = [np.log(c) if log else c for c, log in zip(columns.T, self.logs, strict=True)]
        return np.stack(found, axis=1)

    def output(self, target: Array) -> Array:
        """Return what the network should put out for a target."""
        return np.log(np.abs(target)) if self.sign else target

    def target(self, output: Array) -> Array:
        """Return the target for an output."""
        with np.errstate(all="ignore"):
            return self.sign * np.exp(output) if self.sign else output

    def expression(self, output: Expr) -> Expr:
        """Return the expression of the target from that of the output."""
        return self.sign * sympy.exp(output) if self.sign else output

    def names(self, names: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """Return the expressions of what the network takes."""
        return tuple(sympy.log(n) if log else n for n, log in zip(names, self.logs, strict=True))


def views(problem: Problem) -> list[View]:
    """Return the ways a network may see a problem: as it is, and by logarithms where positive.

    Examples
    --------
    >>> x = np.linspace(1.0, 9.0, 5)[:, None]
    >>> given = Problem(x, sympy.symbols("a:1"), -x[:, 0], x[:, 0] > 8, lambda e: e)
    >>> [(view.logs, view.sign) for view in views(given)]
    [((False,), 0), ((True,), 0), ((False,), -1), ((True,), -1)]
    """
    plain = (False,) * problem.width
    low, high = problem.columns.min(axis=0), problem.columns.max(axis=0)
    logs = tuple(bool(b) for b in problem.positive & (high > _WIDE * low))
    kinds = [plain, logs] if any(logs) else [plain]
    size = np.abs(problem.target)
    one_sign = bool((problem.target > 0).all() or (problem.target < 0).all())
    wide = one_sign and size.min() > 0 and bool(size.max() > _WIDE * size.min())
    signs = [0, int(np.sign(problem.target[0]))] if wide else [0]
    return [View(kind, sign) for sign in signs for kind in kinds]


@dataclass(frozen=True, eq=False)
class Interpolator:
    """A network trained on the fitted rows of a problem.

    Attributes
    ----------
    network : KAN
    view : View
    error : float
        Relative squared error of the target on the held-out rows.
    """

    network: KAN
    view: View
    error: float

    @torch.no_grad()
    def __call__(self, columns: Array) -> Array:
        """Return the target at other rows, (row,)."""
        check_time()
        inputs = torch.from_numpy(self.view.inputs(columns))
        return self.view.target(self.network(inputs)[:, 0].numpy())

    def slopes(self, columns: Array) -> Array:
        """Return the derivatives by the columns, (row, feature).

        Of the target, or of its logarithm where that is what the network sees: whether it is a
        function of some combination is the same for both.
        """
        with torch.enable_grad():
            inputs = torch.from_numpy(self.view.inputs(columns)).requires_grad_()
            (found,) = torch.autograd.grad(self.network(inputs).sum(), inputs)
        logs = np.array(self.view.logs)
        return np.asarray(found.numpy() / np.where(logs, columns, 1.0))

    def sizes(self, columns: Array) -> Array:
        """Return what the slopes are to be compared with in a power law: the target, or ones."""
        return np.ones(len(columns)) if self.view.sign else self(columns)


def interpolator(
    problem: Problem, deadline: Deadline, generator: torch.Generator
) -> Interpolator | None:
    """Train the hidden layer and in the view with which a short training gets furthest.

    The layer has five sums, or two products of two.

    Parameters
    ----------
    problem : Problem
    deadline : Deadline
    generator : torch.Generator
        Draws weights.

    Returns
    -------
    Interpolator or None
        None when there are too few rows, or no time for any training.
    """
    every = views(problem)
    best = _better(None, problem, _SUMS, every, deadline, generator)
    if best is None:
        return None
    best = _better(best, problem, _PRODUCTS, [best.view], deadline, generator) or best
    return trained(problem, (), best.view, deadline, generator, _MORE, start=best.network) or best


def _better(
    best: Interpolator | None,
    problem: Problem,
    hidden: Any,
    kinds: Sequence[View],
    deadline: Deadline,
    generator: torch.Generator,
) -> Interpolator | None:
    """Train shortly in some views and return the best network, or the one that there is."""
    widths = [problem.width, hidden, 1]
    tried = [trained(problem, widths, view, deadline, generator, _TRIAL) for view in kinds]
    found = [each for each in (best, *tried) if each is not None]
    return min(found, key=lambda each: each.error, default=None)


def trained(
    problem: Problem,
    widths: Sequence[Any],
    view: View,
    deadline: Deadline,
    generator: torch.Generator,
    steps: int,
    *,
    start: KAN | None = None,
    strength: float = 0.0,
) -> Interpolator | None:
    """Train a network on the fitted rows until the time is over.

    Parameters
    ----------
    problem : Problem
    widths : sequence
        As for `KAN`.
    view : View
    deadline : Deadline
    generator : torch.Generator
        Draws weights and held-out rows.
    steps : int
    start : KAN, optional
        Trained further, in place.
    strength : float
        Of a penalty on the L1 norm of the edges.

    Returns
    -------
    Interpolator or None
        None when there are too few rows, no time, or values that no network can take.
    """
    rows = ~problem.held_out
    if deadline.passed or rows.sum() < _LEAST_ROWS:
        return None
    network = start
    if network is None:  # straight beyond the data: slopes are asked at their ends, too
        network = KAN(widths, grid_size=GRID, extrapolation="linear", generator=generator).double()
    x = torch.from_numpy(view.inputs(problem.columns))
    y = torch.from_numpy(view.output(problem.target))[:, None]
    options = Options(
        steps=steps,
        penalty="weight_l1" if strength else None,
        strength=strength,
        patience=_PATIENCE,
        grid_updates=3,
    )
    run = TrainingRun(network, options, x[rows], y[rows], generator)
    try:
        run.begin()
        run.go(_watching(deadline))
    except OutOfTimeError:
        pass  # the best state is in the network
    except KanlensError:
        return None
    found = Interpolator(network, view, np.inf)
    return Interpolator(network, view, error_of(found, problem))


def error_of(found: Interpolator, problem: Problem) -> float:
    """Return the relative squared error of a network on the held-out rows of a problem."""
    judged = problem.held_out if problem.held_out.any() else ~problem.held_out
    return relative_error(found(problem.columns[judged]), problem.target[judged])


def _watching(deadline: Deadline) -> Callable[..., None]:
    """Return what training calls after every step: no step begins that would end too late."""
    before = time.monotonic()

    def advance(*_: Any, **__: Any) -> None:
        nonlocal before
        last, before = before, time.monotonic()
        if deadline.left <= before - last:
            raise OutOfTimeError

    return advance
