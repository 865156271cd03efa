"""Usage, arguments and options of every command, from the typer application itself."""

from __future__ import annotations

import re
from typing import Any

import typer

from kanlens.cli._command import app, load_commands


def command_help() -> dict[str, str]:
    """Return the Markdown of every command's help by its name, with underscores for hyphens."""
    load_commands()
    group: Any = typer.main.get_command(app)
    return {
        name.replace("-", "_"): markdown(name, command)
        for name, command in group.commands.items()
        if not hasattr(command, "commands")  # of groups, every command would need a page
    }


def markdown(name: str, command: Any) -> str:
    """Write usage, arguments and options of one command."""
    context = typer.Context(command, info_name=f"kanlens {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"```\nkanlens {name} {usage}\n```"]
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        params = [param for param in command.params if param.param_type_name == kind]
        records = filter(None, (param.get_help_record(context) for param in params))
        if rows := "\n".join(row(*record) for record in records):
            parts.append(f"| {title} | |\n|---|---|\n{rows}")
    return "\n\n".join(parts)


def row(spelled: str, text: str) -> str:
    """Write one argument or option as a row of a table; its default or range goes last."""
    text = text.removesuffix(f"[0<=x<={2**63 - 1}]")  # of seeds: any number
    text = text.replace(r"\[", "[")
    said = re.sub(r"\s+\[([^\]]+)\]$", r" *\1*", text.strip().replace("|", r"\|"))
    return f"| `{spelled}` | {said.replace('<', '&lt;')} |"
