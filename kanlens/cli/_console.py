"""Output of commands: data on stdout, messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

import kanlens
from kanlens._atomic_files import atomic_write, check_ending, check_writable, ending_of
from kanlens._display import escaped
from kanlens._files import ENDINGS, TABLE_SUFFIXES, write_frames
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens.cli._signals import ranks
from kanlens.errors import OutputError

if TYPE_CHECKING:
    import torch

Generator: TypeAlias = "torch.Generator"  # as text: help does not load torch
MAX_ROWS = 40  # of a table that is shown
PIPED_WIDTH = 200  # of tables where stdout is not a terminal

interrupted: ContextVar[bool] = ContextVar("interrupted", default=False)  # by Ctrl-C


class Terminal:
    """Output of the command `call`: no messages if `quiet`; JSON, not tables, if `as_json`.

    Of the processes started by torchrun, only the `first` prints and writes.
    """

    def __init__(self, call: str = "", *, quiet: bool = False, as_json: bool = False) -> None:
        self.call, self.quiet, self.as_json = call, quiet, as_json
        self.first = ranks()[0] == 0
        self.places: dict[Path, Path] = {}
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        self.words = Console(stderr=True, quiet=not self.first)
        self.data = Console(width=width, quiet=not self.first)

    def check(self, inputs: Sequence[Path | None], **outputs: Path | None) -> None:
        """Refuse outputs that cannot be written or would overwrite an input.

        The path of a `model`, `table`, `picture` or `page` must end as such files do.
        """
        read = {path.resolve() for path in inputs if path is not None}
        for kind, path in outputs.items():
            if path is None or not self.first:
                continue
            if path.resolve() in read:
                expected, got = "an output file that is not an input file", f"{path}, which is read"
                raise OutputError(self.call, expected, got, "Choose another output file")
            check_writable(path, call=self.call)
            if endings := _endings(kind):
                check_ending(path, endings[0], call=self.call, shown=endings[1])

    @property
    def progress(self) -> bool | None:
        """Value for arguments `progress`: None shows bars if stderr is a terminal."""
        return False if self.quiet else None

    def say(self, text: object) -> None:
        """Print a message on stderr, unless quiet."""
        if not self.quiet:
            wrapped(self.words, str(text))

    def wrote(self, *paths: str | Path) -> None:
        """Print the names and sizes of files that were written."""
        for path in paths:
            size = Path(path).stat().st_size
            words = f"{size} bytes" if size < 1000 else f"{size / 1000:.0f} kB"
            self.say(f"wrote {path} ({words})")

    def place(self, path: Path) -> Path:
        """Return the file to write; after an interrupt, one that does not exist yet."""
        if path not in self.places:
            place, number = path, 1
            while interrupted.get() and place.exists():
                ending = ending_of(path)
                stem = path.name[: len(path.name) - len(ending)]
                place = path.with_name(f"{stem}.partial{number if number > 1 else ''}{ending}")
                number += 1
            if place != path:
                self.say(f"{path} is unchanged; the partial result goes to another file")
            self.places[path] = place
        return self.places[path]

    def write(self, result: Any, path: Path | None) -> None:
        """Write a model, a table (or parts of one), a picture or text to a path, if any."""
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
            from kanlens.plotting._style import save

            save(result, path)
        else:
            kanlens.save(result, path)
        self.wrote(path)

    def emit(self, data: dict[str, Any]) -> None:
        """Print one JSON object on stdout with --json."""
        if self.as_json and self.first:
            typer.echo(json.dumps(to_plain(data), sort_keys=True, allow_nan=False))

    def facts(self, title: str, facts: dict[str, Any], **more: object) -> None:
        """Print names and values as a table; with --json print them and `more`."""
        rows = [(name, _cell(value)) for name, value in facts.items()]
        self._table(title, ["", ""], rows, header=False)
        self.emit({**facts, **more})

    def frame(self, title: str, frame: pd.DataFrame, *, cut: str | None = None) -> None:
        """Print a DataFrame as a table on stdout, unless with --json.

        Texts in the column `cut` are truncated by a narrow terminal, others wrapped.
        """
        rows = [[_cell(value) for value in row] for row in frame.head(MAX_ROWS).to_numpy()]
        self._table(title, [escaped(str(name)) for name in frame.columns], rows, cut=cut)
        if len(frame) > MAX_ROWS and not self.as_json:
            self.say(f"... and {len(frame) - MAX_ROWS} more rows")

    def text(self, text: str) -> None:
        """Print one line of data on stdout, unless with --json; terminals wrap it."""
        if not self.as_json:
            wrapped(self.data, text)

    def equation(self, left: str, right: str, rounded: str) -> None:
        """Print an equation, rounded if the terminal is too narrow."""
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
        end: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"}
        for row in rows:
            cells = zip(names, row, strict=True)
            table.add_row(*(Text(text, **(end if name == cut else {})) for name, text in cells))
        self.data.print(table)


def wrapped(console: Console, text: str) -> None:
    """Print escaped text; on a terminal, it is wrapped between words."""
    console.print(escaped(text), markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _endings(kind: str) -> tuple[Sequence[str], str] | None:
    """Return the valid endings of a kind of file, and their text; None if all are valid."""
    if kind == "picture":
        from kanlens.plotting._style import FORMATS

        return FORMATS, ", ".join(FORMATS)
    if kind == "page":
        from kanlens.reporting._report import SUFFIXES

        return SUFFIXES, SUFFIXES[0]
    endings = {"table": (TABLE_SUFFIXES, ENDINGS), "model": ((".safetensors",), ".safetensors")}
    return endings.get(kind)


def seeded(seed: int | None) -> torch.Generator:
    """Return a generator with a seed, by default 0."""
    import torch

    return torch.Generator().manual_seed(seed or 0)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    return escaped(str(value))
