"""Order of the ansatzes and recursion into simpler problems.

Slopes of a trained network show which columns enter through one function h(a, b) only, as in AI
Feynman [1]_: the ratio of the slopes by a and b is then that of h.

References
----------
.. [1] S.-M. Udrescu et al., AI Feynman 2.0: Pareto-optimal symbolic regression exploiting graph
   modularity, NeurIPS 2020.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import sympy
import torch

from kanlens._runtime import check_time
from kanlens.discovery import _additive as additive
from kanlens.discovery import _monomial_invariance as invariance
from kanlens.discovery import _search_problem as search_problem
from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import CURVE, Ansatz, LinearModel, PowerLaw, submit_all
from kanlens.discovery._blocks import SumOfBlocks
from kanlens.discovery._monomial_invariance import Slopes
from kanlens.discovery._monomials import MonomialSum, PolynomialRatio
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import Array, away, relative_error
from kanlens.discovery._search_problem import PAIRS, SearchProblem
from kanlens.errors import KanlensError
from kanlens.model import kernels
from kanlens.model._network import KAN
from kanlens.training._options import FitOptions
from kanlens.training._training_loop import TrainingRun

Form = Callable[[Any, Any], Any]
_WITH_SQUARE: tuple[Form, ...] = (
    *(lambda a, b: a + b**2, lambda a, b: a**2 + b),
    *(lambda a, b: a - b**2, lambda a, b: a**2 - b),
)
_ADDITIVE, _ROUGHLY = additive.AdditiveModel(near=True), additive.AdditiveModel(near=False)
_MONOMIALS, _SEPARABLE = MonomialSum(), additive.SeparableProduct()
_RATIO, _BLOCKS = PolynomialRatio(), SumOfBlocks()
_ANGLES = tuned.ANGLES_OF_TARGET
AT_ONCE = (LinearModel(), PowerLaw(("id", "log", *_ANGLES)))
_CHEAP: tuple[Ansatz, ...] = (_ADDITIVE, _MONOMIALS, CURVE, _SEPARABLE)
_LAST: tuple[Ansatz, ...] = (additive.DictionarySum(), additive.ProductWithCombination())
# for few columns and for many: before the search for functions of a sum, after it but before
# columns are left out, and after that
OF_FEW = ((*_CHEAP, _RATIO), (_ROUGHLY, _BLOCKS), _LAST)
OF_MANY = (_CHEAP, (_ROUGHLY,), (_RATIO, _BLOCKS, *_LAST))


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
    by_slopes = 1 < problem.width <= tuned.MAX_SLOPE_COLUMNS
    before, early, late = OF_FEW if problem.width <= tuned.FEW_COLUMNS else OF_MANY
    yield from (partial(ansatz.submit, problem, front) for ansatz in AT_ONCE)
    if by_slopes:
        yield partial(_by_slopes, problem, front, depth)
    yield from (partial(ansatz.submit, problem, front) for ansatz in before)
    if by_slopes:
        yield partial(_nested, problem, front)
    yield from (partial(ansatz.submit, problem, front) for ansatz in early)
    if problem.width > 1:  # without columns that are factors or uninformative
        reduced = search_problem.remove_power_factors(problem, front.deadline)
        if reduced.width < problem.width:
            yield partial(search, reduced, front, depth=depth)
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


@dataclass(frozen=True, eq=False)
class Interpolator:
    """A network trained on the fitted rows of a problem."""

    problem: SearchProblem
    network: KAN

    @classmethod
    def of(cls, problem: SearchProblem) -> Interpolator | None:
        """Train a network; None if it fails, or there are too few rows."""
        if problem.count < tuned.NETWORK_ROWS:
            return None
        generator = torch.Generator()
        # straight beyond the data, where slopes are asked for too
        options: dict[str, Any] = {"grid_size": tuned.GRID, "extrapolation": "linear"}
        network = KAN([problem.width, tuned.HIDDEN, 1], generator=generator, **options).double()
        x, y = problem.columns[problem.fitted], problem.target[problem.fitted, None]
        plan = FitOptions(steps=tuned.TRAINING_STEPS, patience=tuned.PATIENCE, grid_updates=3)
        run = TrainingRun(network, plan, torch.from_numpy(x), torch.from_numpy(y), generator)
        try:
            run.begin()
            run.train(lambda *_, **__: check_time())
        except KanlensError:
            return None
        return cls(problem, network)

    @cached_property
    def error(self) -> float:
        """Relative squared error on the validation rows."""
        rows = self.problem.judged
        with torch.no_grad():
            values = self.network(torch.from_numpy(self.problem.columns[rows]))[:, 0].numpy()
        return relative_error(values, self.problem.target[rows])

    @property
    def slopes(self) -> Array:
        """The derivatives (row, feature)."""
        inputs = torch.from_numpy(self.problem.columns).requires_grad_()
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(self.network(inputs).sum(), inputs)
        return np.asarray(slopes.numpy())

    def simpler(self) -> Interpolator | None:
        """Return a network with one column less and about the same error, if any."""
        best, limit = None, tuned.ABOUT_AS_WELL * self.error
        for trial in unions(self.problem, self.slopes, self.error)[: tuned.UNIONS_TRIED]:
            network = Interpolator.of(trial)
            if network is not None and network.error <= limit:
                best, limit = network, network.error
                if limit <= tuned.AS_WELL * self.error:
                    break
        return best


def joined_gap(slopes: tuple[Array, Array], of: tuple[Array, Array]) -> float:
    """Return the mismatch, 0 to 1, between the ratio of `slopes` and that of a combination."""
    with np.errstate(all="ignore"):
        left, right = slopes[0] * of[1], slopes[1] * of[0]
        total = np.mean(np.square(left) + np.square(right))
        gap = float(np.mean(np.square(left - right)) / (2 * total)) if total > 0 else 1.0
    return gap if np.isfinite(gap) else 1.0


def unions(problem: SearchProblem, slopes: Array, error: float) -> list[SearchProblem]:
    """Return problems with a combination of two columns that fits the slopes, best first."""
    rows, step = _inside(problem.columns), 1e-30j  # of derivatives along the imaginary axis
    limit = min(tuned.JOINED * error, tuned.LOOSE)
    candidates = []
    for i, j in itertools.combinations(range(problem.width), 2):
        ours, pair = (slopes[rows, i], slopes[rows, j]), (problem.names[i], problem.names[j])
        x, y = problem.columns[:, i], problem.columns[:, j]
        for form in _forms(x, y, rows, ours):
            values, moved = form(x, y), (form(x + step, y), form(x, y + step))
            of = (moved[0].imag[rows] / step.imag, moved[1].imag[rows] / step.imag)
            gap = joined_gap(ours, of)
            if gap < limit and np.isfinite(values).all():
                candidates.append((gap, problem.joined(i, j, values, form(*pair))))
    return [trial for _, trial in sorted(candidates, key=lambda pair: pair[0])]


def _forms(x: Array, y: Array, rows: Array, slopes: tuple[Array, Array]) -> list[Form]:
    """Return combinations of two columns that can be computed on all rows."""
    forms: list[Form] = [*PAIRS, *_WITH_SQUARE]
    if away(y) or away(x):
        forms.append((lambda a, b: a / b) if away(y) else (lambda a, b: b / a))
    weight = _ratio(*slopes)
    if 0.05 < abs(weight) < 20 and abs(abs(weight) - 1) > tuned.ROUND:
        forms.append(lambda a, b: weight * a + b)
    exponent = _ratio(x[rows] * slopes[0], y[rows] * slopes[1])
    half = round(2 * exponent) / 2 if abs(exponent) < tuned.HIGHEST_FACTOR + 0.25 else 0.0
    near = abs(exponent - half) < tuned.ROUND * abs(half)
    if near and abs(half) != 1.0 and away(x) and x.min() > 0:
        power = sympy.Rational(half)
        forms.append(lambda a, b: a ** (half if isinstance(a, np.ndarray) else power) * b)
    return forms


def _ratio(first: Array, second: Array) -> float:
    """Return the ratio of the root mean squares of two arrays, with a sign."""
    with np.errstate(all="ignore"):
        size = float(np.sqrt(np.mean(np.square(first)) / np.mean(np.square(second))))
    return size * float(np.sign(np.mean(first * second)))


def _inside(columns: Array) -> Array:
    """Return the mask of rows that are not at the end of any column's range."""
    low, high = np.quantile(columns, (tuned.UNTRUSTED, 1 - tuned.UNTRUSTED), axis=0)
    rows = ((columns >= low) & (columns <= high)).all(axis=1)
    return rows if rows.sum() > len(columns) // 4 else np.ones(len(columns), dtype=bool)
