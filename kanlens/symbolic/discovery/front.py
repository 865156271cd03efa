"""The formulas found so far: refitted, snapped, and judged on rows they were not fitted to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.symbolic.composition import Expr, evaluator
from kanlens.symbolic.constants import can_refine, refine, snap
from kanlens.symbolic.discovery.problems import Deadline
from kanlens.symbolic.discovery.regression import Array, relative_error
from kanlens.symbolic.discovery.tidying import even_ratios, joined
from kanlens.symbolic.simplification import complexity, count_numbers, shorten

EXACT = 1e-24  # relative squared error at rounding level
_HOPELESS = 0.9
_ROUGH = 1e-4  # error below which every start is refitted
_FAR = 1e2  # factor by which a formula may start worse than a simpler one
_NODE = 3.0  # price of a node of the expression, in units of the log likelihood
_NUMBER = 6  # nodes that an inexact number is worth
_POINTS = 200
_POLISHED = 4
_RISE = 1.03  # factor by which snapping may raise the error
_SURE = 1e-12  # error below which a formula is taken for the truth and snapped at once
_LONG = 120  # nodes beyond which nothing is refitted


@dataclass(frozen=True, eq=False)
class Entry:
    """One formula.

    Attributes
    ----------
    expression : Expr
        In the symbols of the table, scaled.
    error : float
        Relative squared error on the held-out rows.
    complexity : int
    snapped : tuple of str
    """

    expression: Expr
    error: float
    complexity: int
    snapped: tuple[str, ...] = ()


class Front:
    """The formulas worth keeping, and whether one of them is exact.

    Parameters
    ----------
    symbols : tuple of Symbol
    x : ndarray, shape (row, feature)
    y : ndarray, shape (row,)
    held_out : ndarray of bool, shape (row,)
    deadline : Deadline
    exact : float
        Relative squared error that is rounding.
    """

    def __init__(
        self,
        symbols: tuple[Expr, ...],
        x: Array,
        y: Array,
        held_out: Array,
        deadline: Deadline,
        *,
        exact: float = EXACT,
    ) -> None:
        self.exact = exact
        self.symbols, self.x, self.y = symbols, x, y
        self.fitted = ~held_out
        self.judged = held_out if held_out.any() else self.fitted
        self._advance: Callable[..., None] = lambda *_, **__: None
        self._shown = deadline.left
        self.deadline = deadline
        self.entries: list[Entry] = []
        self._seen: set[Expr] = set()
        self._tried: set[tuple[Expr, ...]] = set()

    @property
    def best_error(self) -> float:
        """Least error so far."""
        return min((entry.error for entry in self.entries), default=math.inf)

    @property
    def done(self) -> bool:
        """Whether the search may end: an exact formula is there, or the time is over."""
        return self.deadline.passed or self.best_error <= self.exact

    def is_new(self, *key: Expr) -> bool:
        """Say whether a piece of work comes for the first time, and remember it."""
        if key in self._tried:
            return False
        self._tried.add(key)
        return True

    def offer(self, expression: Expr) -> None:
        """Refit a formula and keep it if no simpler one is as good."""
        self._tick()
        if self.done or expression in self._seen or _unsound(expression):
            return
        self._seen.add(expression)
        start = self._error(expression)
        if not start < max(_HOPELESS, 2 * self.best_error):
            return
        length = complexity(expression)
        simpler = (e for e in self.entries if e.complexity <= length)
        if start > _ROUGH and any(e.error < start / _FAR for e in simpler):
            return
        found = expression
        if can_refine(found) and complexity(found) <= _LONG and start > self.exact / 100:
            found = self._refined(found)
        error = self._error(found)
        self._keep(Entry(found, error, complexity(found)))
        if error < max(_SURE, self.exact):
            short = self._shortened(even_ratios(found))
            if self._error(short) <= max(2 * error, self.exact):
                found = short
            self._snap(found, error)

    def chosen(self) -> Entry:
        """Return the formula with the best balance of error and length."""
        return min(self.entries, key=self._cost)

    def _cost(self, entry: Entry) -> float:
        error = max(entry.error, self.exact / 100)
        length = entry.complexity + _NUMBER * count_numbers(entry.expression)
        return int(self.judged.sum()) * math.log(error) + _NODE * length

    def start(self) -> None:
        """Begin with the mean, which is always there."""
        mean = float(self.y[self.fitted].mean())
        error = relative_error(np.full(self.judged.sum(), mean), self.y[self.judged])
        self._keep(Entry(sympy.Float(mean), error, 1))

    def watch(self, advance: Callable[..., None]) -> None:
        """Move a bar of one step per second from now on."""
        self._advance, self._shown = advance, self.deadline.left

    def _tick(self) -> None:
        steps = int(self._shown - self.deadline.left)
        if steps > 0:
            self._shown -= steps
            self._advance(steps, note=f"error {self.best_error:.1e}")

    def finish(self, deadline: Deadline) -> None:
        """Shorten and snap the best formulas while there is time."""
        for entry in sorted(self.entries, key=self._cost)[:_POLISHED]:
            if deadline.passed:
                return
            if entry.error > self.exact and count_numbers(entry.expression):
                self._snap(self._shortened(even_ratios(entry.expression)), entry.error)

    def _snap(self, expression: Expr, error: float) -> None:
        if not can_refine(expression) or complexity(expression) > _LONG:
            return
        rows = self.fitted
        found = snap(expression, self.symbols, self.x[rows], self.y[rows])
        short = self._shortened(found.expression)
        new = self._error(short)
        fewer = count_numbers(expression) - count_numbers(short)
        rise = math.exp(max(fewer, 0) * math.log(len(self.y)) / len(self.y))
        if new <= max(max(rise, _RISE) * error, self.exact):
            self._keep(Entry(short, new, complexity(short), found.snapped))

    def _refined(self, expression: Expr) -> Expr:
        rows = self.fitted
        return refine(expression, self.symbols, self.x[rows], self.y[rows]).expression

    def _shortened(self, expression: Expr) -> Expr:
        points = self.x[:: max(1, len(self.x) // _POINTS)]
        short = shorten(expression, self.symbols, points)
        found = expression if _powered(short) and not _powered(expression) else short
        wider = joined(found)
        if complexity(wider) > complexity(found) + 1:
            return found
        limit = max(1.01 * self._error(found), self.exact)
        return wider if self._error(wider) <= limit else found

    def _error(self, expression: Expr) -> float:
        values = evaluator((expression,), self.symbols)(self.x)[:, 0]
        if not np.isfinite(values).all():
            return math.inf
        return relative_error(values[self.judged], self.y[self.judged])

    def _keep(self, entry: Entry) -> None:
        """Add an entry and drop those that are neither simpler nor better than another."""
        if not math.isfinite(entry.error):
            return
        every = [*self.entries, entry]
        self.entries = [e for e in every if not any(_beats(o, e, every) for o in every)]


def _beats(one: Entry, two: Entry, every: list[Entry]) -> bool:
    """Say whether one makes two superfluous; equal ones are settled by their order."""
    ours = (max(one.error, EXACT), one.complexity, count_numbers(one.expression))
    other = (max(two.error, EXACT), two.complexity, count_numbers(two.expression))
    if ours == other:
        return every.index(one) < every.index(two)
    return all(a <= b for a, b in zip(ours, other, strict=True))


def _unsound(expression: Expr) -> bool:
    return bool(
        expression.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo, sympy.I)
        or len(expression.args) > 60
    )


def _powered(expression: Expr) -> bool:
    """Say whether a power other than of e has an exponent that varies: it soon overflows."""
    return any(
        node.exp.free_symbols for node in expression.atoms(sympy.Pow) if node.base != sympy.E
    )
