"""Domain of a formula: on the data, slightly beyond, and its valid range."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import sympy

from kanlens.symbolic.composition import Array, Expr, evaluator, rounded
from kanlens.symbolic.notation import formula_text

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
Places: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]
Exprs: TypeAlias = tuple[Expr, ...]
Function: TypeAlias = Callable[[Array], Array]

_FIRST = 0.05  # share of each range that the first steps are long
_LAST = 1e-13  # share at which a search ends
_NEAR = 1e-3  # share by which the places lie off that the end of a search is compared with
_SHRINK = 0.25
_FALL = 1e-5  # what is left of the largest value there when the quantity goes to zero
_MOVES = 150
_DIP = 0.5  # of its higher neighbour, below which a place is worth a search


def broken_parts(expressions: Exprs, symbols: Exprs, x: Array) -> tuple[str, ...]:
    """Name the parts of a formula that are undefined somewhere on slightly wider ranges.

    Between two points where a denominator has different signs there is a pole, even when no point
    hits it; where it only touches zero, a search from the points at which it is least finds it.
    """
    points = wider(x)
    box = points.min(axis=0), points.max(axis=0)
    broken = _broken(list(_parts(expressions)), symbols, points, lambda starts: box)
    whole = [_Part(expression, expression, _inverse) for expression in expressions]
    if not broken and _broken(whole, symbols, points, lambda starts: box):
        return ("the formula as a whole",)
    return broken


def poles(expressions: Exprs, symbols: Exprs, x: Array) -> tuple[str, ...]:
    """Name the parts of a formula that go to infinity on some rows or between them.

    Between them means that a denominator has different signs on two rows, or comes down to zero
    within the box of a row and of those nearest to it.
    """
    parts = [part for part in _parts(expressions) if part.strict][:_SEARCHED]
    return _broken(parts, symbols, x, partial(_around, x))


def _broken(
    parts: list[_Part],
    symbols: Exprs,
    points: Array,
    box_of: Callable[[Array], tuple[Array, Array]],
) -> tuple[str, ...]:
    """Return the parts that are undefined on points, or in boxes of those of least margins."""
    if not parts:
        return ()
    texts: dict[str, None] = {}
    inner = evaluator(tuple(part.inner for part in parts), symbols)(points)
    for place, (part, values) in enumerate(zip(parts, inner.T, strict=True)):
        margins = part.margin(values)
        bad = not part.good(margins).all() or (part.signed and len(set(values > 0)) > 1)
        if not bad and place < _SEARCHED:
            evaluate = evaluator((part.inner,), symbols)
            starts = points[np.argsort(margins)[:_SEARCHES]]
            bad = part.undefined(evaluate, starts, *box_of(starts))[0].any()
        if bad:
            texts[formula_text(rounded(part.node, 4))] = None
    return tuple(texts)


def _around(x: Array, starts: Array) -> tuple[Array, Array]:
    """Return the boxes, low and high (start, in), of the 2 in + 1 rows of x nearest to points."""
    width = x.max(axis=0) - x.min(axis=0)
    even = np.where(width > 0, width, 1.0)
    gaps = np.square((starts[:, None] - x[None]) / even).sum(axis=2)
    near = x[np.argsort(gaps, axis=1)[:, : 2 * x.shape[1] + 1]]  # (start, near, in)
    return near.min(axis=1), near.max(axis=1)


def valid_ranges(expressions: Exprs, symbols: Exprs, x: Array) -> dict[str, tuple[float, float]]:
    """Return how far each feature may leave its range before the formula breaks down.

    Each feature is moved alone, on 200 points up to one width of its range beyond either end. The
    others are as they are in 4 to 40 rows, and in those that come closest to what is undefined.
    """
    used = {symbol.name for expression in expressions for symbol in expression.free_symbols}
    count = min(_ROWS, max(_FEWEST_ROWS, _SWEPT // max(len(used), 1)))
    rows = _swept_rows(expressions, symbols, x, count)
    defined, ranges = _definedness(expressions, symbols), {}

    def last_good(column: int, end: float, far: float) -> float:
        way = np.linspace(end, far, _SWEEP + 1)
        points = np.repeat(rows[None], len(way), axis=0)
        points[:, :, column] = way[:, None]
        bad = np.flatnonzero(np.logical_not(defined(points)))
        return float(way[-1] if not len(bad) else way[max(int(bad[0]) - 1, 0)])

    for column, symbol in enumerate(symbols):
        if symbol.name in used:
            low, high = float(x[:, column].min()), float(x[:, column].max())
            reach = REACH * (high - low)
            down = last_good(column, low, low - reach)
            ranges[symbol.name] = down, last_good(column, high, high + reach)
    return ranges


def _swept_rows(expressions: Exprs, symbols: Exprs, x: Array, count: int) -> Array:
    """Return some rows, spread evenly, and those where parts of a formula have least margins."""
    rows = [np.linspace(0, len(x) - 1, min(len(x), count)).round().astype(int)]
    parts = list(itertools.islice(_parts(expressions), _TIGHT_PARTS))
    if parts:
        inner = evaluator(tuple(part.inner for part in parts), symbols)(x)
        pairs = zip(parts, inner.T, strict=True)
        rows += [np.argsort(part.margin(column))[:_TIGHT] for part, column in pairs]
    return np.asarray(x[np.unique(np.concatenate(rows))])


def _definedness(expressions: Exprs, symbols: Exprs) -> Function:
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


def _touched(part: _Part, output: int, evaluate: Function, points: Array, margins: Array) -> Array:
    """Return the first places of points (place, row, in) behind which a part is undefined."""
    dipping = dips(margins)[:_PLACES]
    if not len(dipping):
        return np.array([], dtype=int)
    place, row = dipping.T
    before, here, after = (points[place + step, row] for step in (-1, 0, 1))
    box = np.minimum(before, after), np.maximum(before, after)
    bad, ends = part.undefined(lambda at: evaluate(at)[:, output : output + 1], here, *box)
    beyond = np.abs(ends - before).sum(axis=1) > np.abs(here - before).sum(axis=1)
    return np.asarray((place + beyond)[bad])


class _Part(NamedTuple):
    """A part that can be undefined."""

    node: Expr
    inner: Expr
    margin: Function  # how far values of `inner` are from what is undefined
    strict: bool = True  # whether a margin of zero is undefined too
    signed: bool = False  # whether it is a denominator, which has a pole where its sign changes

    def good(self, margins: Array) -> Array:
        """Tell where a margin is large enough."""
        return np.asarray(margins > 0 if self.strict else margins >= 0)

    def undefined(
        self, inner: Function, starts: Array, low: Array, high: Array
    ) -> tuple[Any, Array]:
        """Search a box as `vanishes` does; `inner` returns the values in a column of its own."""
        found, ends = vanishes(lambda at: self.margin(inner(at)[:, 0]), starts, low, high)
        return found if self.strict else self.margin(inner(ends)[:, 0]) < 0, ends


def _parts(expressions: Exprs) -> Iterator[_Part]:
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
                exponent = float(node.exp)
                if exponent != round(exponent):
                    yield _Part(node, node.base, np.asarray, strict=exponent < 0)
                elif exponent < 0:
                    yield _Part(node, node.base, np.abs, signed=True)
            elif type(node) in _MARGINS:
                margin, strict = _MARGINS[type(node)]
                yield _Part(node, node.args[0], margin, strict)
            elif type(node) in _DENOMINATORS:
                inner = _DENOMINATORS[type(node)](node.args[0])
                yield _Part(node, inner, np.abs, signed=True)


_MARGINS: dict[Any, tuple[Function, bool]] = {
    sympy.log: (np.asarray, True),
    sympy.asin: (lambda values: 1 - np.abs(values), False),
    sympy.acos: (lambda values: 1 - np.abs(values), False),
    sympy.atanh: (lambda values: 1 - np.abs(values), True),
    sympy.acosh: (lambda values: values - 1, False),
}
_DENOMINATORS: dict[Any, Callable[[Expr], Expr]] = {
    sympy.tan: sympy.cos,
    sympy.sec: sympy.cos,
    sympy.cot: sympy.sin,
    sympy.csc: sympy.sin,
}


def wider(x: Array) -> Array:
    """Return points in ranges a little wider than the data's: rows moved out, and sweeps."""
    low, high = x.min(axis=0), x.max(axis=0)
    room = BEYOND * (high - low)
    pick = np.linspace(0, len(x) - 1, min(len(x), _POINTS // (2 * x.shape[1]) + 1))
    rows = x[pick.round().astype(int)]
    center = (low + high) / 2
    points = [center + (1 + 2 * BEYOND) * (rows - center)]
    for column in range(x.shape[1]):
        ends = low[column] - room[column], high[column] + room[column]
        for places in (*ends, np.linspace(*ends, len(rows))):
            moved = rows.copy()
            moved[:, column] = places
            points.append(moved)
    return np.concatenate(points)


def vanishes(margin: Function, starts: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Search for zeros downhill from points (start, in) in the box `low`, `high`, axis by axis.

    What is nothing beside its value a thousandth of the ranges away counts as zero. Returns which
    searches found one, (start,), and where they ended.
    """
    low, high = np.broadcast_to(low, starts.shape), np.broadcast_to(high, starts.shape)
    axes = np.eye(starts.shape[1])[(high > low).any(axis=0)]
    ways = np.concatenate((axes, -axes))  # (way, in)
    points, length = starts.copy(), np.full(len(starts), _FIRST)
    least = _known(margin(points))

    def around(which: Places, far: Array) -> tuple[Array, Array]:  # (which, way, in), (which, way)
        steps = (far[:, None] * (high - low)[which])[:, None] * ways
        trials = np.clip(points[which, None] + steps, low[which, None], high[which, None])
        values = margin(trials.reshape(-1, points.shape[1]))
        return trials, _known(values).reshape(trials.shape[:2])

    for _ in range(_MOVES if len(ways) else 0):
        going = np.flatnonzero((length > _LAST) & (least > 0))
        if not len(going):
            break
        trials, values = around(going, length[going])
        best = values.argmin(axis=1)
        lower = values[np.arange(len(going)), best]
        better = lower < least[going]
        points[going[better]] = trials[better, best[better]]
        least[going[better]] = lower[better]
        length[going[~better]] *= _SHRINK
    every = np.arange(len(points))
    _, values = around(every, np.full(len(points), _NEAR))
    near = np.where(np.isfinite(values), values, 0.0).max(axis=1, initial=0.0)
    return (least <= 0) | (least <= _FALL * near), points


def dips(margins: Array) -> Places:
    """Return the places (place, row) where a quantity along a way may have touched zero."""
    inner = margins[1:-1]
    before, after = margins[:-2], margins[2:]
    low = (inner <= before) & (inner <= after) & (inner < _DIP * np.maximum(before, after))
    return np.asarray(np.argwhere(low) + np.array([1, 0]))


def _inverse(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.abs(values))


def _known(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.inf)
