"""Feature attributions of each prediction, and their errors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanlens.attribution.comparison import Comparison, compare
    from kanlens.attribution.dispatch import attribute, importance
    from kanlens.attribution.edge_bands import edge_band
    from kanlens.attribution.effects import Effect, effect
    from kanlens.attribution.registry import METHODS, Method
    from kanlens.attribution.result import Attribution, Importance

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
        "comparison": "Comparison compare",
        "dispatch": "attribute importance",
        "edge_bands": "edge_band",
        "effects": "Effect effect",
        "registry": "METHODS Method",
        "result": "Attribution Importance",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
