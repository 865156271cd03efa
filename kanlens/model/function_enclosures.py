"""Bounds of edges that are elementary functions, and of their slopes, on many boxes at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kanlens.model.enclosures import PAD, SplineEnclosure
from kanlens.model.terms import EdgeTerm, times
from kanlens.splines.control_points import ControlPoints


class FunctionEnclosure:
    """Control points of a layer some of whose edges are elementary functions.

    On each piece a function is its chord, plus what its slopes there allow it to leave the chord
    by: the distance shrinks with the square of the piece's width.
    """

    def __init__(self, splines: SplineEnclosure, groups: Sequence[EdgeTerm]) -> None:
        self.splines, self.groups = splines, groups

    def values(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the edges on boxes (box, in)."""
        found = self.splines.values(low, high)
        for group, known, start, end in self._pieces(found, low, high):
            least, most = group.value_bounds(start, end)
            at_start, at_end = group.at(start), group.at(end)
            reach = _off_chord(at_start, at_end, group.slope_bounds(start, end), end - start)
            size = at_start.abs() + at_end.abs() + group.affine[:, 3].abs()[:, None]
            reach = reach + PAD * size
            chord = torch.isfinite(reach) & (reach <= most - least)
            middle = 0.5 * (least + most)
            middle = middle.masked_fill(~torch.isfinite(middle), 0.0)
            first, last = torch.where(chord, at_start, middle), torch.where(chord, at_end, middle)
            share = torch.linspace(0, 1, found.points.shape[-1]).to(first)
            points = first[..., None] + (last - first)[..., None] * share
            below = torch.where(chord, -reach, least - middle)
            above = torch.where(chord, reach, most - middle)
            found = _put(found, group, points, (below, above), (least, most), known)
        return found

    def slopes(self, low: Tensor, high: Tensor) -> ControlPoints:
        """Enclose the slopes of the edges on boxes (box, in); at kinks those of both sides."""
        found = self.splines.slopes(low, high)
        for group, known, start, end in self._pieces(found, low, high):
            least, most = group.slope_bounds(start, end)
            middle = 0.5 * (least + most)
            middle = middle.masked_fill(~torch.isfinite(middle), 0.0)
            points = middle[..., None].expand(*middle.shape, found.points.shape[-1])
            ends = least - middle, most - middle
            found = _put(found, group, points, ends, (least, most), known)
        return found

    def rounding(self, low: Tensor, high: Tensor) -> Tensor:
        """Bound what rounding is relative to, as `SplineEnclosure` does; here d may cancel, too."""
        found = self.splines.rounding(low, high).clone()
        for group in self.groups:
            a, b, _, d, mask = group.parameters(low)
            start, end = low[:, group.in_], high[:, group.in_]
            steep = torch.stack(group.slope_bounds(start, end)).abs().amax(0)
            size = torch.maximum(start.abs(), end.abs()) + (b / a).abs()
            inner = _known(times(_known(steep, torch.inf), 0.01 * size), torch.inf)
            found[:, group.out, group.in_] = inner + 2 * (mask * d).abs()
        return found

    def _pieces(
        self, found: ControlPoints, low: Tensor, high: Tensor
    ) -> Iterator[tuple[EdgeTerm, Tensor, Tensor, Tensor]]:
        """Yield each group with which of its boxes are known, and the ends of its pieces."""
        known = (low >= self.splines.low) & (high <= self.splines.high)
        for group in self.groups:
            yield group, known[:, group.in_], found.start[:, group.in_], found.end[:, group.in_]


def _known(value: Tensor, otherwise: float) -> Tensor:
    """Put a bound that always holds where there is none."""
    return torch.where(value.isnan(), otherwise, value)


def _off_chord(first: Tensor, last: Tensor, slopes: tuple[Tensor, Tensor], width: Tensor) -> Tensor:
    """Bound how far functions with slopes in an interval leave their chords."""
    chord = torch.where(width > 0, (last - first) / width.clamp_min(1e-300), 0.0)
    low, high = torch.minimum(slopes[0], chord), torch.maximum(slopes[1], chord)
    gap = (high - low).clamp_min(1e-300)
    reach = (high - chord) * ((chord - low) / gap) * width
    return torch.where(width > 0, _known(reach, torch.inf), 0.0)


def _put(
    found: ControlPoints,
    group: EdgeTerm,
    points: Tensor,  # (box, edge, piece, point)
    ends: tuple[Tensor, Tensor],  # (box, edge, piece)
    bounds: tuple[Tensor, Tensor],  # (box, edge, piece)
    known: Tensor,  # (box, edge)
) -> ControlPoints:
    """Set what is known of the edges of one group; nothing outside what was asked for."""
    dead = group.mask == 0
    free = ~(known | dead)
    below, above = _known(ends[0], -torch.inf), _known(ends[1], torch.inf)
    lower = _known(bounds[0].amin(-1), -torch.inf)
    upper = _known(bounds[1].amax(-1), torch.inf)
    places = torch.arange(len(known), device=known.device)[:, None], group.out, group.in_
    return replace(
        found,
        points=found.points.index_put(places, points),
        below=found.below.index_put(places, below.masked_fill(free[..., None], -torch.inf)),
        above=found.above.index_put(places, above.masked_fill(free[..., None], torch.inf)),
        lower=found.lower.index_put(places, lower.masked_fill(free, -torch.inf)),
        upper=found.upper.index_put(places, upper.masked_fill(free, torch.inf)),
    )
