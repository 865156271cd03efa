"""Formulas of networks: functions on edges, composition, simplification."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanlens.symbolic._notation import formula_text, parse_formula
    from kanlens.symbolic._result import SymbolicResult
    from kanlens.symbolic._symbolize import suggest, symbolize

__all__ = ["SymbolicResult", "formula_text", "parse_formula", "suggest", "symbolize"]

_HOME = {
    "SymbolicResult": "_result",
    "formula_text": "_notation",
    "parse_formula": "_notation",
    "suggest": "_symbolize",
    "symbolize": "_symbolize",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
