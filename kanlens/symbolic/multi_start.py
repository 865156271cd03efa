"""Multi-start search, from numbers to a formula: train, prune, refine, read.

Starts go on until one explains rows it was not fitted to but for rounding; else the shortest
description of these rows is kept. The first start has no hidden layer.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens.data.groups import row_groups
from kanlens.long_work import Interruption, interrupts_pass, progress_bar
from kanlens.model.network import KAN
from kanlens.pruning import prune
from kanlens.symbolic.joint_refit import relative_losses
from kanlens.symbolic.partition import Partition, partition
from kanlens.symbolic.pipeline import Reading, read
from kanlens.symbolic.result import SymbolicResult
from kanlens.symbolic.simplification import complexity
from kanlens.training import fit

EXACT = 1e-16  # loss on the rows that choose at which nothing is left to explain
_WIDEST = 11  # hidden nodes
_PRODUCTS = 2  # hidden nodes that multiply two sums, in every other start
_STEPS = (5, 15, 20)  # of training: before, between and after pruning
_ROUNDS = 6  # of training and pruning
_IDLE = 2  # rounds without anything to remove, after which it ends
_STRENGTH = 0.02  # of the penalty
_BUDGET = 0.5  # by which the loss may rise when edges are removed; training makes up for it
_CLEAN = 1e-3  # loss over the variance beyond which training will not make up for it
_BITS = 4.0  # for a node of a formula
_EDGE = 10  # nodes of a formula that an edge is worth


@dataclass(frozen=True, kw_only=True)
class Recipe(Reading):
    """The numbers of the recipe that a user may choose; those without a word as for `symbolize`."""

    starts: int = 8  # most networks that are trained, at least one
    hidden: int | None = None  # nodes at the start; None: twice the features and one, at most 11
    grid_size: int = 10  # intervals of the grid on which a formula is read


def find_formula(
    model: KAN,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    progress: bool | None = None,
) -> SymbolicResult:
    """Return the best formula of several starts; after an interrupt, the best so far.

    `model` gives names, units and task; its weights do not matter. x (batch, in) and y (batch, out)
    are in float64. A fifth of the rows choose it among all starts, with fewer than 20 those it was
    fitted to; its receipt is made on them, from 1000 rows on on a tenth that chose nothing.
    """
    parts = partition(len(x), generator, groups=row_groups(x, y, call="find_formula"))
    rows = parts.fitted
    tests = parts.choosing if len(parts.choosing) else rows
    best: SymbolicResult | None = None
    least, stop = math.inf, Interruption()
    with progress_bar("starts", recipe.starts, shown=progress) as advance:
        for start in range(recipe.starts):
            found = None
            with stop.kept():
                with interrupts_pass():
                    network = _trained(model, x[rows], y[rows], recipe, generator, start)
                found = _read(model, network, (x, y), parts, recipe, stop)
            if found is None:
                break
            values = torch.from_numpy(found.predict(x[tests]))
            loss = float(relative_losses(values, y[tests]).max())
            nodes = sum(complexity(s.expressions[k]) for k, s in enumerate(found.picked()))
            # the bits of the formulas, and of what they leave unexplained
            bits = _BITS * nodes + 0.5 * len(tests) * math.log2(max(loss, EXACT))
            if best is None or bits < least:
                best, least = found, bits
            advance(note=f"{best.get_best()['equation'][:60]}")
            if loss <= EXACT or stop.happened:
                break
    if best is None:  # the first start was interrupted
        raise KeyboardInterrupt
    stop.warn("find_formula")
    return best


def _widths(features: int, outputs: int, hidden: int | None, start: int) -> list[Any]:
    """Return the shape of a start: no hidden layer, sums, sums and products in turn."""
    width = hidden or min(2 * features + 1, _WIDEST)
    if start == 0:
        return [features, outputs]
    return [features, width if start % 2 else ((width + 1) // 2, _PRODUCTS), outputs]


def _trained(
    model: KAN, x: Tensor, y: Tensor, recipe: Recipe, generator: torch.Generator, start: int
) -> KAN:
    """Return a network that is trained, pruned and fitted on the finer grid."""
    widths = _widths(x.shape[1], y.shape[1], recipe.hidden, start)
    work = KAN(widths, grid_size=3, extrapolation="linear", generator=generator).to(x)
    work.schema = model.schema
    train = partial(fit, generator=generator, progress=False)
    train(work, (x, y), steps=_STEPS[0])
    sparsely = partial(train, steps=_STEPS[1], penalty="weight_l1", strength=_STRENGTH)
    columns, idle = x, 0
    for _ in range(_ROUNDS):
        sparsely(work, (columns, y), grid_updates=2)
        before = work.edges_alive
        work = prune(work, columns, y, budget=_budget(work, columns, y), progress=False).model
        columns = x[:, [model.feature_names.index(name) for name in work.feature_names]]
        idle = idle + 1 if work.edges_alive == before else 0
        if idle == _IDLE:
            break
    work.refine(recipe.grid_size)
    train(work, (columns, y), steps=_STEPS[2])
    return work


def _budget(network: KAN, x: Tensor, y: Tensor) -> float:
    """Return by how much pruning may raise the loss: under noise, by an edge's worth in bits."""
    with torch.no_grad():
        gap = (network(x) - y).square().mean(0) / y.var(0, unbiased=False).clamp(min=1e-300)
    if float(gap.max()) < _CLEAN:
        return _BUDGET
    return float(min(_BUDGET, 2.0 ** (2 * _BITS * _EDGE / len(x)) - 1))


def _read(
    model: KAN,
    network: KAN,
    data: tuple[Tensor, Tensor],
    parts: Partition,
    recipe: Recipe,
    stop: Interruption,
) -> SymbolicResult:
    """Read the formula of a trained network, in all the features that there are."""
    x, y = data
    columns = x[:, [model.feature_names.index(name) for name in network.feature_names]]
    rows, choosing, judging = parts.of(columns, y)
    tests = judging or (None, None)
    result = read(network, rows, tests, recipe, stop, choosing=choosing, progress=False)
    return dataclasses.replace(result, feature_names=model.feature_names)
