"""The command edit: edits of a model that a file lists."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanlens
from kanlens._files import readable
from kanlens.cli._command import command
from kanlens.cli._console import Terminal
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
    """Edit curves of a model; print the edits, and what they change on the rows of DATA."""
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
    """Carry out an edit: `do` is the method, `term` or `edge` its object, others its arguments."""
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
        expected, advice = f"arguments of {method}", "See the page of kanlens edit"
        raise InvalidValueError("edit", expected, str(error), advice) from error
