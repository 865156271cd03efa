"""Design matrices of piecewise linear curves; modes are scaled eigenvectors of their priors.

A curve is linear between breakpoints: the distinct values of a column, or quantiles if there are
too many (repeated values may be more). It is the sum of a line, a smooth part whose second
differences have independent normal priors, and a rough part whose first differences have them [1]_.
Each part has its own variance, so that the data choose between a line, a smooth curve, steps and no
effect [2]_.

References
----------
.. [1] H. Rue and L. Held, Gaussian Markov Random Fields, 2005, chapter 3.
.. [2] G. Marra and S. Wood, Practical variable selection for generalized additive models, 2011.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array, hstack

from kanlens.data._cell_parsing import Array
from kanlens.training._training_loop import SPARE
from kanlens.training._variance_components import MIN_INFORMATION, NormalEquations

MAX_INTERVALS, MAX_BREAKPOINTS = 256, 1500  # of one curve; of all curves, approximately
MAX_CELLS = 40_000_000  # rows times breakpoints, for which the network's outputs take 2 GB
REPEATED = 2  # values that occur this often on average may have this many times the breakpoints
MIN_INTERVALS = 12  # of one curve; with fewer, curves are lines
EVEN = 0.1  # weight of even spacing in breakpoints; the rest is quantiles
BENT_INTERVALS = 24  # of a convex or concave curve
TAIL = 0.05  # share of its rows on each side, which evenly spaced breakpoints may leave out
NOWHERE = np.zeros(0)
MIN_SPACING = 1e-9  # of breakpoints, relative to their range
SMOOTH_MODES = 16  # leading modes of second differences
SPACED = 0.25  # weight of real spacing in second differences; the rest is even
MARGIN, LEADING = 0.1, 8  # share of MIN_INFORMATION to be fitted; number always fitted per block
FACTOR_MODES = 12  # of each part of a curve in a product
PROBES, MAX_PROBES = 5, 15  # functions per column, numeric or categorical, to test products
DENSE = 50  # time of a sparse over a dense multiplication
FEW_CURVES = 50  # whose modes a sparse matrix would multiply more slowly
ROUGH_START = 0.05  # initial variance of a rough part over that of the others


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveBasis:
    """A function of a feature: its breakpoints, and the modes (breakpoint, mode) of its parts.

    The curves of the levels of a categorical column share a `group` and a variance.
    """

    feature: int
    breakpoints: Array
    parts: tuple[Array, ...]
    group: int

    def basis(self, x: Array) -> csr_array:  # (batch,) -> (batch, breakpoint)
        """Return the hat functions of the breakpoints at x, constant beyond them."""
        knots = self.breakpoints
        place = np.interp(x, knots, np.arange(len(knots)))
        left = np.minimum(place.astype(np.int64), len(knots) - 2)
        share = place - left
        columns = np.stack([left, left + 1], 1).ravel()
        starts = np.arange(0, 2 * len(x) + 1, 2)
        values = np.stack([1 - share, share], 1).ravel()
        return csr_array((values, columns, starts), shape=(len(x), len(knots)))


@functools.lru_cache(maxsize=64)
def difference_modes(count: int, order: int, most: int | None = None) -> Array:
    """Return modes (count, mode) of the prior of independent differences.

    Polynomials whose differences are zero are left out; leading modes come first.
    """
    differences = np.diff(np.eye(count), order, axis=0)
    values, vectors = np.linalg.eigh(differences.T @ differences)
    return np.asarray((vectors[:, order:] / np.sqrt(values[order:]))[:, :most])


def smooth_modes(knots: Array) -> Array:  # (breakpoint,) -> (breakpoint, mode)
    """Return the leading modes of the prior of independent second differences.

    Differences are divided by spacings: a weighted mean of the breakpoints' and of even ones.
    """
    count = len(knots)
    places = (1 - SPACED) * np.linspace(0, 1, count)
    places += SPACED * (knots - knots[0]) / (knots[-1] - knots[0])
    gaps = np.diff(places)
    slopes = np.diff(np.eye(count), axis=0) / gaps[:, None]
    bends = np.diff(slopes, axis=0) / np.sqrt((gaps[1:] + gaps[:-1]) / 2)[:, None]
    values, vectors = np.linalg.eigh(bends.T @ bends)
    leading = slice(2, 2 + SMOOTH_MODES)
    return np.asarray(vectors[:, leading] / np.sqrt(values[leading]))


def make_curve(
    feature: int,
    x: Array,
    group: int,
    columns: int,
    rough: bool = True,
    *,
    even: bool = False,
    places: Array = NOWHERE,
) -> CurveBasis:
    """Return the curve of a feature with values x (batch,), one of `columns` columns.

    With `even`, many breakpoints become few, evenly spaced except at distant ends. Finite
    `places` are always breakpoints.
    """
    most, values = min(MAX_BREAKPOINTS // columns, MAX_INTERVALS), len(np.unique(x))
    if MIN_INTERVALS <= most < values <= min(REPEATED * most, len(x) / REPEATED):
        most = values
    held = max(MAX_CELLS // (len(x) * columns), MIN_INTERVALS)
    knots = breakpoints(x, min(most, held) if most >= MIN_INTERVALS else 1)
    if even and len(knots) > BENT_INTERVALS:
        low, high = np.quantile(x, (TAIL, 1 - TAIL))
        near = (low - (high - low), high + (high - low)) if low < high else knots[[0, -1]]
        ends = np.clip(knots[[0, -1]], *near)
        within = np.linspace(float(ends[0]), float(ends[1]), BENT_INTERVALS + 1)
        knots = np.union1d(within, knots[[0, -1]])
    if len(places := places[np.isfinite(places)]):
        apart = np.abs(knots - places[:, None]).min(0) > MIN_SPACING * np.ptp(knots)
        knots = np.union1d(knots[apart], places)
    parts = [((knots - knots.mean()) / knots.std())[:, None]]
    if len(knots) > 3:
        parts.append(smooth_modes(knots))
    if len(knots) > 2 and rough:
        parts.append(difference_modes(len(knots), 1))
    return CurveBasis(feature=feature, breakpoints=knots, parts=tuple(parts), group=group)


def breakpoints(x: Array, intervals: int) -> Array:
    """Return the distinct values of x (batch,), or points near its quantiles if too many."""
    knots = np.unique(x)
    if len(knots) == 1:
        return np.asarray(knots[0] + np.arange(2.0))
    if len(knots) > intervals + 1:
        even = np.linspace(knots[0], knots[-1], intervals + 1)
        quantiles = np.quantile(x, np.linspace(0, 1, intervals + 1))
        knots = (1 - EVEN) * quantiles + EVEN * even
    gaps = np.diff(knots) > MIN_SPACING * (knots[-1] - knots[0])
    return np.asarray(knots[np.append(True, gaps)])


class CurveDesign:
    """The design matrix of curves on rows x (batch, in).

    Each mode has a coefficient, in the order of curves and parts. A block of coefficients is one
    part of a curve, or of all curves of one group. Modes are scaled so that a block of variance 1
    gives values of variance 1 over the rows.
    """

    def __init__(self, curves: Sequence[CurveBasis], x: Array) -> None:
        self.curves = tuple(curves)
        bases = [curve.basis(x[:, curve.feature]) for curve in self.curves]
        self.matrix = csr_array(hstack(bases, format="csr"))
        self.matrix.eliminate_zeros()
        self.knots = _slices([len(curve.breakpoints) for curve in self.curves])
        self.owners = self._owners()
        self.leading = _order(self.owners) < LEADING
        modes = [np.concatenate(curve.parts, 1) for curve in self.curves]
        self.slices = _slices([part.shape[1] for part in modes])
        spread = np.concatenate([_variances(*pair) for pair in zip(bases, modes, strict=True)])
        total = np.bincount(self.owners, spread)
        scale = np.sqrt(np.where(total > 0, total, 1.0))[self.owners]
        self.spread = spread / scale**2  # variance over the rows of each coefficient's function
        self.modes = [part / scale[own] for part, own in zip(modes, self.slices, strict=True)]

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[CurveDesign, Array | None, Array]], owners: Array
    ) -> CurveDesign:
        """Join designs, each with a factor (batch,) or None and the indices of its coefficients."""
        self = cls.__new__(cls)
        self.curves = tuple(curve for design, _, _ in parts for curve in design.curves)
        columns = [
            design.matrix if factor is None else design.matrix.multiply(factor[:, None])
            for design, factor, _ in parts
        ]
        self.matrix = csr_array(hstack(columns, format="csr"))
        self.knots = _slices([len(curve.breakpoints) for curve in self.curves])
        self.modes = [mode for design, _, places in parts for mode, _ in design._parts(places)]
        self.slices = _slices([mode.shape[1] for mode in self.modes])
        self.spread = np.concatenate([design.spread[places] for design, _, places in parts])
        self.leading = np.concatenate([design.leading[places] for design, _, places in parts])
        self.owners = owners
        return self

    def take(self, rows: Array) -> CurveDesign:
        """Return the design of some rows."""
        part = copy.copy(self)
        part.matrix = self.matrix[rows]
        return part

    def _owners(self) -> Array:
        """Return the block of every coefficient."""
        blocks: dict[tuple[int, int], int] = {}
        owners = [
            np.full(part.shape[1], blocks.setdefault((curve.group, index), len(blocks)))
            for curve in self.curves
            for index, part in enumerate(curve.parts)
        ]
        rough = np.array([index == 2 for _, index in blocks])
        self.start = np.where(rough, ROUGH_START, 1.0) / len(blocks)
        return np.concatenate(owners)

    def informed(self, variances: Array, noise: float, rows: float) -> Array:
        """Return indices of each block's leading coefficients and of all that `rows` determine."""
        ratio = variances[self.owners] * self.spread * rows / noise
        return np.flatnonzero((ratio > MARGIN * MIN_INFORMATION) | self.leading)

    def equations(
        self, weights: Array, response: Array, places: Array | None = None
    ) -> tuple[NormalEquations, float]:
        """Return the normal equations of some coefficients, and the response's mean."""
        places = np.arange(len(self.owners)) if places is None else places
        total = weights.sum()
        mean = float(weights @ response / total)
        rest = response - mean
        parts, slopes = self._parts(places), self.matrix.T @ (weights * rest)
        equations = NormalEquations(
            gram=self._gram(weights, places),
            cross=np.concatenate([modes.T @ slopes[knots] for modes, knots in parts]),
            square=float(weights @ rest**2),
            rows=max(float(total) - 1, 1.0),
            owners=self.owners[places],
            blocks=int(self.owners.max()) + 1,
        )
        return equations, mean

    def _gram(self, weights: Array, places: Array) -> Array:
        """Return weighted cross-products (q, q) of the centered columns of some coefficients."""
        rows, count = self.matrix.shape
        if len(places) ** 2 < DENSE * (self.matrix.nnz / rows) ** 2 or rows < count:
            columns = self.columns(np.arange(rows), places)
            columns -= weights @ columns / weights.sum()
            columns *= np.sqrt(weights)[:, None]
            return np.asarray(columns.T @ columns)
        weighted = self.matrix.copy()
        weighted.data *= np.repeat(weights, np.diff(weighted.indptr))
        sums = weighted.sum(0)
        gram = (self.matrix.T @ weighted).toarray() - np.outer(sums, sums) / weights.sum()
        parts = self._parts(places)
        right = np.concatenate([gram[:, knots] @ modes for modes, knots in parts], 1)
        return np.concatenate([modes.T @ right[knots] for modes, knots in parts])

    def _parts(self, places: Array) -> list[tuple[Array, slice]]:
        """Return each curve's modes of some coefficients, and the slice of its breakpoints."""
        ends = np.searchsorted(places, [own.stop for own in self.slices])
        return [
            (modes[:, some - own.start], knots)
            for modes, some, own, knots in zip(
                self.modes, np.split(places, ends[:-1]), self.slices, self.knots, strict=True
            )
        ]

    def heights(self, coefficients: Array) -> list[Array]:
        """Return the values of each curve at its breakpoints."""
        pairs = zip(self.modes, self.slices, strict=True)
        return [modes @ coefficients[own] for modes, own in pairs]

    def values(self, coefficients: Array) -> Array:
        """Return the sum of all curves at the rows, (batch,)."""
        return np.asarray(self.matrix @ np.concatenate(self.heights(coefficients)))

    def columns(self, rows: Array, places: Array) -> Array:
        """Return the design matrix (rows, q) of some coefficients."""
        blocks, stop = np.zeros((self.matrix.shape[1], len(places))), 0
        for modes, knots in self._parts(places):
            start, stop = stop, stop + modes.shape[1]
            blocks[knots, start:stop] = modes
        if len(self.modes) <= FEW_CURVES:
            return np.asarray(self.matrix[rows] @ blocks)
        return np.asarray((self.matrix[rows] @ csr_array(blocks)).toarray())


class ColumnCurves:
    """The curves of a categorical column's levels, or the one of a numeric column, at some rows.

    `shape` has keys of `SHAPES`, separated by spaces, or is empty; `zero` is the scaled value of 0.
    """

    def __init__(self, index: int, design: CurveDesign, shape: str = "", zero: float = 0.0) -> None:
        self.index, self.design, self.shape, self.zero = index, design, shape, zero
        owners = design.owners
        order = _order(owners)
        self.levels = len(design.curves) > 1
        self.smooth = np.flatnonzero(owners < 2)
        self.factor = np.flatnonzero((order < FACTOR_MODES) | self.levels)
        rough = owners == 2
        probe = np.flatnonzero(rough if rough.any() else owners < 2)
        self.probe = probe[: MAX_PROBES if self.levels else PROBES]

    def values(self, places: Array) -> Array:
        """Return the design matrix (batch, q) of some coefficients."""
        return self.design.columns(np.arange(self.design.matrix.shape[0]), places)

    def take(self, rows: Array) -> ColumnCurves:
        """Return the curves on some rows."""
        return ColumnCurves(self.index, self.design.take(rows), self.shape, self.zero)

    def clipped(self, held: Array) -> ColumnCurves:
        """Return the curve with held-out rows outside the range of the others moved to its ends.

        The network of a fold clips its held-out rows in this way, because they are new to it; the
        range is that of `settle_range`.
        """
        order = np.arange(self.design.matrix.shape[0])
        if self.levels or len(held) == len(order):
            return self
        x = self.design.matrix @ self.design.curves[0].breakpoints
        others = np.delete(order, held)
        few = min(SPARE[0], len(others) // SPARE[1])
        first, second, third, last = np.sort(x[others])[[0, few, -1 - few, -1]]
        far = held[(x[held] < 2 * first - second) | (x[held] > 2 * last - third)]
        for row in far.tolist():
            order[row] = others[np.abs(x[others] - x[row]).argmin()]
        return self.take(order) if len(far) else self

    @cached_property
    def smooth_values(self) -> Array:
        """Columns (batch, q) of the line and the smooth part."""
        return self.values(self.smooth)

    @cached_property
    def factor_values(self) -> Array:
        """Columns (batch, q) of the curve when it is a factor of a product."""
        return self.values(self.factor)

    @cached_property
    def probe_values(self) -> Array:
        """Functions (batch, q) for the score tests of products, scaled to a total variance of 1."""
        values = self.values(self.probe)
        values = values - values.mean(0)
        return np.asarray(values / np.sqrt(np.maximum((values**2).sum(1).mean(), 1e-300)))


class DenseDesign:
    """A dense design matrix (batch, p), and the block of each column (`owners`)."""

    def __init__(self, matrix: Array, owners: Array) -> None:
        self.matrix, self.owners = matrix, owners

    def equations(
        self, weights: Array, response: Array, places: Array | None = None
    ) -> tuple[NormalEquations, float]:
        """Return the normal equations of all coefficients, and the response's mean."""
        total, roots = weights.sum(), np.sqrt(weights)
        mean = float(weights @ response / total)
        scaled, rest = self.matrix * roots[:, None], response - mean
        sums = roots @ scaled
        equations = NormalEquations(
            gram=scaled.T @ scaled - np.outer(sums, sums) / total,  # symmetric: half the work
            cross=scaled.T @ (roots * rest),
            square=float(weights @ rest**2),
            rows=max(float(total) - 1, 1.0),
            owners=self.owners,
            blocks=int(self.owners.max(initial=-1)) + 1,
        )
        return equations, mean

    def informed(self, variances: Array, noise: float, rows: float) -> Array:
        """Return the indices of all coefficients."""
        return np.arange(len(self.owners))

    def values(self, coefficients: Array) -> Array:
        """Return the values at the rows, (batch,)."""
        return np.asarray(self.matrix @ coefficients)


def _order(owners: Array) -> Array:
    """Return the index of each coefficient within its block."""
    return np.asarray(np.arange(len(owners)) - np.searchsorted(owners, owners))


def _slices(sizes: Sequence[int]) -> list[slice]:
    """Return consecutive slices of given sizes."""
    return [slice(*ends) for ends in itertools.pairwise(np.cumsum([0, *sizes]))]


def _variances(basis: csr_array, modes: Array) -> Array:
    """Return the variance over the rows of each mode's function."""
    rows = basis.shape[0]
    mean = modes.T @ (basis.sum(0) / rows)
    gram = (basis.T @ basis).toarray() / rows
    return np.asarray(np.einsum("mk,mk->k", modes, gram @ modes) - mean**2)
