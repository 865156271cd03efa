"""Slopes of an output by linear relaxation of the slopes of its later layers.

The derivative by a feature is a sum over the nodes u of a layer of g_u(u) times du/dx, with g_u
the derivative by the node: a function of u alone, once the layers behind are replaced by their
middles. Its chord makes the derivative linear in the nodes, which the layers before make a sum of
functions of single features, again enclosed exactly. The error falls with the square of the box,
that of interval products only with its width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanlens.certificates import relaxation
from kanlens.certificates.intervals import (
    EPS,
    Interval,
    add,
    known,
    multiply,
    scaled,
    shift,
    size,
)
from kanlens.core.control_points import ControlPoints
from kanlens.core.network import KAN
from kanlens.core.products import Nodes

if TYPE_CHECKING:
    from kanlens.certificates.propagation import Level, Propagation


@dataclass(frozen=True, kw_only=True, eq=False)
class SlopeBounds:
    """Bounds of derivatives of the output.

    Attributes
    ----------
    features : tuple of Tensor, shape (box, in)
        By the features, in units of the data.
    inputs : list of tuple of Tensor, each of shape (box, in)
        By the inputs of each layer but the first, the last layer first.
    sums : list of Tensor, one per layer, each of shape (box, out)
        Sizes of those by the sums.
    edges : list of Tensor, one per layer, each of shape (box, out, in)
        Sizes of the slopes of the edges.
    own : Tensor, shape (box, in)
        Width of `features` that comes from each feature's own interval.
    """

    features: Interval
    inputs: list[Interval]
    sums: list[Tensor]
    edges: list[Tensor]
    own: Tensor


def through_product(nodes: Nodes, slopes: Interval, sums: Interval) -> Interval:
    """Turn slopes by nodes (box, node) into slopes by the sums (box, sub) they are made of."""
    low, high = slopes
    if nodes.scaled:
        low, high = scaled(nodes.scale.expand_as(low), (low, high))
    count = nodes.grouping.sums
    columns = [(low[:, k], high[:, k]) for k in range(count)]
    for product in range(len(nodes.grouping.arities)):
        members = nodes.grouping.members(count + product)
        for k in members:
            total = low[:, count + product], high[:, count + product]
            for other in members:
                if other != k:
                    total = multiply(total, (sums[0][:, other], sums[1][:, other]))
            columns.append(total)
    return torch.stack([a for a, _ in columns], 1), torch.stack([b for _, b in columns], 1)


def through_edges(
    slopes: Interval, edges: ControlPoints, bounds: Interval
) -> tuple[Interval, Tensor]:
    """Turn slopes by sums (box, out) into slopes by the inputs (box, in) of a layer.

    The interval product keeps signs. The other enclosure adds the edges' slopes of each input
    with the middles of the intervals before it takes the hull.

    Returns
    -------
    slopes : tuple of Tensor, shape (box, in)
    own : Tensor, shape (box, in)
        Width that comes from the input's own interval.
    """
    low, high = slopes[0][..., None].expand_as(bounds[0]), slopes[1][..., None].expand_as(bounds[0])
    plain = add(multiply((low, high), bounds), dim=1)
    middle, half = _centred(slopes)
    hull = relaxation.combine(edges, middle[:, None]).hull()
    reach = _spread(half, size(bounds))
    sharp = known(hull[0][:, 0] - reach, hull[1][:, 0] + reach)
    sharp = shift(sharp, torch.zeros_like(reach))
    best = torch.maximum(plain[0], sharp[0]), torch.minimum(plain[1], sharp[1])
    return best, hull[1][:, 0] - hull[0][:, 0]


def _centred(interval: Interval) -> tuple[Tensor, Tensor]:
    """Return middle and half width; of an interval without bounds, 0 and infinity."""
    middle = 0.5 * (interval[0] + interval[1])
    middle = torch.where(torch.isfinite(middle), middle, 0.0)
    half = torch.maximum(interval[1] - middle, middle - interval[0])
    return middle, half * (1 + EPS) + EPS * middle.abs() * (half > 0)


def _spread(half: Tensor, sizes: Tensor) -> Tensor:  # (box, out), (box, out, in) -> (box, in)
    """Return the most that deviations of slopes by sums make of slopes by inputs."""
    zero = torch.zeros_like(sizes)
    wide = half[..., None].expand_as(sizes)
    return add(multiply((wide, wide), (zero, sizes)), dim=1)[1]


def jacobians(model: KAN, levels: list[Level], edges: list[Interval]) -> list[Interval]:
    """Bound the derivatives of the inputs of every layer but the first by the features.

    Parameters
    ----------
    model : KAN
    levels : list of Level
    edges : list of tuple of Tensor, shape (box, out, in)
        Bounds of the slopes of every layer's edges.

    Returns
    -------
    list of tuple of Tensor, shape (box, node, feature)
        In the scaled units of the features.
    """
    found: list[Interval] = []
    for index, level in enumerate(levels[:-1]):
        low, high = edges[index]
        if found:
            before = found[-1][0][:, None], found[-1][1][:, None]  # (box, 1, in, feature)
            now = (low[..., None], high[..., None])
            low, high = add(multiply(now, before), dim=2)
        found.append(_of_nodes(model.nodes[index], (low, high), level.sums))
    return found


def _of_nodes(nodes: Nodes, slopes: Interval, sums: Interval) -> Interval:
    """Turn derivatives of sums (box, sub, feature) into those of the nodes made of them."""
    if nodes.plain:
        return slopes
    ones = sums[0].new_ones(len(sums[0]), nodes.grouping.nodes)
    rates = through_product(nodes, (ones, ones), sums)
    low, high = multiply((rates[0][..., None], rates[1][..., None]), slopes)
    rows: list[Interval] = []
    for node in range(nodes.grouping.nodes):
        members = list(nodes.grouping.members(node))
        rows.append(add((low[:, members], high[:, members]), dim=1))
    return torch.stack([a for a, _ in rows], 1), torch.stack([b for _, b in rows], 1)


def relaxed_slopes(
    own: Propagation,
    levels: list[Level],
    slopes: list[ControlPoints],
    bounds: list[Interval],
    seed: Tensor,
) -> Interval:
    """Bound the derivatives by the features (box, in), in their scaled units.

    Parameters
    ----------
    own : Propagation
    levels : list of Level
    slopes : list of ControlPoints
        Of every layer's edges.
    bounds : list of tuple of Tensor, shape (box, out, in)
        Likewise.
    seed : Tensor, shape (box, node)
        Derivatives of the output by the last nodes.
    """
    model, now = own.model, (seed, seed)
    chain = jacobians(model, levels, bounds)
    terms: list[Interval] = []
    for index in reversed(range(1, len(levels))):
        now = through_product(model.nodes[index], now, levels[index].sums)
        middle, half = _centred(now)
        combined = relaxation.combine(slopes[index], middle[:, None])
        chord = combined.slopes()  # (box, 1, node)
        margin = combined.minus_lines(chord).hull()
        reach = _spread(half, size(bounds[index]))
        rest, off = _centred((margin[0][:, 0] - reach, margin[1][:, 0] + reach))
        chord = chord[:, 0]
        place, width = _centred((levels[index].low, levels[index].high))
        level = rest + chord * place
        off = off + 4 * EPS * (rest.abs() + (chord * place).abs())
        terms += _linear(own, levels, index, chord, (place, width), off, chain[index - 1])
        now = level, level
    now = through_product(model.nodes[0], now, levels[0].sums)
    first, _ = through_edges(now, slopes[0], bounds[0])
    stacked = [first, *terms]
    return add((torch.stack([a for a, _ in stacked], -1), torch.stack([b for _, b in stacked], -1)))


def _linear(
    own: Propagation,
    levels: list[Level],
    index: int,
    chord: Tensor,  # (box, node)
    interval: tuple[Tensor, Tensor],  # (box, node): middle and half width of the nodes
    off: Tensor,  # (box, node)
    chain: Interval,  # (box, node, feature)
) -> list[Interval]:
    """Bound what chords of the slopes by nodes, and their margins, make of the derivatives."""
    place, width = interval
    middle, half = _centred(chain)
    weights = (chord[..., None] * middle).mT  # (box, feature, node)
    inner, product = relaxation.through_nodes(
        own.model.nodes[index - 1], weights, *levels[index - 1].sums
    )
    form = own.relax(levels, index - 1, inner)[0]
    constant = -(weights * place[:, None])
    parts = [form, product, add((constant, constant))]
    linear = add((torch.stack([a for a, _ in parts], -1), torch.stack([b for _, b in parts], -1)))
    room = _spread(chord.abs() * width, half) + _spread(off, size(chain))
    return [linear, (-room, room)]
