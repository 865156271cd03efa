"""Checks of where a formula is defined: on the data, beyond, and per feature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import sympy

from kanlens.symbolic._composition import Array, Expr, evaluator, rounded
from kanlens.symbolic._notation import formula_text

Places: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]
Exprs: TypeAlias = tuple[Expr, ...]
Function: TypeAlias = Callable[[Array], Array]

BEYOND = 0.05  # extension as a share of each range
REACH = 1.0  # sweep beyond each range, as a share of it
_POINTS = 4000  # for checks of the extension
_SWEEP = 200  # points of one feature beyond each end of its range
_MAX_ROWS, _MIN_ROWS = 40, 4  # rows to sweep, fewer with more features
_SWEPT = 320  # rows times features
_TIGHT_ROWS, _TIGHT_PARTS = 4, 10  # further rows to sweep, for some parts
_SEARCHES = 8  # for a pole of one part between the points
_MAX_PARTS = 40  # parts to search
_MAX_PLACES = 24  # points of a sweep to search for a pole

_FIRST = 0.05  # first step of a search, in ranges
_LAST = 1e-13  # last step
_END_DISTANCE = 1e-3  # distance of points to compare the end of a search with, in ranges
_SHRINK = 0.25
_FALL = 1e-5  # share of the largest value there, below which an end may be a zero
_NEAREST = 1e-11, 8  # distance of nearest points, in ranges or ulps
_NEAREST_SHARES = (0.3, 0.6, 1.0)  # of that distance
_CHANGE = 0.1  # least relative change from a zero to the nearest points
_MOVES = 150
_DIP = 0.5  # ratio to the larger neighbor of a possible zero

_finite = partial(np.nan_to_num, nan=np.inf, posinf=np.inf, neginf=np.inf)


def broken_parts(expressions: Exprs, symbols: Exprs, x: Array) -> tuple[str, ...]:
    """Return the subexpressions, as text, that are undefined on ranges slightly wider than x's."""
    points = wider(x)
    box = points.min(axis=0), points.max(axis=0)
    broken = _broken(list(_parts(expressions)), symbols, points, lambda starts: box)
    whole = [_Part(expression, expression, _inverse) for expression in expressions]
    if not broken and _broken(whole, symbols, points, lambda starts: box):
        return ("the formula as a whole",)
    return broken


def poles(expressions: Exprs, symbols: Exprs, x: Array) -> tuple[str, ...]:
    """Return the subexpressions, as text, with a pole on the rows or between neighboring ones."""
    parts = [part for part in _parts(expressions) if part.strict][:_MAX_PARTS]
    return _broken(parts, symbols, x, partial(_around, x))


def _broken(
    parts: list[_Part],
    symbols: Exprs,
    points: Array,
    box_of: Callable[[Array], tuple[Array, Array]],
) -> tuple[str, ...]:
    """Return the parts that are undefined on points or in boxes around some of them.

    A denominator has a pole between points where its sign differs, or where a search finds a zero.
    """
    if not parts:
        return ()
    texts: dict[str, None] = {}
    inner = evaluator(tuple(part.inner for part in parts), symbols)(points)
    for place, (part, values) in enumerate(zip(parts, inner.T, strict=True)):
        margins = part.margin(values)
        bad = not part.good(margins).all() or (part.signed and len(set(values > 0)) > 1)
        if not bad and place < _MAX_PARTS:
            evaluate = evaluator((part.inner,), symbols)
            starts = points[np.argsort(margins)[:_SEARCHES]]
            bad = part.undefined(evaluate, starts, *box_of(starts))[0].any()
        if bad:
            texts[formula_text(rounded(part.node, 4))] = None
    return tuple(texts)


def _around(x: Array, starts: Array) -> tuple[Array, Array]:
    """Return the bounding boxes (start, in) of the 2 in + 1 rows of x nearest to each start."""
    width = x.max(axis=0) - x.min(axis=0)
    even = np.where(width > 0, width, 1.0)
    gaps = np.square((starts[:, None] - x[None]) / even).sum(axis=2)
    near = x[np.argsort(gaps, axis=1)[:, : 2 * x.shape[1] + 1]]  # (start, near, in)
    return near.min(axis=1), near.max(axis=1)


def valid_ranges(expressions: Exprs, symbols: Exprs, x: Array) -> dict[str, tuple[float, float]]:
    """Return the ranges of single features on which a formula is defined.

    Each feature is moved alone, on 200 points up to one width of its range beyond either end, with
    the others as in 4 to 40 rows and in those closest to being undefined.
    """
    used = {symbol.name for expression in expressions for symbol in expression.free_symbols}
    parts = list(_parts(expressions))
    evaluate = evaluator((*expressions, *(part.inner for part in parts)), symbols)
    count = min(_MAX_ROWS, max(_MIN_ROWS, _SWEPT // max(len(used), 1)))
    places = [np.linspace(0, len(x) - 1, min(len(x), count)).round().astype(int)]
    if parts:
        tight = parts[:_TIGHT_PARTS]
        inner = evaluator(tuple(part.inner for part in tight), symbols)(x)
        pairs = zip(tight, inner.T, strict=True)
        places += [np.argsort(part.margin(column))[:_TIGHT_ROWS] for part, column in pairs]
    rows, ranges = x[np.unique(np.concatenate(places))], {}

    def last_good(column: int, end: float, far: float) -> float:
        way = np.linspace(end, far, _SWEEP + 1)
        points = np.repeat(rows[None], len(way), axis=0)
        points[:, :, column] = way[:, None]
        bad = np.flatnonzero(~_defined(parts, evaluate, points))
        return float(way[-1] if not len(bad) else way[max(int(bad[0]) - 1, 0)])

    for column, symbol in enumerate(symbols):
        if symbol.name in used:
            low, high = float(x[:, column].min()), float(x[:, column].max())
            reach = REACH * (high - low)
            down = last_good(column, low, low - reach)
            ranges[symbol.name] = down, last_good(column, high, high + reach)
    return ranges


def _defined(parts: list[_Part], evaluate: Function, points: Array) -> Any:
    """Return the mask (place,) of points (place, row, in) defined in all rows."""
    values = evaluate(points.reshape(-1, points.shape[2])).reshape(*points.shape[:2], -1)
    first = values.shape[2] - len(parts)  # of the parts, after the outputs
    good: Any = np.isfinite(values[..., :first]).all(axis=(1, 2))
    for index, part in enumerate(parts, start=first):
        inner = values[..., index]
        margins = part.margin(inner)
        good &= part.good(margins).all(axis=1)
        if part.signed:
            good[1:] &= ((inner[1:] > 0) == (inner[:-1] > 0)).all(axis=1)
        good[_touched(part, index, evaluate, points, margins)] = False
    return good


def _touched(part: _Part, output: int, evaluate: Function, points: Array, margins: Array) -> Array:
    """Return the first indices of points (place, row, in) next to zeros of a part's margins."""
    dipping = dips(margins)[:_MAX_PLACES]
    if not len(dipping):
        return np.array([], dtype=int)
    place, row = dipping.T
    before, here, after = (points[place + step, row] for step in (-1, 0, 1))
    box = np.minimum(before, after), np.maximum(before, after)
    bad, ends = part.undefined(lambda at: evaluate(at)[:, output : output + 1], here, *box)
    beyond = np.abs(ends - before).sum(axis=1) > np.abs(here - before).sum(axis=1)
    return np.asarray((place + beyond)[bad])


class _Part(NamedTuple):
    """A subexpression that can be undefined."""

    node: Expr
    inner: Expr  # the argument or denominator that decides
    margin: Function  # distance of values of `inner` from undefined ones
    strict: bool = True  # whether a margin of zero is undefined too
    signed: bool = False  # whether it is a denominator, which has a pole where its sign changes

    def good(self, margins: Array) -> Array:
        """Return the mask of margins that are large enough."""
        return np.asarray(margins > 0 if self.strict else margins >= 0)

    def undefined(
        self, inner: Function, starts: Array, low: Array, high: Array
    ) -> tuple[Any, Array]:
        """Search a box from each start; return a mask of undefined ends, and the ends."""
        zero, ends = vanishes(lambda x: self.margin(inner(x)[:, 0]), starts, low, high)
        return zero if self.strict else self.margin(inner(ends)[:, 0]) < 0, ends


def _parts(expressions: Exprs) -> Iterator[_Part]:
    seen: set[Expr] = set()
    for expression in expressions:
        walk = sympy.preorder_traversal(expression)
        for node in walk:
            if isinstance(node, sympy.Piecewise):
                walk.skip()  # a piece may be undefined where another holds
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
                yield _Part(node, _DENOMINATORS[type(node)](node.args[0]), np.abs, signed=True)


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
    """Return points in slightly wider ranges: scaled rows, and sweeps of single features."""
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
    """Search for zeros downhill from points (start, in) in a box.

    Returns the mask (start,) of searches that ended at a zero, and their ends. A value is a zero if
    it is at most 0, or if it is tiny relative to the largest one a thousandth of the ranges away
    and changes within about a rounding error of the point.
    """
    low, high = np.broadcast_to(low, starts.shape), np.broadcast_to(high, starts.shape)
    width = high - low
    axes = np.eye(starts.shape[1])[(high > low).any(axis=0)]
    ways = np.concatenate((axes, -axes))  # (way, in)
    points, length = starts.copy(), np.full(len(starts), _FIRST)
    least = _finite(margin(points))

    def around(index: Places, far: Array) -> tuple[Array, Array]:  # (index, way, in), (index, way)
        steps = far[:, None] * ways
        trials = np.clip(points[index, None] + steps, low[index, None], high[index, None])
        values = margin(trials.reshape(-1, points.shape[1]))
        return trials, _finite(values).reshape(trials.shape[:2])

    for _ in range(_MOVES if len(ways) else 0):
        going = np.flatnonzero((length > _LAST) & (least > 0))
        if not len(going):
            break
        trials, values = around(going, length[going, None] * width[going])
        best = values.argmin(axis=1)
        lower = values[np.arange(len(going)), best]
        better = lower < least[going]
        points[going[better]] = trials[better, best[better]]
        least[going[better]] = lower[better]
        length[going[~better]] *= _SHRINK
    every = np.arange(len(points))
    _, values = around(every, _END_DISTANCE * width)
    near = np.where(np.isfinite(values), values, 0.0).max(axis=1, initial=0.0)
    ranges, digits = _NEAREST
    nearest = np.maximum(ranges * width, digits * np.spacing(np.abs(points)))
    values = np.concatenate([around(every, part * nearest)[1] for part in _NEAREST_SHARES], axis=1)
    with np.errstate(invalid="ignore"):  # infinite everywhere
        change = np.abs(values - least[:, None]).max(axis=1, initial=0.0)
    return (least <= 0) | ((least <= _FALL * near) & (change >= _CHANGE * least)), points


def dips(margins: Array) -> Places:
    """Return the indices (place, row) of minima of margins, where they may touch zero."""
    inner = margins[1:-1]
    before, after = margins[:-2], margins[2:]
    low = (inner <= before) & (inner <= after) & (inner < _DIP * np.maximum(before, after))
    return np.asarray(np.argwhere(low) + np.array([1, 0]))


def _inverse(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.abs(values))
