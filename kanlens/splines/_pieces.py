"""A spline plus elementary functions as exact pieces: evaluation, integral, roots and extrema.

Between consecutive zeros of a derivative the derivative below it has at most one zero (Rolle).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kanlens._checks import check_count
from kanlens._lazy import scipy
from kanlens.errors import InvalidValueError, ShapeError
from kanlens.functions._elementary import Array
from kanlens.functions._sums import FunctionSum

Index = np.ndarray[Any, np.dtype[np.signedinteger[Any]]]

MAX_DEGREE = 5
_EPS = float(np.finfo(np.float64).eps)
_ROUNDING = 64.0 * _EPS  # rounding error of a value, relative to the sum of its absolute terms
_STEPS = 200  # iterations: more than bisection to full precision takes


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """A piecewise polynomial plus a sum of elementary functions, analytic between the breaks.

    A piece is a polynomial in the distance ``u - origin`` from its start (of the first, its end);
    `magnitude` is its largest absolute B-spline coefficient, to which rounding is relative.
    """

    breaks: Array  # (break,), increasing
    coefficients: Array  # (break + 1, degree + 1), constant first
    origins: Array  # (break + 1,)
    magnitude: Array  # (break + 1,)
    functions: FunctionSum
    kinked: bool = False  # whether functions have kinks, each of them at a break

    def locate(self, u: Array) -> Index:
        """Return the piece of each point; a break belongs to the piece on its right."""
        return np.asarray(np.searchsorted(self.breaks, u, side="right"), dtype=np.intp)

    def value(self, u: Array, piece: Index, order: int = 0) -> Array:
        """Evaluate the `order`-th derivative at `u`, by the formula of `piece`."""
        total = _horner(self._derived(order), u - self.origins[piece], piece)
        if self.functions:
            if self.kinked:  # derivatives at a kink are those of the side of the piece
                room = 8.0 * np.spacing(np.maximum(1.0, np.abs(self.breaks)))
                starts = np.concatenate(([-np.inf], self.breaks + room))
                ends = np.concatenate((self.breaks - room, [np.inf]))
                u = np.clip(u, starts[piece], ends[piece])
            total = total + self.functions.nth(u, order)
        return np.asarray(total, dtype=np.float64)

    def antiderivative(self, u: Array) -> Array:
        """Evaluate an antiderivative, continuous over all pieces."""
        piece = self.locate(u)
        powers, start = self._integrated
        total = start[piece] + _horner(powers, u - self.origins[piece], piece)
        if self.functions:
            total = total + self.functions.antiderivative(u)
        return np.asarray(total, dtype=np.float64)

    def integral(self, start: float, end: float) -> float:
        """Return the integral from `start` to `end`."""
        at = self.antiderivative(np.array([start, end]))
        return float(at[1] - at[0])

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """Return the least and the greatest value on an interval."""
        values = self.value(*self.critical(low, high))
        if not np.isfinite(values).all():
            return -math.inf, math.inf
        return float(values.min()), float(values.max())

    def critical(self, low: float, high: float) -> tuple[Array, Index]:
        """Split an interval into stretches on each of which the function is monotone.

        Returns their ends, increasing (the ends of the interval, breaks and zeros of the slope),
        and the piece to the right of each end (left of the last).
        """
        between = self.breaks[(self.breaks > low) & (self.breaks < high)]
        ends = np.concatenate(([low], between, [high]))
        piece_of = self.locate(ends[:-1])
        degree = self.coefficients.shape[1] - 1
        zeros = self.functions.zeros_of_derivative(degree + 1, low, high)
        owner, points = _framed(ends, np.searchsorted(ends, zeros, side="right") - 1, zeros)
        for order in range(degree, 0, -1):
            value = self.value(points, piece_of[owner], order)
            cross = np.flatnonzero((owner[:-1] == owner[1:]) & _opposite(value))
            zeros = self._solve((points[cross], points[cross + 1]), piece_of[owner[cross]], order)
            exact = value == 0.0
            owners = np.concatenate((owner[cross], owner[exact]))
            owner, points = _framed(ends, owners, np.concatenate((zeros, points[exact])))
        last = np.append(np.diff(points) > 0.0, True)
        return points[last], piece_of[owner[last]]

    def roots(self, low: float, high: float, level: float) -> Array:
        """Return the roots of the function minus `level`, increasing; see ``Edge.roots``."""
        points, piece = self.critical(low, high)
        value = self.value(points, piece) - level
        zero = np.abs(value) <= self._rounding(points, piece) + _ROUNDING * abs(level)
        cross = np.flatnonzero(_opposite(np.where(zero, 0.0, value)))
        roots = [self._solve((points[cross], points[cross + 1]), piece[cross], 0, level)]
        where = np.flatnonzero(np.diff(np.concatenate(([False], zero, [False])).astype(int)))
        for first, stop in where.reshape(-1, 2):  # each run of points that count as zero
            roots.append(self._pick(points[first:stop], np.abs(value[first:stop]), low, high))
        return np.sort(np.concatenate(roots))

    def extrema(self, low: float, high: float) -> Array:
        """Return the extrema of the function inside an interval; see ``Edge.extrema``."""
        points, piece = self.critical(low, high)
        change = np.diff(self.value(points, piece))
        rounding = self._rounding(points, piece)
        moving = np.flatnonzero(np.abs(change) > rounding[:-1] + rounding[1:])
        slope = np.abs(self.value(points, piece, 1))
        extrema = [np.empty(0)]
        for before, after in pairwise(moving):
            if change[before] * change[after] < 0.0:
                run = slice(before + 1, after + 1)
                extrema.append(self._pick(points[run], slope[run], low, high))
        return np.concatenate(extrema)

    def _pick(self, run: Array, size: Array, low: float, high: float) -> Array:
        """Return the point of a run with the least `size`; both ends if the run is a flat piece."""
        whole = np.isin(run, self.breaks) | (run == low) | (run == high)
        return run[[0, -1] if whole.sum() > 1 else [int(np.argmin(size))]]

    def _rounding(self, u: Array, piece: Index) -> Array:
        """Bound the rounding error of values at `u`, by the terms they are summed from."""
        powers = np.abs(self.coefficients)
        terms = _horner(powers, np.abs(u - self.origins[piece]), piece) + self.magnitude[piece]
        if self.functions:
            terms = terms + self.functions.sizes(u)
        return np.asarray(_ROUNDING * terms, dtype=np.float64)

    def _solve(
        self, bracket: tuple[Array, Array], piece: Index, order: int, level: float = 0.0
    ) -> Array:
        """Solve derivative = level in every bracket at once, by Newton's method with bisection."""
        low, high = bracket
        if not low.size:
            return np.empty(0)
        rising = self.value(low, piece, order) < level
        below, above = np.where(rising, low, high), np.where(rising, high, low)
        x, step = 0.5 * (low + high), high - low
        small, active = _EPS * np.maximum(np.abs(low), np.abs(high)), np.ones(x.shape, bool)
        for _ in range(_STEPS):
            error = self.value(x, piece, order) - level
            below, above = np.where(error < 0, x, below), np.where(error < 0, above, x)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                newton = x - error / self.value(x, piece, order + 1)
            inside = (newton >= np.minimum(below, above)) & (newton <= np.maximum(below, above))
            good = inside & (np.abs(newton - x) <= 0.5 * step)
            target = np.where(good, newton, 0.5 * (below + above))
            step = np.abs(target - x)
            active &= error != 0.0
            x = np.where(active, target, x)
            active &= step > small
            if not active.any():
                break
        return np.asarray(x, dtype=np.float64)

    def _derived(self, order: int) -> Array:
        """Return the coefficients of the `order`-th derivative of every polynomial."""
        degree = self.coefficients.shape[1] - 1
        if order > degree:
            return np.zeros_like(self.coefficients[:, :1])
        factors = [math.perm(power, order) for power in range(order, degree + 1)]
        return self.coefficients[:, order:] * np.asarray(factors, dtype=np.float64)

    @functools.cached_property
    def _integrated(self) -> tuple[Array, Array]:
        """Polynomials of the antiderivative (0 at each origin), and its value at the origins."""
        degree = self.coefficients.shape[1] - 1
        powers = np.pad(self.coefficients / np.arange(1.0, degree + 2.0), ((0, 0), (1, 0)))
        areas = _horner(powers, np.diff(self.breaks), np.arange(1, self.breaks.size))
        return powers, np.concatenate(([0.0, 0.0], np.cumsum(areas)))


def spline_pieces(
    knots: Array, coefficients: Array, degree: int, extrapolation: str, functions: FunctionSum
) -> Pieces:
    """Return the pieces of a B-spline, continued outside the grid, plus functions.

    `degree` knots lie beyond either end of the grid. Outside, the spline is linear, or decays
    to zero over these knots ("zero").
    """
    # with zero B-splines around, every knot interval is inside the grid of a wider spline
    steps = np.arange(1.0, degree + 1.0) * (knots[-1] - knots[0])
    wide = np.concatenate((knots[0] - steps[::-1], knots, knots[-1] + steps))
    padded = np.concatenate((np.zeros(degree), coefficients, np.zeros(degree)))
    powers = scipy.interpolate.PPoly.from_spline((wide, padded, degree)).c[::-1, degree:-degree].T
    active = np.lib.stride_tricks.sliding_window_view(np.abs(padded), degree + 1).max(axis=1)
    if extrapolation == "zero":
        breaks, powers, sizes = knots, np.pad(powers, ((1, 1), (0, 0))), np.pad(active, 1)
    else:
        breaks, inner = knots[degree:-degree], slice(degree, knots.size - 1 - degree)
        powers, sizes = _straightened(powers[inner], breaks), active[inner]
        sizes = np.concatenate((sizes[:1], sizes, sizes[-1:]))
    pieces = Pieces(
        breaks=breaks,
        coefficients=np.ascontiguousarray(powers),
        origins=np.concatenate((breaks[:1], breaks)),
        magnitude=sizes,
        functions=functions,
    )
    kinks, _ = pieces.functions.jumps(1)
    return _cut(pieces, kinks) if kinks.size else pieces


def _cut(pieces: Pieces, places: Array) -> Pieces:
    """Add breaks where functions have kinks; expand polynomials about the new origins."""
    breaks = np.union1d(pieces.breaks, places)
    origins = np.concatenate((breaks[:1], breaks))
    owner = pieces.locate(np.concatenate((breaks[:1] - 1.0, breaks)))
    powers = np.zeros((len(origins), pieces.coefficients.shape[1]))
    for order in range(powers.shape[1]):
        moved = _horner(pieces._derived(order), origins - pieces.origins[owner], owner)
        powers[:, order] = moved / math.factorial(order)
    return dataclasses.replace(
        pieces,
        breaks=breaks,
        coefficients=powers,
        origins=origins,
        magnitude=pieces.magnitude[owner],
        kinked=True,
    )


def check_spline(call: str, knots: Array, coefficients: Array, degree: int) -> None:
    """Refuse knots and coefficients that do not define a spline of degree 1 to 5."""
    check_count(call, "degree", degree)
    if degree > MAX_DEGREE:
        advice = "Pass 3 for cubic splines"
        raise InvalidValueError(call, f"degree of at most {MAX_DEGREE}", repr(degree), advice)
    if knots.ndim != 1 or knots.size < 2 * degree + 2:
        expected = f"knots of shape (knot,) with at least {2 * degree + 2} of them"
        advice = f"Add {degree} knots beyond each end of the grid"
        raise ShapeError(call, expected, f"shape {knots.shape}", advice)
    if coefficients.shape != (knots.size - degree - 1,):
        expected = f"coefficients of shape ({knots.size - degree - 1},)"
        advice = "Pass one per B-spline: the number of knots minus degree minus 1"
        raise ShapeError(call, expected, str(coefficients.shape), advice)
    if not (np.isfinite(knots).all() and (np.diff(knots) > 0).all()):
        expected, advice = "strictly increasing finite knots", "Sort the knots and drop repeats"
        raise InvalidValueError(call, expected, str(knots.tolist()), advice)
    if not np.isfinite(coefficients).all():
        bad = coefficients[~np.isfinite(coefficients)][0].item()
        advice = "Correct them, or the weights of the layer"
        raise InvalidValueError(call, "finite coefficients", repr(bad), advice)


def _straightened(powers: Array, breaks: Array) -> Array:
    """Add the straight piece before the first polynomial and the one after the last."""
    first, last = np.zeros((1, powers.shape[1])), np.zeros((1, powers.shape[1]))
    first[0, :2] = powers[0, :2]
    slopes = powers[-1:, 1:] * np.arange(1, powers.shape[1])
    width, piece = breaks[-1:] - breaks[-2], np.zeros(1, dtype=np.int64)
    last[0, :2] = _horner(powers[-1:], width, piece)[0], _horner(slopes, width, piece)[0]
    return np.concatenate((first, powers, last))


def _horner(powers: Array, offset: Array, piece: Index) -> Array:
    """Evaluate polynomial ``powers[piece]`` at `offset`, point by point."""
    total = powers[piece, -1]
    for power in range(powers.shape[1] - 2, -1, -1):
        total = total * offset + powers[piece, power]
    if powers.shape[1] == 1:
        total = total + 0.0 * offset  # keeps NaN
    return np.asarray(total, dtype=np.float64)


def _opposite(value: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a mask of neighbors with opposite signs."""
    sign = np.sign(value)
    return np.asarray(sign[:-1] * sign[1:] < 0)


def _framed(ends: Array, owner: Index, points: Array) -> tuple[Index, Array]:
    """Sort points by interval (`owner`), add the ends of the intervals, drop repeats."""
    count = np.arange(ends.size - 1)
    owners = np.concatenate((count, count, owner))
    everything = np.concatenate((ends[:-1], ends[1:], points))
    order = np.lexsort((everything, owners))
    owners, everything = owners[order], everything[order]
    new = np.append(True, (np.diff(owners) > 0) | (np.diff(everything) > 0))
    return owners[new], everything[new]
