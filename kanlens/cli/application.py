"""The application: its commands, and what its exit codes mean.

0 done, 1 a known error in one line, 2 usage, 3 a bug, 130 interrupted.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from kanlens.cli.flags import Flagged
from kanlens.cli.process import INTERRUPTED, WHOLE
from kanlens.errors import InterruptedWarning, KanlensError

COMMANDS = (
    "demonstration",
    "model_commands",
    "analysis_commands",
    "attribution_commands",
    "certificate_commands",
    "path_commands",
    "picture_commands",
    "bench_commands",
    "sparsity_commands",
    "symbolic_commands",
    "discovery_commands",
)

app = typer.Typer(
    name="kanlens",
    cls=Flagged,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        import kanlens

        typer.echo(f"kanlens {kanlens.__version__}")
        raise typer.Exit


@app.callback()
def kanlens_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See, prune, read and attribute Kolmogorov-Arnold networks."""


def load_commands() -> None:
    """Load the modules of all commands."""
    for name in COMMANDS:
        importlib.import_module(f"kanlens.cli.{name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one kanlens command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``kanlens``; those of the process when None.

    Returns
    -------
    int
        0 done, 1 a known error, 2 usage, 130 interrupted. Other exceptions pass.

    Examples
    --------
    >>> main(["info", "no-such-file"])
    1
    """
    load_commands()
    words = Console(stderr=True)

    interrupted = False

    def show(message: Warning | str, *place: object, **line: object) -> None:
        nonlocal interrupted
        interrupted |= isinstance(message, InterruptedWarning)
        words.print(f"kanlens: {message}", markup=False, highlight=False, soft_wrap=True)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            warnings.simplefilter("always", InterruptedWarning)
            app(args=argv, prog_name="kanlens")
    except KanlensError as error:
        words.print(f"kanlens: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    except OSError as error:
        if error.filename is not None:
            raise
        words.print(f"kanlens: the result could not be printed: {error.strerror}", markup=False)
        return 1
    except SystemExit as stop:  # typer always leaves this way, from an interrupt without a word
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code == INTERRUPTED and not interrupted:
            words.print(f"kanlens: interrupted; {WHOLE}")
        return INTERRUPTED if interrupted and not code else code
    return 0
