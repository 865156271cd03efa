"""Where a formula is defined: on the data, a little beyond them, and how far it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import sympy

from kanlens.symbolic.composition import Array, Expr, evaluator, rounded
from kanlens.symbolic.poles import Places, dips, vanishes
from kanlens.symbolic.wording import formula_text

BEYOND = 0.05  # share of each range by which it is extended
REACH = 1.0  # share of each range up to which the formula is followed
_POINTS = 4000  # where the extension is checked
_SWEEP = 200  # points of one feature beyond each end of its range
_ROWS, _FEWEST_ROWS = 40, 4  # that are swept along, fewer with more features
_SWEPT = 320  # rows times features
_TIGHT, _TIGHT_PARTS = 4, 10  # rows, that are swept along for each of some parts
_SEARCHES = 8  # for a pole of one part between the points
_SEARCHED = 40  # parts
_PLACES = 24  # along a way at which there may be a pole


def broken_parts(
    expressions: tuple[Expr, ...], symbols: tuple[Expr, ...], x: Array
) -> tuple[str, ...]:
    """Name the parts of a formula that are undefined somewhere on slightly wider ranges.

    Between two points where a denominator has different signs there is a pole, even when no point
    hits it; where it only touches zero, a search from the points at which it is least finds it.

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
    box = points.min(axis=0), points.max(axis=0)
    parts = list(_parts(expressions))
    found: dict[str, None] = {}
    inner = evaluator(tuple(part.inner for part in parts), symbols)(points) if parts else points
    for place, part in enumerate(parts):
        margins = part.margin(inner[:, place])
        bad = not part.good(margins).all() or (part.signed and len(set(inner[:, place] > 0)) > 1)
        if not bad and place < _SEARCHED:
            bad = _touches(part, symbols, points, margins, box)
        if bad:
            found[formula_text(rounded(part.node, 4))] = None
    if not found and not _finite(expressions, symbols, points, box):
        found["the formula as a whole"] = None
    return tuple(found)


def poles(expressions: tuple[Expr, ...], symbols: tuple[Expr, ...], x: Array) -> tuple[str, ...]:
    """Name the parts of a formula that go to infinity on some rows or between them.

    Between them means that a denominator has different signs on two rows, or comes down to zero
    within the box of a row and of those nearest to it.

    Parameters
    ----------
    expressions, symbols, x
        As for `broken_parts`.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> x, rows = sympy.Symbol("x", real=True), np.linspace(0.0, 1.0, 10)[:, None]
    >>> poles((1 / (x - 0.51) ** 2 + 1 / (x + 0.01),), (x,), rows)
    ('(x - 0.51)**(-2)',)
    """
    found: dict[str, None] = {}
    for part in [part for part in _parts(expressions) if part.strict][:_SEARCHED]:
        inner = evaluator((part.inner,), symbols)
        values = inner(x)[:, 0]
        margins = part.margin(values)
        bad = not part.good(margins).all() or (part.signed and len(set(values > 0)) > 1)
        if not bad:
            starts = x[np.argsort(margins)[:_SEARCHES]]
            near = x[_neighbours(starts, x)]  # (start, near, in)
            box = near.min(axis=1), near.max(axis=1)
            bad = bool(part.undefined(partial(_first, inner), starts, *box)[0].any())
        if bad:
            found[formula_text(rounded(part.node, 4))] = None
    return tuple(found)


def _first(evaluate: Callable[[Array], Array], points: Array) -> Array:
    return evaluate(points)[:, 0]


def _neighbours(starts: Array, x: Array) -> Places:
    """Return the rows nearest to some points, twice as many as there are features, and one."""
    width = x.max(axis=0) - x.min(axis=0)
    even = np.where(width > 0, width, 1.0)
    gaps = np.square((starts[:, None] - x[None]) / even).sum(axis=2)
    return np.asarray(np.argsort(gaps, axis=1)[:, : 2 * x.shape[1] + 1])


def _touches(
    part: _Part, symbols: tuple[Expr, ...], points: Array, margins: Array, box: tuple[Array, Array]
) -> bool:
    """Tell whether a part is undefined between the points, near those of the least margins."""
    inner = evaluator((part.inner,), symbols)
    starts = points[np.argsort(margins)[:_SEARCHES]]
    return bool(part.undefined(lambda at: inner(at)[:, 0], starts, *box)[0].any())


def _finite(
    expressions: tuple[Expr, ...],
    symbols: tuple[Expr, ...],
    points: Array,
    box: tuple[Array, Array],
) -> bool:
    """Tell whether a formula is finite on points, and between those where it is largest."""
    evaluate = evaluator(expressions, symbols)
    values = np.abs(evaluate(points))
    if not np.isfinite(values).all():
        return False
    for output, column in enumerate(values.T):
        starts = points[np.argsort(-column)[:_SEARCHES]]

        def margin(at: Array, output: int = output) -> Array:
            with np.errstate(divide="ignore"):
                return np.asarray(1 / np.abs(evaluate(at)[:, output]))

        if vanishes(margin, starts, *box)[0].any():
            return False
    return True


def valid_ranges(
    expressions: tuple[Expr, ...], symbols: tuple[Expr, ...], x: Array
) -> dict[str, tuple[float, float]]:
    """Return how far each feature may leave its range before the formula breaks down.

    Each feature is moved alone, on 200 points up to one width of its range beyond either end. The
    others are as they are in 4 to 40 rows, and in those that come closest to what is undefined.

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
    rows = x[_spread(len(x), count) | _closest(expressions, symbols, x)]
    defined, found = _definedness(expressions, symbols), {}
    for column, symbol in enumerate(symbols):
        if symbol.name in used:
            low, high = float(x[:, column].min()), float(x[:, column].max())
            reach = REACH * (high - low)
            down = _last_good(defined, rows, column, np.linspace(low, low - reach, _SWEEP + 1))
            up = _last_good(defined, rows, column, np.linspace(high, high + reach, _SWEEP + 1))
            found[symbol.name] = (down, up)
    return found


def _spread(rows: int, count: int) -> Any:  # (row,) of bool
    """Choose some rows, spread evenly."""
    chosen = np.zeros(rows, dtype=bool)
    chosen[np.linspace(0, rows - 1, min(rows, count)).round().astype(int)] = True
    return chosen


def _closest(expressions: tuple[Expr, ...], symbols: tuple[Expr, ...], x: Array) -> Any:
    """Choose the rows where parts of a formula have the least margins."""
    parts = list(_parts(expressions))[:_TIGHT_PARTS]
    chosen = np.zeros(len(x), dtype=bool)
    if parts:
        inner = evaluator(tuple(part.inner for part in parts), symbols)(x)
        for part, column in zip(parts, inner.T, strict=True):
            chosen[np.argsort(part.margin(column))[:_TIGHT]] = True
    return chosen


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
        for place, part in enumerate(parts, start=len(expressions)):
            inner = values[..., place]
            margins = part.margin(inner)
            good &= part.good(margins).all(axis=1)
            if part.signed:
                good[1:] &= ((inner[1:] > 0) == (inner[:-1] > 0)).all(axis=1)
            good[_touched(part, place, evaluate, points, margins)] = False
        return np.asarray(good)

    return defined


def _touched(
    part: _Part, output: int, evaluate: Callable[[Array], Array], points: Array, margins: Array
) -> Array:
    """Return the first places of points (place, row, in) behind which a part is undefined."""
    dipping = dips(margins)[:_PLACES]
    if not len(dipping):
        return np.array([], dtype=int)
    place, row = dipping.T
    before, here, after = (points[place + step, row] for step in (-1, 0, 1))
    found, ends = part.undefined(
        lambda at: evaluate(at)[:, output],
        here,
        np.minimum(before, after),
        np.maximum(before, after),
    )
    beyond = np.abs(ends - before).sum(axis=1) > np.abs(here - before).sum(axis=1)
    return np.asarray((place + beyond)[found])


class _Part(NamedTuple):
    """A part that can be undefined.

    `margin` says of the values of `inner` how far they are from what is undefined; where `strict`,
    a margin of zero is undefined too. Where the sign of a denominator changes there is a pole.
    """

    node: Expr
    inner: Expr
    margin: Callable[[Array], Array]
    strict: bool = True
    signed: bool = False

    def good(self, margins: Array) -> Array:
        """Tell where a margin is large enough."""
        return np.asarray(margins > 0 if self.strict else margins >= 0)

    def undefined(
        self, inner: Callable[[Array], Array], starts: Array, low: Array, high: Array
    ) -> tuple[Any, Array]:
        """Search a box for places where the part is undefined; the arguments are `vanishes`'."""
        found, ends = vanishes(lambda at: self.margin(inner(at)), starts, low, high)
        return found if self.strict else self.margin(inner(ends)) < 0, ends


def _parts(expressions: tuple[Expr, ...]) -> Iterator[_Part]:
    seen: set[Expr] = set()
    for expression in expressions:
        walk = sympy.preorder_traversal(expression)
        for node in walk:
            if isinstance(node, sympy.Piecewise):
                walk.skip()  # a piece need not be defined where another holds
            if node in seen or not node.free_symbols:
                continue
            seen.add(node)
            if node.is_Pow and node.base.free_symbols and node.exp.is_number:
                part = _power(node)
                if part is not None:
                    yield part
            elif type(node) in _MARGINS:
                margin, strict = _MARGINS[type(node)]
                yield _Part(node, node.args[0], margin, strict)
            elif type(node) in _DENOMINATORS:
                inner = _DENOMINATORS[type(node)](node.args[0])
                yield _Part(node, inner, np.abs, signed=True)


def _power(node: Expr) -> _Part | None:
    exponent = float(node.exp)
    if exponent != round(exponent):
        return _Part(node, node.base, np.asarray, strict=exponent < 0)
    return _Part(node, node.base, np.abs, signed=True) if exponent < 0 else None


def _within_one(values: Array) -> Array:
    return np.asarray(1 - np.abs(values))


_MARGINS: dict[Any, tuple[Callable[[Array], Array], bool]] = {
    sympy.log: (np.asarray, True),
    sympy.asin: (_within_one, False),
    sympy.acos: (_within_one, False),
    sympy.atanh: (_within_one, True),
    sympy.acosh: (lambda values: np.asarray(values - 1), False),
}
_DENOMINATORS: dict[Any, Callable[[Expr], Expr]] = {
    sympy.tan: sympy.cos,
    sympy.sec: sympy.cos,
    sympy.cot: sympy.sin,
    sympy.csc: sympy.sin,
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
