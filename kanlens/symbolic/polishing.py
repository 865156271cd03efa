"""Levenberg-Marquardt on many fits at once, on what c and d leave of the residual.

A fit is one family on one edge, ``c * g(a * x + b) + d``; c and d follow from a and b by least
squares, so only a and b are moved, with Kaufman's Jacobian of the projected residual [1]_. The
residual is measured on the samples, or only in what the spline of the edge can say: then the
part of a function that no spline on this grid could follow counts neither for nor against it.

References
----------
.. [1] L. Kaufman, A variable projection method for solving separable nonlinear least squares
   problems, BIT 15, 1975.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.deadlines import check_time
from kanlens.symbolic.library import Family, constrain

_STEEP = 1e6  # largest slope that a step is computed with
_SETTLED = 1e-7  # gain of a step, in parts of the residual, below which a fit is finished
_EXACT = 1e-22  # residual at which it is


@dataclass(frozen=True, eq=False)
class Fits:
    """Parameters of many fits, ordered by family; every attribute has shape (fit,)."""

    family: Tensor
    edge: Tensor
    a: Tensor
    b: Tensor

    @classmethod
    def table(cls, a: Tensor, b: Tensor) -> Fits:
        """Take one fit per edge and family from tables (edge, family)."""
        edges, families = a.shape
        family = torch.arange(families).repeat_interleave(edges)
        edge = torch.arange(edges).repeat(families)
        return cls(family, edge, a.T.reshape(-1), b.T.reshape(-1))

    @classmethod
    def join(cls, parts: Sequence[Fits]) -> Fits:
        """Put fits one after the other; the parts are in the order of their families."""
        names = ("family", "edge", "a", "b")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def pick(self, index: Tensor) -> Fits:
        """Keep the fits at `index`."""
        return Fits(self.family[index], self.edge[index], self.a[index], self.b[index])

    def best_of_each(self, sse: Tensor, edges: int) -> Fits:
        """Keep the best fit of every pair of family and edge."""
        by_sse = sse.argsort(stable=True)
        key = (self.family * edges + self.edge)[by_sse]
        order = key.argsort(stable=True)
        first = torch.ones(len(key), dtype=torch.bool)
        first[1:] = key[order][1:] != key[order][:-1]
        return self.pick(by_sse[order[first]])


class Measure:
    """How far values (fit, sample) are from each other, whatever constant is added to them."""

    def __init__(self, edge: Tensor, space: Tensor | None) -> None:
        self.space = space
        if space is not None:
            counts = torch.bincount(edge, minlength=len(space))
            order = edge.argsort(stable=True)
            before = counts.cumsum(0) - counts
            rank = torch.empty_like(edge)
            rank[order] = torch.arange(len(edge)) - before[edge[order]]
            self.width = int(counts.max()) if len(edge) else 0
            self.slot = edge * self.width + rank

    def __call__(self, values: Tensor) -> Tensor:
        """Return coordinates of which only the differences count, (fit, direction)."""
        if self.space is None:
            return values - values.mean(1, keepdim=True)
        edges, samples, directions = self.space.shape
        padded = values.new_zeros(edges * self.width, samples)
        padded[self.slot] = values
        found = padded.view(edges, self.width, samples) @ self.space
        return found.view(-1, directions)[self.slot]


class Problem:
    """The samples of many fits, and how well they are fitted."""

    def __init__(
        self,
        families: Sequence[Family],
        samples: tuple[Tensor, Tensor],
        fits: Fits,
        space: Tensor | None = None,
    ) -> None:
        self.samples, self.space = samples, space
        self.measure = Measure(fits.edge, space)
        self.x, y = samples[0][fits.edge], samples[1][fits.edge]
        self.target = self.measure(y)
        counts = torch.bincount(fits.family, minlength=len(families)).tolist()
        self.families = [(family, n) for family, n in zip(families, counts, strict=True) if n]
        self.rules = torch.stack([family.rules for family in families])[fits.family].T

    def values(self, u: Tensor, *, slope: bool = False) -> Tensor:
        """Return each family's function, or its derivative, at its rows of u (fit, sample)."""
        parts = zip(self.families, u.split([n for _, n in self.families]), strict=True)
        found = [family.derivative(r) if slope else family.value(r) for (family, _), r in parts]
        return torch.cat(found)

    def residuals(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return u, the coordinates of g, their squared size, c, and the residual."""
        u = torch.addcmul(b[:, None], a[:, None], self.x)
        column = self.measure(self.values(u))
        size = column.square().sum(1).clamp(min=1e-30)
        c = (column * self.target).sum(1) / size
        return u, column, size, c, torch.addcmul(self.target, c[:, None], column, value=-1.0)

    def sse(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sum of squared residuals of each fit."""
        return _finite(self.residuals(a, b)[-1].square().sum(1))

    def equations(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sum of squares and the normal equations of a and b, (6, fit).

        In order: the sum, the entries aa, ab and bb of the matrix, and the right side.
        """
        u, column, size, c, residual = self.residuals(a, b)
        slope = self.values(u, slope=True)
        slope = torch.nan_to_num(slope, nan=0.0, posinf=_STEEP, neginf=-_STEEP) * c[:, None]
        one = self._free(slope * self.x, column, size) * self.rules[0][:, None]
        two = self._free(slope, column, size) * self.rules[1][:, None]
        pairs = ((residual, residual), (one, one), (one, two), (two, two))
        sums = [(p * q).sum(1) for p, q in (*pairs, (one, residual), (two, residual))]
        return torch.stack([_finite(sums[0]), *sums[1:]])

    def _free(self, values: Tensor, column: Tensor, size: Tensor) -> Tensor:
        """Remove from a column of the Jacobian what c and d can make."""
        found = self.measure(values)
        share = (found * column).sum(1) / size
        return torch.addcmul(found, share[:, None], column, value=-1.0)


def _finite(sums: Tensor) -> Tensor:
    return torch.nan_to_num(sums, nan=float("inf"))


def polish(
    families: Sequence[Family],
    samples: tuple[Tensor, Tensor],
    fits: Fits,
    *,
    steps: int,
    space: Tensor | None = None,
) -> tuple[Fits, Tensor]:
    """Run Levenberg-Marquardt on all fits at once."""
    if len(fits.a) == 0:
        return fits, fits.a
    problem = Problem(families, samples, fits, space)
    a, b = constrain(fits.a, fits.b, problem.rules)
    now, state = dataclasses.replace(fits, a=a, b=b), problem.equations(a, b)
    done = [a.clone(), b.clone(), state[0].clone()]
    active, damping = torch.arange(len(a)), torch.full_like(a, 1e-2)
    for _ in range(steps):
        check_time()
        a, b = _stepped(now, state, damping, problem.rules)
        trial = problem.equations(a, b)
        better, gain = trial[0] < state[0], state[0] - trial[0]
        slight = better & (gain < _SETTLED * state[0])
        finished = slight | (damping > _STEEP) | (trial[0] < _EXACT)
        damping = torch.where(better, damping * 0.2, damping * 6.0)
        a, b = torch.where(better, a, now.a), torch.where(better, b, now.b)
        now, state = dataclasses.replace(now, a=a, b=b), torch.where(better, trial, state)
        for out, value in zip(done, (a, b, state[0]), strict=True):
            out[active] = value
        keep = (~finished).nonzero()[:, 0]
        if len(keep) == 0:
            break
        if len(keep) < 0.8 * len(active):
            active, damping, now, state = (
                active[keep],
                damping[keep],
                now.pick(keep),
                state[:, keep],
            )
            problem = Problem(families, samples, now, space)
    return dataclasses.replace(fits, a=done[0], b=done[1]), done[2]


def _stepped(now: Fits, state: Tensor, damping: Tensor, rules: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b one damped step further."""
    _, p, q, s, left, right = state
    p, s = p * (1 + damping) + 1e-30, s * (1 + damping) + 1e-30
    determinant = (p * s - q * q).clamp(min=1e-60)
    a = now.a + (s * left - q * right) / determinant
    b = now.b + (p * right - q * left) / determinant
    return constrain(a, b, rules)
