"""Fits of every family to every edge by variable projection.

One matrix product per family scores all starting points a, b of ``c * g(a * u + b) + d`` on all
edges; the best are polished together by Levenberg-Marquardt with the Jacobian of L. Kaufman,
BIT 15, 1975, of the residual on the samples, or only of its part in the spline space of the edge,
which other splines could follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanlens._resources import one_thread
from kanlens._runtime import check_time
from kanlens.model._kan_linear import KANLinear
from kanlens.symbolic._joint_refit import Array, Damping, Mask, Residuals, descend
from kanlens.symbolic._library import Family, constrain

_MAX_STARTS = 3  # of an edge and family
_FIRST_STEPS = 6  # with all these starts
_LAST_STEPS = 24  # with the best one
_SPAN_STEPS = 12  # in the spline space
_SPAN_FAMILIES = 8  # fitted there
_MIN_R2 = 0.5  # of a best start that is polished
AT_ONCE = 64  # edges
_UNIFORM = 64  # points evenly over the range
_QUANTILES = 64  # points at quantiles of the data
_MIN_SINGULAR = 1e-3  # singular value of a direction, relative to the largest
_TAIL = 0.001  # share of the data beyond the range at either end
_MAX_SLOPE = 1e6  # in the computation of a step
_DAMPING = Damping(first=1e-2, most=1e6, factors=(0.2, 6.0))
_TOLERANCE = 1e-7  # relative fall of the residual that ends a fit
_EXACT = 1e-22  # residual that ends it


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeSamples:
    """Samples of the edges in their own units."""

    x: Tensor  # (edge, sample), float64
    y: Tensor  # (edge, sample)
    low: Tensor  # (edge,): range of the inputs
    high: Tensor
    uniform: int  # number of samples at the start that are equally spaced from low to high
    # (input, sample, direction): spline space of each input without constants, as orthonormal
    # directions, padded with zeros at the end
    space: Tensor | None = None
    place: Tensor | None = None  # (edge,): the input of each edge in `space`

    def pick(self, edges: Tensor) -> EdgeSamples:
        """Return the edges at the indices `edges`."""
        names = ("x", "y", "low", "high", *(("place",) if self.place is not None else ()))
        return replace(self, **{name: getattr(self, name)[edges] for name in names})


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeFits:
    """The best fit of every family to every edge."""

    families: tuple[Family, ...]
    # (edge, family, 4): canonical a, b, c, d of c * g(a * x + b) + d, in the edge's units
    parameters: Tensor
    r2: Tensor  # (edge, family): one minus the residual over the variance of the edge
    sse: Tensor  # (edge, family): sum of squared residuals, in the units of the edge squared
    misfit: Tensor  # (edge, family): unexplained part of the edge in the spline space, or 1 - r2
    coefficients: Tensor | None  # (edge,): number of independent coefficients on its range
    mean: Tensor  # (edge,): of its samples
    constant: Tensor  # (edge,): mask of edges that do not vary, or whose input does not


def fit_edges(
    samples: EdgeSamples, families: Sequence[Family], *, most: int | None = None
) -> EdgeFits:
    """Fit each family to each edge; polish only an edge's best `most` families, if given."""
    middle, half = (samples.low + samples.high) / 2, (samples.high - samples.low) / 2
    mean, spread = samples.y.mean(1), samples.y.std(1, unbiased=False)
    constant = (spread <= 1e-12 * (1e-300 + samples.y.abs().amax(1))) | (half <= 0)
    half, scale = torch.where(half > 0, half, 1.0), torch.where(constant, 1.0, spread)
    x = (samples.x - middle[:, None]) / half[:, None]
    y = (samples.y - mean[:, None]) / scale[:, None]
    spaces: list[Tensor | None] = [None] * -(-len(x) // AT_ONCE)  # (edge, sample, direction)
    coefficients = None
    if samples.space is not None and samples.place is not None:
        spaces = [samples.space[place] for place in samples.place.split(AT_ONCE)]
        coefficients = (1.0 + (samples.space.square().sum(1) > 0.5).sum(1))[samples.place]
    chunks = zip(x.split(AT_ONCE), y.split(AT_ONCE), spaces, strict=True)
    with one_thread():
        fit = partial(_fit_scaled, families, uniform=samples.uniform, most=most or len(families))
        fitted = torch.cat([fit(*chunk) for chunk in chunks])  # (edge, family, 6)
    a, b, c, d, sse, misfit = fitted.unbind(-1)
    a = a / half[:, None]
    b, c, d = b - a * middle[:, None], c * scale[:, None], mean[:, None] + d * scale[:, None]
    own = torch.stack((a, b, c, d), dim=-1)  # in the units of the edge
    canonical = [family.canonical(own[:, f]) for f, family in enumerate(families)]
    r2 = 1 - sse / y.square().sum(1, keepdim=True).clamp(1e-300)
    return EdgeFits(
        families=tuple(families),
        parameters=torch.stack(canonical, dim=1),
        r2=torch.where(constant[:, None], 0.0, r2),
        sse=sse * scale[:, None] ** 2,
        misfit=torch.where(constant[:, None], 1.0, misfit),
        coefficients=coefficients,
        mean=mean,
        constant=constant,
    )


def _fit_scaled(
    families: Sequence[Family], x: Tensor, y: Tensor, space: Tensor | None, uniform: int, most: int
) -> Tensor:
    """Return a, b, c, d, residual and misfit (edge, family, 6), for scaled samples."""
    scans = [_scan(family, y[:, :uniform]) for family in families]
    promising = []  # starts of the edges on which the best one explains enough
    for f, (scales, shifts, gain) in enumerate(scans):
        rows = (gain[:, 0] > _MIN_R2).nonzero()[:, 0]
        edge = rows.repeat_interleave(scales.shape[1])
        ab = scales[rows].reshape(-1), shifts[rows].reshape(-1)
        promising.append((torch.full_like(edge, f), edge, *ab))
    starts = Fits(*map(torch.cat, zip(*promising, strict=True)))
    few = x[:, :uniform], y[:, :uniform]
    tries, sse = EdgeResiduals(families, few, starts).polished(_FIRST_STEPS)
    best = tries.best_of_each(sse, len(y), most)
    polished, _ = EdgeResiduals(families, (x, y), best).polished(_LAST_STEPS)
    a = torch.stack([scan[0][:, 0] for scan in scans], dim=1)  # (edge, family)
    b = torch.stack([scan[1][:, 0] for scan in scans], dim=1)
    a[polished.edge, polished.family] = polished.a
    b[polished.edge, polished.family] = polished.b
    misfit = None if space is None else _polish_in_space(families, (x, y), a, b, space)
    c, d, sse = _linear(families, (x, y), a, b)
    if misfit is None:
        misfit = sse / y.square().sum(1, keepdim=True).clamp(min=1e-300)
    return torch.stack((a, b, c, d, sse, misfit), dim=2)


def _polish_in_space(
    families: Sequence[Family], samples: tuple[Tensor, Tensor], a: Tensor, b: Tensor, space: Tensor
) -> Tensor:
    """Polish a and b in place in the spline spaces; return the misfits."""
    edges, count = a.shape
    table = Fits.table(a, b)
    problem = EdgeResiduals(families, samples, table, space)
    misfit = problem.sse(table.a, table.b).reshape(count, edges).T.contiguous()
    best = misfit.argsort(1)[:, :_SPAN_FAMILIES]
    chosen = torch.zeros_like(misfit, dtype=torch.bool).scatter(1, best, True)
    fits, sse = problem.pick(chosen.T.reshape(-1).numpy()).polished(_SPAN_STEPS)
    places = fits.edge, fits.family
    a[places], b[places], misfit[places] = fits.a, fits.b, sse
    size = problem.target[:edges].square().sum(1, keepdim=True)
    return misfit / size.clamp(min=1e-300)


def _linear(
    families: Sequence[Family], samples: tuple[Tensor, Tensor], a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best c and d and the residual, each (edge, family)."""
    x, y = samples
    u = a[..., None] * x[:, None] + b[..., None]  # (edge, family, sample)
    value = torch.stack([family.function.value(u[:, f]) for f, family in enumerate(families)], 1)
    mean, y_mean = value.mean(2), y.mean(1, keepdim=True)
    centered, target = value - mean[..., None], (y - y_mean)[:, None]
    c = (centered * target).sum(2) / centered.square().sum(2).clamp(min=1e-30)
    residual = target - c[..., None] * centered
    return c, y_mean - c * mean, torch.nan_to_num(residual.square().sum(2), nan=float("inf"))


class Fits(NamedTuple):
    """Parameters of many fits (fit,), ordered by family."""

    family: Tensor
    edge: Tensor
    a: Tensor
    b: Tensor

    @classmethod
    def table(cls, a: Tensor, b: Tensor) -> Fits:
        """Return one fit per edge and family from a and b (edge, family)."""
        edges, families = a.shape
        family = torch.arange(families).repeat_interleave(edges)
        return cls(family, torch.arange(edges).repeat(families), a.T.reshape(-1), b.T.reshape(-1))

    def pick(self, index: Tensor) -> Fits:
        """Return the fits at `index`."""
        return Fits(*(values[index] for values in self))

    def best_of_each(self, sse: Tensor, edges: int, most: int) -> Fits:
        """Return the best fit of each edge and family, for an edge's best `most` families."""
        key = (self.family * edges + self.edge).numpy()
        order = np.lexsort((sse.numpy(), key))
        first = order[np.unique(key[order], return_index=True)[1]]
        edge = self.edge.numpy()[first]
        ranked = np.lexsort((sse.numpy()[first], edge))
        place = np.empty(len(first), dtype=int)  # index within the fits of an edge
        place[ranked] = np.arange(len(first)) - np.searchsorted(edge[ranked], edge[ranked])
        return self.pick(torch.from_numpy(first[place < most]))


class EdgeResiduals(Residuals):
    """Residuals of fits in a and b on x in [-1, 1] and y (edge, sample)."""

    def __init__(
        self,
        families: Sequence[Family],
        samples: tuple[Tensor, Tensor],
        fits: Fits,
        space: Tensor | None = None,
    ) -> None:
        self.arguments = families, samples, fits, space
        if space is not None:  # slots of the fits in a table (edge, fit)
            edge, sizes = fits.edge, torch.bincount(fits.edge, minlength=len(space))
            order, rank = edge.argsort(stable=True), torch.empty_like(edge)
            rank[order] = torch.arange(len(edge)) - (sizes.cumsum(0) - sizes)[edge[order]]
            self.width = int(sizes.max()) if len(edge) else 0
            self.slot = edge * self.width + rank
        self.x, y = samples[0][fits.edge], samples[1][fits.edge]
        self.target = self.coordinates(y)
        counts = torch.bincount(fits.family, minlength=len(families)).tolist()
        self.families = [(family, n) for family, n in zip(families, counts, strict=True) if n]
        self.rules = torch.stack([family.rules for family in families])[fits.family].T

    def coordinates(self, values: Tensor) -> Tensor:
        """Return values (fit, sample), centered or in coordinates of the spline space."""
        space = self.arguments[3]
        if space is None:
            return values - values.mean(1, keepdim=True)
        edges, samples, directions = space.shape
        padded = values.new_zeros(edges * self.width, samples)
        padded[self.slot] = values
        across = padded.view(edges, self.width, samples) @ space
        return across.view(-1, directions)[self.slot]

    def pick(self, mask: Mask) -> EdgeResiduals:
        """Return the residuals of the fits that a mask selects."""
        families, samples, fits, space = self.arguments
        return EdgeResiduals(families, samples, fits.pick(torch.from_numpy(mask)), space)

    def allowed(self, theta: Array) -> Array:
        """Return the nearest a and b, (fit, 2), that their families allow."""
        a, b = torch.from_numpy(theta).unbind(1)
        return np.asarray(torch.stack(constrain(a, b, self.rules), dim=1).numpy())

    def losses(self, theta: Array) -> Array:
        """Return the sum of squared residuals of each fit."""
        return np.asarray(self.sse(*torch.from_numpy(theta).unbind(1)).numpy())

    def sse(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sum of squared residuals of each fit, from a and b (fit,)."""
        self.u = torch.addcmul(b[:, None], a[:, None], self.x)
        self.column = self.coordinates(self._values(self.u))  # coordinates of g
        self.size = self.column.square().sum(1).clamp(min=1e-30)
        self.c = (self.column * self.target).sum(1) / self.size
        self.residual = torch.addcmul(-self.target, self.c[:, None], self.column)
        return torch.nan_to_num(self.residual.square().sum(1), nan=float("inf"))

    def equations(self) -> tuple[Array, Array]:
        """Return the normal equations by Kaufman's Jacobian after `losses`."""
        slope = self._values(self.u, slope=True)
        slope = torch.nan_to_num(slope, nan=0.0, posinf=_MAX_SLOPE, neginf=-_MAX_SLOPE)
        slope = slope * self.c[:, None]
        by_a = self._projected(slope * self.x) * self.rules[0][:, None]
        by_b = self._projected(slope) * self.rules[1][:, None]
        pairs = ((by_a, by_a), (by_a, by_b), (by_a, by_b), (by_b, by_b))
        normal = torch.stack([(p * q).sum(1) for p, q in pairs], dim=1).view(-1, 2, 2)
        right = torch.stack([(p * self.residual).sum(1) for p in (by_a, by_b)], dim=1)
        return np.asarray(normal.numpy()), np.asarray(right.numpy())

    def polished(self, steps: int) -> tuple[Fits, Tensor]:
        """Return all fits after some steps, with their sums of squared residuals."""
        fits = self.arguments[2]
        if len(fits.a) == 0:
            return fits, fits.a
        start = np.asarray(torch.stack((fits.a, fits.b), dim=1).numpy())
        limits = {"tolerance": _TOLERANCE, "exact": _EXACT}
        theta, sse, *_ = descend(self, start, steps=steps, damping=_DAMPING, **limits)
        a, b = torch.from_numpy(theta).unbind(1)
        return fits._replace(a=a, b=b), torch.from_numpy(sse)

    def _values(self, u: Tensor, *, slope: bool = False) -> Tensor:
        """Return the values or slopes of the families at u (fit, sample)."""
        parts = zip(self.families, u.split([n for _, n in self.families]), strict=True)
        return torch.cat([f.derivative(r) if slope else f.value(r) for (f, _), r in parts])

    def _projected(self, values: Tensor) -> Tensor:
        """Return a column of the Jacobian, orthogonal to those of c and d."""
        column = self.coordinates(values)
        share = (column * self.column).sum(1) / self.size
        return torch.addcmul(column, share[:, None], self.column, value=-1.0)


@lru_cache(maxsize=128)
def _scan_basis(family: Family, uniform: int) -> Tensor:
    """Return unit vectors (column, start, sample); their products with samples score starts."""
    x = torch.linspace(-1.0, 1.0, uniform, dtype=torch.float64)
    a, b = family.flat_starts
    u = a[:, None] * x + b[:, None]  # (start, sample)
    columns = [torch.sin(u), torch.cos(u)] if family.name == "sin" else [family.value(u)]
    basis: list[Tensor] = []
    for column in columns:
        rest = column - column.mean(1, keepdim=True)
        for other in basis:
            rest = rest - (rest * other).sum(1, keepdim=True) * other
        size = rest.norm(dim=1, keepdim=True)
        basis.append(torch.where(size > 1e-12, rest / size, 0.0))
    return torch.stack(basis)


def _scan(family: Family, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a, b and R2 of the best starts at peaks of R2, each (edge, start)."""
    check_time()
    centered = y - y.mean(1, keepdim=True)
    basis = _scan_basis(family, y.shape[1])
    shares = torch.matmul(centered, basis.transpose(1, 2))  # (column, edge, start)
    gain = shares.square().sum(0) / centered.square().sum(1, keepdim=True).clamp(min=1e-300)
    rows, columns, _ = family.starts.shape
    table = gain.reshape(-1, rows, columns)
    highest = partial(torch.nn.functional.max_pool1d, kernel_size=3, stride=1, padding=1)
    peaks = table >= torch.maximum(highest(table), highest(table.mT).mT)  # of direct neighbors
    count = min(_MAX_STARTS, rows * columns)
    best = torch.where(peaks.reshape(gain.shape), gain, gain - 2.0).topk(count, dim=1).indices
    a, b = (values[best] for values in family.flat_starts)
    if family.name == "sin":  # the best phases
        u = a[..., None] * torch.linspace(-1.0, 1.0, y.shape[1], dtype=y.dtype)
        waves = torch.stack((torch.sin(u), torch.cos(u)), dim=-1)  # (edge, start, sample, 2)
        waves = waves - waves.mean(2, keepdim=True)
        gram = waves.mT @ waves + 1e-12 * torch.eye(2, dtype=y.dtype)
        solution = torch.linalg.solve(gram, waves.mT @ centered[:, None, :, None])[..., 0]
        b = torch.atan2(solution[..., 1], solution[..., 0])
    return a.clone(), b.clone(), gain.gather(1, best)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerEdges:
    """The unmasked edges of one layer with their samples."""

    out: Tensor  # (edge,)
    in_: Tensor  # (edge,)
    samples: EdgeSamples
    importance: Tensor  # (edge,): standard deviation over the data, relative to that of the sum


@torch.no_grad()
def sample_edges(layer: KANLinear, inputs: Tensor) -> LayerEdges:
    """Sample every unmasked edge evenly and at quantiles of the data."""
    levels = torch.linspace(_TAIL, 1 - _TAIL, _QUANTILES, dtype=inputs.dtype)
    quantiles = inputs.quantile(levels, dim=0)  # (quantile, in)
    least, most = inputs.amin(0), inputs.amax(0)
    two_valued = ((inputs == least) | (inputs == most)).all(0)  # straight between the two
    low = torch.where(two_valued, least, quantiles[0])
    high = torch.where(two_valued, most, quantiles[-1])
    places = torch.linspace(0.0, 1.0, _UNIFORM, dtype=inputs.dtype)[:, None]
    x = torch.cat((low + (high - low) * places, quantiles.clamp(low, high)))  # (sample, in)
    y = layer.edge_values(x)  # (sample, out, in)
    first, last = layer.edge_values(torch.stack((low, high))).unbind(0)  # (out, in) each
    width = torch.where(high > low, high - low, 1.0)
    chords = torch.lerp(first, last, ((x - low) / width)[:, None, :])
    y[:, :, two_valued] = chords[:, :, two_valued]
    out, in_ = (layer.mask != 0).nonzero().unbind(1)
    samples = EdgeSamples(
        x=x[:, in_].T.contiguous(),
        y=y[:, out, in_].T.contiguous(),
        low=low[in_],
        high=high[in_],
        uniform=_UNIFORM,
        space=_spline_space(layer, x),
        place=in_,
    )
    values = layer.edge_values(inputs)
    total = values.sum(2).std(0, unbiased=False).clamp(min=1e-300)
    importance = values.std(0, unbiased=False) / total[:, None]
    return LayerEdges(out=out, in_=in_, samples=samples, importance=importance[out, in_])


def _spline_space(layer: KANLinear, x: Tensor) -> Tensor:
    """Return the spline space of each input at x, without constants."""
    span = layer.basis(x).transpose(0, 1)  # (in, sample, column)
    left, size, _ = torch.linalg.svd(span - span.mean(1, keepdim=True), full_matrices=False)
    reached = size > _MIN_SINGULAR * size[:, :1].clamp(min=1e-300)
    directions: Tensor = left * reached[:, None]
    return directions[..., : int(reached.sum(1).max())].contiguous()
