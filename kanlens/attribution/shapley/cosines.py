"""Cosine series plus polynomial of an edge on an interval, with an error bound.

Both are games whose Shapley values are known (`product_games`). Jumps of a derivative inside the
interval set the number of cosines; what its ends would add is left to the polynomial.
A random cubic edge from -3 to 3, with its straight ends, takes 1162 cosines for 1e-6 of its range;
the best coefficients, by linear programming, were worth only 1.1 to 1.6 times as many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kanlens.attribution.shapley.curve_samples import EPS, Samples, at_point, samples
from kanlens.checks import check_count, check_positive
from kanlens.errors import InvalidValueError
from kanlens.functions.elementary import Array
from kanlens.model.edge import Edge

LEAST, MOST = 32, 8192  # cosines
CELLS = 8  # for each cosine; with 4 the bound is 1.4 times the error, with 8 it is 1.1 times
LEAST_CELLS, MOST_CELLS = 2048, 2**17
BOOST, STEEP = 0.75, 7  # factor 1 + 0.75 (m / terms)**7 of the m-th cosine
LARGEST = 1e4  # polynomial, in parts of the range of the edge: it costs so many digits
SAFETY = 1.15  # of the guess how many cosines are needed


@dataclass(frozen=True, kw_only=True, eq=False)
class CosineSeries:
    """``sum_j polynomial[j] s**j + sum_m cosines[m - 1] cos(m pi s)``, s from 0 to 1.

    s is ``(u - low) / (high - low)``.
    """

    low: float
    high: float
    polynomial: Array  # (5,)
    cosines: Array  # (cosine,)
    error: float  # nowhere on the interval is the edge farther from the series, rounding included

    @property
    def length(self) -> float:
        """Length of the interval."""
        return self.high - self.low

    def __call__(self, u: Array) -> Array:
        """Return the series at points u of the interval, one cosine after the other."""
        s = (np.asarray(u, dtype=np.float64) - self.low) / (self.length or 1.0)
        total = np.polynomial.polynomial.polyval(s, self.polynomial)
        for m, factor in enumerate(self.cosines, start=1):
            total = total + factor * np.cos(math.pi * m * s)
        return np.asarray(total)


def fit(
    edge: Edge,
    low: float,
    high: float,
    *,
    tolerance: float,
    most: int = MOST,
) -> CosineSeries:
    """Expand an edge on an interval in a polynomial plus cosines.

    Their number grows until the bound is below the tolerance, or is `most`. The bound holds for any
    coefficients. Between two points h apart a function r with absolutely continuous slopes is at
    most h**2 / 8 * max|r''| above the larger of its ends; r'' is known at both ends, and in between
    moves by no more than the edge's does plus h times the sum of all third derivatives of the
    series. Jumps of the value add their size, of the slope h / 4 of it, of the bend go into r''.
    """
    check_positive("shapley", "tolerance", tolerance)
    check_count("shapley", "most", most)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        got = f"{low!r} and {high!r}"
        raise InvalidValueError("shapley", "finite ends with low <= high", got, "Change them")
    if edge.single is not None and edge.single.c == 0:  # whatever the function is
        edge = Edge.of("constant", d=edge.single.d)
    if not high - low > 4 * EPS * max(abs(low), abs(high)):
        return _constant(edge, low, high)
    terms, best, rate = min(LEAST, most), None, 3.0
    while True:
        found = _with_terms(edge, low, high, terms, tolerance)
        if best is not None and math.isfinite(best.error) and math.isfinite(found.error):
            rate = math.log(best.error / found.error) / math.log(terms / len(best.cosines))
        stuck = rate < 0.2 or not math.isfinite(found.error)  # a jump of the value, or rounding
        if best is None or found.error < best.error:
            best = found
        if best.error <= tolerance or terms >= most or stuck:
            return _trimmed(best, tolerance)
        terms = min(most, _next(terms, found.error / tolerance, rate))


def _next(terms: int, excess: float, rate: float) -> int:
    """Return how many cosines to try next, a number for which transforms are fast."""
    from scipy.fft import next_fast_len

    wanted = SAFETY * terms * excess ** (1 / min(max(rate, 0.5), 8.0))
    return int(next_fast_len(int(min(max(wanted, 1.5 * terms), 16 * terms)), real=True))


def _constant(edge: Edge, low: float, high: float) -> CosineSeries:
    """Return the series of a single point, or of two that can hardly be told apart."""
    value, error = at_point(edge, low, high)
    polynomial = np.array([value, 0.0, 0.0, 0.0, 0.0])
    return CosineSeries(low=low, high=high, polynomial=polynomial, cosines=np.zeros(0), error=error)


def _with_terms(edge: Edge, low: float, high: float, terms: int, tolerance: float) -> CosineSeries:
    """Return the series with so many cosines; cells are cut where they cost more than it does."""
    cells = max(LEAST_CELLS, CELLS * terms)
    while True:
        given = samples(edge, low, high, cells)
        polynomial, cosines = _coefficients(given, terms)
        seen, error = bound(given, polynomial, cosines)
        if not seen <= tolerance < error or cells >= MOST_CELLS:
            return CosineSeries(
                low=low, high=high, polynomial=polynomial, cosines=cosines, error=error
            )
        finer = SAFETY * ((error - seen) / (tolerance - 0.99 * seen)) ** (1 / 3)
        cells = min(int(cells * max(finer, 2.0)), MOST_CELLS)


def _coefficients(given: Samples, terms: int) -> tuple[Array, Array]:
    """Return the polynomial and cosines of a near-best approximation to an edge."""
    from scipy.fft import dct

    polynomial = _end_polynomial(given)
    rest = given.values - np.polynomial.polynomial.polyval(given.places, polynomial)
    found = dct(rest, type=1)[: terms + 1] / given.cells
    polynomial[0] += 0.5 * found[0]
    m = np.arange(1, terms + 1)
    return polynomial, found[1:] * (1.0 + BOOST * (m / terms) ** STEEP)  # for those left out


def _end_polynomial(given: Samples) -> Array:
    """Return the polynomial (5,) with the odd derivatives of both ends: the rest is smooth."""
    largest = LARGEST * float(np.ptp(given.values))
    for thirds in (given.thirds, np.zeros(2)):
        if not np.abs((*given.slopes, *thirds)).max() <= largest:  # infinity and NaN too
            continue
        cubic, quartic = thirds[0] / 6, (thirds[1] - thirds[0]) / 24
        first = given.slopes[0]
        square = (given.slopes[1] - first - 3 * cubic - 4 * quartic) / 2
        return np.array([0.0, first, square, cubic, quartic])
    return np.zeros(5)


def bound(given: Samples, polynomial: Array, cosines: Array) -> tuple[float, float]:
    """Return a series' maximum error at an edge's samples, and its bound anywhere; see `fit`."""
    h, waves = 1.0 / given.cells, np.pi * np.arange(1, len(cosines) + 1)
    shown = [_evaluated(given, polynomial, cosines, order) for order in (0, 2)]
    off, off_second = np.abs(given.values - shown[0]), np.abs(given.second - shown[1])
    powers, sizes = np.arange(5), np.abs(polynomial)
    steepest = np.abs(cosines) @ waves + sizes @ powers
    third = np.abs(cosines) @ waves**3 + sizes @ (powers * (powers - 1) * (powers - 2))
    ends = np.maximum(off[:-1], off[1:]) + given.jumps[0]
    curved = np.maximum(off_second[:-1], off_second[1:]) + given.jumps[2] + given.swing
    smooth = ends + h / 4 * given.jumps[1] + h * h / 8 * (curved + h * third)
    steep = ends + np.abs(np.diff(given.values)) + h * steepest
    worst = float(np.where(np.isfinite(curved), smooth, steep).max())
    rounding = _rounding(given, polynomial, cosines)
    return float(off.max()) + rounding, worst + rounding if math.isfinite(worst) else math.inf


def _evaluated(given: Samples, polynomial: Array, cosines: Array, order: int) -> Array:
    """Return a series, or its second derivative, at the ends of the cells."""
    from scipy.fft import dct

    padded = np.zeros(given.cells + 1)
    waves = np.pi * np.arange(1, len(cosines) + 1)
    padded[1 : len(cosines) + 1] = -cosines * waves**2 if order else cosines
    powers = np.polynomial.polynomial.polyder(polynomial, order)
    of_powers = np.polynomial.polynomial.polyval(given.places, powers)
    return np.asarray(0.5 * dct(padded, type=1) + of_powers)


def _rounding(given: Samples, polynomial: Array, cosines: Array) -> float:
    """Bound the rounding error of values, points, transforms and phases."""
    steps = float(np.abs(np.diff(given.values)).max()) * given.cells  # slopes in s
    waves = np.pi * np.arange(1, len(cosines) + 1)
    phases = float(np.abs(cosines) @ (waves + 4 * math.log2(given.cells) + 8))
    terms = 8 * given.magnitude + 4 * given.reach * steps + 8 * float(np.abs(polynomial).sum())
    return 4 * EPS * (terms + phases)


def _trimmed(series: CosineSeries, tolerance: float) -> CosineSeries:
    """Leave out the last cosines where the bound can take their sum."""
    if not math.isfinite(series.error):
        return series
    room = max(tolerance - series.error, 0.01 * series.error)
    left = np.cumsum(np.abs(series.cosines[::-1]))
    count = int(np.searchsorted(left, room, side="right"))
    if not count:
        return series
    kept, error = series.cosines[: len(series.cosines) - count], float(left[count - 1])
    return replace(series, cosines=kept, error=series.error + error)
