"""``python -m benchmarks``."""

from __future__ import annotations

from collections.abc import Callable

from kanlens.cli._signals import run


def load() -> Callable[[], int]:
    """Load the commands, once the process takes interrupts."""
    from benchmarks.commands import main

    return main


if __name__ == "__main__":
    run(load)
