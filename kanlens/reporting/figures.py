"""The pictures of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kanlens import plotting
from kanlens.model.network import KAN
from kanlens.plotting.style import STYLE, context, literal, tidy
from kanlens.reporting.analysis import Analysis
from kanlens.reporting.attribution_figures import (
    draw_comparison,
    draw_flows,
    draw_importance,
    draw_pairs,
    draw_rows,
    draw_swarm,
)
from kanlens.reporting.drawing import Picture, draw, onto, sized
from kanlens.reporting.subject import spread

POINTS = 800  # of a scatter
DENSITY = 500  # rows behind the density of an edge
CARDS = 12  # edges of the first layer that are shown in detail
PANELS = 30  # edges of a layer that are shown side by side


def draw_all(analysis: Analysis, content: dict[str, Any], max_features: int) -> dict[str, Any]:
    """Draw every picture of a report.

    Parameters
    ----------
    analysis : Analysis
        The results.
    content : dict
        The same as plain types.
    max_features : int
        Most features in a picture.

    Returns
    -------
    dict of str to Picture, list of Picture, or None
        network, performance, importance, swarm, pairs, flows, cards, layers, formula, pruning,
        history, comparison, rows.
    """
    cards = list(_cards(analysis, content, min(CARDS, max_features)))
    return {
        "network": _network(analysis.subject.model),
        "performance": list(_performance(analysis, content)),
        "importance": draw_importance(analysis, max_features),
        "swarm": draw_swarm(analysis, max_features),
        "pairs": draw_pairs(analysis, max_features),
        "flows": draw_flows(analysis, max_features),
        "cards": cards,
        "layers": list(_layers(analysis, len(cards))),
        "formula": _formula(analysis),
        "pruning": _pruning(analysis),
        "history": _history(analysis),
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
    return Picture(svg=sized(svg), caption=caption)


def _performance(analysis: Analysis, content: dict[str, Any]) -> Iterator[Picture]:
    found = content["performance"]
    if found is None:
        return
    if found["task"] == "classification":
        yield _roc(found)
        yield _calibration(found)
        return
    subject, place = analysis.subject, analysis.subject.target
    picks = spread(subject.rows, POINTS)
    if subject.y is None:
        return
    y = subject.y[picks, place].double().cpu().numpy()
    output = subject.output[picks, place].double().cpu().numpy()
    name, unit = content["meta"]["target"], content["meta"]["unit"]
    note = "" if len(picks) == subject.rows else f" {len(picks):,} of {subject.rows:,} rows."
    yield draw(
        lambda ax: plotting.predicted(y, output, unit=unit, ax=ax),
        (3.1, 3.0),
        alt=f"Scatter of predicted against true {name}",
        caption=f"On the line, prediction and truth are equal.{note}",
        title="Predicted and true",
    )
    yield draw(
        lambda ax: _paint_residuals(ax, output, output - y, unit),
        (3.6, 3.0),
        alt=f"Scatter of the error of {name} against its prediction, with the running median",
        caption=f"A curve away from zero is a pattern that the model misses.{note}",
        title="Errors",
    )


def _paint_residuals(ax: Axes, output: Any, error: Any, unit: str) -> None:
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
    suffix = f" ({literal(unit)})" if unit else ""
    ax.set_xlabel(f"predicted{suffix}")
    ax.set_ylabel(f"predicted \N{MINUS SIGN} true{suffix}")


def _roc(found: dict[str, Any]) -> Picture:
    classes = [one for one in found["classes"] if one["roc"]]
    shown = classes[1:] if len(found["classes"]) == 2 else classes[: len(STYLE.series)]

    def paint(ax: Axes) -> None:
        tidy(ax)
        ax.plot([0, 1], [0, 1], color=STYLE.muted, linewidth=0.7, zorder=1)
        dashes = ("-", "--", "-.", ":")
        for place, one in enumerate(shown):
            points = np.array(one["roc"])
            color = STYLE.series[place % len(STYLE.series)]
            label = f"{literal(one['label'], most=18)}, AUC {one['auc']:.3f}"
            line = dashes[place % len(dashes)]
            ax.plot(points[:, 0], points[:, 1], line, color=color, label=label, zorder=2)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.set_xlabel("false positive rate")
        ax.set_ylabel("true positive rate")
        ax.legend(loc="lower right")

    return draw(
        paint,
        (3.2, 3.1),
        alt="ROC curves",
        caption="Each class against the rest. The straight line is chance.",
        title="ROC",
    )


def _calibration(found: dict[str, Any]) -> Picture:
    bins = found["calibration"]["bins"]

    def paint(ax: Axes) -> None:
        tidy(ax)
        ax.plot([0, 1], [0, 1], color=STYLE.muted, linewidth=0.7, zorder=1)
        x, y = [one["predicted"] for one in bins], [one["observed"] for one in bins]
        sizes = [14 + 160 * one["rows"] / found["rows"] for one in bins]
        ax.plot(x, y, color=STYLE.accent, linewidth=0.8, zorder=2)
        ax.scatter(x, y, s=sizes, color=STYLE.accent, linewidths=0, alpha=0.85, zorder=3)
        ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
        ax.set_xlabel(literal(found["calibration"]["of"], most=40))
        ax.set_ylabel("share that came true")

    return draw(
        paint,
        (3.2, 3.1),
        alt="Calibration curve: observed shares against predicted probabilities",
        caption="On the line, probabilities are honest. Larger dots stand for more rows.",
        title="Calibration",
    )


def _cards(analysis: Analysis, content: dict[str, Any], most: int) -> Iterator[Picture]:
    model, x = analysis.subject.model, analysis.trace.x
    rows = x[spread(len(x), DENSITY)]
    for edge in [one for one in content["edges"] if one["layer"] == 0][:most]:
        out, in_ = edge["out"], edge["in"]
        words = edge["trend"].capitalize()
        if edge["function"] != "spline":
            words = f"{words}; function {edge['function']}"
        if edge["outside"] > 0:
            words = f"{words}; {edge['outside']:.1%} of the rows outside the grid"
        yield draw(
            onto(plotting.edge, model, 0, out, in_, data=rows),
            (2.3, 1.5),
            axes_only=True,
            alt=f"Curve of the function from {edge['source']} to {edge['destination']}",
            caption=f"{words}.",
            title=f"{edge['source']} → {edge['destination']}",
        )


def _layers(analysis: Analysis, shown_before: int) -> Iterator[Picture]:
    """Draw the edges of every layer side by side; the first only if not all have been shown."""
    model = analysis.subject.model
    rows = analysis.trace.x[spread(len(analysis.trace.x), DENSITY)]
    for index, layer in enumerate(model.layers):
        alive = int((layer.mask != 0).sum())
        if not alive or (index == 0 and alive <= shown_before):
            continue
        shown = min(alive, PANELS)
        columns = min(5, shown, math.ceil(math.sqrt(1.6 * shown)))
        size = (0.95 + 1.3 * columns, max(1.8, 0.5 + 1.25 * math.ceil(shown / columns)))
        yield draw(
            onto(plotting.edges, model, index, top=PANELS, data=rows),
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
    said = result.predict(subject.x[picks][:, columns])[:, place]
    output = subject.output[picks, place].double().cpu().numpy()
    if not np.isfinite(said).any():
        return None
    return draw(
        lambda ax: _paint_formula(ax, output, said, subject.unit),
        (3.0, 2.9),
        alt="Scatter of the formula against the model",
        caption="On the line, formula and model agree.",
        title="Formula and model",
    )


def _paint_formula(ax: Axes, output: Any, said: Any, unit: str) -> None:
    plotting.predicted(output, said, ax=ax)
    suffix = f" ({literal(unit)})" if unit else ""
    ax.set_xlabel(f"model{suffix}")
    ax.set_ylabel(f"formula{suffix}")


def _pruning(analysis: Analysis) -> Picture | None:
    result = analysis.pruning
    if result is None or not result.removed:
        return None
    return draw(
        lambda ax: plotting.pruning(result, ax=ax),
        (3.6, 2.4),
        alt="Loss against the number of edges left",
        caption="What removing edges cost; the ring is the model that was kept.",
        title="Loss while edges were removed",
    )


def _history(analysis: Analysis) -> Picture | None:
    result = analysis.history
    if result is None or not result.history:
        return None
    return draw(
        lambda ax: plotting.history(result, ax=ax),
        (3.6, 2.4),
        alt="Loss in training, step by step",
        caption="The dotted line is the step whose state was kept.",
        title="Training",
    )
