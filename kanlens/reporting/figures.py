"""The pictures of a report, each an SVG element that needs nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kanlens import plotting
from kanlens.attribution import effect
from kanlens.errors import MethodError
from kanlens.model.network import KAN
from kanlens.plotting.formats import percent
from kanlens.plotting.formulas import scatter_pair
from kanlens.plotting.style import STYLE, context, in_unit, literal, tidy
from kanlens.reporting.analysis import Analysis
from kanlens.reporting.drawing import Picture, draw, sized
from kanlens.reporting.subject import spread

POINTS = 800  # of a scatter
CARDS = 12  # edges of the first layer that are shown in detail
EFFECTS = 3  # features, of those that matter most
PANELS = 20  # edges of a layer that are shown side by side
PAIRED = 12  # features in the matrix of pairs
WIDEST = 24  # nodes of a level in the picture of flows


def draw_all(analysis: Analysis, content: dict[str, Any], max_features: int) -> dict[str, Any]:
    """Draw every picture of a report, with so many features at most, by where it stands."""
    cards = list(_cards(analysis, content, min(CARDS, max_features)))
    pruning, history = analysis.request.pruning, analysis.request.history
    return {
        "network": _network(analysis.subject.model),
        "performance": list(_performance(analysis, content)),
        "importance": draw_importance(analysis, max_features),
        "swarm": draw_swarm(analysis, max_features),
        "effects": list(_effects(analysis, content)),
        "pairs": draw_pairs(analysis, max_features),
        "flows": draw_flows(analysis, max_features),
        "cards": cards,
        "layers": list(_layers(analysis, len(cards))),
        "formula": _formula(analysis),
        "pruning": _losses(
            plotting.pruning,
            pruning,
            pruning and pruning.removed,
            "Loss against the number of edges left",
            "What removing edges cost; the ring is the model that was kept.",
            "Loss while edges were removed",
        ),
        "history": _losses(
            plotting.history,
            history,
            history and history.history,
            "Loss in training, step by step",
            "The dotted line is the step whose state was kept.",
            "Training",
        ),
        "comparison": draw_comparison(analysis, max_features),
        "rows": list(draw_rows(analysis, content)),
    }


def _network(model: KAN) -> Picture:
    """Draw the diagram, then cut the figure to what the diagram takes; its axes are in inches."""
    alive = [int((layer.mask != 0).sum()) for layer in model.layers]
    width = float(np.clip(0.42 * max(min(max(alive), 40), *model.widths), 3.6, 8.4))
    with context():
        figure = Figure(figsize=(width, 0.7 + 1.55 * len(model.layers)))
        axes = figure.add_axes((0, 0, 1, 1))
        plotting.network(model, ax=axes)
        figure.set_size_inches(float(np.ptp(axes.get_xlim())), float(np.ptp(axes.get_ylim())))
        shape = " to ".join(str(n) for n in model.widths)
        products = sum(len(nodes.grouping.arities) for nodes in model.nodes)
        shape += f" nodes, {products} of them products" if products else " nodes"
        alt = f"Diagram of the network, {shape}, with the function on every live edge"
        svg = plotting.to_svg(figure, title=alt)
    caption = (
        "Inputs below, outputs above. Every box is the function on one edge; dark and thick edges "
        "vary most beside the others of their layer."
    )
    if products:
        caption += " A node with a cross multiplies the sums that the dots below it stand for."
    if any(nodes.normalized for nodes in model.nodes):
        caption += " Squares are nodes that are normalized over each row."
    return Picture(svg=sized(svg), caption=caption)


def _performance(analysis: Analysis, content: dict[str, Any]) -> Iterator[Picture]:
    found, subject = content["performance"], analysis.subject
    if found is None or subject.y is None:
        return
    if found["task"] == "classification":
        yield from _classification(found)
        return
    place, picks = subject.target, spread(subject.rows, POINTS)
    y = subject.y[picks, place].double().cpu().numpy()
    output = subject.output[picks, place].double().cpu().numpy()
    name, unit = content["meta"]["target"], content["meta"]["unit"]
    note = "" if len(picks) == subject.rows else f" {len(picks):,} of {subject.rows:,} rows."
    yield draw(
        partial(plotting.predicted, y, output, unit=unit),
        (3.1, 3.0),
        alt=f"Scatter of predicted against true {name}",
        caption=f"On the line, prediction and truth are equal.{note}",
        title="Predicted and true",
    )
    yield draw(
        partial(_paint_residuals, output, output - y, unit),
        (3.6, 3.0),
        alt=f"Scatter of the error of {name} against its prediction, with the running median",
        caption=f"A curve away from zero is a pattern that the model misses.{note}",
        title="Errors",
    )


def _paint_residuals(output: Any, error: Any, unit: str, *, ax: Axes) -> None:
    tidy(ax)
    ax.axhline(0, color=STYLE.muted, linewidth=0.7, zorder=1)
    alpha = float(np.clip(30 / math.sqrt(len(output)), 0.2, 0.8))
    ax.scatter(output, error, s=7, linewidths=0, color=STYLE.accent, alpha=alpha, zorder=2)
    groups = np.array_split(np.argsort(output, kind="stable"), max(1, min(12, len(output) // 15)))
    if len(groups) > 2:
        middles = [float(np.median(output[group])) for group in groups]
        medians = [float(np.median(error[group])) for group in groups]
        style: Any = {"color": STYLE.series[1], "linewidth": 1.4, "zorder": 3}
        ax.plot(middles, medians, label="running median", **style)
        ax.legend(loc="best")
    ax.set_xlabel(f"predicted{in_unit(unit)}")
    ax.set_ylabel(f"predicted \N{MINUS SIGN} true{in_unit(unit)}")


def _classification(found: dict[str, Any]) -> Iterator[Picture]:
    classes = [one for one in found["classes"] if one["roc"]]
    shown = classes[1:] if len(found["classes"]) == 2 else classes[: len(STYLE.series)]
    yield draw(
        partial(_paint_roc, shown),
        (3.2, 3.1),
        alt="ROC curves",
        caption="Each class against the rest. The straight line is chance.",
        title="ROC",
    )
    yield draw(
        partial(_paint_calibration, found),
        (3.2, 3.1),
        alt="Calibration curve: observed shares against predicted probabilities",
        caption="On the line, probabilities are honest. Larger dots stand for more rows.",
        title="Calibration",
    )


def _paint_roc(classes: list[dict[str, Any]], *, ax: Axes) -> None:
    _paint_diagonal(ax, 0.02)
    dashes = ("-", "--", "-.", ":")
    for place, one in enumerate(classes):
        points, line = np.array(one["roc"]), dashes[place % len(dashes)]
        color = STYLE.series[place % len(STYLE.series)]
        label = f"{literal(one['label'], most=18)}, AUC {one['auc']:.3f}"
        ax.plot(points[:, 0], points[:, 1], line, color=color, label=label, zorder=2)
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    ax.legend(loc="lower right")


def _paint_diagonal(ax: Axes, room: float) -> None:
    tidy(ax)
    ax.plot([0, 1], [0, 1], color=STYLE.muted, linewidth=0.7, zorder=1)
    ax.set(xlim=(-room, 1 + room), ylim=(-room, 1 + room), aspect="equal")


def _paint_calibration(found: dict[str, Any], *, ax: Axes) -> None:
    _paint_diagonal(ax, 0.04)
    bins = found["calibration"]["bins"]
    x, y = [one["predicted"] for one in bins], [one["observed"] for one in bins]
    sizes = [14 + 160 * one["rows"] / found["rows"] for one in bins]
    ax.plot(x, y, color=STYLE.accent, linewidth=0.8, zorder=2)
    ax.scatter(x, y, s=sizes, color=STYLE.accent, linewidths=0, alpha=0.85, zorder=3)
    ax.set_xlabel(literal(found["calibration"]["of"], most=40))
    ax.set_ylabel("share that came true")


def _cards(analysis: Analysis, content: dict[str, Any], most: int) -> Iterator[Picture]:
    model = analysis.subject.model
    for edge in [one for one in content["edges"] if one["layer"] == 0][:most]:
        out, in_ = edge["out"], edge["in"]
        words = f"A higher {edge['source']} {edge['trend']}".replace(" it", " the output", 1)
        if edge["function"] != "spline":
            words = f"{words}; function {edge['function']}"
        if edge["outside"] > 0:
            words = f"{words}; {percent(edge['outside'])} of the rows outside the grid"
        yield draw(
            partial(plotting.edge, model, 0, out, in_, data=analysis.trace),
            (2.3, 1.5),
            axes_only=True,
            alt=f"Curve of the function from {edge['source']} to {edge['destination']}",
            caption=f"{words}.",
            title=f"{edge['source']} → {edge['destination']}",
        )


def _layers(analysis: Analysis, shown_before: int) -> Iterator[Picture]:
    """Draw the edges of every layer side by side; the first only if not all have been shown."""
    model = analysis.subject.model
    for index, layer in enumerate(model.layers):
        alive = int((layer.mask != 0).sum())
        if not alive or (index == 0 and alive <= shown_before):
            continue
        shown = min(alive, PANELS)
        columns = min(5, shown, math.ceil(math.sqrt(1.6 * shown)))
        size = (0.95 + 1.3 * columns, max(1.8, 0.5 + 1.25 * math.ceil(shown / columns)))
        yield draw(
            partial(plotting.edges, model, index, top=PANELS, data=analysis.trace),
            size,
            axes_only=True,
            alt=f"Functions on the edges of layer {index + 1}, side by side",
            caption="All on one scale, each less its mean over the rows.",
            title=f"Layer {index + 1} of {len(model.layers)}",
        )


def _formula(analysis: Analysis) -> Picture | None:
    result, subject = analysis.formula, analysis.subject
    if result is None:
        return None
    place = subject.target
    picks = spread(subject.rows, POINTS)
    columns = [list(subject.model.feature_names).index(name) for name in result.feature_names]
    formula = result.predict(subject.x[picks][:, columns])[:, place]
    output, names = subject.output[picks, place].double().cpu().numpy(), ("model", "formula")
    if not np.isfinite(formula).any():
        return None
    return draw(
        partial(scatter_pair, left=output, right=formula, names=names, unit=subject.unit),
        (3.0, 2.9),
        alt="Scatter of the formula against the model",
        caption="On the line, formula and model agree.",
        title="Formula and model",
    )


def _losses(
    plot: Callable[..., Any], result: Any, steps: Any, alt: str, caption: str, title: str
) -> Picture | None:
    """Draw the loss over the steps of training or pruning, when there were any."""
    if result is None or not steps:
        return None
    return draw(partial(plot, result), (3.6, 2.4), alt=alt, caption=caption, title=title)


def draw_importance(analysis: Analysis, most: int) -> Picture:
    """Draw a bar per column of the table: the mean size of what it does."""
    found = analysis.attribution.grouped().to_importance()
    rows = min(len(found.features), most)
    return draw(
        partial(plotting.attribution, found, top=most),
        (3.75, 0.62 + 0.26 * rows),
        alt="Bars of the mean absolute contribution of each feature",
        caption="Mean size of the contribution; black lines are 95% intervals over the rows.",
        title="How much each feature matters",
    )


def draw_swarm(analysis: Analysis, most: int) -> Picture:
    """Draw a dot per row and feature."""
    found = analysis.attribution
    rows = min(len(found.features), most)
    return draw(
        partial(plotting.attribution, found, kind="beeswarm", top=most),
        (4.9, 0.62 + 0.26 * rows),
        alt="Beeswarm of the contributions of each feature in single rows",
        caption="One dot per row; to the right the feature raised the output. Bright: high value.",
        title="In which direction",
    )


def _effects(analysis: Analysis, content: dict[str, Any]) -> Iterator[Picture]:
    """Draw what the features that matter most do to the output, each over its range.

    One is left out where the model has no value on some mixture of its values and the rows.
    """
    model, target = analysis.subject.model, analysis.subject.target
    ranked = content["importance"]["columns"] or content["importance"]["features"]
    for one in [one for one in ranked if one["importance"]][:EFFECTS]:
        try:
            found = effect(model, one["name"], analysis.trace.x, target=target)
        except MethodError:
            continue
        yield draw(
            partial(plotting.effect, found),
            (2.65, 2.1),
            alt=f"What {one['name']} does to {content['meta']['target']} over its range",
            caption="The mean over the rows, and in gray single rows.",
            title=f"Effect of {one['name']}",
        )


def draw_pairs(analysis: Analysis, most: int) -> Picture | None:
    """Draw the matrix of main effects and interactions, when there are any."""
    found = analysis.pairs
    if found is None or found.interactions is None or len(found.features) < 2:
        return None
    most = min(most, PAIRED)
    side = 0.33 * min(len(found.features), most)
    return draw(
        partial(plotting.attribution, found, kind="interactions", top=most),
        (side + 1.9, side + 1.1),
        alt="Matrix of the mean absolute main effect of each feature and interaction of each pair",
        caption="On the diagonal what a feature does alone, off it what two do only together.",
        title="Alone and in pairs",
    )


def draw_flows(analysis: Analysis, most: int) -> Picture | None:
    """Draw what flows through the edges, unless levels are too wide to tell nodes apart."""
    found, widths = analysis.flows, analysis.subject.model.widths
    if found is None or max(widths[1:-1], default=0) > WIDEST:
        return None
    most = min(most, WIDEST)
    nodes = max(min(len(found.features), most + 1), *widths[1:])
    return draw(
        partial(plotting.attribution, found, kind="paths", top=most),
        (1.4 * (len(widths) - 1) + 1.3, max(1.9, 0.27 * nodes + 0.4)),
        alt="Diagram of what flows from the features through the nodes to the output",
        caption="Bands are as wide as the mean size of what flows, by the secants of the edges.",
        title="Through which nodes",
    )


def draw_comparison(analysis: Analysis, most: int, *, by: str = "method") -> Picture:
    """Draw what every method, or every model, says of every feature."""
    found, exact = analysis.comparison, " The table says how far each is from exact."
    rows, methods = min(len(found.importance), most), len(found.importance.columns)
    return draw(
        partial(plotting.comparison, found, top=most),
        (3.4, max(0.29 * rows, 0.19 * (methods + 2.2))),
        axes_only=True,
        alt=f"Mean absolute value of every feature by {by}",
        caption=f"One marker per {by}.{exact * (by == 'method')}",
        title=f"Importance by {by}",
    )


def draw_rows(analysis: Analysis, content: dict[str, Any]) -> Iterator[Picture]:
    """Draw how the output of each explained row comes about."""
    found, most = analysis.explained, 10
    for place, record in enumerate(content["rows"]):
        rows = min(len(found.features), most) + 1
        yield draw(
            partial(plotting.attribution, found, kind="waterfall", row=place, top=most),
            (4.6, 0.75 + 0.235 * rows),
            alt=f"How the contributions of row {record['row']} lead from reference to output",
            caption="Orange raises the output, blue lowers it.",
            title=f"Row {record['row']}",
        )
