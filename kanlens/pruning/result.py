"""What `prune` returns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kanlens.core.network import KAN

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PruneResult"]

COLUMNS = (
    "step",
    "layer",
    "out",
    "in",
    "name",
    "score",
    "relative_score",
    "reason",
    "loss_before",
    "loss_after",
    "edges_left",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class PruneResult:
    """A smaller model, and what was taken away.

    Attributes
    ----------
    model : KAN
        A new model; the one that was given is as it was.
    removed : tuple of dict
        One record per removed edge, in the order of removal: step, layer, out, in, name, score,
        relative_score (to the layer's largest), reason ("score", or "dead end" and "constant
        node" for edges that no longer do anything), loss_before, loss_after, edges_left. Indices
        and names are those of the model that was given.
    loss_before, loss_after : float
        Of the whole model: the training loss against y, or without y the mean squared change of
        the output over its variance.
    edges_before, edges_after : int
        Edges alive.
    dropped_features : tuple of str
        Features that lost their last edge.
    constant_outputs : tuple of str
        Outputs that no longer depend on any feature.
    score : str
        The score that edges were ordered by.
    """

    model: KAN
    removed: tuple[dict[str, Any], ...]
    loss_before: float
    loss_after: float
    edges_before: int
    edges_after: int
    dropped_features: tuple[str, ...]
    constant_outputs: tuple[str, ...] = ()
    score: str

    def to_frame(self) -> pd.DataFrame:
        """Return one row per removed edge."""
        import pandas as pd

        return pd.DataFrame(list(self.removed), columns=list(COLUMNS))

    def to_json(self) -> str:
        """Return all but the model as JSON."""
        data = {
            "removed": list(self.removed),
            "loss_before": self.loss_before,
            "loss_after": self.loss_after,
            "edges_before": self.edges_before,
            "edges_after": self.edges_after,
            "dropped_features": list(self.dropped_features),
            "constant_outputs": list(self.constant_outputs),
            "score": self.score,
        }
        return json.dumps(data)
