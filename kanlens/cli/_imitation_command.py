"""The command imitate: a small network that follows a model of another library."""

from __future__ import annotations

from pathlib import Path

import kanlens
from kanlens.cli._command import command
from kanlens.cli._console import Generator, Terminal
from kanlens.cli._options import split_names


@command(
    example="kanlens imitate forest.onnx data.csv --target price -o small.safetensors",
    model="The model to follow, an .onnx file.",
    target="Column that the model predicts, which is not a feature.  [default: none]",
    class_labels="Classes, comma-separated, in the order of the model's probabilities.",
    max_edges="Edges of the network, at most; levels of a category count once.",
    time_limit="Seconds after which no more terms are added.",
)
def imitate(
    model: Path,
    data: Path,
    *,
    target: str | None = None,
    output: Path = Path("model.safetensors"),
    features: str | None = None,
    drop: str | None = None,
    categorical: str | None = None,
    impute: str | None = None,
    na: str | None = None,
    decimal: str | None = None,
    class_labels: str | None = None,
    max_edges: int = 30,
    time_limit: float | None = None,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Grow a small network that follows another model; print where it does, and where not."""
    from kanlens.cli._model_data import held, open_columns

    terminal.check([model, data], model=output)
    columns = {"features": features, "drop": drop, "categorical": categorical, "na": na}
    table = open_columns(data, target, columns, impute=impute, decimal=decimal)
    imitation = kanlens.imitate(
        model,
        held(table, terminal.call),
        max_edges=max_edges,
        class_labels=split_names(class_labels) or None,
        time_limit=time_limit,
        progress=terminal.progress,
        generator=generator,
    )
    terminal.write(imitation.model, output)
    for line in imitation.receipt.summary().splitlines():
        terminal.text(line)
    terminal.frame("where it follows least", imitation.worst)
    facts = {"model": str(terminal.place(output)), "teacher": imitation.teacher}
    names = ("edges", "fidelity", "beyond", "agreement", "interrupted")
    facts |= {name: getattr(imitation, name) for name in names}
    if imitation.receipt.worst_output is not None:
        facts["worst_output"] = imitation.receipt.worst_output
    worst = imitation.worst.to_dict("records")
    terminal.facts("imitation", facts, trustworthy=imitation.receipt.trustworthy, worst=worst)
