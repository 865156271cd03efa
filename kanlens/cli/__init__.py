"""The command line: one function per command, no mathematics."""

from kanlens.cli.application import main, run

__all__ = ["main", "run"]
