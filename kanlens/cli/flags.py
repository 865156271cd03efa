"""The options of a command, for the arguments that its errors and warnings name."""

from __future__ import annotations

import shlex
from typing import Any, TypeAlias

Options: TypeAlias = dict[str, tuple[str, str]]  # by argument: what sets it, and unsets it or ""

PROGRAM = {"import_model": "'kanlens import'"}  # commands, by the function they stand for
RENAMED = {"target": "output_name", "fraction": "holdout"}  # options, where not the argument's name


def options_of(command: Any) -> Options:
    """Return the options of a command, those that --set takes among them."""
    from kanlens.attribution import METHODS
    from kanlens.io.importers.settings import SETTINGS

    known: Options = {}
    for option in command.params:
        flag = max(option.opts, key=len)
        if flag == "--set":  # options of any method, or of any library
            names = {name for method in METHODS.values() for name in method.options}
            names = set(SETTINGS) if option.name == "settings" else names
            known = {name: (f"--set {name}", "") for name in names} | known
        if flag.startswith("-"):  # no path
            known[option.name] = (flag, *option.secondary_opts, "")[:2]
    return known | {name: known[option] for name, option in RENAMED.items() if option in known}


def written(options: Options, name: str, value: Any) -> str | None:
    """Return what stands on the command line for an argument with a value, if anything."""
    if name not in options:
        return PROGRAM.get(name)
    flag, negative = options[name]
    if value is None or value is ... or value is True:
        return flag
    if value is False:
        return negative or f"no {flag}"
    plain = shlex.quote(str(value))
    return f"{flag}={plain}" if flag.startswith("--set ") else f"{flag} {plain}"
