"""What is known of one way to attribute."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to attribute, and what may be expected of it.

    Attributes
    ----------
    name : str
        What users call it; captum's methods begin with ``captum_``.
    function : callable
        Takes a Problem and options; returns Parts (local) or Scores (global).
    scope : {"local", "global"}
        One row per sample (`Attribution`), or one number per feature (`Importance`).
    exact : bool
        Whether the values are what the method defines up to rounding: no sampling, no quadrature.
    complete : bool
        Whether the values of a sample are made to add up to output - reference.
    needs_background : bool
        Whether it compares with background rows.
    random : bool
        Whether it draws random numbers on every model; "shapley" does so only where a game is too
        large for all else.
    gauge_invariant : bool
        Whether values stay when constants move between the edges of a sum: when the same function
        is written differently.
    reference : str
        Where the method was published.
    summary : str
        One line for people.
    """

    name: str
    function: Callable[..., Any]
    scope: Literal["local", "global"]
    exact: bool
    complete: bool
    needs_background: bool
    random: bool = False
    gauge_invariant: bool = True
    reference: str
    summary: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the keyword options that the method takes."""
        return tuple(inspect.signature(self.function).parameters)[1:]

    @property
    def of_nodes(self) -> bool:
        """Whether its values are those of the nodes of a level, which option `layer` names."""
        return "layer" in self.options
