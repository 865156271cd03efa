"""Pictures of models and results; each function draws on one Axes and returns it."""

from kanlens.plotting.attributions import attribution
from kanlens.plotting.comparisons import comparison
from kanlens.plotting.curves import edge, edges
from kanlens.plotting.diagram import network
from kanlens.plotting.effects import effect
from kanlens.plotting.formulas import formula, predicted
from kanlens.plotting.paths import history, pruning
from kanlens.plotting.style import save, to_svg

__all__ = [
    "attribution",
    "comparison",
    "edge",
    "edges",
    "effect",
    "formula",
    "history",
    "network",
    "predicted",
    "pruning",
    "save",
    "to_svg",
]
