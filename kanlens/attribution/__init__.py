"""Feature attributions of each prediction, and their errors."""

from kanlens.attribution._attribute import METHODS, attribute, importance
from kanlens.attribution._compare import Comparison, compare
from kanlens.attribution._edge_bands import edge_band
from kanlens.attribution._effects import Effect, effect
from kanlens.attribution._problem import Method
from kanlens.attribution._result import Attribution, Importance
from kanlens.attribution._terms import Terms, terms

__all__ = [
    "METHODS",
    "Attribution",
    "Comparison",
    "Effect",
    "Importance",
    "Method",
    "Terms",
    "attribute",
    "compare",
    "edge_band",
    "effect",
    "importance",
    "terms",
]
