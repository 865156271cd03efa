"""The application: its commands, its errors in one line, and its exit codes.

0 done, 1 a known error, 2 usage, 3 a bug, 130 interrupted. Errors name the command's options.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

import kanlens
from kanlens.cli import COMMANDS
from kanlens.cli.options import Json, MaxMemory, NoSeed, Quiet, Seed, described
from kanlens.cli.process import INTERRUPTED, WHOLE, ranks
from kanlens.cli.terminal import Terminal, interrupted, seeded, wrapped
from kanlens.errors import (
    InterruptedWarning,
    KanlensError,
    LostProcessError,
)
from kanlens.resources import memory_limit

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

        with warnings.catch_warnings():
            warnings.showwarning = show
            try:
                return super().invoke(ctx)
            except KanlensError as error:
                raise type(error)(self._reworded(ctx, error)) from error

    def _reworded(self, ctx: Any, said: Any) -> str:
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        return str(said) if command is None else in_flags(str(said), command)


def in_flags(text: str, command: Any) -> str:
    """Return a message with the options of a command in place of the arguments it names.

    An alternative that the command has no option for is left out, unless nothing else is advised.
    """
    options = _options(command)
    *facts, advice = SENTENCE.split(text.removesuffix("."))
    offered = [part for part in advice.split(", or ") if _offered(part, options)]
    if facts and offered:
        advice = ", or ".join(offered)
        end = "" if advice.endswith("?") else "."
        text = f"{'. '.join(facts)}. {advice[0].upper()}{advice[1:]}{end}"
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
        if flag == "--set":  # options of any method, or of any library
            from kanlens.attribution import METHODS
            from kanlens.io.importers.settings import SETTINGS

            names = {name for method in METHODS.values() for name in method.options}
            names = set(SETTINGS) if option.name == "settings" else names
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


app = typer.Typer(
    name="kanlens",
    cls=Flagged,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kanlens {kanlens.__version__}")
        raise typer.Exit


@app.callback()
def kanlens_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See, prune, read and attribute Kolmogorov-Arnold networks."""


def command(
    name: str | None = None, /, *, example: str, **words: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command; `words` say what its arguments are, where not those that commands share.

    Its help ends with the example.

    --json and --quiet become its `terminal`, --seed its `generator`. A command that takes neither a
    generator nor a seed draws nothing; --seed changes nothing then. One that reads `data` works
    within --max-memory.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        call, own = name or function.__name__, inspect.signature(function, eval_str=True).parameters

        def run(
            *,
            seed: int | None,
            as_json: bool,
            quiet: bool,
            max_memory: str | None = None,
            **given: Any,
        ) -> None:
            if "generator" in own:
                given["generator"] = seeded(seed)
            elif "seed" in own:
                given["seed"] = seed
            with memory_limit(call, max_memory):
                function(terminal=Terminal(call, quiet=quiet, as_json=as_json), **given)

        seeds: Any = NoSeed if own.keys().isdisjoint(("generator", "seed")) else Seed
        start = own["seed"].default if "seed" in own else 0 if "generator" in own else None
        common = {"seed": (seeds, start), "as_json": (Json, False), "quiet": (Quiet, False)}
        if "data" in own:
            common["max_memory"] = (MaxMemory, None)
        made = {"terminal", "generator", *common}
        parameters = [described(one, words) for one in own.values() if one.name not in made]
        parameters += [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind)
            for key, (kind, value) in common.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__doc__ = function.__doc__
        app.command(call, epilog=f"Example: {example}")(run)
        return function

    return add


def load_commands() -> None:
    """Load the modules of all commands."""
    for name in COMMANDS:
        importlib.import_module(f"kanlens.cli.{name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one kanlens command and return its exit code; `argv` is the process's own when None."""
    load_commands()
    return execute(app, argv, "kanlens")


def execute(app: typer.Typer, argv: Sequence[str] | None, name: str) -> int:
    """Run a command of an application called `name` and return its exit code, as `main` does."""
    words = Console(stderr=True, quiet=ranks()[0] > 0)
    interrupted.set(False)

    def show(message: Warning | str, *place: object, **line: object) -> None:
        interrupted.set(interrupted.get() or isinstance(message, InterruptedWarning))
        wrapped(words, f"kanlens: {message}")

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            warnings.simplefilter("always", InterruptedWarning)
            app(args=argv, prog_name=name)
    except KanlensError as error:
        words.quiet &= not isinstance(error, LostProcessError)  # of the first, it may be
        wrapped(words, f"kanlens: {error}")
        return 1
    except OSError as error:
        if error.filename is not None:
            raise
        wrapped(words, f"kanlens: the result could not be printed: {error.strerror}")
        return 1
    except SystemExit as stop:  # typer always leaves this way, from an interrupt without a word
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code == INTERRUPTED and not interrupted.get():
            words.print(f"kanlens: interrupted; {WHOLE}")
        return INTERRUPTED if interrupted.get() and not code else code
    return 0
