"""Sound enclosures of the edges of a spline layer, and of their slopes, on many boxes at once.

Functions beside the splines are replaced by the polynomial through their values at Chebyshev
nodes, whose error the sixth derivative bounds; intervals wider than 0.75 of a function's argument
are cut, so that it stays near 1e-9 of a weight.

Rounding is below 1e-13 of the sizes that were added; margins are `PAD` = 1e-12 of them. A slope
keeps the sign of its B-spline coefficients, exact differences of stored numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from kanlens.functions.catalog import BASES
from kanlens.functions.elementary import ElementaryFunction
from kanlens.model.edge_sum import Term
from kanlens.splines import spline
from kanlens.splines.control_points import ControlPoints, chebyshev, from_nodes, restrict

if TYPE_CHECKING:
    from kanlens.model.layers import KANLinear

PAD = 1e-12
WIDEST = 0.75  # of a piece with a base function near 0
SETTLED = 32.0  # beyond it pieces double in width, at the latest
MOST_PARTS = 1024  # that a piece is cut into
STRAIGHT = 2e-12  # error of a polynomial there: bases differ from lines by 33 exp(-32) at most
FARTHEST = 1e6  # enclosures reach no farther; a box beyond it has no bounds
VALUE, SLOPE = 6, 5  # coefficients of a value, of a slope: splines have degree 5 at most


class Enclosure(Protocol):
    """Control points of a layer's edges on any boxes within what was asked for."""

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""

    def slopes(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the slopes of the edges on boxes (box, in); at kinks those of both sides."""

    def rounding(self, low: Tensor, high: Tensor) -> Tensor:
        """Bound what rounding is relative to, beyond the edges' sizes, (box, out, in)."""


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

    slopes = values

    def rounding(self, low: Tensor, high: Tensor) -> Tensor:
        """Add nothing to infinite edges."""
        return torch.zeros_like(self.reach).expand(len(low), *self.reach.shape)


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


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Polynomials of every edge on every piece, in s from -1 to 1 on the piece."""

    cuts: Tensor  # (in, piece + 1)
    powers: Tensor  # (out, in, piece, power)
    margin: Tensor  # (out, in, piece)


class SplineEnclosure:
    """Control points of the edges of a spline layer on boxes within a given box (in,).

    In float64, of the layer as it is now; the box is cut off at `FARTHEST`.
    """

    def __init__(self, edges: KANLinear, low: Tensor, high: Tensor) -> None:
        weights = edges.weights()
        self.coef = weights.coefficients().detach().double()
        self.terms = [term.double() for term in edges.terms() if term.weight.any()]
        self.knots, self.degree = edges.grid.detach().double(), edges.spline_order
        self.mode = edges.extrapolation
        self.low = low.double().nan_to_num(-FARTHEST).clamp(-FARTHEST, FARTHEST)
        self.high = high.double().nan_to_num(FARTHEST).clamp(-FARTHEST, FARTHEST)
        self.dead = (self.coef == 0).all(-1)
        for term in self.terms:
            self.dead = self.dead & (term.weight == 0)
        cuts = _cuts(self)
        self._values, self._slopes = _table(self, cuts, 0), _table(self, cuts, 1)
        self._least, self._most = _slope_hulls(self, cuts)

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""
        return self._on(self._values, low, high)[0]

    def slopes(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the slopes of the edges on boxes (box, in); at kinks those of both sides."""
        found, piece = self._on(self._slopes, low, high)
        least, most = _pick(self._least, piece), _pick(self._most, piece)
        for term in self.terms:
            inner = term.inner(found.start, found.end, pieces=True)
            factor = (term.a * term.weight)[..., None]
            pair = [factor * end[:, None] for end in slope_range(term.g, *inner)]
            room = factor.abs() * term.blur(*inner)[:, None]
            least = least + torch.minimum(*pair) - room
            most = most + torch.maximum(*pair) + room
        lower, upper = least.amin(-1), most.amax(-1)
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
        below, above = self._ranges(*ends)
        beside = ~torch.stack([low < grid[0], high > grid[1]])[:, None]
        least = ((line - room).amin(0) + below).masked_fill(beside, torch.inf).amin(0)
        most = ((line + room).amax(0) + above).masked_fill(beside, -torch.inf).amax(0)
        lower, upper = torch.minimum(lower, least), torch.maximum(upper, most)
        alone = ~(self.coef != 0).any(-1)  # the functions
        below, above = self._ranges(low, high)
        lower = torch.where(alone, torch.maximum(lower, below), lower)
        return lower, torch.where(alone, torch.minimum(upper, above), upper)

    def _ranges(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:  # (..., out, in) twice
        """Add up the ranges of the functions on intervals (..., in) whose ends may be infinite."""
        least = most = low.new_zeros(*low.shape[:-1], *self.dead.shape)
        for term in self.terms:
            ends = term.g.extremes(*term.inner(low, high))
            both = torch.stack([times(term.weight, end[..., None, :]) for end in ends])
            least, most = least + both.amin(0), most + both.amax(0)
        return least, most

    def rounding(self, low: Tensor, high: Tensor) -> Tensor:
        """Bound what rounding is relative to, beyond the edges' sizes, (box, out, in).

        In units of 1e-13: terms may cancel, and slopes turn rounding of a * x + b into one of g.
        """
        found = self.coef.abs().amax(-1).expand(len(low), *self.dead.shape)
        for term in self.terms if len(self.terms) > 1 else []:
            ends = term.inner(low, high)
            most, steep = (torch.stack(term.g.extremes(*ends, n)).abs().amax(0) for n in (0, 1))
            reach = torch.stack(ends).abs().amax(0) + term.b.abs()
            size = most + times(steep, 0.01 * reach).nan_to_num(torch.inf)
            found = found + times(term.weight.abs(), size[:, None])
        return found

    def _beyond(self, grid: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:  # (end, ray, out, in)
        """Return the splines at x (end, ray, in) beyond both ends of the grid, and its rounding."""
        shape = (*x.shape[:2], *self.dead.shape)
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
        total = self.coef.abs().amax(-1) + most
        for term in self.terms:  # some round as x does
            total = total + term.weight.abs() * (1 + term.a.abs() * reach + term.b.abs())
        return total

    def _on(self, table: _Pieces, low: Tensor, high: Tensor) -> tuple[ControlPoints, Tensor]:
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
        unknown = (~known[:, None] & ~self.dead)[..., None]
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
    """Return where pieces meet: knots and kinks, and more where functions curve or beyond them."""
    knots = own.knots if own.mode == "zero" else spline.breakpoints(own.knots, own.degree)
    rows = []
    for i, (row, low, high) in enumerate(
        zip(knots.cpu().numpy(), own.low.tolist(), own.high.tolist(), strict=True)
    ):
        alive = [term for term in own.terms if term.weight[:, i].any() and term.a[i] != 0]
        curved = [term for term in alive if term.g.line is None]
        kinks = [
            place for term in curved for place in term.places((*term.g.kinks, *term.g.jumps), i)
        ]
        after = _outward(float(row[-1]), high, bool(curved))
        before = [-end for end in _outward(-float(row[0]), -low, bool(curved))]
        ends = [*before, *row.tolist(), *after]
        cuts = sorted({*ends, *(kink for kink in kinks if min(ends) < kink < max(ends))})
        rows.append(_refined(cuts, curved, i) if curved else cuts)
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


def _refined(cuts: list[float], curved: list[Term], i: int) -> list[float]:
    """Cut pieces that are too wide for a polynomial in place of functions of input i."""
    width = WIDEST / max(float(term.a[i].abs()) for term in curved)
    ends = [end for term in curved for end in term.places((-settled(term.g), settled(term.g)), i)]
    first, last = min(ends), max(ends)
    found = cuts[:1]
    for left, right in itertools.pairwise(cuts):
        near = min(max(left, first), right), max(min(right, last), left)
        parts = min(max(1, math.ceil((near[1] - near[0]) / width - 1e-9)), MOST_PARTS)
        inner = [near[0] + (near[1] - near[0]) * k / parts for k in range(parts + 1)]
        found += [cut for cut in inner if left < cut < right] + [right]
    return found


@functools.cache
def settled(g: ElementaryFunction) -> float:
    """Return how far from 0 the sixth derivative of a function is no longer negligible."""
    for far in (4.0, 8.0, 16.0):
        left, right = torch.tensor([[-40.0, far], [-far, 40.0]], dtype=torch.float64)
        if float(torch.stack(g.extremes(left, right, VALUE)).abs().max()) <= 1e-12:
            return far
    return SETTLED if g.period is None else math.inf


def _table(own: SplineEnclosure, cuts: Tensor, derivative: int) -> _Pieces:
    """Return the polynomials of the edges, or of their slopes, between the cuts."""
    count = SLOPE if derivative else VALUE
    nodes = chebyshev(count).to(cuts)
    middle, half = 0.5 * (cuts[:, 1:] + cuts[:, :-1]), 0.5 * cuts.diff(dim=1)
    places = (middle[..., None] + half[..., None] * nodes).flatten(1).mT  # (point, in)
    values = spline.evaluate(
        places, own.coef, own.knots, own.degree, derivative=derivative, extrapolation=own.mode
    )
    for term in own.terms:
        values = values + term.nth(places, derivative)[:, None] * term.weight
    shaped = values.permute(1, 2, 0).reshape(*own.dead.shape, -1, count)
    powers = shaped @ from_nodes(count).to(cuts).mT
    sizes = powers.abs()
    size = sizes.sum(-1) + shaped.abs().amax(-1) + _terms(own, derivative)[..., None]
    moved = cuts.abs()[:, 1:].maximum(cuts.abs()[:, :-1]) / half.clamp_min(1e-300)
    bend = (sizes * torch.arange(count).to(cuts)).sum(-1)
    places_off = (1e-14 * moved).masked_fill(half == 0, 0.0) * bend
    margin = PAD * size + places_off
    for term in own.terms:
        margin = margin + term.weight.abs()[..., None] * _error(term, cuts, count)
    return _Pieces(cuts, powers, margin)


def _terms(own: SplineEnclosure, derivative: int) -> Tensor:  # (out, in)
    """Return the size of the terms that an edge, or its slope, is summed from."""
    size = own.coef.abs().amax(-1)
    if derivative:
        narrowest = (own.knots[:, own.degree :] - own.knots[:, : -own.degree]).amin(1)
        size = 2 * own.degree * size / narrowest
    for term in own.terms:
        size = size + term.weight.abs() * term.a.abs() ** derivative
    return size


def _error(term: Term, cuts: Tensor, count: int) -> Tensor:  # (in, piece)
    """Bound the error of the polynomial through a function's, or its slope's, values at nodes.

    The sixth derivative serves both: it is the fifth of the slope. No polynomial through six nodes
    is farther from a function than 4 times its largest value.
    """
    left, right = term.inner(cuts[:, :-1], cuts[:, 1:], pieces=True)
    half = 0.5 * (right - left)
    bend = torch.stack(term.g.extremes(left, right, VALUE)).abs().amax(0)
    found = (bend * 1.000001 + 1e-14) * half**count / math.factorial(count) / 2 ** (count - 1)
    settles = term.g.closed_form is not None and term.g.period is None  # not registered, no wave
    if settles and any(term.g is base for base in BASES.values()):
        straight = (torch.minimum(left.abs(), right.abs()) >= SETTLED) & (left * right > 0)
        found = torch.where(straight, found.clamp(max=STRAIGHT), found)
    largest = torch.stack(term.g.extremes(left, right, VALUE - count)).abs().amax(0)
    found = torch.minimum(found, 4 * largest + 1e-14)
    return found * term.a.abs()[:, None] ** (VALUE - count)


def _slope_hulls(own: SplineEnclosure, cuts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the extreme B-spline coefficients of the slope, (out, in, piece) each, with sign."""
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
