"""Registration of attribution methods, and their properties."""

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
    """An attribution method and its properties.

    Attributes
    ----------
    name : str
        Key into ``METHODS``; captum's methods begin with ``captum_``.
    function : callable
        Takes a Problem and options; returns LocalValues or GlobalScores.
    scope : {"local", "global"}
        One row per sample (`Attribution`), or one number per feature (`Importance`).
    exact : bool
        Whether values are those of the definition up to rounding: no sampling, no quadrature.
    complete : bool
        Whether the values of a sample add up to output - reference by design.
    needs_background : bool
        Whether it compares with background rows.
    random : bool
        Whether it always draws random numbers; "shapley" does so only for the largest games.
    together : bool
        Whether the tolerance, solver or remark of a sample may depend on the other samples.
    gauge_invariant : bool
        Whether values stay when constants move between the edges of a sum.
    reference : str
        Publication.
    summary : str
        One line.
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
        """True if the samples can be explained in parts with the same result."""
        return self.scope == "local" and not (self.random or self.together)

    @property
    def of_nodes(self) -> bool:
        """True if values belong to the nodes of a level, which the option `layer` selects."""
        return "layer" in self.options


_REGISTERED: dict[Callable[..., Any], Method] = {}


def method(*, reference: str = "", **facts: Any) -> Callable[[Function], Function]:
    """Register a function; its docstring has the summary and the reference."""

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


def methods_of(*items: Callable[..., Any] | Method) -> dict[str, Method]:
    """Return methods by name, given as methods or registered functions."""
    methods = [item if isinstance(item, Method) else _REGISTERED[item] for item in items]
    return {method.name: method for method in methods}


def headline(function: Callable[..., Any]) -> str:
    """Return the first line of a docstring without its period."""
    return (inspect.getdoc(function) or "").partition("\n")[0].removesuffix(".")


def cited(function: Callable[..., Any]) -> str:
    """Return the numbered references of a docstring, on one line."""
    _, _, section = (inspect.getdoc(function) or "").partition("References\n----------\n")
    entries = re.split(r"\.\. \[\d+\] ", section.partition("\n\n")[0])[1:]
    return "; ".join(" ".join(entry.split()).removesuffix(".") for entry in entries)
