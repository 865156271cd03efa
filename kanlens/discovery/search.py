"""Order of the ansatzes, and recursion into simpler problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from kanlens.discovery import settings as tuned
from kanlens.discovery.additive import AdditiveModel, OuterFunction, SeparableProduct
from kanlens.discovery.ansatz import Ansatz, LinearModel, PowerLaw, Through
from kanlens.discovery.front import Front
from kanlens.discovery.index_model import (
    MonomialsTimesIndex,
    PowersTimesIndex,
    ProductWithCombination,
)
from kanlens.discovery.monomials import MonomialSum, PolynomialRatio, WaveRatio
from kanlens.discovery.problems import (
    SearchProblem,
    best_loo_error,
    divided,
    paired,
    remove_factors_to_noise,
    remove_power_factors,
    rounded_exponents,
)
from kanlens.discovery.sparse import DictionarySum, SparseSum
from kanlens.discovery.univariate import CURVE

POWER_LAW = PowerLaw()
_ADDITIVE, _MONOMIALS = AdditiveModel(), MonomialSum()
_SEPARABLE, _SPARSE = SeparableProduct(), SparseSum()
BEFORE: tuple[Ansatz, ...] = (  # a problem is made simpler
    LinearModel(),
    POWER_LAW,
    Through(POWER_LAW, ("log", *tuned.ANGLES_OF_TARGET)),
    _ADDITIVE,
    _MONOMIALS,
    CURVE,
    _SEPARABLE,
    Through(_SEPARABLE, tuned.ANGLES_OF_TARGET),
    _SPARSE,
)
AFTER: tuple[Ansatz, ...] = (
    DictionarySum(),
    OuterFunction(),
    PowersTimesIndex(),
    PolynomialRatio(),
    WaveRatio(),
    MonomialsTimesIndex(),
    ProductWithCombination(),
)


def search(problem: SearchProblem, front: Front, *, depth: int = tuned.DEPTH) -> None:
    """Offer formulas of a problem and of the simpler ones it leads to."""
    if not front.is_new(*problem.key):
        return
    for step in _steps(problem, front, depth):
        if front.done:
            return
        step()


def _steps(problem: SearchProblem, front: Front, depth: int) -> Iterator[Callable[[], object]]:
    shallow = problem.width <= tuned.NARROW or depth >= tuned.DEPTH - 1
    for ansatz in BEFORE:
        if shallow or not ansatz.costly:
            yield partial(ansatz.offer, problem, front)
    if problem.width > 1:
        reduced = remove_power_factors(problem, front.deadline)
        if reduced.width < problem.width:
            yield partial(search, reduced, front, depth=depth)
        quieter = remove_factors_to_noise(problem, front.deadline)
        if quieter.width < problem.width and quieter.key != reduced.key:
            yield partial(search, quieter, front, depth=depth)
        yield partial(_divided_formulas, problem, front, depth)
    for ansatz in AFTER:
        yield partial(ansatz.offer, problem, front)
    if depth > 0 and problem.width > 1:
        level = best_loo_error(problem)
        for error, merged in paired(problem, front.deadline)[: tuned.BRANCHES]:
            if error < max(2 * level, tuned.NO_LOO_ERROR):
                yield partial(search, merged, front, depth=depth - 1)


def _divided_formulas(problem: SearchProblem, front: Front, depth: int) -> None:
    """Divide by the powers that the target seems to hold, and keep all columns."""
    powers = rounded_exponents(problem)
    if np.any(powers):
        trial = divided(problem, powers, set())
        top = problem.width > tuned.NARROW and depth == tuned.DEPTH
        for ansatz in (_ADDITIVE, _MONOMIALS, *((_SPARSE,) if top else ())):
            ansatz.offer(trial, front)
