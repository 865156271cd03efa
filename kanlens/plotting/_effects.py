"""Effects of features on an output: curves, levels and surfaces."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, get_epoch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator

from kanlens.attribution._effects import MAX_DISCRETE_VALUES, Effect, Kind, Settings
from kanlens.attribution._effects import effect as computed
from kanlens.attribution._terms import terms
from kanlens.errors import InvalidValueError, rewording
from kanlens.model._analysis import Model, usual_range
from kanlens.plotting._curve_data import MARGIN, binned
from kanlens.plotting._curves import SHADE, draw_density, range_of, set_range, words_for
from kanlens.plotting._formats import counted, percent, tick
from kanlens.plotting._interactions import DIVERGING
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    Look,
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

    from kanlens.model._network import Rows, Targets

GAP = 0.1  # least range without data that is shaded, as a share of the whole range
LINES = "#c4c4c4"  # of single rows
BANDS, FINE = 12, 120  # colors of a surface, and points on each axis for the outline of the data
# largest distance from a row at which a surface is drawn, over the feature's range
MAX_ROW_DISTANCE = 0.08
LEVELS = 30  # at most
DOTS = 1000  # rows that are drawn, at most
TRIMMED_FROM = 20  # models from which their range is from the 5% to the 95% quantile
LONG_TICK = 1e4  # numbers from which tick labels are long
NARROW, WIDE = 2.5, 7.0  # ranges of logs: even ticks of factors below, powers of ten above
LETTER = 0.054  # inches, width of a letter of a level's name


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
    y: Targets | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the effect of a feature on an output, minus its mean.

    The effect is that of `kanlens.attribution.effect`. Thin gray lines are changes of the
    output of single rows. Light gray marks ranges without data, the strip is the density of data,
    percentages are shares of rows, and the diamond is a missing cell. For several models, the
    shading is their spread. For two features, the joint effect is drawn: orange and solid lines
    raise the output, blue and dashed ones lower it. Rows far outside all others are not drawn, only
    counted. The effect on a log rate, mean or hazard, or on log-odds, has a second axis: the factor
    of the rate, mean, hazard or odds.

    Parameters
    ----------
    source : KAN or fitted estimator, a sequence of them, or Effect
        Not changed. An `Effect` is drawn without further evaluations.
    feature, data, target, kind, ice, other, grid
        With models, as for `kanlens.attribution.effect`.
    y : array-like, shape (batch,) or (batch, out), optional
        With a model that is a sum of terms, the targets of `data`: the curve of the column has the
        95% band of `kanlens.attribution.terms`. `feature` must then be a name.

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
    if y is not None and not isinstance(source, Effect):
        with rewording("plot.effect"):
            source = terms(source, data, y, target=target).curve(str(feature))  # type: ignore[arg-type]
    elif not isinstance(source, Effect):
        options: Any = {"target": target, "kind": kind, "ice": ice, "other": other, "grid": grid}
        with rewording("plot.effect"):
            source = computed(source, feature, data, **options)  # type: ignore[arg-type]
    elif any(option is not None for option in (feature, data, target, other, y)):
        text = "no feature, data, target, other or y with an Effect"
        raise InvalidValueError("plot.effect", text, "at least one", "Leave them out")
    rows, source = len(source.settings[0].data), without_outliers(source)
    if len(source.settings) == 2:
        ax = _draw_surface(source, ax)
    elif source.settings[0].labels:
        return _add_factors(draw_levels(source, ax), source)
    else:
        ax = _add_factors(draw_curve(source, ax), source)
    ax.set_title(outside(source, rows), loc="right", **ASIDE)
    return ax


def _add_factors(ax: Axes, result: Effect) -> Axes:
    """Add an axis of exp(effect) to an effect in logs, unless missing cells have an effect."""
    if result.unit.startswith("log") and result.missing is None:
        levels = bool(result.settings[0].labels)
        add = partial(ax.secondary_xaxis, "top") if levels else partial(ax.secondary_yaxis, "right")
        factors = (
            lambda log: np.exp(np.clip(log, -600, 600)),
            lambda x: np.log(np.maximum(x, 1e-300)),
        )
        second = add(functions=factors)
        axis, ends = (second.xaxis, ax.get_xlim()) if levels else (second.yaxis, ax.get_ylim())
        width = ends[1] - ends[0]
        steps = LogLocator(subs=(1.0, 2.0, 5.0) if width < WIDE else (1.0,))
        locator = MaxNLocator(4) if width < NARROW else steps
        axis.set_major_locator(FixedLocator(locator.tick_values(*map(factors[0], ends))))
        axis.set_major_formatter(FuncFormatter(tick))
        axis.set_label_text(f"factor of the {result.unit[4:]}")
    return ax


def without_outliers(result: Effect) -> Effect:
    """Return an effect without points and rows outside the usual range of its features."""
    ranges = [
        (part.x[0], part.x[-1]) if part.labels else usual_range(numbers(part.data))
        for part in result.settings
    ]
    pairs = list(zip(result.settings, ranges, strict=True))
    rows = torch.stack([(low <= p.data) & (p.data <= high) for p, (low, high) in pairs]).all(0)
    points = [(low <= part.x) & (part.x <= high) for part, (low, high) in pairs]
    settings = [
        replace(part, x=part.x[own], codes=part.codes[own], data=part.data[rows])
        for part, own in zip(result.settings, points, strict=True)
    ]
    changes: dict[str, Any] = {"settings": tuple(settings)}
    for name in ("values", "ice", "members", "band"):
        if (array := getattr(result, name)) is not None:
            for axis, own in enumerate(points, -len(points)):
                array = array.index_select(axis, own.nonzero()[:, 0])
            changes[name] = array
    return replace(result, **changes)


def outside(result: Effect, rows: int) -> str:
    """Return a note on the outlier rows, which are not drawn."""
    count = rows - len(result.settings[0].data)
    return f"{counted(count, 'row')} outside" if count else ""


def draw_curve(result: Effect, ax: Axes | None) -> Axes:
    """Draw an effect over a range, the density of rows, and curves of single rows."""
    part, ax = result.settings[0], axes_for(ax, (STYLE.column, 0.7 * STYLE.column))
    x, y, data = numbers(part.x), numbers(result.values), np.sort(numbers(part.data))
    width = data[-1] - data[0] or 1.0
    low, high = data[0] - MARGIN * width, data[-1] + MARGIN * width
    few = len(x) <= MAX_DISCRETE_VALUES
    gaps = np.flatnonzero(np.diff(data) > (np.inf if few else GAP * width))
    for left, right in [(low, data[0]), *((data[k], data[k + 1]) for k in gaps), (data[-1], high)]:
        ax.axvspan(left, right, color=SHADE, linewidth=0, zorder=0, label="_no data")
    draw_density(ax, binned(data, low, high))
    lines = [] if result.ice is None else [*numbers(result.ice)]
    paths = [np.stack([x, line], 1) for line in lines]
    ax.add_collection(LineCollection(paths, colors=LINES, linewidths=0.5, zorder=2, label="_ice"))
    style: Look = {"marker": "o", "markersize": 4, "linewidth": 0.8} if few else {"linewidth": 1.6}
    ax.plot(x, y, color=STYLE.accent, zorder=4, label="_curve", **style)
    ends = _draw_spread(ax, result, x)
    if result.missing is not None:  # at the right border
        border: Look = {"transform": ax.get_yaxis_transform(), "clip_on": False, "zorder": 5}
        look: Look = {"color": STYLE.accent, "markersize": 4.5, "label": "_missing"}
        ax.plot(1.0, result.missing, "D", **look, **border)
        ax.text(1.04, result.missing, "missing", va="center", **border, **ASIDE)
        ends.append(np.array([result.missing]))
    ax.set_xlim(low, high)
    if part.dates:
        date_ticks(ax.xaxis)
    elif max(abs(low), abs(high)) >= LONG_TICK:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    set_range(ax, *range_of([y, *lines, *ends]))
    wide, tall = size_in_inches(ax)
    ax.set_xlabel(_words(part, wide))
    ax.set_ylabel(words_for("effect on", result.target, result.unit, tall))
    return ax


def _words(part: Settings, room: float) -> str:
    """Return the name of a feature, with its unit unless the ticks are dates."""
    return words_for("", part.name, "" if part.dates else part.unit, room)


def date_ticks(axis: Axis, most: int = 7) -> None:
    """Label days since 1970 with at most `most` dates, unless Matplotlib has another epoch."""
    places = AutoDateLocator(minticks=3, maxticks=most)
    if get_epoch().startswith("1970-01-01T00:00"):
        axis.set_major_locator(places)
        axis.set_major_formatter(ConciseDateFormatter(places))
        axis.get_offset_text().set_fontsize(STYLE.text)


def _draw_spread(ax: Axes, result: Effect, places: Array) -> list[Array]:
    """Shade a band, or the range of effects of several models; return its ends."""
    words = "_band"
    if result.band is not None:
        low, high = numbers(result.band)
    elif result.members is not None:
        count, share = len(result.members), 0.05 if len(result.members) >= TRIMMED_FROM else 0.0
        low, high = np.quantile(numbers(result.members), [share, 1 - share], axis=0)
        words = f"{'5% to 95%' if share else 'range'} of {count} models"
    else:
        return []
    look: Look = {"label": words, "alpha": 0.25, "zorder": 2.5}
    if result.settings[0].labels:
        y = np.arange(len(places))
        ax.hlines(y, low[places], high[places], colors=STYLE.accent, linewidth=7, **look)
    else:
        ax.fill_between(places, low, high, color=STYLE.accent, linewidth=0, **look)
    if result.band is None:
        ax.legend(loc="best")
    return [low, high]


def draw_levels(
    result: Effect, ax: Axes | None, most: int = LEVELS, room: float | None = None
) -> Axes:
    """Draw the effect of each level, on single rows too, and its share of the rows.

    At most `most` levels are drawn; their names have `room` inches, or half the width of `ax`.
    """
    part, values = result.settings[0], numbers(result.values)
    shares = (numbers(part.data)[:, None] == numbers(part.x)).mean(0)
    picks = np.sort(np.argsort(-shares, kind="stable")[:most])
    y, values = np.arange(len(picks)), values[picks]
    ax = axes_for(ax, (STYLE.column, 0.6 + 0.4 * result.unit.startswith("log") + 0.2 * len(y)))
    wide = size_in_inches(ax)[0]
    if result.ice is not None:
        lines = numbers(result.ice)[:, picks]
        style: Look = {"markersize": 6, "markeredgewidth": 0.6, "zorder": 2, "label": "_ice"}
        ax.plot(lines.ravel(), np.tile(y, len(lines)), "|", color=LINES, **style)
    ax.axvline(0, color=STYLE.muted, linewidth=0.6, zorder=0.8)
    ax.hlines(y, 0, values, colors=STYLE.accent, linewidth=1.0, zorder=3)
    _draw_spread(ax, result, picks)
    ax.plot(values, y, "o", color=STYLE.accent, markersize=4.5, zorder=4, label="_levels")
    _name_levels(ax.yaxis, part, picks, 0.5 * wide if room is None else room)
    right: Look = {"transform": ax.get_yaxis_transform(), "va": "center", **ASIDE}
    for place, share in enumerate(shares[picks]):
        ax.text(1.02, place, percent(share, 0), **right)
    title = _words(part, wide)
    if len(picks) < len(shares):
        title += f"\nthe {len(picks)} most frequent of {len(shares)}"
    ax.set_title(title, loc="left", fontsize=STYLE.text)
    ax.set_ylim(len(y) - 0.5, -0.5)
    ax.set_xlabel(words_for("effect on", result.target, result.unit, wide))
    return ax


def _name_levels(axis: Axis, part: Settings, picks: Array, room: float) -> None:
    """Name the levels on an axis, with `room` inches for each."""
    short = partial(literal, most=max(5, int(room / LETTER)))
    names = distinct((part.labels[k] for k in picks), short)
    axis.set_ticks(np.arange(len(names)), names)
    axis.set_tick_params(length=0)


def _draw_surface(result: Effect, ax: Axes | None) -> Axes:
    """Draw the effect of two features where rows are near, and its color bar."""
    ax = axes_for(ax, (STYLE.column, 0.8 * STYLE.column))
    tall = size_in_inches(ax)[1]
    image = paint_surface(ax, result)
    bar = color_bar(ax, image, words_for("effect on", result.target, result.unit, tall))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(tick))
    return ax


def paint_surface(
    ax: Axes, result: Effect, most: float | None = None, room: float | None = None
) -> ScalarMappable:
    """Paint an effect of two features, in colors from -`most` to `most`, and dots for rows.

    Names of levels on the left have `room` inches, or 0.35 of the width of `ax`.
    """
    wide, tall = size_in_inches(ax)
    levels = any(part.labels for part in result.settings)
    most = most or float(result.values.abs().max()) or 1.0
    image = (_paint_cells if levels else _paint_bands)(ax, result, most)
    first, second = (_rows(part)[:: 1 + len(part.data) // DOTS] for part in result.settings)
    dots: Look = {"color": STYLE.ink, "markersize": 1.6, "markeredgewidth": 0, "zorder": 3}
    ax.plot(first, second, ".", label="_data", **dots)
    for axis, part, size in zip((ax.xaxis, ax.yaxis), result.settings, (wide, tall), strict=True):
        axis.set_label_text(_words(part, size))
        if part.labels:
            left = 0.35 * wide if room is None else room
            places = np.arange(len(part.x))
            _name_levels(axis, part, places, left if axis is ax.yaxis else 0.7 * wide / len(places))
        elif part.dates:
            date_ticks(axis)
    return image


def _paint_bands(ax: Axes, result: Effect, most: float) -> ScalarMappable:
    """Fill contours of an effect over two ranges, dashed below zero."""
    values = numbers(result.values.clamp(-most, most)).T
    places = [numbers(part.x) for part in result.settings]
    bands = MaxNLocator(BANDS, symmetric=True).tick_values(-most, most)
    image = ax.contourf(*places, values, bands, cmap=DIVERGING)
    inside = bands[(bands > values.min()) & (bands < values.max())]
    if len(inside):
        ax.contour(*places, values, inside, colors=STYLE.ink, linewidths=0.4)
    fine = [np.linspace(place[0], place[-1], FINE) for place in places]
    far = _distances(result, fine)
    if far.max() > MAX_ROW_DISTANCE:
        style: Look = {"levels": [MAX_ROW_DISTANCE, 2.0], "zorder": 2.5}
        ax.contourf(*fine, far, colors=[STYLE.faint], **style)
        ax.contour(*fine, far, colors=STYLE.muted, linewidths=0.3, **style)
    return image


def _paint_cells(ax: Axes, result: Effect, most: float) -> ScalarMappable:
    """Fill a cell for each point of two features, one or both with levels."""
    places = [
        np.arange(len(part.x)) if part.labels else numbers(part.x) for part in result.settings
    ]
    ends = []
    for part, place in zip(result.settings, places, strict=True):
        outer = (-0.5, len(place) - 0.5) if part.labels else place[[0, -1]]
        ends.append(np.r_[outer[0], (place[1:] + place[:-1]) / 2, outer[1]])
    far = _distances(result, places) > MAX_ROW_DISTANCE
    values = np.ma.masked_array(numbers(result.values).T, far)
    ax.set_facecolor(STYLE.faint)
    return ax.pcolormesh(*ends, values, cmap=DIVERGING, vmin=-most, vmax=most)


def _rows(part: Settings) -> Array:
    """Return the position of each row on an axis; a level is at its index."""
    data = numbers(part.data)
    return np.searchsorted(numbers(part.x), data) if part.labels else data


def _distances(result: Effect, places: list[Array]) -> Array:
    """Return the distances (y, x) of a mesh from the nearest row, relative to the ranges."""
    from scipy.spatial import KDTree

    rows = [_rows(part) for part in result.settings]
    pairs = zip(result.settings, rows, strict=True)
    widths = np.array([1.0 if part.labels else np.ptp(row) for part, row in pairs])
    mesh = np.stack(np.meshgrid(*places), -1) / widths
    return np.asarray(KDTree(np.stack(rows, 1) / widths).query(mesh)[0])
