"""Predictions of a trained model on a table, and their score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.encoding import codes_of_model, prepare_target
from kanlens.errors import DataError
from kanlens.model.network import KAN
from kanlens.training.objective import classes, metric_name, score

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.data.tables import Table
    from kanlens.model.network import Rows

NAMED = 5  # features outside the training data that are named


@torch.no_grad()
def predictions(model: KAN, x: Rows) -> pd.DataFrame:
    """Predict every row of x (batch, in), in the units of the data.

    For regression there is one column per output, in the units of the data. For classification
    there are the label of the likeliest class in a column named as the target, and one column
    ``probability <label>`` per class.
    """
    import pandas as pd

    output = model(model.prepare(x, call="predict"))
    if model.task == "regression":
        return pd.DataFrame(output.cpu().numpy(), columns=list(model.output_names))
    if output.shape[1] == 1:
        high = torch.sigmoid(output[:, 0])
        probabilities = torch.stack([1 - high, high], dim=1)
    else:
        probabilities = output.softmax(1)
    labels = [model.class_labels[code] for code in classes(output).tolist()]
    frame = pd.DataFrame({model.schema.target or "class": labels})
    for code, label in enumerate(model.class_labels):
        frame[f"probability {label}"] = probabilities[:, code].cpu().numpy()
    return frame


@torch.no_grad()
def outside_words(model: KAN, x: Tensor) -> str:
    """Say how many rows of x (batch, in) lie outside what a model knows, and in which features."""
    outside = model.outside(x.to(model.input_shift))
    if not bool(outside.any()):
        return ""
    counts = sorted(
        zip(outside.sum(0).tolist(), model.feature_names, strict=True), key=lambda one: -one[0]
    )
    named = [f"{name}: {count}" for count, name in counts if count]
    more = f", and {len(named) - NAMED} more features" if len(named) > NAMED else ""
    held = bool(model.input_low.isfinite().any())
    becomes = "each value is held at the nearest end of its range" if held else "functions go on"
    place = "the bulk of the training data" if held else "the grid"
    rows = f"{int(outside.any(1).sum())} of {len(x)} rows outside {place}"
    return f"{rows} ({', '.join(named[:NAMED])}{more}), where {becomes}"


@torch.no_grad()
def judge(model: KAN, table: Table) -> dict[str, float]:
    """Return the metric of a model on a table with targets, by its name (R2 or accuracy).

    A pruned model finds its features in the table by name.
    """
    if table.y is None:
        raise DataError("judge: expected a table with the target, got none. Add its column.")
    output = model(table.keep(model.feature_names).x.to(model.input_shift))
    target = prepare_target(model, _target(model, table, table.y), table.rows, call="judge")
    return {metric_name(model): score(model, output, target)}


def _target(model: KAN, table: Table, y: Tensor) -> Tensor:
    """Return the targets of a table, encoded as the model's."""
    if model.task == "classification" and model.class_labels:
        return codes_of_model(model, table.schema, y, call="judge")
    if model.task != table.schema.task:
        got = f"a target for {table.schema.task}"
        advice = f"Read the table with task={model.task!r}"
        raise DataError(message("judge", f"a target for {model.task}", got, advice))
    return y
