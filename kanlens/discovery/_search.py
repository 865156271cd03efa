"""Order of the ansatzes and recursion into simpler problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, reduce

import numpy as np
import torch

from kanlens.discovery import _settings as tuned
from kanlens.discovery._additive import AdditiveModel, SeparableProduct, functions_of_sum
from kanlens.discovery._ansatz import Ansatz, LinearModel, PowerLaw, submit_all
from kanlens.discovery._bilinear import ProductWithCombination
from kanlens.discovery._blocks import SumOfBlocks
from kanlens.discovery._monomial_invariance import (
    Slopes,
    error_of_y,
    few_monomials,
    inverted,
    smooth_model,
    sum_of_splines,
)
from kanlens.discovery._monomials import MonomialSum, PolynomialRatio
from kanlens.discovery._network_ansatz import Interpolator, interpolator, network_formulas
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import relative_error
from kanlens.discovery._search_problem import (
    SearchProblem,
    best_loo_error,
    divided,
    paired,
    remove_factors_to_noise,
    remove_power_factors,
)
from kanlens.discovery._search_schedule import BudgetedFront, Deferred, PriorityFront
from kanlens.discovery._smoothness import is_noise
from kanlens.discovery._sparse import DictionarySum, SparseSum
from kanlens.discovery._symmetry import disjoint, factors, needless, unions
from kanlens.discovery._univariate import CURVE
from kanlens.model import kernels
from kanlens.symbolic._simplification import count_numbers

_ADDITIVE, _ROUGHLY = AdditiveModel(near=True), AdditiveModel(near=False)
_MONOMIALS, _SEPARABLE = MonomialSum(), SeparableProduct()
_SPARSE_OF_TWO = SparseSum(replace(tuned.SPARSE, widest=2))  # which take a fraction of the time
_SPARSE = SparseSum(replace(tuned.SPARSE, narrowest=3))
_RATIO, _BLOCKS = PolynomialRatio(), SumOfBlocks()
_ANGLES = tuned.ANGLES_OF_TARGET
AT_ONCE = (LinearModel(), PowerLaw(("id", "log", *_ANGLES)))
_CHEAP: tuple[Ansatz, ...] = (_ADDITIVE, _MONOMIALS, CURVE, _SEPARABLE, _SPARSE_OF_TWO)
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
    """Submit formulas of a problem and of simpler ones.

    Deferred work is run between two steps, once it is due.
    """
    if not front.whole.is_new(*problem.key):
        return
    queue = front if isinstance(front, PriorityFront) else PriorityFront(front, deferred)
    for step in _steps(problem, queue, depth):
        if queue.deferred:
            queue.deferred.run_if_due(queue)
        if queue.done:
            return
        step()
        queue.refit(tuned.REFITTED)
    if queue is not front:
        queue.refit()


def _steps(
    problem: SearchProblem, front: BudgetedFront, depth: int
) -> Iterator[Callable[[], object]]:
    shallow = problem.width <= tuned.MAX_UNDIVIDED_COLUMNS or depth >= tuned.DEPTH - 1
    by_slopes = 1 < problem.width <= tuned.MAX_SLOPE_COLUMNS
    before, early, late = OF_FEW if problem.width <= tuned.FEW_COLUMNS else OF_MANY
    yield from (partial(ansatz.submit, problem, front) for ansatz in AT_ONCE)
    if by_slopes:
        yield partial(_by_slopes, problem, front, depth)
    able = (ansatz for ansatz in before if shallow or not ansatz.costly)
    yield from (partial(ansatz.submit, problem, front) for ansatz in able)
    if by_slopes:
        yield partial(_nested, problem, front)
    yield from (partial(ansatz.submit, problem, front) for ansatz in early)
    if problem.width > 1:  # without columns that are factors or say nothing
        reduced = remove_power_factors(problem, front.deadline)
        if reduced.width < problem.width:
            yield partial(search, reduced, front, depth=depth)
        quieter = remove_factors_to_noise(problem, front.deadline)
        if quieter.width < problem.width and quieter.key != reduced.key:
            yield partial(search, quieter, front, depth=depth)
    yield from (partial(ansatz.submit, problem, front) for ansatz in late)
    if depth > 0 and problem.width > 1:
        level = best_loo_error(problem)
        for error, merged in paired(problem, front.deadline)[: tuned.BRANCHES]:
            if error < max(2 * level, tuned.NO_LOO_ERROR):
                yield partial(search, merged, front, depth=depth - 1)


def _by_slopes(problem: SearchProblem, front: BudgetedFront, depth: int) -> None:
    """Search a function of the few monomials that slopes show."""
    level, fewer = tuned.SPAN_GAIN * error_of_y(problem), problem
    for trial in few_monomials(problem, Slopes.of(problem)):
        own, now = smooth_model(trial)[0], error_of_y(trial)
        if own < tuned.SPANNED or (own < tuned.LOST_SPAN and now < level):
            level, fewer = now, trial
        if own < tuned.SPANNED:
            break
    if fewer is not problem:
        for view in (fewer, *inverted(fewer)):
            CURVE.submit(view, front)
        if not front.done:
            search(fewer, front, depth=depth)


def _nested(problem: SearchProblem, front: BudgetedFront) -> None:
    """Submit functions of a sum of functions that slopes show."""
    total = sum_of_splines(problem, Slopes.of(problem))
    if total.error < tuned.SUM_ERROR and not front.done:
        submit_all(functions_of_sum(problem, total, front), front)


def explore(problem: SearchProblem, front: BudgetedFront, generator: torch.Generator) -> None:
    """Submit formulas by trained networks, unless only noise is left."""
    if front.deadline.left < tuned.MIN_NETWORK_TIME:
        return
    with kernels.use_within(front.deadline.left):
        first = interpolator(problem, BudgetedFront(front, 0.3).deadline, generator)
        if first is None or front.done or _nothing_left(front, first.error):
            return
        rough = first.error > tuned.NETWORK_ERROR
        if rough:
            network_formulas(problem, BudgetedFront(front, 0.85), first.view, generator)
        levels, simpler = [first], BudgetedFront(front, 0.3 if rough else 0.6)
        while (network := _simpler(levels[-1], simpler, generator)) is not None:
            levels.append(network)
        for level in reversed(levels[1:]):
            search(level.problem, BudgetedFront(front, 0.4), depth=1)
        if len(levels) > 1:
            last = levels[-1]
            network_formulas(last.problem, BudgetedFront(front, 0.5), last.view, generator)
        network_formulas(problem, front, first.view, generator)


def _nothing_left(front: BudgetedFront, error: float) -> bool:
    """Return whether a formula with at most one number leaves only noise."""
    whole, best = front.whole, front.whole.chosen()
    values = whole.values(best.expression)
    simple = count_numbers(best.expression) <= 1 and error > tuned.KNOWS_MORE * best.error
    return simple and is_noise(whole.x, whole.scale(values), whole.scale(whole.y))


def _simpler(
    level: Interpolator, front: BudgetedFront, generator: torch.Generator
) -> Interpolator | None:
    """Return the network of a simpler problem with about the same error."""
    best: tuple[float, Interpolator] | None = None
    about = tuned.ABOUT_AS_WELL if level.error < tuned.NETWORK_ERROR else tuned.AS_WELL
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
    candidates = unions(problem, slopes, error)
    chosen = disjoint(candidates)
    if len(chosen) > 1:
        trials.append(reduce(lambda merged, union: union.reduced(merged), chosen, problem))
    return trials + [union.reduced(problem) for union in candidates[: tuned.UNIONS_TRIED]]
