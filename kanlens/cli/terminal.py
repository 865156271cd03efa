"""What commands print, and where: data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

import kanlens
from kanlens.atomic_files import atomic_write, check_ending, check_writable, ending_of
from kanlens.cli.process import ranks
from kanlens.display import escaped
from kanlens.errors import OutputError
from kanlens.files import ENDINGS, TABLE_SUFFIXES, write_frames
from kanlens.plain_json import to_plain

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 40
PIPED_WIDTH = 200  # of tables where stdout is no terminal

interrupted: ContextVar[bool] = ContextVar("interrupted", default=False)  # the command


class Terminal:
    """Where the command `call` prints and writes: no words when `quiet`, JSON instead of tables.

    Of the processes that torchrun has started, the `first` prints and writes.
    """

    def __init__(self, call: str = "", *, quiet: bool = False, as_json: bool = False) -> None:
        self.call, self.quiet, self.as_json = call, quiet, as_json
        self.first = ranks()[0] == 0
        self.places: dict[Path, Path] = {}
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        self.words = Console(stderr=True, quiet=not self.first)
        self.data = Console(width=width, quiet=not self.first)

    def check(self, inputs: Sequence[Path | None], **outputs: Path | None) -> None:
        """Refuse now what could not be written after all the work, or would overwrite an input.

        The writers of a `model`, `table`, `picture` and `page` know some endings only.
        """
        read = {path.resolve() for path in inputs if path is not None}
        for kind, path in outputs.items():
            if path is None or not self.first:
                continue
            if path.resolve() in read:
                expected, got = "an output that is no input", f"{path}, which is read"
                raise OutputError(self.call, expected, got, "Name another with -o")
            check_writable(path, call=self.call)
            if endings := _endings(kind):
                check_ending(path, endings[0], call=self.call, shown=endings[1])

    @property
    def progress(self) -> bool | None:
        """What to pass as `progress`: None shows bars where stderr is a terminal."""
        return False if self.quiet else None

    def say(self, text: object) -> None:
        """Print words on stderr, unless quiet."""
        if not self.quiet:
            wrapped(self.words, str(text))

    def wrote(self, *paths: str | Path) -> None:
        """Say which files were written."""
        for path in paths:
            size = Path(path).stat().st_size
            words = f"{size} bytes" if size < 1000 else f"{size / 1000:.0f} kB"
            self.say(f"wrote {path} ({words})")

    def place(self, path: Path) -> Path:
        """Return the file to write: of an interrupted command never one that exists."""
        if path not in self.places:
            kept, number = path, 1
            while interrupted.get() and kept.exists():
                ending = ending_of(path)
                stem = path.name[: len(path.name) - len(ending)]
                kept = path.with_name(f"{stem}.partial{number if number > 1 else ''}{ending}")
                number += 1
            if kept != path:
                self.say(f"{path} stays as it was; the partial result has a name of its own")
            self.places[path] = kept
        return self.places[path]

    def write(self, result: Any, path: Path | None) -> None:
        """Write a model, table, parts of one, picture or text, and say so; nothing without path."""
        if path is None or not self.first:
            return
        path = self.place(path)
        if isinstance(result, str):
            with atomic_write(path, call=self.call) as temporary:
                temporary.write_text(result, encoding="utf-8")
        elif isinstance(result, Iterator) or hasattr(result, "iloc"):
            frames = result if isinstance(result, Iterator) else [result]
            write_frames(frames, path, call=self.call)
        elif hasattr(result, "figure"):
            from kanlens.plotting.style import save

            save(result, path)
        else:
            kanlens.save(result, path)
        self.wrote(path)

    def emit(self, data: dict[str, Any]) -> None:
        """Print one JSON object on stdout when JSON was asked for."""
        if self.as_json and self.first:
            typer.echo(json.dumps(to_plain(data), sort_keys=True, allow_nan=False))

    def facts(self, title: str, facts: dict[str, Any], **more: Any) -> None:
        """Print names and values as a table on stdout; as JSON, with more of them, if asked for."""
        rows = [(name, _cell(value)) for name, value in facts.items()]
        self._table(title, ["", ""], rows, header=False)
        self.emit({**facts, **more})

    def frame(self, title: str, frame: pd.DataFrame, *, cut: str | None = None) -> None:
        """Print a DataFrame as a table on stdout, unless JSON was asked for.

        Texts in the column `cut` end where the terminal does, others go on in the next line.
        """
        rows = [[_cell(value) for value in row] for row in frame.head(SHOWN_ROWS).to_numpy()]
        self._table(title, [escaped(str(name)) for name in frame.columns], rows, cut=cut)
        if len(frame) > SHOWN_ROWS and not self.as_json:
            self.say(f"... and {len(frame) - SHOWN_ROWS} more rows")

    def text(self, text: str) -> None:
        """Print one line of data on stdout, unless JSON was asked for; terminals wrap it."""
        if not self.as_json:
            wrapped(self.data, text)

    def equation(self, left: str, right: str, rounded: str) -> None:
        """Print an equation on stdout; rounded where a terminal is too narrow for one line.

        The exact numbers are for programs, and in the model.
        """
        text = f"{left} = {right}"
        narrow = self.data.is_terminal and cell_len(text) > self.data.width
        self.text(f"{left} = {rounded}" if narrow else text)

    def _table(
        self,
        title: str,
        names: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        header: bool = True,
        cut: str | None = None,
    ) -> None:
        if self.as_json:
            return
        heading = Text(escaped(title))
        table = Table(title=heading, title_justify="left", show_header=header, box=None)
        for name in names:
            table.add_column(Text(name.replace("_", " ")), overflow="fold")
        end: Any = {"no_wrap": True, "overflow": "ellipsis"}
        for row in rows:
            cells = zip(names, row, strict=True)
            table.add_row(*(Text(text, **(end if name == cut else {})) for name, text in cells))
        self.data.print(table)


def wrapped(console: Console, text: str) -> None:
    """Print words, escaped; where a terminal shows them, no line ends within a word."""
    console.print(escaped(text), markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _endings(kind: str) -> tuple[Sequence[str], str] | None:
    """Return the endings that a writer knows, and those to name; None for one that takes any."""
    if kind == "picture":
        from kanlens.plotting.style import FORMATS

        return FORMATS, ", ".join(FORMATS)
    if kind == "page":
        from kanlens.reporting.writing import SUFFIXES

        return SUFFIXES, SUFFIXES[0]
    known = {"table": (TABLE_SUFFIXES, ENDINGS), "model": ((".safetensors",), ".safetensors")}
    return known.get(kind)


def seeded(seed: int | None) -> torch.Generator:
    """Return a generator with that seed, 0 for None."""
    return torch.Generator().manual_seed(seed or 0)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    return escaped(str(value))
