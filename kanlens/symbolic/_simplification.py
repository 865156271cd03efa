"""Simplification of formulas: refit, exact constants, rewriting."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, product
from operator import itemgetter
from typing import Any

import numpy as np
import sympy
import torch

from kanlens._runtime import check_time
from kanlens.symbolic._composition import Array, Expr, compiled, evaluator
from kanlens.symbolic._joint_refit import Minimum, minimize, relative_loss
from kanlens.symbolic._rewriting import RULES, reduced_phases

_MAX_NUMBERS = 60  # of a formula that is refitted
_MAX_OPERATIONS = 1500  # of such a formula
_MAX_ROWS = 500
# A constant must save more bits than the loss costs after a refit (J. Rissanen, Automatica 14,
# 1978). Lengths are those of AI Feynman (S.-M. Udrescu, M. Tegmark, Science Advances 6, 2020):
# log2 (1 + abs(p)) q for p/q, and more for multiples of irrational constants.
_NO_LOSS = 1e-10  # relative loss that counts as 0
_SNAP_DISTANCE = 1e-3  # relative distance of constants that are always tried
_WORSE = 1.02  # largest rise of the loss by all steps (factor)
_SLIGHT = 1e-4  # loss up to which only the description length decides
_OPERATION_BITS = 4.0  # of an operation that is dropped with a zero
_WEAK = 0.05  # effect on the values, in deviations of y, below which zero is tried

_MAX_REWRITTEN = 600  # operations of an expression to rewrite
_MAX_REPEATED = 120  # operations to rewrite again
_PASSES = 3  # over all rules
_TOLERANCE = 1e-9  # largest change of a value, relative to the largest
_POINTS = 200  # for checks of the rules

_DENOMINATORS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 100)
_MAX_FRACTION = 100.0
_COUNTS = (1, 2, 3, 4, 5, 6, 8)  # numerators of the multiples of other constants
_PARTS = (1, 2, 3, 4, 6, 8)  # denominators of these
_PI = ((1, 2, 3, 4, 5, 6, 8, 16), (1, 2, 3, 4, 5, 6, 8))
_SIMPLE_DENOMINATORS = ((1, 2, 4), (1, 2, 4, 8))
_ROOTS = (2, 3, 5, 6, 7, 10)
_KINDS: tuple[tuple[Any, float, tuple[tuple[int, ...], tuple[int, ...]]], ...] = (
    (sympy.pi, 3.0, _PI),
    *((sympy.sqrt(n), 5.0 + math.log2(n), (_COUNTS, _PARTS)) for n in _ROOTS),
    (sympy.E, 6.0, (_COUNTS, _PARTS)),
    (sympy.log(2), 6.0, (_COUNTS, _PARTS)),
    (1 / sympy.pi, 6.0, (_COUNTS, _PARTS)),
    (sympy.pi**2, 7.0, (_COUNTS, _PARTS)),
    (1 / sympy.pi**2, 10.0, _SIMPLE_DENOMINATORS),
    (sympy.sqrt(sympy.pi), 7.0, _SIMPLE_DENOMINATORS),
    (1 / sympy.sqrt(sympy.pi), 7.0, _SIMPLE_DENOMINATORS),
    (1 / sympy.sqrt(2 * sympy.pi), 8.0, _SIMPLE_DENOMINATORS),
)  # constants, the bits of their kind, and numerators and denominators of their multiples


Scale = Callable[[Array], Array]  # transforms y and the formula's values before the errors


@dataclass(frozen=True)
class Constant:
    """An exact number with its description length in bits."""

    exact: Expr
    value: float
    bits: float


def candidates(value: float, window: float) -> list[Constant]:
    """Return the constants within a window around a value, shortest first."""
    if not math.isfinite(value):
        return []
    values, constants = _special()
    first, last = bisect_left(values, value - window), bisect_right(values, value + window)
    near = [c for c in constants[first:last] if abs(c.value - value) <= window]
    options = {c.exact: c for c in near}
    if abs(value) <= _MAX_FRACTION:
        for q in _DENOMINATORS:
            p = round(value * q)
            if abs(p / q - value) <= window:
                constant = rational(p, q)
                options.setdefault(constant.exact, constant)
    return sorted(options.values(), key=lambda c: (c.bits, abs(c.value - value)))


def rational(p: int, q: int) -> Constant:
    """Return p/q in lowest terms."""
    exact = sympy.Rational(p, q)
    bits = math.log2((1 + abs(int(exact.p))) * int(exact.q))
    return Constant(exact, float(exact), bits)


@lru_cache(maxsize=1)
def _special() -> tuple[list[float], list[Constant]]:
    """Return the irrational constants, sorted by value, and their values."""
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
    costs: tuple[float, ...] = ()  # increase of the loss by each after a refit


def can_refine(expression: Expr) -> bool:
    """Return whether an expression is small enough to be refitted."""
    few = count_numbers(expression) <= _MAX_NUMBERS
    return bool(few and sympy.count_ops(expression) <= _MAX_OPERATIONS)


def refine(
    expression: Expr, symbols: tuple[Expr, ...], x: Array, y: Array, scale: Scale = np.asarray
) -> RefinedFormula:
    """Fit every Float of an expression to x (batch, in) and y (batch,)."""
    formula = FormulaNumbers(expression, symbols, x, y, scale)
    best = formula.fit(np.ones(len(formula.start), dtype=bool), formula.start, steps=60)
    return RefinedFormula(expression=formula.rebuild(best.parameters, {}), loss=best.loss)


def snap(
    expression: Expr,
    symbols: tuple[Expr, ...],
    x: Array,
    y: Array,
    *,
    independent: int | None = None,
    scale: Scale = np.asarray,
) -> RefinedFormula:
    """Replace numbers by exact constants where the data allow it.

    `independent` is the number of independent values in `y`, default all: the errors of a spline
    are smooth, so rows computed by a network count for less than measured ones.
    """
    formula = FormulaNumbers(expression, symbols, x, y, scale)
    free = np.ones(len(formula.start), dtype=bool)
    best = formula.fit(free, formula.start, steps=60)
    limit = max(_SLIGHT, _WORSE * best.loss)
    rows = len(formula.target) if independent is None else min(independent, len(formula.target))
    fixed: dict[int, Constant] = {}
    costs: dict[int, float] = {}
    refused: set[tuple[int, Any]] = set()
    fixed_before = 0  # number of exact constants when the refused ones were first tried
    while True:
        proposal = _best_proposal(formula, best, free, refused)
        if proposal is None and refused and len(fixed) > fixed_before:
            refused, fixed_before = set(), len(fixed)  # errors are smaller now
            continue
        if proposal is None:
            break
        k, constant, gain = proposal
        start = best.parameters.copy()
        start[k] = constant.value
        free[k] = False
        trial = formula.fit(free, start, steps=12)
        short = trial.loss <= max(_NO_LOSS, best.loss * 2.0 ** (2 * gain / rows))
        if short and trial.loss <= limit:
            fixed[k], costs[k], best = constant, trial.loss - best.loss, trial
        else:
            free[k] = True
            refused.add((k, constant.exact))
    final = formula.fit(free, best.parameters, steps=60)
    order = sorted(fixed)
    return RefinedFormula(
        expression=formula.rebuild(final.parameters, fixed),
        loss=final.loss,
        snapped=tuple(str(fixed[k].exact) for k in order),
        costs=tuple(costs[k] for k in order),
    )


def _best_proposal(
    formula: FormulaNumbers, minimum: Minimum, free: Array, refused: set[tuple[int, Any]]
) -> tuple[int, Constant, float] | None:
    """Return a number's index, its exact constant and the bits saved, for the best pair."""
    proposals = []
    effects = formula.effects(minimum.parameters)
    for k in np.flatnonzero(free):
        value, error = float(minimum.parameters[k]), float(minimum.standard_errors[k])
        precision = max(min(error, 0.1 * abs(value)), 1e-7 * abs(value), 1e-300)
        length = 0.5 * math.log2(1 + (value / precision) ** 2)  # of a real number
        window = max(min(3 * error, 0.1 * abs(value)), _SNAP_DISTANCE * abs(value), 1e-9)
        options = candidates(value, window)
        if abs(value) <= 3 * error or effects[k] < _WEAK:
            options.insert(0, Constant(sympy.Integer(0), 0.0, 0.0))
        for constant in options:
            gain = length - constant.bits + (_OPERATION_BITS if constant.value == 0 else 0.0)
            if gain > 0 and (int(k), constant.exact) not in refused:
                proposals.append((int(k), constant, gain))
    return max(proposals, key=itemgetter(2), default=None)


class FormulaNumbers:
    """An expression with its Floats as parameters, evaluated on data."""

    def __init__(
        self,
        expression: Expr,
        symbols: tuple[Expr, ...],
        x: Array,
        y: Array,
        scale: Scale = np.asarray,
        rows: int = _MAX_ROWS,
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
        pick = np.linspace(0, len(x) - 1, min(len(x), rows)).round().astype(int)
        self.columns = [column[None, :] for column in np.asarray(x, dtype=np.float64)[pick].T]
        target = self.scale(np.asarray(y, dtype=np.float64)[pick])
        self.deviation = float(target.std()) or 1.0
        self.target = target / self.deviation
        check_time()
        self.function = compiled((self.expression,), (*symbols, *self.parameters))

    def values(self, thetas: Array) -> Array:
        """Return the scaled values for several sets of numbers, (set, row)."""
        with np.errstate(all="ignore"):
            values = np.asarray(self.function(*self.columns, *thetas.T[:, :, None])[0])
        if np.iscomplexobj(values):
            values = np.where(values.imag == 0, values.real, np.nan)
        values = np.broadcast_to(values, (len(thetas), len(self.target)))
        return np.asarray(self.scale(values) / self.deviation, dtype=np.float64)

    def jacobian(self, theta: Array, index: Any) -> Array:
        """Return central differences with respect to some of the numbers, (row, number)."""
        step = 1e-6 * np.maximum(np.abs(theta[index]), 1e-3)
        moves = np.zeros((len(index), len(theta)))
        moves[np.arange(len(index)), index] = step
        above, below = np.split(self.values(np.concatenate((theta + moves, theta - moves))), 2)
        with np.errstate(invalid="ignore"):  # infinite on both sides
            return np.asarray(((above - below) / (2 * step[:, None])).T)

    def effects(self, theta: Array) -> Array:
        """Return the effect of each number on the values, in standard deviations of y."""
        slopes = self.jacobian(theta, np.arange(len(theta)))
        with np.errstate(invalid="ignore"):
            slopes = slopes - slopes.mean(0)
        return np.asarray(np.abs(theta) * np.sqrt(np.mean(np.square(slopes), axis=0)))

    def fit(self, free: Array, start: Array, *, steps: int) -> Minimum:
        """Fit the free numbers, with the others fixed."""
        index = np.flatnonzero(free)

        def whole(numbers: Array) -> Array:
            theta = start.copy()
            theta[index] = numbers
            return theta

        minimum = minimize(
            lambda numbers: self.values(whole(numbers)[None])[0] - self.target,
            lambda numbers: self.jacobian(whole(numbers), index),
            start[index],
            steps=steps,
        )
        errors = np.zeros(len(start))
        errors[index] = minimum.standard_errors
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
    independent: int | None = None  # see `snap`

    def shorten(self, expression: Expr) -> Expr:
        """Return the shortest equal form that the rewrite rules find."""
        return shorten(expression, self.symbols, self.x)

    def refit(self, expression: Expr) -> RefinedFormula:
        """Fit the numbers of a formula to y, and shorten it."""
        formula = refine(expression, self.symbols, self.x, self.y)
        return replace(formula, expression=self.shorten(formula.expression))

    def snap(self, expression: Expr) -> RefinedFormula:
        """Snap constants and shorten the formula; repeat if numbers were merged."""
        table = (self.symbols, self.x, self.y)
        formula = snap(expression, *table, independent=self.independent)
        short = self.shorten(formula.expression)
        if count_numbers(short) < count_numbers(formula.expression):  # some were merged
            again = snap(short, *table, independent=self.independent)
            snapped, costs = formula.snapped + again.snapped, formula.costs + again.costs
            formula = replace(again, snapped=snapped, costs=costs)
            short = self.shorten(again.expression)
        return replace(formula, expression=short)

    def loss(self, expression: Expr) -> float:
        """Return the squared error over the variance of y, or infinity."""
        values = torch.from_numpy(evaluator((expression,), self.symbols)(self.x))
        return relative_loss(values, torch.from_numpy(self.y)[:, None])


def shorten(expression: Expr, symbols: tuple[Expr, ...], x: Array) -> Expr:
    """Return the shortest form by the rewrite rules that is equal on rows."""
    turned, points = reduced_phases(expression), x[:: max(1, len(x) // _POINTS)]
    best = turned if agree(turned, expression, symbols, points) else expression
    rank, untried = _rank(best), len(RULES)
    for turn, rule in product(range(_PASSES), RULES):
        if not untried or rank[1] > (_MAX_REPEATED if turn else _MAX_REWRITTEN):
            break
        check_time()
        trial, untried = rule(best), untried - 1
        if trial != best and _rank(trial) < rank and agree(trial, best, symbols, points):
            best, rank, untried = trial, _rank(trial), len(RULES)
    return best


def agree(trial: Expr, expression: Expr, symbols: tuple[Expr, ...], points: Array) -> bool:
    """Return whether two expressions agree where the second is finite."""
    both = evaluator((trial, expression), symbols)(points)
    new, old = both[np.isfinite(both[:, 1])].T
    return len(old) > 0 and bool(np.abs(new - old).max() <= _TOLERANCE * np.abs(old).max())


def count_numbers(expression: Expr) -> int:
    """Return the count of inexact numbers in an expression."""
    return sum(1 for node in sympy.preorder_traversal(expression) if node.is_Float)


def complexity(expression: Expr) -> int:
    """Return the number of nodes plus that of the coefficients of splines."""
    nodes = sympy.preorder_traversal(expression)
    return sum(1 + getattr(type(node), "numbers", 0) for node in nodes)


def _rank(expression: Expr) -> tuple[int, int, int]:
    """Return the sort key of equal expressions: counts of numbers, operations and nodes."""
    functions = sum(1 for node in sympy.preorder_traversal(expression) if node.is_Function)
    operations = int(sympy.count_ops(expression)) + functions
    return count_numbers(expression), operations, complexity(expression)
