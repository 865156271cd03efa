"""Single edges: one in detail, or the edges of a layer side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kanlens.attribution._edge_bands import edge_band
from kanlens.errors import DTypeError, InvalidValueError, MethodError, rewording
from kanlens.model._analysis import Model, check_layer, check_model, find_node, held_network
from kanlens.model._edge import Edge
from kanlens.model._network import KAN, Rows, Targets
from kanlens.model._trace import Trace
from kanlens.plotting._curve_data import Curve, chosen_edges, function_curve, model_curves
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    Look,
    axes_for,
    fitted,
    label,
    literal,
    picture,
    size_in_inches,
    text_width,
    tidy,
)

STRIP = 0.13  # share of the height that the density of the data takes
SHADE = "#efefef"
DENSITY = "#b9b9b9"
HATCH = "#d2d2d2"
COLUMNS = 5
SHOWN = 30  # panels
MIN_PANEL = 0.2  # inches


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Layout of panels side by side: sizes and margins in inches."""

    panel: tuple[float, float]
    gutter: tuple[float, float]
    before: tuple[float, float]  # left of all panels and below
    after: tuple[float, float]  # right of all panels and above

    def size(self, places: Sequence[int], columns: int) -> tuple[float, float]:
        """Return width and height of a page with panels at `places`, numbered row by row."""
        counts = columns, max(places) // columns + 1
        inner = np.multiply(counts, np.add(self.panel, self.gutter)) - self.gutter
        width, height = inner + self.before + self.after
        return float(width), float(height)

    def panels(self, ax: Axes, places: Sequence[int], columns: int) -> list[Axes]:
        """Return axes that replace `ax`, as large as possible."""
        page, counts = np.array(size_in_inches(ax)), (columns, max(places) // columns + 1)
        size = np.maximum(self.panel + (page - self.size(places, columns)) / counts, MIN_PANEL)
        first, step = (self.before[0], page[1] - self.after[1] - size[1]), size + self.gutter
        corners = [first + step * (k % columns, -(k // columns)) for k in places]
        return [ax.inset_axes((*(corner / page), *(size / page))) for corner in corners]


EDGES = Grid(panel=(1.12, 0.86), gutter=(0.16, 0.44), before=(0.72, 0.24), after=(0.1, 0.24))


@picture("plot.edge")
def edge(  # noqa: PLR0913 - one keyword per choice
    source: Model | Edge,
    layer: int | None = None,
    out: int | str | None = None,
    in_: int | str | None = None,
    *,
    ax: Axes | None = None,
    data: Rows | Trace | None = None,
    parts: bool = False,
    y: Targets | None = None,
    band: bool = False,
) -> Axes:
    """Draw the function on one edge, and where the data lie.

    White background: range of the data; light gray: no data; hatched: outside the grid, where the
    function is continued. The strip is the density of the data, marks at the top are knots. An
    input with two values is drawn as two points. A band is that of `kanlens.attribution.edge_band`.

    Parameters
    ----------
    source : KAN, fitted estimator, Edge
        Not changed.
    layer : int, optional
        Layer of the edge, counted from 0; required with a model.
    out, in_ : int or str, optional
        Ends of the edge, as indices or names, such as h1_1, or h1_4.1 for a factor of a product.
    data : optional
        With a model, a `Trace` or rows of x; with an Edge, values of its input. When None, the
        statistics stored in the model are used.
    parts : bool
        Whether to draw the spline and the base function too.
    y : array-like, optional
        Targets of the rows in `data`, for a band.
    band : bool
        Whether to draw the band, from a model, `data` and `y`.

    Returns
    -------
    Axes
        In the units of the data for inputs of the first layer and for outputs that are sums, in
        the scaled units of the layer otherwise.

    Raises
    ------
    InvalidValueError
        If there is no such edge.
    DTypeError
        If `source` is of another type, or `ax` is not an Axes.
    MethodError
        If the edge has no `parts`, or `band` is set without `data` and `y`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> edge(KAN([2, 1]), 0, 0, "x2", ax=axes).get_xlabel()
    'x2'
    """
    curve = _one_curve(source, (layer, out, in_), data=data, parts=parts)
    if band:
        curve = _with_band(curve, source, (layer, out, in_), data, y)
    ax = axes_for(ax, (STYLE.column, 0.7 * STYLE.column))
    _draw_curve(ax, curve, 0.0)
    for (name, part), dashes in zip(curve.parts.items(), ("--", ":"), strict=False):
        ax.plot(curve.x, part, dashes, color=STYLE.muted, linewidth=0.9, label=name, zorder=3)
    low, high = range_of([curve.y])
    ends = []
    if curve.band is not None and np.isfinite(curve.band).any():  # the range of most of the band
        room = np.nanquantile(np.abs(curve.band - curve.y), 0.75)
        ends = list(np.clip(curve.band, low - room, high + room))
    set_range(ax, *range_of([curve.y, *curve.parts.values(), *ends]))
    ax.set_xlabel(label(curve.input_name, curve.input_unit))
    if curve.output_name:
        whose = curve.output_name, curve.output_unit
        ax.set_ylabel(words_for("contribution to", *whose, size_in_inches(ax)[1]))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="best")
    return ax


@picture("plot.edges")
def edges(
    model: Model,
    layer: int = 0,
    *,
    out: int | str | None = None,
    in_: int | str | None = None,
    top: int = SHOWN,
    ax: Axes | None = None,
    data: Rows | Trace | None = None,
) -> Axes:
    """Draw the nonzero edges of a layer side by side, on one range of y.

    The mean of each function over the data is subtracted, because constants can move between the
    edges of a node.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    layer : int
        Counted from 0.
    out, in_ : int or str, optional
        Only edges to, or from, this node; `out` may be a factor of a product.
    top : int
        Largest number of edges to draw, the strongest first.
    ax : Axes, optional
        Replaced by the panels; a new figure of fitting size when None.
    data : Trace, or Tensor, ndarray or DataFrame of shape (batch, in), optional
        Rows of x; the statistics stored in the model when None.

    Returns
    -------
    Axes
        With one panel per edge in ``child_axes``, ordered by out, then in.

    Raises
    ------
    InvalidValueError
        If there is no such layer or node, or none of the edges is nonzero.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> len(edges(KAN([3, 2]), ax=Figure().subplots()).child_axes)
    6
    """
    call = "plot.edges"
    model = check_model(call, model)
    index = check_layer(model, layer, call=call)
    picks, count = chosen_edges(model, index, out, in_, most=top, call=call)
    if not picks:
        advice = "Name a node that has nonzero edges"
        raise InvalidValueError(call, "nonzero edges to draw", "none", advice)
    curves = model_curves(model, index, picks, data=data, parts=False, call=call)
    columns = min(COLUMNS, len(picks), math.ceil(math.sqrt(1.6 * len(picks))))
    ax = axes_for(ax, EDGES.size(range(len(picks)), columns), bare=True)
    ax.set_axis_off()
    panels = EDGES.panels(ax, range(len(picks)), columns)
    low, high = range_of([curve.y - curve.mean for curve in curves])
    several = len({curve.output_name for curve in curves}) > 1
    for place, (panel, curve) in enumerate(zip(panels, curves, strict=True)):
        _fill_panel(panel, curve, several=several)
        set_range(panel, low, high)
        panel.tick_params(labelleft=place % columns == 0)
    text = "contribution to node"
    if not several:
        whose = curves[0].output_name, curves[0].output_unit
        text = words_for("contribution to", *whose, size_in_inches(ax)[1])
    write_scale(ax, f"{text}\nless its mean")
    if len(picks) < count:
        note = f"the {len(picks)} strongest of {count} edges"
        ax.text(1.0, 1.0, note, ha="right", va="top", transform=ax.transAxes, **ASIDE)
    return ax


def _with_band(curve: Curve, source: Any, ends: Any, data: Any, y: Targets | None) -> Curve:
    """Return a curve with its confidence band, over the range of the data."""
    layer, out, in_ = ends
    if data is None or y is None or layer is None:
        expected, got = "a model, data and y for a band", "only some of them"
        raise MethodError("plot.edge", expected, got, "Pass the training rows and their targets y")
    rows = data.x if isinstance(data, Trace) else data
    with rewording("plot.edge"):
        frame = edge_band(source, layer, out, in_, rows, y, at=curve.x)
    low, high = curve.data or (-np.inf, np.inf)
    away = (frame[["low", "high"]].to_numpy() - frame[["effect"]].to_numpy()).T
    away[:, (curve.x < low) | (curve.x > high)] = np.nan
    return replace(curve, band=curve.y + away)


def _one_curve(source: Model | Edge, ends: Any, *, data: Any, parts: bool) -> Curve:
    """Return the curve of an edge of a model, or of an Edge."""
    call, (layer, out, in_) = "plot.edge", ends
    source = held_network(call, source)
    if isinstance(source, KAN):
        check_model(call, source)
        index = check_layer(source, layer, call=call)
        pick = (
            find_node(source, index, "out", out, call=call),
            find_node(source, index, "in_", in_, call=call),
        )
        return model_curves(source, index, [pick], data=data, parts=parts, call=call)[0]
    if not callable(source) or not hasattr(source, "domain"):
        expected, got = "a KAN or an Edge", type(source).__name__
        raise DTypeError(call, expected, got, "Pass model.layers[0].edge(0, 0)")
    if ends != (None, None, None):
        expected, got = "no layer, out or in_ with an Edge", repr(ends)
        raise InvalidValueError(call, expected, got, "Leave them out")
    return function_curve(source, data=data, parts=parts, call=call)


def _draw_curve(ax: Axes, curve: Curve, offset: float) -> None:
    """Draw shading, density, knots and the function minus `offset`."""
    left, right = (-0.4, 1.4) if curve.levels else (float(curve.x[0]), float(curve.x[-1]))
    inner = curve.data or curve.grid
    for low, high in ((left, inner[0]), (inner[1], right)):
        if high > low:
            ax.axvspan(low, high, color=SHADE, linewidth=0, zorder=0)
    if not curve.levels:
        for low, high in ((left, min(curve.grid[0], right)), (max(curve.grid[1], left), right)):
            if high > low:
                style: Look = {"facecolor": "none", "edgecolor": HATCH, "linewidth": 0}
                ax.axvspan(low, high, hatch="////", zorder=0.5, label="_outside grid", **style)
        inside = curve.knots[(curve.knots >= left) & (curve.knots <= right)]
        place: Look = {"transform": ax.get_xaxis_transform(), "label": "_knots"}
        ax.vlines(inside, 0.97, 1.0, colors=STYLE.muted, linewidth=0.6, **place)
    draw_density(ax, curve.density)
    y = curve.y - offset
    if curve.band is not None and np.isfinite(curve.band).any():
        low, high = curve.band
        look: Look = {"color": STYLE.accent, "alpha": 0.22, "linewidth": 0, "zorder": 2.5}
        if curve.levels:
            ends = [np.interp([0.0, 1.0], curve.x, end) for end in (low, high)]
            look["linewidth"] = 7
            ax.vlines([0, 1], *ends, label="95% band", **look)
        else:
            ax.fill_between(curve.x, low, high, label="95% band", **look)
    if curve.levels:  # an input that is 0 or 1: two points
        at = np.interp([0.0, 1.0], curve.x, y)
        ax.plot([0, 1], at, color=STYLE.accent, linewidth=0.6, zorder=3, label="_curve")
        ax.plot([0, 1], at, "o", color=STYLE.accent, markersize=4.5, zorder=4, label="_levels")
        ax.set_xticks([0, 1], [literal(level, most=14) for level in curve.levels])
    else:
        ax.plot(curve.x, y, color=STYLE.accent, zorder=4, label="sum" if curve.parts else "_curve")
    ax.set_xlim(left, right)


def draw_density(ax: Axes, density: tuple[Array, Array] | None) -> None:
    """Draw the share of the data in each bin as a strip at the bottom."""
    if density is None:
        return
    edges, shares = density
    ax.fill_between(
        np.repeat(edges, 2)[1:-1],
        np.repeat(STRIP * shares / shares.max(), 2),
        color=DENSITY,
        linewidth=0,
        transform=ax.get_xaxis_transform(),
        zorder=1,
        label="_density",
    )


def range_of(lines: Sequence[Any]) -> tuple[float, float]:
    """Return the range of curves; it has a width even for a constant."""
    values = np.concatenate([line[np.isfinite(line)] for line in lines])
    if not len(values):
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-12 * max(1.0, abs(low), abs(high)):
        return low - 1.0, high + 1.0
    return low, high


def set_range(ax: Axes, low: float, high: float) -> None:
    """Set the range of y, with margins for the density and the knots."""
    inner = (high - low) / (1 - STRIP - 0.05 - 0.08)
    ax.set_ylim(low - (STRIP + 0.05) * inner, high + 0.08 * inner)
    if ax.get_ylim()[0] < 0 < ax.get_ylim()[1]:
        ax.axhline(0, color=STYLE.faint, linewidth=0.6, zorder=0.8)


def write_scale(ax: Axes, text: str) -> None:
    """Write the common label of all panels at the left end."""
    style: Look = {"rotation": 90, "ha": "left", "va": "center", "multialignment": "center"}
    ax.text(0.0, 0.5, text, transform=ax.transAxes, **style)


def words_for(what: str, name: str, unit: str, room: float) -> str:
    """Return a label with its unit, on up to three lines of `room` inches."""
    text = f"{what} {label(name, unit)}".strip()
    if text_width(text, STYLE.text) <= room:
        return text
    letters = max(8, int(room / (0.6 * STYLE.text / 72)))
    return textwrap.fill(text, letters, max_lines=3, placeholder="…")


def _fill_panel(panel: Axes, curve: Curve, *, several: bool) -> None:
    tidy(panel)
    _draw_curve(panel, curve, curve.mean)
    size = size_in_inches(panel)
    width = size[0] + 0.6 * EDGES.gutter[0]
    text = label(curve.input_name, curve.input_unit)
    if several:
        target = f" → {literal(curve.output_name, most=9)}"
        rest = width - text_width(target, STYLE.small)
        text = fitted(curve.input_name, rest, STYLE.small) + target
    elif text_width(text, STYLE.small) > width:
        text = fitted(curve.input_name, width, STYLE.small)
    panel.set_title(text, fontsize=STYLE.small, pad=3)
    if not curve.levels:
        panel.xaxis.set_major_locator(MaxNLocator(3 if size[0] > 0.9 else 2, prune="both"))
    panel.yaxis.set_major_locator(MaxNLocator(4 if size[1] > 0.5 else 2))
