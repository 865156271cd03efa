"""The parts as figures, drawn from their tables and from nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.attribution.scoring import PATHS, SHAPLEY
from benchmarks.drawing import Frames, Picture
from kanlens.attribution._problem import Baseline
from kanlens.plotting._style import STYLE, context

_NAMES = {  # as they stand under the columns
    "additive": "additive",
    "bilinear": "bilinear",
    "product": "product",
    "friedman": "Friedman 1",
    "ishigami": "Ishigami",
    "sobol_g": "Sobol g",
    "exp_sin": "exp of sin",
    "cosine": "cosine of ten",
    "deep": "three layers",
    "cancellation": "cancellation",
    "duplicate_both": "duplicate, both",
    "duplicate_one": "duplicate, one",
    "threshold": "threshold",
    "xor": "xor",
    "null_features": "null features",
}
_AIMS = (SHAPLEY, PATHS)  # of the two tables
_NOTES = "gray names define something else\n* counted from one row, not {rows}\n{dash} refused"
_DASH = "\N{EN DASH}"
_BEST, _WORST = -12, 0  # powers of ten at the ends of the colors
_LEAST = 1e-17  # gaps of zero are drawn here
_ROW, _ROOM = 0.165, 1.3  # inches of a method, and of all that is above and below


def _draw_planted(frames: Frames) -> Figure:
    """Draw the error of every method on every network, with its gap and its time beside it."""
    frame = frames["attribution-planted"]
    local = frame[(frame["scope"] == "local") & (frame["status"] != "no features")]
    toward = _errors(local, "shapley_error")
    along = _errors(local[local["aims_at"] == PATHS], "ig_error")
    blocks = [toward, along] if len(along) else [toward]
    tall = [len(each) for each in blocks]
    with context():
        figure = Figure(figsize=(STYLE.page, _ROOM + _ROW * (sum(tall) + 1)), layout="constrained")
        axes: Any = figure.subplots(
            len(blocks), 3, squeeze=False, width_ratios=(4.6, 1, 1), height_ratios=tall
        )
        titles = ("against Shapley values", "against integrated gradients")
        for row, (errors, title) in enumerate(zip(blocks, titles, strict=False)):
            image = _heat(axes[row, 0], errors, last=row == len(blocks) - 1)
            axes[row, 0].set_title(title, loc="left")
            for place, column in enumerate(("gap", "seconds_per_row"), 1):
                _dots(axes[row, place], local, list(errors.index), column)
                axes[row, place].tick_params(labelbottom=row == len(blocks) - 1)
            _mark_names(axes[row, 0], local, _AIMS[row])
        axes[-1, 1].set_xlabel("completeness\ngap, relative")
        axes[-1, 2].set_xlabel("seconds\nper row")
        _color_bar(figure, image, axes[0, 0])
        look: dict[str, Any] = {"fontsize": STYLE.small - 1, "color": STYLE.muted, "va": "bottom"}
        notes = _NOTES.format(rows=local["background"].max(), dash=_DASH)
        figure.text(0.005, 0.012, notes, linespacing=1.5, **look)
    return figure


def _errors(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return errors, methods x networks, the smallest first; methods without any left out.

    Where a method has no error, the order takes it for one of 1.
    """
    numbers = frame.assign(error=frame[column].astype(float))
    table = numbers.pivot_table(index="method", columns="case", values="error", aggfunc="first")
    columns = [name for name in dict.fromkeys(frame["case"]) if name in table]
    logs = table.clip(lower=10.0 ** (_BEST - 4)).apply(np.log10).fillna(0.0).mean(axis=1)
    return table.loc[logs.sort_values(kind="stable").index, columns]


def _heat(ax: Axes, errors: pd.DataFrame, *, last: bool) -> Any:
    """Draw a table of errors as colors with numbers; gray where there is none."""
    logs = np.log10(errors.to_numpy().clip(min=10.0 ** (_BEST - 4)))
    ax.set_facecolor(STYLE.faint)
    look: dict[str, Any] = {
        "cmap": STYLE.sequence,
        "vmin": _BEST,
        "vmax": _WORST,
        "edgecolors": STYLE.paper,
    }
    image = ax.pcolormesh(logs, linewidth=0.8, **look)
    for (row, column), value in np.ndenumerate(errors.to_numpy()):
        known = math.isfinite(value)
        dark = known and logs[row, column] < (_BEST + _WORST) / 2
        color = STYLE.paper if dark else STYLE.ink if known else STYLE.muted
        words = _short(value) if known else _DASH
        place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": STYLE.small - 2}
        ax.text(column + 0.5, row + 0.52, words, color=color, **place)
    ax.set_yticks(np.arange(len(errors)) + 0.5, list(errors.index))
    names = [_NAMES.get(name, name) for name in errors.columns] if last else []
    places = np.arange(len(errors.columns)) + 0.5
    ax.set_xticks(places if last else [], names, rotation=40, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0, pad=3)
    ax.spines[:].set_visible(False)
    ax.set_ylim(len(errors), 0)
    return image


def _mark_names(ax: Axes, frame: pd.DataFrame, aim: str) -> None:
    """Write methods in gray that do not claim to compute `aim`, with a star those with one row."""
    claiming = set(frame[frame["aims_at"] == aim]["method"])
    quick = set(frame[frame["baseline"].isin([Baseline.MEAN_ROW, Baseline.ZERO])]["method"])
    names = [label.get_text() for label in ax.get_yticklabels()]
    ax.set_yticks(ax.get_yticks(), [f"{name} *" if name in quick else name for name in names])
    for name, label in zip(names, ax.get_yticklabels(), strict=True):
        label.set_color(STYLE.ink if name in claiming else STYLE.muted)


def _short(value: float) -> str:
    """Write an error in at most five signs.

    Examples
    --------
    >>> _short(0.314), _short(0.02), _short(3.1e-11), _short(12.3)
    ('0.31', '2e-2', '3e-11', '12')
    """
    if value >= 10:
        return f"{value:.0f}"
    if value >= 0.0995:
        return f"{value:.2f}" if value < 0.995 else f"{value:.1f}"
    if value == 0:
        return "0"
    head, tail = f"{value:.0e}".split("e")
    return f"{head}e{int(tail)}"


def _dots(ax: Axes, frame: pd.DataFrame, methods: list[str], column: str) -> None:
    """Draw a faint point for every network, and a strong one at the median, in every row."""
    for row, method in enumerate(methods):
        numbers = frame[frame["method"] == method][column].astype(float).dropna()
        values = np.maximum(numbers.to_numpy(), _LEAST)
        if len(values):
            place = np.full(len(values), row + 0.5)
            ax.plot(values, place, "|", color=STYLE.accent, alpha=0.45, markersize=4)
            ax.plot(np.median(values), row + 0.5, "o", color=STYLE.accent, markersize=3)
    ax.set_xscale("log")
    ax.set_ylim(len(methods), 0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ticks = [1e-16, 1e-8, 1] if column == "gap" else [1e-5, 1e-3, 1e-1]
    ax.set_xlim((3e-18, 1e2) if column == "gap" else (3e-6, 1))
    ax.set_xticks(ticks)
    ax.minorticks_off()
    ax.grid(axis="x", color=STYLE.faint, linewidth=0.5)
    ax.set_axisbelow(True)
    for line in range(1, len(methods)):
        ax.axhline(line, color=STYLE.faint, linewidth=0.4)


def _color_bar(figure: Figure, image: Any, ax: Axes) -> None:
    """Draw what the colors mean above the first table."""
    bar = figure.colorbar(image, ax=ax, location="top", aspect=50, pad=0.02, extend="both")
    bar.set_ticks([-12, -9, -6, -3, 0])
    bar.ax.set_xticklabels([f"$10^{{{power}}}$" for power in (-12, -9, -6, -3, 0)])
    bar.set_label("sum of |error| / sum of |truth|")
    bar.outline.set_visible(False)


PICTURES: dict[str, Picture] = {
    "attribution-planted": Picture(
        ("attribution-planted",),
        _draw_planted,
        "Error of every local method on networks written down from formulas, with its "
        "completeness gap and its time. Grey cells: refused, or counted from another baseline; "
        "gray names: methods that define something else; *: counted from one row, not from 25.",
    ),
}
