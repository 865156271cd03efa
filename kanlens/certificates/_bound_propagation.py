"""Bounds on an output and its gradient over a batch of boxes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from kanlens._runtime import NEVER, Deadline
from kanlens.certificates import _relaxation as relaxation
from kanlens.certificates._relaxation import (
    EPS,
    MAX_FEATURES,
    MODEL_EPS,
    SUM_EPS,
    GradientBounds,
    Interval,
    LayerBounds,
    node_bounds,
)
from kanlens.certificates._sampling import dual_norms
from kanlens.model._analysis import rows_at_once
from kanlens.model._layer_enclosures import MAX_COORDINATE, Enclosure, NoEnclosure, encloses
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes
from kanlens.model._terms import times

SECONDS = 3e-5  # to enclose an edge, once per domain; measured for [784, 64, 10]
ROW_SECONDS = 2e-7  # to relax an edge for one sum


@dataclass(frozen=True, eq=False)
class BoxBounds:
    """Boxes, and bounds on an output over each, in units of the data."""

    low: Tensor  # (box, in)
    high: Tensor
    value: Interval  # of the output, (box,)
    slope: Interval  # of its derivative by each feature, (box, in)
    apart: Interval  # of the output minus an additive function, (box,)
    # (box, 3, in): gain of halving a feature, for the value; for slopes, by nodes and directly
    worth: Tensor

    def __len__(self) -> int:
        return len(self.low)

    def pick(self, rows: Tensor) -> BoxBounds:
        """Return some of the boxes, by index or mask."""
        return self._each(lambda values: values[rows])

    def joined(self, other: BoxBounds) -> BoxBounds:
        """Return these boxes and others."""
        return self._each(lambda *values: torch.cat(values), other)

    def within(self, parents: BoxBounds) -> BoxBounds:
        """Intersect the bounds with those of enclosing boxes."""
        value, slope = self.value.meet(parents.value), self.slope.meet(parents.slope)
        return replace(self, value=value, slope=slope, apart=self.apart.meet(parents.apart))

    def _each(self, change: Callable[..., Tensor], *others: BoxBounds) -> BoxBounds:
        columns: dict[str, Any] = {}
        for name in (f.name for f in fields(self)):
            own, *rest = (getattr(boxes, name) for boxes in (self, *others))
            pair = isinstance(own, Interval)
            columns[name] = Interval(*map(change, own, *rest)) if pair else change(own, *rest)
        return BoxBounds(**columns)

    def norms(self) -> Tensor:  # (box, 3)
        """Bound the norms of the gradient on every box."""
        return dual_norms(self.slope.size)


@dataclass(eq=False)
class BoundPropagation:
    """Bound propagation for one output of a float64 model, on boxes.

    If the first pass expects to enclose a layer only after the `deadline`, that layer and later
    ones get no bounds; once there is no time to relax a layer, no later one is relaxed. A domain
    beyond the range to which features are clipped is cut to it; their slopes then include 0.
    """

    model: KAN
    target: int
    domain: Tensor  # (in, 2), in units of the data
    deadline: Deadline = NEVER
    enclosures: list[Enclosure | NoEnclosure] = field(default_factory=list)  # of layers' edges
    layers: list[LayerBounds] = field(default_factory=list)  # on the domain
    relaxes: bool = True
    in_time: bool = True
    held: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))  # (in,)
    additive: Tensor = field(init=False)  # (out, in): edge weights that `apart` subtracts
    size: int = field(init=False)  # numbers in the bounds on one box

    def __post_init__(self) -> None:
        if not len(self.held):
            whole, low, high = self.domain, self.model.input_low, self.model.input_high
            self.domain = whole.clamp(low[:, None], high[:, None])
            self.held = (self.domain != whole).any(1)
        self.additive = torch.zeros_like(self.model.layers[0].mask)
        self.layers = self.layers or self.passed()
        rows = len(self.domain) if len(self.domain) <= MAX_FEATURES else 1
        points = [layer.values.points for layer in self.layers]
        self.size = sum(p.numel() + rows * p[:, 0].numel() for p in points)

    def of(self, target: int) -> BoundPropagation:
        """Return the same for another output; bounds of the layers are shared."""
        last, other = len(self.layers) - 1, replace(self, target=target)
        nodes = self.model.nodes[last]
        if self._rows(last, nodes) is not None or other._rows(last, nodes) is not None:
            other.layers = other.passed()
        return other

    def passed(self) -> list[LayerBounds]:
        """Propagate bounds on the domain."""
        return self.forward(self.inwards(self.domain[None, :, 0], self.domain[None, :, 1]))

    @property
    def bounded(self) -> bool:
        """True if edges have finite bounds everywhere in the domain."""
        far = self.layers[0].inputs.size > MAX_COORDINATE
        beyond = bool(torch.isinf(self.layers[0].edges.high[..., far[0]]).any())
        return not beyond and all(enclosure.bounded for enclosure in self.enclosures)

    @functools.cached_property
    def breakpoints(self) -> Tensor:
        """The breakpoints of the first layer in units of the data, shape (in, n)."""
        cuts = self.model.layers[0].breakpoints().mT
        return (cuts * self.model.input_scale + self.model.input_shift).mT.contiguous()

    @functools.cached_property
    def noise(self) -> float:
        """Bound on the rounding error of an evaluation: that of each sum, times the slope by it."""
        if not self.in_time:
            return float("inf")
        total, slopes = 0.0, self._gradient(self.layers).sums
        parts = zip(self.layers, self.model.layers, self.enclosures, slopes, strict=True)
        for bounds, layer, enclosure, slope in parts:
            terms = bounds.edges.size + enclosure.rounding(*bounds.inputs)
            off = MODEL_EPS * (terms.sum(-1) + layer.bias.abs())
            total += float(times(slope, off).sum())
        return total + 1e-15 * float(self.model.output_shift[self.target].abs())

    def inwards(self, low: Tensor, high: Tensor) -> Interval:
        """Scale boxes (box, in) to the units of the first layer, rounded outwards."""
        shift, scale = self.model.input_shift, self.model.input_scale
        rounded = (shift != 0) | (scale != 1)
        corners = torch.stack([low, high])
        margin = 4 * EPS * (corners.abs() + shift.abs()) / scale.abs() * rounded
        ends = self.model.scale_inputs(corners)
        return Interval((ends - margin).amin(0), (ends + margin).amax(0))

    def forward(self, inputs: Interval) -> list[LayerBounds]:
        """Propagate bounds on boxes (box, in), in scaled units."""
        layers: list[LayerBounds] = []
        first, pairs = not self.enclosures, zip(self.model.layers, self.model.nodes, strict=True)
        for index, (layer, nodes) in enumerate(pairs):
            if first:
                able = encloses(layer)
                self.in_time &= not able or self.deadline.left > SECONDS * layer.mask.numel()
                able &= self.in_time
                enclosure = layer.enclosure(*inputs) if able else NoEnclosure(layer.mask)
                self.enclosures.append(enclosure)
            else:
                inputs = inputs.meet(self.layers[index].inputs)
            values = self.enclosures[index].values(*inputs)
            edges = Interval.known(*values.bounds())
            sums = edges.total().shift(layer.bias)
            layers.append(LayerBounds(inputs=inputs, values=values, edges=edges, sums=sums))
            rows = self._rows(index, nodes) if self.relaxes and self.in_time else None
            if index and rows is not None and self._relaxes_in_time(index, len(rows)):
                weights = rows.expand(len(inputs.low), -1, -1)
                linear = relaxation.relax(self.model, layers, weights)[0]
                picked = rows.argmax(1)
                tight = zip(sums, linear.meet(sums.column(picked)), strict=True)
                sums = Interval(*(old.index_copy(1, picked, end) for old, end in tight))
                layers[-1] = replace(layers[-1], sums=sums)
            inputs = node_bounds(nodes, sums)
        return layers

    def _relaxes_in_time(self, index: int, rows: int) -> bool:
        numbers = rows * sum(layer.mask.numel() for layer in self.model.layers[: index + 1])
        self.relaxes = self.deadline.left > ROW_SECONDS * numbers
        return self.relaxes

    def _rows(self, index: int, nodes: Nodes) -> Tensor | None:
        """Return a one-hot matrix of the sums to tighten by relaxation."""
        eye = torch.eye(nodes.grouping.subnodes).to(self.domain)
        if index < len(self.model.layers) - 1:
            return eye
        members = nodes.grouping.members(self.target)
        return eye[list(members)] if len(members) > 1 else None

    def bounds(self, low: Tensor, high: Tensor) -> BoxBounds:
        """Bound output and slopes on boxes (box, in), in units of the data."""
        layers = self.forward(self.inwards(low, high))
        value, apart, lost = self._value(layers)
        slopes = self._gradient(layers)
        middle = 0.5 * (low + high)
        at, half = self.outputs(middle), torch.maximum(high - middle, middle - low) * (1 + EPS)
        reach = times(half, slopes.features.size).sum(-1) * (1 + SUM_EPS) + self.noise
        value = value.meet(Interval.known(at - reach, at + reach))  # the mean value form
        apart = apart if bool(self.additive.any()) else apart.meet(value)
        amounts = lost, _uncertain(self.model, layers, slopes)
        worth = [_spread(self.model, layers, widths) for widths in amounts]
        slope = slopes.features.with_zero(self.held)
        return BoxBounds(low, high, value, slope, apart, torch.stack([*worth, slopes.own], 1))

    def slopes(self, low: Tensor, high: Tensor) -> Interval:
        """Bound the slopes on boxes (box, in), in units of the data, (box, in)."""
        slopes = self._gradient(self.forward(self.inwards(low, high)))
        return slopes.features.with_zero(self.held)

    def values(self, low: Tensor, high: Tensor) -> Interval:
        """Bound the output on boxes (box, in), in units of the data, shape (box,)."""
        return self._value(self.forward(self.inwards(low, high)))[0]

    def outputs(self, x: Tensor) -> Tensor:
        """Evaluate the output at x (batch, in), shape (batch,)."""
        parts = x.split(rows_at_once(self.model))
        return torch.cat([self.model(part)[:, self.target] for part in parts])

    def unrefined(self) -> BoxBounds:
        """Bound the output on the domain by the first pass alone."""
        low, high = self.domain[None, :, 0], self.domain[None, :, 1]
        never = torch.full_like(low, torch.inf)
        value, apart = self.plain_value(self.layers), Interval(-never[:, 0], never[:, 0])
        worth = torch.zeros_like(low).expand(3, -1)[None]
        return BoxBounds(low, high, value, Interval(-never, never), apart, worth)

    def plain_value(self, layers: list[LayerBounds]) -> Interval:
        """Bound the output by interval arithmetic on the last sums, shape (box,)."""
        node = node_bounds(self.model.nodes[-1], layers[-1].sums).column(self.target)
        scale, offset = self.model.output_scale[self.target], self.model.output_shift[self.target]
        return node.scaled(scale).shift(offset)

    def relaxed(
        self, layers: list[LayerBounds]
    ) -> tuple[Interval, Interval, Interval, Tensor, list[Tensor]]:
        """Return the margin of the last nodes, and `relax` of the output without its shift."""
        slopes = self.model.output_scale.diag()[self.target].expand(len(layers[0].inputs.low), -1)
        nodes, sums = self.model.nodes[-1], layers[-1].sums
        weights, margin = relaxation.through_nodes(nodes, slopes[:, None], *sums)
        return margin, *relaxation.relax(self.model, layers, weights)

    def _value(self, layers: list[LayerBounds]) -> tuple[Interval, Interval, list[Tensor]]:
        """Bound the output, alone and minus the additive function; return also `relax`'s widths."""
        offset = self.model.output_shift[self.target]
        margin, bounds, rest, first, lost = self.relaxed(layers)
        linear = bounds.plus(margin).column().shift(offset)
        edges = relaxation.combine(layers[0].values, first[..., None] - self.additive)
        hull = Interval.known(*edges.bounds())
        apart = hull.total().plus(rest).plus(margin).column().shift(offset)
        return self.plain_value(layers).meet(linear), apart, lost

    def _gradient(self, layers: list[LayerBounds]) -> GradientBounds:
        return GradientBounds(self.model, self.target, layers, self.enclosures)


def _spread(model: KAN, layers: list[LayerBounds], amounts: list[Tensor]) -> Tensor:
    """Divide interval widths at the inputs of layers among the features."""
    total = torch.zeros_like(layers[-1].inputs.low)
    for index, amount in zip(reversed(range(len(layers))), amounts, strict=True):
        total = total + _bounded(amount.reshape(total.shape))
        if index == 0:
            return total
        below = layers[index - 1]
        sums = total[:, model.nodes[index - 1].owner]  # (box, sub)
        widths = _bounded(below.edges.high - below.edges.low)  # (box, sub, in)
        share = widths / widths.sum(-1, keepdim=True).clamp_min(1e-300)
        total = (sums[..., None] * share).sum(1)
    return total


def _uncertain(model: KAN, layers: list[LayerBounds], slopes: GradientBounds) -> list[Tensor]:
    """Return the width of the gradient due to each node, the last layer first."""
    now = (1 / model.input_scale.abs()).expand(len(layers[0].inputs.low), -1)
    widths = [torch.zeros_like(now)]
    below = zip(list(model.nodes)[:-1], slopes.edges[:-1], slopes.inputs[::-1], strict=True)
    for nodes, steep, slope in below:
        sums = (_bounded(steep) * now[:, None]).sum(-1)  # (box, sub)
        now = sums.new_zeros(len(sums), nodes.grouping.nodes).index_add(1, nodes.owner, sums)
        widths.append(_bounded(slope.high - slope.low) * now)
    return widths[::-1]


def _bounded(width: Tensor) -> Tensor:
    return width.nan_to_num(1e30, posinf=1e30, neginf=0.0).clamp(0.0, 1e30)
