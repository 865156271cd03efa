"""Sound enclosures of the edges of a layer, and of their slopes, on many boxes at once.

Splines plus functions are polynomials on pieces (`_enclosure_tables`). An edge that is one function
is enclosed, on each piece, by its chord and a bound on the distance from the chord. The bound comes
from the slopes, and shrinks with the square of the piece's width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanlens.model._enclosure_tables import (
    PAD,
    ControlPoints,
    PieceTable,
    cuts_of,
    restrict,
    slope_hulls,
    slope_range,
    table_of,
)
from kanlens.model._terms import EdgeTerm, times
from kanlens.splines import _spline as spline

if TYPE_CHECKING:
    from kanlens.model._edge_layer import EdgeLayer

MAX_COORDINATE = 1e6  # boxes are clipped to it; bounds of a box beyond it are infinite


class NoEnclosure:
    """Infinite enclosure of a layer kind without bounds; masked edges are zero."""

    bounded = False

    def __init__(self, mask: Tensor) -> None:
        self.reach = torch.where(mask == 0, 0.0, torch.inf).to(mask)

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""
        ends = torch.stack([low, high]).nan_to_num(0.0).clamp(-MAX_COORDINATE, MAX_COORDINATE)
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
        """Return zero: infinite bounds need no margin."""
        return torch.zeros_like(self.reach).expand(len(low), *self.reach.shape)


def encloses(layer: EdgeLayer) -> bool:
    """Return whether `enclosure` is valid: not if a subclass overrides `edge_values` alone."""
    both = {"enclosure", "edge_values"}
    return "enclosure" in next(vars(k) for k in type(layer).__mro__ if both & vars(k).keys())


class Enclosure:
    """Control points of the edges of a layer on boxes within a given box (in,).

    In float64, of the present weights; the given box is clipped to `MAX_COORDINATE`.
    """

    bounded = True

    def __init__(self, edges: EdgeLayer, low: Tensor, high: Tensor) -> None:
        weights = edges.weights()
        self.coef = weights.coefficients().detach().double()
        self.terms = [term.double() for term in edges.terms() if term.weight.any()]
        self.edge_terms = [term.double() for term in edges.edge_terms()]
        self.knots, self.degree = edges.grid.detach().double(), edges.spline_order
        self.mode = edges.extrapolation
        self.low = low.double().nan_to_num(-MAX_COORDINATE).clamp(-MAX_COORDINATE, MAX_COORDINATE)
        self.high = high.double().nan_to_num(MAX_COORDINATE).clamp(-MAX_COORDINATE, MAX_COORDINATE)
        self.dead = (self.coef == 0).all(-1)
        for term in self.terms:
            self.dead = self.dead & (term.weight == 0)
        cuts = cuts_of(self)
        self._values, self._slopes = table_of(self, cuts, 0), table_of(self, cuts, 1)
        self._least, self._most = slope_hulls(self, cuts)

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""
        edges, _ = self._on(self._values, low, high)
        for term, inside, start, end in self._pieces(edges, low, high):
            least, most = term.bounds(start, end)
            at_start, at_end = term.nth(start), term.nth(end)
            reach = _off_chord(at_start, at_end, term.bounds(start, end, 1), end - start)
            size = at_start.abs() + at_end.abs() + term.affine[:, 3].abs()[:, None]
            reach = reach + PAD * size
            chord = torch.isfinite(reach) & (reach <= most - least)
            middle = (0.5 * (least + most)).nan_to_num(0.0, 0.0, 0.0)
            first, last = torch.where(chord, at_start, middle), torch.where(chord, at_end, middle)
            share = torch.linspace(0, 1, edges.points.shape[-1]).to(first)
            points = first[..., None] + (last - first)[..., None] * share
            below = torch.where(chord, -reach, least - middle)
            above = torch.where(chord, reach, most - middle)
            edges = _put(edges, term, points, (below, above), (least, most), inside)
        return edges

    def slopes(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the slopes of the edges on boxes (box, in); at kinks those of both sides."""
        edges, piece = self._on(self._slopes, low, high)
        least, most = _pick(self._least, piece), _pick(self._most, piece)
        for term in self.terms:
            inner = term.inner(edges.start, edges.end, pieces=True)
            factor = (term.a * term.weight)[..., None]
            pair = [factor * end[:, None] for end in slope_range(term.g, *inner)]
            room = factor.abs() * term.blur(*inner)[:, None]
            least = least + torch.minimum(*pair) - room
            most = most + torch.maximum(*pair) + room
        lower, upper, unknown = least.amin(-1), most.amax(-1), edges.below[..., 0].isinf()
        lower, upper = lower - 4e-15 * lower.abs(), upper + 4e-15 * upper.abs()
        lower, upper = lower.masked_fill(unknown, -torch.inf), upper.masked_fill(unknown, torch.inf)
        edges = replace(edges, lower=lower, upper=upper)
        for placed, inside, start, end in self._pieces(edges, low, high):
            least, most = placed.bounds(start, end, 1)
            middle = (0.5 * (least + most)).nan_to_num(0.0, 0.0, 0.0)
            points = middle[..., None].expand(*middle.shape, edges.points.shape[-1])
            ends = least - middle, most - middle
            edges = _put(edges, placed, points, ends, (least, most), inside)
        return edges

    def on_line(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:  # (out, in) twice
        """Bound the edges on one interval (in,) of each input, whose ends may be infinite.

        Beyond the grid a spline is linear or zero, so that its values at the ends bound it.
        """
        low, high = low.to(self.knots), high.to(self.knots)
        knots = self.knots if self.mode == "zero" else spline.breakpoints(self.knots, self.degree)
        grid = knots[:, [0, -1]].mT  # (ray, in): one to the left, one to the right
        inner = low.clamp(*grid)[None], high.clamp(*grid)[None]
        lower, upper = (end[0] for end in self._on(self._values, *inner)[0].bounds())
        missed = (high < grid[0]) | (low > grid[1])
        lower, upper = lower.masked_fill(missed, torch.inf), upper.masked_fill(missed, -torch.inf)
        starts = torch.stack([low, torch.maximum(low, grid[1])])
        ends = torch.stack([starts, torch.stack([torch.minimum(high, grid[0]), high])])
        line, room = self._beyond(grid, ends)
        below, above = self._ranges(*ends)
        within = ~torch.stack([low < grid[0], high > grid[1]])[:, None]
        least = ((line - room).amin(0) + below).masked_fill(within, torch.inf).amin(0)
        most = ((line + room).amax(0) + above).masked_fill(within, -torch.inf).amax(0)
        lower, upper = torch.minimum(lower, least), torch.maximum(upper, most)
        alone = ~(self.coef != 0).any(-1)  # edges without a spline
        below, above = self._ranges(low, high)
        lower = torch.where(alone, torch.maximum(lower, below), lower)
        return lower, torch.where(alone, torch.minimum(upper, above), upper)

    def _ranges(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:  # (..., out, in) twice
        """Sum the ranges of the functions on intervals (..., in), whose ends may be infinite."""
        least = most = low.new_zeros(*low.shape[:-1], *self.dead.shape)
        for term in self.terms:
            ends = term.g.extremes(*term.inner(low, high))
            both = torch.stack([times(term.weight, end[..., None, :]) for end in ends])
            least, most = least + both.amin(0), most + both.amax(0)
        return least, most

    def rounding(self, low: Tensor, high: Tensor) -> Tensor:
        """Return magnitudes (box, out, in) to which rounding is relative, besides edge values.

        The error is 1e-13 times them. They cover terms that cancel, and rounding of a * x + b times
        the slope of g.
        """
        sizes = self.coef.abs().amax(-1).expand(len(low), *self.dead.shape)
        for term in self.terms if len(self.terms) > 1 else []:
            ends = term.inner(low, high)
            most, steep = (torch.stack(term.g.extremes(*ends, n)).abs().amax(0) for n in (0, 1))
            reach = torch.stack(ends).abs().amax(0) + term.b.abs()
            size = most + times(steep, 0.01 * reach).nan_to_num(torch.inf)
            sizes = sizes + times(term.weight.abs(), size[:, None])
        sizes = sizes.clone()
        for placed in self.edge_terms:
            a, b, _, d, mask = placed.parameters(low)
            start, end = low[:, placed.in_], high[:, placed.in_]
            steep = torch.stack(placed.bounds(start, end, 1)).abs().amax(0)
            size = torch.maximum(start.abs(), end.abs()) + (b / a).abs()
            inner = times(_or_infinite(steep), 0.01 * size)
            sizes[:, placed.out, placed.in_] = _or_infinite(inner) + 2 * (mask * d).abs()
        return sizes

    def _beyond(self, grid: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:  # (end, ray, out, in)
        """Return the splines and their rounding at x (end, ray, in) beyond the grid's ends."""
        shape = (*x.shape[:2], *self.dead.shape)
        if self.mode == "zero":
            return x.new_zeros(shape), x.new_zeros(shape)
        value = spline.evaluate(grid, self.coef, self.knots, self.degree)
        terms = torch.stack([self.coef * end for end in spline.end_slopes(self.knots, self.degree)])
        distance = (x - grid)[:, :, None]
        room = 1e-14 * terms.abs().sum(-1) * distance.abs().masked_fill(distance.isinf(), 0.0)
        return value + times(terms.sum(-1), distance), room

    def size(self, low: Tensor, high: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the magnitudes (out, in) to which the rounding of bounded edges is relative."""
        ends = torch.stack([low, high]).abs().to(self.knots), torch.stack([lower, upper]).abs()
        reach, most = (end.masked_fill(end.isinf(), 0.0).amax(0) for end in ends)
        total = self.coef.abs().amax(-1) + most
        for term in self.terms:  # a * x + b is rounded too
            total = total + term.weight.abs() * (1 + term.a.abs() * reach + term.b.abs())
        return total

    def _pieces(
        self, edges: ControlPoints, low: Tensor, high: Tensor
    ) -> Iterator[tuple[EdgeTerm, Tensor, Tensor, Tensor]]:
        """Yield each term, the mask of boxes within the enclosure, and the ends of its pieces."""
        inside = (low >= self.low) & (high <= self.high)
        for term in self.edge_terms:
            yield term, inside[:, term.in_], edges.start[:, term.in_], edges.end[:, term.in_]

    def _on(self, table: PieceTable, low: Tensor, high: Tensor) -> tuple[ControlPoints, Tensor]:
        """Return control points on boxes (box, in), and the indices of pieces (box, in, piece)."""
        low, high = low.double(), high.double()
        inside = (low >= self.low) & (high <= self.high) & (low <= high)
        low, high = torch.where(inside, low, self.low), torch.where(inside, high, self.high)
        n_pieces = table.cuts.shape[1] - 1
        first = torch.searchsorted(table.cuts, low.mT.contiguous(), right=True) - 1
        last = torch.searchsorted(table.cuts, high.mT.contiguous()) - 1
        ends = torch.stack([first, last]).clamp(0, n_pieces - 1)
        first, last = ends.amin(0), ends.amax(0)  # of a point at a cut, the pieces on both sides
        steps = torch.arange(int((last - first).max()) + 1, device=low.device)
        piece = torch.minimum(first.mT[..., None] + steps, last.mT[..., None])  # (box, in, piece)
        inputs = torch.arange(len(table.cuts), device=low.device)[:, None]
        left, right = table.cuts[inputs, piece], table.cuts[inputs, piece + 1]
        start = torch.maximum(left, low[..., None])
        end = torch.minimum(right, high[..., None]).clamp(min=start)
        half = (0.5 * (right - left)).clamp_min(1e-300)
        middle = (0.5 * (start + end) - 0.5 * (left + right)) / half
        part = restrict(middle, 0.5 * (end - start) / half, table.powers.shape[-1])
        points = torch.einsum("nipkd,noipd->noipk", part, _pick(table.powers, piece))
        margin = _pick(table.margin, piece)
        margin = margin.masked_fill((~inside[:, None] & ~self.dead)[..., None], torch.inf)
        upper = points.new_full(points.shape[:3], torch.inf)
        sides = {"start": start, "end": end, "lower": -upper, "upper": upper}
        return ControlPoints(points=points, below=-margin, above=margin, **sides), piece


def _pick(table: Tensor, piece: Tensor) -> Tensor:
    """Return the entries of a table (out, in, piece, ...) for pieces (box, in, piece)."""
    inputs = torch.arange(table.shape[1], device=piece.device)[:, None]
    return table[:, inputs, piece].movedim(0, 1)


def _or_infinite(bound: Tensor) -> Tensor:
    """Replace NaN by infinity, a bound that always holds."""
    return bound.masked_fill(bound.isnan(), torch.inf)


def _off_chord(first: Tensor, last: Tensor, slopes: tuple[Tensor, Tensor], width: Tensor) -> Tensor:
    """Bound the distance of functions from their chords by intervals of their slopes."""
    chord = torch.where(width > 0, (last - first) / width.clamp_min(1e-300), 0.0)
    low, high = torch.minimum(slopes[0], chord), torch.maximum(slopes[1], chord)
    reach = (high - chord) * ((chord - low) / (high - low).clamp_min(1e-300)) * width
    return torch.where(width > 0, _or_infinite(reach), 0.0)


def _put(
    edges: ControlPoints,
    term: EdgeTerm,
    points: Tensor,  # (box, edge, piece, point)
    ends: tuple[Tensor, Tensor],  # (box, edge, piece)
    bounds: tuple[Tensor, Tensor],  # (box, edge, piece)
    inside: Tensor,  # (box, edge)
) -> ControlPoints:
    """Replace the edges of one term; bounds are infinite on boxes that are not `inside`."""
    free = ~(inside | (term.mask == 0))
    places = torch.arange(len(inside), device=inside.device)[:, None], term.out, term.in_
    limits = {
        "below": (ends[0], -torch.inf),
        "above": (ends[1], torch.inf),
        "lower": (bounds[0].amin(-1), -torch.inf),
        "upper": (bounds[1].amax(-1), torch.inf),
    }
    changed = {"points": edges.points.index_put(places, points)}
    for name, (limit, otherwise) in limits.items():
        unknown = limit.isnan() | (free[..., None] if limit.dim() == 3 else free)
        bound = limit.masked_fill(unknown, otherwise)
        changed[name] = getattr(edges, name).index_put(places, bound)
    return replace(edges, **changed)
