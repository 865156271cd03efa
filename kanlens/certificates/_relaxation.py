"""Linear relaxation (CROWN [1]_) with spline edges in place of neurons.

All edges of an input are added before their hull is taken about a chord, so that opposite
functions of a feature cancel exactly.

References
----------
.. [1] H. Zhang et al., Efficient Neural Network Robustness Certification with General Activation
   Functions, 2018.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kanlens.certificates._intervals import EPS, Interval
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes, others
from kanlens.splines._control_points import ControlPoints


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerBounds:
    """Bounds on one layer over a batch of boxes."""

    inputs: Interval  # (box, in)
    values: ControlPoints  # of the edges
    edges: Interval  # (box, out, in)
    sums: Interval  # (box, out)


def combine(edges: ControlPoints, weights: Tensor) -> ControlPoints:
    """Combine an input's edges by weights (box, row, out) or with (in,)."""
    if weights.dim() == 3:
        weights = weights[..., None].expand(*weights.shape, edges.points.shape[2])
    points = torch.einsum("nroi,noimk->nrimk", weights, edges.points)
    sizes = edges.points.abs().amax(-1)
    summed = functools.partial(torch.einsum, "nroi,noim->nrim")
    error = EPS * (weights.shape[2] + 8) * summed(weights.abs(), sizes)
    rise, fall = weights.clamp(min=0), weights.clamp(max=0)
    finite = bool(torch.isfinite(edges.below).all()) and bool(torch.isfinite(edges.above).all())
    total = summed if finite else _total
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
    """Bound the edges minus lines through 0 with some slopes (box, row, in)."""
    share = torch.linspace(0, 1, edges.points.shape[-1]).to(edges.points)
    start, end = edges.start[:, None, ..., None], edges.end[:, None, ..., None]
    factor = slopes[..., None, None]
    error = 8 * EPS * (factor * torch.maximum(start.abs(), end.abs())).abs()[..., 0]
    points = edges.points - factor * (start + (end - start) * share)
    rest = replace(edges, points=points, below=edges.below - error, above=edges.above + error)
    return Interval.known(*rest.bounds())


def _total(weights: Tensor, margins: Tensor) -> Tensor:
    """Sum weighted margins that may be infinite, with 0 times infinity = 0."""
    factor = weights[..., None]
    return torch.where(factor == 0, 0.0, factor * margins[:, None]).sum(2)


def node_bounds(nodes: Nodes, sums: Interval) -> Interval:
    """Propagate bounds of sums (box, sub) to their nodes (box, node)."""
    count = nodes.grouping.sums
    columns = [sums.column(k) for k in range(count)]
    for product in range(len(nodes.grouping.arities)):
        members = nodes.grouping.members(count + product)
        total = sums.column(members[0])
        for k in members[1:]:
            total = total.times(sums.column(k))
        # a factor without bounds may not be defined, and 0 times it neither
        free = torch.isinf(sums.low[:, members]) & torch.isinf(sums.high[:, members])
        low, high = (end.clone() for end in total)
        low[free.any(1)], high[free.any(1)] = -torch.inf, torch.inf
        columns.append(Interval(low, high))
    bounds = Interval.stack(columns, 1)
    if nodes.scaled:
        bounds = bounds.scaled(nodes.scale.expand_as(bounds.low)).shift(nodes.shift)
    return bounds


def through_nodes(
    nodes: Nodes, slopes: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Interval]:
    """Propagate a linear form (box, row, node) back to sums (box, sub).

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
        reach = torch.where(factor == 0, 0.0, factor.abs() * rest[:, None])
        reach = reach + 8 * EPS * center.abs()
        margin = margin.plus(Interval(center - reach, center + reach))
        weights.append(factor[..., None] * others(middle)[:, None])
    return torch.cat(weights, -1), margin


def relax(
    model: KAN, layers: list[LayerBounds], weights: Tensor
) -> tuple[Interval, Interval, Tensor, list[Tensor]]:
    """Bound linear forms (box, row, out) of the last sums backwards.

    Returns bounds (box, row), their part without functions of single features, the weights
    (box, row, out) of the first layer's sums in those functions, and the width (box, row, in) of
    the margins at every layer, the last layer first.
    """
    rest, lost = _constant(torch.zeros_like(weights)), []
    for index in range(len(layers) - 1, 0, -1):
        rest = _with_bias(weights, model.layers[index].bias, rest)
        combined = combine(layers[index].values, weights)
        slopes = chords(combined)
        margin = margins(combined, slopes)
        lost.append(margin.high - margin.low)
        weights, product = through_nodes(model.nodes[index - 1], slopes, *layers[index - 1].sums)
        rest = rest.plus(margin.total()).plus(product)
    rest = _with_bias(weights, model.layers[0].bias, rest)
    hull = Interval.known(*combine(layers[0].values, weights).bounds())
    return hull.total().plus(rest), rest, weights, [*lost, hull.high - hull.low]


def _with_bias(weights: Tensor, bias: Tensor, interval: Interval) -> Interval:
    """Add a linear form (box, row, out) of the biases (out,) to an interval."""
    terms = weights * bias
    error = EPS * (len(bias) + 4) * terms.abs().sum(-1)
    low, high = interval.shift(terms.sum(-1))
    return Interval(low - error, high + error)


def _constant(terms: Tensor) -> Interval:
    """Sum numbers along the last axis."""
    return Interval(terms, terms).total()
