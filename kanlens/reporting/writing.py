"""`report`: a page and its JSON twin, written together or not at all."""

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

from kanlens.atomic_files import atomic_write, check_ending, check_writable
from kanlens.checks import check_count, check_generator
from kanlens.display import Displayed, escaped
from kanlens.errors import rewording
from kanlens.long_work import Interruption, interrupts_pass
from kanlens.model.analysis import Model, check_model
from kanlens.plain_json import to_plain
from kanlens.plotting import formats
from kanlens.reporting.analysis import Request, analyze, by_type
from kanlens.reporting.content import build_content
from kanlens.reporting.other_models import describe_models, draw_models, read_others
from kanlens.reporting.subject import read_subject
from kanlens.resources import Memory, within_memory

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from kanlens.data.tables import Table
    from kanlens.model.network import Rows

SUFFIXES = (".html", ".htm")
FOLDER = Path(__file__).parent
PACKED = 16  # numbers from which they are bytes on the page


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Report(Displayed):
    """A report that was written.

    Attributes
    ----------
    path : Path
        The page, one file that needs nothing else.
    json_path : Path
        Its JSON twin, beside it.
    content : dict
        The numbers on the page, in plain JSON types: schema_version, meta, data, model, training,
        performance, importance, edges, formula, certificate, rows, comparison, pruning, alerts
        (and models); ``kanlens/reporting/schema.json`` says what each holds.
    """

    path: Path
    json_path: Path
    content: dict[str, Any]

    def _line(self) -> str:
        target, rows = self.content["meta"]["target"], self.content["data"]["rows"]
        return f"{self.path}, {target} over {rows:,} rows, {len(self.content['alerts'])} alerts"

    def to_json(self) -> str:
        """Return the content as JSON, as the twin holds it."""
        return json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def to_frame(self) -> pd.DataFrame:
        """Return the alerts, one row each: level, code, text."""
        import pandas as pd

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
    """Write what is known of a model to one HTML file, and its numbers to a JSON file beside it.

    An interrupt (Ctrl-C) ends it with a warning; nothing is written then.

    The page opens without a network, and reads without scripts; where a browser runs its own, the
    model can be asked, in the page, what it would say of other features. The same input gives the
    same bytes, but for the seconds that methods took.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left as it is.
    data : Table, (x, y), path, DataFrame, or x alone
        Rows to look at the model with; without targets there is no section on performance.
    path : str or path
        The page, ending in .html; the twin has the same name and ends in .json. Folders are
        created, existing files replaced.
    results : result or iterable of results, optional
        What `attribute` (local methods), `compare`, `symbolize`, `prune`, `fit` and `certify`
        returned for this model, at most one of each. An `Attribution` of rows of `data` then shows
        importance and single rows, a `Comparison` is not made again, and where `target` is None the
        page is about the output of these two.
    title : str, optional
        Heading of the page.
    background : Tensor, ndarray or DataFrame, shape (rows, in), optional
        What samples are compared with: at most 100 rows of it, spread evenly. Default: the rows
        the model kept from its training, else rows of `data`.
    target : int or str, optional
        Index or name of the output to explain. Default: as for `attribute`.
    methods : sequence of str, optional
        Local methods to compare; the first of "shapley" and "secant" among them, else the first,
        is the one that importance and rows are explained with. Default: those of `compare`,
        without what would take long on this model.
    formula : bool
        Read a formula from the model with `kanlens.symbolize`, which may take minutes, unless
        `results` has one.
    others : dict of str to KAN or fitted estimator, optional
        Models of the same features and outputs, matched by position, which a section of their own
        compares with `model` on the same rows. `model` may be among them to have a name there.
    max_rows : int
        Most rows that are attributed, spread evenly over the data; fewer where exact Shapley
        values would take long. Performance is of all rows.
    max_features : int
        Most features in a picture.
    max_memory : str or int, optional
        As for `trace`.
    generator : torch.Generator, optional
        For methods that sample; when None, one of the report's own with seed 0.
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
        If a method or output is unknown, an option is outside what it may be, or a result that was
        passed is of other features, another output or other rows.
    DataError, ShapeError, DTypeError, MethodError
        If the data or a method does not fit the model.

    Examples
    --------
    >>> import tempfile
    >>> from kanlens.model.network import KAN
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
    page, twin = _targets(path)
    title = title or f"Model of {model.schema.target or ', '.join(model.output_names)}"
    drawn_by = "the caller's generator" if generator else "a generator with seed 0"
    try:
        with rewording("report"), interrupts_pass():
            subject = read_subject(model, data, target)
            models = read_others(subject, others)
            analysis = analyze(subject, request)
            content = build_content(analysis, title=title, generator=drawn_by)
            if models:
                content["models"] = to_plain(describe_models(analysis, models))
            found = Report(path=page, json_path=twin, content=content)
            _write(found, _page(analysis, content, max_features, models))
    except KeyboardInterrupt:
        Interruption(happened=True).warn("report", "Nothing is written; call it again")
        raise
    return found


def _page(analysis: Any, content: dict[str, Any], max_features: int, models: Any) -> str:
    """Draw and render; matplotlib, sympy and jinja2 are loaded only now."""
    from kanlens.reporting.figures import draw_all
    from kanlens.reporting.what_if import build_panel

    others = {"models": list(draw_models(analysis, content, max_features, models))}
    panel = build_panel(analysis.subject, [row for row, _ in analysis.picks])
    return render_page(content, draw_all(analysis, content, max_features) | others, panel)


def render_page(
    content: dict[str, Any], pictures: dict[str, Any], panel: dict[str, Any] | None = None
) -> str:
    """Return the page as one HTML document that refers to nothing outside itself.

    Every value from data is escaped; pictures are those of `draw_all`, the panel of `build_panel`.
    A browser runs the page's own script and, whatever stands in the data, no other: it has its
    digest.
    """
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    css = (FOLDER / "page.css").read_text(encoding="utf-8")
    panel = panel or {"left_out": "it was not asked for", "functions": {}}
    script = _script(panel["functions"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("page.html.j2")
    page: str = template.render(
        c=content,
        pictures=pictures,
        css=Markup(css),
        panel=panel,
        panel_json=htmlsafe_json_dumps(_packed(panel), separators=(",", ":"), sort_keys=True),
        script=Markup(script),
        script_hash=digest,
        trusted=Markup,
        titled=_titled,
        formula_words=formula_words(content["formula"]),
    )
    return escaped(page)


def _titled(svg: str, title: str) -> str:
    """Return a picture as markup, with another title if there is one."""
    from markupsafe import Markup, escape

    head, start, rest = svg.partition("<title>")
    if title and start:
        rest = f"{escape(title)}</title>{rest.partition('</title>')[2]}"
    return Markup(head + start + rest)


def _packed(value: Any) -> Any:
    """Write tables of many numbers as bytes of float64, half as long and exact; escape text."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {escaped(key): _packed(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    with contextlib.suppress(ValueError):  # rows of unequal lengths
        table = np.array(value)
        if table.size > PACKED and table.dtype.kind == "f":
            text = base64.b64encode(table.astype("<f8").tobytes()).decode()
            return {"shape": table.shape, "float64": text}
    return [_packed(one) for one in value]


@functools.cache
def _environment() -> Any:
    """Return what reads templates, with those that were read before."""
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
    """Return the page's script, behind elementary functions of u by name."""
    from jinja2.utils import htmlsafe_json_dumps

    known = ", ".join(
        f"{htmlsafe_json_dumps(name)}: (u) => {functions[name]}" for name in functions
    )
    code = (FOLDER / "page.js").read_text(encoding="utf-8")
    return f"const FUNCTIONS = {{{known}}};\n{code}"


def formula_words(formula: dict[str, Any] | None) -> str:
    """Say in one line how close a formula is to its model, and to the targets."""
    if formula is None:
        return ""
    receipt = formula["receipt"]
    distance = formats.percent(receipt["relative_rmse"], 2)
    which = " that chose it," if receipt["chosen_on"] else " held out" * receipt["held_out"]
    words = f"On {formats.counted(receipt['rows'], 'row')}{which} it differs from the model by "
    words += f"{distance} of the output's deviation (RMSE)"
    for key, name, write in (
        ("r2", "R²", formats.number),
        ("accuracy", "accuracy", formats.percent),
    ):
        if receipt[key] is not None:
            words += f"; {name} {write(receipt[key])}, model {write(receipt[f'model_{key}'])}"
    return words + "."


def _targets(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return page and twin; refuse what could not be written after all the work."""
    page = Path(path)
    check_ending(page, SUFFIXES, call="report", shown=SUFFIXES[0])
    twin = page.with_suffix(".json")
    for target in (page, twin):
        check_writable(target, call="report")
    return page, twin


def _write(found: Report, page: str) -> None:
    """Write both files; when the second fails, the first is as it was."""
    before = found.json_path.read_bytes() if found.json_path.exists() else None
    replaced = False
    try:
        with atomic_write(found.path, call="report") as temporary:
            temporary.write_bytes(page.encode("utf-8", "replace"))
            with atomic_write(found.json_path, call="report") as other:
                other.write_bytes(found.to_json().encode("utf-8", "replace"))
            replaced = True
    except (OSError, KeyboardInterrupt):
        if replaced and before is None:
            found.json_path.unlink(missing_ok=True)
        elif replaced and before is not None:
            found.json_path.write_bytes(before)
        raise
