"""Commands on features: attribute, importance, compare, methods, certify."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanlens
from kanlens._atomic_files import ending_of
from kanlens._files import GROUP
from kanlens._lazy import pd
from kanlens._runtime import temporary_folder
from kanlens.cli._command import command, with_options
from kanlens.cli._console import Generator, Terminal, seeded
from kanlens.cli._options import output_index, set_options, split_names
from kanlens.errors import InvalidValueError

if TYPE_CHECKING:
    from kanlens import KAN, Importance, Source, Table

RANKED = 200  # rows that rank the features by default
MAX_COLUMNS = 6  # most methods whose importances are shown side by side
ALSO_TABLE = "Also write the table here."
METRICS = ("relative_gap", "shapley_error", "shapley_rank", "infidelity", "deletion", "seconds")
OPTION = ("an option of the method", "'kanlens methods' lists the options")
SETTINGS = ("max_memory", "generator", "progress", "workers")
OWN = ("model", "x", "method", "background", "target", "grouped", *SETTINGS)
Domain = dict[str, tuple[float, float]]
RANGE = re.compile(r"[\s,]*(?P<name>.+?)=(?P<low>[^=:,]*):(?P<high>[^=:,]*)(?:,|$)")


@command(
    example="kanlens attribute model.safetensors data.csv --method shapley -o attributions.parquet",
    max_rows="Largest number of rows to explain, evenly spread.  [default: all]",
    output="Table to write; a folder of Parquet files where the name has no ending, or with "
    "--scheduler. The same command continues an interrupted run.",
)
def attribute(
    model: Path,
    data: Path,
    *,
    method: str = "shapley",
    column: str | None = None,
    background: Path | None = None,
    output_name: str | None = None,
    max_rows: int | None = None,
    max_background: int | None = None,
    options: list[str] | None = None,
    output: Path = Path("attributions.parquet"),
    scheduler: str | None = None,
    workers: int | None = None,
    terminal: Terminal,
    seed: int | None = None,
) -> None:
    """Compute the contribution of each feature to every prediction, one row per table row."""
    from kanlens.cli._model_data import background_rows, open_rows, output_to_explain, spread
    from kanlens.distributed._jobs import check_folder

    several = scheduler is not None or output.is_dir() or not ending_of(output)
    folder = max_rows is None and several
    terminal.check([model, data, background], table=None if folder else output)
    if folder:
        check_folder(output, call=terminal.call)
    kan = kanlens.load(model)
    rows = open_rows(data, kan, column, terminal)
    table = _few(rows, kan, background, max_rows)
    against = background_rows(background, kan, table, max_background, terminal)
    how = {**_settings(method, options, terminal), "background": against, "generator": seeded(seed)}
    if max_rows is None and (folder or workers or not isinstance(rows, kanlens.Table)):
        how |= {"target": output_index(output_name), "workers": scheduler or workers}
        how["generator"] = None if seed is None else how["generator"]
        _attribute_parts(kan, data, output, how, terminal, folder=folder)
        return
    how["target"] = output_to_explain(terminal, kan, output_name, table.x)
    result = kanlens.attribute(kan, spread(table.x, "max_rows", max_rows, terminal), **how)
    terminal.write(result.to_frame(), output)
    facts: dict[str, Any] = {}
    importance: Any = result
    if isinstance(result, kanlens.Attribution):
        importance = result.to_importance()
        facts = {"rows": len(result.values), "baseline": result.baseline, **_errors(result)}
    _attributed(output, result, importance, facts, terminal)


def _settings(method: str, options: list[str] | None, terminal: Terminal) -> dict[str, Any]:
    """Return the arguments of an attribution method, with the options of the user."""
    own = set_options(terminal.call, options, lambda name: name not in OWN, *OPTION)
    return {"method": method, "progress": terminal.progress, **own}


def _few(rows: Table | Source, kan: KAN, background: Path | None, most: int | None) -> Table:
    """Return a table; of a source `most` rows, or 1 where a background is known."""
    from kanlens.cli._model_data import BACKGROUND

    if isinstance(rows, kanlens.Table):
        return rows
    if most is None and (background is not None or kan.background is not None):
        return rows.read(0, 1)
    return rows.sample(most or BACKGROUND)


def _attribute_parts(
    kan: KAN, data: Path, output: Path, how: dict[str, Any], terminal: Terminal, *, folder: bool
) -> None:
    """Attribute in parts; write a folder, or one file that joins the parts."""
    from kanlens import distributed
    from kanlens.data._row_readers import ParquetReader, blocks

    with temporary_folder() as temporary:
        result = distributed.attribute(kan, data, output if folder else temporary, **how)
        if not folder:
            reader = ParquetReader(temporary, call=terminal.call)
            spans = blocks(reader.rows, GROUP)
            parts = (reader.read(start, stop, reader.columns) for start, stop in spans)
            terminal.write(parts, output)
    facts = {"rows": result.rows, "baseline": result.baseline}
    if folder:
        facts |= {"parts": result.parts, "parts_kept": result.kept}
        terminal.say(f"wrote {output} ({result.parts} files)")
    for name, size in result.largest.items():
        facts[name if name == "bound" else f"largest_{name}"] = size
    facts |= {"remark": result.remark} if result.remark else {}
    _attributed(output, result, result.importance, facts, terminal)


def _attributed(
    output: Path, result: Any, importance: Importance, facts: dict[str, Any], terminal: Terminal
) -> None:
    """Print properties of an attribution, and the features by importance."""
    target = f"{result.target} ({result.unit})" if result.unit else result.target
    facts = {"method": result.method, "target": target, **facts}
    facts = {"attributions": str(terminal.place(output)), **facts}
    frame = importance.to_frame()
    terminal.facts("attributed", facts, importance=frame.to_dict(orient="records"))
    terminal.frame("importance", frame)


@command(
    example="kanlens importance model.safetensors data.csv",
    output_name="One output, by name or index.  [default: all of them]",
    max_rows="Largest number of rows, evenly spread.  [default: 200; all with workers]",
    output=ALSO_TABLE,
)
def importance(
    model: Path,
    data: Path,
    *,
    method: str = "shapley",
    column: str | None = None,
    background: Path | None = None,
    output_name: str | None = None,
    max_rows: int | None = None,
    max_background: int | None = None,
    options: list[str] | None = None,
    output: Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Rank the features for every output or class, with 95% intervals over the rows."""
    from kanlens import distributed
    from kanlens.cli._model_data import background_rows, open_rows, spread

    terminal.check([model, data, background], table=output)
    kan = kanlens.load(model)
    rows = open_rows(data, kan, column, terminal)
    shared = max_rows is None and (scheduler or workers)
    most = max_rows or RANKED
    table = _few(rows, kan, background, most)
    against = background_rows(background, kan, table, max_background, terminal)
    how = {**_settings(method, options, terminal), "background": against, "generator": generator}
    how["target"] = output_index(output_name)
    if shared:
        frame = distributed.importance(kan, data, workers=shared, **how)
    else:
        frame = kanlens.importance(kan, spread(table.x, "max_rows", most, terminal), **how)
    reference = None if output_name else kan.reference_class
    for name, part in frame.groupby("output", sort=False):
        if reference is not None and name == kan.output_names[reference]:
            terminal.say(f"{name!s} is the reference class: other classes are relative to it.")
            continue
        unit = str(part["unit"].iloc[0])
        title = f"importance for {name}" + (f" ({unit})" if unit else "")
        terminal.frame(title, part.drop(columns=["output", "unit"]))
    terminal.write(frame, output)
    terminal.emit({"method": method, "importance": frame.to_dict(orient="records")})


@command(
    example="kanlens compare model.safetensors data.csv --max-rows 20",
    methods="Methods, comma-separated, or all.  [default: the well-known ones]",
    metrics="Metrics, comma-separated, or all.  [default: the quick ones]",
    max_background="Largest number of background rows, evenly spread.",
    output=ALSO_TABLE,
)
def compare(
    model: Path,
    data: Path,
    *,
    methods: str | None = None,
    metrics: str | None = None,
    column: str | None = None,
    background: Path | None = None,
    output_name: str | None = None,
    max_rows: int = 50,
    max_background: int = 20,
    output: Path | None = None,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Compare attribution methods: completeness, error, agreement, seconds."""
    from kanlens.cli._model_data import background_rows, output_to_explain, read_rows, spread

    terminal.check([model, data, background], table=output)
    kan = kanlens.load(model)
    table = read_rows(data, kan, column, terminal)
    result = kanlens.compare(
        kan,
        spread(table.x, "max_rows", max_rows, terminal),
        background=background_rows(background, kan, table, max_background, terminal),
        target=output_to_explain(terminal, kan, output_name, table.x),
        methods=_names(methods),
        metrics=_names(metrics),
        generator=generator,
        progress=terminal.progress,
    )
    columns = METRICS if metrics is None else (*result.arrows, "seconds")
    columns = ("method", *(name for name in columns if name in result.frame))
    arrows = {name: f"{name} {arrow}".rstrip() for name, arrow in result.arrows.items()}
    numbers = result.frame[[*columns]].rename(columns=arrows)
    numbers["method"] = numbers["method"].str.replace("_", " ")  # words, for narrow terminals
    terminal.text(f"output: {result.target}")
    terminal.frame(f"methods on {min(max_rows, table.rows)} rows", numbers)
    terminal.frame("verdicts", result.frame[["method", "verdict"]])
    for start in range(0, result.importance.shape[1], MAX_COLUMNS):
        part = result.importance.iloc[:, start : start + MAX_COLUMNS]
        terminal.frame("mean |attribution|", part.reset_index(names="feature"))
    errors = result.refusals.items()
    reasons = {name: str(with_options(error, method="methods")) for name, error in errors}
    skipped = result.skipped | reasons
    for name, reason in skipped.items():
        terminal.say(f"{name} was left out: {reason}")
    terminal.write(result.frame, output)
    terminal.emit({**json.loads(result.to_json()), "skipped": skipped})


@command(example="kanlens methods")
def methods(*, terminal: Terminal) -> None:
    """List the attribution methods."""
    names = ("name", "scope", "exact", "complete", "options", "summary", "reference")
    rows = [{name: getattr(method, name) for name in names} for method in kanlens.METHODS.values()]
    frame = pd.DataFrame(rows)
    options = frame["options"].map(lambda names: f"; options: {', '.join(names)}" if names else "")
    terminal.frame("methods", frame[["name", "scope", "exact", "complete"]])
    terminal.frame("values", frame[["name"]].assign(summary=frame["summary"] + options))
    terminal.emit({"methods": rows})


def _names(text: str | None) -> list[str] | str | None:
    """Return names, "all", or None for the default."""
    names = split_names(text)
    return "all" if names == ["all"] else names or None


def _errors(result: kanlens.Attribution) -> dict[str, Any]:
    """Return the errors that an attribution reports."""
    facts: dict[str, Any] = {}
    if result.shares:
        facts["largest_completeness_gap"] = float(result.completeness_gap.abs().max())
        facts["largest_relative_gap"] = float(result.relative_gap.abs().max())
    if result.standard_error is not None:
        facts["largest_standard_error"] = float(result.standard_error.max())
    if result.bound is not None:
        facts["bound"] = float(result.bound.max())
    if result.remark:
        facts["remark"] = result.remark
    return facts


@command(
    example="kanlens certify model.safetensors",
    data="Table whose ranges are the domain.  [default: those of the training data]",
    domain="Ranges that replace those of DATA: age=18:65,income=0:5.",
    tolerance="Stop when bounds are within this share of the observed range.",
    max_boxes="Largest number of boxes for each output.",
    time_limit="Seconds for all outputs together, shared evenly.",
    output="Also write the certificate (JSON) here.",
)
def certify(
    model: Path,
    data: Path | None = None,
    *,
    column: str | None = None,
    domain: str | None = None,
    output_name: str | None = None,
    tolerance: float = 0.02,
    max_boxes: int = 4096,
    time_limit: float | None = None,
    output: Path | None = None,
    terminal: Terminal,
) -> None:
    """Prove ranges, monotonicity and sensitivity of the outputs inside a box of the features."""
    from kanlens.cli._model_data import read_rows

    terminal.check([model, data], certificate=output)
    kan, ranges = kanlens.load(model), read_ranges(domain)
    if data is not None:
        x = read_rows(data, kan, column, terminal).x
        ends = zip(x.amin(0).tolist(), x.amax(0).tolist(), strict=True)
        ranges = dict(zip(kan.feature_names, ends, strict=True)) | ranges
    certificate = kanlens.certify(
        kan,
        ranges or None,
        target=output_index(output_name),
        tolerance=tolerance,
        max_boxes=max_boxes,
        time_limit=time_limit,
        progress=terminal.progress,
    )
    terminal.text(str(certificate))
    terminal.write(certificate.to_json(), output)
    terminal.emit(json.loads(certificate.to_json()))


def read_ranges(text: str | None) -> Domain:
    """Return ranges from name=low:high, comma-separated."""
    ranges: Domain = {}
    rest = text or ""
    while rest.strip(" ,"):
        part = RANGE.match(rest)
        try:
            if part is None or part["name"].strip() in ranges:
                raise ValueError
            ranges[part["name"].strip()] = float(part["low"]), float(part["high"])
        except ValueError:
            got = repr((part.group() if part else rest).strip(" ,"))
            expected = "--domain name=low:high, each name once"
            advice = "Write age=18:65,income=0:5"
            raise InvalidValueError("certify", expected, got, advice) from None
        rest = rest[part.end() :]
    return ranges
