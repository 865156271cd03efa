"""The degree + 1 basis functions that are not zero at a point, differentiable in the point.

Everything here has inputs first, (in, batch): one input's points lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.splines import _spline as spline


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of splines between their knots, in float64.

    Splines that run out on the knots beyond the grid have cells there, too. So that every cell has
    degree + 1 functions, there are `padding` more, without coefficients, at either end.
    """

    knots: Tensor  # (in, cell + 2 * degree + 1), `degree` of them beyond the first and last cell
    degree: int
    padding: int
    slopes: tuple[Tensor, Tensor] | None  # (in, degree + 1) of both end cells; None: run out

    @classmethod
    def of(cls, knots: Tensor, degree: int, extrapolation: spline.Extrapolation) -> Cells:
        """Return the cells of splines on knots (in, knot)."""
        knots = knots.double()
        if extrapolation == "zero":
            beyond = spline.extend(knots, degree)
            return cls(knots=beyond, degree=degree, padding=degree, slopes=None)
        below, above = spline.end_slopes(knots, degree)
        ends = below[:, : degree + 1], above[:, -degree - 1 :]
        return cls(knots=knots, degree=degree, padding=0, slopes=ends)

    @property
    def count(self) -> int:
        """Number of cells of one input."""
        return self.knots.shape[1] - 2 * self.degree - 1

    @property
    def cuts(self) -> Tensor:
        """Return the ends of the cells, shape (in, cell + 1)."""
        return spline.breakpoints(self.knots, self.degree)

    def evaluate(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the cell of every point of x (in, batch), and its nonzero functions.

        Function r of cell j is basis function j + r, the padding counted. Uses de Boor's
        recursion over the nonzero functions [1]_. NaN gives NaN.

        References
        ----------
        .. [1] C. de Boor, A Practical Guide to Splines, 1978, chapter X.
        """
        low, high = self.cuts[:, :1], self.cuts[:, -1:]
        inside = x.clamp(low, high)
        inner = self.cuts[:, 1:-1].contiguous()
        cell = torch.searchsorted(inner, inside.detach().contiguous(), right=True)
        values = self._recursion(inside, cell)
        beyond = x - inside
        if not bool(((beyond < 0) | (beyond > 0)).any()):
            return cell, values
        if self.slopes is None:
            return cell, [value.masked_fill((x < low) | (x > high), 0.0) for value in values]
        left, right = beyond.clamp(max=0), beyond.clamp(min=0)
        below, above = (ends.unsqueeze(-1).unbind(1) for ends in self.slopes)
        ends = zip(values, below, above, strict=True)
        return cell, [value + left * a + right * b for value, a, b in ends]

    def _recursion(self, x: Tensor, cell: Tensor) -> list[Tensor]:
        at = [self.knots.gather(1, cell + step) for step in range(1, 2 * self.degree + 1)]
        values = [torch.ones_like(x)]
        for p in range(1, self.degree + 1):
            grown, rest = [], torch.zeros_like(x)
            for r, value in enumerate(values):
                lower, upper = at[self.degree + r - p], at[self.degree + r]
                share = value / (upper - lower)
                grown.append(rest + (upper - x) * share)
                rest = (x - lower) * share
            values = [*grown, rest]
        return values
