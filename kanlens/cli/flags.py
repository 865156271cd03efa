"""The options of a command, for the arguments that its errors and warnings name."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

PROGRAM = {"import_model": "'kanlens import'"}  # commands, by the function they stand for
RENAMED = {"target": "output_name", "fraction": "holdout"}  # options, where not the argument's name


class Flags:
    """What sets the arguments of a command on the command line, and what unsets them."""

    def __init__(self, options: Iterable[Any]) -> None:
        self.known: dict[str, tuple[str, str]] = {}
        for option in options:
            flag = max(option.opts, key=len)
            if not flag.startswith("-"):  # an argument: a path
                continue
            if flag == "--set":
                self.known = {name: (f"--set {name}", "") for name in _extra(option)} | self.known
            self.known[option.name] = (flag, *option.secondary_opts, "")[:2]
        for argument, option in RENAMED.items():
            if option in self.known:
                self.known[argument] = self.known[option]

    def write(self, name: str, value: Any) -> str | None:
        """Return what stands on the command line for an argument with a value, if anything."""
        if name not in self.known:
            return PROGRAM.get(name)
        flag, negative = self.known[name]
        if value is None or value is ... or value is True:
            return flag
        if value is False:
            return negative or f"no {flag}"
        plain = shlex.quote(str(value))
        return f"{flag}={plain}" if flag.startswith("--set ") else f"{flag} {plain}"


def _extra(option: Any) -> set[str]:
    """Return the options of any method, or of any library, that --set takes."""
    from kanlens.attribution import METHODS
    from kanlens.io.importers.settings import SETTINGS

    if option.name == "settings":
        return set(SETTINGS)
    return {name for method in METHODS.values() for name in method.options}
