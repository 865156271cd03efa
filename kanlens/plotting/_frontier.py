"""Scores of networks of growing size, with the terms that were added."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kanlens.errors import DTypeError, InvalidValueError
from kanlens.model._network import KAN
from kanlens.model._training_record import GrowthRecord
from kanlens.plotting._formats import counted, number
from kanlens.plotting._interactions import LINE, spread_apart
from kanlens.plotting._paths import RING
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    Look,
    axes_for,
    literal,
    picture,
    root_figure,
    size_in_inches,
    text_width,
)
from kanlens.training._frontier_result import Frontier

CALL = "plot.frontier"
SIZE = (5.2, 3.2)
MAX_NAME_LENGTH = 34
HEIGHT, STEPS = 0.12, 8  # inches, of a line of text, and most lines between a point and its text
GAP, ROOM = 0.03, 0.03  # inches between a bar and its text, and around points and lines
POINTS = 40  # on the line between two scores, that texts keep off
MARGIN = 0.7  # edges
HEADROOM = 0.12  # share of the range of scores


@picture(CALL)
def frontier(
    result: Frontier | KAN, *, references: Mapping[str, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the score of networks of growing size against their number of edges.

    Error bars are one standard error: for R2 that of the loss divided by the variance of the
    target, for accuracy the binomial one. A ring marks the smallest network within one standard
    error of the best. The term added last to a network is written at its point where there is room.

    Parameters
    ----------
    result : Frontier or KAN
        From `kanlens.frontier`, or a network grown by it.
    references : mapping of str to float, optional
        Names and scores of other models, drawn as horizontal lines. Default: those of `result`.

    Raises
    ------
    DTypeError
        If `result` is neither a Frontier nor a network that grew, or `ax` not an Axes.
    InvalidValueError
        If a reference is not a finite number.

    Examples
    --------
    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> from kanlens.training import frontier as grown
    >>> x = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> front = grown((x, x[:, 0] * x[:, 1]), max_edges=6, progress=False)
    >>> frontier(front, ax=Figure().subplots()).get_ylabel()
    'R2 on held-out rows'
    """
    record = result.record() if isinstance(result, Frontier) else getattr(result, "growth", None)
    if record is None:
        got, advice = type(result).__name__, "Pass the result of kanlens.frontier"
        raise DTypeError(CALL, "a Frontier, or a network that grew", got, advice)
    lines = _checked(dict(record.references) if references is None else references)
    edges, scores = (np.array([getattr(s, n) for s in record.steps]) for n in ("edges", "score"))
    errors, place = standard_errors(record), record.chosen
    ax = axes_for(ax, SIZE)
    style: Look = {"color": STYLE.accent, "elinewidth": 0.7, "markersize": 3.5, "zorder": 3}
    ax.errorbar(edges, scores, errors, marker="o", linewidth=1.0, label="_scores", **style)
    ax.plot(edges[place], scores[place], "o", label="_simplest", zorder=4, **RING)
    ends = np.concatenate([scores - errors, scores + errors, list(lines.values())])
    low, high = float(ends.min()), float(ends.max())
    room = HEADROOM * (high - low or 1.0)
    ax.set_ylim(low - room, high + room)
    ax.set(xlabel="edges", ylabel=f"{record.metric_name} on held-out rows")
    ax.set_xlim(edges[0] - MARGIN, edges[-1] + MARGIN)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    _draw_references(ax, lines)
    if words := headline(record):
        ax.set_title(words, loc="left")
    _write_terms(ax, record, np.stack([edges, scores, errors], 1), lines.values())
    return ax


def standard_errors(record: GrowthRecord) -> Array:
    """Return the standard error of the score of each step."""
    scores, losses, errors = (
        np.array([getattr(step, name) for step in record.steps])
        for name in ("score", "loss", "standard_error")
    )
    if record.metric_name in ("accuracy", "concordance"):
        return np.asarray(np.sqrt(scores * (1 - scores) / record.rows))
    variance = np.divide(losses, 1 - scores, out=np.ones_like(losses), where=scores < 1)
    return np.asarray(errors / np.maximum(variance, 1e-300))


def _checked(references: Mapping[str, float]) -> dict[str, float]:
    """Return the references; refuse scores that are not finite."""
    for name, value in references.items():
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            got, advice = f"{value!r} for {name!r}", "For example {'boosting': 0.92}"
            raise InvalidValueError(CALL, "references to be finite scores", got, advice)
    return {literal(name, most=MAX_NAME_LENGTH): float(v) for name, v in references.items()}


def headline(record: GrowthRecord) -> str:
    """Return a sentence on the chosen network and a reference; empty if it predicts nothing."""
    step, classes = record.steps[record.chosen], record.metric_name == "accuracy"
    if step.score <= standard_errors(record)[record.chosen] or record.metric_name == "concordance":
        return ""
    name, best = next(iter(record.references), ("", 0.0))
    ends = step.score, best, 1.0  # enough digits to tell them apart
    digits = next((n for n in (2, 3, 4) if len({round(end, n) for end in ends}) == 3), 5)
    score, other = (number(value, digits) for value in (step.score, best))
    edges, verb = counted(step.edges, "edge"), "classify" if classes else "explain"
    if step.edges == 1:
        verb = "classifies" if classes else "explains"
    if best > step.score and not classes:
        return f"{edges} {verb} {score} of the {other} that {name} does"
    share = {"accuracy": "rows correctly", "D2": "loss"}.get(record.metric_name, "variance")
    return f"{edges} {verb} {score} of the {share}" + (f"; {name} {other}" if name else "")


def _draw_references(ax: Axes, lines: Mapping[str, float]) -> None:
    """Draw a line for each reference, named at its right end."""
    if not lines:
        return
    names = sorted(lines, key=lambda name: -lines[name])
    values = np.array([lines[name] for name in names])
    inch = np.ptp(ax.get_ylim()) / size_in_inches(ax)[1]
    places = spread_apart(values, LINE * inch)
    right: Look = {"transform": ax.get_yaxis_transform(), "va": "center", **ASIDE}
    for name, value, place in zip(names, values, places, strict=True):
        ax.axhline(value, color=STYLE.muted, linestyle=(0, (4, 2)), linewidth=0.8, zorder=1)
        ax.text(1.01, place, name, **right)


def _write_terms(ax: Axes, record: GrowthRecord, points: Array, lines: Collection[float]) -> None:
    """Write the term added by each step at its point, or at a line from it, where there is room."""
    root_figure(ax).draw_without_rendering()  # lays the axes out
    size, corner = np.array(size_in_inches(ax)), np.array([ax.get_xlim()[0], ax.get_ylim()[0]])
    scale = size / [np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())]
    places, errors = (points[:, :2] - corner) * scale, points[:, 2] * scale[1]  # inches
    bars = [_around(x, y, errors[k]) for k, (x, y) in enumerate(places)]
    curve = np.linspace(places[:-1], places[1:], POINTS).reshape(-1, 2)
    taken = [*bars, *(_around(x, y) for x, y in curve)]
    heights = (np.array([*lines]) - corner[1]) * scale[1]
    taken += [(0.0, y - ROOM, size[0], y + ROOM) for y in heights]
    gains = np.diff(points[:, 1], prepend=-np.inf)
    gains[record.chosen] = np.inf
    for place in np.argsort(-gains, kind="stable"):
        text = literal(record.steps[place].added, most=MAX_NAME_LENGTH)
        for box, leader in _boxes(bars[place], text_width(text, STYLE.small) + ROOM):
            inside = min(box) >= 0 and box[2] <= size[0] and box[3] <= size[1]
            if inside and not any(_overlap(b, other) for b in (box, leader) for other in taken):
                taken += [box, leader]
                _write(ax, text, *(np.reshape(b, (2, 2)) / scale + corner for b in (box, leader)))
                break


def _write(ax: Axes, text: str, box: Array, leader: Array) -> None:
    """Write a text into a box, and draw the line to it; both are two points (x, y)."""
    (x, low), (_, high) = box
    style: Look = {"color": STYLE.muted, "linewidth": 0.5, "zorder": 2, "label": "_leader"}
    if np.ptp(leader[:, 1]) > np.ptp(box[:, 1]):
        ax.plot([leader[:, 0].mean()] * 2, leader[:, 1], **style)
    ax.text(x, (low + high) / 2, text, va="center", **ASIDE)


Box = tuple[float, float, float, float]  # left, lower, right and upper end, in inches


def _around(x: float, y: float, error: float = 0.0) -> Box:
    return x - ROOM, y - ROOM - error, x + ROOM, y + ROOM + error


def _boxes(bar: Box, wide: float) -> Iterator[tuple[Box, Box]]:
    """Yield boxes around a point for a text and for the line to it, nearest first."""
    left, low, right, high = bar
    x, y = (left + right) / 2, (low + high) / 2
    for start in (right + ROOM, left - ROOM - wide):
        yield (start, y - HEIGHT / 2, start + wide, y + HEIGHT / 2), (x, y, x, y)
    for step in range(STEPS):
        down, up = low - GAP - step * HEIGHT, high + GAP + step * HEIGHT
        below, above = (x, down, x, low - 1e-6), (x, high + 1e-6, x, up)
        yield (left, down - HEIGHT, left + wide, down), below
        yield (right - wide, up, right, up + HEIGHT), above
        yield (right - wide, down - HEIGHT, right, down), below
        yield (left, up, left + wide, up + HEIGHT), above


def _overlap(first: Box, second: Box) -> bool:
    across = first[0] <= second[2] and second[0] <= first[2]
    return across and first[1] < second[3] and second[1] < first[3]
