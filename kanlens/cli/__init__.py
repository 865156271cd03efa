"""The command line: one function per command."""

from __future__ import annotations

import sys

from kanlens.cli import _signals as signals

TYPE_CHECKING = False  # as in kanlens
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kanlens.cli._command import main

__all__ = ["main", "run"]


def run() -> None:
    """Run the command of this process and leave with its exit code."""
    signals.run(_load)


def _load() -> Callable[[], int]:
    """Return the function that runs the command; --version imports no commands."""
    if sys.argv[1:] == ["--version"]:
        return _print_version
    from kanlens.cli._command import main

    return main


def _print_version() -> int:
    from importlib.metadata import version

    sys.stdout.write(f"kanlens {version('kanlens')}\n")
    return 0


def __getattr__(name: str) -> Any:
    if name == "main":  # not before the process handles interrupts
        from kanlens.cli._command import main

        return main
    raise AttributeError(f"module 'kanlens.cli' has no attribute {name!r}")
