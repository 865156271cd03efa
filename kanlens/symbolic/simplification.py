"""Simplification of formulas: numbers refitted, constants made exact, the rules of `rewriting`.

Every step is checked with numbers. A rule that changes a value by more than 1e-9 of the largest
value at any sample point is rolled back. A constant must save more bits than the loss costs after a
refit [1]_; in all the loss may rise by 2 %, or to 1e-4 of the variance. Lengths are those of AI
Feynman [2]_, log2 (1 + abs(p)) q for p/q, plus 3 bits for a multiple of pi, 6 for 1/pi, e, ln 2 and
the root of 2, more for the rarer ones.

References
----------
.. [1] J. Rissanen, Modeling by shortest data description, Automatica 14, 1978.
.. [2] S.-M. Udrescu, M. Tegmark, AI Feynman: a physics-inspired method for symbolic regression,
   Science Advances 6, 2020.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, product
from typing import Any

import numpy as np
import sympy
import torch

from kanlens.long_work import check_time
from kanlens.symbolic.composition import Array, Expr, compiled, evaluator
from kanlens.symbolic.joint_refit import relative_loss
from kanlens.symbolic.least_squares import Minimum, minimize
from kanlens.symbolic.rewriting import RULES, reduced_phases

MOST_NUMBERS = 60  # beyond which a formula is not refitted
_MOST_OPERATIONS = 1500
_MOST_ROWS = 500
_FLOOR = 1e-10  # loss, in units of the variance, that counts as none
_NEAR = 1e-3  # relative distance at which a constant is always tried
_WORSE = 1.02  # factor by which all steps together may raise the loss
_SLIGHT = 1e-4  # loss up to which only the description length decides
_SPARED = 4.0  # bits of the operation that is gone with a number that is zero
_WEAK = 0.05  # a number whose whole effect is this share of the deviation is tried as zero

_LONG = 600  # operations beyond which no rule is tried
_AGAIN = 120  # operations up to which rules are tried again
_PASSES = 3  # over all rules, while one of them still helps
_TOLERANCE = 1e-9
_POINTS = 200  # where rules are checked

_DENOMINATORS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 100)
_LARGEST = 100.0  # fraction
_COUNTS = (1, 2, 3, 4, 5, 6, 8)  # numerators of the multiples of other constants
_PARTS = (1, 2, 3, 4, 6, 8)  # and their denominators
_PI = ((1, 2, 3, 4, 5, 6, 8, 16), (1, 2, 3, 4, 5, 6, 8))
_FEW = ((1, 2, 4), (1, 2, 4, 8))
_ROOTS = (2, 3, 5, 6, 7, 10)
_KINDS: tuple[tuple[Any, float, tuple[tuple[int, ...], tuple[int, ...]]], ...] = (
    (sympy.pi, 3.0, _PI),
    *((sympy.sqrt(n), 5.0 + math.log2(n), (_COUNTS, _PARTS)) for n in _ROOTS),
    (sympy.E, 6.0, (_COUNTS, _PARTS)),
    (sympy.log(2), 6.0, (_COUNTS, _PARTS)),
    (1 / sympy.pi, 6.0, (_COUNTS, _PARTS)),
    (sympy.pi**2, 7.0, (_COUNTS, _PARTS)),
    (1 / sympy.pi**2, 10.0, _FEW),
    (sympy.sqrt(sympy.pi), 7.0, _FEW),
    (1 / sympy.sqrt(sympy.pi), 7.0, _FEW),
    (1 / sympy.sqrt(2 * sympy.pi), 8.0, _FEW),
)  # constants, the bits of their kind, and numerators and denominators of their multiples


Scale = Callable[[Array], Array]  # of y and of the values of a formula


@dataclass(frozen=True)
class Constant:
    """An exact number with its description length in bits."""

    exact: Any
    value: float
    bits: float


def candidates(value: float, window: float) -> list[Constant]:
    """Return the constants within a window around a value, shortest first."""
    if not math.isfinite(value):
        return []
    values, constants = _special()
    first, last = bisect_left(values, value - window), bisect_right(values, value + window)
    near = [c for c in constants[first:last] if abs(c.value - value) <= window]
    found = {c.exact: c for c in near}
    if abs(value) <= _LARGEST:
        for q in _DENOMINATORS:
            p = round(value * q)
            if abs(p / q - value) <= window:
                constant = rational(p, q)
                found.setdefault(constant.exact, constant)
    return sorted(found.values(), key=lambda c: (c.bits, abs(c.value - value)))


def rational(p: int, q: int) -> Constant:
    """Return p/q in lowest terms."""
    exact = sympy.Rational(p, q)
    bits = math.log2((1 + abs(int(exact.p))) * int(exact.q))
    return Constant(exact, float(exact), bits)


def real_bits(value: float, error: float) -> float:
    """Return the length of a real number known to an error."""
    return 0.5 * math.log2(1 + (value / max(error, 1e-300)) ** 2)


@lru_cache(maxsize=1)
def _special() -> tuple[list[float], list[Constant]]:
    """Return the constants that are no rationals, of both signs, in order, and their values."""
    lengths: dict[Any, float] = {}
    for kind, bits, (counts, parts) in _KINDS:
        for k, q in product(counts, parts):
            if math.gcd(k, q) == 1:
                exact = sympy.Rational(k, q) * kind
                length = bits + math.log2((1 + k) * q)
                lengths[exact] = min(length, lengths.get(exact, math.inf))
    pairs = ((sign, *item) for item in lengths.items() for sign in (1, -1))
    constants = [Constant(sign * exact, sign * float(exact), bits) for sign, exact, bits in pairs]
    constants.sort(key=lambda constant: constant.value)
    return [constant.value for constant in constants], constants


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedFormula:
    """An expression after refitting or snapping."""

    expression: Expr
    loss: float = math.nan  # mean squared error over the variance of the target, on the rows used
    snapped: tuple[str, ...] = ()  # the exact constants put in
    # by how much each raised the loss once the other numbers had been refitted
    costs: tuple[float, ...] = ()


def can_refine(expression: Expr) -> bool:
    """Return whether an expression is small enough to be refitted."""
    few = count_numbers(expression) <= MOST_NUMBERS
    return bool(few and sympy.count_ops(expression) <= _MOST_OPERATIONS)


def refine(
    expression: Expr, symbols: tuple[Expr, ...], x: Array, y: Array, scale: Scale = np.asarray
) -> RefinedFormula:
    """Fit every Float of an expression to x (batch, in) and y (batch,); exact constants stay."""
    formula = _Numbers(expression, symbols, x, y, scale)
    found = formula.fit(np.ones(len(formula.start), dtype=bool), formula.start, steps=60)
    return RefinedFormula(expression=formula.rebuild(found.parameters, {}), loss=found.loss)


def snap(
    expression: Expr,
    symbols: tuple[Expr, ...],
    x: Array,
    y: Array,
    *,
    independent: int | None = None,
    scale: Scale = np.asarray,
) -> RefinedFormula:
    """Replace numbers by exact constants where the data allow it; the table is as for `refine`.

    `independent` is the number of independent values in `y`, default all: the errors of a spline
    are smooth, so rows computed by a network count for less than measured ones.
    """
    formula = _Numbers(expression, symbols, x, y, scale)
    free = np.ones(len(formula.start), dtype=bool)
    found = formula.fit(free, formula.start, steps=60)
    limit = max(_SLIGHT, _WORSE * found.loss)
    rows = len(formula.target) if independent is None else min(independent, len(formula.target))
    fixed: dict[int, Constant] = {}
    costs: dict[int, float] = {}
    refused: set[tuple[int, Any]] = set()
    tried_with = 0  # exact constants there were when those refused were first tried
    while True:
        proposal = _best_proposal(formula, found, free, refused)
        if proposal is None and refused and len(fixed) > tried_with:
            refused, tried_with = set(), len(fixed)  # what is left is known better now
            continue
        if proposal is None:
            break
        k, constant, gain = proposal
        start = found.parameters.copy()
        start[k] = constant.value
        free[k] = False
        trial = formula.fit(free, start, steps=12)
        short = trial.loss <= max(_FLOOR, found.loss * 2.0 ** (2 * gain / rows))
        if short and trial.loss <= limit:
            fixed[k], costs[k], found = constant, trial.loss - found.loss, trial
        else:
            free[k] = True
            refused.add((k, constant.exact))
    final = formula.fit(free, found.parameters, steps=60)
    return RefinedFormula(
        expression=formula.rebuild(final.parameters, fixed),
        loss=final.loss,
        snapped=tuple(str(fixed[k].exact) for k in sorted(fixed)),
        costs=tuple(costs[k] for k in sorted(fixed)),
    )


def _best_proposal(
    formula: _Numbers, found: Minimum, free: Array, refused: set[tuple[int, Any]]
) -> tuple[int, Constant, float] | None:
    """Return the free number, the constant that saves most bits, and how many."""
    proposals = []
    effects = formula.effects(found.parameters)
    for k in np.flatnonzero(free):
        value, error = float(found.parameters[k]), float(found.standard_errors[k])
        length = real_bits(value, max(min(error, 0.1 * abs(value)), 1e-7 * abs(value)))
        window = max(min(3 * error, 0.1 * abs(value)), _NEAR * abs(value), 1e-9)
        options = candidates(value, window)
        if abs(value) <= 3 * error or effects[k] < _WEAK:
            options.insert(0, Constant(sympy.Integer(0), 0.0, 0.0))
        for constant in options:
            gain = length - constant.bits + (_SPARED if constant.value == 0 else 0.0)
            fresh = (int(k), constant.exact) not in refused
            if fresh and gain > 0:
                proposals.append((int(k), constant, gain))
    return max(proposals, key=lambda proposal: proposal[2], default=None)


class _Numbers:
    """An expression with its Floats as parameters, evaluated on data."""

    def __init__(
        self,
        expression: Expr,
        symbols: tuple[Expr, ...],
        x: Array,
        y: Array,
        scale: Scale = np.asarray,
    ) -> None:
        names, values, self.scale = count(), [], scale
        self.parameters: list[Expr] = []

        def lifted(node: Expr) -> Expr:
            if node.is_Float:
                symbol = sympy.Symbol(f"_p{next(names)}", real=True)
                self.parameters.append(symbol)
                values.append(float(node))
                return symbol
            return node.func(*(lifted(arg) for arg in node.args)) if node.args else node

        self.expression = lifted(expression)
        self.start = np.array(values, dtype=np.float64)
        pick = np.linspace(0, len(x) - 1, min(len(x), _MOST_ROWS)).round().astype(int)
        self.columns = [column[None, :] for column in np.asarray(x, dtype=np.float64)[pick].T]
        target = self.scale(np.asarray(y, dtype=np.float64)[pick])
        self.deviation = float(target.std()) or 1.0
        self.target = target / self.deviation
        self.function = compiled([self.expression], [*symbols, *self.parameters])

    def values(self, thetas: Array) -> Array:
        """Return the values for several sets of numbers, (set, row), over the deviation."""
        with np.errstate(all="ignore"):
            found = np.asarray(self.function(*self.columns, *thetas.T[:, :, None])[0])
        if np.iscomplexobj(found):
            found = np.where(found.imag == 0, found.real, np.nan)
        shape = (len(thetas), len(self.target))
        scaled = self.scale(np.broadcast_to(found, shape)) / self.deviation
        return np.asarray(scaled, dtype=np.float64)

    def jacobian(self, theta: Array, which: Any) -> Array:
        """Return central differences by some of the numbers, (row, number)."""
        step = 1e-6 * np.maximum(np.abs(theta[which]), 1e-3)
        moves = np.zeros((len(which), len(theta)))
        moves[np.arange(len(which)), which] = step
        both = self.values(np.concatenate((theta + moves, theta - moves)))
        with np.errstate(invalid="ignore"):  # infinite on both sides
            slopes = (both[: len(which)] - both[len(which) :]) / (2 * step[:, None])
        return np.asarray(slopes.T)

    def effects(self, theta: Array) -> Array:
        """Return how much of the deviation each number makes to first order."""
        slopes = self.jacobian(theta, np.arange(len(theta)))
        with np.errstate(invalid="ignore"):
            slopes = slopes - slopes.mean(0)
        return np.asarray(np.abs(theta) * np.sqrt(np.mean(np.square(slopes), axis=0)))

    def fit(self, free: Array, start: Array, *, steps: int) -> Minimum:
        """Fit the free numbers and keep the others."""
        which = np.flatnonzero(free)

        def whole(some: Array) -> Array:
            theta = start.copy()
            theta[which] = some
            return theta

        minimum = minimize(
            lambda some: self.values(whole(some)[None])[0] - self.target,
            lambda some: self.jacobian(whole(some), which),
            start[which],
            steps=steps,
        )
        errors = np.zeros(len(start))
        errors[which] = minimum.standard_errors
        return replace(minimum, parameters=whole(minimum.parameters), standard_errors=errors)

    def rebuild(self, theta: Array, fixed: dict[int, Constant]) -> Expr:
        """Put numbers, exact where fixed, back into the expression."""
        values = {
            symbol: fixed[k].exact if k in fixed else sympy.Float(float(theta[k]))
            for k, symbol in enumerate(self.parameters)
        }
        return self.expression.xreplace(values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Simplifier:
    """Simplification of formulas of one output on a table."""

    symbols: tuple[Expr, ...]  # one per column of x
    x: Array  # (batch, in)
    y: Array  # (batch,)
    independent: int | None = None  # as for `snap`

    def shorten(self, expression: Expr) -> Expr:
        """Return the shortest equal form that the rules find."""
        return shorten(expression, self.symbols, self.x)

    def refit(self, expression: Expr) -> RefinedFormula:
        """Fit the numbers of a formula to y, and shorten it."""
        found = refine(expression, self.symbols, self.x, self.y)
        return replace(found, expression=self.shorten(found.expression))

    def snap(self, expression: Expr) -> RefinedFormula:
        """Replace numbers by exact constants and shorten; once more where numbers were merged."""
        table = (self.symbols, self.x, self.y)
        found = snap(expression, *table, independent=self.independent)
        short = self.shorten(found.expression)
        if count_numbers(short) < count_numbers(found.expression):  # its numbers are others
            again = snap(short, *table, independent=self.independent)
            made, costs = (*found.snapped, *again.snapped), (*found.costs, *again.costs)
            found = replace(again, snapped=made, costs=costs)
            short = self.shorten(again.expression)
        return replace(found, expression=short)

    def loss(self, expression: Expr) -> float:
        """Return the mean squared error over the variance of y; infinite where undefined."""
        values = torch.from_numpy(evaluator((expression,), self.symbols)(self.x))
        return relative_loss(values, torch.from_numpy(self.y)[:, None])


def shorten(expression: Expr, symbols: tuple[Expr, ...], x: Array) -> Expr:
    """Return the shortest equal form that the rules find, checked on some of the rows.

    Fewer numbers count first, then fewer operations (a function as two): two numbers that only
    appear as a product cannot be told apart by data.
    """
    turned, points = reduced_phases(expression), x[:: max(1, len(x) // _POINTS)]
    best = turned if agree(turned, expression, symbols, points) else expression
    rank, untried = _rank(best), len(RULES)
    for turn, rule in product(range(_PASSES), RULES):
        if not untried or rank[1] > (_AGAIN if turn else _LONG):
            break
        check_time()
        trial, untried = rule(best), untried - 1
        if trial != best and _rank(trial) < rank and agree(trial, best, symbols, points):
            best, rank, untried = trial, _rank(trial), len(RULES)
    return best


def agree(one: Expr, two: Expr, symbols: tuple[Expr, ...], points: Array) -> bool:
    """Return whether two expressions agree where the second is finite, if it is anywhere."""
    values = evaluator((one, two), symbols)(points)
    ours, theirs = values[np.isfinite(values[:, 1])].T
    return len(theirs) > 0 and bool(
        np.abs(ours - theirs).max() <= _TOLERANCE * np.abs(theirs).max()
    )


def count_numbers(expression: Expr) -> int:
    """Return how many inexact numbers an expression holds."""
    return sum(1 for node in sympy.preorder_traversal(expression) if node.is_Float)


def complexity(expression: Expr) -> int:
    """Return the number of nodes of the expression tree, a spline with its coefficients."""
    nodes = sympy.preorder_traversal(expression)
    return sum(1 + getattr(type(node), "numbers", 0) for node in nodes)


def _rank(expression: Expr) -> tuple[int, int, int]:
    functions = sum(1 for node in sympy.preorder_traversal(expression) if node.is_Function)
    operations = int(sympy.count_ops(expression)) + functions
    return count_numbers(expression), operations, complexity(expression)
