"""Pareto front of formulas: refitted, constants snapped, scored on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.problems import SearchProblem
from kanlens.discovery.regression import Array, decades, relative_error
from kanlens.discovery.smoothness import exceptions, is_noise
from kanlens.long_work import Deadline
from kanlens.symbolic.composition import Expr, evaluator
from kanlens.symbolic.front import READABLE, front
from kanlens.symbolic.rewriting import even_ratios, joined, thinner, varying_powers, without_dust
from kanlens.symbolic.simplification import (
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
    overall: float = math.nan  # on all rows; NaN where it is not known

    @property
    def length(self) -> int:
        """Nodes of the formula, an inexact number as several."""
        return self.complexity + tuned.NUMBER * count_numbers(self.expression)

    @property
    def is_short(self) -> bool:
        """Whether it holds few enough nodes and terms to tell a reader something."""
        terms = 1 + sum(len(each.args) - 1 for each in self.expression.atoms(sympy.Add))
        return terms <= tuned.MOST_TERMS and self.complexity <= READABLE

    @property
    def constants(self) -> tuple[str, ...]:
        """The exact constants put in that the formula as it is now written shows."""
        nodes = list(sympy.preorder_traversal(self.expression))
        factors = [n.as_independent(*n.free_symbols, as_Add=False)[0] for n in nodes if n.is_Mul]
        shown = {str(n) for n in (*(f for f in factors if f != 1), *nodes) if n.is_number}
        return tuple(text for text in self.snapped if text in shown)

    def beats(self, other: Entry, every: list[Entry]) -> bool:
        """Return whether this entry dominates another; ties go by order."""
        ours, theirs = (
            (max(e.error, tuned.EXACT), e.complexity, count_numbers(e.expression))
            for e in (self, other)
        )
        if ours == theirs:
            return every.index(self) < every.index(other)
        return all(a <= b for a, b in zip(ours, theirs, strict=True))


def count_free(expression: Expr) -> float:
    """Return how many numbers an expression holds that data had to tell, odd fractions by half."""
    odd = sum(1 for d in _digits(expression) if d > tuned.ODD)
    return count_numbers(expression) + odd / 2


def _digits(expression: Expr) -> list[float]:
    """Return the logarithms of numerator times denominator of all fractions."""
    nodes = sympy.preorder_traversal(expression)
    return [math.log((1 + abs(int(n.p))) * int(n.q)) for n in nodes if n.is_Rational]


def _unsound(expression: Expr) -> bool:
    """Say whether an expression is undefined somewhere, or far too long."""
    return bool(
        expression.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo, sympy.I)
        or len(expression.args) > tuned.MOST_ARGUMENTS
    )


def _extreme(expression: Expr, largest: float) -> bool:
    """Return whether a number is so large or small that the form is wrong."""
    numbers = expression.atoms(sympy.Float, sympy.Rational)
    sizes = [abs(float(number)) for number in numbers if number and number.is_finite]
    return any(not 1 / largest < size < largest for size in sizes)


class Front:
    """The formulas worth keeping of a problem, the whole one, and whether one of them is exact."""

    def __init__(
        self, problem: SearchProblem, deadline: Deadline, *, exact: float = tuned.EXACT
    ) -> None:
        self.exact, self.problem, self.fitted = exact, problem, problem.fitted
        self.symbols, self.x, self.y = problem.names, problem.columns, problem.target
        self.scale = problem.scale
        self.in_units: Callable[[Expr], Expr] = lambda e: e
        low, high = decades(self.x)
        self._wide = bool(self.scale.unit) or bool(np.any(high - low > tuned.DECADES))
        some = self.y[problem.held_out]
        telling = len(some) > 0 and bool(np.ptp(some) > 0)
        self.judged = problem.held_out if telling else np.ones(len(self.y), dtype=bool)
        self._advance: Callable[..., None] = lambda *_, **__: None
        self._shown = self._whole = deadline.left
        self._enough = math.inf  # seconds of the search after which a formula is good enough
        self._mean_error = math.inf
        self._probed: set[Expr] = set()
        self._near: list[Entry] = []  # formulas about as good as the best, were it not for noise
        self.deadline = deadline
        self.entries: list[Entry] = []
        # (row,): rows without which a formula leaves nothing; the search begins anew without them
        self.astray: Array | None = None
        self._seen: set[Expr] = set()
        self._tried: set[tuple[Expr, ...]] = set()

    @property
    def best_error(self) -> float:
        """Least error so far."""
        return min((entry.error for entry in self.entries), default=math.inf)

    @property
    def done(self) -> bool:
        """Whether the search may end: nothing is left to explain, or the time is over."""
        return self.deadline.passed or self.settled or self.astray is not None

    @property
    def settled(self) -> bool:
        """Whether what a formula leaves is nothing or noise, and no better one came in time."""
        return self._spent >= self._enough

    @property
    def _spent(self) -> float:
        return self._whole - self.deadline.left

    @property
    def pieces(self) -> int:
        """Number of pieces of work begun."""
        return len(self._tried)

    def is_new(self, *key: Expr) -> bool:
        """Say whether a piece of work comes for the first time, and remember it."""
        if key in self._tried:
            return False
        self._tried.add(key)
        return True

    def offer(self, expression: Expr) -> None:
        """Refit a formula and keep it if no simpler one is as good."""
        steps = int(self._shown - self.deadline.left)
        if steps > 0:
            self._shown -= steps
            self._advance(steps, note=f"error {self.best_error:.1e}")
        if self.done or expression in self._seen or _unsound(expression):
            return
        self._seen.add(expression)
        start = self._entry(expression)
        if not start.error < max(tuned.HOPELESS, 2 * self.best_error):
            return
        simpler = (e for e in self.entries if e.complexity <= start.complexity)
        far = any(e.error < start.error / tuned.FAR_START for e in simpler)
        if start.error > tuned.ROUGH_START and far:
            return
        short = can_refine(expression) and start.complexity <= tuned.LONG_FORMULA
        if short and start.error > self.exact / 100:
            expression = self._refined(expression, self.fitted)
        entry, exact = self._entry(expression), max(tuned.NOISELESS, self.exact)
        if entry.error < exact:
            plain = self._entry(without_dust(expression, tuned.DUST))
            entry = plain if plain.error <= max(2 * entry.error, self.exact) else entry
        self._keep(entry)
        similar = entry.overall < tuned.SIMILAR * self.chosen().overall
        if similar and entry.complexity <= tuned.LONG_TO_THIN:
            self._near = sorted((*self._near, entry), key=self._promise)[: tuned.NOTED]
        if entry.error < exact:
            self._put_exactly(entry)
        elif entry in self.entries:
            self._probe(entry)

    def _put_exactly(self, entry: Entry) -> None:
        """Trim an exact formula and make its numbers exact; if these are few, the search ends."""
        limit = max(2 * entry.error, self.exact)
        found = self._lean(entry.expression, limit)
        self._keep(self._entry(found))
        snapped = self._snap(even_ratios(found), entry.error)
        if snapped is None or snapped.error > limit or count_numbers(snapped.expression):
            short = self._shortened(even_ratios(found))  # where numbers may stand for one
            if self._error(short) <= limit:
                found = self._lean(short, limit)
                self._keep(self._entry(found))
            self._snap(found, entry.error)
        if self.best_error <= self.exact:
            numbers = min(count_free(e.expression) for e in self.entries if e.error <= self.exact)
            enough = len(np.unique(self.x, axis=0)) / tuned.ROWS_EACH
            self._settle(0.0 if numbers <= min(tuned.FEW_NUMBERS, enough) else numbers)

    def _lean(self, expression: Expr, limit: float) -> Expr:
        """Leave out parts one by one as long as the error stays within a limit."""
        found, rest = expression, iter(thinner(expression))
        while (shorter := next(rest, None)) is not None:
            if self._error(shorter) <= limit:
                found, rest = shorter, iter(thinner(shorter))
        return found

    def chosen(self) -> Entry:
        """Return the best balance of error and length, if it is not exact among the short ones.

        For a few rows a line is the shortest way to tell of a curve and its errors, and yet not
        right: what leaves far more than another formula, and not by chance, is no candidate.
        """
        levels = [max(entry.error, self.exact) for entry in self.entries]
        worst = max(self._mean_error, min(levels))
        able = front([entry.length for entry in self.entries], levels)
        good = [self.entries[k] for k in able if levels[k] <= worst]
        short = [e for e in good if e.error <= self.exact or e.is_short]
        every = short or good
        factor = max(tuned.FAR_WORSE[0], math.exp(tuned.FAR_WORSE[1] / len(self.y)))
        limit = factor * max(self.exact, min(map(self._unexplained, every)))
        best = min((e for e in every if self._unexplained(e) <= limit), key=self._cost)
        if best.expression.free_symbols:
            return best
        telling = []  # of the size of a target of one sign
        for entry in (e for e in self.entries if self.problem.one_sign and e.is_short):
            with np.errstate(all="ignore"):
                size = np.log(self.values(entry.expression) / np.sign(self.y))
            if relative_error(size, np.log(np.abs(self.y))) <= tuned.HALF:
                telling.append(entry)
        return min(telling, key=self._cost, default=best)

    def _unexplained(self, entry: Entry) -> float:
        """Return the error on all rows, or that on those which judge where it is far larger."""
        overall = entry.error if math.isnan(entry.overall) else entry.overall
        return max(overall, entry.error / tuned.UNSURE)

    def _cost(self, entry: Entry) -> float:
        error = max(self._unexplained(entry), self.exact / 100)
        price = tuned.NODE * entry.length + tuned.DIGITS * sum(_digits(entry.expression))
        return len(self.y) * math.log(error) + price

    def start(self, known: Iterable[Expr] = ()) -> None:
        """Begin with the mean, which is always there, and with known formulas as they are."""
        mean = self._entry(sympy.Float(float(self.y[self.fitted].mean())))
        self._mean_error = mean.error
        for entry in (mean, *map(self._entry, known)):
            self._keep(entry)

    def watch(self, advance: Callable[..., None]) -> None:
        """Move a bar of one step per second from now on."""
        self._advance, self._shown = advance, self.deadline.left

    def finish(self, deadline: Deadline, short: Iterable[Expr]) -> None:
        """Refit short formulas; thin out, shorten and snap the best, while there is time."""
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

    def _promise(self, entry: Entry) -> float:
        """Return what a formula would cost if most of its numbers were exact."""
        saved = tuned.NODE * tuned.NUMBER * count_numbers(entry.expression)
        return self._cost(entry) - tuned.HOPE * saved

    def _probe(self, entry: Entry) -> None:
        """If the best formula leaves only noise, polish it, and wait by how many numbers it has."""
        astray = self.exceptions(entry)
        if astray.any():
            self.astray = astray
        elif entry.expression not in self._probed and entry is self.chosen():
            self._probed.add(entry.expression)
            if is_noise(self.x, self.scale(self.values(entry.expression)), self.scale(self.y)):
                self._settle(count_free(self._polish(entry, self.deadline).expression))

    def exceptions(self, entry: Entry) -> Array:
        """Return the few rows without which a formula leaves nothing but noise."""
        values = self.scale(self.values(entry.expression))
        return exceptions(self.x, values, self.scale(self.y), self.exact)

    def _settle(self, numbers: float) -> None:
        """Wait for a better formula the longer, the more numbers this one holds."""
        wait = numbers * (tuned.PATIENCE[0] + tuned.PATIENCE[1] * self._spent)
        self._enough = min(self._enough, self._spent + wait)

    def _polish(self, entry: Entry, deadline: Deadline) -> Entry:
        """Leave out what a formula does not need, put exact constants in, and keep that."""
        best = entry
        for step in (self._exact, self._thinned, self._exact):
            if deadline.passed:
                break
            best = step(best, deadline)
        if best is not entry:
            self._keep(best)
        return best

    def _exact(self, entry: Entry, deadline: Deadline) -> Entry:
        """Put exact constants in, if that pays."""
        if not count_numbers(entry.expression) or deadline.passed:
            return entry
        snapped = self._snap(self._shortened(even_ratios(entry.expression)), entry.error)
        return snapped if snapped and self._cost(snapped) < self._cost(entry) else entry

    def _thinned(self, entry: Entry, deadline: Deadline) -> Entry:
        """Leave out parts of a formula while that pays."""
        best = entry
        for _ in range(tuned.THIN_ROUNDS):
            numerous = count_numbers(best.expression) > tuned.NUMEROUS
            if best.complexity > tuned.LONG_TO_THIN or numerous:
                return best
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
        """Refit the numbers of a formula to some rows."""
        x, y = self.x[rows], self.y[rows]
        return refine(expression, self.symbols, x, y, self.scale).expression

    def _snap(self, expression: Expr, error: float) -> Entry | None:
        if not can_refine(expression) or complexity(expression) > tuned.LONG_FORMULA:
            return None
        rows = self.fitted if error < tuned.NOISELESS else np.ones(len(self.y), dtype=bool)
        found = snap(expression, self.symbols, self.x[rows], self.y[rows], scale=self.scale)
        new = self._entry(self._shortened(found.expression), found.snapped)
        as_near = new.error <= max(tuned.RISE * error, self.exact)
        if as_near or self._cost(new) < self._cost(self._entry(expression)):
            self._keep(new)
            return new
        return None

    def _shortened(self, expression: Expr) -> Expr:
        short = shorten(expression, self.symbols, self.x)
        risky = varying_powers(short) and not varying_powers(expression)  # they soon overflow
        found = expression if risky else short
        wider = joined(found)
        if complexity(wider) > complexity(found) + 1:
            return found
        limit = max(1.01 * self._error(found), self.exact)
        return wider if self._error(wider) <= limit else found

    def values(self, expression: Expr) -> Array:
        """Return the values of a formula, (row,)."""
        return np.asarray(evaluator((expression,), self.symbols)(self.x)[:, 0])

    def error_of(self, expression: Expr) -> float:
        """Return the error of a formula as it is; infinite where it is none."""
        return math.inf if _unsound(expression) else self._error(expression)

    def _error(self, expression: Expr) -> float:
        return self._entry(expression).error

    def _entry(self, expression: Expr, snapped: tuple[str, ...] = ()) -> Entry:
        """Judge a formula."""
        values, error, overall = self.values(expression), math.inf, math.inf
        if np.isfinite(values).all():
            error = relative_error(values[self.judged], self.y[self.judged], self.scale)
            overall = relative_error(values, self.y, self.scale)
            error = max(error, overall) if error < tuned.NOISELESS else error
        return Entry(expression, error, complexity(expression), snapped, overall)

    def _keep(self, entry: Entry) -> None:
        """Add an entry and drop those that are neither simpler nor better than another."""
        wrong = not (self._wide or entry.error <= self.exact) and (
            _extreme(entry.expression, tuned.LARGEST_FACTOR)
            or _extreme(self.in_units(entry.expression), tuned.LARGEST_IN_UNITS)
        )
        if math.isfinite(entry.error) and not wrong:
            every = [*self.entries, entry]
            self.entries = [e for e in every if not any(o.beats(e, every) for o in every)]
