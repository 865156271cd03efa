"""What a metric is: what it says, which way is better, what it takes and where it is from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kanlens.attribution.metrics.case import Case, Score

Direction = Literal["higher", "lower", "none"]
Need = Literal["exact", "model", "method", "retrain"]
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number about an attribution.

    Attributes
    ----------
    name : str
        Column of the comparison's frame.
    function : callable
        Takes a `Case`, returns a `Score`: NaN where what it needs is missing.
    direction : {"higher", "lower", "none"}
        What is better.
    cost : str
        What it takes beside the attribution.
    needs : frozenset of {"exact", "model", "method", "retrain"}
        Exact Shapley values; the model or its output; the method, to attribute other samples;
        models trained again.
    reference : str
        Where it was published; empty for what needs no source.
    summary : str
        One line for people.
    """

    name: str
    function: Callable[[Case], Score]
    direction: Direction
    cost: str = "none"
    needs: frozenset[Need] = frozenset()
    reference: str = ""
    summary: str

    @property
    def needs_exact(self) -> bool:
        """Whether it compares with exact Shapley values."""
        return "exact" in self.needs

    @property
    def arrow(self) -> str:
        """An arrow to where it is better, empty when neither way is.

        Examples
        --------
        >>> Metric(name="m", function=print, direction="lower", summary="").arrow
        '↓'
        """
        return ARROWS[self.direction]
