"""The way from a network to its formula as rows of complexity and loss.

It starts at the network with all its splines, goes on with ever more edges that are functions,
the formula as composed, refitted and with exact constants, and ends with ever fewer terms and with
the mean. Losses are those on the rows that choose among them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch

from kanlens.interruption import Interruption
from kanlens.model.function_layer import SPLINE, FunctionLinear
from kanlens.model.network import KAN
from kanlens.symbolic.assignment import Goal, function_edges, revert
from kanlens.symbolic.composition import Array, Expr, compose, evaluator, feature_symbols, plain
from kanlens.symbolic.constants import RefinedFormula, can_refine, refine, snap
from kanlens.symbolic.dropping import drop_terms
from kanlens.symbolic.front import front_and_beyond
from kanlens.symbolic.joint_refit import relative_loss
from kanlens.symbolic.library import Family
from kanlens.symbolic.simplification import complexity, count_numbers, shorten
from kanlens.symbolic.stage import Stage
from kanlens.symbolic.univariate import with_shorter_parts

_DRIFT = 2.0  # factor by which a step may raise a loss that is slight
_WORSE = 1.05  # factor by which it may raise any other
_HARDLY = 1.02  # factor by which a formula with a shorter part may
_SLIGHT = 1e-4  # of the variance
_NONE = 1e-10  # loss that counts as none
_MOST_PARTS = 4  # of a formula that become one function
_CHECK_POINTS = 200  # where rewriting is checked
_MIXED = 5  # networks of splines and functions among the rows
_MOST_EDGES = 200  # of a network for which there are such rows


@dataclass(frozen=True, kw_only=True, eq=False)
class _Column:
    """The expressions of one output: made one after the other, and with fewer terms."""

    made: list[RefinedFormula]
    shorter: list[RefinedFormula]


def build_path(
    model: KAN,
    replaced: KAN,
    refitted: KAN,
    goal: Goal,
    *,
    refined: bool,
    snapped: bool,
    families: Sequence[Family] = (),
    stop: Interruption | None = None,
) -> tuple[tuple[Stage, ...], tuple[float, ...]]:
    """Return the rows from a network to its formula and beyond.

    Parameters
    ----------
    model : KAN
        In float64.
    replaced : KAN
        `model` with functions on edges.
    refitted : KAN
        `replaced` after the refit of its numbers.
    goal : Goal
    refined, snapped : bool
        Whether the numbers of the formula are refitted, and made exact.
    families : sequence of Family
        Functions that parts of a formula with one feature are compared with.
    stop : Interruption, optional
        After an interrupt formulas stay what they are.

    Returns
    -------
    stages : tuple of Stage
        Those on the front of at least one output, the simplest first.
    settled : tuple of float
        Loss of each output with exact constants, or of what was made last.
    """
    symbols, stop = feature_symbols(model), stop or Interruption()
    names = ["fitted", *(["refined"] if refined else []), *(["snapped"] if snapped else [])]
    columns = [
        _column(expression, symbols, goal, output, names, families, stop)
        for output, expression in enumerate(compose(refitted))
    ]
    longest = max(len(column.made) for column in columns)
    stages = [
        _stage(name, tuple(_at(column.made, k) for column in columns), symbols, goal)
        for k, name in enumerate(names[:longest])
    ]
    settled = stages[-1].losses
    for k in range(max(len(column.shorter) for column in columns)):
        rows = tuple(_at(column.shorter or column.made[-1:], k) for column in columns)
        stages.append(_stage(f"{k + 1} cut" + "s" * (k > 0), rows, symbols, goal))
    mean = tuple(_unchanged(sympy.Float(value)) for value in goal.target.mean(0).tolist())
    stages = [_stage("mean", mean, symbols, goal), *stages]
    if not stop.happened:
        with stop.kept():
            stages = [*_mixed_stages(model, replaced, goal), *stages]
    return _on_a_front(stages), settled


def _at(rows: list[RefinedFormula], k: int) -> RefinedFormula:
    """Return the k-th form of an output, or its last."""
    return rows[min(k, len(rows) - 1)]


def _on_a_front(stages: list[Stage]) -> tuple[Stage, ...]:
    """Return the stages that lie on the front of an output, the simplest first."""
    outputs = range(len(stages[0].losses))
    sizes = [[complexity(e) for e in stage.expressions] for stage in stages]
    kept: set[int] = set()
    partial = [stage.partial for stage in stages]
    for o in outputs:
        losses = [stage.losses[o] for stage in stages]
        kept |= set(front_and_beyond([size[o] for size in sizes], losses, partial))
    order = sorted(kept, key=lambda k: (sum(sizes[k]), -sum(stages[k].losses)))
    return tuple(stages[k] for k in order)


def _stage(
    name: str, rows: tuple[RefinedFormula, ...], symbols: tuple[Expr, ...], goal: Goal
) -> Stage:
    x, target = (values.numpy(force=True) for values in goal.judged)
    expressions = [row.expression for row in rows]
    return Stage(
        name=name,
        expressions=tuple(plain(e) for e in expressions),
        losses=tuple(_loss(e, symbols, x, target[:, k]) for k, e in enumerate(expressions)),
        snapped=tuple(row.snapped for row in rows),
        snap_costs=tuple(row.costs for row in rows),
    )


def _column(
    expression: Expr,
    symbols: tuple[Expr, ...],
    goal: Goal,
    output: int,
    names: list[str],
    families: Sequence[Family],
    stop: Interruption,
) -> _Column:
    """Return one output's expression at every stage; after an interrupt it stays what it is."""
    x, y = goal.x.numpy(force=True), goal.target[:, output].numpy(force=True)
    made = [_unchanged(expression)]
    for name in names[1:]:
        if not stop.happened:
            with stop.kept():
                now, rest = made[-1].expression, (symbols, x, y)
                made.append(_step(name, now, *rest, goal.independent))
                if name == "refined":
                    made[-1] = _with_shorter_parts(made[-1], *rest, families)
    last, shorter = made[-1].expression, []
    if "refined" in names and not stop.happened:  # what is left fits only with other numbers
        exact, independent = "snapped" in names, goal.independent
        shorter = drop_terms(last, symbols, x, y, snapped=exact, independent=independent, stop=stop)
    return _Column(made=made, shorter=shorter)


def _step(
    name: str,
    expression: Expr,
    symbols: tuple[Expr, ...],
    x: Array,
    y: Array,
    independent: int | None,
) -> RefinedFormula:
    """Refit a formula or make its numbers exact, unless that does harm."""
    points = x[:: max(1, len(x) // _CHECK_POINTS)]
    now = shorten(expression, symbols, points)
    if not can_refine(now):
        return _unchanged(now)
    if name == "refined":
        found = refine(now, symbols, x, y)
    else:
        found = snap(now, symbols, x, y, independent=independent)
    before = _loss(now, symbols, x, y)
    trial = shorten(found.expression, symbols, points)
    if name == "snapped" and count_numbers(trial) < count_numbers(found.expression):
        again = snap(trial, symbols, x, y, independent=independent)  # its numbers are others
        found = _both(found, again)
        trial = shorten(again.expression, symbols, points)
    after = _loss(trial, symbols, x, y)
    good = after <= max(_WORSE * before, min(_DRIFT * before, _SLIGHT), _NONE)
    return dataclasses.replace(found, expression=trial) if good else _unchanged(now)


def _both(first: RefinedFormula, then: RefinedFormula) -> RefinedFormula:
    """Return the second of two steps, with the exact constants of both."""
    snapped, costs = (*first.snapped, *then.snapped), (*first.costs, *then.costs)
    return dataclasses.replace(then, snapped=snapped, costs=costs)


def _with_shorter_parts(
    found: RefinedFormula,
    symbols: tuple[Expr, ...],
    x: Array,
    y: Array,
    families: Sequence[Family],
) -> RefinedFormula:
    """Make one function of each part with one feature, where that does no harm."""
    if not families or not can_refine(found.expression):
        return found
    points = x[:: max(1, len(x) // _CHECK_POINTS)]
    for _ in range(_MOST_PARTS):
        limit = max(_HARDLY * _loss(found.expression, symbols, x, y), _NONE)
        trials = [
            refine(shorten(trial, symbols, points), symbols, x, y)
            for trial in with_shorter_parts(found.expression, symbols, x, families)
        ]
        good = [trial for trial in trials if _loss(trial.expression, symbols, x, y) <= limit]
        if not good:
            break
        found = min(good, key=lambda trial: (count_numbers(trial.expression), trial.loss))
    return found


def _unchanged(expression: Expr) -> RefinedFormula:
    return RefinedFormula(expression=expression, loss=float("nan"))


def _loss(expression: Expr, symbols: tuple[Expr, ...], x: Any, y: Any) -> float:
    values = torch.from_numpy(evaluator((expression,), symbols)(x))
    return relative_loss(values, torch.from_numpy(y)[:, None])


def _mixed_stages(model: KAN, replaced: KAN, goal: Goal) -> list[Stage]:
    """Return networks in which ever more of the splines are functions, the safest first."""
    edges = [edge for edge in function_edges(replaced) if _was_spline(model, edge)]
    if not 0 < len(edges) <= _MOST_EDGES:
        return []
    few = goal.few()
    order = sorted(edges, key=lambda edge: few.loss(_mixed(replaced, edges, {edge})))
    counts = sorted(set(np.linspace(0, len(edges) - 1, _MIXED).round().astype(int).tolist()))
    stages = []
    for count in counts:
        network, (x, target) = _mixed(replaced, edges, set(order[:count])), goal.judged
        output = network(x)
        stages.append(
            Stage(
                name=f"{count} of {len(edges)} edges",
                expressions=tuple(plain(expression) for expression in compose(network)),
                losses=tuple(
                    relative_loss(output[:, k : k + 1], target[:, k : k + 1])
                    for k in range(output.shape[1])
                ),
                partial=True,
            )
        )
    return stages


def _was_spline(model: KAN, edge: tuple[int, int, int]) -> bool:
    layer = model.layers[edge[0]]
    if not isinstance(layer, FunctionLinear):
        return True
    return layer.functions[edge[1]][edge[2]] == SPLINE


def _mixed(
    replaced: KAN, edges: list[tuple[int, int, int]], chosen: set[tuple[int, int, int]]
) -> KAN:
    """Return a copy in which only the chosen ones of some edges are functions."""
    network = copy.deepcopy(replaced)
    for edge in edges:
        if edge not in chosen:
            revert(network, *edge)
    return network
