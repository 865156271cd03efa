"""Options of a command in place of the arguments that its errors and warnings name."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias, TypeVar

import kanlens
from kanlens.errors import Message

Options: TypeAlias = dict[str, tuple[str, str]]  # by argument: the flag, and the one for False

COMMANDS = {"import_model": "'kanlens import'"}  # by function
E = TypeVar("E", bound=Message)

running: ContextVar[Callable[[], Any]] = ContextVar("running")  # returns the command
RENAMED = {"target": "output_name", "fraction": "holdout"}  # options named unlike their argument


def options_of(command: Any) -> Options:
    """Return the options of a command, including those that --set takes."""
    from kanlens.io.importers._settings import SETTINGS

    flags: Options = {}
    for option in command.params:
        flag = max(option.opts, key=len)
        if flag == "--set":  # options of any method, or of any library
            names = {name for method in kanlens.METHODS.values() for name in method.options}
            names = set(SETTINGS) if option.name == "settings" else names
            flags = {name: (f"--set {name}", "") for name in names} | flags
        if flag.startswith("-"):  # not a path
            flags[option.name] = (flag, *option.secondary_opts, "")[:2]
    return flags | {name: flags[option] for name, option in RENAMED.items() if option in flags}


def with_options(message: E, **renamed: str) -> E:
    """Return an error or a warning that names options of the running command."""
    if (command := running.get()()) is not None:
        options = options_of(command)
        options |= {name: options[option] for name, option in renamed.items()}
        message.write = partial(written, options)
    return message


def written(options: Options, name: str, value: Any) -> str | None:
    """Return an argument with its value as an option, None without one."""
    if name not in options:
        return COMMANDS.get(name)
    flag, negative = options[name]
    if value is None or value is ... or value is True:
        return flag
    if value is False:
        return negative or f"no {flag}"
    plain = shlex.quote(str(value))
    return f"{flag}={plain}" if flag.startswith("--set ") else f"{flag} {plain}"
