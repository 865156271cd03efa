"""The degree + 1 basis functions that are not zero at a point, and nothing else.

Everything here has inputs first, (in, batch): one input's points lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.model.layers import KANLinear
from kanlens.splines import spline

__all__ = ["Cells"]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Where the pieces of a layer's splines lie, in float64.

    Where splines run out on the knots beyond the grid, these knots bound cells of their own. To
    have degree + 1 functions in every cell, `degree` functions more are counted before the first
    and after the last; no edge has a coefficient for them.

    Attributes
    ----------
    knots : Tensor, shape (in, cell + 2 * degree + 1)
        Knots, with `degree` of them beyond the first and the last cell.
    degree : int
        Degree of the splines.
    padding : int
        Functions counted before the first of the layer, and after its last.
    slopes : tuple of Tensor, shapes (in, degree + 1), or None
        Slopes of the first and of the last cell's functions at the grid's ends, where splines go
        on straight; None where they run out.
    """

    knots: Tensor
    degree: int
    padding: int
    slopes: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, layer: KANLinear) -> Cells:
        """Return the cells of a layer.

        Examples
        --------
        >>> Cells.of(KANLinear(2, 1, grid_size=5)).count
        5
        """
        knots, degree = layer.grid.double(), layer.spline_order
        if layer.mode == "zero":
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
        """Return the cell of every point, and the functions that live there.

        Function r of cell j is basis function j + r, the padding counted. Uses de Boor's
        recursion over the living functions [1]_.

        Parameters
        ----------
        x : Tensor, shape (in, batch)
            NaN gives NaN.

        Returns
        -------
        cell : Tensor, shape (in, batch)
        values : list of Tensor, each of shape (in, batch)
            Differentiable in x.

        References
        ----------
        .. [1] C. de Boor, A Practical Guide to Splines, 1978, chapter X.

        Examples
        --------
        >>> cell, values = Cells.of(KANLinear(1, 1)).evaluate(torch.tensor([[0.3]]).double())
        >>> len(values), round(sum(v.item() for v in values), 12)
        (4, 1.0)
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
