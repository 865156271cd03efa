"""Interval arithmetic, and linear relaxation (CROWN [1]_) of outputs and gradients.

Ends of intervals move outwards by a margin, and keep an exact 0 or a sign that all terms have. NaN
becomes infinite ends.

All edges of an input, in place of neurons, are added before their hull is taken about a chord, so
that opposite functions of a feature cancel exactly. The derivative is sum_u g_u(u) du/dx over the
nodes of a layer; the chord of g_u makes it linear in them, so that its error falls with the square
of the box's width.

References
----------
.. [1] H. Zhang et al., Efficient Neural Network Robustness Certification with General Activation
   Functions, 2018.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kanlens.model._enclosure_tables import ControlPoints
from kanlens.model._layer_enclosures import Enclosure, NoEnclosure
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes, others
from kanlens.model._terms import times

EPS = 4e-16  # relative margin of one operation; float64 is off by at most 1.2e-16
SUM_EPS = 1e-14  # margin of a sum or norm over features or slices
MAX_FEATURES = 16  # features up to which gradients are relaxed: work grows with their square
MODEL_EPS = 1e-13  # margin of a layer's sum as evaluated, relative to its terms' sizes


class Interval(NamedTuple):
    """Intervals between ends of one shape."""

    low: Tensor
    high: Tensor

    @classmethod
    def known(cls, low: Tensor, high: Tensor) -> Interval:
        """Replace NaN by infinite ends."""
        return cls(
            torch.where(low.isnan(), -torch.inf, low), torch.where(high.isnan(), torch.inf, high)
        )

    @classmethod
    def stack(cls, intervals: Sequence[Interval], dim: int) -> Interval:
        """Stack intervals along a new axis."""
        return cls(*(torch.stack(ends, dim) for ends in zip(*intervals, strict=True)))

    @property
    def size(self) -> Tensor:
        """The magnitude: the largest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def meet(self, other: Interval) -> Interval:
        """Intersect two enclosures of the same quantity."""
        low, high = torch.maximum(self.low, other.low), torch.minimum(self.high, other.high)
        return Interval(torch.minimum(low, high), torch.maximum(low, high))

    def total(self, dim: int = -1) -> Interval:
        """Sum intervals along an axis."""
        margin = EPS * (self.low.shape[dim] + 4)
        return Interval.known(
            self.low.sum(dim) - _finite(margin * self.low.abs().sum(dim)),
            self.high.sum(dim) + _finite(margin * self.high.abs().sum(dim)),
        )

    def plus(self, *others: Interval) -> Interval:
        """Add intervals elementwise."""
        return Interval.stack([self, *others], -1).total()

    def shift(self, by: Tensor) -> Interval:
        """Add a number."""
        return Interval.known(
            self.low + by - EPS * _finite(self.low.abs() + by.abs()),
            self.high + by + EPS * _finite(self.high.abs() + by.abs()),
        )

    def times(self, other: Interval) -> Interval:
        """Multiply intervals, with 0 times an infinite end = 0."""
        corners = torch.stack([a * b for a in self for b in other])
        lost = torch.stack([end.isnan() for end in torch.broadcast_tensors(*self, *other)]).any(0)
        corners = torch.where(corners.isnan(), 0.0, corners)
        low, high = corners.amin(0), corners.amax(0)
        low, high = low - EPS * _finite(low.abs()), high + EPS * _finite(high.abs())
        return Interval(low.masked_fill(lost, -torch.inf), high.masked_fill(lost, torch.inf))

    def scaled(self, factor: Tensor) -> Interval:
        """Multiply by a number."""
        return Interval(factor, factor).times(self)

    def with_zero(self, where: Tensor) -> Interval:
        """Widen the intervals of a mask to contain 0."""
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        return Interval(torch.where(where, low, self.low), torch.where(where, high, self.high))

    def hull(self) -> Interval:
        """Return the hull of a batch of intervals (batch, ...)."""
        return Interval(self.low.amin(0), self.high.amax(0))

    def column(self, which: int | list[int] | Tensor = 0) -> Interval:
        """Return one column, or some columns, of intervals (box, n, ...)."""
        return Interval(self.low[:, which], self.high[:, which])

    def unsqueeze(self, dim: int) -> Interval:
        """Return the intervals with a new axis of length 1."""
        return Interval(self.low.unsqueeze(dim), self.high.unsqueeze(dim))


def _finite(margin: Tensor) -> Tensor:
    """Return the margin of finite ends; 0 for infinite ones."""
    return margin.masked_fill(~torch.isfinite(margin), 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerBounds:
    """Bounds on one layer over a batch of boxes."""

    inputs: Interval  # (box, in)
    values: ControlPoints  # of the edges
    edges: Interval  # (box, out, in)
    sums: Interval  # (box, out)


def combine(edges: ControlPoints, weights: Tensor) -> ControlPoints:
    """Sum the edges of each input with weights (box, row, out) or (box, row, out, in)."""
    if weights.dim() == 3:
        weights = weights[..., None].expand(*weights.shape, edges.points.shape[2])
    points = torch.einsum("nroi,noimk->nrimk", weights, edges.points)
    summed = functools.partial(torch.einsum, "nroi,noim->nrim")
    error = EPS * (weights.shape[2] + 8) * summed(weights.abs(), edges.points.abs().amax(-1))
    rise, fall = weights.clamp(min=0), weights.clamp(max=0)
    finite = bool(torch.isfinite(edges.below).all()) and bool(torch.isfinite(edges.above).all())

    def total(weights: Tensor, margins: Tensor) -> Tensor:
        if finite:
            return summed(weights, margins)
        return times(weights[..., None], margins[:, None]).sum(2)

    below = total(rise, edges.below) + total(fall, edges.above)
    above = total(rise, edges.above) + total(fall, edges.below)
    never = points.new_full((), torch.inf)
    return replace(
        edges, points=points, below=below - error, above=above + error, lower=-never, upper=never
    )


def chords(edges: ControlPoints) -> Tensor:  # (box, row, in)
    """Return the slopes of the edges' chords; 0 on a box without width."""
    width = (edges.end[..., -1] - edges.start[..., 0])[:, None]
    rise = edges.points[..., -1, -1] - edges.points[..., 0, 0]
    return torch.where(width > 0, rise / width.clamp_min(1e-300), 0.0)


def margins(edges: ControlPoints, slopes: Tensor) -> Interval:  # (box, row, in)
    """Bound the difference of edges and lines through 0 with some slopes (box, row, in)."""
    share = torch.linspace(0, 1, edges.points.shape[-1]).to(edges.points)
    start, end = edges.start[:, None, ..., None], edges.end[:, None, ..., None]
    factor = slopes[..., None, None]
    error = 8 * EPS * (factor * torch.maximum(start.abs(), end.abs())).abs()[..., 0]
    points = edges.points - factor * (start + (end - start) * share)
    rest = replace(edges, points=points, below=edges.below - error, above=edges.above + error)
    return Interval.known(*rest.bounds())


def node_bounds(nodes: Nodes, sums: Interval) -> Interval:
    """Propagate bounds of sums (box, sub) to their nodes (box, node)."""
    count = nodes.grouping.sums
    columns = [sums.column(k) for k in range(count)]
    for product in range(len(nodes.grouping.arities)):
        members = nodes.grouping.members(count + product)
        total = functools.reduce(Interval.times, map(sums.column, members))
        # a factor without bounds may be undefined, and so is 0 times it
        free = torch.isinf(sums.low[:, members]) & torch.isinf(sums.high[:, members])
        low, high = (end.clone() for end in total)
        low[free.any(1)], high[free.any(1)] = -torch.inf, torch.inf
        columns.append(Interval(low, high))
    bounds = Interval.stack(columns, 1)
    return bounds.scaled(nodes.scale).shift(nodes.shift) if nodes.scaled else bounds


def through_nodes(
    nodes: Nodes, slopes: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Interval]:
    """Propagate a linear form (box, row, node) of nodes back to their sums (box, sub).

    A product is linear in each factor; its distance from the tangent plane at the middle of their
    intervals is bounded by the higher products of their half widths. Returns weights
    (box, row, sub) and that margin (box, row).
    """
    margin = _constant(slopes * nodes.shift if nodes.scaled else torch.zeros_like(slopes))
    slopes = slopes * nodes.scale if nodes.scaled else slopes
    sums = nodes.grouping.sums
    weights = [slopes[..., :sums]]
    for product in range(len(nodes.grouping.arities)):
        members = list(nodes.grouping.members(sums + product))
        middle, half = (low + high)[:, members] / 2, (high - low)[:, members] / 2
        half = half + EPS * (low.abs() + high.abs())[:, members]
        finite = torch.isfinite(middle).all(-1, keepdim=True)
        middle = torch.where(finite, middle, 0.0)
        sizes = middle.abs()
        most = (sizes + half).prod(-1)
        rest = most - sizes.prod(-1) - (half * others(sizes)).sum(-1) + 64 * EPS * most
        factor = slopes[..., sums + product]
        center = factor * ((1 - len(members)) * middle.prod(-1))[:, None]
        reach = times(factor.abs(), rest[:, None]) + 8 * EPS * center.abs()
        margin = margin.plus(Interval(center - reach, center + reach))
        weights.append(factor[..., None] * others(middle)[:, None])
    return torch.cat(weights, -1), margin


def relax(
    model: KAN, layers: list[LayerBounds], weights: Tensor
) -> tuple[Interval, Interval, Tensor, list[Tensor]]:
    """Bound linear forms (box, row, out) of the last layer's sums, by backward propagation.

    Returns bounds (box, row); the same without the curves of the first layer; the weights (box,
    row, out) of first-layer sums; and widths (box, row, in) of the margins about the chords at
    every layer, the last layer first, and of the curves at the first.
    """
    rest, lost = _constant(torch.zeros_like(weights)), []
    for index in reversed(range(len(layers))):
        terms = weights * model.layers[index].bias
        error = EPS * (terms.shape[-1] + 4) * terms.abs().sum(-1)
        low, high = rest.shift(terms.sum(-1))
        rest = Interval(low - error, high + error)
        combined = combine(layers[index].values, weights)
        if index:
            slopes = chords(combined)
            margin = margins(combined, slopes)
            lost.append(margin.high - margin.low)
            below = layers[index - 1].sums
            weights, product = through_nodes(model.nodes[index - 1], slopes, *below)
            rest = rest.plus(margin.total()).plus(product)
    hull = Interval.known(*combined.bounds())
    return hull.total().plus(rest), rest, weights, [*lost, hull.high - hull.low]


def _constant(terms: Tensor) -> Interval:
    """Sum numbers along the last axis."""
    return Interval(terms, terms).total()


# --- gradients -----------------------------------------------------------------------------------


def through_product(nodes: Nodes, slopes: Interval, sums: Interval) -> Interval:
    """Backpropagate the gradient from nodes (box, node) to sums (box, sub)."""
    if nodes.scaled:
        slopes = slopes.scaled(nodes.scale)
    count = nodes.grouping.sums
    columns = [slopes.column(k) for k in range(count)]
    for product in range(len(nodes.grouping.arities)):
        members = nodes.grouping.members(count + product)
        for k in members:
            rest = (sums.column(other) for other in members if other != k)
            columns.append(functools.reduce(Interval.times, rest, slopes.column(count + product)))
    return Interval.stack(columns, 1)


def through_edges(
    slopes: Interval, edges: ControlPoints, bounds: Interval
) -> tuple[Interval, Tensor]:
    """Backpropagate the gradient from sums (box, out) to inputs; return also the added width.

    Two enclosures are intersected: an interval product, which keeps signs, and one that adds the
    slopes of an input's edges, times midpoints of the gradient, before it takes the hull.
    """
    plain = slopes.unsqueeze(-1).times(bounds).total(dim=1)
    middle, half = _middle_and_half(slopes)
    hull = Interval.known(*combine(edges, middle[:, None]).bounds()).column()
    reach = _radius(half, bounds.size)
    low, high = Interval.known(hull.low - reach, hull.high + reach).shift(torch.zeros_like(reach))
    best = Interval(torch.maximum(plain.low, low), torch.minimum(plain.high, high))
    return best, hull.high - hull.low


def _middle_and_half(interval: Interval) -> tuple[Tensor, Tensor]:
    """Return midpoint and radius; 0 and infinity for an unbounded interval."""
    middle = 0.5 * (interval.low + interval.high)
    middle = torch.where(torch.isfinite(middle), middle, 0.0)
    half = torch.maximum(interval.high - middle, middle - interval.low)
    return middle, half * (1 + EPS) + EPS * middle.abs() * (half > 0)


def _radius(half: Tensor, sizes: Tensor) -> Tensor:  # (box, out), (box, out, in) -> (box, in)
    """Propagate the gradient's interval radius through a layer."""
    return Interval(torch.zeros_like(sizes), sizes).scaled(half[..., None]).total(dim=1).high


class GradientBounds:
    """Bounds on derivatives of an output by features, sums and inputs of layers, over boxes."""

    def __init__(
        self,
        model: KAN,
        target: int,
        layers: list[LayerBounds],
        enclosures: list[Enclosure | NoEnclosure],
    ) -> None:
        seed = model.output_scale.diag()[target].expand(len(layers[0].inputs.low), -1)
        pairs = zip(enclosures, layers, strict=True)
        slopes = [enclosure.slopes(*layer.inputs) for enclosure, layer in pairs]
        bounds = [Interval.known(*points.bounds()) for points in slopes]
        now, own, inputs, sums = Interval(seed, seed), seed, list[Interval](), list[Tensor]()
        for index in reversed(range(len(layers))):
            now = through_product(model.nodes[index], now, layers[index].sums)
            sums.append(now.size)
            now, own = through_edges(now, slopes[index], bounds[index])
            inputs.append(now)
        if len(layers) > 1 and model.widths[0] <= MAX_FEATURES:
            now = now.meet(_relaxed(model, layers, slopes, bounds, seed))
        by_unit = 1.0 / model.input_scale
        self.features = now.scaled(by_unit)  # (box, in), in units of the data
        self.own = own * by_unit.abs()  # width of these from each feature's own interval
        self.inputs = inputs[:-1]  # of layers but the first (box, in), the last layer first
        self.sums = sums[::-1]  # sizes of derivatives by the sums (box, out) of each layer
        self.edges = [interval.size for interval in bounds]  # sizes of slopes (box, out, in)


def _jacobians(model: KAN, layers: list[LayerBounds], slopes: list[Interval]) -> list[Interval]:
    """Bound the Jacobians (box, node, feature) of inputs of later layers."""
    jacobians: list[Interval] = []
    for index, layer in enumerate(layers[:-1]):
        now = slopes[index]
        if jacobians:
            before = jacobians[-1].unsqueeze(1)  # (box, 1, in, feature)
            now = now.unsqueeze(-1).times(before).total(dim=2)
        nodes, sums = model.nodes[index], layer.sums
        if not nodes.plain:
            ones = sums.low.new_ones(len(sums.low), nodes.grouping.nodes)
            rates = through_product(nodes, Interval(ones, ones), sums)
            moved = rates.unsqueeze(-1).times(now)
            groups = [list(nodes.grouping.members(node)) for node in range(nodes.grouping.nodes)]
            now = Interval.stack([moved.column(group).total(dim=1) for group in groups], 1)
        jacobians.append(now)
    return jacobians


def _relaxed(
    model: KAN,
    layers: list[LayerBounds],
    slopes: list[ControlPoints],
    bounds: list[Interval],
    seed: Tensor,
) -> Interval:
    """Bound the gradient (box, in) by linear relaxation."""
    now, chain = Interval(seed, seed), _jacobians(model, layers, bounds)
    terms: list[Interval] = []
    for index in reversed(range(1, len(layers))):
        now = through_product(model.nodes[index], now, layers[index].sums)
        middle, half = _middle_and_half(now)
        combined = combine(slopes[index], middle[:, None])
        chord = chords(combined)  # (box, 1, node)
        margin = margins(combined, chord).column()
        reach = _radius(half, bounds[index].size)
        rest, off = _middle_and_half(Interval(margin.low - reach, margin.high + reach))
        chord = chord[:, 0]
        place, width = _middle_and_half(layers[index].inputs)
        level = rest + chord * place
        off = off + 4 * EPS * (rest.abs() + (chord * place).abs())
        terms += _linear(model, layers[:index], chord, (place, width), off, chain[index - 1])
        now = Interval(level, level)
    now = through_product(model.nodes[0], now, layers[0].sums)
    first, _ = through_edges(now, slopes[0], bounds[0])
    return first.plus(*terms)


def _linear(
    model: KAN,
    before: list[LayerBounds],
    chord: Tensor,  # (box, node)
    interval: tuple[Tensor, Tensor],  # (box, node): middle and half width of the nodes
    off: Tensor,  # (box, node)
    chain: Interval,  # (box, node, feature)
) -> list[Interval]:
    """Bound products of linearized slopes with Jacobians."""
    place, width = interval
    middle, half = _middle_and_half(chain)
    weights = (chord[..., None] * middle).mT  # (box, feature, node)
    nodes = model.nodes[len(before) - 1]
    inner, product = through_nodes(nodes, weights, *before[-1].sums)
    form = relax(model, before, inner)[0]
    constant = -(weights * place[:, None])
    radius = _radius(chord.abs() * width, half) + _radius(off, chain.size)
    return [form.plus(product, _constant(constant)), Interval(-radius, radius)]
