"""Interactions of pairs of features as a matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from kanlens.attribution.result import Attribution
from kanlens.checks import message
from kanlens.errors import InvalidValueError
from kanlens.plotting.style import STYLE, axes_for, literal

Array = np.ndarray[Any, np.dtype[Any]]

SCALED = (-3, 4)  # powers of ten that matplotlib takes out of the numbers beside the color bar
CELL = 0.36  # inches
ROOM = 1.5  # for names
WRITTEN = 10  # features up to which every cell has its number
LONGEST = 24  # characters of a name
NOTHING = 1e-12  # of the largest value: rounding, written as 0


def draw_interactions(
    result: Attribution, row: int | None, top: int, ax: Axes | None, *, call: str
) -> Axes:
    """Draw main effects on the diagonal and interactions off it.

    Over all samples the mean |value|; of one sample the values, orange where they raise the output
    and blue where they lower it.

    Parameters
    ----------
    result : Attribution
    row : int or None
        Which sample.
    top : int
        Most features to draw: those with the largest part in anything.
    ax : Axes or None
    call : str
        For error messages.

    Returns
    -------
    Axes

    Raises
    ------
    InvalidValueError
        If the result has no interactions.
    """
    if result.interactions is None:
        expected = "an Attribution with interactions"
        got = f"one of method {result.method!r}"
        raise InvalidValueError(message(call, expected, got, "Use method='interactions'"))
    values = result.interactions.detach().double().cpu().numpy()
    table = np.abs(values).mean(0) if row is None else values[row]
    order = np.argsort(-np.abs(table).sum(1), kind="stable")[:top]
    table = table[np.ix_(order, order)]
    names = [literal(result.features[i], most=LONGEST) for i in order]
    side = CELL * len(names)
    ax = axes_for(ax, (side + ROOM + 0.9, side + ROOM), call=call)
    most = float(np.abs(table).max()) or 1.0
    low, colors = (0.0, STYLE.sequence) if row is None else (-most, _diverging())
    image = ax.imshow(table, cmap=colors, vmin=low, vmax=most, aspect="equal")
    _name(ax, names)
    if len(names) <= WRITTEN:
        _write(ax, table, image)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelsize=STYLE.small)
    what = "mean |interaction|" if row is None else "interaction"
    unit = f" ({literal(result.unit)})" if result.unit else ""
    bar.set_label(f"{what} for {literal(result.target, most=LONGEST)}{unit}")
    return ax


def _diverging() -> LinearSegmentedColormap:
    """Return blue over white to orange."""
    shades = [STYLE.negative, "#ffffff", STYLE.positive]
    return LinearSegmentedColormap.from_list("effects", shades)


def _name(ax: Axes, names: list[str]) -> None:
    places = np.arange(len(names))
    ax.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(places, names)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks(places[:-1] + 0.5, minor=True)
    ax.set_yticks(places[:-1] + 0.5, minor=True)
    ax.tick_params(which="minor", length=0)
    ax.grid(which="minor", color=STYLE.paper, linewidth=1.2)


def _write(ax: Axes, table: Array, image: Any) -> None:
    """Put the number into every cell, in a color that can be read on it."""
    most = float(np.abs(table).max())
    least = NOTHING * most
    for (y, x), value in np.ndenumerate(table):
        red, green, blue, _ = image.to_rgba(value)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = _short(value if abs(value) > least else 0.0, most)
        color = STYLE.paper if dark else STYLE.ink
        ax.text(x, y, text, ha="center", va="center", fontsize=STYLE.small - 1.5, color=color)


def _short(value: float, most: float) -> str:
    """Write a number without a power of ten, which the color bar has.

    Examples
    --------
    >>> [_short(value, 5.1e4) for value in (5.1e4, -1.24e4, 300.0, 0.2)]
    ['5.1', '\N{MINUS SIGN}1.2', '0.03', '0']
    >>> _short(123.4, 250.0), _short(0.036, 0.05)
    ('123', '0.036')
    """
    power = math.floor(math.log10(most)) if most > 0 else 0
    if not SCALED[0] <= power < SCALED[1]:
        value, power = value / 10.0**power, 0
    text = f"{value:.2g}"
    if "e" in text:
        text = f"{value:.{max(0, 2 - power)}f}"
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
