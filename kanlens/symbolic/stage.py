"""One step in the making of a formula."""

from __future__ import annotations

from dataclasses import dataclass

from kanlens.symbolic.composition import Expr


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """The formulas of all outputs at one step of their making.

    Attributes
    ----------
    name : str
        What was done last, e.g. "fitted", "refined", "snapped", "2 terms dropped".
    expressions : tuple of sympy.Expr
        One per output, in symbols that carry the feature names.
    losses : tuple of float
        Mean squared error of each over the variance of its target.
    partial : bool
        Whether splines stand where functions were accepted: a step on the way, which no rule
        picks.
    snapped : tuple of tuple of str
        The exact constants put into each; empty for none.
    snap_costs : tuple of tuple of float
        By how much each of them raised the loss.
    """

    name: str
    expressions: tuple[Expr, ...]
    losses: tuple[float, ...]
    partial: bool = False
    snapped: tuple[tuple[str, ...], ...] = ()
    snap_costs: tuple[tuple[float, ...], ...] = ()
