"""Predictions of a trained model on a table, and their score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanlens.encoding import encode_labelled
from kanlens.model.network import KAN
from kanlens.training.objective import classes, metric_name

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


class ScoreSums:
    """R2 or accuracy over rows that come in parts, as `kanlens.training.objective.score` has it.

    Means and squares about them are merged as in Chan et al., Updating formulae, 1979.
    """

    def __init__(self, model: KAN) -> None:
        self.model, self.rows = model, 0
        zeros = model.output_scale.double() * 0
        self.mean, self.squares, self.errors, self.right = zeros, zeros, zeros, 0
        self.largest = zeros

    @torch.no_grad()
    def add(self, table: Table) -> None:
        """Take in some rows of a table with targets."""
        x, y = encode_labelled(self.model, table, call="judge")
        output, before, self.rows = self.model(x), self.rows, self.rows + len(x)
        if self.model.task == "classification":
            self.right += int((classes(output) == y).sum())
            return
        scale = self.model.output_scale.double()  # squares must not underflow
        y, output = y.double() / scale, output.double() / scale
        shift = y.mean(0) - self.mean
        self.mean = self.mean + shift * len(y) / self.rows
        self.squares = self.squares + (y - y.mean(0)).square().sum(0)
        self.squares = self.squares + shift.square() * before * len(y) / self.rows
        self.errors = self.errors + (output - y).square().sum(0)
        self.largest = torch.maximum(self.largest, y.abs().amax(0))

    def score(self) -> dict[str, float]:
        """Return the metric by its name; R2 is the mean over the outputs that vary."""
        if self.model.task == "classification":
            return {metric_name(self.model): self.right / self.rows}
        rounding = torch.finfo(self.model.dtype).eps * self.largest
        varies = (self.squares / self.rows).sqrt() > rounding
        return {metric_name(self.model): float((1 - self.errors / self.squares)[varies].mean())}


def judge(model: KAN, table: Table) -> dict[str, float]:
    """Return the metric of a model on a table with targets, by its name (R2 or accuracy).

    A pruned model finds its features in the table by name.
    """
    sums = ScoreSums(model)
    for part in table.batches():
        sums.add(part)
    return sums.score()
