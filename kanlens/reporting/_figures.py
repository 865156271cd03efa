"""The pictures of a report, each a self-contained SVG element."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kanlens import plotting
from kanlens.attribution import effect
from kanlens.errors import MethodError
from kanlens.model._network import KAN
from kanlens.plotting._diagram_layers import layer_curves
from kanlens.plotting._formats import number, percent
from kanlens.plotting._formulas import scatter_pair
from kanlens.plotting._paths import edited_curves
from kanlens.plotting._paths import page_size as edits_size
from kanlens.plotting._style import STYLE, Array, context, label, literal, tidy
from kanlens.plotting._terms import page_size
from kanlens.reporting._analysis import Analysis
from kanlens.reporting._drawing import Picture, draw, sized
from kanlens.reporting._report_data import spread

if TYPE_CHECKING:
    from kanlens.symbolic._result import SymbolicResult

POINTS = 800  # of a scatter
CARDS = 12  # edges of the first layer that are shown in detail
EFFECTS = 6  # features, of those that matter most
PANELS = 20  # edges of a layer that are shown side by side
PAIRED = 12  # features in the matrix of pairs
MAX_NODES = 24  # nodes of a level in the picture of flows
WATERFALL = 10  # features of a single row


def draw_all(analysis: Analysis, content: dict[str, Any], max_features: int) -> dict[str, Any]:
    """Return every picture of a report by its name in the templates."""
    cards = list(_cards(analysis, content, min(CARDS, max_features)))
    pruning, history = analysis.request.pruning, analysis.request.history
    attribution, pruned = analysis.attribution, pruning and pruning.removed
    proven, loss = analysis.request.certificate, (3.6, 2.4)
    certificate = partial(plotting.certificate, target=attribution.target)
    waterfall = partial(plotting.attribution, analysis.explained, kind="waterfall", top=WATERFALL)
    size = (4.6, 0.75 + 0.235 * (min(len(attribution.features), WATERFALL) + 1))
    return {
        **_growth(analysis),
        **_edits(analysis.subject.model),
        "network": _network(analysis.subject.model, content["edges"]),
        "performance": list(_performance(analysis, content)) if content["performance"] else [],
        "importance": _bars(
            plotting.attribution, attribution.grouped().to_importance(), 3.75, 0.62, max_features
        ),
        "swarm": _bars(
            partial(plotting.attribution, kind="beeswarm"), attribution, 4.9, 0.62, max_features
        ),
        "effects": list(_effects(analysis, content)),
        "pairs": draw_pairs(analysis, max_features),
        "flows": draw_flows(analysis, max_features),
        "cards": cards,
        "layers": list(_layers(analysis, len(cards))),
        "formula": analysis.formula and _formula(analysis, analysis.formula),
        "pruning": draw(partial(plotting.pruning, pruning), loss) if pruning and pruned else None,
        "history": history and history.history and draw(partial(plotting.history, history), loss),
        "certificate": proven and _bars(certificate, proven, 4.6, 0.8, max_features),
        "comparison": draw_comparison(analysis, max_features),
        "rows": [
            draw(partial(waterfall, row=place), size, title=f"Row {record['row']}")
            for place, record in enumerate(content["rows"])
        ],
    }


def _growth(analysis: Analysis) -> dict[str, Picture]:
    """Draw the terms of a network that grew, and the scores of all sizes."""
    if analysis.terms is None:
        return {}
    paint = partial(plotting.terms, analysis.terms)
    sizes = draw(partial(plotting.frontier, analysis.subject.model), (5.2, 3.2))
    terms = draw(paint, page_size(analysis.terms), axes_only=True)
    return {"terms": terms, "frontier": sizes}


def _edits(model: KAN) -> dict[str, Picture]:
    """Draw the edges before and after edits."""
    curves = edited_curves(model.edits)
    size = edits_size(len(curves))
    return {"edits": draw(partial(plotting.edits, model), size)} if curves else {}


def _network(model: KAN, edges: list[dict[str, Any]]) -> Picture:
    """Draw the diagram, and crop the figure to it."""
    edges_of = [int((layer.mask != 0).sum()) for layer in model.layers]
    width = float(np.clip(0.42 * max(min(max(edges_of), 40), *model.widths), 3.6, 8.4))
    with context():
        figure = Figure(figsize=(width, 0.7 + 1.55 * len(model.layers)))
        axes = figure.add_axes((0, 0, 1, 1))
        plotting.network(model, ax=axes)
        names = _link(axes, model, edges) if axes.collections else {}
        figure.set_size_inches(float(np.ptp(axes.get_xlim())), float(np.ptp(axes.get_ylim())))
        svg = plotting.to_svg(figure, title=f"Diagram of the network {model.shape}")
    return Picture(svg=sized(svg, names=names), kind="diagram" if names else "matrix")


def _link(axes: Axes, model: KAN, edges: list[dict[str, Any]]) -> dict[str, str]:
    """Link boxes and inputs to their numbers on the page; return descriptions by target."""
    parts: dict[Any, Any] = {part.get_label(): part for part in axes.collections}
    names = {f"edge-{edge['layer']}-{edge['out']}-{edge['in']}": edge["name"] for edge in edges}
    for index, layer in enumerate(layer_curves(model, None, None, None)):
        owner = model.nodes[index].owner.cpu().numpy()
        order = np.lexsort((layer.out, layer.in_))  # of the boxes; of lines, the weakest are first
        weak = order[np.argsort(layer.relative[layer.out, layer.in_][order], kind="stable")]
        for kind in ("_boxes", "_curves", "_lines into boxes", "_lines out of boxes"):
            picks = weak if "lines" in kind else order
            pairs = list(zip(layer.out[picks], layer.in_[picks], strict=True))
            urls = []
            for out, in_ in pairs:
                link = f"edge-{index}-{out}-{in_}"
                linked = kind == "_boxes" and link in names
                urls.append(f"{link * linked}|{index}-{in_}-{owner[out]}")
            parts[f"{kind} {index}"].set_urls(urls)
    for level, width in enumerate(model.widths):
        parts[f"_nodes {level}"].set_urls([f"|{level}-{unit}" for unit in range(width)])
    inputs = parts["_nodes 0"].get_offsets()[:, 0]
    for text in (text for text in axes.texts if text.get_position()[1] < 0):
        unit = int(np.abs(inputs - text.get_position()[0]).argmin())
        if inputs[unit] == text.get_position()[0]:
            text.set_url(f"feature-{unit}|0-{unit}")
    return names


def _performance(analysis: Analysis, content: dict[str, Any]) -> Iterator[Picture]:
    performance, subject = content["performance"], analysis.subject
    if performance["task"] == "classification":
        classes = [record for record in performance["classes"] if record["roc"]]
        two = len(performance["classes"]) == 2
        shown = classes[1:] if two else classes[: len(STYLE.series)]
        yield draw(partial(_paint_roc, shown), (3.2, 3.1))
        yield draw(partial(_paint_calibration, performance), (3.2, 3.1))
    if not performance.get("outputs"):
        return
    place, picks = subject.target, spread(subject.rows, POINTS)
    parts = cast("Tensor", subject.y), subject.predicted
    y, output = (part[picks, place].double().cpu().numpy() for part in parts)
    unit = subject.model.schema.outputs[place].unit
    yield draw(partial(plotting.predicted, y, output, unit=unit), (3.1, 3.0))
    yield draw(partial(_paint_residuals, output, output - y, unit), (3.6, 3.0))


def _paint_residuals(output: Array, error: Array, unit: str, *, ax: Axes) -> None:
    tidy(ax)
    ax.axhline(0, color=STYLE.muted, linewidth=0.7, zorder=1)
    alpha = float(np.clip(30 / math.sqrt(len(output)), 0.2, 0.8))
    ax.scatter(output, error, s=7, linewidths=0, color=STYLE.accent, alpha=alpha, zorder=2)
    groups = np.array_split(np.argsort(output, kind="stable"), max(1, min(12, len(output) // 15)))
    if len(groups) > 2:
        middles = [float(np.median(output[group])) for group in groups]
        medians = [float(np.median(error[group])) for group in groups]
        style: dict[str, Any] = {"color": STYLE.series[1], "linewidth": 1.4, "zorder": 3}
        ax.plot(middles, medians, label="running median", **style)
        ax.legend(loc="best")
    ax.set_xlabel(label("predicted", unit))
    ax.set_ylabel(label("predicted \N{MINUS SIGN} true", unit))


def _paint_roc(classes: list[dict[str, Any]], *, ax: Axes) -> None:
    _paint_diagonal(ax, 0.02)
    dashes = ("-", "--", "-.", ":")
    for place, record in enumerate(classes):
        points, line = np.array(record["roc"]), dashes[place % len(dashes)]
        color = STYLE.series[place % len(STYLE.series)]
        label = f"{literal(record['label'], most=18)}, AUC {record['auc']:.3f}"
        ax.plot(points[:, 0], points[:, 1], line, color=color, label=label, zorder=2)
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    ax.legend(loc="lower right")


def _paint_diagonal(ax: Axes, room: float) -> None:
    tidy(ax)
    ax.plot([0, 1], [0, 1], color=STYLE.muted, linewidth=0.7, zorder=1)
    ax.set(xlim=(-room, 1 + room), ylim=(-room, 1 + room), aspect="equal")


def _paint_calibration(performance: dict[str, Any], *, ax: Axes) -> None:
    _paint_diagonal(ax, 0.04)
    bins = performance["calibration"]["bins"]
    x, y, rows = ([part[key] for part in bins] for key in ("predicted", "observed", "rows"))
    sizes = [14 + 160 * count / sum(rows) for count in rows]
    ax.plot(x, y, color=STYLE.accent, linewidth=0.8, zorder=2)
    ax.scatter(x, y, s=sizes, color=STYLE.accent, linewidths=0, alpha=0.85, zorder=3)
    style: dict[str, Any] = {"ha": "center", "fontsize": STYLE.small, "color": STYLE.muted}
    for at, share, count in zip(x, y, rows, strict=True):
        ax.text(at, share + (0.05 if share < 0.9 else -0.09), f"{count:,}", **style)
    ax.set_xlabel(literal(performance["calibration"]["of"], most=40))
    ax.set_ylabel("observed frequency")


def _cards(analysis: Analysis, content: dict[str, Any], most: int) -> Iterator[Picture]:
    model = analysis.subject.model
    for edge in [edge for edge in content["edges"] if edge["layer"] == 0][:most]:
        out, in_ = edge["out"], edge["in"]
        moved = edge["destination"] if len(model.layers) == 1 else content["meta"]["target"]
        moved = moved if len(model.output_names) > 1 else "the output"
        feature, source = model.schema.features[in_], edge["source"]
        source = source if feature.levels else f"A higher {source}"
        source += f"={feature.category}" if feature.levels and feature.kind == "binary" else ""
        words = f"{source} {edge['trend'].replace(' it', f' {moved}', 1)}"
        if edge["function"] != "spline":
            words = f"{words}; function {edge['function']}"
        if edge["outside"] > 0:
            words = f"{words}; {percent(edge['outside'])} of the rows outside the grid"
        yield draw(
            partial(plotting.edge, model, 0, out, in_, data=analysis.trace),
            (2.3, 1.5),
            axes_only=True,
            caption=f"{words}.",
            anchor=f"edge-0-{out}-{in_}",
            title=f"{edge['source']} → {edge['destination']}",
        )


def _layers(analysis: Analysis, shown_before: int) -> Iterator[Picture]:
    """Draw the edges of layers that have no cards, side by side."""
    model = analysis.subject.model
    for index, layer in enumerate(model.layers):
        count = int((layer.mask != 0).sum())
        if not count or (index == 0 and count <= shown_before):
            continue
        shown = min(count, PANELS)
        columns = min(5, shown, math.ceil(math.sqrt(1.6 * shown)))
        size = (0.95 + 1.3 * columns, max(1.8, 0.5 + 1.25 * math.ceil(shown / columns)))
        yield draw(
            partial(plotting.edges, model, index, top=PANELS, data=analysis.trace),
            size,
            axes_only=True,
            title=f"Layer {index + 1} of {len(model.layers)}",
        )


def _formula(analysis: Analysis, result: SymbolicResult) -> Picture | None:
    """Draw values of a formula against outputs of the model, where any are finite."""
    subject, place = analysis.subject, analysis.subject.target
    picks = spread(subject.rows, POINTS)
    columns = [list(subject.model.feature_names).index(name) for name in result.feature_names]
    formula = result.predict(subject.x[picks][:, columns])[:, place]
    output, names = subject.output[picks, place].double().cpu().numpy(), ("model", "formula")
    if not np.isfinite(formula).any():
        return None
    paint = partial(scatter_pair, left=output, right=formula, names=names, unit=subject.unit)
    return draw(paint, (3.0, 2.9))


def _bars(plot: Callable[..., Any], result: Any, width: float, rest: float, most: int) -> Picture:
    """Draw a row per feature; `rest` is the height without rows."""
    size = (width, rest + 0.26 * min(len(result.features), most))
    return draw(partial(plot, result, top=most), size)


def _effects(analysis: Analysis, content: dict[str, Any]) -> Iterator[Picture]:
    """Draw the effects of the most important features, if finite."""
    model, target = analysis.subject.model, analysis.subject.target
    ranked = content["importance"]["columns"] or content["importance"]["features"]
    for name in [record["name"] for record in ranked if record["importance"]][:EFFECTS]:
        try:
            result = effect(model, name, analysis.trace.x, target=target)
        except MethodError:
            continue
        ends = " to ".join(number(float(result.values[end])) for end in (0, -1))
        yield draw(
            partial(plotting.effect, result),
            (2.65, 2.1),
            caption=f"Mean over the rows{'; single rows in gray' * (result.ice is not None)}.",
            alt=f"Effect of {name} on {content['meta']['target']} over its range, from {ends}",
            title=f"Effect of {name}",
        )


def draw_pairs(analysis: Analysis, most: int) -> Picture | None:
    """Draw the matrix of main effects and interactions, when there are any."""
    pairs = analysis.pairs
    if pairs is None or pairs.interactions is None or len(pairs.features) < 2:
        return None
    most = min(most, PAIRED)
    side = 0.33 * min(len(pairs.features), most)
    paint = partial(plotting.attribution, pairs, kind="interactions", top=most)
    return draw(paint, (side + 1.9, side + 1.1))


def draw_flows(analysis: Analysis, most: int) -> Picture | None:
    """Draw flows through the edges, unless levels are too wide."""
    flows, widths = analysis.flows, analysis.subject.model.widths
    if flows is None or max(widths[1:-1], default=0) > MAX_NODES:
        return None
    most = min(most, MAX_NODES)
    nodes = max(min(len(flows.features), most + 1), *widths[1:])
    size = (1.4 * (len(widths) - 1) + 1.3, max(1.9, 0.27 * nodes + 0.4))
    return draw(partial(plotting.attribution, flows, kind="paths", top=most), size)


def draw_comparison(analysis: Analysis, most: int) -> Picture:
    """Draw the importance of every feature by every method, or in every model."""
    table = analysis.comparison.importance
    size = (3.4, max(0.29 * min(len(table), most), 0.19 * (len(table.columns) + 2.2)))
    return draw(partial(plotting.comparison, analysis.comparison, top=most), size, axes_only=True)
