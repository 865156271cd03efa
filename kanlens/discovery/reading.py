"""Formulas of small networks: pruned to several sizes, functions on their edges, refitted."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import sympy
import torch

from kanlens.discovery.front import Front
from kanlens.discovery.networks import Interpolator, View, trained, views
from kanlens.discovery.problems import Problem
from kanlens.errors import KanlensError
from kanlens.interruption import Interruption
from kanlens.model.function_layer import SPLINE, FunctionLinear
from kanlens.model.network import KAN
from kanlens.pruning import prune
from kanlens.symbolic.assignment import assign_functions
from kanlens.symbolic.composition import Expr, compose
from kanlens.symbolic.joint_refit import refit
from kanlens.symbolic.library import library

_STEPS = (12, 12)  # of training: without and with a penalty
_STRENGTH = 0.01
_BUDGETS = (0.03, 0.1, 0.3, 1.0)  # rises of the loss for which edges are removed
_TOO_BAD = 4.0  # times the least error of a formula: a worse network is not read
_SHARES = (0.98, 0.3)  # of an edge's variance that a function must explain, first and else


def shapes(width: int) -> list[list[Any]]:
    """Return the shapes of small networks, the simplest first; pairs are sums and products.

    Examples
    --------
    >>> shapes(2)
    [[2, 1], [2, 1, 1], [2, 2, 1], [2, (1, 1), 1], [2, (2, 1), 1], [2, 5, 1]]
    """
    hidden: list[Any] = [1, 2, (1, 1), (2, 1), 5]
    return [[width, 1], *([width, nodes, 1] for nodes in hidden)]


def network_formulas(
    problem: Problem, front: Front, first: View, generator: torch.Generator
) -> None:
    """Offer the formulas of networks of several shapes, as long as there is time.

    Parameters
    ----------
    problem : Problem
    front : Front
    first : View
        The view to begin with; the others follow.
    generator : torch.Generator
        Draws weights.
    """
    rest = [view for view in views(problem) if view != first]
    for view in [first, *rest]:
        for widths in shapes(problem.width):
            if front.done:
                return
            network = _sparse(problem, widths, view, front, generator)
            if network is not None and network.error < _TOO_BAD * front.best_error:
                read(network, problem, front)


def _sparse(
    problem: Problem,
    widths: Sequence[Any],
    view: View,
    front: Front,
    generator: torch.Generator,
) -> Interpolator | None:
    """Train a network, then train it on with a penalty on its edges."""
    plain, with_penalty = _STEPS
    found = trained(problem, widths, view, front.deadline, generator, plain)
    if found is None or front.done:
        return found
    rest = trained(
        problem,
        widths,
        view,
        front.deadline,
        generator,
        with_penalty,
        start=found.network,
        strength=_STRENGTH,
    )
    return rest or found


def read(found: Interpolator, problem: Problem, front: Front) -> None:
    """Offer the formulas of a network, with ever fewer of its edges."""
    rows = ~problem.held_out
    x = torch.from_numpy(found.view.inputs(problem.columns))[rows]
    y = torch.from_numpy(found.view.output(problem.target))[rows, None]
    network, before = found.network, -1
    for budget in _BUDGETS:
        if front.done:
            return
        try:
            network = prune(network, _of(network, x), y, budget=budget, progress=False).model
        except KanlensError:
            return
        if network.edges_alive == before:
            continue
        before = network.edges_alive
        formula = formula_of(network, _of(network, x), y)
        if formula is not None and not front.done:
            front.offer(problem.rebuild(_in_names(formula, found.view, problem)))


def formula_of(network: KAN, x: torch.Tensor, y: torch.Tensor) -> Expr | None:
    """Put the likeliest function on every edge, refit, and write the formula.

    Parameters
    ----------
    network : KAN
        In float64; left as it is.
    x : Tensor, shape (row, in)
    y : Tensor, shape (row, 1)

    Returns
    -------
    Expr or None
        In x1, x2, ...; None where some edge is like no function.
    """
    work = copy.deepcopy(network).eval().requires_grad_(False)
    stop = Interruption()
    for share in _SHARES:
        assign_functions(work, x, library(call="discover"), share, advance=_nothing, stop=stop)
        if stop.happened:
            raise KeyboardInterrupt
    for layer in work.layers:
        if not isinstance(layer, FunctionLinear):
            return None
        alive = (layer.mask != 0).tolist()
        rows = zip(layer.functions, alive, strict=True)
        if any(f == SPLINE and a for fs, row in rows for f, a in zip(fs, row, strict=True)):
            return None
    refit(work, x, y)
    return compose(work)[0]


def _in_names(formula: Expr, view: View, problem: Problem) -> Expr:
    """Write the formula of a network in the columns of a problem, and of its target."""
    inputs = {
        sympy.Symbol(f"x{i + 1}", real=True): name
        for i, name in enumerate(view.names(problem.names))
    }
    return view.expression(formula.xreplace(inputs))


def _of(network: KAN, x: torch.Tensor) -> torch.Tensor:
    """Return the columns that a network has kept; it knows them as x1, x2, ..."""
    return x[:, [int(name[1:]) - 1 for name in network.feature_names]]


def _nothing(*_: Any, **__: Any) -> None:
    """Take note of nothing."""
