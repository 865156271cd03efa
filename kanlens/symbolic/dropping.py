"""Shorter formulas from a long one: terms are left out, the least missed first."""

from __future__ import annotations

import dataclasses

import numpy as np
import sympy

from kanlens.interruption import Interruption
from kanlens.symbolic.composition import Array, Expr, evaluator
from kanlens.symbolic.constants import RefinedFormula, can_refine, refine, snap
from kanlens.symbolic.simplification import shorten

_ROWS = 500  # on which terms are compared
_CHECKED = 200  # on which rewriting is checked
_MOST_ROUNDS = 8
_MOST_TERMS = 60  # that are compared in one round
_LONG = 150  # operations beyond which only the outermost numbers are refitted


def drop_terms(
    expression: Expr,
    symbols: tuple[Expr, ...],
    x: Array,
    y: Array,
    *,
    snapped: bool = True,
    independent: int | None = None,
    stop: Interruption | None = None,
) -> list[RefinedFormula]:
    """Return formulas with ever fewer terms, down to a constant.

    In every round the term of a sum, at any depth, is left out without which the rest fits best
    after a change of scale and level; then the numbers are refitted and made exact. A long
    formula loses several terms in a round.

    Parameters
    ----------
    expression : Expr
        One output.
    symbols : tuple of Symbol
        One per column of `x`.
    x : ndarray, shape (batch, in)
    y : ndarray, shape (batch,)
    snapped : bool
        Whether numbers are made exact.
    independent : int, optional
        As for `snap`.
    stop : Interruption, optional
        An interrupt ends the search for shorter formulas.

    Returns
    -------
    list of RefinedFormula
        The last is the mean of `y`; empty when `expression` is a constant.

    Examples
    --------
    >>> s = sympy.Symbol("s", real=True)
    >>> x = np.linspace(-1.0, 1.0, 40)[:, None]
    >>> shorter = drop_terms(s**3 / 100 + 2 * s, (s,), x, x[:, 0] ** 3 / 100 + 2 * x[:, 0])
    >>> len(shorter), shorter[0].expression.coeff(s, 3)
    (2, 0)
    """
    if not expression.free_symbols:
        return []
    pick = np.linspace(0, len(x) - 1, min(len(x), _ROWS)).round().astype(int)
    found: list[RefinedFormula] = []
    now = expression
    with (stop or Interruption()).kept():
        for _ in range(_MOST_ROUNDS):
            candidates = [] if sympy.count_ops(now) > 2 * _LONG else _without_a_term(now)
            best = _closest(candidates, symbols, x[pick], y[pick]) if candidates else None
            if best is None:
                break
            settled = _settled(best, symbols, x, y, snapped, independent)
            now = settled.expression
            if not now.free_symbols:
                break
            found.append(settled)
    return [*found, _made(sympy.Float(float(np.mean(y))))]


def _made(expression: Expr) -> RefinedFormula:
    return RefinedFormula(expression=expression, loss=float("nan"))


def _without_a_term(expression: Expr) -> list[Expr]:
    """Return the expression without each of the terms of its sums that vary."""
    found: dict[Expr, None] = {}
    for node in sympy.preorder_traversal(expression):
        if node.is_Add:
            for term in node.args:
                if term.free_symbols:
                    rest = node.func(*(other for other in node.args if other is not term))
                    shorter = expression.xreplace({node: rest})
                    if shorter.free_symbols:
                        found[shorter] = None
    return list(found)[:_MOST_TERMS]


def _closest(candidates: list[Expr], symbols: tuple[Expr, ...], x: Array, y: Array) -> Expr | None:
    """Return the candidate that fits best after a change of scale and level, with both."""
    values = evaluator(tuple(candidates), symbols)(x)
    with np.errstate(all="ignore"):
        centered = values - values.mean(axis=0)
        scale = (centered * (y - y.mean())[:, None]).sum(axis=0) / np.square(centered).sum(axis=0)
        losses = np.square(scale * centered - (y - y.mean())[:, None]).mean(axis=0)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    k = int(losses.argmin())
    if not np.isfinite(losses[k]):
        return None
    level = float(y.mean() - scale[k] * values[:, k].mean())
    return sympy.Float(float(scale[k])) * candidates[k] + sympy.Float(level)


def _settled(
    expression: Expr,
    symbols: tuple[Expr, ...],
    x: Array,
    y: Array,
    snapped: bool,
    independent: int | None,
) -> RefinedFormula:
    """Refit the numbers of a formula and make them exact."""
    points = x[:: max(1, len(x) // _CHECKED)]
    now = shorten(expression, symbols, points)
    if sympy.count_ops(now) > _LONG or not can_refine(now) or _has_splines(now):
        return _made(now)
    now = shorten(refine(now, symbols, x, y).expression, symbols, points)
    if not snapped:
        return _made(now)
    exact = snap(now, symbols, x, y, independent=independent)
    return dataclasses.replace(exact, expression=shorten(exact.expression, symbols, points))


def _has_splines(expression: Expr) -> bool:
    return any(hasattr(type(node), "_imp_") for node in expression.atoms(sympy.Function))
