"""Results in a notebook: one line, a picture and a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, singledispatch
from html import escape
from typing import Any

from kanlens import plotting
from kanlens._display import escaped
from kanlens._lazy import pd
from kanlens.attribution._compare import Comparison
from kanlens.attribution._effects import Effect
from kanlens.attribution._result import Attribution, Importance
from kanlens.attribution._terms import Terms
from kanlens.certificates import Certificate
from kanlens.data._source import Source
from kanlens.data._tables import Table
from kanlens.editing import Edit, EditDiff
from kanlens.imitation import Imitation
from kanlens.model._edge import Edge
from kanlens.model._network import KAN
from kanlens.model._trace import Trace
from kanlens.plotting._formats import number
from kanlens.plotting._paths import edited_curves
from kanlens.plotting._paths import page_size as edits_size
from kanlens.plotting._style import STYLE
from kanlens.plotting._terms import page_size
from kanlens.pruning import PruneResult
from kanlens.reporting._drawing import draw
from kanlens.reporting._page_records import mathml
from kanlens.reporting._report import Report
from kanlens.symbolic._pareto_front import READABLE
from kanlens.symbolic._result import SymbolicResult
from kanlens.training._frontier_result import Frontier
from kanlens.training._result import FitResult, SparsityPath

ROWS, COLUMNS = 10, 20  # of a table, at most
OUTPUTS = 3  # of a certificate that are drawn, at most
MAX_CELL_WIDTH = 60  # characters of a cell, at most
EDGES = 120  # that are drawn, at most


def to_html(result: object) -> str:
    """Return a result as HTML, in the colors of the notebook."""
    parts = "\n".join(filter(None, _parts(result)))
    return escaped(f"<div><p><strong>{escape(repr(result))}</strong></p>\n{parts}\n</div>")


def _picture(
    paint: Callable[..., Any], width: float, height: float, alt: str, axes_only: bool = False
) -> str:
    svg = draw(paint, (width, height), alt=alt, axes_only=axes_only).svg
    if 'class="plate' in svg.partition(">")[0]:  # its scale of colors is one for white paper
        return svg
    paper = "var(--jp-layout-color0,var(--vscode-editor-background,none))"
    return svg.replace(STYLE.ink, "currentColor").replace(STYLE.paper, paper)


def _table(frame: pd.DataFrame, *, index: bool = False) -> str:
    form: dict[str, Any] = {"index": index, "border": 0, "float_format": partial(number, digits=4)}
    with pd.option_context("display.max_colwidth", MAX_CELL_WIDTH):
        text: str = frame.head(ROWS).to_html(max_cols=COLUMNS, **form)
    rest = len(frame) - ROWS
    return text + (f"<p>and {rest:,} more rows</p>" if rest > 0 else "")


@singledispatch
def _parts(result: object) -> Iterator[str]:
    raise TypeError(type(result).__name__)


@_parts.register
def _(result: KAN) -> Iterator[str]:
    if result.edges_alive <= EDGES:
        height = 0.7 + 1.55 * len(result.layers)
        yield _picture(partial(plotting.network, result), 6.0, height, "Diagram of the network")


@_parts.register(Table)
@_parts.register(Source)
def _(result: Table | Source) -> Iterator[str]:
    table = result if isinstance(result, Table) else result.read(0, min(ROWS, result.rows))
    yield _table(table.frame, index=True)


@_parts.register
def _(result: FitResult) -> Iterator[str]:
    if result.history:
        yield _picture(partial(plotting.history, result), 3.6, 2.4, "Loss in training")


@_parts.register
def _(result: SparsityPath) -> Iterator[str]:
    yield _picture(partial(plotting.path, result), 3.6, 2.4, "Loss along the path of strengths")
    yield _table(result.to_frame().drop(columns="features"))


@_parts.register
def _(result: PruneResult) -> Iterator[str]:
    if result.removed:
        yield _picture(partial(plotting.pruning, result), 3.6, 2.4, "Loss while edges were removed")


@_parts.register
def _(result: SymbolicResult) -> Iterator[str]:
    for place, name in enumerate(result.output_names):
        best = result.get_best(place)
        text = f"{name} = {best['equation']}"
        formula = mathml(best["sympy_format"], name) if best["complexity"] <= READABLE else None
        yield formula or f"<p><code>{escape(text)}</code></p>"
    yield f"<p>{escape(result.receipt.summary())}</p>"
    columns = ["output", "stage", "complexity", "loss", "score", "equation"]
    table = result.equations_
    yield _table(table[[name for name in columns if name in table]])


@_parts.register
def _(result: Attribution) -> Iterator[str]:
    height = 0.62 + 0.26 * min(len(result.features), 20)
    kind: dict[str, Any] = {"kind": "beeswarm"}
    if len(result.values) == 1 and result.shares:
        kind = {"kind": "waterfall", "row": 0}
    alt = f"Contributions of the features to {result.target}"
    yield _picture(partial(plotting.attribution, result, **kind), 4.9, height + 0.3, alt)


@_parts.register
def _(result: Importance) -> Iterator[str]:
    height, alt = 0.62 + 0.26 * min(len(result.features), 20), "How much each feature matters"
    yield _picture(partial(plotting.attribution, result), 3.75, height, alt)


@_parts.register
def _(result: Effect) -> Iterator[str]:
    names = " and ".join(setting.name for setting in result.settings)
    alt = f"Effect of {names} on {result.target}"
    yield _picture(partial(plotting.effect, result), 3.4, 2.4, alt)


@_parts.register
def _(result: Terms) -> Iterator[str]:
    paint = partial(plotting.terms, result)
    yield _picture(paint, *page_size(result), f"Terms of {result.name}", axes_only=True)


@_parts.register
def _(result: Frontier) -> Iterator[str]:
    yield _picture(partial(plotting.frontier, result), 5.2, 3.2, "Scores of networks by size")
    yield _table(result.to_frame())


@_parts.register
def _(result: Imitation) -> Iterator[str]:
    yield from _parts(result.model)
    yield f"<p>{escape(result.receipt.summary())}</p>"
    yield _table(result.worst)


@_parts.register
def _(result: Certificate) -> Iterator[str]:
    height, alt = 0.8 + 0.26 * min(len(result.features), 20), "Largest effect of each feature"
    for place in range(min(len(result.outputs), OUTPUTS)):
        yield _picture(partial(plotting.certificate, result, target=place), 4.6, height, alt)
    yield _table(result.to_frame())
    yield f"<p>{escape(result.remark)}</p>"


@_parts.register
def _(result: Edge) -> Iterator[str]:
    yield _picture(partial(plotting.edge, result), 3.4, 2.4, "Curve of the function")


@_parts.register
def _(result: Edit) -> Iterator[str]:
    if curves := edited_curves(result.model.edits):
        paint = partial(plotting.edits, result)
        yield _picture(paint, *edits_size(len(curves)), "Edges before and after edits")
    yield _table(result.to_frame())


@_parts.register
def _(result: EditDiff) -> Iterator[str]:
    tables = (result.moved, result.rows, result.groups)
    yield from (_table(table) for table in tables if table is not None)


@_parts.register(Comparison)
@_parts.register(Trace)
@_parts.register(Report)
def _(result: Comparison | Trace | Report) -> Iterator[str]:
    if isinstance(result, Comparison):
        yield _table(result.frame.dropna(axis=1, how="all"))
    else:
        yield _table(result.to_frame())
