"""An edge at evenly spaced points, with all it can do between two of them.

Everything is in units of an interval: s = (u - low) / (high - low) goes from 0 to 1, and
derivatives are in s. A cell is what lies between two neighbouring points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.polynomial.polynomial import polyval

from kanlens.errors import MethodError
from kanlens.functions.elementary import Array
from kanlens.functions.stretches import ScaledFunction
from kanlens.model.edge import Edge
from kanlens.splines.pieces import Index

EPS = float(np.finfo(np.float64).eps)
_OTHERS = "Use {algorithm} or 'sampling'"  # advice
SEAM = 1e-6  # of a cell: a break this near the end of a cell is in the next one as well


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """An edge at the ends of the cells of an interval, and what bounds it inside them."""

    values: Array  # (cell + 1,)
    second: Array  # (cell + 1,): second derivative, may be infinite
    jumps: Array  # (3, cell): sums of the absolute jumps of value, slope and second derivative
    swing: Array  # (cell,): the second derivative moves no more than this inside, jumps aside
    slopes: Array  # (2,): first derivative at both ends of the interval; may be infinite
    thirds: Array  # (2,): third derivative, likewise
    magnitude: float  # size of the terms that values are summed from: what rounding is relative to
    reach: float  # size of the numbers that points are computed from, in units of the interval

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.swing)

    @property
    def places(self) -> Array:
        """The ends of the cells in s."""
        return np.arange(self.cells + 1) / self.cells


def samples(edge: Edge, low: float, high: float, cells: int) -> Samples:
    """Return an edge at the ends of `cells` cells between `low` and `high`.

    Refuse one that is not finite there, or whose second derivative has unknown extrema.
    """
    _check_finite(edge, low, high)
    with np.errstate(all="ignore"):
        form = _of_spline if edge.single is None else _of_function
        samples = form(edge, low, high, cells)
    if not np.isfinite(samples.values).all():
        raise _not_finite(edge, low, high)
    return samples


def at_point(edge: Edge, low: float, high: float) -> tuple[float, float]:
    """Return an edge where the ends of an interval can hardly be told apart, and its error."""
    _check_finite(edge, low, high)
    ends = np.array([low, high])
    with np.errstate(all="ignore"):
        value, other = edge(ends)
        slope = np.nan_to_num(np.abs(edge.derivative(ends)).max(), posinf=0.0)
    if not (math.isfinite(value) and math.isfinite(other)):
        raise _not_finite(edge, low, high)
    size = abs(value) + slope * max(abs(low), abs(high), abs(edge.input_shift))
    if edge.single is None:
        size += float(np.abs(edge.coefficients).max())
    return float(value), float(abs(other - value) + 64 * EPS * size)


def _not_finite(edge: Edge, low: float, high: float) -> MethodError:
    name = "the spline" if edge.single is None else f"the function {edge.single.g.name!r}"
    expected = f"edges that are finite on all that coalitions reach, for {name}"
    got = f"a pole or no value from {low:g} to {high:g}"
    return MethodError("attribute", expected, got, _OTHERS, algorithm="enumeration")


def _check_finite(edge: Edge, low: float, high: float) -> None:
    """Refuse a function with a pole in the interval, or about which too little is known."""
    if edge.single is None:
        return
    if edge.single.g.turning(2) is None:
        expected = "functions whose second derivative is known to turn at given places"
        got = repr(edge.single.g.name)
        raise MethodError("attribute", expected, got, _OTHERS, algorithm="enumeration")
    if not np.isfinite(edge.bounds(low, high)).all():
        raise _not_finite(edge, low, high)


def _cells_of(places: Array, cells: int) -> tuple[Index, Index]:
    """Return the first and the last cell that each place in s may lie in."""
    inside = np.asarray(places, dtype=np.float64) * cells
    ends = np.floor(inside - SEAM), np.floor(inside + SEAM)
    first, last = (np.clip(end, 0, cells - 1).astype(np.intp) for end in ends)
    return first, last


def _spread(places: Array, jumps: Array, low: float, high: float, cells: int) -> Array:
    """Return the sums, in units of s, of the jumps (order, place) in each cell: (order, cell)."""
    at = (places - low) / (high - low)
    near = (at >= 0) & (at <= 1)
    first, last = _cells_of(at[near], cells)
    sizes = np.abs(jumps[:, near]) * (high - low) ** np.arange(3.0)[:, None]
    apart = last > first
    where, sizes = np.append(first, last[apart]), np.append(sizes, sizes[:, apart], axis=1)
    return np.stack([np.bincount(where, row, cells) for row in sizes])


def _of_spline(edge: Edge, low: float, high: float, cells: int) -> Samples:
    """Return samples of a spline plus its base; the spline is a polynomial between breaks."""
    length, form = high - low, edge.to_scipy()
    u = low + length * np.arange(cells + 1) / cells
    inner = (u - edge.input_shift) / edge.input_scale
    beside, scale = edge.functions, edge.input_scale
    values = form.spline(u) + beside.nth(inner, 0)
    second = form.spline(u, 2) * length**2 + beside.nth(inner, 2) * (length / scale) ** 2
    cuts, jumps = _jumps(form.spline)
    kinks, steps = beside.jumps(3)
    cuts = np.concatenate((cuts, edge.input_shift + scale * kinks))
    jumps = np.concatenate((jumps, steps / scale ** np.arange(3.0)[:, None]), axis=1)
    extra = beside.sizes(inner).max() if len(beside.functions) > 1 else 0.0
    third = _third(form.spline, low, high, cells)
    third = third + beside.steepest(inner[0], inner[-1], 3) / scale**3
    ends = np.array([low, high])
    return Samples(
        values=values,
        second=second,
        jumps=_spread(cuts, jumps, low, high, cells),
        swing=third * length**3 / cells,
        slopes=edge.derivative(ends) * length,
        thirds=edge.derivative(ends, 3) * length**3,
        magnitude=float(np.abs(values).max() + _terms(form.spline, low, high) + extra),
        reach=max(abs(low), abs(high), abs(edge.input_shift)) / length,
    )


def _jumps(spline: Any) -> tuple[Array, Array]:
    """Return the inner breaks of a PPoly, and the jumps there of its derivatives 0 to 2."""
    widths, rows = np.diff(spline.x)[:-1], []
    for order in range(3):
        powers = spline.derivative(order).c if order else spline.c
        rows.append(powers[-1, 1:] - polyval(widths, powers[::-1, :-1], tensor=False))
    return spline.x[1:-1], np.array(rows)


def _widths(spline: Any, low: float, high: float) -> tuple[Array, Array, Array]:
    """Return the part of [low, high] that each piece of a PPoly covers, and its extent."""
    starts = np.concatenate(([-np.inf], spline.x[1:-1]))
    ends = np.concatenate((spline.x[1:-1], [np.inf]))
    begin, end = np.clip(starts, low, high), np.clip(ends, low, high)
    extent = np.maximum(np.abs(begin - spline.x[:-1]), np.abs(end - spline.x[:-1]))
    return begin, end, np.where(end > begin, extent, 0.0)


def _third(spline: Any, low: float, high: float, cells: int) -> Array:
    """Bound the third derivative of a PPoly in each cell, shape (cell,)."""
    begin, end, extent = _widths(spline, low, high)
    sizes = polyval(extent, np.abs(spline.derivative(3).c[::-1]), tensor=False)
    first, _ = _cells_of((begin - low) / (high - low), cells)
    _, last = _cells_of((end - low) / (high - low), cells)
    most = np.zeros(cells)
    for piece in np.flatnonzero(end > begin):
        part = slice(first[piece], last[piece] + 1)
        most[part] = np.maximum(most[part], sizes[piece])
    return most


def _terms(spline: Any, low: float, high: float) -> float:
    """Return the size of the terms that a PPoly's values are summed from."""
    _, _, extent = _widths(spline, low, high)
    return float(polyval(extent, np.abs(spline.c[::-1]), tensor=False).max())


def _of_function(edge: Edge, low: float, high: float, cells: int) -> Samples:
    """Return samples of an elementary function; its second derivative turns at known places."""
    length, one = high - low, cast("ScaledFunction", edge.single)
    u = low + length * np.arange(cells + 1) / cells
    values = edge(u)
    second = edge.derivative(u, 2) * length**2
    kinks, jumps = edge.functions.jumps(3)
    ends, scale = np.array([low, high]), edge.input_scale
    origin = abs(one.b) * scale / abs(one.a) if one.a else 0.0
    kinks, jumps = edge.input_shift + scale * kinks, jumps / scale ** np.arange(3.0)[:, None]
    return Samples(
        values=values,
        second=second,
        jumps=_spread(kinks, jumps, low, high, cells),
        swing=_swing(edge, one, low, length, second),
        slopes=edge.derivative(ends) * length,
        thirds=edge.derivative(ends, 3) * length**3,
        magnitude=float(np.abs(values).max()) + 2 * abs(one.d),
        reach=max(abs(low), abs(high), abs(edge.input_shift), origin) / length,
    )


def _swing(edge: Edge, one: ScaledFunction, low: float, length: float, second: Array) -> Array:
    """Bound how far the second derivative in each cell is from its ends."""
    cells, size = len(second) - 1, abs(one.a) / edge.input_scale * length  # size: dv/ds
    if one.g.name == "sin" and size > cells:  # it turns too often to look at every place
        return np.full(cells, 2 * abs(one.c) * size**2)
    swing = np.abs(np.diff(second))
    shift, scale = edge.input_shift, edge.input_scale
    ends = (low - shift) / scale, (low + length - shift) / scale
    for u in one.places(one.g.turning(2) or (), *ends):
        place = shift + scale * u
        there = edge.derivative(place, 2) * length**2
        first, last = _cells_of(np.array([(place - low) / length]), cells)
        for cell in range(first[0], last[0] + 1):
            way = abs(second[cell] - there) + abs(second[cell + 1] - there)
            swing[cell] = max(swing[cell], way)
    return np.asarray(np.where(np.isfinite(swing), swing, np.inf))
