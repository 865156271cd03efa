"""Small networks trained on a problem, and their formulas."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
import sympy
import torch

from kanlens._runtime import Deadline, Interruption, OutOfTimeError, check_time
from kanlens.discovery import _settings as tuned
from kanlens.discovery._regression import Array, relative_error
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._search_schedule import BudgetedFront
from kanlens.errors import KanlensError
from kanlens.model._network import KAN
from kanlens.pruning import prune
from kanlens.symbolic._assignment import assign_functions, function_edges
from kanlens.symbolic._composition import Expr, compose
from kanlens.symbolic._joint_refit import refit
from kanlens.symbolic._library import library
from kanlens.training._options import FitOptions
from kanlens.training._training_loop import TrainingRun


@dataclass(frozen=True)
class View:
    """The columns, and whether the target, that a network takes as logarithms."""

    logs: tuple[bool, ...]
    sign: int  # the target is sign * exp(output); where this is 0, the output

    def inputs(self, columns: Array) -> Array:
        """Return the columns as the network takes them."""
        with np.errstate(all="ignore"):
            pairs = zip(columns.T, self.logs, strict=True)
            return np.stack([np.log(c) if log else c for c, log in pairs], axis=1)

    def output(self, target: Array) -> Array:
        """Return the output of the network for a target."""
        return np.log(np.abs(target)) if self.sign else target

    def target(self, output: Array) -> Array:
        """Return the target for an output."""
        with np.errstate(all="ignore"):
            return self.sign * np.exp(output) if self.sign else output

    def tensors(self, problem: SearchProblem) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs (row, in) and outputs (row, 1) of the fitted rows."""
        x = torch.from_numpy(self.inputs(problem.columns))
        y = torch.from_numpy(self.output(problem.target))[:, None]
        return x[problem.fitted], y[problem.fitted]

    def formula(self, output: Expr, names: tuple[Expr, ...]) -> Expr:
        """Convert an output in x1, x2, ... to the target in the columns' names."""
        seen = (sympy.log(n) if log else n for n, log in zip(names, self.logs, strict=True))
        inputs = {sympy.Symbol(f"x{i + 1}", real=True): name for i, name in enumerate(seen)}
        output = output.xreplace(inputs)
        return self.sign * sympy.exp(output) if self.sign else output


def views(problem: SearchProblem) -> list[View]:
    """Return the views of a problem: unchanged, and by logarithms."""
    plain = (False,) * problem.width
    low, high = problem.columns.min(axis=0), problem.columns.max(axis=0)
    logs = tuple(bool(b) for b in problem.positive & (high > tuned.WIDE_RANGE * low))
    kinds = [plain, logs] if any(logs) else [plain]
    size = np.abs(problem.target)
    wide = problem.one_sign and bool(size.max() > tuned.WIDE_RANGE * size.min())
    signs = [0, int(np.sign(problem.target[0]))] if wide else [0]
    return [View(kind, sign) for sign in signs for kind in kinds]


@dataclass(frozen=True, eq=False)
class Interpolator:
    """A network trained on the fitted rows of a problem."""

    problem: SearchProblem
    network: KAN
    view: View

    @cached_property
    def error(self) -> float:
        """Relative squared error of the target on the rows that judge."""
        rows = self.problem.judged
        return relative_error(self(self.problem.columns[rows]), self.problem.target[rows])

    @torch.no_grad()
    def __call__(self, columns: Array) -> Array:
        """Return the target at other rows, (row,)."""
        check_time()
        inputs = torch.from_numpy(self.view.inputs(columns))
        return self.view.target(self.network(inputs)[:, 0].numpy())

    @property
    def slopes(self) -> Array:
        """The derivatives (row, feature) of the target, or its logarithm."""
        with torch.enable_grad():
            inputs = torch.from_numpy(self.view.inputs(self.problem.columns)).requires_grad_()
            (slopes,) = torch.autograd.grad(self.network(inputs).sum(), inputs)
        return np.asarray(slopes.numpy() / np.where(self.view.logs, self.problem.columns, 1.0))

    @property
    def sizes(self) -> Array:
        """The target, or ones if the slopes are of its logarithm."""
        columns = self.problem.columns
        return np.ones(len(columns)) if self.view.sign else self(columns)


def interpolator(
    problem: SearchProblem, deadline: Deadline, generator: torch.Generator
) -> Interpolator | None:
    """Train the architecture and view that are best in short trials."""
    best: Interpolator | None = None
    for hidden in (tuned.HIDDEN_SUMS, tuned.HIDDEN_PRODUCTS):
        for view in [best.view] if best else views(problem):
            widths = [problem.width, hidden, 1]
            trial = trained(problem, widths, view, deadline, generator, tuned.TRIAL_STEPS)
            best = min(filter(None, (best, trial)), key=lambda model: model.error, default=None)
        if best is None:
            break
    return best and (
        trained(problem, best.network, best.view, deadline, generator, tuned.MORE_STEPS) or best
    )


def trained(
    problem: SearchProblem,
    start: KAN | Sequence[Any],
    view: View,
    deadline: Deadline,
    generator: torch.Generator,
    steps: int,
    *,
    strength: float = 0.0,  # of a penalty on the L1 norm of the edges
) -> Interpolator | None:
    """Train a network, or a new one of some widths, until the deadline."""
    if deadline.passed or problem.count < tuned.TRAINING_ROWS:
        return None
    network = start
    if not isinstance(network, KAN):  # straight beyond the data, where slopes are asked for too
        network = KAN(
            network, grid_size=tuned.GRID, extrapolation="linear", generator=generator
        ).double()
    options = FitOptions(
        steps=steps,
        penalty="weight_l1" if strength else None,
        strength=strength,
        patience=tuned.TRAINING_PATIENCE,
        grid_updates=3,
    )
    run = TrainingRun(network, options, *view.tensors(problem), generator)
    try:
        run.begin()
        run.train(_watching(deadline))
    except OutOfTimeError:
        pass  # the best state is in the network
    except KanlensError:
        return None
    return Interpolator(problem, network, view)


def _watching(deadline: Deadline) -> Callable[..., None]:
    """Return a callback that stops training before the deadline."""
    before = time.monotonic()

    def advance(*_: object, **__: object) -> None:
        nonlocal before
        last, before = before, time.monotonic()
        if deadline.left <= before - last:
            raise OutOfTimeError

    return advance


def shapes(width: int) -> list[list[Any]]:
    """Return small architectures; pairs are (sums, products)."""
    return [[width, *nodes, 1] for nodes in ((), (1,), (2,), ((1, 1),), ((2, 1),), (5,))]


def network_formulas(
    problem: SearchProblem, front: BudgetedFront, first: View, generator: torch.Generator
) -> None:
    """Submit formulas of networks of several shapes."""
    plain, sparse = tuned.SPARSE_STEPS
    for view, widths in product(dict.fromkeys((first, *views(problem))), shapes(problem.width)):
        if front.done:
            return
        train = partial(trained, problem, view=view, deadline=front.deadline, generator=generator)
        model = train(widths, steps=plain)
        if model is not None and not front.done:
            model = train(model.network, steps=sparse, strength=tuned.STRENGTH) or model
        if model is not None and model.error < tuned.TOO_BAD * front.whole.best_error:
            read(model, front)


def read(model: Interpolator, front: BudgetedFront) -> None:
    """Submit the formulas of a network pruned to several sizes."""
    problem, network, before = model.problem, model.network, -1
    x, y = model.view.tensors(problem)
    for budget in tuned.BUDGETS:
        if front.done:
            return
        try:
            network = prune(network, _of(network, x), y, budget=budget, progress=False).model
        except KanlensError:
            return
        if network.edges_alive != before:
            before = network.edges_alive
            formula = formula_of(network, _of(network, x), y)
            if formula is not None and not front.done:
                front.submit(problem.rebuild(model.view.formula(formula, problem.names)))


def formula_of(network: KAN, x: torch.Tensor, y: torch.Tensor) -> Expr | None:
    """Return a network as a formula, if all edges have functions."""
    work, stop = copy.deepcopy(network).eval().requires_grad_(False), Interruption()
    for share in tuned.EDGE_SHARES:
        assign_functions(work, x, library(), share, advance=lambda *_, **__: None, stop=stop)
        if stop.happened:
            raise KeyboardInterrupt
    if len(function_edges(work)) < work.edges_alive:
        return None
    refit(work, x, y)
    return compose(work)[0]


def _of(network: KAN, x: torch.Tensor) -> torch.Tensor:
    """Return the remaining columns of a pruned network, named x1, x2, ..."""
    return x[:, [int(name[1:]) - 1 for name in network.feature_names]]
