"""Pictures of models and results; each function returns its Axes."""

from kanlens.plotting.attributions import attribution
from kanlens.plotting.certificate import certificate
from kanlens.plotting.comparisons import comparison
from kanlens.plotting.curves import edge, edges
from kanlens.plotting.diagram import network
from kanlens.plotting.effects import effect
from kanlens.plotting.formulas import formula, predicted
from kanlens.plotting.paths import history, path, pruning
from kanlens.plotting.style import save, to_svg

__all__ = [
    "attribution",
    "certificate",
    "comparison",
    "edge",
    "edges",
    "effect",
    "formula",
    "history",
    "network",
    "path",
    "predicted",
    "pruning",
    "save",
    "to_svg",
]
