"""What a feature does to an output: a curve over its range, its levels, or a surface of two."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, get_epoch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kanlens.attribution.effects import FEW, Effect, Kind, Settings
from kanlens.attribution.effects import effect as computed
from kanlens.errors import InvalidValueError, rewording
from kanlens.model.analysis import Model
from kanlens.plotting.curve_data import MARGIN, binned
from kanlens.plotting.curves import SHADE, draw_density, range_of, set_range, words_for
from kanlens.plotting.formats import percent, tick
from kanlens.plotting.interactions import DIVERGING
from kanlens.plotting.style import (
    ASIDE,
    STYLE,
    Array,
    axes_for,
    color_bar,
    distinct,
    literal,
    numbers,
    picture,
    size_in_inches,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kanlens.model.network import Rows

GAP = 0.1  # between values of the data beside which there are none, as a share of their range
LINES = "#c4c4c4"  # of single rows
BANDS, FINE = 12, 120  # colors of a surface, and points of either axis where its border is sought
NEAR = 0.08  # of the range of a feature, from the nearest row: beyond, a surface has no data
LEVELS = 30  # that are drawn, at most
DOTS = 1000  # rows that are drawn, at most
MANY = 20  # models from which the range of their effects leaves out the outermost
WIDE = 1e4  # numbers whose ticks are long
LETTER = 0.054  # inches, of the name of a level


@picture("plot.effect")
def effect(  # noqa: PLR0913 - one keyword per choice
    source: Model | Sequence[Model] | Effect,
    feature: int | str | None = None,
    data: Rows | None = None,
    *,
    target: int | str | None = None,
    kind: Kind = "pdp",
    ice: int = 30,
    other: int | str | None = None,
    grid: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what a feature does to an output over its range, less its mean over the data.

    `kanlens.attribution.effect` says how it is found. Thin gray lines are single rows, counted from
    their outputs as they are. Light gray has no data, the strip is their density, percentages are
    shares of rows, the diamond is a missing cell; of several models, the shading is the spread of
    their effects. Of two features,
    what both do together: orange and solid lines raise the output, blue and dashed ones lower it.

    Parameters
    ----------
    source : KAN or fitted estimator, a sequence of them, or Effect
        Left as it is; an Effect has the numbers.
    feature, data, target, kind, ice, other, grid
        With models, as for `kanlens.attribution.effect`.

    Returns
    -------
    Axes

    Raises
    ------
    InvalidValueError, MethodError, ShapeError, DTypeError, DataError
        As `kanlens.attribution.effect`.

    Examples
    --------
    >>> import torch
    >>> from kanlens import KAN
    >>> from matplotlib.figure import Figure
    >>> axes = effect(KAN([2, 3, 1]), "x2", torch.rand(50, 2), ax=Figure().subplots())
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('x2', 'effect on y')
    """
    if isinstance(source, Effect):
        found = source
        if any(one is not None for one in (feature, data, target, other)):
            text = "no feature, data, target or other with an Effect"
            raise InvalidValueError("plot.effect", text, "some", "Leave them out")
    else:
        given: Any = (source, feature, data)
        options: Any = {"target": target, "kind": kind, "ice": ice, "other": other, "grid": grid}
        with rewording("plot.effect"):
            found = computed(*given, **options)
    unitless = [replace(one, unit="") if one.dates else one for one in found.settings]
    found = replace(found, settings=tuple(unitless))
    if len(found.settings) == 2:
        return _draw_surface(found, ax)
    return _draw_levels(found, ax) if found.settings[0].labels else _draw_curve(found, ax)


def _draw_curve(found: Effect, ax: Axes | None) -> Axes:
    one, ax = found.settings[0], axes_for(ax, (STYLE.column, 0.7 * STYLE.column))
    x, y, data = numbers(one.x), numbers(found.values), np.sort(numbers(one.data))
    width = data[-1] - data[0]
    low, high = data[0] - MARGIN * width, data[-1] + MARGIN * width
    few = len(x) <= FEW
    gaps = np.flatnonzero(np.diff(data) > GAP * width)
    inner = [] if few else [(data[k], data[k + 1]) for k in gaps]
    for left, right in [(low, data[0]), *inner, (data[-1], high)]:
        ax.axvspan(left, right, color=SHADE, linewidth=0, zorder=0, label="_no data")
    draw_density(ax, binned(data, low, high))
    lines = np.empty((0, len(x))) if found.ice is None else numbers(found.ice)
    paths = [np.stack([x, line], 1) for line in lines]
    ax.add_collection(LineCollection(paths, colors=LINES, linewidths=0.5, zorder=2, label="_ice"))
    style: Any = {"marker": "o", "markersize": 4, "linewidth": 0.8} if few else {"linewidth": 1.6}
    ax.plot(x, y, color=STYLE.accent, zorder=4, label="_curve", **style)
    ends = [*_draw_spread(ax, found, x), *_draw_missing(ax, found.missing)]
    ax.set_xlim(low, high)
    if one.dates:
        _date_ticks(ax.xaxis)
    elif max(abs(low), abs(high)) >= WIDE:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    set_range(ax, *range_of([y, *lines, *ends]))
    wide, tall = size_in_inches(ax)
    ax.set_xlabel(words_for("", one.name, one.unit, wide))
    ax.set_ylabel(words_for("effect on", found.target, found.unit, tall))
    return ax


def _date_ticks(axis: Any) -> None:
    """Name the days since 1970 on an axis by their dates, unless dates are counted otherwise."""
    places = AutoDateLocator(minticks=3, maxticks=7)
    if get_epoch().startswith("1970-01-01T00:00"):
        axis.set_major_locator(places)
        axis.set_major_formatter(ConciseDateFormatter(places))
        axis.get_offset_text().set_fontsize(STYLE.text)


def _draw_missing(ax: Axes, effect: float | None) -> list[Array]:
    """Draw the effect of a missing cell at the right border; return its place."""
    if effect is None:
        return []
    right: Any = {"transform": ax.get_yaxis_transform(), "clip_on": False, "zorder": 5}
    ax.plot(1.0, effect, "D", color=STYLE.accent, markersize=4.5, label="_missing", **right)
    ax.text(1.04, effect, "missing", va="center", **right, **ASIDE)
    return [np.array([effect])]


def _draw_spread(ax: Axes, found: Effect, places: Array) -> list[Array]:
    """Shade the range of several models' effects, of many from 5% to 95%; return its ends."""
    if found.members is None:
        return []
    count, share = len(found.members), 0.05 if len(found.members) >= MANY else 0.0
    low, high = np.quantile(numbers(found.members), [share, 1 - share], axis=0)
    words = f"{'5% to 95%' if share else 'range'} of {count} models"
    look: Any = {"label": words, "alpha": 0.25, "zorder": 2.5}
    if found.settings[0].labels:
        y = np.arange(len(places))
        ax.hlines(y, low[places], high[places], colors=STYLE.accent, linewidth=7, **look)
    else:
        ax.fill_between(places, low, high, color=STYLE.accent, linewidth=0, **look)
    ax.legend(loc="best")
    return [low, high]


def _draw_levels(found: Effect, ax: Axes | None) -> Axes:
    """Draw one line for each level: the effect, those in single rows, and the share of rows."""
    one, values = found.settings[0], numbers(found.values)
    shares = (numbers(one.data)[:, None] == numbers(one.x)).mean(0)
    kept = np.sort(np.argsort(-shares, kind="stable")[:LEVELS])
    y, values = np.arange(len(kept)), values[kept]
    ax = axes_for(ax, (STYLE.column, 0.6 + 0.2 * len(y)))
    wide = size_in_inches(ax)[0]
    if found.ice is not None:
        lines = numbers(found.ice)[:, kept]
        style: Any = {"markersize": 6, "markeredgewidth": 0.6}
        places = np.tile(y, len(lines))
        ax.plot(lines.ravel(), places, "|", color=LINES, zorder=2, label="_ice", **style)
    ax.axvline(0, color=STYLE.muted, linewidth=0.6, zorder=0.8)
    ax.hlines(y, 0, values, colors=STYLE.accent, linewidth=1.0, zorder=3)
    _draw_spread(ax, found, kept)
    ax.plot(values, y, "o", color=STYLE.accent, markersize=4.5, zorder=4, label="_levels")
    _name_levels(ax.yaxis, one, kept, 0.5 * wide)
    for place, share in enumerate(shares[kept]):
        right: Any = {"transform": ax.get_yaxis_transform(), "va": "center"}
        ax.text(1.02, place, percent(share, 0), **right, **ASIDE)
    title = words_for("", one.name, one.unit, wide)
    if len(kept) < len(shares):
        title += f"\nthe {len(kept)} most frequent of {len(shares)}"
    ax.set_title(title, loc="left", fontsize=STYLE.text)
    ax.set_ylim(len(y) - 0.5, -0.5)
    ax.set_xlabel(words_for("effect on", found.target, found.unit, wide))
    return ax


def _name_levels(axis: Any, one: Settings, kept: Array, room: float) -> None:
    """Put the names of the levels on an axis, on so many inches each."""
    short = partial(literal, most=max(5, int(room / LETTER)))
    names = distinct((one.labels[k] for k in kept), short)
    axis.set_ticks(np.arange(len(names)), names)
    axis.set_tick_params(length=0)


def _draw_surface(found: Effect, ax: Axes | None) -> Axes:
    """Draw what two features do together; where no rows are near, there is nothing."""
    ax = axes_for(ax, (STYLE.column, 0.8 * STYLE.column))
    wide, tall = size_in_inches(ax)
    levels = any(one.labels for one in found.settings)
    image = (_paint_cells if levels else _paint_bands)(ax, found)
    first, second = (_rows(one)[:: 1 + len(one.data) // DOTS] for one in found.settings)
    dots: Any = {"color": STYLE.ink, "markersize": 1.6, "markeredgewidth": 0, "zorder": 3}
    ax.plot(first, second, ".", label="_data", **dots)
    bar = color_bar(ax, image, words_for("effect on", found.target, found.unit, tall))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(tick))
    for axis, one, room in zip((ax.xaxis, ax.yaxis), found.settings, (wide, tall), strict=True):
        axis.set_label_text(words_for("", one.name, one.unit, room))
        if one.labels:
            beside = 0.35 * wide if axis is ax.yaxis else 0.7 * wide / len(one.x)
            _name_levels(axis, one, np.arange(len(one.x)), beside)
        elif one.dates:
            _date_ticks(axis)
    return ax


def _paint_bands(ax: Axes, found: Effect) -> Any:
    """Fill contours of an effect over two ranges; lines are dashed where it is below zero."""
    values, places = numbers(found.values).T, [numbers(one.x) for one in found.settings]
    most = float(np.abs(values).max()) or 1.0
    bands = MaxNLocator(BANDS, symmetric=True).tick_values(-most, most)
    image = ax.contourf(*places, values, bands, cmap=DIVERGING)
    inside = bands[(bands > values.min()) & (bands < values.max())]
    if len(inside):
        ax.contour(*places, values, inside, colors=STYLE.ink, linewidths=0.4)
    fine = [np.linspace(place[0], place[-1], FINE) for place in places]
    far = _distances(found, fine)
    if far.max() > NEAR:
        style: Any = {"levels": [NEAR, 2.0], "zorder": 2.5}
        ax.contourf(*fine, far, colors=[STYLE.faint], **style)
        ax.contour(*fine, far, colors=STYLE.muted, linewidths=0.3, **style)
    return image


def _paint_cells(ax: Axes, found: Effect) -> Any:
    """Fill one cell for each point of two features, of which one or both have levels."""
    places = [np.arange(len(one.x)) if one.labels else numbers(one.x) for one in found.settings]
    middles = [(place[1:] + place[:-1]) / 2 for place in places]
    ends = [
        np.r_[-0.5, middle, len(place) - 0.5] if one.labels else np.r_[place[0], middle, place[-1]]
        for one, place, middle in zip(found.settings, places, middles, strict=True)
    ]
    values = np.ma.masked_array(numbers(found.values).T, _distances(found, places) > NEAR)
    most = float(np.abs(values.data).max()) or 1.0
    ax.set_facecolor(STYLE.faint)
    return ax.pcolormesh(*ends, values, cmap=DIVERGING, vmin=-most, vmax=most)


def _rows(one: Settings) -> Array:
    """Return where the rows are on an axis; levels are counted."""
    data = numbers(one.data)
    return np.searchsorted(numbers(one.x), data) if one.labels else data


def _distances(found: Effect, places: list[Array]) -> Array:
    """Return how far points (y, x) are from a row: in shares of a range, one level being far."""
    from scipy.spatial import KDTree

    rows = [_rows(one) for one in found.settings]
    pairs = zip(found.settings, rows, strict=True)
    widths = np.array([1.0 if one.labels else np.ptp(row) for one, row in pairs])
    mesh = np.stack(np.meshgrid(*places), -1) / widths
    nearest: Array = KDTree(np.stack(rows, 1) / widths).query(mesh)[0]
    return nearest
