"""`report`: a page and its JSON twin, both written or neither."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kanlens._atomic_files import atomic_write, check_ending, check_writable
from kanlens._checks import check_count, check_generator
from kanlens._display import Displayed, escaped
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens._resources import Memory, within_memory
from kanlens._runtime import Interruption, interrupts_pass
from kanlens.errors import rewording
from kanlens.model._analysis import Model, check_model
from kanlens.plotting import _formats as formats
from kanlens.reporting._analysis import Analysis, Request, analyze, by_type, check_methods
from kanlens.reporting._model_comparison import describe_models, draw_models, read_others
from kanlens.reporting._page_data import build_content
from kanlens.reporting._report_data import read_subject

if TYPE_CHECKING:
    from torch import Tensor

    from kanlens.data._tables import Table
    from kanlens.model._network import Rows

SUFFIXES = (".html", ".htm")
FOLDER = Path(__file__).parent
PACKED = 16  # most floats of a table that are written as text


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Report(Displayed):
    """A written report.

    Attributes
    ----------
    path : Path
        The page, one self-contained file.
    json_path : Path
        The JSON twin in the same folder.
    content : dict
        The numbers on the page, in plain JSON types, among them data, performance, importance and
        alerts; the JSON Schema of the documentation (`kanlens report`) describes all keys.
    """

    path: Path
    json_path: Path
    content: dict[str, Any]

    def _line(self) -> str:
        target, rows = self.content["meta"]["target"], self.content["data"]["rows"]
        return f"{self.path}, {target} over {rows:,} rows, {len(self.content['alerts'])} alerts"

    def to_json(self) -> str:
        """Return the content as JSON, equal to the twin."""
        return json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def to_frame(self) -> pd.DataFrame:
        """Return the alerts, one row each: level, code, text."""
        return pd.DataFrame(self.content["alerts"], columns=["level", "code", "text"])


@within_memory
def report(
    model: Model,
    data: Table | tuple[Any, Any] | str | os.PathLike[str] | pd.DataFrame | Tensor,
    path: str | os.PathLike[str] = "report.html",
    *,
    results: object = (),
    title: str | None = None,
    background: Rows | None = None,
    target: int | str | None = None,
    methods: Sequence[str] | None = None,
    formula: bool = False,
    others: Mapping[str, Model] | None = None,
    max_rows: int = 200,
    max_features: int = 20,
    max_memory: Memory = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> Report:
    """Write a report on a model: an HTML page and a JSON file.

    An interrupt (Ctrl-C) ends it with a warning; nothing is written then.

    The page works offline and is readable without JavaScript; with JavaScript, it also evaluates
    the model for other values of the features. The same input gives the same bytes, except for the
    run times of the methods.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    data : Table, (x, y), path, DataFrame, or x alone
        Rows for the analyses; without targets there is no section on performance.
    path : str or path
        The page, ending in .html or .htm; the JSON file has the same name and ends in .json.
        Folders are created, existing files replaced.
    results : result or iterable of results, optional
        Results of `attribute` (local methods), `compare`, `symbolize`, `prune`, `fit` and `certify`
        for this model, at most one of each, which are not computed again. An `Attribution` of rows
        of `data` fills the sections on importance and single rows; the default `target` is that of
        an `Attribution` or `Comparison`.
    title : str, optional
        Heading of the page.
    background : Tensor, ndarray or DataFrame, shape (rows, in), optional
        Background rows, of which at most 100 are used, evenly spread. Default: the background rows
        stored in the model, else rows of `data`.
    target : int or str, optional
        Index or name of the output to explain. Default: as for `attribute`.
    methods : sequence of str, optional
        Local methods to compare; the first of "shapley" and "secant" among them, else the first,
        fills these sections. Default: those of `compare`, without those that would take
        long on this model.
    formula : bool
        Whether to derive the formula of `kanlens.symbolize(model, x, y)`, which may take minutes,
        unless `results` has one.
    others : dict of str to KAN or fitted estimator, optional
        Models of the same features and outputs, matched by position, to compare with `model` on the
        same rows. Include `model` to give it a name.
    max_rows : int
        Largest number of rows to attribute, evenly spread over the data; fewer if exact Shapley
        values would take long. Performance is computed on all rows.
    max_features : int
        Largest number of features in a picture.
    max_memory : str or int, optional
        As for `trace`.
    generator : torch.Generator, optional
        For methods that sample; a generator with seed 0 when None.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    Report

    Raises
    ------
    OutputError
        If a file cannot be written there, or `path` does not end in .html.
    InvalidValueError
        If a method or output is unknown, an option is out of range, or a result that was passed is
        of other features, another output or other rows.
    DataError, ShapeError, DTypeError, MethodError
        If the data or a method does not fit the model.

    Examples
    --------
    >>> import tempfile
    >>> from kanlens.model._network import KAN
    >>> x = torch.rand(60, 2)
    >>> written = report(KAN([2, 1]), (x, x.sum(1)), Path(tempfile.mkdtemp(), "r.html"),
    ...                  methods=["shapley", "secant"], progress=False)
    >>> written.json_path.name, [one["name"] for one in written.content["data"]["features"]]
    ('r.json', ['x1', 'x2'])
    """
    model = check_model("report", model)
    check_generator("report", generator)
    check_count("report", "max_rows", max_rows, least=2)
    check_count("report", "max_features", max_features)
    check_methods(methods)
    request = Request(
        **by_type(results),
        background=background,
        methods=methods,
        symbolize=formula,
        max_rows=max_rows,
        generator=generator or torch.Generator().manual_seed(0),
        progress=progress,
    )
    if target is None:
        passed = request.attribution or request.comparison
        target = None if passed is None else passed.target
    page = Path(path)
    twin = page.with_suffix(".json")
    check_ending(page, SUFFIXES, call="report", shown=SUFFIXES[0])
    for file in (page, twin):  # before all the work
        check_writable(file, call="report")
    title = title or f"Model of {model.schema.target or ', '.join(model.output_names)}"
    drawn_by = "the caller's generator" if generator else "a generator with seed 0"
    try:
        with rewording("report"), interrupts_pass():
            subject = read_subject(model, data, target)
            models = None if others is None else read_others(subject, others)
            analysis = analyze(subject, request)
            content = build_content(analysis, title=title, generator=drawn_by)
            if models:
                content["models"] = to_plain(describe_models(analysis, models))
            written = Report(path=page, json_path=twin, content=content)
            _write(written, _page(analysis, content, max_features, models))
    except KeyboardInterrupt:
        Interruption(happened=True).warn("report", "Nothing is written; call it again")
        raise
    return written


def _page(analysis: Analysis, content: dict[str, Any], max_features: int, models: Any) -> str:
    """Draw the pictures and render the page; this loads matplotlib, sympy and jinja2."""
    from kanlens.reporting._figures import draw_all
    from kanlens.reporting._what_if_data import build_panel

    pictures = draw_all(analysis, content, max_features)
    if models:
        pictures["models"] = list(draw_models(analysis, content, max_features, models))
    panel = build_panel(analysis.subject, [row for row, _ in analysis.picks])
    return render_page(content, pictures, panel)


def render_page(
    content: dict[str, Any], pictures: dict[str, Any], panel: dict[str, Any] | None = None
) -> str:
    """Return the page as one self-contained HTML document.

    Every value from data is escaped; `pictures` are from `draw_all`, `panel` is from `build_panel`.
    A digest lets a browser run no other script than the page's own.
    """
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    panel = panel or {"left_out": "it was not requested", "functions": {}}
    script = _script(panel["functions"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("page.html.j2")
    page: str = template.render(
        c=content,
        pictures=pictures,
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        panel=panel,
        panel_json=htmlsafe_json_dumps(_packed(panel), separators=(",", ":"), sort_keys=True),
        script=Markup(script),
        script_hash=digest,
        trusted=Markup,
        titled=_titled,
        formula_words=content["formula"] and formula_words(content["formula"]["receipt"]),
    )
    return escaped(page)


def _titled(svg: str, title: str) -> str:
    """Return an SVG picture as markup; a `title` that is not empty replaces its own."""
    from markupsafe import Markup, escape

    head, start, rest = svg.partition("<title>")
    if title and start:
        rest = f"{escape(title)}</title>{rest.partition('</title>')[2]}"
    return Markup(head + start + rest)


def _packed(value: object) -> Any:
    """Encode tables of more than `PACKED` floats as base64 of float64; escape text."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {escaped(key): _packed(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    with contextlib.suppress(ValueError):  # rows of unequal lengths
        table = np.array(value)
        if table.size > PACKED and table.dtype.kind == "f":
            text = base64.b64encode(table.astype("<f8").tobytes()).decode()
            return {"shape": table.shape, "float64": text}
    return [_packed(item) for item in value]


@functools.cache
def _environment() -> Any:
    """Return the environment of the templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= formats.FILTERS
    return environment


def _script(functions: dict[str, str]) -> str:
    """Return the page's script, preceded by a table of elementary functions of u by name."""
    from jinja2.utils import htmlsafe_json_dumps

    entries = [f"{htmlsafe_json_dumps(name)}: (u) => {code}" for name, code in functions.items()]
    code = (FOLDER / "page.js").read_text(encoding="utf-8")
    return f"const FUNCTIONS = {{{', '.join(entries)}}};\n{code}"


def formula_words(receipt: dict[str, Any]) -> str:
    """Return the errors of a formula against model and targets, in words."""
    distance = formats.percent(receipt["relative_rmse"], 2)
    rows = formats.counted(receipt["rows"], "row")
    if receipt["chosen_on"]:
        rows += " used to choose the formula"
    elif receipt["held_out"]:
        rows = formats.counted(receipt["rows"], "held-out row")
    words = f"On {rows}, the RMSE against the model is {distance} of the output's standard "
    words += "deviation"
    for key, name, write in (
        ("r2", "R²", formats.number),
        ("accuracy", "accuracy", formats.percent),
    ):
        if receipt[key] is not None:
            words += f"; {name} {write(receipt[key])}, model {write(receipt[f'model_{key}'])}"
    return words + "."


def _write(written: Report, page: str) -> None:
    """Write both files; when the second fails, the first is restored."""
    twin = written.json_path
    before = twin.read_bytes() if twin.exists() else None
    replaced = False
    try:
        with atomic_write(written.path, call="report") as temporary:
            temporary.write_bytes(page.encode("utf-8", "replace"))
            with atomic_write(twin, call="report") as other:
                other.write_bytes(written.to_json().encode("utf-8", "replace"))
            replaced = True
    except (OSError, KeyboardInterrupt):
        if replaced and before is None:
            twin.unlink(missing_ok=True)
        elif replaced and before is not None:
            twin.write_bytes(before)
        raise
