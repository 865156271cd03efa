"""A KAN that equals a formula: what is known of it without asking it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from benchmarks.attribution.writing import Sheet, write
from kanlens.model.network import KAN

__all__ = ["CHECKED", "Formula", "Planted"]

Formula: TypeAlias = Callable[[Tensor], Tensor]  # (batch, in) -> (batch,)
Kink: TypeAlias = tuple[dict[int, float], float]  # sum of weight * feature, and its value there
CHECKED = 2**12  # rows that model and formula are compared on


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A formula and the network it is written down as.

    Attributes
    ----------
    name, words : str
        What it is called, and the formula as people write it.
    formula : callable
        From x (batch, in) to (batch,), written without kanlens.
    sheets : tuple of Sheet
        The layers of the network.
    domain : tuple of (float, float)
        Ends of every feature, which is spread evenly between them.
    ties : dict of int to (int, float)
        Features that follow another one, with the correlation of the Gaussian copula of the two;
        1 makes them equal. The others are independent.
    kinks : tuple of (dict of int to float, float)
        Where the formula is not smooth: weighted sums of features, and their values there.
    null : tuple of int
        Features that change nothing.
    direction : tuple of int
        For every feature 1 where it never lowers the output inside the domain, -1 where it never
        raises it, 0 where it does both, or changes nothing.
    panels, points : int
        Panels into which a feature is divided between kinks, and points in each, by which the
        variance of the output is integrated.
    closed : callable, optional
        Returns Sobol's first and total indices of every feature by closed forms.
    """

    name: str
    words: str
    formula: Formula
    sheets: tuple[Sheet, ...]
    domain: tuple[tuple[float, float], ...]
    ties: dict[int, tuple[int, float]]
    kinks: tuple[Kink, ...] = ()
    null: tuple[int, ...] = ()
    direction: tuple[int, ...]
    panels: int = 1
    points: int = 24
    closed: Callable[[], tuple[list[float], list[float]]] | None = None

    @property
    def inputs(self) -> int:
        """Number of features."""
        return len(self.domain)

    @cached_property
    def model(self) -> KAN:
        """The network, in float64; nothing of it is trained or drawn."""
        return write(self.sheets)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:  # (rows, in)
        """Draw rows so that each feature has one value in every ``1 / rows`` of its range.

        Every feature is a Latin square of its own, or follows the one it is tied to. The means
        over few rows are thereby near those of the law.

        Parameters
        ----------
        rows : int
            Number of rows.
        generator : torch.Generator
            Draws them.

        Returns
        -------
        Tensor, shape (rows, in)

        Examples
        --------
        >>> from benchmarks.attribution.sample import CASES
        >>> CASES["additive"].draw(7, torch.Generator()).shape
        torch.Size([7, 5])
        """
        columns: list[Tensor] = []
        for feature in range(self.inputs):
            place = torch.randperm(rows, generator=generator)
            share = torch.rand(rows, generator=generator, dtype=torch.float64)
            own = (place + share) / rows
            if feature in self.ties:
                leader, together = self.ties[feature]
                rest = (1 - together**2) ** 0.5
                normal = together * torch.special.ndtri(columns[leader])
                own = torch.special.ndtr(normal + rest * torch.special.ndtri(own))
                own = columns[leader] if together == 1 else own
            columns.append(own)
        low, high = torch.tensor(self.domain, dtype=torch.float64).unbind(1)
        return low + (high - low) * torch.stack(columns, 1)

    def spline_error(self, generator: torch.Generator) -> float:
        """Return the largest |network - formula| over many rows of the domain, corners among them.

        Features are independent here even where the law ties them.
        """
        share = torch.rand(CHECKED, self.inputs, generator=generator, dtype=torch.float64)
        corners = torch.rand(CHECKED, self.inputs, generator=generator, dtype=torch.float64).round()
        low, high = torch.tensor(self.domain, dtype=torch.float64).unbind(1)
        x = low + (high - low) * torch.cat([share, corners])
        with torch.no_grad():
            return float((self.model(x)[:, 0] - self.formula(x)).abs().max())
