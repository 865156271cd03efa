"""Pareto front of formulas, refitted and with exact constants."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens._runtime import Deadline
from kanlens.discovery import _settings as tuned
from kanlens.discovery._regression import Array, decades, relative_error
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._smoothness import exceptions, is_noise
from kanlens.symbolic._composition import Expr, evaluator
from kanlens.symbolic._pareto_front import READABLE, front
from kanlens.symbolic._rewriting import even_ratios, joined, thinner, varying_powers, without_dust
from kanlens.symbolic._simplification import (
    can_refine,
    complexity,
    count_numbers,
    refine,
    shorten,
    snap,
)


@dataclass(frozen=True, eq=False)
class Entry:
    """One formula, in the scaled symbols of the table, with its errors."""

    expression: Expr
    error: float  # on the held-out rows
    complexity: int
    snapped: tuple[str, ...] = ()
    overall: float = math.nan  # on all rows; NaN if not known

    @property
    def length(self) -> int:
        """Number of nodes of the formula; a fitted constant counts as several."""
        return self.complexity + tuned.NUMBER * count_numbers(self.expression)

    @property
    def is_short(self) -> bool:
        """True for few enough nodes and terms to be readable."""
        terms = 1 + sum(len(total.args) - 1 for total in self.expression.atoms(sympy.Add))
        return terms <= tuned.MAX_TERMS and self.complexity <= READABLE

    @property
    def constants(self) -> tuple[str, ...]:
        """The exact constants in the formula, of those that replaced fitted ones."""
        nodes = list(sympy.preorder_traversal(self.expression))
        factors = [n.as_independent(*n.free_symbols, as_Add=False)[0] for n in nodes if n.is_Mul]
        shown = {str(n) for n in (*(f for f in factors if f != 1), *nodes) if n.is_number}
        return tuple(text for text in self.snapped if text in shown)


def count_free(expression: Expr) -> float:
    """Count the fitted constants; a fraction of large numbers counts one half."""
    return count_numbers(expression) + sum(d > tuned.ODD for d in _digits(expression)) / 2


def _digits(expression: Expr) -> list[float]:
    """Return log(numerator * denominator) of every fraction."""
    nodes = sympy.preorder_traversal(expression)
    return [math.log((1 + abs(int(n.p))) * int(n.q)) for n in nodes if n.is_Rational]


def _unsound(expression: Expr) -> bool:
    """Return whether an expression is undefined somewhere, or far too long."""
    undefined = expression.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo, sympy.I)
    return bool(undefined or len(expression.args) > tuned.MAX_ARGUMENTS)


def _extreme(expression: Expr, largest: float) -> bool:
    """Return whether a constant is so large or small that the form must be wrong."""
    numbers = expression.atoms(sympy.Float, sympy.Rational)
    sizes = [abs(float(number)) for number in numbers if number and number.is_finite]
    return any(not 1 / largest < size < largest for size in sizes)


def _pareto(entries: list[Entry]) -> list[Entry]:
    """Return the Pareto front of error, number of nodes and number of constants."""
    ranks = [
        (max(e.error, tuned.EXACT), e.complexity, count_numbers(e.expression)) for e in entries
    ]

    def dominated(k: int) -> bool:
        return any(
            all(a <= b for a, b in zip(rank, ranks[k], strict=True)) and (rank != ranks[k] or j < k)
            for j, rank in enumerate(ranks)
        )

    return [entry for k, entry in enumerate(entries) if not dominated(k)]


class Front:
    """Pareto front of the formulas of a problem, and when its search ends."""

    def __init__(
        self,
        problem: SearchProblem,
        deadline: Deadline,
        *,
        exact: float = tuned.EXACT,
        in_units: Callable[[Expr], Expr] = lambda e: e,
        advance: Callable[..., None] = lambda *_, **__: None,  # moves a bar by seconds
    ) -> None:
        self.exact, self.problem, self.fitted = exact, problem, problem.fitted
        self.symbols, self.x, self.y = problem.names, problem.columns, problem.target
        self.scale, self.in_units, self._advance = problem.scale, in_units, advance
        low, high = decades(self.x)
        self._wide = bool(self.scale.unit) or bool(np.any(high - low > tuned.DECADES))
        held_out = self.y[problem.held_out]
        varied = len(held_out) > 0 and bool(np.ptp(held_out) > 0)
        self.judged = problem.held_out if varied else np.ones(len(self.y), dtype=bool)
        self._shown = self._whole = deadline.left
        self._enough = math.inf  # seconds of the search after which a formula is good enough
        self._mean_error = math.inf
        self._probed: set[Expr] = set()
        self._near: list[Entry] = []  # formulas whose errors differ from the best by noise only
        self.deadline = deadline
        self.entries: list[Entry] = []
        # (row,): mask of outliers of a formula that fits the rest; the search restarts without them
        self.outlier_rows: Array | None = None
        self._seen: set[Expr] = set()
        self._tried: set[tuple[Expr, ...]] = set()
        self._queue: list[tuple[float, int, Expr]] = []  # by errors of unchanged formulas
        self._count = itertools.count()  # breaks ties by order

    @property
    def best_error(self) -> float:
        """Least error so far."""
        return min((entry.error for entry in self.entries), default=math.inf)

    @property
    def done(self) -> bool:
        """True if the search may end."""
        return self.deadline.passed or self.converged or self.outlier_rows is not None

    @property
    def converged(self) -> bool:
        """True if a formula leaves only noise, and none better was found for a while."""
        return self._spent >= self._enough

    @property
    def _spent(self) -> float:
        return self._whole - self.deadline.left

    def is_new(self, *key: Expr) -> bool:
        """Return whether a task is new, and remember it."""
        count = len(self._tried)
        self._tried.add(key)
        return len(self._tried) > count

    def offer(self, expression: Expr) -> None:
        """Submit an accurate formula; queue a less accurate one."""
        error = math.inf if _unsound(expression) else self._error(expression)
        if error < tuned.REFIT_NOW_ERROR:
            self.submit(expression)
        elif error < tuned.MAX_START_ERROR:
            heapq.heappush(self._queue, (error, next(self._count), expression))

    def refit(self, count: int | None = None) -> None:
        """Submit `count` formulas of the queue, by default all."""
        for _ in range(len(self._queue) if count is None else min(count, len(self._queue))):
            if self.done:
                return
            self.submit(heapq.heappop(self._queue)[-1])

    def submit(self, expression: Expr) -> None:
        """Refit a formula and keep it if no simpler one is as good."""
        steps = int(self._shown - self.deadline.left)
        if steps > 0:
            self._shown -= steps
            self._advance(steps, note=f"error {self.best_error:.1e}")
        if self.done or expression in self._seen or _unsound(expression):
            return
        self._seen.add(expression)
        start = self._entry(expression)
        if not start.error < max(tuned.MAX_START_ERROR, 2 * self.best_error):
            return
        simpler = (e for e in self.entries if e.complexity <= start.complexity)
        far = any(e.error < start.error / tuned.MAX_START_RATIO for e in simpler)
        if start.error > tuned.REFIT_ALL_ERROR and far:
            return
        short = can_refine(expression) and start.complexity <= tuned.MAX_REFIT_NODES
        if short and start.error > self.exact / 100:
            expression = self._refined(expression, self.fitted)
        entry, exact = self._entry(expression), max(tuned.NOISELESS, self.exact)
        if entry.error < exact:
            plain = self._entry(without_dust(expression, tuned.COEFFICIENT_EPS))
            entry = plain if plain.error <= max(2 * entry.error, self.exact) else entry
        self._keep(entry)
        similar = entry.overall < tuned.SIMILAR * self.chosen().overall
        if similar and entry.complexity <= tuned.MAX_THINNED_NODES:
            self._near = sorted((*self._near, entry), key=self._promise)[: tuned.NOTED]
        if entry.error < exact:
            self._put_exactly(entry)
        elif entry in self.entries:
            self._probe(entry)

    def _put_exactly(self, entry: Entry) -> None:
        """Simplify an exact formula; if it has few constants, the search ends."""
        limit = max(2 * entry.error, self.exact)
        lean = self._lean(entry.expression, limit)
        self._keep(self._entry(lean))
        snapped = self._snap(even_ratios(lean), entry.error)
        if snapped is None or snapped.error > limit or count_numbers(snapped.expression):
            short = self._shortened(even_ratios(lean))
            if self._error(short) <= limit:
                lean = self._lean(short, limit)
                self._keep(self._entry(lean))
            self._snap(lean, entry.error)
        if self.best_error <= self.exact:
            numbers = min(count_free(e.expression) for e in self.entries if e.error <= self.exact)
            enough = len(np.unique(self.x, axis=0)) / tuned.ROWS_EACH
            self._settle(0.0 if numbers <= min(tuned.MAX_EXACT_NUMBERS, enough) else numbers)

    def _lean(self, expression: Expr, limit: float) -> Expr:
        """Drop parts one by one while the error stays within a limit."""
        for shorter in thinner(expression):
            if self._error(shorter) <= limit:
                return self._lean(shorter, limit)
        return expression

    def chosen(self) -> Entry:
        """Return the formula with the best balance of error and length."""
        levels = [max(entry.error, self.exact) for entry in self.entries]
        worst = max(self._mean_error, min(levels))
        able = front([entry.length for entry in self.entries], levels)
        good = [self.entries[k] for k in able if levels[k] <= worst]
        candidates = [e for e in good if e.error <= self.exact or e.is_short] or good
        factor = max(tuned.MAX_ERROR_RATIO[0], math.exp(tuned.MAX_ERROR_RATIO[1] / len(self.y)))
        limit = factor * max(self.exact, min(map(self._unexplained, candidates)))
        best = min((e for e in candidates if self._unexplained(e) <= limit), key=self._cost)
        if best.expression.free_symbols:
            return best
        informative = []  # formulas that explain the logarithm of a target of one sign
        for entry in (e for e in self.entries if self.problem.one_sign and e.is_short):
            with np.errstate(all="ignore"):
                size = np.log(self.values(entry.expression) / np.sign(self.y))
            if relative_error(size, np.log(np.abs(self.y))) <= tuned.HALF:
                informative.append(entry)
        return min(informative, key=self._cost, default=best)

    def _unexplained(self, entry: Entry) -> float:
        """Return the error on all rows, or on validation rows if it is far larger there."""
        overall = entry.error if math.isnan(entry.overall) else entry.overall
        return max(overall, entry.error / tuned.UNSURE)

    def _cost(self, entry: Entry) -> float:
        error = max(self._unexplained(entry), self.exact / 100)
        price = tuned.NODE * entry.length + tuned.DIGITS * sum(_digits(entry.expression))
        return len(self.y) * math.log(error) + price

    def _promise(self, entry: Entry) -> float:
        """Return the cost that a formula would have if most of its constants were exact."""
        saved = tuned.NODE * tuned.NUMBER * count_numbers(entry.expression)
        return self._cost(entry) - tuned.SNAP_FRACTION * saved

    def start(self, formulas: Iterable[Expr] = ()) -> None:
        """Add the mean, which always stays, and some formulas without a refit."""
        mean = self._entry(sympy.Float(float(self.y[self.fitted].mean())))
        self._mean_error = mean.error
        for entry in (mean, *map(self._entry, formulas)):
            self._keep(entry)

    def finish(self, deadline: Deadline, short: Iterable[Expr]) -> None:
        """Refit short formulas and polish the best, while there is time."""
        for expression in short:
            if deadline.passed:
                break
            self._keep(self._entry(self._refined(expression, self.fitted)))
        first = sorted(self.entries, key=self._cost)[: tuned.POLISHED]
        near = [e for e in self._near if e.overall < tuned.SIMILAR * self.chosen().overall]
        for entry in dict.fromkeys((*first[:1], *sorted(near, key=self._promise), *first)):
            if deadline.passed:
                return
            if entry.error > self.exact:
                self._polish(entry, deadline)
            else:
                self._put_exactly(entry)

    def _probe(self, entry: Entry) -> None:
        """Record the outliers of an entry, or polish it if it is the best and leaves only noise."""
        outliers = self.exceptions(entry)
        if outliers.any():
            self.outlier_rows = outliers
        elif entry.expression not in self._probed and entry is self.chosen():
            self._probed.add(entry.expression)
            if is_noise(self.x, self.scale(self.values(entry.expression)), self.scale(self.y)):
                self._settle(count_free(self._polish(entry, self.deadline).expression))

    def exceptions(self, entry: Entry) -> Array:
        """Return the few outlier rows of a formula that otherwise leaves only noise."""
        values = self.scale(self.values(entry.expression))
        return exceptions(self.x, values, self.scale(self.y), self.exact)

    def _settle(self, numbers: float) -> None:
        """Set how long to wait for a better formula: longer for more `numbers` in this one."""
        wait = numbers * (tuned.REFIT_LIMITS[0] + tuned.REFIT_LIMITS[1] * self._spent)
        self._enough = min(self._enough, self._spent + wait)

    def _polish(self, entry: Entry, deadline: Deadline) -> Entry:
        """Drop needless parts of a formula, and replace constants by exact ones."""
        best = entry
        for step in (self._exact, self._thinned, self._exact):
            best = step(best, deadline)
        if best is not entry:
            self._keep(best)
        return best

    def _exact(self, entry: Entry, deadline: Deadline) -> Entry:
        """Replace constants by exact ones if that lowers the cost."""
        if not count_numbers(entry.expression) or deadline.passed:
            return entry
        snapped = self._snap(self._shortened(even_ratios(entry.expression)), entry.error)
        return snapped if snapped and self._cost(snapped) < self._cost(entry) else entry

    def _thinned(self, entry: Entry, deadline: Deadline) -> Entry:
        """Drop parts of a formula while that lowers the cost."""
        best = entry
        for _ in range(tuned.THIN_ROUNDS):
            numerous = count_numbers(best.expression) > tuned.NUMEROUS
            if best.complexity > tuned.MAX_THINNED_NODES or numerous:
                break
            before = best
            for shorter in thinner(before.expression):
                if deadline.passed:
                    return best
                if math.isfinite(self._error(shorter)):
                    numbers = count_numbers(shorter)
                    refitted = self._refined(shorter, slice(None)) if numbers else shorter
                    best = min(best, self._entry(refitted), key=self._cost)
            if best is before:
                break
        return best

    def _refined(self, expression: Expr, rows: Array | slice) -> Expr:
        """Refit the constants of a formula to some rows."""
        return refine(expression, self.symbols, self.x[rows], self.y[rows], self.scale).expression

    def _snap(self, expression: Expr, error: float) -> Entry | None:
        """Replace constants by exact ones; keep the result if the error or the cost allows it."""
        if not can_refine(expression) or complexity(expression) > tuned.MAX_REFIT_NODES:
            return None
        rows = self.fitted if error < tuned.NOISELESS else slice(None)
        result = snap(expression, self.symbols, self.x[rows], self.y[rows], scale=self.scale)
        entry = self._entry(self._shortened(result.expression), result.snapped)
        as_near = entry.error <= max(tuned.RISE * error, self.exact)
        if as_near or self._cost(entry) < self._cost(self._entry(expression)):
            self._keep(entry)
            return entry
        return None

    def _shortened(self, expression: Expr) -> Expr:
        short = shorten(expression, self.symbols, self.x)
        if varying_powers(short) and not varying_powers(expression):  # they soon overflow
            short = expression
        wider = joined(short)
        if complexity(wider) > complexity(short) + 1:
            return short
        return wider if self._error(wider) <= max(1.01 * self._error(short), self.exact) else short

    def values(self, expression: Expr) -> Array:
        """Return the values of a formula, (row,)."""
        return np.asarray(evaluator((expression,), self.symbols)(self.x)[:, 0])

    def _error(self, expression: Expr) -> float:
        return self._entry(expression).error

    def _entry(self, expression: Expr, snapped: tuple[str, ...] = ()) -> Entry:
        """Evaluate a formula."""
        values, error, overall = self.values(expression), math.inf, math.inf
        if np.isfinite(values).all():
            error = relative_error(values[self.judged], self.y[self.judged], self.scale)
            overall = relative_error(values, self.y, self.scale)
            error = max(error, overall) if error < tuned.NOISELESS else error
        return Entry(expression, error, complexity(expression), snapped, overall)

    def _keep(self, entry: Entry) -> None:
        """Add an entry and drop dominated ones."""
        wrong = not (self._wide or entry.error <= self.exact) and (
            _extreme(entry.expression, tuned.LARGEST_FACTOR)
            or _extreme(self.in_units(entry.expression), tuned.LARGEST_IN_UNITS)
        )
        if math.isfinite(entry.error) and not wrong:
            self.entries = _pareto([*self.entries, entry])
