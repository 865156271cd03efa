"""Formulas of decreasing complexity, from the network down to the mean."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence

import numpy as np
import sympy

from kanlens._runtime import Interruption
from kanlens.model._network import KAN
from kanlens.model._terms import SPLINE
from kanlens.symbolic._assignment import Edge, Goal, function_edges
from kanlens.symbolic._composition import Array, Expr, compose, evaluator, feature_symbols, plain
from kanlens.symbolic._joint_refit import relative_losses
from kanlens.symbolic._library import Family
from kanlens.symbolic._pareto_front import READABLE, front_and_beyond
from kanlens.symbolic._result import Stage
from kanlens.symbolic._simplification import (
    RefinedFormula,
    Simplifier,
    can_refine,
    complexity,
    refine,
)
from kanlens.symbolic._term_selection import selected_terms

_DRIFT = 2.0  # largest rise of a slight loss in a step (factor)
_WORSE = 1.05  # largest rise of another loss
_SLIGHT = 1e-4  # slight losses, over the variance
_NONE = 1e-10  # loss that counts as 0
_MIXED = 5  # number of networks with both splines and functions
_MAX_MIXED_EDGES = 200  # of such a network

_MAX_ROWS = 500  # to compare terms
_MAX_ROUNDS = 8  # of dropping a term
_MAX_TERMS = 60  # compared in one round
_MAX_OPERATIONS = 600  # of a formula to select main terms from
_MAX_REFITTED = 150  # operations of a formula to refit without a term


def build_path(
    model: KAN,
    replaced: KAN,
    refitted: KAN,
    goal: Goal,
    families: Sequence[Family],
    *,
    refined: bool,
    snapped: bool,
) -> tuple[tuple[Stage, ...], tuple[float, ...]]:
    """Return the stages on the Pareto front, and each output's loss before any term is cut.

    `model` is in float64, `replaced` has functions on edges, `refitted` is that network refitted.
    """
    names = ["fitted", *["refined"] * refined, *["snapped"] * snapped]
    symbols, independent = feature_symbols(model), goal.independent
    tables, judges = (  # rows for fitting each output, and for its loss
        [
            Simplifier(symbols=symbols, x=x.numpy(force=True), y=y, independent=independent)
            for y in target.numpy(force=True).T
        ]
        for x, target in ((goal.x, goal.target), goal.judged)
    )
    columns = [
        _column(expression, table, names, goal.stop)
        for expression, table in zip(compose(refitted), tables, strict=True)
    ]
    stages = [
        _stage(name, [steps[min(k, len(steps) - 1)] for steps, _ in columns], judges)
        for k, name in enumerate(names[: max(len(steps) for steps, _ in columns)])
    ]
    losses = stages[-1].losses
    for k in range(max(len(shorter) for _, shorter in columns)):
        rows = [(shorter[k : k + 1] or shorter or steps)[-1] for steps, shorter in columns]
        stages.append(_stage(f"{k + 1} cut" + "s" * (k > 0), rows, judges))
    mean = [RefinedFormula(expression=sympy.Float(v)) for v in goal.target.mean(0).tolist()]
    stages = [_stage("mean", mean, judges), *stages]
    if not goal.stop.happened:
        with goal.stop.kept():
            stages = [*_mixed_stages(model, replaced, goal), *stages]
    long = any(complexity(expression) > READABLE for expression in compose(refitted))
    if refined and long and model.nodes[0].grouping.sums and not goal.stop.happened:
        with goal.stop.kept():
            stages += _short_stages(model, refitted, goal, families, judges)
    return _on_a_front(stages), losses


def _on_a_front(stages: list[Stage]) -> tuple[Stage, ...]:
    """Return the stages that are Pareto-optimal for some output, the simplest first."""
    sizes = [[complexity(e) for e in stage.expressions] for stage in stages]
    partial = [stage.partial for stage in stages]
    losses = zip(*(stage.losses for stage in stages), strict=True)
    columns = zip(zip(*sizes, strict=True), losses, strict=True)
    rows = {k for column in columns for k in front_and_beyond(*column, partial)}
    order = sorted(rows, key=lambda k: (sum(sizes[k]), -sum(stages[k].losses)))
    return tuple(stages[k] for k in order)


def _stage(name: str, rows: list[RefinedFormula], judges: list[Simplifier]) -> Stage:
    pairs = zip(rows, judges, strict=True)
    return Stage(
        name=name,
        expressions=tuple(plain(row.expression) for row in rows),
        losses=tuple(judge.loss(row.expression) for row, judge in pairs),
        snapped=tuple(row.snapped for row in rows),
        snap_costs=tuple(row.costs for row in rows),
    )


def _column(
    expression: Expr, table: Simplifier, names: list[str], stop: Interruption
) -> tuple[list[RefinedFormula], list[RefinedFormula]]:
    """Return the formulas of one output at every stage, and shorter ones."""
    steps = [RefinedFormula(expression=expression)]
    for name in names[1:]:
        if not stop.happened:
            with stop.kept():
                steps.append(_step(name, steps[-1].expression, table))
    if "refined" not in names or stop.happened:  # fewer terms need a refit
        return steps, []
    return steps, drop_terms(steps[-1].expression, table, snapped="snapped" in names, stop=stop)


def _step(name: str, expression: Expr, table: Simplifier) -> RefinedFormula:
    """Refit a formula or make its constants exact, unless the loss rises."""
    now = table.shorten(expression)
    if not can_refine(now):
        return RefinedFormula(expression=now)
    trial, before = table.refit(now) if name == "refined" else table.snap(now), table.loss(now)
    limit = max(_WORSE * before, min(_DRIFT * before, _SLIGHT), _NONE)
    return trial if table.loss(trial.expression) <= limit else RefinedFormula(expression=now)


def _mixed_stages(model: KAN, replaced: KAN, goal: Goal) -> list[Stage]:
    """Return stages with more and more edges replaced by functions, those that fit best first."""
    before = function_edges(model)
    edges = [edge for edge in function_edges(replaced) if edge not in before]
    if not 0 < len(edges) <= _MAX_MIXED_EDGES:
        return []
    few = goal.few()
    order = sorted(edges, key=lambda edge: few.loss(_mixed(replaced, edges, {edge})))
    stages, (x, target) = [], goal.judged
    for count in np.unique(np.linspace(0, len(edges) - 1, _MIXED).round().astype(int)).tolist():
        network = _mixed(replaced, edges, set(order[:count]))
        stages.append(
            Stage(
                name=f"{count} of {len(edges)} edges",
                expressions=tuple(plain(expression) for expression in compose(network)),
                losses=tuple(relative_losses(network(x), target).tolist()),
                partial=True,
            )
        )
    return stages


def _short_stages(
    model: KAN, work: KAN, goal: Goal, families: Sequence[Family], judges: list[Simplifier]
) -> list[Stage]:
    """Return formulas with more and more terms that approximate a network."""
    symbols, x, y = feature_symbols(model), goal.x.numpy(force=True), model(goal.x).numpy()
    stages: list[Stage] = []
    for count, formulas in enumerate(selected_terms(model, work, goal.x, families), start=1):
        pairs = zip(formulas, y.T, strict=True)
        rows = [refine(formula, symbols, x, target) for formula, target in pairs]
        stages.append(_stage(f"{count} term" + "s" * (count > 1), rows, judges))
    return stages


def _mixed(replaced: KAN, edges: list[Edge], chosen: set[Edge]) -> KAN:
    """Return a copy in which only the chosen edges are functions."""
    network = copy.deepcopy(replaced)
    for index, out, in_ in edges:
        if (index, out, in_) not in chosen:
            network.layers[index].assign(out, in_, SPLINE)
    return network


def drop_terms(
    expression: Expr, table: Simplifier, *, snapped: bool = True, stop: Interruption | None = None
) -> list[RefinedFormula]:
    """Return formulas with fewer and fewer terms, down to the mean.

    In every round one term of a sum, at any depth, is dropped: the one whose removal leaves the
    best fit after scaling and shifting. Then the constants are refitted and made exact.
    """
    if not expression.free_symbols:
        return []
    pick = np.linspace(0, len(table.x) - 1, min(len(table.x), _MAX_ROWS)).round().astype(int)
    rows = table.x[pick], table.y[pick]
    shorter: list[RefinedFormula] = []
    now = _main_terms(expression, table.symbols, *rows)
    with (stop or Interruption()).kept():
        if now != expression:
            shorter.append(_settled(now, table, snapped))
            now = shorter[-1].expression
        for _ in range(_MAX_ROUNDS):
            candidates = [] if sympy.count_ops(now) > 2 * _MAX_REFITTED else _without_a_term(now)
            best = _closest(candidates, table.symbols, *rows) if candidates else None
            if best is None:
                break
            settled = _settled(best, table, snapped)
            now = settled.expression
            if not now.free_symbols:
                break
            shorter.append(settled)
    return [*shorter, RefinedFormula(expression=sympy.Float(float(np.mean(table.y))))]


def _main_terms(expression: Expr, symbols: tuple[Expr, ...], x: Array, y: Array) -> Expr:
    """Return the main terms of a long sum by forward selection."""
    terms = [term for term in sympy.Add.make_args(expression) if term.free_symbols]
    if complexity(expression) <= READABLE or sympy.count_ops(expression) > _MAX_OPERATIONS:
        return expression
    values = evaluator(tuple(terms), symbols)(x)
    values = np.where(np.isfinite(values).all(axis=0), values, 0.0)
    columns, rest, chosen = values - values.mean(axis=0), y - y.mean(), list[int]()
    while len(chosen) < len(terms):
        sizes = np.maximum(np.square(columns).sum(axis=0), np.finfo(float).tiny)
        best = int((np.square(columns.T @ rest) / sizes).argmax())
        total = sympy.Add(*(terms[k] for k in (*chosen, best)))
        if best in chosen or (chosen and complexity(total) > READABLE):
            break
        chosen.append(best)
        unit = columns[:, best] / np.sqrt(sizes[best])
        rest = rest - unit * (unit @ rest)
        columns = columns - np.outer(unit, unit @ columns)
    matrix = np.column_stack((np.ones(len(x)), values[:, chosen]))
    level, *scales = np.linalg.lstsq(matrix, y, rcond=None)[0]
    parts = (sympy.Float(s) * terms[k] for s, k in zip(scales, chosen, strict=True))
    return sympy.Add(sympy.Float(level), *parts)


def _without_a_term(expression: Expr) -> list[Expr]:
    """Return expressions with one of the varying terms of sums left out."""
    shorter: dict[Expr, None] = {}
    sums = (node for node in sympy.preorder_traversal(expression) if node.is_Add)
    pairs = ((total, term) for total in sums for term in total.args if term.free_symbols)
    for node, term in pairs:
        rest = node.func(*(other for other in node.args if other is not term))
        with contextlib.suppress(ValueError):  # Max of arguments that are no longer real
            shorter[expression.xreplace({node: rest})] = None
    return [e for e in shorter if e.free_symbols][:_MAX_TERMS]


def _closest(candidates: list[Expr], symbols: tuple[Expr, ...], x: Array, y: Array) -> Expr | None:
    """Return the candidate that fits y best, scaled and shifted; None if all are undefined."""
    values = evaluator(tuple(candidates), symbols)(x)
    with np.errstate(all="ignore"):
        centered = values - values.mean(axis=0)
        scale = (centered * (y - y.mean())[:, None]).sum(axis=0) / np.square(centered).sum(axis=0)
        losses = np.square(scale * centered - (y - y.mean())[:, None]).mean(axis=0)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    k = int(losses.argmin())
    if not np.isfinite(losses[k]):
        return None
    level = float(y.mean() - scale[k] * values[:, k].mean())
    return sympy.Float(float(scale[k])) * candidates[k] + sympy.Float(level)


def _settled(expression: Expr, table: Simplifier, snapped: bool) -> RefinedFormula:
    """Refit the constants of a formula and make them exact."""
    now = table.shorten(expression)
    has_splines = any(hasattr(type(node), "_imp_") for node in now.atoms(sympy.Function))
    if sympy.count_ops(now) > _MAX_REFITTED or not can_refine(now) or has_splines:
        return RefinedFormula(expression=now)
    refitted = table.refit(now)
    return table.snap(refitted.expression) if snapped else refitted
