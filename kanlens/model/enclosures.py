"""Sound enclosures of the edges of a spline layer, and of their slopes, on many boxes at once.

The base is replaced by the polynomial through its values at Chebyshev nodes, whose error the sixth
derivative bounds; intervals wider than 0.75 are cut, so that it stays near 1e-9 of the base weight.

Rounding is below 1e-13 of the sizes that were added; margins are `PAD` = 1e-12 of them. A slope
keeps the sign of its B-spline coefficients, exact differences of stored numbers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from kanlens.functions.catalog import BASES
from kanlens.functions.elementary import ElementaryFunction
from kanlens.model.edge_sum import Weights
from kanlens.splines import spline
from kanlens.splines.control_points import ControlPoints, chebyshev, from_nodes, restrict

PAD = 1e-12
WIDEST = 0.75  # of a piece with a base function near 0
SETTLED = 32.0  # beyond it pieces double in width
STRAIGHT = 2e-12  # error of a polynomial there: bases differ from lines by 33 exp(-32) at most
FARTHEST = 1e6  # enclosures reach no farther; a box beyond it has no bounds
VALUE, SLOPE = 6, 5  # coefficients of a value, of a slope: splines have degree 5 at most


class Enclosure(Protocol):
    """Control points of a layer's edges on any boxes within what was asked for."""

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""

    def slopes(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the slopes of the edges on boxes (box, in); at kinks those of both sides."""


class NoEnclosure:
    """Infinite enclosure of a layer kind without bounds; masked edges are zero."""

    def __init__(self, mask: Tensor) -> None:
        self.reach = torch.where(mask == 0, 0.0, torch.inf).to(mask)

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""
        ends = torch.stack([low, high]).nan_to_num(0.0).clamp(-FARTHEST, FARTHEST)
        reach = self.reach.expand(len(low), *self.reach.shape)
        return ControlPoints(
            points=low.new_zeros(*reach.shape, 1, 2),
            below=-reach[..., None],
            above=reach[..., None],
            start=ends[0][..., None],
            end=ends[1][..., None],
            lower=-reach,
            upper=reach,
        )

    def slopes(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the slopes of the edges on boxes (box, in)."""
        return self.values(low, high)


def encloses(layer: object) -> bool:
    """Tell whether a layer bounds its edges and slopes (method `enclosure`).

    A class that gives its edges values of its own must bound them itself, too.
    """
    order = list(type(layer).__mro__)
    owners = [
        next((k for k, kind in enumerate(order) if name in vars(kind)), len(order))
        for name in ("enclosure", "edge_values")
    ]
    return hasattr(layer, "enclosure") and owners[0] <= owners[1]


class Spline(Protocol):
    """What an enclosure asks of a layer of splines."""

    in_features: int
    out_features: int
    spline_order: int
    base_name: str
    grid: Tensor

    @property
    def mode(self) -> spline.Extrapolation:
        """What the splines do outside the grid."""

    def weights(self) -> Weights:
        """Return the tensors of the spline edges."""


@dataclass(frozen=True, eq=False)
class _Table:
    """Polynomials of every edge on every piece, in s from -1 to 1 on the piece."""

    cuts: Tensor  # (in, piece + 1)
    powers: Tensor  # (out, in, piece, power)
    margin: Tensor  # (out, in, piece)


class SplineEnclosure:
    """Control points of the edges of a spline layer on boxes within a given box (in,).

    In float64, of the layer as it is now; the box is cut off at `FARTHEST`.
    """

    def __init__(self, edges: Spline, low: Tensor, high: Tensor) -> None:
        weights = edges.weights()
        self.coef = weights.coefficients().detach().double()
        self.weight = weights.base_weights().detach().double()
        self.knots, self.degree = edges.grid.detach().double(), edges.spline_order
        self.mode, self.base = edges.mode, BASES[edges.base_name]
        self.low = low.double().nan_to_num(-FARTHEST).clamp(-FARTHEST, FARTHEST)
        self.high = high.double().nan_to_num(FARTHEST).clamp(-FARTHEST, FARTHEST)
        self.curved = bool(self.weight.any()) and self.base.line is None
        cuts = _cuts(self)
        bends = self.base.extremes(cuts[:, :-1], cuts[:, 1:], VALUE)
        self.bend = torch.stack(bends).abs().amax(0)  # of the base's sixth derivative, (in, piece)
        self._values, self._slopes = _table(self, cuts, 0), _table(self, cuts, 1)
        self._least, self._most = _slope_hulls(self, cuts)

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""
        return self._on(self._values, low, high)[0]

    def slopes(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the slopes of the edges on boxes (box, in); at kinks those of both sides."""
        found, piece = self._on(self._slopes, low, high)
        ranges = slope_range(self.base, found.start, found.end)
        base = torch.stack([self.weight[..., None] * end[:, None] for end in ranges])
        lower = (_pick(self._least, piece) + base.amin(0)).amin(-1)
        upper = (_pick(self._most, piece) + base.amax(0)).amax(-1)
        unknown = torch.isinf(found.below[..., 0])
        lower, upper = lower - 4e-15 * lower.abs(), upper + 4e-15 * upper.abs()
        lower, upper = lower.masked_fill(unknown, -torch.inf), upper.masked_fill(unknown, torch.inf)
        return replace(found, lower=lower, upper=upper)

    def on_line(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:  # (out, in) twice
        """Bound the edges on one interval (in,) of each input, whose ends may be infinite.

        Beyond the grid the spline is a straight line or zero, which its ends bound.
        """
        low, high = low.to(self.knots), high.to(self.knots)
        knots = self.knots if self.mode == "zero" else spline.breakpoints(self.knots, self.degree)
        grid = knots[:, [0, -1]].mT  # (ray, in): one to the left, one to the right
        inner = low.clamp(*grid)[None], high.clamp(*grid)[None]
        lower, upper = (end[0] for end in self.values(*inner).bounds())
        missed = (high < grid[0]) | (low > grid[1])
        lower, upper = lower.masked_fill(missed, torch.inf), upper.masked_fill(missed, -torch.inf)
        starts = torch.stack([low, torch.maximum(low, grid[1])])
        ends = torch.stack([starts, torch.stack([torch.minimum(high, grid[0]), high])])
        line, room = self._beyond(grid, ends)
        base = torch.stack([times(self.weight, end[:, None]) for end in self.base.extremes(*ends)])
        beside = ~torch.stack([low < grid[0], high > grid[1]])[:, None]
        least = ((line - room).amin(0) + base.amin(0)).masked_fill(beside, torch.inf).amin(0)
        most = ((line + room).amax(0) + base.amax(0)).masked_fill(beside, -torch.inf).amax(0)
        exact = torch.stack([times(self.weight, end) for end in self.base.extremes(low, high)])
        alone = ~(self.coef != 0).any(-1)  # the base
        lower = torch.where(alone, exact.amin(0), torch.minimum(lower, least))
        return lower, torch.where(alone, exact.amax(0), torch.maximum(upper, most))

    def _beyond(self, grid: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:  # (end, ray, out, in)
        """Return the splines at x (end, ray, in) beyond both ends of the grid, and its rounding."""
        shape = (*x.shape[:2], *self.weight.shape)
        if self.mode == "zero":
            return x.new_zeros(shape), x.new_zeros(shape)
        value = spline.evaluate(grid, self.coef, self.knots, self.degree)
        terms = torch.stack([self.coef * end for end in spline.end_slopes(self.knots, self.degree)])
        way = (x - grid)[:, :, None]
        room = 1e-14 * terms.abs().sum(-1) * way.abs().masked_fill(way.isinf(), 0.0)
        return value + times(terms.sum(-1), way), room

    def size(self, low: Tensor, high: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return what the rounding of edges with these bounds is relative to, (out, in)."""
        ends = torch.stack([low, high]).abs().to(self.knots), torch.stack([lower, upper]).abs()
        reach, most = (end.masked_fill(end.isinf(), 0.0).amax(0) for end in ends)
        # some bases round as x does
        return self.coef.abs().amax(-1) + most + self.weight.abs() * (1 + reach)

    def _on(self, table: _Table, low: Tensor, high: Tensor) -> tuple[ControlPoints, Tensor]:
        """Return control points on boxes (box, in), and the pieces (box, in, piece) they are of."""
        low, high = low.double(), high.double()
        known = (low >= self.low) & (high <= self.high) & (low <= high)
        low, high = torch.where(known, low, self.low), torch.where(known, high, self.high)
        n_pieces = table.cuts.shape[1] - 1
        first = torch.searchsorted(table.cuts, low.mT.contiguous(), right=True) - 1
        last = torch.searchsorted(table.cuts, high.mT.contiguous()) - 1
        last = last.clamp(0, n_pieces - 1)
        ends = torch.stack([first.clamp(0, n_pieces - 1), last])
        first, last = ends.amin(0), ends.amax(0)  # of a point at a cut, the pieces on both sides
        most = int((last - first).max()) + 1
        steps = torch.arange(most, device=low.device)
        piece = torch.minimum(first.mT[..., None] + steps, last.mT[..., None])  # (box, in, piece)
        inputs = torch.arange(len(table.cuts), device=low.device)[:, None]
        left, right = table.cuts[inputs, piece], table.cuts[inputs, piece + 1]
        start = torch.maximum(left, low[..., None])
        end = torch.minimum(right, high[..., None]).clamp(min=start)
        half = (0.5 * (right - left)).clamp_min(1e-300)
        middle = (0.5 * (start + end) - 0.5 * (left + right)) / half
        part = restrict(middle, 0.5 * (end - start) / half, table.powers.shape[-1])
        powers = _pick(table.powers, piece)  # (box, out, in, piece, power)
        points = torch.einsum("nipkd,noipd->noipk", part, powers)
        margin = _pick(table.margin, piece)
        dead = ~((self.coef != 0).any(-1) | (self.weight != 0))
        unknown = (~known[:, None] & ~dead)[..., None]
        margin = margin.masked_fill(unknown, torch.inf)
        edges = points.new_full(points.shape[:3], torch.inf)
        found = ControlPoints(
            points=points,
            below=-margin,
            above=margin,
            start=start,
            end=end,
            lower=-edges,
            upper=edges,
        )
        return found, piece


def slope_range(base: ElementaryFunction, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bound the first derivative of a base on intervals, rounding included."""
    lower, upper = base.extremes(low, high, 1)
    near = torch.zeros_like(lower, dtype=torch.bool)  # where terms cancel
    for zero in base.zeros_of_derivative(1):
        near |= (low <= zero + 0.1) & (high >= zero - 0.1)
    room = 4e-16 * near
    return lower - 1e-15 * lower.abs() - room, upper + 1e-15 * upper.abs() + room


def times(factor: Tensor, value: Tensor) -> Tensor:
    """Multiply; a factor of 0 gives 0 also where the value is infinite."""
    return torch.where(factor == 0, 0.0, factor * value)


def _pick(table: Tensor, piece: Tensor) -> Tensor:
    """Return what a table (out, in, piece, ...) says of pieces (box, in, piece)."""
    inputs = torch.arange(table.shape[1], device=piece.device)[:, None]
    return table[:, inputs, piece].movedim(0, 1)


def _cuts(own: SplineEnclosure) -> Tensor:  # (in, cut)
    """Return where the pieces meet: knots, and more where the base is curved or beyond them."""
    knots = own.knots if own.mode == "zero" else spline.breakpoints(own.knots, own.degree)
    rows = []
    for row, low, high in zip(
        knots.cpu().numpy(), own.low.tolist(), own.high.tolist(), strict=True
    ):
        after = _outward(float(row[-1]), high, own.curved)
        before = [-end for end in _outward(-float(row[0]), -low, own.curved)]
        cuts = [*reversed(before), *row.tolist(), *after]
        rows.append(_refined(cuts) if own.curved else cuts)
    longest = max(len(row) for row in rows)
    padded = [row + [row[-1]] * (longest - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.float64, device=own.knots.device)


def _outward(start: float, end: float, curved: bool) -> list[float]:
    """Return cuts from an end of the grid to beyond `end`."""
    found, at = [], start
    while at <= end:
        at = at + 1.0 + abs(at) if curved else end + 1.0
        found.append(at)
    return found


def _refined(cuts: list[float]) -> list[float]:
    """Cut pieces that are too wide for a polynomial in place of the base."""
    found = cuts[:1]
    for left, right in itertools.pairwise(cuts):
        near = min(max(left, -SETTLED), right), max(min(right, SETTLED), left)
        parts = max(1, math.ceil((near[1] - near[0]) / WIDEST - 1e-9))
        inner = [near[0] + (near[1] - near[0]) * k / parts for k in range(parts + 1)]
        found += [cut for cut in inner if left < cut < right] + [right]
    return found


def _table(own: SplineEnclosure, cuts: Tensor, derivative: int) -> _Table:
    """Return the polynomials of the edges, or of their slopes, between the cuts."""
    count = SLOPE if derivative else VALUE
    nodes = chebyshev(count).to(cuts)
    middle, half = 0.5 * (cuts[:, 1:] + cuts[:, :-1]), 0.5 * cuts.diff(dim=1)
    places = (middle[..., None] + half[..., None] * nodes).flatten(1).mT  # (point, in)
    at_base = own.base.nth(places.cpu().numpy(), derivative)
    base = torch.as_tensor(at_base).to(cuts)[:, None] * own.weight
    values = base + spline.evaluate(
        places, own.coef, own.knots, own.degree, derivative=derivative, extrapolation=own.mode
    )
    shaped = values.permute(1, 2, 0).reshape(*own.weight.shape, -1, count)
    powers = shaped @ from_nodes(count).to(cuts).mT
    sizes = powers.abs()
    size = sizes.sum(-1) + shaped.abs().amax(-1) + _terms(own, derivative)[..., None]
    moved = cuts.abs()[:, 1:].maximum(cuts.abs()[:, :-1]) / half.clamp_min(1e-300)
    bend = (sizes * torch.arange(count).to(cuts)).sum(-1)
    places_off = (1e-14 * moved).masked_fill(half == 0, 0.0) * bend
    error = _base_error(own.bend, cuts, count)
    margin = PAD * size + places_off + own.weight.abs()[..., None] * error
    return _Table(cuts, powers, margin)


def _terms(own: SplineEnclosure, derivative: int) -> Tensor:  # (out, in)
    """Return the size of the terms that an edge, or its slope, is summed from."""
    size = own.coef.abs().amax(-1)
    if derivative:
        narrowest = (own.knots[:, own.degree :] - own.knots[:, : -own.degree]).amin(1)
        size = 2 * own.degree * size / narrowest
    return size + own.weight.abs()


def _base_error(bend: Tensor, cuts: Tensor, count: int) -> Tensor:  # (in, piece)
    """Bound the error of the polynomial through a base's, or its slope's, values at nodes.

    The sixth derivative serves both: it is the fifth of the slope.
    """
    left, right = cuts[:, :-1], cuts[:, 1:]
    half = 0.5 * (right - left)
    found = (bend * 1.000001 + 1e-14) * half**count / math.factorial(count) / 2 ** (count - 1)
    settled = (torch.minimum(left.abs(), right.abs()) >= SETTLED) & (left * right > 0)
    return torch.where(settled, found.clamp(max=STRAIGHT), found)


def _slope_hulls(own: SplineEnclosure, cuts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and greatest B-spline coefficient of the slope: (out, in, piece) each.

    With the sign that the stored coefficients give them.
    """
    knots, k = own.knots, own.degree
    zero = torch.zeros_like(own.coef[..., :1])
    rises = torch.cat([zero, own.coef, zero], -1).diff(dim=-1)
    steps = k * rises / (knots[:, k:] - knots[:, :-k])  # (out, in, basis + 1)
    padded = torch.nn.functional.pad(steps, (k, k))
    windows = padded.unfold(-1, k, 1)  # window j + 1 acts on the interval from knot j
    least, most = windows.amin(-1), windows.amax(-1)
    middle = 0.5 * (cuts[:, 1:] + cuts[:, :-1])
    interval = torch.searchsorted(knots.contiguous(), middle.contiguous(), right=True) - 1
    if own.mode == "linear":
        interval = interval.clamp(k, knots.shape[1] - k - 2)
    index = (interval + 1).clamp(0, least.shape[-1] - 1).expand(len(least), -1, -1)
    low, high = least.gather(-1, index), most.gather(-1, index)
    return low - 1e-15 * low.abs(), high + 1e-15 * high.abs()
