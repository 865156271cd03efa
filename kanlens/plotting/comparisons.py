"""Several attribution methods side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kanlens.checks import check_count
from kanlens.errors import DTypeError, message
from kanlens.plotting.style import (
    ASIDE,
    STYLE,
    axes_for,
    distinct,
    in_unit,
    literal,
    name_rows,
    picture,
    size_in_inches,
    text_width,
    tidy,
)

CALL = "plot.comparison"
SHOWN = 20  # features
ROW = 0.29  # inches
SPREAD = 0.62  # share of a row over which the methods are spread
COLUMNS = {"shapley_error": "error vs.\nShapley", "relative_gap": "relative\ngap"}
CELL = 0.58  # inches, of a column of numbers in the table of methods
LINE = 0.19  # inches, of a row of it
KEY_GAP = 0.18  # inches, to its left
PLOT = 3.1  # inches, width of the axes in a new figure
LONGEST = 32  # characters of a name
FAR = 4  # times the median of the methods' largest values, from which a method is drawn in part


@dataclass(frozen=True, kw_only=True)
class _Key:
    """The table of methods at the right: their names, and the numbers of each."""

    methods: tuple[str, ...]
    headers: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, methods: list[str], frame: Any) -> _Key:
        numbers = frame.set_index("method")
        shown = [name for name in COLUMNS if name in numbers and numbers[name].notna().any()]
        cells = [
            tuple(number(float(numbers.loc[method, name])) for name in shown) for method in methods
        ]
        return cls(
            methods=tuple(distinct(methods, partial(literal, most=LONGEST))),
            headers=tuple(COLUMNS[name] for name in shown),
            cells=tuple(cells),
        )

    @property
    def width(self) -> float:
        """In inches."""
        longest = max(text_width(method, STYLE.small) for method in self.methods)
        return 0.2 + longest + CELL * len(self.headers) + 0.05

    @property
    def height(self) -> float:
        """In inches."""
        return LINE * (len(self.methods) + 2.2)

    def draw(self, ax: Axes) -> None:
        """Write the table to the right of `ax`, in inches, from its upper end down."""
        width, height = size_in_inches(ax)
        place = (1 + KEY_GAP / width, 1 - self.height / height, self.width / width)
        key = ax.inset_axes((*place, self.height / height), label="_key")
        key.set_axis_off()
        key.set(xlim=(0, self.width), ylim=(self.height, 0))
        style: Any = {"fontsize": STYLE.small, "va": "center"}
        right = [self.width - CELL * i for i in range(len(self.headers))][::-1]
        for text, x in zip(self.headers, right, strict=True):
            key.text(x, 0.8 * LINE, text, ha="right", color=STYLE.muted, **style)
        for row, (method, cells) in enumerate(zip(self.methods, self.cells, strict=True)):
            y = LINE * (row + 2.4)
            key.scatter([0.07], [y], s=20, linewidths=0.4, clip_on=False, **look(row))
            key.text(0.2, y, method, ha="left", **style)
            for text, x in zip(cells, right, strict=True):
                key.text(x, y, text, ha="right", **style)


def _new_axes(names: list[str], key: _Key, rows: float) -> Axes:
    """Return the axes of a new figure that leave room for names and table."""
    left = max(text_width(name, STYLE.text) for name in names) + 0.2
    height = max(rows, key.height)
    width = left + PLOT + KEY_GAP + key.width + 0.05
    ax = axes_for(None, (width, height + 0.55), bare=True)
    whole = height + 0.55
    ax.set_position((left / width, 0.45 / whole, PLOT / width, height / whole))
    return ax


@picture(CALL)
def comparison(result: Any, *, top: int = SHOWN, ax: Axes | None = None) -> Axes:
    """Draw what several methods say of every feature, and how exact each of them is.

    One row per feature, one marker per method at its mean ``|value|``. The table on the right names
    the markers; "error" is the L1 distance from the exact Shapley values over their L1 norm,
    "gap" what the values leave unexplained over what they should explain.

    Parameters
    ----------
    result : Comparison
        As `kanlens.compare` returns it.
    top : int
        Most features to draw, those with the largest mean over the methods first.
    ax : Axes, optional
        Where to draw, with room for the table on its right; a new figure, made by pyplot, when
        None.

    Returns
    -------
    Axes

    Raises
    ------
    DTypeError
        If `result` is no comparison, or `ax` no Axes.

    Examples
    --------
    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> from kanlens.attribution.comparison import compare
    >>> from kanlens.model.network import KAN
    >>> x = torch.rand(5, 2)
    >>> both = compare(KAN([2, 1]), x, background=x, methods=["shapley", "secant"])
    >>> len(comparison(both, ax=Figure().subplots()).collections)
    2
    """
    check_count(CALL, "top", top)
    table, frame = getattr(result, "importance", None), getattr(result, "frame", None)
    if table is None or frame is None:
        expected, got = "a Comparison", type(result).__name__
        raise DTypeError(message(CALL, expected, got, "Pass what compare returned"))
    sizes = table["shapley"] if "shapley" in table else table.mean(axis=1)
    order = np.argsort(-sizes.to_numpy(), kind="stable")[:top]
    key = _Key.of(list(table.columns), frame)
    names = distinct((table.index[i] for i in order), partial(literal, most=LONGEST))
    if ax is None:
        ax = _new_axes(names, key, ROW * len(order))
    tidy(ax)
    _draw_markers(ax, table, order)
    name_rows(ax, names)
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_xlim(left=0)
    one = next(iter(result.attributions.values()))
    ax.set_xlabel(f"mean |value| for {literal(one.target, most=LONGEST)}{in_unit(one.unit)}")
    notes = [f"{len(order)} of {len(table)} features"] if len(order) < len(table) else []
    ax.set_title(", ".join([*notes, *_limit(ax, table)]), loc="right", **ASIDE)
    key.draw(ax)
    return ax


def _limit(ax: Axes, table: Any) -> list[str]:
    """End the axis before methods whose values dwarf the others', and say which these are."""
    largest = table.max()
    ordinary = largest[largest <= FAR * largest.median()]
    beyond = [literal(name, most=LONGEST) for name in largest.index if name not in ordinary]
    if not len(ordinary) or not beyond or not float(ordinary.max()):
        return []
    ax.set_xlim(right=1.1 * float(ordinary.max()))
    return [f"{' and '.join(beyond)} in part beyond the right end"]


def look(place: int) -> dict[str, Any]:
    """Return marker and color of a method; pairs repeat only after many methods."""
    cycle = len(STYLE.series)
    color = STYLE.series[(place + place // cycle) % cycle]
    return {"marker": STYLE.markers[place % cycle], "facecolors": color, "edgecolors": STYLE.paper}


def _draw_markers(ax: Axes, table: Any, order: Any) -> None:
    for row in range(0, len(order), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    methods = list(table.columns)
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(methods)) if len(methods) > 1 else [0.0]
    for place, (method, offset) in enumerate(zip(methods, offsets, strict=True)):
        values = table[method].to_numpy()[order]
        style: Any = {**look(place), "s": 20, "linewidths": 0.4, "zorder": 3}
        ax.scatter(values, np.arange(len(order)) + offset, label=literal(method), **style)


def number(value: float) -> str:
    """Write a small number in a table."""
    if math.isnan(value):
        return "n/a"
    if value == 0:
        return "0"
    if abs(value) < 1e-12:
        return "<1e-12"
    return f"{value:.3f}" if abs(value) >= 1e-3 else f"{value:.0e}"
