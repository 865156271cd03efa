"""Formulas of networks: functions on edges, composition, simplification."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanlens.symbolic.notation import formula_text, parse_formula
    from kanlens.symbolic.pipeline import suggest, symbolize
    from kanlens.symbolic.result import SymbolicResult

__all__ = ["SymbolicResult", "formula_text", "parse_formula", "suggest", "symbolize"]

_HOME = {
    "SymbolicResult": "result",
    "formula_text": "notation",
    "parse_formula": "notation",
    "suggest": "pipeline",
    "symbolize": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
