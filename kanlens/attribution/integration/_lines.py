"""Straight lines from background rows to samples, cut where inputs of a layer cross breakpoints.

Crossings of the first layer's breakpoints are found in closed form, those of hidden layers, level
by level, by search on the smooth segments between the cuts so far.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanlens.model import _analysis as analysis
from kanlens.model._analysis import reaching
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.splines import _spline as spline

SMOOTH = 3  # degree assumed for pieces that are not polynomials
MIN_LENGTH = 1e-15  # of a line; less is rounding
MAX_POINTS = 16  # samples of a hidden input on a segment
SAMPLES_PER_POINT = 2  # samples of the interpolating polynomial for each of these points
CORRECTIONS = 2  # Newton's steps on the network itself
HALVINGS, NEWTON = 6, 4  # earlier steps, on the interpolating polynomial
CROSSING_TOLERANCE = 1e-6  # largest relative error of a crossing before its last correction


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """Lines from `start` to `end`, in the scaled units of the first layer."""

    model: KAN
    target: int
    start: Tensor  # (line, in)
    end: Tensor  # (line, in)
    at_once: int  # points per call of the model

    def points(self, owner: Tensor, t: Tensor) -> Tensor:  # (point,), (point,) -> (point, in)
        """Return the points at `t` in [0, 1] on lines of index `owner`, clipped to the range."""
        x = torch.lerp(self.start[owner], self.end[owner], t[:, None])
        return x.clamp(*range_ends(self.model))

    @functools.cached_property
    def degrees(self) -> list[int]:
        """Degree of the outputs of each layer along a line, if they were piecewise polynomials."""
        degrees, degree = [], 1
        for layer, nodes in zip(self.model.layers, self.model.nodes, strict=True):
            degree *= layer.piece_degree or max(layer.spline_order, SMOOTH * bool(layer.series))
            degree *= max((1, *nodes.grouping.arities, SMOOTH * bool(nodes.normalized)))
            degrees.append(degree)
        return degrees

    def noise(self, owner: Tensor, t: Tensor) -> Tensor:  # (point,), (point,) -> (point,)
        """Estimate the rounding error of the output at points of lines, in machine epsilons."""
        sizes = [layer.in_features * layer.out_features for layer in self.model.layers]
        at_once = max(1, min(self.at_once, analysis.BUDGET // max(sizes)))
        parts = zip(owner.split(at_once), t.split(at_once), strict=True)
        errors = torch.cat([self._noise(self.points(*part)) for part in parts])
        return errors.nan_to_num(0.0, 0.0, 0.0)  # unknown errors count as 0

    def _noise(self, x: Tensor) -> Tensor:  # (point, in) -> (point,)
        """Propagate errors of rounding through the layers, in the units of `noise`."""
        error = x.abs()
        for layer, nodes in zip(self.model.layers, self.model.nodes, strict=True):
            slopes = layer.edge_derivatives(x).abs()  # (point, out, in)
            error = torch.einsum("boi,bi->bo", slopes, error).nan_to_num(0.0, 0.0, 0.0)
            error = error + _terms(layer, x).sum(2) + layer.bias.abs()
            sums = layer(x)
            x = nodes(sums)
            error = x.abs() + nodes.errors(sums, error)
        return error[:, self.target] * self.model.output_scale[self.target].abs()

    def hidden(self, level: int, owner: Tensor, t: Tensor) -> Tensor:  # (point, node)
        """Return the inputs of layer `level` at points of the lines."""
        parts = [self.points(*part) for part in self._parts(owner, t)]
        return torch.cat([self.model.run(part, stop=level) for part in parts])

    def levels(self, owner: Tensor, t: Tensor) -> list[Tensor]:
        """Return the inputs of every layer (point, in), and the output without its shift."""
        parts = [self.model.levels(self.points(*part))[0] for part in self._parts(owner, t)]
        *inputs, nodes = (torch.cat(level) for level in zip(*parts, strict=True))
        return [*inputs, nodes[:, self.target] * self.model.output_scale[self.target]]

    def rates(self, owner: Tensor, t: Tensor) -> Tensor:  # (point, in)
        """Return, per feature, the gradient of the output times the length of the line in it."""
        parts = []
        for lines, places in self._parts(owner, t):
            start, end = self.start[lines], self.end[lines]
            with torch.enable_grad():
                x = torch.lerp(start, end, places[:, None]).requires_grad_()
                output = self.model.run(x.clamp(*range_ends(self.model)))[:, self.target]
                (gradient,) = torch.autograd.grad(output.sum(), x)
            rates = gradient * (end - start) * self.model.output_scale[self.target]
            parts.append(torch.where(end == start, 0.0, rates))  # also of infinite gradients
        return torch.cat(parts)

    def _parts(self, owner: Tensor, t: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(owner.split(self.at_once), t.split(self.at_once), strict=True)


def range_ends(model: KAN) -> tuple[Tensor, Tensor]:  # (in,) twice
    """Return the range that the first layer's inputs are clamped to, in its scaled units."""
    ends = model.input_low, model.input_high
    low, high = ((end - model.input_shift) / model.input_scale for end in ends)
    return low, high


def _terms(layer: KANLinear, x: Tensor) -> Tensor:  # (point, out, in)
    """Return the sum of the absolute terms of each edge of a layer."""
    values = spline.basis(x, layer.grid, layer.spline_order, extrapolation=layer.extrapolation)
    parts = torch.einsum("bik,oik->boi", values.abs(), layer.coefficients().abs())
    for g, a, b, weight in layer.terms()[1:]:
        parts = parts + g.value(a * x + b).abs()[:, None] * weight.abs()
    return torch.maximum(layer.edge_values(x).abs(), parts)


# --- where lines cross breakpoints ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Segments:
    """Parts of lines, from `low` to `high` between 0 and 1."""

    owner: Tensor  # (segment,): index of the line
    low: Tensor  # (segment,)
    high: Tensor  # (segment,)

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self.owner)

    @property
    def length(self) -> Tensor:
        """The share of its line, shape (segment,)."""
        return self.high - self.low

    def __getitem__(self, chosen: Tensor | slice) -> Segments:
        """Return some of the segments."""
        return Segments(self.owner[chosen], self.low[chosen], self.high[chosen])

    def places(self, nodes: Tensor) -> Tensor:  # (node,) -> (segment, node)
        """Return positions on the lines of quadrature nodes in [-1, 1]."""
        half = 0.5 * self.length[:, None]
        return self.low[:, None] + half + half * nodes

    def cut(self, index: Tensor, t: Tensor) -> tuple[Segments, Tensor]:
        """Cut segments `index` at `t` (cut,); return the parts, and which segment each is from."""
        every = torch.arange(len(self), device=index.device)
        index, low = torch.cat([every, index]), torch.cat([self.low, t])
        low, order = low.sort()
        index, again = index[order].sort(stable=True)
        low = low[again]
        last = torch.ones_like(index, dtype=torch.bool)
        last[:-1] = index[1:] != index[:-1]
        high = torch.where(last, self.high[index], low.roll(-1))
        long = high - low > MIN_LENGTH
        return Segments(self.owner[index], low, high)[long], index[long]

    def joined(self, other: Segments) -> Segments:
        """Return these segments and then those of `other`."""
        ours, theirs = (self.owner, self.low, self.high), (other.owner, other.low, other.high)
        return Segments(*(torch.cat(two) for two in zip(ours, theirs, strict=True)))


def meeting_points(model: KAN, target: int) -> list[Tensor]:
    """Return the knots of every layer that the output depends on, (in, n), padded with infinity."""
    knots: list[Tensor] = []
    for layer, onward in zip(model.layers, reaching(model, target), strict=True):
        places = layer.breakpoints().clone()
        repeated = torch.zeros_like(places, dtype=torch.bool)
        repeated[:, 1:] = places[:, 1:] == places[:, :-1]
        curved = (layer.coefficients() != 0).any(-1) & onward[:, None]  # (out, in)
        of_grid = (places[:, :, None] == layer.spline_breakpoints()[:, None, :]).any(-1)
        flat = ~curved.any(0)[:, None]
        drop = torch.where(flat, of_grid & ~repeated, repeated)  # a kink may lie on the grid
        dead = ~(layer.nonzero_edges() & onward[:, None]).any(0)[:, None]
        if not knots:  # clamped features stop at the ends of their range
            ends = torch.stack(range_ends(model), 1)
            places, drop = torch.cat([places, ends], 1), torch.cat([drop, ends.isinf()], 1)
        knots.append(places.masked_fill(drop | dead, torch.inf).sort(1).values)
    return knots


def smooth_segments(lines: Lines, knots: list[Tensor]) -> Segments:
    """Cut lines where inputs of any layer cross knots; leave out lines of length zero."""
    moving = (lines.end != lines.start).any(1).nonzero()[:, 0]
    start, end = lines.start[moving, :, None], lines.end[moving, :, None]
    t = (knots[0] - start) / (end - start)  # (line, in, n); NaN is no crossing
    index, feature, place = ((t > 0) & (t < 1)).nonzero(as_tuple=True)
    zero = lines.start.new_zeros(len(moving))
    segments, _ = Segments(moving, zero, zero + 1).cut(index, t[index, feature, place])
    return hidden_cuts(lines, segments, knots)[0]


def hidden_cuts(lines: Lines, segments: Segments, knots: list[Tensor]) -> tuple[Segments, Tensor]:
    """Cut segments where hidden inputs cross breakpoints, layer by layer; see `Segments.cut`."""
    origin = torch.arange(len(segments), device=segments.owner.device)
    for level in range(1, len(knots)):
        live = torch.isfinite(knots[level]).any(1).nonzero()[:, 0]
        if not len(live):
            continue
        count = min(lines.degrees[level - 1] + 4, MAX_POINTS)
        numbers = SAMPLES_PER_POINT * count * knots[level][live].numel()
        cuts, at_once = [], max(1, analysis.BUDGET // numbers)
        for first in range(0, len(segments), at_once):
            part = segments[first : first + at_once]
            index, t = _search(lines, part, level, live, knots[level][live], count)
            cuts.append((index + first, t))
        if cuts:
            index, t = (torch.cat(parts) for parts in zip(*cuts, strict=True))
            segments, parent = segments.cut(index, t)
            origin = origin[parent]
    return segments, origin


def _search(
    lines: Lines, segments: Segments, level: int, live: Tensor, knots: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return segments (cut,) and positions (cut,) where inputs cross breakpoints."""
    curve = Interpolation(count, SAMPLES_PER_POINT * (count - 1), device=knots.device)
    t = segments.places(curve.nodes)
    owner = segments.owner[:, None].expand_as(t)
    values = lines.hidden(level, owner.reshape(-1), t.reshape(-1))[:, live]
    values = values.reshape(len(segments), count, len(live)).mT  # (segment, unit, node)
    segment, unit, knot, low, high = _brackets(curve, values, knots)
    place = knots[unit, knot]
    tau, slope = curve.solve(values[segment, unit], place, low, high)
    crossed, every = segments[segment], torch.arange(len(unit), device=unit.device)
    half = 0.5 * crossed.length
    for _ in range(CORRECTIONS):
        now = lines.hidden(level, crossed.owner, crossed.low + half + half * tau)
        error = now[every, live[unit]] - place
        tau = (tau - error / slope).nan_to_num(2.0).clamp(low, high)
    real = (tau > -1) & (tau < 1) & (error.abs() <= CROSSING_TOLERANCE * (1 + place.abs()))
    return segment[real], (crossed.low + half + half * tau)[real]


def _brackets(curve: Interpolation, values: Tensor, knots: Tensor) -> tuple[Tensor, ...]:
    """Return segment, unit, knot, and both ends of every interval in which a knot is crossed."""
    samples = curve.sample(values)  # (segment, unit, sample)
    above = samples[..., None] > knots[:, None]  # (segment, unit, sample, knot)
    segment, unit, sample, knot = (above[:, :, 1:] != above[:, :, :-1]).nonzero(as_tuple=True)
    crossed = [segment, unit, knot, curve.places[sample], curve.places[sample + 1]]
    before, here, after = samples[..., :-2], samples[..., 1:-1], samples[..., 2:]
    rise, fall = here - before, here - after
    bend = rise + fall
    shift = 0.5 * (rise - fall) / torch.where(bend == 0, 1.0, bend)  # of a parabola's top
    top = here + 0.25 * (rise - fall) * shift
    turned = (rise * fall > 0)[..., None] & ((top[..., None] > knots[:, None]) != above[:, :, 1:-1])
    segment, unit, sample, knot = turned.nonzero(as_tuple=True)
    peak = curve.places[sample + 1] + curve.spacing * shift[segment, unit, sample]
    for ends in ((curve.places[sample], peak), (peak, curve.places[sample + 2])):
        more = segment, unit, knot, *ends
        crossed = [torch.cat(two) for two in zip(crossed, more, strict=True)]
    return tuple(crossed)


class Interpolation:
    """Polynomials through values at Chebyshev points, evaluated on a uniform grid."""

    def __init__(self, count: int, intervals: int, *, device: torch.device | None = None) -> None:
        nodes = -np.cos(np.pi * np.arange(count) / (count - 1))
        places = np.linspace(-1.0, 1.0, intervals + 1)
        powers = np.linalg.inv(np.vander(nodes, increasing=True))  # (power, node)
        at_places = np.vander(places, count, increasing=True) @ powers  # (place, node)
        self.nodes = torch.as_tensor(nodes, device=device)
        self.places = torch.as_tensor(places, device=device)
        self.spacing = 2.0 / intervals
        self._powers = torch.as_tensor(powers, device=device)
        self._at_places = torch.as_tensor(at_places, device=device)

    def sample(self, values: Tensor) -> Tensor:  # (..., node) -> (..., place)
        """Return the polynomials on the grid."""
        return values @ self._at_places.mT

    def solve(
        self, values: Tensor, level: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return where values between `low` and `high` equal `level`, and the slopes there."""
        powers = (values @ self._powers.mT).T.contiguous()  # (power, polynomial)
        powers[0] -= level
        rising = _horner(powers, high)[0] > 0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            past = (_horner(powers, middle)[0] > 0) == rising
            low, high = torch.where(past, low, middle), torch.where(past, middle, high)
        place = 0.5 * (low + high)
        for _ in range(NEWTON):
            value, slope = _horner(powers, place)
            place = (place - value / slope).nan_to_num(2.0).clamp(low, high)
        return place, _horner(powers, place)[1]


def _horner(powers: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return polynomials (power, polynomial) at x (polynomial,), and their slopes."""
    value, slope = powers[-1], torch.zeros_like(x)
    for power in range(len(powers) - 2, -1, -1):
        slope = slope * x + value
        value = value * x + powers[power]
    return value, slope
