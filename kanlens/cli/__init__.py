"""The command line: one function per command, no mathematics."""

from __future__ import annotations

from kanlens.cli.process import run

TYPE_CHECKING = False  # as in kanlens
if TYPE_CHECKING:
    from typing import Any

    from kanlens.cli.application import main

__all__ = ["COMMANDS", "main", "run"]
COMMANDS = (  # modules that have them, in the order of the help
    "demonstration",
    "model_commands",
    "file_commands",
    "analysis_commands",
    "attribution_commands",
    "picture_commands",
)


def __getattr__(name: str) -> Any:
    if name == "main":  # not before the process takes interrupts
        from kanlens.cli.application import main

        return main
    raise AttributeError(f"module 'kanlens.cli' has no attribute {name!r}")
