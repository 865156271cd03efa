"""The command certify."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kanlens.checks import message
from kanlens.cli.application import app
from kanlens.cli.model_tables import read_rows
from kanlens.cli.options import (
    Json,
    ModelPath,
    NoSeed,
    Quiet,
    Target,
    TargetColumn,
    output_index,
)
from kanlens.cli.terminal import Terminal, check_outputs
from kanlens.errors import InvalidValueError, MethodError

if TYPE_CHECKING:
    from kanlens.model.network import KAN

Domain = dict[str, tuple[float, float]]
RANGE = re.compile(r"[\s,]*(?P<name>.+?)=(?P<low>[^=:,]*):(?P<high>[^=:,]*)(?:,|$)")


@app.command()
def certify(
    model: ModelPath,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="Table whose ranges are the domain.  [default: those of the training data]",
        ),
    ] = None,
    *,
    column: TargetColumn = None,
    domain: Annotated[
        str | None,
        typer.Option(help="Ranges that replace some of these: age=18:65,income=0:5."),
    ] = None,
    output_name: Target = None,
    tolerance: Annotated[
        float, typer.Option(help="Bounds within this share of what was seen are good enough.")
    ] = 0.02,
    max_boxes: Annotated[int, typer.Option(help="Boxes that are bounded for each output.")] = 4096,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds for all outputs together, shared evenly.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the certificate (JSON) here.")
    ] = None,
    _seed: NoSeed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prove ranges, monotonicity and sensitivity of the outputs inside a box of the features."""
    import kanlens
    from kanlens.outputs import atomic_write

    terminal = Terminal(quiet=quiet, as_json=as_json)
    check_outputs("certify", {"certificate": output}, [model, data])
    kan, given = kanlens.load(model), _given(domain)
    found = kanlens.certify(
        kan,
        {**_known(kan, data, column, given, terminal), **given},
        target=output_index(output_name),
        tolerance=tolerance,
        max_boxes=max_boxes,
        time_limit=time_limit,
        progress=terminal.progress,
    )
    terminal.text(str(found))
    if output is not None:
        with atomic_write(output, call="certify") as path:
            path.write_text(found.to_json(), encoding="utf-8")
        terminal.wrote(output)
    facts: dict[str, Any] = json.loads(found.to_json())
    terminal.emit(facts)


def _known(
    kan: KAN, data: Path | None, column: str | None, given: Domain, terminal: Terminal
) -> Domain:
    """Return the range of every feature: in a table, else in the data the model was trained on.

    None are known, and none needed, where the ranges of all features are given.
    """
    if data is not None:
        x = read_rows(data, kan, column, call="certify", terminal=terminal).x
        low, high = x.amin(0), x.amax(0)
    elif kan.feature_range is not None:
        low, high = kan.feature_range
    elif set(kan.feature_names) <= set(given):
        return {}
    else:
        expected, got = "a domain", "a model without statistics of its training"
        advice = "Name a table, for its ranges, or all of them with --domain"
        raise MethodError(message("certify", expected, got, advice))
    ends = zip(low.tolist(), high.tolist(), strict=True)
    return dict(zip(kan.feature_names, ends, strict=True))


def _given(text: str | None) -> Domain:
    """Return ranges from name=low:high, with commas.

    Examples
    --------
    >>> _given("a=0:1, b=-2:2.5")
    {'a': (0.0, 1.0), 'b': (-2.0, 2.5)}
    >>> _given("color=red, dark=0:1")  # names may hold commas and signs
    {'color=red, dark': (0.0, 1.0)}
    """
    found, rest = {}, text or ""
    while rest.strip(" ,"):
        part = RANGE.match(rest)
        try:
            if part is None or part["name"].strip() in found:
                raise ValueError
            found[part["name"].strip()] = float(part["low"]), float(part["high"])
        except ValueError:
            got = repr((part.group() if part else rest).strip(" ,"))
            expected = "--domain name=low:high, each name once"
            text = message("certify", expected, got, "Write age=18:65,income=0:5")
            raise InvalidValueError(text) from None
        rest = rest[part.end() :]
    return found
