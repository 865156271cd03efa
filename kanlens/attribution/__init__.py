"""Which feature did what in each prediction, and how far that statement can be trusted."""

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
    "METHODS": "registry",
    "Attribution": "result",
    "Comparison": "comparison",
    "Effect": "effects",
    "Importance": "result",
    "Method": "registry",
    "attribute": "dispatch",
    "compare": "comparison",
    "edge_band": "edge_bands",
    "effect": "effects",
    "importance": "dispatch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
