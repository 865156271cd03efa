"""Polishing of many fits ``c * g(a * x + b) + d`` at once.

a and b are optimized with the Jacobian of L. Kaufman, BIT 15, 1975, of the residual on the samples,
or of its projection on the splines of the edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanlens.symbolic._least_squares import Array, Damping, Mask, Residuals, descend
from kanlens.symbolic._library import Family, constrain

_MAX_SLOPE = 1e6  # in the computation of a step
_DAMPING = Damping(first=1e-2, most=1e6, factors=(0.2, 6.0))
_TOLERANCE = 1e-7  # relative fall of the residual that ends a fit
_EXACT = 1e-22  # residual that ends it


class Fits(NamedTuple):
    """Parameters of many fits (fit,), ordered by family."""

    family: Tensor
    edge: Tensor
    a: Tensor
    b: Tensor

    @classmethod
    def table(cls, a: Tensor, b: Tensor) -> Fits:
        """Return one fit per edge and family from a and b (edge, family)."""
        edges, families = a.shape
        family = torch.arange(families).repeat_interleave(edges)
        edge = torch.arange(edges).repeat(families)
        return cls(family, edge, a.T.reshape(-1), b.T.reshape(-1))

    def pick(self, index: Tensor) -> Fits:
        """Return the fits at `index`."""
        return Fits(*(values[index] for values in self))

    def best_of_each(self, sse: Tensor, edges: int, most: int) -> Fits:
        """Return the best fit of each edge by its `most` best families."""
        key = (self.family * edges + self.edge).numpy()
        order = np.lexsort((sse.numpy(), key))
        first = order[np.unique(key[order], return_index=True)[1]]
        edge = self.edge.numpy()[first]
        ranked = np.lexsort((sse.numpy()[first], edge))
        place = np.empty(len(first), dtype=int)  # of a fit among those of its edge
        place[ranked] = np.arange(len(first)) - np.searchsorted(edge[ranked], edge[ranked])
        return self.pick(torch.from_numpy(first[place < most]))


class EdgeResiduals(Residuals):
    """Residuals of fits in a and b on x in [-1, 1] and y (edge, sample)."""

    def __init__(
        self,
        families: Sequence[Family],
        samples: tuple[Tensor, Tensor],
        fits: Fits,
        space: Tensor | None = None,
    ) -> None:
        self.arguments = families, samples, fits, space
        if space is not None:  # slots of the fits in a table (edge, fit)
            edge, sizes = fits.edge, torch.bincount(fits.edge, minlength=len(space))
            order, rank = edge.argsort(stable=True), torch.empty_like(edge)
            rank[order] = torch.arange(len(edge)) - (sizes.cumsum(0) - sizes)[edge[order]]
            self.width = int(sizes.max()) if len(edge) else 0
            self.slot = edge * self.width + rank
        self.x, y = samples[0][fits.edge], samples[1][fits.edge]
        self.target = self.coordinates(y)
        counts = torch.bincount(fits.family, minlength=len(families)).tolist()
        self.families = [(family, n) for family, n in zip(families, counts, strict=True) if n]
        self.rules = torch.stack([family.rules for family in families])[fits.family].T

    def coordinates(self, values: Tensor) -> Tensor:
        """Return values (fit, sample) up to a constant, in a spline space if any."""
        space = self.arguments[3]
        if space is None:
            return values - values.mean(1, keepdim=True)
        edges, samples, directions = space.shape
        padded = values.new_zeros(edges * self.width, samples)
        padded[self.slot] = values
        across = padded.view(edges, self.width, samples) @ space
        return across.view(-1, directions)[self.slot]

    def pick(self, mask: Mask) -> EdgeResiduals:
        """Return the fits selected by a mask."""
        families, samples, fits, space = self.arguments
        return EdgeResiduals(families, samples, fits.pick(torch.from_numpy(mask)), space)

    def allowed(self, theta: Array) -> Array:
        """Return the nearest a and b, (fit, 2), that their families allow."""
        a, b = torch.from_numpy(theta).unbind(1)
        return np.asarray(torch.stack(constrain(a, b, self.rules), dim=1).numpy())

    def losses(self, theta: Array) -> Array:
        """Return the sum of squared residuals of each fit."""
        return np.asarray(self.sse(*torch.from_numpy(theta).unbind(1)).numpy())

    def sse(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sum of squared residuals of each fit, from a and b (fit,)."""
        self.u = torch.addcmul(b[:, None], a[:, None], self.x)
        self.column = self.coordinates(self._values(self.u))  # coordinates of g
        self.size = self.column.square().sum(1).clamp(min=1e-30)
        self.c = (self.column * self.target).sum(1) / self.size
        self.residual = torch.addcmul(-self.target, self.c[:, None], self.column)
        return torch.nan_to_num(self.residual.square().sum(1), nan=float("inf"))

    def equations(self) -> tuple[Array, Array]:
        """Return the normal equations by Kaufman's Jacobian after `losses`."""
        slope = self._values(self.u, slope=True)
        slope = torch.nan_to_num(slope, nan=0.0, posinf=_MAX_SLOPE, neginf=-_MAX_SLOPE)
        slope = slope * self.c[:, None]
        by_a = self._projected(slope * self.x) * self.rules[0][:, None]
        by_b = self._projected(slope) * self.rules[1][:, None]
        pairs = ((by_a, by_a), (by_a, by_b), (by_a, by_b), (by_b, by_b))
        normal = torch.stack([(p * q).sum(1) for p, q in pairs], dim=1).view(-1, 2, 2)
        right = torch.stack([(p * self.residual).sum(1) for p in (by_a, by_b)], dim=1)
        return np.asarray(normal.numpy()), np.asarray(right.numpy())

    def polished(self, steps: int) -> tuple[Fits, Tensor]:
        """Return all fits after some steps, with their sums of squared residuals."""
        fits = self.arguments[2]
        if len(fits.a) == 0:
            return fits, fits.a
        start = np.asarray(torch.stack((fits.a, fits.b), dim=1).numpy())
        limits = {"tolerance": _TOLERANCE, "exact": _EXACT}
        theta, sse, *_ = descend(self, start, steps=steps, damping=_DAMPING, **limits)
        a, b = torch.from_numpy(theta).unbind(1)
        return fits._replace(a=a, b=b), torch.from_numpy(sse)

    def _values(self, u: Tensor, *, slope: bool = False) -> Tensor:
        """Return the values or slopes of the families at u (fit, sample)."""
        parts = zip(self.families, u.split([n for _, n in self.families]), strict=True)
        return torch.cat([f.derivative(r) if slope else f.value(r) for (f, _), r in parts])

    def _projected(self, values: Tensor) -> Tensor:
        """Return a column of the Jacobian, orthogonal to those of c and d."""
        column = self.coordinates(values)
        share = (column * self.column).sum(1) / self.size
        return torch.addcmul(column, share[:, None], self.column, value=-1.0)
