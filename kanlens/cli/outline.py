"""The help of the whole command line, read from the sources: no command is loaded for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

FOLDER = Path(__file__).parent
COMMANDS = (  # modules that have them, in the order of the help
    "demonstration",
    "model_commands",
    "file_commands",
    "analysis_commands",
    "attribution_commands",
    "picture_commands",
)


def outline() -> typer.Typer:
    """Return an application that has the names and the help of all commands, and does nothing."""
    app = typer.Typer(name="kanlens", no_args_is_help=True)
    command = ast.parse((FOLDER / "command.py").read_text(encoding="utf-8"))
    (root,) = (node for node in command.body if getattr(node, "name", "") == "kanlens_command")
    app.callback(help=_help(root))(_root)
    for module in COMMANDS:
        for name, text in _commands(ast.parse((FOLDER / f"{module}.py").read_text("utf-8"))):
            app.command(name, help=text)(_nothing)
    return app


def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None: ...


def _nothing() -> None: ...


def _help(function: Any) -> str:
    return ast.get_docstring(function) or ""


def _commands(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the name and the help of every function that is decorated as a command."""
    for node in module.body:
        for one in getattr(node, "decorator_list", ()):
            if isinstance(one, ast.Call) and ast.unparse(one.func) == "command":
                name = ast.literal_eval(one.args[0]) if one.args else getattr(node, "name", "")
                yield name, _help(node)
