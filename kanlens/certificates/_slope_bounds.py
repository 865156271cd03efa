"""Bounds on gradients: intervals and linear relaxation.

The derivative is sum_u g_u(u) du/dx over the nodes of a layer; the chord of g_u makes it linear in
the nodes, so that its error falls with the square of the box instead of its width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.certificates import _relaxation as relaxation
from kanlens.certificates._intervals import EPS, Interval
from kanlens.certificates._relaxation import LayerBounds
from kanlens.model._layer_enclosures import Enclosure, NoEnclosure
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes
from kanlens.splines._control_points import ControlPoints

MAX_FEATURES = 16  # features up to which gradients are relaxed: work grows with their square


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientBounds:
    """Bounds on derivatives of an output over a batch of boxes."""

    features: Interval  # by the features (box, in), in units of the data
    inputs: list[Interval]  # by the inputs (box, in) of layers but the first, the last layer first
    sums: list[Tensor]  # sizes of those by the sums (box, out) of each layer
    edges: list[Tensor]  # sizes of the slopes of the edges (box, out, in) of each layer
    own: Tensor  # width of `features` that comes from each feature's own interval


def through_product(nodes: Nodes, slopes: Interval, sums: Interval) -> Interval:
    """Backpropagate the gradient from nodes (box, node) to sums (box, sub)."""
    if nodes.scaled:
        slopes = slopes.scaled(nodes.scale.expand_as(slopes.low))
    count = nodes.grouping.sums
    columns = [slopes.column(k) for k in range(count)]
    for product in range(len(nodes.grouping.arities)):
        members = nodes.grouping.members(count + product)
        for k in members:
            total = slopes.column(count + product)
            for other in members:
                if other != k:
                    total = total.times(sums.column(other))
            columns.append(total)
    return Interval.stack(columns, 1)


def through_edges(
    slopes: Interval, edges: ControlPoints, bounds: Interval
) -> tuple[Interval, Tensor]:
    """Backpropagate the gradient from sums (box, out) to inputs (box, in).

    The interval product keeps signs. The other enclosure adds the edges' slopes of each input
    with the middles of the intervals before it takes the hull. Returns slopes, and the part of
    their width due to each input's own interval.
    """
    wide = Interval(*(end[..., None].expand_as(bounds.low) for end in slopes))
    plain = wide.times(bounds).total(dim=1)
    middle, half = _middle_and_half(slopes)
    hull = Interval.known(*relaxation.combine(edges, middle[:, None]).bounds()).column()
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
    zero = torch.zeros_like(sizes)
    wide = half[..., None].expand_as(sizes)
    return Interval(zero, sizes).scaled(wide).total(dim=1).high


def gradient_bounds(
    model: KAN, target: int, layers: list[LayerBounds], enclosures: list[Enclosure | NoEnclosure]
) -> GradientBounds:
    """Bound the derivatives by features, sums and inputs of layers."""
    seed = model.output_scale.diag()[target].expand(len(layers[0].inputs.low), -1)
    pairs = zip(enclosures, layers, strict=True)
    slopes = [enclosure.slopes(*layer.inputs) for enclosure, layer in pairs]
    bounds = [Interval.known(*points.bounds()) for points in slopes]
    now = Interval(seed, seed)
    inputs, sums, own = [], [], seed
    for index in reversed(range(len(layers))):
        now = through_product(model.nodes[index], now, layers[index].sums)
        sums.append(now.size)
        now, own = through_edges(now, slopes[index], bounds[index])
        inputs.append(now)
    if len(layers) > 1 and model.widths[0] <= MAX_FEATURES:
        now = now.meet(_relaxed(model, layers, slopes, bounds, seed))
    by_unit = 1.0 / model.input_scale
    return GradientBounds(
        features=now.scaled(by_unit.expand_as(now.low)),
        inputs=inputs[:-1],
        sums=sums[::-1],
        edges=[interval.size for interval in bounds],
        own=own * by_unit.abs(),
    )


def _jacobians(model: KAN, layers: list[LayerBounds], slopes: list[Interval]) -> list[Interval]:
    """Bound the Jacobians (box, node, feature) of inputs of later layers."""
    jacobians: list[Interval] = []
    for index, layer in enumerate(layers[:-1]):
        now = slopes[index]
        if jacobians:
            before = jacobians[-1].unsqueeze(1)  # (box, 1, in, feature)
            now = now.unsqueeze(-1).times(before).total(dim=2)
        jacobians.append(_of_nodes(model.nodes[index], now, layer.sums))
    return jacobians


def _of_nodes(nodes: Nodes, slopes: Interval, sums: Interval) -> Interval:
    """Propagate Jacobians of sums (box, sub, feature) to their nodes."""
    if nodes.plain:
        return slopes
    ones = sums.low.new_ones(len(sums.low), nodes.grouping.nodes)
    rates = through_product(nodes, Interval(ones, ones), sums)
    moved = rates.unsqueeze(-1).times(slopes)
    groups = [list(nodes.grouping.members(node)) for node in range(nodes.grouping.nodes)]
    return Interval.stack([moved.column(group).total(dim=1) for group in groups], 1)


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
        combined = relaxation.combine(slopes[index], middle[:, None])
        chord = relaxation.chords(combined)  # (box, 1, node)
        margin = relaxation.margins(combined, chord).column()
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
    inner, product = relaxation.through_nodes(nodes, weights, *before[-1].sums)
    form = relaxation.relax(model, before, inner)[0]
    constant = -(weights * place[:, None])
    radius = _radius(chord.abs() * width, half) + _radius(off, chain.size)
    return [form.plus(product, Interval(constant, constant).total()), Interval(-radius, radius)]
