"""The application: all commands, errors in one line, and exit codes.

0 done, 1 a known error, 2 usage, 3 a bug, 130 interrupted.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence

import typer
from rich.console import Console

from kanlens.cli._command import app
from kanlens.cli._console import interrupted, wrapped
from kanlens.cli._signals import INTERRUPTED, WHOLE, ranks
from kanlens.errors import InterruptedWarning, KanlensError, LostProcessError

COMMANDS = (  # modules that have them, in the order of the help
    "demonstration",
    "model_commands",
    "prediction_command",
    "growth_commands",
    "edit_command",
    "file_commands",
    "analysis_commands",
    "attribution_commands",
    "picture_commands",
)


def load_commands() -> None:
    """Import the modules of all commands."""
    for name in COMMANDS:
        importlib.import_module(f"kanlens.cli._{name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the kanlens command in `argv` (default: sys.argv); return its exit code."""
    load_commands()
    return execute(app, argv, "kanlens")


def execute(app: typer.Typer, argv: Sequence[str] | None, name: str) -> int:
    """Run a command of an application; return its exit code."""
    words = Console(stderr=True, quiet=ranks()[0] > 0)
    interrupted.set(False)

    def show(message: Warning | str, *place: object, **line: object) -> None:
        interrupted.set(interrupted.get() or isinstance(message, InterruptedWarning))
        wrapped(words, f"kanlens: {message}")

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            warnings.simplefilter("always", InterruptedWarning)
            app(args=argv, prog_name=name)
    except KanlensError as error:
        words.quiet &= not isinstance(error, LostProcessError)  # the first may be lost
        wrapped(words, f"kanlens: {error}")
        return 1
    except OSError as error:
        if error.filename is not None:
            raise
        wrapped(words, f"kanlens: the result could not be printed: {error.strerror}")
        return 1
    except SystemExit as stop:  # typer always leaves this way, silently after an interrupt
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code == INTERRUPTED and not interrupted.get():
            words.print(f"kanlens: interrupted; {WHOLE}")
        return INTERRUPTED if interrupted.get() and not code else code
    return 0
