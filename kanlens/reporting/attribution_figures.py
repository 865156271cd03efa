"""The pictures of attributions: what each feature does, alone, in pairs, and in single rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kanlens import plotting
from kanlens.reporting.analysis import Analysis
from kanlens.reporting.drawing import Picture, draw, onto

PAIRED = 12  # features in the matrix of pairs
WIDEST = 24  # nodes of a level in the picture of flows


def draw_importance(analysis: Analysis, most: int) -> Picture:
    """Draw a bar per column of the table: the mean size of what it does."""
    found = analysis.attribution.grouped().to_importance()
    rows = min(len(found.features), most)
    return draw(
        lambda ax: plotting.attribution(found, ax=ax, top=most),
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
        lambda ax: plotting.attribution(found, kind="beeswarm", ax=ax, top=most),
        (4.9, 0.62 + 0.26 * rows),
        alt="Beeswarm of the contributions of each feature in single rows",
        caption="One dot per row; to the right the feature raised the output. Bright: high value.",
        title="In which direction",
    )


def draw_pairs(analysis: Analysis, most: int) -> Picture | None:
    """Draw the matrix of main effects and interactions, when there are any."""
    found = analysis.pairs
    if found is None or found.interactions is None or len(found.features) < 2:
        return None
    most = min(most, PAIRED)
    side = 0.33 * min(len(found.features), most)
    return draw(
        lambda ax: plotting.attribution(found, kind="interactions", ax=ax, top=most),
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
        lambda ax: plotting.attribution(found, kind="paths", ax=ax, top=most),
        (1.4 * (len(widths) - 1) + 1.3, max(1.9, 0.27 * nodes + 0.4)),
        alt="Diagram of what flows from the features through the nodes to the output",
        caption="Bands are as wide as the mean size of what flows, by the secants of the edges.",
        title="Through which nodes",
    )


def draw_comparison(analysis: Analysis, most: int) -> Picture:
    """Draw what every method says of every feature."""
    found = analysis.comparison
    rows, methods = min(len(found.importance), most), len(found.importance.columns)
    return draw(
        lambda ax: plotting.comparison(found, top=most, ax=ax),
        (3.4, max(0.29 * rows, 0.19 * (methods + 2.2))),
        axes_only=True,
        alt="Mean absolute value of every feature by method",
        caption="One marker per method. The table says how far each is from exact.",
        title="Importance by method",
    )


def draw_rows(analysis: Analysis, content: dict[str, Any]) -> Iterator[Picture]:
    """Draw how the output of each explained row comes about."""
    found, most = analysis.explained, 10
    for place, record in enumerate(content["rows"]):
        rows = min(len(found.features), most) + 1
        yield draw(
            onto(plotting.attribution, found, kind="waterfall", row=place, top=most),
            (4.6, 0.75 + 0.235 * rows),
            alt=f"How the contributions of row {record['row']} lead from reference to output",
            caption="Orange raises the output, blue lowers it.",
            title=f"Row {record['row']}",
        )
