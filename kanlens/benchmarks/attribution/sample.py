"""Rows of a planted network with the truth about them, computed once for all methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from kanlens.attribution.problem import MEAN_OUTPUT, MEAN_ROW, ZERO
from kanlens.benchmarks.attribution import truths
from kanlens.benchmarks.attribution.cases import CASES
from kanlens.benchmarks.attribution.planted import Planted

__all__ = ["SEED", "Sample", "draw_sample"]

SEED = 0  # of rows, and of methods that draw


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Samples and background of a planted network.

    Attributes
    ----------
    case : Planted
        The network.
    x, background : Tensor, shape (rows, in)
        What is explained, and what it is compared with.
    """

    case: Planted
    x: Tensor
    background: Tensor

    @cached_property
    def spline_error(self) -> float:
        """Largest |network - formula| over the domain."""
        return self.case.spline_error(torch.Generator().manual_seed(SEED))

    @cached_property
    def by_baseline(self) -> dict[str, Tensor]:
        """Rows that stand for absent features, by what a result calls its baseline."""
        zero = torch.zeros(1, self.case.inputs, dtype=torch.float64)
        mean = self.background.mean(0, keepdim=True)
        return {MEAN_OUTPUT: self.background, MEAN_ROW: mean, ZERO: zero}

    @cache  # noqa: B019 - samples are few and live as long as the process
    def shapley(self, baseline: str) -> Tensor:
        """Return the formula's Shapley values (rows, in) counted from a baseline."""
        return truths.shapley(self.case.formula, self.x, self.by_baseline[baseline])

    @cache  # noqa: B019
    def integrated_gradients(self, baseline: str) -> Tensor:
        """Return the formula's integrated gradients (rows, in) counted from a baseline."""
        case = self.case
        rows = self.by_baseline[baseline]
        return truths.integrated_gradients(case.formula, self.x, rows, case.kinks)

    @cache  # noqa: B019
    def interactions(self, baseline: str) -> Tensor:
        """Return the formula's interactions (rows, in, in) counted from a baseline."""
        return truths.interactions(self.case.formula, self.x, self.by_baseline[baseline])


@cache
def draw_sample(name: str, rows: int, background: int) -> Sample:
    """Draw samples and background of a planted network, always the same.

    Examples
    --------
    >>> draw_sample("bilinear", 3, 5).x.shape
    torch.Size([3, 4])
    """
    case, generator = CASES[name], torch.Generator().manual_seed(SEED)
    x = case.draw(rows, generator)
    return Sample(case=case, x=x, background=case.draw(background, generator))
