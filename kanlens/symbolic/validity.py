"""Where a formula is defined: on the data, a little beyond them, and how far it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import sympy

from kanlens.symbolic.composition import Array, Expr, evaluator, rounded

BEYOND = 0.05  # share of each range by which it is extended
REACH = 1.0  # share of each range up to which the formula is followed
_POINTS = 4000  # where the extension is checked
_SWEEP = 200  # points of one feature beyond each end of its range
_ROWS, _FEWEST_ROWS = 40, 4  # that are swept along, fewer with more features
_SWEPT = 320  # rows times features


def broken_parts(
    expressions: tuple[Expr, ...], symbols: tuple[Expr, ...], x: Array
) -> tuple[str, ...]:
    """Name the parts of a formula that are undefined somewhere on slightly wider ranges.

    Between two points where a denominator has different signs there is a pole, even when no point
    hits it.

    Parameters
    ----------
    expressions : tuple of Expr
    symbols : tuple of Symbol
        One per column of `x`.
    x : ndarray, shape (batch, in)

    Returns
    -------
    tuple of str
        Empty when the formula is finite on ranges 5 % wider than those of `x`.

    Examples
    --------
    >>> x = sympy.Symbol("x", real=True)
    >>> broken_parts((1 / (x - 0.5),), (x,), np.linspace(0.0, 1.0, 10)[:, None])
    ('1/(x - 0.5)',)
    """
    points = wider(x)
    parts = list(_parts(expressions))
    found: dict[str, None] = {}
    if parts:
        values = evaluator(tuple(part.inner for part in parts), symbols)(points)
        for part, column in zip(parts, values.T, strict=True):
            if not part.good(column).all() or (part.signed and len(set(column > 0)) > 1):
                found[str(rounded(part.node, 4))] = None
    if not found and not np.isfinite(evaluator(expressions, symbols)(points)).all():
        found["the formula as a whole"] = None
    return tuple(found)


def valid_ranges(
    expressions: tuple[Expr, ...], symbols: tuple[Expr, ...], x: Array
) -> dict[str, tuple[float, float]]:
    """Return how far each feature may leave its range before the formula breaks down.

    Each feature is moved alone, with the others as they are in 4 to 40 rows, on 200 points up
    to one width of its range beyond either end.

    Parameters
    ----------
    expressions, symbols, x
        As for `broken_parts`.

    Returns
    -------
    dict of str to tuple of float
        Lowest and highest value of every feature that occurs.

    Examples
    --------
    >>> x = sympy.Symbol("x", real=True)
    >>> low, high = valid_ranges((sympy.log(x),), (x,), np.linspace(1.0, 3.0, 9)[:, None])["x"]
    >>> 0.0 < low < 0.02, high
    (True, 5.0)
    """
    used = {symbol.name for expression in expressions for symbol in expression.free_symbols}
    count = min(_ROWS, max(_FEWEST_ROWS, _SWEPT // max(len(used), 1)))
    rows = x[np.linspace(0, len(x) - 1, min(len(x), count)).round().astype(int)]
    defined, found = _definedness(expressions, symbols), {}
    for column, symbol in enumerate(symbols):
        if symbol.name in used:
            low, high = float(x[:, column].min()), float(x[:, column].max())
            reach = REACH * (high - low)
            down = _last_good(defined, rows, column, np.linspace(low, low - reach, _SWEEP + 1))
            up = _last_good(defined, rows, column, np.linspace(high, high + reach, _SWEEP + 1))
            found[symbol.name] = (down, up)
    return found


def _last_good(defined: Callable[[Array], Array], rows: Array, column: int, way: Array) -> float:
    """Return the last place on a way along a column up to which a formula is defined."""
    points = np.repeat(rows[None], len(way), axis=0)
    points[:, :, column] = way[:, None]
    bad = np.flatnonzero(np.logical_not(defined(points)))
    return float(way[-1] if not len(bad) else way[max(int(bad[0]) - 1, 0)])


def _definedness(
    expressions: tuple[Expr, ...], symbols: tuple[Expr, ...]
) -> Callable[[Array], Array]:
    """Return what says for points (place, row, in) at which places a formula is defined."""
    parts = list(_parts(expressions))
    evaluate = evaluator((*expressions, *(part.inner for part in parts)), symbols)

    def defined(points: Array) -> Array:
        values = evaluate(points.reshape(-1, points.shape[2])).reshape(*points.shape[:2], -1)
        outputs = values[..., : len(expressions)]
        good = np.isfinite(outputs).all(axis=(1, 2))
        for part, inner in zip(parts, np.moveaxis(values, 2, 0)[len(expressions) :], strict=True):
            good &= part.good(inner).all(axis=1)
            if part.signed:
                good[1:] &= ((inner[1:] > 0) == (inner[:-1] > 0)).all(axis=1)
        return np.asarray(good)

    return defined


class _Part(NamedTuple):
    """A part that can be undefined: what decides it, where that is good, whether its sign counts.

    Of a denominator the sign counts: where it changes there is a pole.
    """

    node: Expr
    inner: Expr
    good: Callable[[Array], Array]
    signed: bool = False


def _parts(expressions: tuple[Expr, ...]) -> Iterator[_Part]:
    seen: set[Expr] = set()
    for expression in expressions:
        for node in sympy.preorder_traversal(expression):
            if node in seen or not node.free_symbols:
                continue
            seen.add(node)
            if node.is_Pow and node.base.free_symbols and node.exp.is_number:
                part = _power(node)
                if part is not None:
                    yield part
            elif type(node) in _TESTS:
                yield _Part(node, node.args[0], _TESTS[type(node)])
            elif isinstance(node, sympy.tan):
                yield _Part(node, sympy.cos(node.args[0]), _nonzero, signed=True)


def _power(node: Expr) -> _Part | None:
    exponent = float(node.exp)
    if exponent != round(exponent):
        return _Part(node, node.base, _nonnegative if exponent > 0 else _positive)
    return _Part(node, node.base, _nonzero, signed=True) if exponent < 0 else None


def _nonnegative(values: Array) -> Array:
    return np.asarray(values >= 0)


def _positive(values: Array) -> Array:
    return np.asarray(values > 0)


def _nonzero(values: Array) -> Array:
    return np.asarray(np.abs(values) > 0)


_TESTS: dict[Any, Callable[[Array], Array]] = {
    sympy.log: _positive,
    sympy.asin: lambda values: np.asarray(np.abs(values) <= 1),
    sympy.acos: lambda values: np.asarray(np.abs(values) <= 1),
    sympy.atanh: lambda values: np.asarray(np.abs(values) < 1),
    sympy.acosh: lambda values: np.asarray(values >= 1),
}


def wider(x: Array) -> Array:
    """Return points in ranges a little wider than those of the data.

    Rows are moved away from the center of the data, and each feature is swept over its range with
    the others as they are in the data.

    Examples
    --------
    >>> points = wider(np.array([[0.0], [1.0]]))
    >>> round(float(points.min()), 6), round(float(points.max()), 6)
    (-0.05, 1.05)
    """
    low, high = x.min(axis=0), x.max(axis=0)
    room = BEYOND * (high - low)
    pick = np.linspace(0, len(x) - 1, min(len(x), _POINTS // (2 * x.shape[1]) + 1))
    rows = x[pick.round().astype(int)]
    center = (low + high) / 2
    points = [center + (1 + 2 * BEYOND) * (rows - center)]
    for column in range(x.shape[1]):
        ends = low[column] - room[column], high[column] + room[column]
        for places in (ends[0], ends[1], np.linspace(*ends, len(rows))):
            moved = rows.copy()
            moved[:, column] = places
            points.append(moved)
    return np.concatenate(points)
