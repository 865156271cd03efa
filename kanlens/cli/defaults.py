"""Defaults of options from a file kanlens.toml in the folder that a command runs in.

A section per command: ``[train]`` and ``steps = 30`` stand for ``kanlens train --steps 30``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kanlens.checks import message, nearest
from kanlens.errors import FileFormatError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "kanlens.toml"


def read_defaults(group: Any) -> dict[str, dict[str, Any]]:
    """Return the defaults of the commands of a group by command and parameter; none without a file.

    Raises
    ------
    FileFormatError
        If the file is no TOML, or names what no command has.
    """
    path = Path(NAME)
    if not path.is_file():
        return {}
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(message(NAME, "TOML", str(error), "Correct the file")) from error
    found = {}
    for name, section in sections.items():
        if name not in group.commands or not isinstance(section, dict):
            raise _unknown("a section for a command", f"[{name}]", name, group.commands)
        options = _options(group.commands[name])
        for key in section:
            if key.replace("_", "-") not in options:
                raise _unknown(f"options of {name}", key, key, options)
        found[name] = {options[key.replace("_", "-")]: one for key, one in section.items()}
    return found


def _options(command: Any) -> dict[str, str]:
    """Return the parameter that each option of a command sets, by its name without dashes."""
    flags = [(flag, one.name) for one in command.params for flag in one.opts if flag[:2] == "--"]
    return {flag.removeprefix("--"): name for flag, name in flags}


def _unknown(expected: str, got: str, name: str, known: Any) -> FileFormatError:
    hint = nearest(name, list(known))
    advice = f"Did you mean {hint!r}?" if hint else f"Known are {', '.join(sorted(known))}"
    return FileFormatError(message(NAME, expected, got, advice))
