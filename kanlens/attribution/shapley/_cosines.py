"""Cosine series plus polynomial of an edge on an interval, with an error bound.

The polynomial matches the derivatives at the ends; jumps of derivatives inside set the number of
cosines. A random cubic edge from -3 to 3 takes 1162 cosines for an error of 1e-6 of its range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval

from kanlens._lazy import scipy
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions._elementary import Array
from kanlens.functions._sums import ScaledFunction
from kanlens.model._edge import Edge
from kanlens.splines._pieces import Index

EPS = float(np.finfo(np.float64).eps)
SEAM = 1e-6  # of a cell: a break this near the end of a cell is in the next one as well
MIN_COSINES, MAX_COSINES = 32, 8192  # of an edge
CELLS = 8  # for each cosine; with 4 the bound is 1.4 times the error, with 8 it is 1.1 times
MIN_CELLS, MAX_CELLS = 2048, 2**17
BOOST, STEEP = 0.75, 7  # factor 1 + 0.75 (m / terms)**7 of the m-th cosine
LARGEST = 1e4  # largest end derivative, in ranges of the edge, that is matched: it costs digits
SAFETY = 1.15  # factor of the estimated number of cosines


@dataclass(frozen=True, kw_only=True, eq=False)
class CosineSeries:
    """A polynomial and cosines of m pi s, s from 0 at `low` to 1 at `high`."""

    low: float
    high: float
    polynomial: Array  # (5,)
    cosines: Array  # (cosine,)
    error: float  # bound on |edge - series| on the interval, rounding included

    @property
    def length(self) -> float:
        """Length of the interval."""
        return self.high - self.low


def fit(
    edge: Edge, low: float, high: float, *, tolerance: float, most: int = MAX_COSINES
) -> CosineSeries:
    """Expand an edge on an interval in a polynomial plus cosines.

    The number of cosines grows until the bound is below the tolerance, or to `most`. The bound
    holds for any coefficients. Between two points h apart, r = edge - series, if its slope is
    absolutely continuous, is at most h**2 / 8 * max|r''| above the larger value at the two. r'' is
    known at both, and in between changes by no more than the edge's second derivative plus h times
    a bound on the series' third. Jumps of r add their size, jumps of its slope h / 4 times their
    size; jumps of r'' are part of its changes.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        got, advice = f"{low!r} and {high!r}", "Pass the lower end first"
        raise InvalidValueError("shapley", "finite ends with low <= high", got, advice)
    if edge.single is not None and edge.single.c == 0:  # a constant
        edge = Edge.of("constant", d=edge.single.d)
    if not high - low > 4 * EPS * max(abs(low), abs(high)):
        return _constant(edge, low, high)

    terms, best, rate = min(MIN_COSINES, most), None, 3.0
    while True:
        series = _with_terms(edge, low, high, terms, tolerance)
        if best is not None and math.isfinite(best.error) and math.isfinite(series.error):
            rate = math.log(best.error / series.error) / math.log(terms / len(best.cosines))
        stuck = rate < 0.2 or not math.isfinite(series.error)  # a jump of the value, or rounding
        if best is None or series.error < best.error:
            best = series
        if best.error <= tolerance or terms >= most or stuck:
            return _trimmed(best, tolerance)
        wanted = SAFETY * terms * (series.error / tolerance) ** (1 / min(max(rate, 0.5), 8.0))
        count = int(min(max(wanted, 1.5 * terms), 16 * terms))
        terms = min(most, int(scipy.fft.next_fast_len(count, real=True)))


def _constant(edge: Edge, low: float, high: float) -> CosineSeries:
    """Return the series on an interval whose width is zero or about rounding."""
    _check_finite(edge, low, high)
    ends = np.array([low, high])
    with np.errstate(all="ignore"):
        value, other = (float(end) for end in edge(ends))
        slope = np.nan_to_num(np.abs(edge.derivative(ends)).max(), posinf=0.0)
    if not (math.isfinite(value) and math.isfinite(other)):
        raise _not_finite(edge, low, high)
    size = abs(value) + slope * max(abs(low), abs(high), abs(edge.input_shift))
    if edge.single is None:
        size += float(np.abs(edge.coefficients).max())
    error = float(abs(other - value) + 64 * EPS * size)
    polynomial = np.array([value, 0.0, 0.0, 0.0, 0.0])
    return CosineSeries(low=low, high=high, polynomial=polynomial, cosines=np.zeros(0), error=error)


def _with_terms(edge: Edge, low: float, high: float, terms: int, tolerance: float) -> CosineSeries:
    """Return the series with `terms` cosines; sampling is refined where it dominates the bound."""
    cells = max(MIN_CELLS, CELLS * terms)
    while True:
        points = Samples(edge, low, high, cells)
        polynomial, cosines = _coefficients(points, terms)
        seen, error = bound(points, polynomial, cosines)
        if not seen <= tolerance < error or cells >= MAX_CELLS:
            parts = {"polynomial": polynomial, "cosines": cosines}
            return CosineSeries(low=low, high=high, error=error, **parts)
        finer = SAFETY * ((error - seen) / (tolerance - 0.99 * seen)) ** (1 / 3)
        cells = min(int(cells * max(finer, 2.0)), MAX_CELLS)


def _coefficients(points: Samples, terms: int) -> tuple[Array, Array]:
    """Return the polynomial and cosines of a near-best approximation to an edge."""
    polynomial, (first, last) = np.zeros(5), points.slopes
    largest = LARGEST * float(np.ptp(points.values))
    for thirds in (np.zeros(2), points.thirds):  # also odd derivatives at the ends
        if np.abs((first, last, *thirds)).max() <= largest:  # neither infinite nor NaN
            cubic, quartic = thirds[0] / 6, (thirds[1] - thirds[0]) / 24
            square = (last - first - 3 * cubic - 4 * quartic) / 2
            polynomial = np.array([0.0, first, square, cubic, quartic])
    rest = points.values - polyval(points.places, polynomial)  # which is smooth
    cosines = scipy.fft.dct(rest, type=1)[: terms + 1] / points.cells
    polynomial[0] += 0.5 * cosines[0]
    m = np.arange(1, terms + 1)
    return polynomial, cosines[1:] * (1.0 + BOOST * (m / terms) ** STEEP)  # for later terms


def bound(points: Samples, polynomial: Array, cosines: Array) -> tuple[float, float]:
    """Return the largest error of a series at the samples, and a bound everywhere; see `fit`."""
    h, waves = 1.0 / points.cells, np.pi * np.arange(1, len(cosines) + 1)
    series = [_evaluated(points, polynomial, cosines, order) for order in (0, 2)]
    off, off_second = np.abs(points.values - series[0]), np.abs(points.second - series[1])
    powers, sizes = np.arange(5), np.abs(polynomial)
    steepest = np.abs(cosines) @ waves + sizes @ powers
    third = np.abs(cosines) @ waves**3 + sizes @ (powers * (powers - 1) * (powers - 2))
    ends = np.maximum(off[:-1], off[1:]) + points.jumps[0]
    curved = np.maximum(off_second[:-1], off_second[1:]) + points.jumps[2] + points.swing
    smooth = ends + h / 4 * points.jumps[1] + h * h / 8 * (curved + h * third)
    rises = np.abs(np.diff(points.values))
    worst = float(np.where(np.isfinite(curved), smooth, ends + rises + h * steepest).max())
    slope = float(rises.max()) * points.cells
    phases = float(np.abs(cosines) @ (waves + 4 * math.log2(points.cells) + 8))
    terms = 8 * points.magnitude + 4 * points.reach * slope + 8 * float(sizes.sum())
    rounding = 4 * EPS * (terms + phases)  # of values, points, transforms and phases
    return float(off.max()) + rounding, worst + rounding if math.isfinite(worst) else math.inf


def _evaluated(points: Samples, polynomial: Array, cosines: Array, order: int) -> Array:
    """Return a series, or its second derivative, at the ends of the cells."""
    padded = np.zeros(points.cells + 1)
    waves = np.pi * np.arange(1, len(cosines) + 1)
    padded[1 : len(cosines) + 1] = -cosines * waves**2 if order else cosines
    of_powers = polyval(points.places, polyder(polynomial, order))
    return np.asarray(0.5 * scipy.fft.dct(padded, type=1) + of_powers)


def _trimmed(series: CosineSeries, tolerance: float) -> CosineSeries:
    """Drop the last cosines as far as the error bound stays within the tolerance."""
    if not math.isfinite(series.error):
        return series
    room = max(tolerance - series.error, 0.01 * series.error)
    left = np.cumsum(np.abs(series.cosines[::-1]))
    count = int(np.searchsorted(left, room, side="right"))
    if not count:
        return series
    error = series.error + float(left[count - 1])
    return replace(series, cosines=series.cosines[:-count], error=error)


# --- samples of an edge ---------------------------------------------------------------------------


class Samples:
    """Samples of an edge on a uniform grid, with bounds inside each cell; poles are refused.

    Positions and derivatives are in units of the interval, s from 0 to 1.
    """

    def __init__(self, edge: Edge, low: float, high: float, cells: int) -> None:
        _check_finite(edge, low, high)
        length, shift, scale = high - low, edge.input_shift, edge.input_scale
        self.cells, self.places = cells, np.arange(cells + 1) / cells  # number of cells, their ends
        u, ends = low + length * np.arange(cells + 1) / cells, np.array([low, high])
        with np.errstate(all="ignore"):
            self.values = edge(u)  # (cell + 1,)
            self.second = edge.derivative(u, 2) * length**2  # (cell + 1,), may be infinite
            kinks, jumps = edge.functions.jumps(3)
            kinks, jumps = shift + scale * kinks, jumps / scale ** np.arange(3.0)[:, None]
            # (cell,): largest change of the second derivative inside, jumps aside
            if edge.single is None:
                spline = edge.to_scipy().spline
                cuts, steps = _jumps(spline)
                kinks, jumps = np.append(cuts, kinks), np.append(steps, jumps, axis=1)
                self.swing, size, origin = *_of_spline(edge, spline, low, high, cells), 0.0
            else:
                a, size = edge.single.a, 2 * abs(edge.single.d)
                self.swing = _of_function(edge, edge.single, low, length, self.second)
                origin = abs(edge.single.b) * scale / abs(a) if a else 0.0
            # (3, cell): sums of the absolute jumps of value, slope and second derivative
            self.jumps = _spread(kinks, jumps, low, high, cells)
            # (2,): first and third derivatives at both ends, may be infinite
            self.slopes, self.thirds = (edge.derivative(ends, k) * length**k for k in (1, 3))
        # sizes of terms that values are summed from, and of numbers that points are computed from
        self.magnitude = float(np.abs(self.values).max()) + size
        self.reach = max(abs(low), abs(high), abs(shift), origin) / length
        if not np.isfinite(self.values).all():
            raise _not_finite(edge, low, high)


def _not_finite(edge: Edge, low: float, high: float) -> MethodError:
    name = "the spline" if edge.single is None else f"the function {edge.single.g.name!r}"
    expected = f"edges that are finite at all values that coalitions reach, for {name}"
    return _refusal(expected, f"a pole or an undefined value from {low:g} to {high:g}")


def _refusal(expected: str, got: str) -> MethodError:
    advice = "Use {algorithm} or 'sampling'"
    return MethodError("attribute", expected, got, advice, algorithm="enumeration")


def _check_finite(edge: Edge, low: float, high: float) -> None:
    """Refuse a function with a pole or unknown extrema of its second derivative in the interval."""
    if edge.single is None:
        return
    if edge.single.g.turning(2) is None:
        expected = "functions whose second derivative has known extrema"
        raise _refusal(expected, repr(edge.single.g.name))
    if not np.isfinite(edge.bounds(low, high)).all():
        raise _not_finite(edge, low, high)


def _cells_of(places: Array, cells: int) -> tuple[Index, Index]:
    """Return the first and the last cell that each s may lie in."""
    inside = np.asarray(places, dtype=np.float64) * cells
    ends = np.floor(inside - SEAM), np.floor(inside + SEAM)
    first, last = (np.clip(end, 0, cells - 1).astype(np.intp) for end in ends)
    return first, last


def _spread(places: Array, jumps: Array, low: float, high: float, cells: int) -> Array:
    """Return the sums of absolute jumps in each cell, (order, cell), in units of s."""
    at = (places - low) / (high - low)
    near = (at >= 0) & (at <= 1)
    first, last = _cells_of(at[near], cells)
    sizes = np.abs(jumps[:, near]) * (high - low) ** np.arange(3.0)[:, None]
    apart = last > first
    where, sizes = np.append(first, last[apart]), np.append(sizes, sizes[:, apart], axis=1)
    return np.stack([np.bincount(where, row, cells) for row in sizes])


def _jumps(spline: Any) -> tuple[Array, Array]:
    """Return the inner breaks of a PPoly, and the jumps there of its derivatives 0 to 2."""
    widths, rows = np.diff(spline.x)[:-1], []
    for order in range(3):
        powers = spline.derivative(order).c if order else spline.c
        rows.append(powers[-1, 1:] - polyval(widths, powers[::-1, :-1], tensor=False))
    return spline.x[1:-1], np.array(rows)


def _of_spline(edge: Edge, spline: Any, low: float, high: float, cells: int) -> tuple[Array, float]:
    """Bound the variation of the second derivative in each cell, and the size of its terms."""
    cuts, length, scale = spline.x[1:-1], high - low, edge.input_scale
    begin = np.clip(np.append(-np.inf, cuts), low, high)  # of the part that each piece covers
    end = np.clip(np.append(cuts, np.inf), low, high)
    extent = np.maximum(np.abs(begin - spline.x[:-1]), np.abs(end - spline.x[:-1]))
    extent = np.where(end > begin, extent, 0.0)
    thirds = polyval(extent, np.abs(spline.derivative(3).c[::-1]), tensor=False)
    first, _ = _cells_of((begin - low) / length, cells)
    _, last = _cells_of((end - low) / length, cells)
    steepest = np.zeros(cells)
    for piece in np.flatnonzero(end > begin):
        part = slice(first[piece], last[piece] + 1)
        steepest[part] = np.maximum(steepest[part], thirds[piece])
    functions, shift = edge.functions, edge.input_shift
    inner = (low - shift) / scale, (high - shift) / scale
    steepest = steepest + functions.steepest(*inner, 3) / scale**3
    size = polyval(extent, np.abs(spline.c[::-1]), tensor=False).max()
    if len(functions.functions) > 1:
        size += functions.sizes(np.linspace(*inner, cells + 1)).max()
    return steepest * length**3 / cells, float(size)


def _of_function(
    edge: Edge, function: ScaledFunction, low: float, length: float, second: Array
) -> Array:
    """Bound the difference of the second derivative inside each cell from that at its ends."""
    cells, size = len(second) - 1, abs(function.a) / edge.input_scale * length  # size: dv/ds
    if function.g.name == "sin" and size > cells:  # too many extrema to visit each
        return np.full(cells, 2 * abs(function.c) * size**2)
    swing = np.abs(np.diff(second))
    shift, scale = edge.input_shift, edge.input_scale
    ends = (low - shift) / scale, (low + length - shift) / scale
    for u in function.places(function.g.turning(2) or (), *ends):
        place = shift + scale * u
        peak = edge.derivative(place, 2) * length**2
        first, last = _cells_of(np.array([(place - low) / length]), cells)
        for cell in range(first[0], last[0] + 1):
            way = abs(second[cell] - peak) + abs(second[cell + 1] - peak)
            swing[cell] = max(swing[cell], way)
    return np.asarray(np.where(np.isfinite(swing), swing, np.inf))
