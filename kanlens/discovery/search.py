"""Order of the ansatzes, recursion into simpler problems, and those that a trained network shows.

By the slopes of a network columns are left out or joined; a sum or product loses a part it tells.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, reduce

import numpy as np
import torch

from kanlens.discovery import settings as tuned
from kanlens.discovery.additive import AdditiveModel, SeparableProduct, functions_of_sum
from kanlens.discovery.ansatz import POWER_LAW, Ansatz, LinearModel, Through, offer_all
from kanlens.discovery.bilinear import ProductWithCombination
from kanlens.discovery.blocks import SumOfBlocks
from kanlens.discovery.front import Front
from kanlens.discovery.invariance import (
    Slopes,
    error_of_y,
    few_monomials,
    inverted,
    smooth_model,
    sum_of_splines,
)
from kanlens.discovery.monomials import MonomialSum, PolynomialRatio
from kanlens.discovery.networks import Interpolator, interpolator, network_formulas
from kanlens.discovery.problems import (
    SearchProblem,
    best_loo_error,
    divided,
    paired,
    remove_factors_to_noise,
    remove_power_factors,
    rounded_exponents,
)
from kanlens.discovery.regression import Array, relative_error, spread_rows
from kanlens.discovery.scaling import scale_of
from kanlens.discovery.scheduling import BudgetedFront, Deferred, PriorityFront
from kanlens.discovery.smoothness import is_noise
from kanlens.discovery.sparse import DictionarySum, SparseSum
from kanlens.discovery.symmetry import Surface, components, disjoint, factors, needless, unions
from kanlens.discovery.univariate import CURVE
from kanlens.model import kernels
from kanlens.symbolic.composition import Expr
from kanlens.symbolic.simplification import count_numbers

_ADDITIVE, _ROUGHLY = AdditiveModel(near=True), AdditiveModel(near=False)
_MONOMIALS, _SEPARABLE = MonomialSum(), SeparableProduct()
_SPARSE_OF_TWO = SparseSum(replace(tuned.SPARSE, widest=2))  # which take a fraction of the time
_SPARSE = SparseSum(replace(tuned.SPARSE, narrowest=3))
_RATIO, _BLOCKS = PolynomialRatio(), SumOfBlocks()
_ANGLES = tuned.ANGLES_OF_TARGET
AT_ONCE = (LinearModel(), POWER_LAW, Through(POWER_LAW, ("log", *_ANGLES)))
_SEPARABLES = (_SEPARABLE, Through(_SEPARABLE, _ANGLES))
_CHEAP: tuple[Ansatz, ...] = (_ADDITIVE, _MONOMIALS, CURVE, *_SEPARABLES, _SPARSE_OF_TWO)
_LAST: tuple[Ansatz, ...] = (DictionarySum(), ProductWithCombination())
# of problems of few columns and of many: before functions of a sum are looked for, before columns
# are left out, and after that
OF_FEW = ((*_CHEAP, _RATIO, _SPARSE), (_ROUGHLY, _BLOCKS), _LAST)
OF_MANY = ((*_CHEAP, _SPARSE), (_ROUGHLY,), (_RATIO, _BLOCKS, *_LAST))


def search(
    problem: SearchProblem,
    front: Front | BudgetedFront,
    *,
    depth: int = tuned.DEPTH,
    deferred: Deferred | None = None,
) -> None:
    """Offer formulas of a problem and of the simpler ones it leads to.

    Deferred work is run between two steps, once it is due.
    """
    if not front.is_new(*problem.key):
        return
    queue = front if isinstance(front, PriorityFront) else PriorityFront(front, deferred)
    for step in _steps(problem, queue, depth):
        queue.run_deferred()
        if queue.done:
            return
        step()
        queue.refit(tuned.REFITTED)
    if queue is not front:
        queue.refit()


def _steps(
    problem: SearchProblem, front: BudgetedFront, depth: int
) -> Iterator[Callable[[], object]]:
    shallow = problem.width <= tuned.NARROW or depth >= tuned.DEPTH - 1
    by_slopes = 1 < problem.width <= tuned.MOST_SLOPES
    before, early, late = OF_FEW if problem.width <= tuned.FEW else OF_MANY
    yield from (partial(ansatz.offer, problem, front) for ansatz in AT_ONCE)
    if by_slopes:
        yield partial(_by_slopes, problem, front, depth)
    able = (ansatz for ansatz in before if shallow or not ansatz.costly)
    yield from (partial(ansatz.offer, problem, front) for ansatz in able)
    if by_slopes:
        yield partial(_nested, problem, front)
    yield from (partial(ansatz.offer, problem, front) for ansatz in early)
    if problem.width > 1:  # without columns that are factors or say nothing
        reduced = remove_power_factors(problem, front.deadline)
        if reduced.width < problem.width:
            yield partial(search, reduced, front, depth=depth)
        quieter = remove_factors_to_noise(problem, front.deadline)
        if quieter.width < problem.width and quieter.key != reduced.key:
            yield partial(search, quieter, front, depth=depth)
        yield partial(_divided_formulas, problem, front, depth)
    yield from (partial(ansatz.offer, problem, front) for ansatz in late)
    if depth > 0 and problem.width > 1:
        level = best_loo_error(problem)
        for error, merged in paired(problem, front.deadline)[: tuned.BRANCHES]:
            if error < max(2 * level, tuned.NO_LOO_ERROR):
                yield partial(search, merged, front, depth=depth - 1)


def _by_slopes(problem: SearchProblem, front: BudgetedFront, depth: int) -> None:
    """Search what slopes show the target to be a function of."""
    level, fewer = tuned.SPAN_GAIN * error_of_y(problem), problem
    for each in few_monomials(problem, Slopes.of(problem)):
        own, now = smooth_model(each)[0], error_of_y(each)
        if own < tuned.SPANNED or (own < tuned.LOST_SPAN and now < level):
            level, fewer = now, each
        if own < tuned.SPANNED:
            break
    if fewer is not problem:
        for each in (fewer, *inverted(fewer)):
            CURVE.offer(each, front)
        if not front.done:
            search(fewer, front, depth=depth)


def _nested(problem: SearchProblem, front: BudgetedFront) -> None:
    """Offer functions of a sum of functions, which slopes tell."""
    total = sum_of_splines(problem, Slopes.of(problem))
    if total.error < tuned.SUM_ERROR and not front.done:
        offer_all(functions_of_sum(problem, total, front), front)


def _divided_formulas(problem: SearchProblem, front: BudgetedFront, depth: int) -> None:
    """Divide by the powers that the target seems to hold, and keep all columns."""
    powers = rounded_exponents(problem)
    if np.any(powers):
        trial = divided(problem, powers, set())
        top = problem.width > tuned.NARROW and depth == tuned.DEPTH
        for ansatz in (_ADDITIVE, _MONOMIALS, *((_SPARSE,) if top else ()), _ROUGHLY):
            ansatz.offer(trial, front)


def explore(problem: SearchProblem, front: BudgetedFront, generator: torch.Generator) -> None:
    """Offer formulas that trained networks lead to, unless the best one leaves only noise."""
    if front.deadline.left < tuned.LEAST_TIME:
        return
    with kernels.use_within(front.deadline.left):
        first = interpolator(problem, BudgetedFront(front, 0.3).deadline, generator)
        if first is None or front.done or _nothing_left(front, first.error):
            return
        rough = first.error > tuned.ROUGH
        if rough:
            network_formulas(problem, BudgetedFront(front, 0.85), first.view, generator)
        levels, simpler = [first], BudgetedFront(front, 0.3 if rough else 0.6)
        while (network := _simpler(levels[-1], simpler, generator)) is not None:
            levels.append(network)
        for level in reversed(levels[1:]):
            search(level.problem, BudgetedFront(front, 0.4), depth=1)
            _taken_apart(level, BudgetedFront(front, 0.4))
        if len(levels) > 1:
            last = levels[-1]
            network_formulas(last.problem, BudgetedFront(front, 0.5), last.view, generator)
        _taken_apart(levels[0], BudgetedFront(front, 0.5))
        network_formulas(problem, front, first.view, generator)


def _nothing_left(front: BudgetedFront, error: float) -> bool:
    """Say whether a formula with at most one number matches the network, but for noise."""
    whole, best = front.whole, front.whole.chosen()
    values = whole.values(best.expression)
    simple = count_numbers(best.expression) <= 1 and error > tuned.KNOWS_MORE * best.error
    return simple and is_noise(whole.x, whole.scale(values), whole.scale(whole.y))


def _simpler(
    level: Interpolator, front: BudgetedFront, generator: torch.Generator
) -> Interpolator | None:
    """Return the network of the first simpler problem with about the same error."""
    best: tuple[float, Interpolator] | None = None
    about = tuned.ABOUT_AS_WELL if level.error < tuned.ROUGH else tuned.AS_WELL
    whole, rows = level.problem.target, level.problem.judged
    for trial in _trials(level) if level.problem.width > 1 and not front.done else ():
        if front.done:
            break
        network = interpolator(trial, front.deadline, generator)
        if network is None:
            continue
        with np.errstate(all="ignore"):
            factor = np.where(trial.target == whole, 1.0, whole / trial.target)
        values = (network(trial.columns) * factor)[rows]
        error = relative_error(values, whole[rows]) / level.error
        if error <= tuned.AS_WELL:
            return network
        if error <= about and (best is None or error < best[0]):
            best = error, network
    return None if best is None else best[1]


def _trials(network: Interpolator) -> list[SearchProblem]:
    """Return candidate reductions, the largest first."""
    problem, error, slopes = network.problem, network.error, network.slopes
    drop = needless(network, problem.columns, error)
    trials = [problem.without(drop)] if drop else []
    powers = factors(problem.columns, slopes, network.sizes, error)
    own = set(np.flatnonzero(powers).tolist())
    if own and len(own) < problem.width:
        trials.append(divided(problem, powers, own))
    every = unions(problem, slopes, error)
    sure = disjoint(every)
    if len(sure) > 1:
        trials.append(reduce(lambda merged, union: union.reduced(merged), sure, problem))
    return trials + [union.reduced(problem) for union in every[: tuned.UNIONS_TRIED]]


def _taken_apart(network: Interpolator, front: BudgetedFront) -> None:
    """Offer sums and products of formulas of fewer columns."""
    problem = network.problem
    if problem.width < 2:
        return
    parts = components(network, problem.columns, network.error)
    if len(parts) > 1:
        _solve_parts(problem, network, parts, front, product=False)
    if not problem.one_sign:
        return

    def size(columns: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.log(np.abs(network(columns)))

    judged = problem.judged
    gap = relative_error(size(problem.columns[judged]), np.log(np.abs(problem.target[judged])))
    if np.isfinite(gap) and not front.done:
        parts = components(size, problem.columns, gap)
        if len(parts) > 1:
            _solve_parts(problem, size, parts, front, product=True)


def _solve_parts(
    problem: SearchProblem,
    surface: Surface,
    parts: list[set[int]],
    front: BudgetedFront,
    *,
    product: bool,
) -> None:
    """Solve the first part from the network, then the rest from the data."""
    if front.done:
        return
    own = parts[0]
    others = set(range(problem.width)) - own
    values = part_of(surface, problem.columns, own)
    if not np.isfinite(values).all() or not values.std() > 0:
        return
    target = np.exp(values) if product else values
    part = problem.without(others).with_target(target, lambda e: e)
    formulas = _formulas(part, BudgetedFront(front, 0.3))
    for formula in formulas[: tuned.PARTS] if len(parts) == 2 else formulas[:1]:
        made = front.whole.values(formula)
        with np.errstate(all="ignore"):
            left = problem.target / made if product else problem.target - made
        if not np.isfinite(left).all() or not left.std() > 0 or front.done:
            continue
        both: Callable[[Expr, Expr], Expr] = operator.mul if product else operator.add
        rest = problem.with_target(left, partial(both, formula)).without(own)
        if len(parts) > 2:
            fewer = _without(surface, problem, own, parts)
            _solve_parts(rest, *fewer, BudgetedFront(front, 0.5), product=product)
        search(rest, BudgetedFront(front, 0.5), depth=1)


def part_of(surface: Surface, columns: Array, own: set[int]) -> Array:
    """Return the partial dependence of a function on some columns."""
    others = ~np.isin(np.arange(columns.shape[1]), list(own))
    rows = columns[spread_rows(len(columns), tuned.REFERENCES)]
    return np.asarray(np.mean([surface(np.where(others, row, columns)) for row in rows], axis=0))


def _without(
    surface: Surface, problem: SearchProblem, own: set[int], parts: list[set[int]]
) -> tuple[Surface, list[set[int]]]:
    """Return a function of the columns that are left, and its parts."""
    kept = [i for i in range(problem.width) if i not in own]
    fixed = problem.columns[len(problem.columns) // 2]

    def narrower(columns: Array) -> Array:
        whole = np.tile(fixed, (len(columns), 1))
        whole[:, kept] = columns
        return surface(whole)

    return narrower, [{kept.index(i) for i in part} for part in parts[1:]]


def _formulas(part: SearchProblem, front: BudgetedFront) -> list[Expr]:
    """Return formulas of a part of a problem, the best first."""
    whole = front.whole
    scale = scale_of(whole.x, part.target)
    own = Front(replace(whole.problem, target=part.target, scale=scale), front.deadline)
    own.start()
    search(part, own, depth=1)
    chosen = own.chosen()
    others = sorted((e for e in own.entries if e is not chosen), key=lambda entry: entry.error)
    return [e.expression for e in [chosen, *others] if e.expression.free_symbols]
