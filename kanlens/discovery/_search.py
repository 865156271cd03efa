"""The search: ansatzes in order, and recursion into simpler problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from kanlens.discovery import _additive as additive
from kanlens.discovery import _monomial_invariance as invariance
from kanlens.discovery import _search_problem as search_problem
from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import Ansatz, LinearModel, PowerLaw, submit_all
from kanlens.discovery._blocks import SumOfBlocks
from kanlens.discovery._monomial_invariance import Slopes
from kanlens.discovery._monomials import MonomialSum, PolynomialRatio
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._sparse import DictionarySum, SparseSum
from kanlens.discovery._symmetry import Interpolator
from kanlens.discovery._univariate import CURVE
from kanlens.model import kernels

_ADDITIVE, _ROUGHLY = additive.AdditiveModel(near=True), additive.AdditiveModel(near=False)
_MONOMIALS, _SEPARABLE = MonomialSum(), additive.SeparableProduct()
_SPARSE_OF_TWO = SparseSum(replace(tuned.SPARSE, widest=2))  # which take a fraction of the time
_SPARSE = SparseSum(replace(tuned.SPARSE, narrowest=3))
_RATIO, _BLOCKS = PolynomialRatio(), SumOfBlocks()
_ANGLES = tuned.ANGLES_OF_TARGET
AT_ONCE = (LinearModel(), PowerLaw(("id", "log", *_ANGLES)))
_CHEAP: tuple[Ansatz, ...] = (_ADDITIVE, _MONOMIALS, CURVE, _SEPARABLE, _SPARSE_OF_TWO)
_LAST: tuple[Ansatz, ...] = (DictionarySum(), additive.ProductWithCombination())
# of problems of few columns and of many: before functions of a sum are looked for, before columns
# are left out, and after that
OF_FEW = ((*_CHEAP, _RATIO, _SPARSE), (_ROUGHLY, _BLOCKS), _LAST)
OF_MANY = ((*_CHEAP, _SPARSE), (_ROUGHLY,), (_RATIO, _BLOCKS, *_LAST))


def search(problem: SearchProblem, front: Front, *, depth: int = tuned.DEPTH) -> None:
    """Submit formulas of a problem and of simpler ones."""
    if not front.is_new(*problem.key):
        return
    for step in _steps(problem, front, depth):
        if front.done:
            return
        step()
        front.refit(tuned.REFITTED)


def _steps(problem: SearchProblem, front: Front, depth: int) -> Iterator[Callable[[], object]]:
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
        reduced = search_problem.remove_power_factors(problem, front.deadline)
        if reduced.width < problem.width:
            yield partial(search, reduced, front, depth=depth)
        quieter = search_problem.remove_factors_to_noise(problem, front.deadline)
        if quieter.width < problem.width and quieter.key != reduced.key:
            yield partial(search, quieter, front, depth=depth)
    yield from (partial(ansatz.submit, problem, front) for ansatz in late)
    if problem is front.problem:
        yield partial(explore, problem, front)
    if depth > 0 and problem.width > 1:
        level = search_problem.best_loo_error(problem)
        for error, merged in search_problem.paired(problem, front.deadline)[: tuned.BRANCHES]:
            if error < max(2 * level, tuned.NO_LOO_ERROR):
                yield partial(search, merged, front, depth=depth - 1)


def _by_slopes(problem: SearchProblem, front: Front, depth: int) -> None:
    """Search for a function of few monomials, which slopes of a smooth model reveal."""
    level, fewer = tuned.SPAN_GAIN * invariance.error_of_y(problem), problem
    for trial in invariance.few_monomials(problem, Slopes.of(problem)):
        own, now = invariance.smooth_model(trial)[0], invariance.error_of_y(trial)
        if own < tuned.SPANNED or (own < tuned.LOST_SPAN and now < level):
            level, fewer = now, trial
        if own < tuned.SPANNED:
            break
    if fewer is not problem:
        CURVE.submit(fewer, front)
        if fewer.width == 1 and fewer.positive.all():
            CURVE.submit(fewer.onto(1 / fewer.columns[:, 0], 1 / fewer.names[0]), front)
        if not front.done:
            search(fewer, front, depth=depth)


def _nested(problem: SearchProblem, front: Front) -> None:
    """Submit functions of a sum of functions, which slopes reveal."""
    total = invariance.sum_of_splines(problem, Slopes.of(problem))
    if total.error < tuned.SUM_ERROR and not front.done:
        submit_all(additive.functions_of_sum(problem, total, front), front)


def explore(problem: SearchProblem, front: Front) -> None:
    """Search problems of fewer columns, which slopes of trained networks reveal."""
    levels: list[Interpolator] = []
    with kernels.use_within(front.deadline.left):
        network = None if front.done or problem.width < 2 else Interpolator.of(problem)
        while network is not None:
            levels.append(network)
            network = network.simpler()
    for level in reversed(levels[1:]):
        search(level.problem, front, depth=1)
