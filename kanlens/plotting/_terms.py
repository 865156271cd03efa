"""Terms of a small network on one page: curves, surfaces, products and a link function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kanlens._checks import check_count
from kanlens.attribution._effects import Effect, Settings
from kanlens.attribution._terms import Summand, Terms
from kanlens.attribution._terms import terms as computed
from kanlens.errors import InvalidValueError, rewording
from kanlens.model._analysis import Model
from kanlens.model._network import Rows, Targets
from kanlens.plotting._curves import Grid, range_of, set_range, words_for, write_scale
from kanlens.plotting._effects import (
    LETTER,
    date_ticks,
    draw_curve,
    draw_levels,
    outside,
    paint_surface,
    without_outliers,
)
from kanlens.plotting._formats import counted, number, tick
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Look,
    axes_for,
    color_bar,
    fitted,
    literal,
    numbers,
    picture,
    size_in_inches,
    text_width,
    tidy,
)

CALL = "plot.terms"
SHOWN = 12  # terms
RARE = 0.005  # share of rows at either end that the common scale does not depend on
REACH = 0.6  # most of the scale beyond the other rows, as a share of their range
COLUMNS = 3
# names of levels are left of a panel, and their shares right of it
GRID = Grid(panel=(1.22, 1.05), gutter=(1.06, 0.58), before=(0.98, 0.54), after=(0.28, 0.24))
INDENT = 0.39  # inches, from a title to its panel
NAMES, ROTATED = 0.71, 0.15  # inches, for names of levels, and for a label on the left
TIMES = "\N{MULTIPLICATION SIGN}"
DATES = 4  # ticks, at most
LINE = 0.2  # height of a name in the legend, as a share of the range of the curves
LEVELS = 8  # in a panel
MAX_NAME_LENGTH = 14


@picture(CALL)
def terms(
    source: Model | Terms,
    x: Rows | None = None,
    y: Targets | None = None,
    *,
    target: int | str | None = None,
    most: int = SHOWN,
    ax: Axes | None = None,
) -> Axes:
    """Draw the terms of a small network side by side, the most important first.

    Curves and levels share one scale, surfaces one color scale; the mean of each is subtracted. The
    number above a panel is its standard deviation over the rows. A product of two sums is two
    panels, one per factor: the curve of a column has the other columns at their mean, and the first
    factor has standard deviation 1. The last panel is the link function. With `y`, 95% bands of
    curves and levels are shaded. Rows far outside all others are not drawn, only counted.

    Parameters
    ----------
    source : KAN or fitted estimator, or Terms
        A model of one layer, or from `kanlens.frontier`. Not changed.
    x, y, target
        With a model, as for `kanlens.attribution.terms`.
    most : int
        Largest number of terms to draw; others are counted below.
    ax : Axes, optional
        Replaced by the panels; a new figure of fitting size when None.

    Returns
    -------
    Axes
        With the panels in ``child_axes``.

    Raises
    ------
    MethodError, InvalidValueError, ShapeError, DTypeError, DataError
        As `kanlens.attribution.terms`.

    Examples
    --------
    >>> import torch
    >>> from kanlens import KAN
    >>> from matplotlib.figure import Figure
    >>> model = KAN([2, 1]).double()
    >>> axes = terms(model, torch.rand(50, 2, dtype=torch.float64), ax=Figure().subplots())
    >>> len(axes.child_axes)
    2
    """
    check_count(CALL, "most", most)
    if not isinstance(source, Terms):
        with rewording(CALL):
            source = computed(source, x, y, target=target)
    elif any(option is not None for option in (x, y, target)):
        raise InvalidValueError(CALL, "no x, y or target with Terms", "one", "Leave them out")
    rows, shown = len(source.terms[0].values), [_shown(term) for term in source.terms[:most]]
    places = _places(_widths(source, most))
    ax = axes_for(ax, GRID.size(*places), bare=True)
    ax.set_axis_off()
    panels = iter(GRID.panels(ax, *places))
    curves = [term for term in shown if term.kind == "curve"]
    heights = [float(term.values.abs().max()) for term in shown if term.kind == "surface"]
    for term in shown:
        ends = None if term.kind == "product" else _ends(curves)
        for place, effects in enumerate(term.factors):
            panel = next(panels)
            name = _draw_factor(panel, effects, ends, max(heights, default=None))
            _count_outliers(panel, effects, rows)
            name = f"{TIMES} {name}" if place else name
            _entitle(panel, name, "" if place else number(term.importance, 2))
    if source.link is not None:
        panel, link = next(panels), without_outliers(source.link)
        _draw_factor(panel, (link,))
        _entitle(panel, f"link: {link.target}" + (f" ({link.unit})" if link.unit else ""))
        panel.set_xlabel("sum of terms", labelpad=1)
        _count_outliers(panel, (link,), rows)
    _write_labels(ax, source, len(shown))
    return ax


def _shown(term: Summand) -> Summand:
    """Return a term without outlying points and rows."""
    factors = (tuple(map(without_outliers, effects)) for effects in term.factors)
    return replace(term, factors=tuple(factors))


def _count_outliers(panel: Axes, effects: tuple[Effect, ...], rows: int) -> None:
    """Write the number of rows outside a panel below it."""
    note = outside(min(effects, key=lambda effect: len(effect.settings[0].data)), rows)
    if note:
        panel.set_xlabel(f"{panel.get_xlabel()}\n{note}".strip(), **ASIDE)


def page_size(source: Terms, most: int = SHOWN) -> tuple[float, float]:
    """Return width and height in inches of a page of terms."""
    return GRID.size(*_places(_widths(source, most)))


def _widths(source: Terms, most: int) -> list[int]:
    """Return the number of panels of each term, and of the link."""
    return [len(term.factors) for term in source.terms[:most]] + [1] * (source.link is not None)


def _places(widths: list[int]) -> tuple[list[int], int]:
    """Return positions of panels, row by row, and the number of columns."""
    columns = 2 if sum(widths) == 4 else min(COLUMNS, sum(widths))
    places = list[int]()
    for wide in widths:
        free = (k for k in range(columns * len(widths)) if not {k, k + wide - 1} & {*places})
        start = next(k for k in free if k % columns + wide <= columns)
        places += range(start, start + wide)
    return places, columns


def _ends(curves: list[Summand]) -> tuple[float, float]:
    """Return the range of all curves and bands, cut off far beyond the range of most rows."""
    if not curves:
        return -1.0, 1.0
    effects = [term.factors[0][0] for term in curves]
    low, high = range_of([numbers(e.values if e.band is None else e.band) for e in effects])
    shares = [RARE, 1 - RARE]
    common = range_of([np.quantile(numbers(term.values), shares) for term in curves])
    room = REACH * (common[1] - common[0])
    return max(low, common[0] - room), min(high, common[1] + room)


def _entitle(panel: Axes, name: str, importance: str = "") -> None:
    """Write the name of a term above a panel, and its importance."""
    wide = size_in_inches(panel)[0]
    panel.set_title(importance, loc="right", pad=5, **ASIDE)
    room = wide + INDENT - text_width(importance, STYLE.small) - 0.08
    text = fitted(name, room, STYLE.text)
    panel.set_title(text, loc="left", pad=5, x=-INDENT / wide, fontsize=STYLE.text)


def _named(part: Settings) -> str:
    """Return the name of a column, with its unit unless the ticks are dates."""
    return f"{part.name} ({part.unit})" if part.unit and not part.dates else part.name


def _draw_factor(
    panel: Axes,
    effects: tuple[Effect, ...],
    ends: tuple[float, float] | None = None,
    most: float | None = None,
) -> str:
    """Draw a curve or levels over `ends`, a surface up to `most`, or curves; return its name."""
    if len(effects) > 1:
        return _draw_curves(panel, effects)
    if len(effects[0].settings) == 2:
        return _draw_surface(panel, effects[0], most)
    part = effects[0].settings[0]
    if part.labels:
        draw_levels(effects[0], panel, LEVELS, NAMES)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        if ends is not None:
            room = 0.06 * (ends[1] - ends[0])
            panel.set_xlim(ends[0] - room, ends[1] + room)
    else:
        draw_curve(effects[0], panel)
        if ends is not None:
            set_range(panel, *ends)
        longest = max(len(tick(round(float(end)))) for end in (part.x[0], part.x[-1]))
        count = int(np.clip(size_in_inches(panel)[0] / (LETTER * (longest + 1)), 2, 4))
        whole = bool((part.data % 1 == 0).all())
        panel.xaxis.set_major_locator(MaxNLocator(count, integer=whole))
        if part.dates:
            date_ticks(panel.xaxis, most=DATES)
        panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.set(xlabel="", ylabel="")
    if len(part.labels) > LEVELS:
        panel.set_xlabel(f"the {LEVELS} most frequent of {len(part.labels)}", **ASIDE)
    return part.name if part.labels else _named(part)


def _draw_surface(panel: Axes, effect: Effect, most: float | None) -> str:
    name = f" {TIMES} ".join(part.name for part in effect.settings)
    if effect.settings[0].labels and not effect.settings[1].labels:  # names have room on the left
        effect = replace(effect, settings=effect.settings[::-1], values=effect.values.mT)
    tidy(panel)
    image = paint_surface(panel, effect, most, NAMES - ROTATED)
    for axis, part, size in zip(
        (panel.xaxis, panel.yaxis), effect.settings, size_in_inches(panel), strict=True
    ):
        axis.set_label_text(fitted(_named(part), size, STYLE.text))
        axis.labelpad = 1
    bar = color_bar(panel, image, "", key=panel.inset_axes((1.03, 0.0, 0.04, 1.0)))
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(tick))
    return name


def _draw_curves(panel: Axes, effects: tuple[Effect, ...]) -> str:
    """Draw the curves of a factor, each over its column's range; return the factor's name."""
    tidy(panel)
    for place, effect in enumerate(effects):
        part, x = effect.settings[0], numbers(effect.settings[0].x)
        name = literal(part.name, most=MAX_NAME_LENGTH)
        color = STYLE.series[place % len(STYLE.series)]
        marker: Look = {"marker": "o", "markersize": 3} if part.labels else {}
        share = (x - x[0]) / (np.ptp(x) or 1.0)
        panel.plot(share, numbers(effect.values), color=color, label=name, **marker)
    panel.set_xticks([0, 1], ["lowest", "highest"])
    low, high = range_of([numbers(effect.values) for effect in effects])
    panel.set_ylim(low - 0.05 * (high - low), high + (0.1 + LINE * len(effects)) * (high - low))
    panel.legend(loc="upper center", handlelength=1.2, borderaxespad=0.1)
    panel.yaxis.set_major_locator(MaxNLocator(4))
    return f"({' + '.join(effect.settings[0].name for effect in effects)})"


def _write_labels(ax: Axes, source: Terms, shown: int) -> None:
    """Label the common scale on the left; write a note below."""
    wide, tall = size_in_inches(ax)
    text = "term of the sum before the link"
    if source.link is None:
        text = words_for("term of", source.name, source.unit, tall)
    write_scale(ax, text)
    rest, rows = source.terms[shown:], len(source.terms[0].values)
    note = f"numbers: standard deviations over {counted(rows, 'row')}"
    if any(effects[0].band is not None for term in source.terms for effects in term.factors):
        note += "; shaded: 95% bands"
    if rest:
        note += f"; {counted(len(rest), 'more term')}, of at most {number(rest[0].importance, 2)}"
    note = words_for(note, "", "", wide)
    ax.text(1.0, 0.0, note, ha="right", va="bottom", transform=ax.transAxes, **ASIDE)
