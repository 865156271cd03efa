"""Terms of a small network on one page: curves, levels, surfaces, products and a link."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kanlens._checks import check_count
from kanlens.attribution._effects import Effect
from kanlens.attribution._terms import Summand, Terms
from kanlens.attribution._terms import terms as computed
from kanlens.errors import InvalidValueError, rewording
from kanlens.model._analysis import Model
from kanlens.model._network import Rows
from kanlens.plotting._curves import range_of, set_range, words_for
from kanlens.plotting._effects import date_ticks, draw_curve, draw_levels, paint_surface
from kanlens.plotting._formats import counted, number, tick
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
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
RARE = 0.005  # share of rows with the smallest and largest values that may set no scale
WIDER = 1.6  # range of all rows over that of most, from which the others would be hidden
COLUMNS = 3
PANEL = (1.22, 1.05)  # inches
LEFT, RIGHT = 0.78, 0.28  # inches next to a panel, for names of levels and for their shares
ABOVE, BELOW = 0.24, 0.34  # inches, for the title and for the axis
STEP = (LEFT + PANEL[0] + RIGHT, ABOVE + PANEL[1] + BELOW)  # from a panel to the next
LABEL, NOTE = 0.2, 0.2  # inches, for the label of all panels and for the line below
NAMES, ROTATED = 0.71, 0.15  # inches, for names of levels, and for a label on the left
TIMES = "\N{MULTIPLICATION SIGN}"
DATES = 4  # ticks, at most
LONG = 6  # characters of a tick from which fewer are drawn
LEVELS = 8  # in a panel
MAX_NAME_LENGTH = 14  # characters of a column in a factor


@picture(CALL)
def terms(
    source: Model | Terms,
    x: Rows | None = None,
    *,
    target: int | str | None = None,
    most: int = SHOWN,
    ax: Axes | None = None,
) -> Axes:
    """Draw the terms of a small network side by side, the most important first.

    Curves and levels share one scale, surfaces one color scale; the mean of each is subtracted. The
    number above a panel is its standard deviation over the rows. A product of two sums is two
    panels, its factors: each curve is that of the factor with its other columns at their mean, the
    first factor has a standard deviation of 1. The last panel is the link.

    Parameters
    ----------
    source : KAN or fitted estimator, or Terms
        A model of one layer, or from `kanlens.frontier`. Not changed.
    x, target
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
            source = computed(source, x, target=target)
    elif x is not None or target is not None:
        raise InvalidValueError(CALL, "no x or target with Terms", "one", "Leave them out")
    shown = source.terms[:most]
    ax = axes_for(ax, page_size(source, most), bare=True)
    ax.set_axis_off()
    panels = _panels(ax, source, most)
    ends = _ends([term for term in shown if term.kind == "curve"])
    heights = [float(term.values.abs().max()) for term in shown if term.kind == "surface"]
    for term in shown:
        if term.kind == "product":
            _draw_product(panels[:2], term)
        elif term.kind == "surface":
            _draw_surface(panels[0], term, max(heights))
        else:
            _draw_curve(panels[0], term, ends)
        panels = panels[1 + (term.kind == "product") :]
    if source.link is not None:
        _draw_link(panels[0], source.link)
    _write_labels(ax, source, len(shown))
    return ax


def page_size(source: Terms, most: int = SHOWN) -> tuple[float, float]:
    """Return width and height in inches of a page of terms."""
    places, columns = _places(_widths(source, most))
    rows = max(places) // columns + 1
    return LABEL + columns * STEP[0], rows * STEP[1] + NOTE


def _widths(source: Terms, most: int) -> list[int]:
    """Return the number of panels of each term, and of the link."""
    terms = source.terms[:most]
    return [1 + (term.kind == "product") for term in terms] + [1] * (source.link is not None)


def _places(widths: list[int]) -> tuple[list[int], int]:
    """Return places of panels, row by row, and columns; a gap before two is for the next one."""
    columns = 2 if sum(widths) == 4 else min(COLUMNS, sum(widths))
    places, free = list[int](), list[int]()
    end = 0
    for wide in widths:
        if wide == 1 and free:
            places.append(free.pop())
            continue
        if end % columns + wide > columns:
            free.append(end)
            end += 1
        places += range(end, end + wide)
        end += wide
    return places, columns


def _panels(ax: Axes, source: Terms, most: int) -> list[Axes]:
    """Return axes in the place of `ax`, as many for each term as it takes."""
    width, height = page_size(source, most)
    places, columns = _places(_widths(source, most))
    panels = []
    for place in places:
        row, column = divmod(place, columns)
        left, bottom = LABEL + column * STEP[0] + LEFT, height - row * STEP[1] - ABOVE - PANEL[1]
        box = left / width, bottom / height, PANEL[0] / width, PANEL[1] / height
        panels.append(ax.inset_axes(box))
    return panels


def _ends(curves: list[Summand]) -> tuple[float, float]:
    """Return the range of all curves, of all but a few rows where these would hide the others."""
    if not curves:
        return -1.0, 1.0
    low, high = range_of([numbers(term.factors[0][0].values) for term in curves])
    shares = [RARE, 1 - RARE]
    common = range_of([np.quantile(numbers(term.values), shares) for term in curves])
    return (low, high) if high - low < WIDER * (common[1] - common[0]) else common


def _unitless(effect: Effect) -> Effect:
    """Return an effect without the unit of dates, which their ticks have."""
    parts = (replace(part, unit="") if part.dates else part for part in effect.settings)
    return replace(effect, settings=tuple(parts))


def _entitle(panel: Axes, name: str, importance: float | None = None) -> None:
    """Write the name of a term above a panel, and its importance."""
    wide, right = size_in_inches(panel)[0] + 0.5 * LEFT, ""
    if importance is not None:
        right = number(importance, 2)
        panel.set_title(right, loc="right", pad=3, **ASIDE)
    text = fitted(name, wide - text_width(right, STYLE.small) - 0.08, STYLE.text)
    panel.set_title(text, loc="left", pad=3, x=-0.5 * LEFT / PANEL[0], fontsize=STYLE.text)
    panel.set(xlabel="", ylabel="")


def _draw_one(panel: Axes, effect: Effect, ends: tuple[float, float] | None = None) -> str:
    """Draw a curve or levels; return the name with its unit."""
    effect = _unitless(effect)
    (part,) = effect.settings
    if not part.labels:
        draw_curve(effect, panel)
        if ends is not None:
            set_range(panel, *ends)
        if part.dates:
            date_ticks(panel.xaxis, most=DATES)
        else:
            longest = max(len(tick(round(float(end)))) for end in (part.x[0], part.x[-1]))
            panel.xaxis.set_major_locator(MaxNLocator(4 if longest < LONG else 2))
        panel.yaxis.set_major_locator(MaxNLocator(4))
        return f"{part.name} ({part.unit})" if part.unit else part.name
    draw_levels(effect, panel, LEVELS, NAMES)
    if ends is not None:
        room = 0.06 * (ends[1] - ends[0])
        panel.set_xlim(ends[0] - room, ends[1] + room)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    return part.name


def _draw_curve(panel: Axes, term: Summand, ends: tuple[float, float]) -> None:
    effect = term.factors[0][0]
    name = _draw_one(panel, effect, ends)
    _entitle(panel, name, term.importance)
    count = len(effect.settings[0].labels)
    if count > LEVELS:
        panel.set_xlabel(f"the {LEVELS} most frequent of {count}", **ASIDE)


def _draw_surface(panel: Axes, term: Summand, most: float) -> None:
    effect = _unitless(term.factors[0][0])
    if effect.settings[0].labels and not effect.settings[1].labels:  # names have room on the left
        effect = replace(effect, settings=effect.settings[::-1], values=effect.values.mT)
    tidy(panel)
    image = paint_surface(panel, effect, most, NAMES - ROTATED)
    labels = panel.get_xlabel(), panel.get_ylabel()
    _entitle(panel, f" {TIMES} ".join(part.name for part in effect.settings), term.importance)
    panel.set_xlabel(labels[0], labelpad=1)
    panel.set_ylabel(labels[1], labelpad=1)
    bar = color_bar(panel, image, "", key=panel.inset_axes((1.03, 0.0, 0.04, 1.0)))
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(tick))


def _draw_product(panels: list[Axes], term: Summand) -> None:
    """Draw both factors of a product."""
    for place, (panel, effects) in enumerate(zip(panels, term.factors, strict=True)):
        single = len(effects) == 1
        name = _draw_one(panel, effects[0]) if single else _draw_factor(panel, effects)
        name = name if single else f"({name})"
        _entitle(panel, f"{TIMES} {name}" * place or name, None if place else term.importance)


def _draw_factor(panel: Axes, effects: tuple[Effect, ...]) -> str:
    """Draw the curves of a factor over the ranges of their columns; return its name."""
    tidy(panel)
    names = [literal(effect.settings[0].name, most=MAX_NAME_LENGTH) for effect in effects]
    for place, (name, effect) in enumerate(zip(names, effects, strict=True)):
        part = effect.settings[0]
        share = _shares(numbers(part.x))
        color = STYLE.series[place % len(STYLE.series)]
        marker: Look = {"marker": "o", "markersize": 3} if part.labels else {}
        panel.plot(share, numbers(effect.values), color=color, label=name, **marker)
    panel.set_xticks([0, 1], ["lowest", "highest"])
    panel.legend(loc="best", handlelength=1.2, borderaxespad=0.1)
    panel.yaxis.set_major_locator(MaxNLocator(4))
    return " + ".join(effect.settings[0].name for effect in effects)


def _shares(x: Array) -> Array:
    return np.asarray((x - x[0]) / (np.ptp(x) or 1.0))


def _draw_link(panel: Axes, link: Effect) -> None:
    draw_curve(link, panel)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    _entitle(panel, f"link: {link.target}" + (f" ({link.unit})" if link.unit else ""))
    panel.set_xlabel("sum of terms", labelpad=1)


def _write_labels(ax: Axes, source: Terms, shown: int) -> None:
    """Write the scale of all panels on the left, and on the rest below."""
    text = "term of the sum before the link"
    if source.link is None:
        text = words_for("term of", source.target, source.unit, size_in_inches(ax)[1])
    style: Look = {"rotation": 90, "ha": "left", "va": "center", "transform": ax.transAxes}
    ax.text(0.0, 0.5, text, multialignment="center", **style)
    rest, rows = source.terms[shown:], len(source.terms[0].values)
    note = f"numbers: standard deviations over {counted(rows, 'row')}"
    if rest:
        note += f"; {counted(len(rest), 'more term')}, of at most {number(rest[0].importance, 2)}"
    ax.text(1.0, 0.0, note, ha="right", va="bottom", transform=ax.transAxes, **ASIDE)
