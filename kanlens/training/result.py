"""What `fit` returns."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kanlens.model.network import KAN

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult:
    """A trained model and how it came about.

    Attributes
    ----------
    model : KAN
        The model that was given, in its best state.
    history : tuple of dict
        One record per step: step, loss (of the scaled target, without penalty), penalty,
        validation_loss, metric (R2 or accuracy on the held-out rows, else on the training rows),
        grid_error.
    stopped_because : str
        Why training ended, in words.
    best_step : int
        The step whose state the model has.
    loss, validation_loss : float
        At that step; the latter is NaN without held-out rows.
    metric_name : str
        "R2" or "accuracy".
    metric : float
        At that step; NaN when it is not defined (R2 of a target that does not vary).
    held_out : Tensor, shape (n,)
        Indices of the rows kept out of training.
    seconds : float
        Time taken.
    """

    model: KAN
    history: tuple[dict[str, float], ...]
    stopped_because: str
    best_step: int
    loss: float
    validation_loss: float
    metric_name: str
    metric: float
    held_out: Tensor
    seconds: float

    def to_frame(self) -> pd.DataFrame:
        """Return the history, one row per step."""
        import pandas as pd

        return pd.DataFrame(list(self.history))

    def to_json(self) -> str:
        """Return all but the model as JSON; what is not finite becomes null."""
        data: dict[str, Any] = {
            "history": [{k: _number(v) for k, v in record.items()} for record in self.history],
            "stopped_because": self.stopped_because,
            "best_step": self.best_step,
            "loss": _number(self.loss),
            "validation_loss": _number(self.validation_loss),
            "metric_name": self.metric_name,
            "metric": _number(self.metric),
            "held_out": self.held_out.tolist(),
            "seconds": self.seconds,
        }
        return json.dumps(data, allow_nan=False)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
