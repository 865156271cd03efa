"""Commands about model files: edit, info and import."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanlens
from kanlens._files import read_frame, readable
from kanlens._lazy import pd
from kanlens.cli._command import command
from kanlens.cli._console import Terminal
from kanlens.cli._options import set_options, split_names
from kanlens.errors import DataError, FileFormatError, InvalidValueError, KanlensError, rewording

if TYPE_CHECKING:
    from kanlens.data._tables import Table
    from kanlens.editing import Edit

METHODS = (
    *("clamp", "convex", "flatten", "monotone", "refit", "remove", "scale", "set", "smooth"),
    *("symbolic", "zero"),
)


@command(
    example="kanlens edit model.safetensors edits.toml data.csv -o edited.safetensors",
    edits="Edits, as [[edit]] tables of a .toml file.",
    by="Column of DATA to group rows by.",
)
def edit(
    model: Path,
    edits: Path,
    data: Path,
    *,
    output: Path = Path("edited.safetensors"),
    column: str | None = None,
    by: str | None = None,
    terminal: Terminal,
) -> None:
    """Edit curves of a model; print the edits and how predictions on DATA change."""
    from kanlens.cli._model_data import read_rows

    terminal.check([model, edits, data], model=output)
    entries, kan = read_edits(edits, terminal.call), kanlens.load(model)
    table = read_rows(data, kan, column, terminal, without="losses are not known")
    session = kanlens.edit(kan, table.x)
    for number, entry in enumerate(entries, 1):
        with rewording(terminal.call, part=f"edit {number} of {edits.name}"):
            carry_out(session, entry, table)
    difference = session.diff(table, table.y, by=by)
    terminal.write(session.model, output)
    tables = {"edits": session.to_frame(), "moved": difference.moved, "rows": difference.rows}
    tables |= {} if difference.groups is None else {"groups": difference.groups}
    for title, frame in tables.items():
        terminal.frame(title, frame.head(10) if title == "rows" else frame)
    facts = {"model": str(terminal.place(output)), **difference.losses}
    records = {title: frame.to_dict("records") for title, frame in tables.items()}
    terminal.facts("edited", facts, **records)


def read_edits(path: Path, call: str) -> list[dict[str, Any]]:
    """Return the edits that a TOML file lists."""
    from kanlens._checks import optional_module

    if sys.version_info >= (3, 11):
        toml = optional_module("tomllib", call=call)
    else:
        toml = optional_module("tomli", call=call)
    expected, advice = "[[edit]] tables", 'Begin with [[edit]], do = "monotone", term = "age"'
    try:
        with readable(path, call):
            content = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(call, f"TOML in {path.name!r}", str(error), advice) from error
    entries = content.get("edit")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FileFormatError(call, f"{expected} in {path.name!r}", "none", advice)
    return entries


def carry_out(session: Edit, entry: Mapping[str, Any], table: Table) -> None:
    """Carry out an edit: `do` is the method, `term` or `edge` its curve, others its arguments."""
    from kanlens._checks import check_choice

    options: dict[str, Any] = dict(entry)
    method, term, edge = (options.pop(name, None) for name in ("do", "term", "edge"))
    check_choice("edit", "do", method, METHODS)
    if method == "refit" and table.y is None:
        raise DataError("edit", "the target in DATA for refit", "none", "Add its column")
    names = [term] if isinstance(term, str) else list(term or ())
    try:
        if method in ("remove", "refit"):
            values = names if method == "remove" else [table.x, table.y]
            getattr(session, method)(*values, **options)
            return
        target = {"target": options.pop("target", None)} if "target" in options else {}
        editor = session.edge(*edge) if edge else session.term(*names, **target)
        getattr(editor, method)(**options)
    except (TypeError, ValueError) as error:
        if isinstance(error, KanlensError):
            raise
        expected, advice = f"arguments of {method}", "See the documentation of kanlens.edit"
        raise InvalidValueError("edit", expected, str(error), advice) from error


@command(example="kanlens info model.safetensors")
def info(model: Path, *, terminal: Terminal) -> None:
    """Describe a model: shape, nonzero edges, grid, features, origin."""
    from kanlens.io._checkpoint import read_metadata
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
    submodule="Name of the submodule to import, such as head.",
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
    options = set_options(terminal.call, settings, names.__contains__, "an import option", advice)
    options["submodule"] = submodule
    features, outputs = split_names(feature_names) or None, split_names(output_names) or None
    table = None
    if data is not None:
        default = kanlens.import_model(foreign, output_names=outputs, **options).schema
        target = column_names(column, data)
        if not target:  # the columns named like the outputs
            target = list(default.targets_among(list(read_frame(data, call="import").columns)))
        columns = {"features": feature_names, "drop": drop, "categorical": categorical}
        columns |= {"impute": impute, "na": na, "decimal": decimal}
        table = held(open_columns(data, target, columns, task=task), "kanlens")
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
