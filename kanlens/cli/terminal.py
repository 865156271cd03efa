"""What commands print, and where: data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kanlens.checks import message
from kanlens.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd
    import torch

SHOWN_ROWS = 40
PIPED_WIDTH = 200  # of tables where stdout is no terminal


class Terminal:
    """Where one command prints.

    Parameters
    ----------
    quiet : bool
        Print no words, only data.
    as_json : bool
        Print data as JSON instead of tables.
    """

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.words = Console(stderr=True)
        self.data = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)

    @property
    def progress(self) -> bool | None:
        """What to pass as `progress`: None shows bars where stderr is a terminal."""
        return False if self.quiet else None

    def say(self, text: str) -> None:
        """Print words on stderr, unless quiet."""
        if not self.quiet:
            self.words.print(text, markup=False, highlight=False, soft_wrap=True)

    def wrote(self, *paths: str | Path) -> None:
        """Say which files were written."""
        for path in paths:
            self.say(f"wrote {path} ({_size(Path(path).stat().st_size)})")

    def emit(self, data: dict[str, Any]) -> None:
        """Print one JSON object on stdout when JSON was asked for."""
        if self.as_json:
            typer.echo(json.dumps(_plain(data), sort_keys=True, allow_nan=False))

    def facts(self, title: str, facts: dict[str, Any]) -> None:
        """Print names and values as a table on stdout, unless JSON was asked for."""
        rows = [(name, _cell(value)) for name, value in facts.items()]
        self._table(title, ["", ""], rows, header=False)

    def frame(self, title: str, frame: pd.DataFrame) -> None:
        """Print a DataFrame as a table on stdout, unless JSON was asked for."""
        rows = [[_cell(value) for value in row] for row in frame.head(SHOWN_ROWS).to_numpy()]
        self._table(title, [str(name) for name in frame.columns], rows)
        if len(frame) > SHOWN_ROWS and not self.as_json:
            self.say(f"... and {len(frame) - SHOWN_ROWS} more rows")

    def text(self, text: str) -> None:
        """Print one line of data on stdout, unless JSON was asked for."""
        if not self.as_json:
            typer.echo(text)

    def _table(
        self, title: str, names: Sequence[str], rows: Sequence[Sequence[str]], header: bool = True
    ) -> None:
        if self.as_json:
            return
        table = Table(title=Text(title), title_justify="left", show_header=header, box=None)
        for name in names:
            table.add_column(Text(name), overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.data.print(table)


def check_outputs(
    call: str, outputs: Mapping[str, Path | None], inputs: Sequence[Path | None]
) -> None:
    """Refuse now what could not be written after all the work, or would overwrite what is read.

    Parameters
    ----------
    call : str
        The command.
    outputs : mapping of str to Path
        By what is written; the writers of a "table", "picture" and "page" know some endings only.
    inputs : sequence of Path
        What is read.

    Raises
    ------
    OutputError
    """
    from kanlens.outputs import check_ending, check_writable

    read = {path.resolve() for path in inputs if path is not None}
    for kind, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in read:
            got = f"{path}, which is read"
            text = message(call, "an output that is no input", got, "Name another with -o")
            raise OutputError(text)
        check_writable(path, call=call)
        if endings := _endings(kind):
            check_ending(path, endings[0], call=call, shown=endings[1])


def _endings(kind: str) -> tuple[Sequence[str], str] | None:
    """Return the endings that a writer knows, and those to name; None for one that takes any."""
    if kind == "table":
        from kanlens.files import ENDINGS, TABLE_SUFFIXES

        return TABLE_SUFFIXES, ENDINGS
    if kind == "picture":
        from kanlens.plotting.style import FORMATS

        return FORMATS, ", ".join(FORMATS)
    if kind == "page":
        from kanlens.reporting.writing import SUFFIXES

        return SUFFIXES, SUFFIXES[0]
    return ((".safetensors",), ".safetensors") if kind == "model" else None


def seeded(seed: int | None) -> torch.Generator:
    """Return a generator with that seed, or with a seed of the system's choice."""
    import torch

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    return str(value)


def _plain(value: Any) -> Any:
    """Return JSON types; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, Path):
        return str(value)
    number = float(value)
    return number if number - number == 0 else None


def _size(n_bytes: int) -> str:
    return f"{n_bytes} bytes" if n_bytes < 1000 else f"{n_bytes / 1000:.0f} kB"
