"""The application: a decorator that adds commands, errors in one line, and exit codes.

Exit codes are 0 (success), 1 (a known error), 2 (wrong usage), 3 (a bug) and 130 (interrupted).
Errors name options instead of arguments.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import shlex
import warnings
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from rich.console import Console
from typer.core import TyperGroup

import kanlens
from kanlens.cli._console import Terminal, interrupted, seeded, wrapped
from kanlens.cli._options import (
    GROUPS,
    Json,
    MaxMemory,
    NoSeed,
    Quiet,
    Seed,
    described,
    options_of_group,
)
from kanlens.cli._signals import INTERRUPTED, WHOLE, ranks
from kanlens.errors import InterruptedWarning, KanlensError, LostProcessError, Message

Options: TypeAlias = dict[str, tuple[str, str]]  # by argument: its flag, and that for False

COMMANDS = (  # modules that have them, in the order of the help
    "demonstration",
    "model_commands",
    "prediction_command",
    "growth_commands",
    "file_commands",
    "analysis_commands",
    "attribution_commands",
    "picture_commands",
)
WRITTEN = {"import_model": "'kanlens import'"}  # functions by the names of their commands
E = TypeVar("E", bound=Message)

running: ContextVar[Callable[[], Any]] = ContextVar("running")  # returns the running command
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
    """Return an error or warning, whose text then names options instead of arguments."""
    if (command := running.get()()) is not None:
        options = options_of(command)
        options |= {name: options[option] for name, option in renamed.items()}
        message.write = partial(written, options)
    return message


def written(options: Options, name: str, value: object) -> str | None:
    """Return an argument and its value as an option; None if there is no such option."""
    if name not in options:
        return WRITTEN.get(name)
    flag, negative = options[name]
    if value is None or value is ... or value is True:
        return flag
    if value is False:
        return negative or f"no {flag}"
    plain = shlex.quote(str(value))
    return f"{flag}={plain}" if flag.startswith("--set ") else f"{flag} {plain}"


class CommandGroup(TyperGroup):
    """A group of commands whose errors and warnings name options instead of arguments."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; its warnings and errors name options instead of arguments."""
        shown = warnings.showwarning

        def show(message: Warning | str, *place: Any, **line: Any) -> None:
            own = with_options(message) if isinstance(message, Message) else message
            shown(own, *place, **line)

        token = running.set(lambda: self.get_command(ctx, ctx.invoked_subcommand or ""))
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show
                return super().invoke(ctx)
        except KanlensError as error:
            with_options(error)
            raise
        finally:
            running.reset(token)


app = typer.Typer(
    name="kanlens", cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"kanlens {kanlens.__version__}")
        raise typer.Exit


@app.callback()
def kanlens_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print the log, such as when kernels are compiled.")
    ] = False,
) -> None:
    """Interpret Kolmogorov-Arnold networks: plots, pruning, formulas, attributions."""
    if verbose:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("kanlens").setLevel(logging.INFO)


def command(
    name: str | None = None, /, *, example: str, **texts: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command; `texts` are the help of its arguments, in addition to `HELP`.

    --json and --quiet determine its argument `terminal`, --seed its `generator`. A command without
    `generator` and `seed` draws nothing, and --seed has no effect. A command that reads `data`
    works within --max-memory.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        call = name or function.__name__
        signature = inspect.signature(function, eval_str=True).parameters

        def run(
            *,
            seed: int | None,
            as_json: bool,
            quiet: bool,
            max_memory: str | None = None,
            **arguments: Any,
        ) -> None:
            from kanlens._resources import memory_limit  # with torch, which no help needs

            if "generator" in signature:
                arguments["generator"] = seeded(seed)
            elif "seed" in signature:
                arguments["seed"] = seed
            for group in GROUPS.keys() & signature.keys():
                arguments[group] = {option: arguments.pop(option) for option in GROUPS[group]}
            with memory_limit(call, max_memory):
                function(terminal=Terminal(call, quiet=quiet, as_json=as_json), **arguments)

        drawing = [key for key in ("generator", "seed") if key in signature]
        seeds: Any = Seed if drawing else NoSeed
        start = signature["seed"].default if "seed" in drawing else 0 if drawing else None
        common = {"seed": (seeds, start), "as_json": (Json, False), "quiet": (Quiet, False)}
        if "data" in signature:
            common["max_memory"] = (MaxMemory, None)
        others = {"terminal", "generator", *common}
        own = [part for key, part in signature.items() if key not in others]
        parameters = [described(part, texts) for each in own for part in options_of_group(each)]
        parameters += [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind)
            for key, (kind, value) in common.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {part.name: part.annotation for part in parameters}
        run.__doc__ = function.__doc__
        app.command(call, epilog=f"Example: {example}")(run)
        return function

    return add


def load_commands() -> None:
    """Import the modules of all commands."""
    for name in COMMANDS:
        importlib.import_module(f"kanlens.cli._{name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the kanlens command in `argv` (default: sys.argv); return its exit code."""
    load_commands()
    return execute(app, argv, "kanlens")


def execute(app: typer.Typer, argv: Sequence[str] | None, name: str) -> int:
    """Run a command of an application; return its exit code."""
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
        words.quiet &= not isinstance(error, LostProcessError)  # the one that prints may be
        wrapped(words, f"kanlens: {error}")
        return 1
    except OSError as error:
        if error.filename is not None:
            raise
        wrapped(words, f"kanlens: the result could not be printed: {error.strerror}")
        return 1
    except SystemExit as stop:  # typer always leaves this way, silently after an interrupt
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code == INTERRUPTED and not interrupted.get():
            words.print(f"kanlens: interrupted; {WHOLE}")
        return INTERRUPTED if interrupted.get() and not code else code
    return 0
