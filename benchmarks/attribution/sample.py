"""Rows of a planted network with the truth about them, computed once for all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from benchmarks.attribution import truths
from benchmarks.attribution.classics import CLASSICS
from benchmarks.attribution.planted import Planted
from benchmarks.attribution.traps import TRAPS
from kanlens.attribution.problem import Baseline

__all__ = ["CASES", "SEED", "Sample", "draw_sample"]

CASES: dict[str, Planted] = {case.name: case for case in (*CLASSICS, *TRAPS)}
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
        return {Baseline.MEAN_OUTPUT: self.background, Baseline.MEAN_ROW: mean, Baseline.ZERO: zero}

    @cached_property
    def _known(self) -> dict[tuple[str, str], Tensor]:
        """What was computed before, by what it is and its baseline."""
        return {}

    def _once(self, what: str, baseline: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a truth counted from a baseline; compute it from its rows the first time."""
        key = what, baseline
        if key not in self._known:
            self._known[key] = make(self.by_baseline[baseline])
        return self._known[key]

    def shapley(self, baseline: str) -> Tensor:
        """Return the formula's Shapley values (rows, in) counted from a baseline."""
        formula = self.case.formula
        return self._once("values", baseline, lambda rows: truths.shapley(formula, self.x, rows))

    def integrated_gradients(self, baseline: str) -> Tensor:
        """Return the formula's integrated gradients (rows, in) counted from a baseline."""
        formula, kinks = self.case.formula, self.case.kinks
        return self._once(
            "paths",
            baseline,
            lambda rows: truths.integrated_gradients(formula, self.x, rows, kinks),
        )

    def interactions(self, baseline: str) -> Tensor:
        """Return the formula's interactions (rows, in, in) counted from a baseline."""
        formula = self.case.formula
        return self._once(
            "pairs", baseline, lambda rows: truths.interactions(formula, self.x, rows)
        )


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
