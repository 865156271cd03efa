"""Errors in the words of the command line: arguments of Python become the options of the command.

Messages name an argument as ``name=value``, as ``name=...``, or first in ``expected name to be``.
"""

from __future__ import annotations

import re
import shlex
import warnings
from typing import Any

from typer.core import TyperGroup

from kanlens.errors import KanlensError

NAMED = re.compile(r"\b([a-z][a-z0-9_]*)=(\.\.\.|'[^']*'|[\w+-]+(?:\.\w+)*)")
CHECKED = re.compile(
    r"(?<=: expected )([a-z][a-z0-9_]*)(?= (?:to be|to list|of at|from|above|below) )"
)
SENTENCE = re.compile(r"(?<!\.\.)\. ")  # its end; that of an argument is no such
ONLY_PYTHON = re.compile(r"\b(?:DataFrame|Tensor)\b|\b(?:torch|model)\.\w")
IMPORT = "'kanlens import'"


class Flagged(TyperGroup):
    """A group of commands whose errors and warnings name options instead of arguments."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; reword the warnings it gives and the error it ends with."""
        shown = warnings.showwarning

        def show(message: Warning | str, *place: Any, **line: Any) -> None:
            shown(type(message)(self._reworded(ctx, message)), *place, **line)

        warnings.showwarning = show
        try:
            return super().invoke(ctx)
        except KanlensError as error:
            raise type(error)(self._reworded(ctx, error)) from error
        finally:
            warnings.showwarning = shown

    def _reworded(self, ctx: Any, said: Any) -> str:
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        return str(said) if command is None else in_flags(str(said), command)


def in_flags(text: str, command: Any) -> str:
    """Return a message with the options of a command in place of the arguments it names.

    An alternative that the command has no option for is left out, unless nothing else is advised.

    Examples
    --------
    >>> from types import SimpleNamespace as Made
    >>> option = Made(opts=["--grid-size"], secondary_opts=[], name="grid_size")
    >>> command = Made(params=[option])
    >>> in_flags("fit: expected grid_size to be 1, got 0. Use grid_size=3, or scale=True.", command)
    'fit: expected --grid-size to be 1, got 0. Use --grid-size 3.'
    """
    options = _options(command)
    *facts, advice = SENTENCE.split(text.removesuffix("."))
    offered = [part for part in advice.split(", or ") if _offered(part, options)]
    if facts and offered:
        advice = ", or ".join(offered)
        text = f"{'. '.join(facts)}. {advice[0].upper()}{advice[1:]}."
    text = CHECKED.sub(lambda found: options.get(found[1], (found[1],))[0], text)
    text = NAMED.sub(lambda found: _flag(found[1], found[2], options), text)
    call, colon, rest = text.partition(": ")
    return call + colon + rest.replace("import_model", IMPORT)


def _options(command: Any) -> dict[str, tuple[str, str]]:
    """Return the options of a command by argument: what sets it, and what unsets it or ''."""
    found: dict[str, tuple[str, str]] = {}
    for option in command.params:
        flag = max(option.opts, key=len)
        if not flag.startswith("-"):  # an argument: a path
            continue
        if flag == "--set":  # options of any method
            from kanlens.attribution import METHODS

            names = {name for method in METHODS.values() for name in method.options}
            found = {name: (f"--set {name}", "") for name in names} | found
        found[option.name or ""] = (flag, *option.secondary_opts, "")[:2]
    for argument, option in (("target", "output_name"), ("fraction", "holdout")):
        if option in found:
            found[argument] = found[option]
    return found


def _offered(advice: str, options: dict[str, tuple[str, str]]) -> bool:
    """Tell whether an advice can be followed with the options there are."""
    names = {found[1] for found in NAMED.finditer(advice)}
    return names <= set(options) and not ONLY_PYTHON.search(advice)


def _flag(name: str, value: str, options: dict[str, tuple[str, str]]) -> str:
    """Return what stands on the command line for an argument with a value."""
    if name not in options:
        return f"{name}={value}"
    flag, negative = options[name]
    if value in ("...", "True"):
        return flag
    if value == "False":
        return negative or f"no {flag}"
    plain = shlex.quote(value.strip("'"))
    return f"{flag}={plain}" if flag.startswith("--set ") else f"{flag} {plain}"
