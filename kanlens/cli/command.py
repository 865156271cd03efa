"""Commands: what all of them have in common; their errors name their options."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import kanlens
from kanlens.cli.flags import options_of, written
from kanlens.cli.options import Json, MaxMemory, NoSeed, Quiet, Seed, described
from kanlens.cli.terminal import Terminal, seeded
from kanlens.errors import KanlensError, Message
from kanlens.resources import memory_limit


class CommandGroup(TyperGroup):
    """A group of commands whose errors and warnings name options instead of arguments."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; its warnings, and the error it ends with, name its options."""
        shown = warnings.showwarning

        def show(message: Warning | str, *place: Any, **line: Any) -> None:
            self._name_options(ctx, message)
            shown(message, *place, **line)

        with warnings.catch_warnings():
            warnings.showwarning = show
            try:
                return super().invoke(ctx)
            except KanlensError as error:
                self._name_options(ctx, error)
                raise

    def _name_options(self, ctx: Any, message: Any) -> None:
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        if command is not None and isinstance(message, Message):
            message.write = partial(written, options_of(command))


app = typer.Typer(
    name="kanlens",
    cls=CommandGroup,
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
        supplied = {"terminal", "generator", *common}
        parameters = [described(one, words) for one in own.values() if one.name not in supplied]
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
