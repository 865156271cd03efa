"""Simpler problems that a trained network shows, and their formulas.

Columns that the network does not need are left out, and columns that it needs only together
become one; a network trained on what is left says whether that was right. A target that is a sum
or a product of functions of some columns each is taken apart: the network tells one part, which
is then taken away from the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from kanlens.deadlines import work_in
from kanlens.discovery.front import Front
from kanlens.discovery.networks import Interpolator, interpolator
from kanlens.discovery.problems import Problem
from kanlens.discovery.reading import network_formulas
from kanlens.discovery.reductions import divided
from kanlens.discovery.regression import Array, relative_error
from kanlens.discovery.residual_test import is_noise
from kanlens.discovery.search import search
from kanlens.discovery.symmetry import (
    Surface,
    Union,
    components,
    disjoint,
    factors,
    needless,
    unions,
)
from kanlens.discovery.time_budget import Portion
from kanlens.model import kernels
from kanlens.symbolic.composition import Expr, evaluator
from kanlens.symbolic.simplification import count_numbers

_LEAST_TIME = 2.0  # seconds, below which no network is trained
_AS_WELL = 1.15  # factor by which a simpler network may err more
_ABOUT = 1.6  # factor up to which the best of several is taken, unless they are rough
_ROUGH = 0.02  # error of a network from which it says more by its formula than by its symmetry
_TRIED = 3  # unions, one by one
_REFERENCES = 8  # rows over which a part is averaged
_BETTER = 0.97  # factor on the error of a formula below which a network knows more
_PARTS = 2  # formulas of a part that are taken further


@dataclass(frozen=True, eq=False)
class _Level:
    """A problem and a network trained on it."""

    problem: Problem
    network: Interpolator


def explore(problem: Problem, front: Front, generator: torch.Generator) -> None:
    """Offer formulas that trained networks lead to, unless the best one leaves only noise.

    Parameters
    ----------
    problem : Problem
    front : Front
    generator : torch.Generator
        Draws weights.
    """
    if front.deadline.left < _LEAST_TIME:
        return
    with kernels.use_within(work_in(front.deadline.left)):
        _explore(problem, front, generator)


def _explore(problem: Problem, front: Front, generator: torch.Generator) -> None:
    first = interpolator(problem, Portion(front, 0.3).deadline, generator)
    if first is None or front.done or _nothing_left(front, first.error):
        return
    rough = first.error > _ROUGH
    if rough:
        network_formulas(problem, Portion(front, 0.85), first.view, generator)
    levels = _levels(_Level(problem, first), Portion(front, 0.3 if rough else 0.6), generator)
    for level in reversed(levels[1:]):
        search(level.problem, Portion(front, 0.4), depth=1)
        _taken_apart(level, Portion(front, 0.4))
    last = levels[-1]
    if last is not levels[0]:
        network_formulas(last.problem, Portion(front, 0.5), last.network.view, generator)
    _taken_apart(levels[0], Portion(front, 0.5))
    network_formulas(problem, front, first.view, generator)


def _nothing_left(front: Front, error: float) -> bool:
    """Say whether a formula with hardly a number is no worse than a network, but for noise."""
    best = front.chosen()
    values = evaluator((best.expression,), front.symbols)(front.x)[:, 0]
    simple = count_numbers(best.expression) <= 1 and error > _BETTER * best.error
    return simple and is_noise(front.x, values, front.y)


def _levels(first: _Level, front: Front, generator: torch.Generator) -> list[_Level]:
    """Return the problem and ever simpler ones."""
    found = [first]
    while found[-1].problem.width > 1 and not front.done:
        simpler = _simpler(found[-1], front, generator)
        if simpler is None:
            break
        found.append(simpler)
    return found


def _simpler(level: _Level, front: Front, generator: torch.Generator) -> _Level | None:
    """Return the first simpler problem on which a network does as well, or about as well."""
    best: tuple[float, _Level] | None = None
    about = _ABOUT if level.network.error < _ROUGH else _AS_WELL
    for trial in _trials(level):
        if front.done:
            break
        network = interpolator(trial, front.deadline, generator)
        if network is None:
            continue
        error = _error_there(network, trial, level.problem) / level.network.error
        if error <= _AS_WELL:
            return _Level(trial, network)
        if error <= about and (best is None or error < best[0]):
            best = error, _Level(trial, network)
    return None if best is None else best[1]


def _error_there(network: Interpolator, trial: Problem, problem: Problem) -> float:
    """Return the error of a network of a simpler problem on the target of the one it is from."""
    rows = problem.held_out if problem.held_out.any() else ~problem.held_out
    with np.errstate(all="ignore"):
        factor = np.where(trial.target == problem.target, 1.0, problem.target / trial.target)
    return relative_error((network(trial.columns) * factor)[rows], problem.target[rows])


def _trials(level: _Level) -> list[Problem]:
    """Return simpler problems, what changes most at once first."""
    problem, network = level.problem, level.network
    error, found = network.error, []
    drop = needless(network, problem.columns, error)
    if drop:
        found.append(problem.without(drop))
    slopes = network.slopes(problem.columns)
    powers = factors(problem.columns, slopes, network.sizes(problem.columns), error)
    every = unions(problem, slopes, error)
    own = set(np.flatnonzero(powers).tolist())
    if own and len(own) < problem.width:
        found.append(divided(problem, powers, own))
    sure = disjoint(every)
    if len(sure) > 1:
        found.append(_united(problem, sure))
    return found + [_united(problem, [union]) for union in every[:_TRIED]]


def _united(problem: Problem, found: list[Union]) -> Problem:
    for union in found:
        problem = union.reduced(problem)
    return problem


def _taken_apart(level: _Level, front: Front) -> None:
    """Offer sums and products of formulas of fewer columns."""
    problem, network = level.problem, level.network
    if problem.width < 2:
        return
    parts = components(network, problem.columns, network.error)
    if len(parts) > 1:
        _solve_parts(problem, network, parts, front, product=False)
    if not (problem.target > 0).all() and not (problem.target < 0).all():
        return
    size = _logarithm(network)
    judged = problem.held_out if problem.held_out.any() else ~problem.held_out
    gap = relative_error(size(problem.columns[judged]), np.log(np.abs(problem.target[judged])))
    if np.isfinite(gap) and not front.done:
        factors = components(size, problem.columns, gap)
        if len(factors) > 1:
            _solve_parts(problem, size, factors, front, product=True)


def _logarithm(surface: Surface) -> Surface:
    """Return the logarithm of the size of a function."""

    def found(columns: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.log(np.abs(surface(columns)))

    return found


def _solve_parts(
    problem: Problem, surface: Surface, parts: list[set[int]], front: Front, *, product: bool
) -> None:
    """Find formulas of the first part as the network has it, then of the rest as the data do."""
    if front.done:
        return
    own = parts[0]
    others = set(range(problem.width)) - own
    values = part_of(surface, problem.columns, own)
    if not np.isfinite(values).all() or not values.std() > 0:
        return
    target = np.exp(values) if product else values
    part = problem.without(others).with_target(target, lambda e: e)
    formulas = _formulas(part, Portion(front, 0.3))
    for formula in formulas[:_PARTS] if len(parts) == 2 else formulas[:1]:
        rest = _rest(problem, formula, front, product=product)
        if rest is None or front.done:
            continue
        rest = rest.without(own)
        if len(parts) > 2:
            left = _without(surface, problem, own, parts)
            _solve_parts(rest, *left, Portion(front, 0.5), product=product)
        search(rest, Portion(front, 0.5), depth=1)


def part_of(surface: Surface, columns: Array, own: set[int]) -> Array:
    """Return a function of some columns, averaged over what the others are in some rows.

    Parameters
    ----------
    surface : callable
    columns : ndarray, shape (row, feature)
    own : set of int

    Returns
    -------
    ndarray, shape (row,)

    Examples
    --------
    >>> x = np.array([[1.0, 5.0], [2.0, 5.0]])
    >>> part_of(lambda x: x[:, 0] + x[:, 1], x, {0}).tolist()
    [6.0, 7.0]
    """
    rows = np.linspace(0, len(columns) - 1, min(_REFERENCES, len(columns))).round().astype(int)
    others = [i for i in range(columns.shape[1]) if i not in own]
    found = []
    for row in rows:
        moved = columns.copy()
        moved[:, others] = columns[row, others]
        found.append(surface(moved))
    return np.asarray(np.mean(found, axis=0))


def _without(
    surface: Surface, problem: Problem, own: set[int], parts: list[set[int]]
) -> tuple[Surface, list[set[int]]]:
    """Return a function of the columns that are left, and its parts."""
    kept = [i for i in range(problem.width) if i not in own]
    fixed = problem.columns[len(problem.columns) // 2]

    def found(columns: Array) -> Array:
        whole = np.tile(fixed, (len(columns), 1))
        whole[:, kept] = columns
        return surface(whole)

    return found, [{kept.index(i) for i in part} for part in parts[1:]]


def _formulas(part: Problem, front: Front) -> list[Expr]:
    """Return formulas of a part of a problem, the best first."""
    own = Front(front.symbols, front.x, part.target, part.held_out, front.deadline)
    own.start()
    search(part, own, depth=1)
    chosen = own.chosen()
    others = sorted((e for e in own.entries if e is not chosen), key=lambda entry: entry.error)
    return [e.expression for e in [chosen, *others] if e.expression.free_symbols]


def _rest(problem: Problem, formula: Expr, front: Front, *, product: bool) -> Problem | None:
    """Return the problem that is left when a part of it is known."""
    values = evaluator((formula,), front.symbols)(front.x)[:, 0]
    with np.errstate(all="ignore"):
        target = problem.target / values if product else problem.target - values
    if not np.isfinite(target).all() or not target.std() > 0:
        return None
    undo: Callable[[Expr], Expr]
    undo = (lambda e: e * formula) if product else (lambda e: e + formula)
    return problem.with_target(target, undo)
