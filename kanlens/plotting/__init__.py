"""Pictures of models and results; each function returns its Axes."""

from kanlens.plotting._attributions import attribution
from kanlens.plotting._curves import edge, edges
from kanlens.plotting._diagram import network
from kanlens.plotting._effects import effect
from kanlens.plotting._feature_rows import certificate, comparison
from kanlens.plotting._formulas import formula, predicted
from kanlens.plotting._frontier import frontier
from kanlens.plotting._paths import edits, history, path, pruning
from kanlens.plotting._style import save, to_svg
from kanlens.plotting._terms import terms

__all__ = [
    "attribution",
    "certificate",
    "comparison",
    "edge",
    "edges",
    "edits",
    "effect",
    "formula",
    "frontier",
    "history",
    "network",
    "path",
    "predicted",
    "pruning",
    "save",
    "terms",
    "to_svg",
]
