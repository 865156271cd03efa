"""The commands predict and calibrate: predictions of rows, with intervals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanlens
from kanlens._lazy import pd
from kanlens._runtime import progress_bar
from kanlens.cli._command import command
from kanlens.cli._console import Terminal
from kanlens.cli._options import number

if TYPE_CHECKING:
    from kanlens import KAN, Table


@command(
    example="kanlens predict model.safetensors new.csv --interval 0.9 -o predictions.csv",
    output="Table to write.",
    interval="Share of new rows that the interval of each prediction, or its set of classes, "
    "covers, such as 0.9.",
    by="Categorical column; intervals then cover the share in each of its categories.",
    times="Times of survival probabilities (loss cox), comma-separated.",
    support="Name the features and pairs of features of each row outside the training data.",
)
def predict(
    model: Path,
    data: Path,
    *,
    column: str | None = None,
    interval: float | None = None,
    by: str | None = None,
    support: bool = False,
    times: str | None = None,
    output: Path = Path("predictions.csv"),
    terminal: Terminal,
) -> None:
    """Predict every row of a table; with a target, print the score too."""
    from kanlens.cli._model_data import open_rows
    from kanlens.training._objective import OUTSIDE, ScoreSums

    terminal.check([model, data], table=output)
    kan = kanlens.load(model)
    rows = open_rows(data, kan, column, terminal, without="predictions have no score")
    way: dict[str, Any] = {"interval": interval, "by": by, "times": number("--times", times)}
    sums, covered, outside = ScoreSums(kan), list[float](), list[int]()

    def predicted(table: Table) -> pd.DataFrame:
        frame = kanlens.predict(kan, table.x, support=support, **way)
        ends = frame.drop(columns=OUTSIDE) if support else frame
        outside.append(int((frame[OUTSIDE] != "").sum()) if support else 0)
        if table.y is not None:
            sums.add(table)
            covered.append(_covered(kan, ends, table) if interval else 0.0)
        advance(table.rows)
        return frame

    with progress_bar("rows", rows.rows, shown=terminal.progress) as advance:
        terminal.write(map(predicted, rows.batches()), output)
    facts: dict[str, Any] = {"predictions": str(output), "rows": rows.rows}
    if sums.rows == rows.rows:
        facts.update(sums.score())
        if math.isnan(facts.get("R2", 0.0)):  # a single row, or equal targets
            del facts["R2"]
            facts["rms_error"] = ((sums.errors / sums.rows).sqrt() * kan.output_scale).tolist()
        if interval:
            facts["covered"] = sum(covered) / sums.rows
    if support:
        facts["outside"] = sum(outside)
    terminal.facts("predicted", facts)


def _covered(model: KAN, frame: pd.DataFrame, table: Table) -> float:
    """Return how many targets lie in their intervals (mean over outputs) or sets of classes."""
    from kanlens._model_inputs import encode_labelled

    _, y = encode_labelled(model, table, call="predict")
    values = frame.to_numpy()
    if model.task == "classification":
        return float(values[:, -len(model.class_labels) :][range(len(y)), y.cpu()].sum())
    start = -2 if model.loss.levels else 1
    low, high, true = values[:, start::3], values[:, start + 1 :: 3], y.cpu().numpy()
    return float(((low <= true) & (true <= high)).mean(1).sum())


@command(
    example="kanlens calibrate model.safetensors new.csv -o calibrated.safetensors",
    output="Model to write.",
    probabilities="Scale and shift the logits of a classifier to minimize the log loss on DATA.",
)
def calibrate(
    model: Path,
    data: Path,
    *,
    column: str | None = None,
    probabilities: bool = False,
    output: Path = Path("calibrated.safetensors"),
    terminal: Terminal,
) -> None:
    """Calibrate intervals, or sets of classes, on rows that training did not see."""
    from kanlens.cli._model_data import read_rows

    terminal.check([model, data], model=output)
    kan = kanlens.load(model)
    table = read_rows(data, kan, column, terminal, without="intervals need targets")
    kanlens.calibrate(kan, table, probabilities=probabilities)
    terminal.write(kan, output)
    terminal.facts("calibrated", {"model": str(terminal.place(output)), "rows": table.rows})
