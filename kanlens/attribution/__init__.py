"""Feature attributions of each prediction, and their errors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanlens.attribution._attribute import attribute, importance
    from kanlens.attribution._compare import Comparison, compare
    from kanlens.attribution._edge_bands import edge_band
    from kanlens.attribution._effects import Effect, effect
    from kanlens.attribution._registry import METHODS, Method
    from kanlens.attribution._result import Attribution, Importance

__all__ = [
    "METHODS",
    "Attribution",
    "Comparison",
    "Effect",
    "Importance",
    "Method",
    "attribute",
    "compare",
    "edge_band",
    "effect",
    "importance",
]
_HOMES = {
    name: module
    for module, names in {
        "_compare": "Comparison compare",
        "_attribute": "attribute importance",
        "_edge_bands": "edge_band",
        "_effects": "Effect effect",
        "_registry": "METHODS Method",
        "_result": "Attribution Importance",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
