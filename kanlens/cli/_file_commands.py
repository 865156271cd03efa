"""Commands about model files: info and import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kanlens
from kanlens._files import read_frame
from kanlens.cli._command import command
from kanlens.cli._console import Terminal
from kanlens.cli._options import set_options, split_names


@command(example="kanlens info model.safetensors")
def info(model: Path, *, terminal: Terminal) -> None:
    """Describe a model: shape, nonzero edges, grid, features, origin."""
    import pandas as pd

    from kanlens.io._tensor_files import read_metadata
    from kanlens.model._network import describe

    facts = describe(kanlens.load(model))
    metadata = read_metadata(model, call="info")
    facts["written_by"] = f"kanlens {metadata.get('kanlens_version', 'of an unknown version')}"
    facts["format_version"] = metadata["format_version"]
    features = facts.pop("features")
    terminal.facts(model.name, facts, features=features)
    terminal.frame("features", pd.DataFrame(features))


@command(
    "import",
    example="kanlens import efficient.pt --data data.csv --target price -o model.safetensors",
    foreign="Checkpoint of another library.",
    data="The table it was trained on, for names, kinds, ranges, classes and background rows.",
    feature_names="Names of the features, comma-separated; with --data its columns, in the order "
    "of the model's inputs.",
    output_names="Names of the outputs, comma-separated; for a classifier, its classes.",
    submodule="Name of the part of the model to import.",
    settings="Options that the file does not contain, as name=value: wavelet=dog, ...",
)
def import_command(
    foreign: Path,
    *,
    output: Path = Path("model.safetensors"),
    data: Path | None = None,
    column: str | None = None,
    task: str | None = None,
    feature_names: str | None = None,
    output_names: str | None = None,
    submodule: str | None = None,
    settings: list[str] | None = None,
    drop: str | None = None,
    categorical: str | None = None,
    impute: str | None = None,
    na: str | None = None,
    decimal: str | None = None,
    terminal: Terminal,
) -> None:
    """Convert a model of another library to a kanlens model; the library is detected.

    With the table it was trained on, the model also stores names, ranges and background rows.
    """
    from kanlens.cli._model_data import column_names, held, open_columns, print_target
    from kanlens.io.importers._settings import SETTINGS
    from kanlens.training._objective import judge

    terminal.check([foreign, data], model=output)
    names = ("base_activation", "extrapolation", *SETTINGS)
    advice = f"Choose one of: {', '.join(names)}"
    options: dict[str, Any] = set_options(
        terminal.call, settings, names.__contains__, "an import option", advice
    )
    options["submodule"] = submodule
    features, outputs = split_names(feature_names) or None, split_names(output_names) or None
    table = None
    if data is not None:
        default = kanlens.import_model(foreign, output_names=outputs, **options).schema
        target = column_names(column, data)
        if not target:  # the outputs name it
            target = list(default.targets_among(list(read_frame(data, call="import").columns)))
        columns = {"features": feature_names, "drop": drop, "categorical": categorical, "na": na}
        cells = {"impute": impute, "decimal": decimal}
        table = held(open_columns(data, target, columns, task=task, **cells), "kanlens")
        print_target(table, default, target, terminal, "its columns are all features")
        features = list(table.feature_names) if features else None
    options |= {"data": table} if table else {"target": column, "task": task}
    options |= {"feature_names": features, "output_names": outputs}
    kan = kanlens.import_model(foreign, **options)
    terminal.write(kan, output)
    facts = {"model": str(output), "widths": list(kan.widths), "edges_alive": kan.edges_alive}
    facts["provenance"] = kan.provenance
    if table is not None and table.y is not None:
        facts.update(judge(kan, table))
    terminal.facts("imported", facts)
