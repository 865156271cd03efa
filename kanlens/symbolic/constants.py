"""Refit all numbers of a formula together, then replace them by exact constants.

A number is replaced when an exact constant lies within its error and is shorter by more bits than
the loss costs after the other numbers have been refitted [1]_; otherwise the step is undone. All
steps together may raise the loss by 2 %, or to 1e-4 of the variance.

References
----------
.. [1] J. Rissanen, Modeling by shortest data description, Automatica 14, 1978.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import sympy

from kanlens.symbolic.composition import Array, Expr, compiled
from kanlens.symbolic.least_squares import Minimum, minimize
from kanlens.symbolic.snapping import Constant, candidates, real_bits

MOST_NUMBERS = 60  # beyond which a formula is not refitted
_MOST_OPERATIONS = 1500
_MOST_ROWS = 500
_FLOOR = 1e-10  # loss, in units of the variance, that counts as none
_NEAR = 1e-3  # relative distance at which a constant is always tried
_WORSE = 1.02  # factor by which all steps together may raise the loss
_SLIGHT = 1e-4  # loss up to which only the description length decides
_SPARED = 4.0  # bits of the operation that is gone with a number that is zero
_WEAK = 0.05  # a number whose whole effect is this share of the deviation is tried as zero


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedFormula:
    """An expression after refitting or snapping.

    Attributes
    ----------
    expression : Expr
    loss : float
        Mean squared error over the variance of the target, on the rows used.
    snapped : tuple of str
        The exact constants put in.
    costs : tuple of float
        By how much each raised the loss once the other numbers had been refitted.
    """

    expression: Expr
    loss: float
    snapped: tuple[str, ...] = ()
    costs: tuple[float, ...] = ()


def can_refine(expression: Expr) -> bool:
    """Say whether an expression is small enough to be refitted.

    Examples
    --------
    >>> can_refine(2.5 * sympy.Symbol("x"))
    True
    """
    numbers = sum(1 for node in sympy.preorder_traversal(expression) if node.is_Float)
    return numbers <= MOST_NUMBERS and sympy.count_ops(expression) <= _MOST_OPERATIONS


def refine(expression: Expr, symbols: tuple[Expr, ...], x: Array, y: Array) -> RefinedFormula:
    """Fit every number of an expression to data, starting from what it is.

    Parameters
    ----------
    expression : Expr
        Its Floats are the numbers; exact constants stay.
    symbols : tuple of Symbol
        One per column of `x`.
    x : ndarray, shape (batch, in)
    y : ndarray, shape (batch,)

    Returns
    -------
    RefinedFormula

    Examples
    --------
    >>> s = sympy.Symbol("s", real=True)
    >>> x = np.linspace(0.0, 1.0, 20)[:, None]
    >>> refine(1.1 * s**2, (s,), x, 2 * x[:, 0] ** 2).expression
    2.0*s**2
    """
    formula = _Numbers(expression, symbols, x, y)
    found = formula.fit(np.ones(len(formula.start), dtype=bool), formula.start, steps=60)
    return RefinedFormula(expression=formula.rebuild(found.parameters, {}), loss=found.loss)


def snap(
    expression: Expr,
    symbols: tuple[Expr, ...],
    x: Array,
    y: Array,
    *,
    independent: int | None = None,
) -> RefinedFormula:
    """Replace numbers by exact constants where the data allow it.

    Parameters
    ----------
    expression, symbols, x, y
        As for `refine`.
    independent : int, optional
        Number of independent values in `y`; default all. The errors of a spline are smooth, so
        rows computed by a network count for less than measured ones.

    Returns
    -------
    RefinedFormula

    Examples
    --------
    >>> s = sympy.Symbol("s", real=True)
    >>> x = np.linspace(0.0, 1.0, 20)[:, None]
    >>> snap(1.99999 * sympy.sin(3.1416 * s), (s,), x, 2 * np.sin(np.pi * x[:, 0])).expression
    2*sin(pi*s)
    """
    formula = _Numbers(expression, symbols, x, y)
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
    best: tuple[float, int, Constant] | None = None
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
            if fresh and gain > 0 and (best is None or gain > best[0]):
                best = (gain, int(k), constant)
    return None if best is None else (best[1], best[2], best[0])


class _Numbers:
    """An expression with its Floats as parameters, evaluated on data."""

    def __init__(self, expression: Expr, symbols: tuple[Expr, ...], x: Array, y: Array) -> None:
        names, values = count(), []
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
        target = np.asarray(y, dtype=np.float64)[pick]
        self.deviation = float(target.std()) or 1.0
        self.target = target / self.deviation
        arguments = [*symbols, *self.parameters]
        self.function = compiled(self.expression, arguments)

    def values(self, thetas: Array) -> Array:
        """Return the values for several sets of numbers, (set, row), over the deviation."""
        with np.errstate(all="ignore"):
            found = np.asarray(self.function(*self.columns, *thetas.T[:, :, None]))
        if np.iscomplexobj(found):
            found = np.where(found.imag == 0, found.real, np.nan)
        shape = (len(thetas), len(self.target))
        return np.asarray(np.broadcast_to(found, shape) / self.deviation, dtype=np.float64)

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

        found = minimize(
            lambda some: self.values(whole(some)[None])[0] - self.target,
            lambda some: self.jacobian(whole(some), which),
            start[which],
            steps=steps,
        )
        errors = np.zeros(len(start))
        errors[which] = found.standard_errors
        return Minimum(
            parameters=whole(found.parameters),
            loss=found.loss,
            standard_errors=errors,
            steps=found.steps,
        )

    def rebuild(self, theta: Array, fixed: dict[int, Constant]) -> Expr:
        """Put numbers, exact where fixed, back into the expression."""
        values = {
            symbol: fixed[k].exact if k in fixed else sympy.Float(float(theta[k]))
            for k, symbol in enumerate(self.parameters)
        }
        return self.expression.xreplace(values)


def is_exact(expression: Expr) -> bool:
    """Say whether an expression holds no inexact numbers.

    Examples
    --------
    >>> is_exact(sympy.pi * sympy.Symbol("x")), is_exact(3.14 * sympy.Symbol("x"))
    (True, False)
    """
    return not any(node.is_Float for node in sympy.preorder_traversal(expression))
