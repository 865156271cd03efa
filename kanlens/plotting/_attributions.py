"""Plots of attributions: over all samples, per sample, or of one sample."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike

from kanlens._checks import check_choice, check_count
from kanlens._lazy import pd, stats
from kanlens.attribution._result import Attribution, Importance
from kanlens.data._cell_parsing import listed
from kanlens.errors import DTypeError, InvalidValueError, ShapeError
from kanlens.plotting._formats import number, signed
from kanlens.plotting._interactions import CALL, Ranked, draw_flows, draw_interactions
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    Look,
    color_bar,
    label,
    literal,
    name_rows,
    numbers,
    picture,
    rows_axes,
)

KINDS = ("bar", "beeswarm", "interactions", "paths", "waterfall")
SHAPS = {  # kinds that shap draws, and its calls
    "decision": "shap.plots.decision(e.base_values[0], e.values)",
    "dependence": "shap.plots.scatter(e[:, name], color=e)",
    "force": "shap.plots.force(e)",
    "heatmap": "shap.plots.heatmap(e)",
    "image": "shap.image_plot(e.values.reshape(-1, *shape), pixels)",
}
GAP = "not explained (gap)"
MAX_NAME_LENGTH = 32
BRIGHT = 1.15  # value of the brightest color: never reached, as it is hard to see
DASHED: Look = {"color": STYLE.ink, "linewidth": 0.7, "linestyle": (0, (2, 2)), "zorder": 1}
SHOWN = 20  # features; the rest becomes one row
SWARM = 2000  # points of one feature drawn at most
RASTERIZE_FROM = 4000  # points beyond which the swarm is an image inside the vector picture
BINS = 120  # columns that a swarm is stacked in


@picture(CALL)
def attribution(
    result: Attribution | Importance | pd.DataFrame,
    *,
    kind: str = "bar",
    row: int | None = None,
    x: ArrayLike | None = None,
    top: int = SHOWN,
    ax: Axes | None = None,
) -> Axes:
    """Draw an attribution or an importance, the strongest feature on top.

    Parameters
    ----------
    result : Attribution, Importance or DataFrame
        From `kanlens.attribute` or `kanlens.importance`. With several outputs, pass the rows of
        one.
    kind : {"bar", "beeswarm", "interactions", "paths", "waterfall"}
        ``"bar"``: mean ``|value|`` with its 95% interval. ``"beeswarm"``: every sample, colored by
        the feature. ``"waterfall"``: one sample from the reference to the output; orange raises it,
        blue lowers it. ``"interactions"``: the matrix of main effects and pairs. ``"paths"``: the
        flow through every edge. For the other plots of shap, use ``result.to_shap()``.
    row : int, optional
        Sample of a waterfall, needed if there are several. Of interactions and paths: with `row`,
        signed values of that sample; without, mean absolute values.
    x : array-like, shape (batch, in), optional
        The samples, for colors and for the names of a waterfall; ``result.x`` when None.
    top : int
        Largest number of features to draw; a row "n others" adds up the rest.

    Raises
    ------
    InvalidValueError
        If `kind` or `row` does not exist, or the result lacks the values of `kind`.
    DTypeError
        If `result` is not an attribution, `x` is not numeric, or `ax` is not an Axes.
    ShapeError
        If `x` does not have the shape of the values.

    References
    ----------
    .. [1] S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017.

    Examples
    --------
    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> found = Importance(values=torch.tensor([1.0, 2.0]), meaning="mean |value|",
    ...                    method="shapley", features=("a", "b"), target="y")
    >>> axes = attribution(found, ax=Figure().subplots())
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['b', 'a']
    """
    if kind in SHAPS:
        expected, advice = f"to be one of {', '.join(KINDS)}", f"Use {SHAPS[kind]} with e = "
        advice += "result.to_shap()"
        raise InvalidValueError(CALL, expected, repr(kind), advice, argument="kind")
    check_choice(CALL, "kind", kind, KINDS)
    check_count(CALL, "top", top)
    if hasattr(result, "columns"):
        result = _of_frame(cast("pd.DataFrame", result))
    if not isinstance(result, (Attribution, Importance)):
        expected, got = "an Attribution or an Importance", type(result).__name__
        raise DTypeError(CALL, expected, got, "Pass the result of attribute")
    if isinstance(result, Importance):
        if kind != "bar":
            expected, got = f"an Attribution for kind={kind!r}", "an Importance"
            raise InvalidValueError(CALL, expected, got, "Use {kind}", kind="bar")
        return _bars(result, top, ax)
    if kind == "bar":
        return _bars(result.to_importance(), top, ax)
    if kind == "waterfall" and not result.shares:  # slopes have no start and end
        expected, got = "shares of a change to draw a waterfall", f"slopes ({result.method!r})"
        raise InvalidValueError(CALL, expected, got, "Use {kind} or 'beeswarm'", kind="bar")
    place = None if row is None and kind != "waterfall" else _checked_row(result, row)
    if kind in ("interactions", "paths"):
        draw = draw_interactions if kind == "interactions" else draw_flows
        return draw(result, place, top, ax)
    samples = _samples(result, x)
    if place is not None and kind == "waterfall":
        return _waterfall(result, samples, place, top, ax)
    return _beeswarm(result, samples, top, ax)


def _of_frame(frame: pd.DataFrame) -> Importance:
    """Return the frame of `kanlens.importance` as an Importance."""
    columns = ["output", "feature", "importance", "low", "high", "unit"]
    if not set(columns) <= set(frame.columns):
        got = f"a DataFrame with columns {listed([*frame.columns])}"
        raise DTypeError(CALL, f"columns {listed(columns)}", got, "Pass the result of importance")
    outputs = frame["output"].unique().tolist()
    if len(outputs) != 1:
        advice = f"Pass frame[frame['output'] == {outputs[0]!r}]" if outputs else "Pass some rows"
        got = f"{len(outputs)} ({listed(outputs)})" if outputs else "none"
        raise InvalidValueError(CALL, "the rows of one output", got, advice)
    values, low, high = (torch.as_tensor(frame[name].to_numpy().copy()) for name in columns[2:5])
    bounded = bool(torch.isfinite(low).all())
    return Importance(
        values=values,
        low=low if bounded else None,
        high=high if bounded else None,
        meaning="importance",
        method="",
        features=tuple(frame["feature"]),
        target=outputs[0],
        unit=frame["unit"].iloc[0],
    )


def _checked_row(result: Attribution, row: int | None) -> int:
    """Return the index of a sample; refuse one that does not exist."""
    rows = len(result.values)
    row = 0 if row is None and rows == 1 else row
    if isinstance(row, (int, np.integer)) and not isinstance(row, bool) and -rows <= row < rows:
        return int(row) % rows
    expected = f"row, a sample from 0 to {rows - 1}"
    raise InvalidValueError(CALL, expected, repr(row), "Pass the index of one sample")


def _samples(result: Attribution, x: ArrayLike | None) -> Array | None:
    x = result.x if x is None else x
    if x is None:
        return None
    try:
        samples = numbers(x)
    except (TypeError, ValueError) as error:
        advice = "Leave x out: an Attribution to features has its samples"
        got = f"a {type(x).__name__} of other cells"
        raise DTypeError(CALL, "x as numbers", got, advice) from error
    if samples.shape != tuple(result.values.shape):
        expected = f"x of shape {tuple(result.values.shape)}"
        advice = "Pass the samples that were attributed"
        raise ShapeError(CALL, expected, str(samples.shape), advice)
    return samples


def ranked(sizes: Array, features: tuple[str, ...], top: int) -> Ranked:
    """Return features sorted by size; those beyond `top` are one row."""
    shown = len(sizes) if len(sizes) <= top else max(top - 1, 1)
    return Ranked.of(sizes, features, shown, most=MAX_NAME_LENGTH)


def _bars(result: Importance, top: int, ax: Axes | None) -> Axes:
    values = numbers(result.values)
    rows = ranked(values, result.features, top)
    ax = rows_axes(ax, len(rows.names), 1.2)
    shown = rows.columns(values)
    colors = [STYLE.accent] * len(rows.order) + [STYLE.faint] * (len(rows.others) > 0)
    places = np.arange(len(shown))
    ax.barh(places, shown, height=0.62, color=colors, zorder=2)
    if result.low is not None and result.high is not None:
        low, high = numbers(result.low)[rows.order], numbers(result.high)[rows.order]
        style: Look = {"color": STYLE.ink, "linewidth": 0.9, "zorder": 3, "label": "_intervals"}
        ax.hlines(places[: len(low)], low, high, **style)
    name_rows(ax, rows.names, others=len(rows.others) > 0)
    ax.set_xlim(left=0)
    apart = "\n" if len(result.meaning) > MAX_NAME_LENGTH else " "
    whose = f"for {label(result.target, result.unit)}"
    _value_axis(ax, f"{literal(result.meaning)}{apart}{whose}")
    return ax


def _value_axis(ax: Axes, text: str) -> None:
    ax.set_xlabel(text)
    ax.grid(axis="x", color=STYLE.faint, linewidth=0.5, zorder=0)
    ax.set_axisbelow(True)


def _beeswarm(result: Attribution, samples: Array | None, top: int, ax: Axes | None) -> Axes:
    values = numbers(result.values)
    rows = ranked(np.abs(values).mean(0), result.features, top)
    picks = np.linspace(0, len(values) - 1, min(len(values), SWARM)).round().astype(int)
    ax = rows_axes(ax, len(rows.names), 1.5)
    columns = list(rows.columns(values[picks]).T)
    span = float(np.ptp(np.concatenate(columns))) or 1.0
    ax.axvline(0, color=STYLE.muted, linewidth=0.6, zorder=1)
    image = sum(map(len, columns)) > RASTERIZE_FROM
    for place, column in enumerate(columns):
        color: Look = {"color": STYLE.accent if samples is None else STYLE.muted}
        if samples is not None and place < len(rows.order):  # sums of features have no color
            shade = _ranks(samples[:, rows.order[place]])[picks]
            color = {"c": shade, "cmap": STYLE.sequence, "vmin": 0.0, "vmax": BRIGHT}
        look: Look = {"s": 6, "linewidths": 0, "rasterized": image, "zorder": 2, **color}
        offsets = place + swarm(column, span)
        ax.scatter(column, offsets, label=f"_swarm {place}", clip_on=False, **look)
    name_rows(ax, rows.names, others=len(rows.others) > 0)
    whole = f"contribution to {label(result.target, result.unit)}"
    _value_axis(ax, whole if result.shares else f"value for {literal(result.target)}")
    if samples is not None:
        _color_key(ax)
    if len(picks) < len(values):
        note = f"{len(picks):,} of {len(values):,} samples"
        ax.text(1.0, 1.0, note, ha="right", va="bottom", transform=ax.transAxes, **ASIDE)
    return ax


def _ranks(values: Array) -> Array:
    """Return ranks from 0 to 1; ties share a rank, and constants have 0.5."""
    ranks = stats.rankdata(values)
    low, width = ranks.min(), np.ptp(ranks)
    return np.asarray((ranks - low) / width if width else np.full(len(values), 0.5))


def swarm(values: Array, span: float, *, width: float = 0.38) -> Array:
    """Return offsets (n,), up to `width`, so that points do not overlap."""
    column = np.floor((values - values.min()) * (BINS / (span or 1.0))).astype(np.int64)
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    level = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    signed = np.where(level % 2 == 1, 1, -1) * ((level + 1) // 2)
    offsets = np.empty(len(values))
    offsets[order] = signed * min(0.1, width / max(float(np.abs(signed).max()), 1.0))
    return offsets


def _color_key(ax: Axes) -> None:
    """Draw the colors of low and high features along the right side."""
    key = ax.inset_axes((1.03, 0.0, 0.022, 1.0), label="_color key")
    colors = ScalarMappable(Normalize(0.0, BRIGHT), STYLE.sequence)
    bar = color_bar(ax, colors, "feature", key=key)
    bar.set_ticks([0, 1], labels=["low", "high"])
    key.set_ylim(0, 1)
    key.yaxis.labelpad = -12


def steps_of(
    result: Attribution, samples: Array | None, row: int, top: int
) -> tuple[list[str], Array, int]:
    """Return names and sizes of a waterfall's steps, and how many are single features."""
    values = numbers(result.values)[row]
    rows = ranked(np.abs(values), result.features, top)
    names, steps = list(rows.names), rows.columns(values)
    for place, i in enumerate(rows.order):
        if samples is not None:
            value = float(samples[row, i])
            levels = result.levels.get(result.features[i]) if value in (0, 1) else None
            names[place] += f": {levels[int(value)]}" if levels else f" = {number(value, 4)}"
    gap = float(result.completeness_gap[row])
    if abs(gap) > 1e-3 * max(np.abs(values).sum(), abs(gap + values.sum())):
        names, steps = [*names, GAP], np.append(steps, gap)
    return names, steps, len(rows.order)


def _waterfall(
    result: Attribution, samples: Array | None, row: int, top: int, ax: Axes | None
) -> Axes:
    names, steps, count = steps_of(result, samples, row, top)
    ax = rows_axes(ax, len(steps) + 1, 1.5)
    ax.set_ylim(len(steps) + 0.05, -1.25)
    start, end = float(result.reference[row]), float(result.output[row])
    _draw_steps(ax, steps, start, end, gap=names[-1] == GAP)
    name_rows(ax, names, others=len(names) > count)
    _value_axis(ax, label(result.target, result.unit))
    return ax


def _draw_steps(ax: Axes, steps: Array, start: float, end: float, *, gap: bool) -> None:
    """Draw steps from the reference at the bottom to the output on top."""
    ends = end - np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    begins = ends - steps
    places = np.arange(len(steps))
    colors = [STYLE.positive if step >= 0 else STYLE.negative for step in steps]
    if gap:
        colors[-1] = STYLE.muted
    ax.barh(places, steps, left=begins, height=0.62, color=colors, zorder=2)
    joints = [[(value, place - 1), (value, place)] for place, value in enumerate(ends)][1:]
    for (x0, y0), (x1, y1) in joints:
        ax.plot([x0, x1], [y0 + 0.31, y1 - 0.31], color=STYLE.muted, linewidth=0.5, zorder=1)
    low, high = min([start, end, *ends, *begins]), max([start, end, *ends, *begins])
    room = 0.13 * (high - low or 1.0)
    for place, (step, left) in enumerate(zip(steps, np.maximum(begins, ends), strict=True)):
        text = signed(float(step))
        ax.text(left + 0.12 * room, place, text, va="center", ha="left", fontsize=STYLE.small)
    ax.set_xlim(low - 0.5 * room, high + 1.3 * room)
    foot = len(steps)
    for word, value, y, line in (
        ("output", end, -0.6, (-1.1, -0.3)),
        ("reference", start, foot - 0.15, (foot, foot - 1.3)),
    ):
        left = value < (low + high) / 2
        ax.plot([value, value], line, **DASHED)
        look: Look = {"ha": "left" if left else "right", "va": "bottom", "fontsize": STYLE.small}
        ax.text(value + (0.12 if left else -0.12) * room, y, f"{word} {number(value, 4)}", **look)
