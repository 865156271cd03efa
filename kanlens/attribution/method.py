"""How a method of attribution is registered, and what is known of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
Scope = Literal["local", "global"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to attribute, and what may be expected of it.

    Attributes
    ----------
    name : str
        What users call it; captum's methods begin with ``captum_``.
    function : callable
        Takes a Problem and options; returns LocalValues or GlobalScores.
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
    together : bool
        Whether one result speaks of all samples at once: the same sample among others may get
        another tolerance, solver or remark.
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
    scope: Scope = "local"
    exact: bool
    complete: bool
    needs_background: bool = True
    random: bool = False
    together: bool = False
    gauge_invariant: bool = True
    reference: str
    summary: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the keyword options that the method takes."""
        return tuple(inspect.signature(self.function).parameters)[1:]

    @property
    def by_row(self) -> bool:
        """Whether samples may be explained some at a time, with the same result."""
        return self.scope == "local" and not (self.random or self.together)

    @property
    def of_nodes(self) -> bool:
        """Whether its values are those of the nodes of a level, which option `layer` names."""
        return "layer" in self.options


_REGISTERED: dict[Callable[..., Any], Method] = {}


def method(*, reference: str = "", **facts: Any) -> Callable[[Function], Function]:
    """Register a function as the method of its name, with other facts of `Method`.

    Its docstring has the summary and, unless one is given, the reference.
    """

    def register(function: Function) -> Function:
        _REGISTERED[function] = Method(
            name=function.__name__,
            function=function,
            reference=reference or cited(function),
            summary=headline(function),
            **facts,
        )
        return function

    return register


def methods_of(*known: Callable[..., Any] | Method) -> dict[str, Method]:
    """Return methods, and those that functions were registered as, by name."""
    found = [one if isinstance(one, Method) else _REGISTERED[one] for one in known]
    return {one.name: one for one in found}


def headline(function: Callable[..., Any]) -> str:
    """Return the first line of a docstring without its period."""
    return (inspect.getdoc(function) or "").partition("\n")[0].removesuffix(".")


def cited(function: Callable[..., Any]) -> str:
    """Return the numbered references of a docstring, on one line."""
    _, _, section = (inspect.getdoc(function) or "").partition("References\n----------\n")
    entries = re.split(r"\.\. \[\d+\] ", section.partition("\n\n")[0])[1:]
    return "; ".join(" ".join(entry.split()).removesuffix(".") for entry in entries)
