"""Rows of features: proven effects, and the importance by several methods."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kanlens._checks import check_count
from kanlens.attribution._compare import Comparison
from kanlens.certificates import Certificate
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.plotting._formats import number
from kanlens.plotting._interactions import Ranked
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Look,
    axes_for,
    distinct,
    label,
    literal,
    name_rows,
    picture,
    rows_axes,
    tidy,
)

SHOWN = 20  # features
MAX_NAME_LENGTH = 32
SIGNS = {"increasing": "▲", "decreasing": "▼", "constant": "="}  # of proven verdicts
ROW = 0.29  # inches
SPREAD = 0.62  # share of a row's height over which the methods are spread
NUMBERS = {"shapley_error": "error", "relative_gap": "gap"}  # of the methods in the legend
LINE = 0.19  # inches, of a method in the legend
# multiple of the median of the methods' largest values beyond which a method is cut off
OUTLIER_FACTOR = 4


@picture("plot.certificate")
def certificate(
    result: Certificate, *, target: str | int = 0, top: int = SHOWN, ax: Axes | None = None
) -> Axes:
    """Draw proven bounds and observed values of the effect of each feature.

    Parameters
    ----------
    result : Certificate
        From `kanlens.certify`.
    target : str or int
        Name or index of the output.
    top : int
        Largest number of features to draw, those with the largest proven effect.

    Returns
    -------
    Axes
        Changes of the output when a feature is raised: rises to the right, falls to the left. Pale
        bars are proven bounds, dark bars observed changes. A triangle marks a proven direction.

    Raises
    ------
    InvalidValueError
        If there is no such output.
    DTypeError
        If `result` is not a Certificate, or `ax` not an Axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from kanlens.certificates import certify
    >>> from kanlens.model._network import KAN
    >>> proven = certify(KAN([2, 1]), [(-1, 1), (-1, 1)], progress=False)
    >>> len(certificate(proven, ax=Figure().subplots()).get_yticklabels())
    2
    """
    call = "plot.certificate"
    check_count(call, "top", top)
    if not isinstance(result, Certificate):
        raise DTypeError(call, "a Certificate", type(result).__name__, "Pass the result of certify")
    try:
        output = result[target]
    except (KeyError, IndexError) as error:
        names = ", ".join(repr(output.target) for output in result.outputs)
        expected, got = f"target to be one of {names}", repr(target)
        raise InvalidValueError(call, expected, got, "Pass one of these names") from error
    sizes = np.array([feature.effect.bound for feature in output.features])
    marked = tuple(f"{f.name} {SIGNS.get(f.verdict, '')}".strip() for f in output.features)
    finite = np.nan_to_num(sizes, posinf=np.finfo(float).max)
    rows = Ranked.of(finite, marked, top, most=MAX_NAME_LENGTH)
    ax = rows_axes(ax, len(rows.order), 1.2)
    _draw_bars(ax, [output.features[i] for i in rows.order])
    name_rows(ax, rows.names[: len(rows.order)])
    ax.axvline(0, color=STYLE.muted, linewidth=0.6, zorder=1)
    whose = label(output.target, output.unit, most=MAX_NAME_LENGTH)
    ax.set_xlabel(f"most that one feature alone changes {whose}")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
    return ax


def _draw_bars(ax: Axes, features: list[Any]) -> None:
    """Draw bounds behind observed values; infinite ones reach the border."""
    places = np.arange(len(features))
    bounds = np.array([[f.falls.bound, f.rises.bound] for f in features])
    seen = np.array([[f.falls.seen, f.rises.seen] for f in features])
    values = np.concatenate([bounds, seen])
    border = 1.1 * float(values[np.isfinite(values)].max(initial=0.0)) or 1.0
    for name, ends, color, height in (
        ("proven bound", bounds, STYLE.faint, 0.66),
        ("seen", seen, STYLE.accent, 0.3),
    ):
        look: Look = {"height": height, "color": color, "zorder": 2}
        ax.barh(places, np.minimum(ends[:, 1], border), label=name, **look)
        ax.barh(places, -np.minimum(ends[:, 0], border), label=f"_{name}", **look)


@picture("plot.comparison")
def comparison(result: Comparison, *, top: int = SHOWN, ax: Axes | None = None) -> Axes:
    """Draw the importance of features by several methods, with errors.

    There is a row per feature, with a marker per method at its mean ``|value|``. In the legend,
    "error" is the L1 distance from the exact Shapley values over their L1 norm, "gap" the
    unexplained share of the change of the output.

    Parameters
    ----------
    result : Comparison
        As `kanlens.compare` returns it.
    top : int
        Largest number of features to draw, the largest by "shapley", else by the mean, first.
    ax : Axes, optional
        Where to draw, with room for the legend on its right; a new figure when None.

    Raises
    ------
    DTypeError
        If `result` is not a comparison, or `ax` not an Axes.

    Examples
    --------
    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> from kanlens.attribution._compare import compare
    >>> from kanlens.model._network import KAN
    >>> x = torch.rand(5, 2)
    >>> both = compare(KAN([2, 1]), x, background=x, methods=["shapley", "secant"])
    >>> len(comparison(both, ax=Figure().subplots()).collections)
    2
    """
    call = "plot.comparison"
    check_count(call, "top", top)
    table, frame = getattr(result, "importance", None), getattr(result, "frame", None)
    if table is None or frame is None:
        raise DTypeError(call, "a Comparison", type(result).__name__, "Pass the result of compare")
    sizes = table["shapley"] if "shapley" in table else table.mean(axis=1)
    order = np.argsort(-sizes.to_numpy(), kind="stable")[:top]
    names = distinct((table.index[i] for i in order), partial(literal, most=MAX_NAME_LENGTH))
    rows = max(ROW * len(order), LINE * (len(table.columns) + 2))
    ax = axes_for(ax, (STYLE.page, rows + 0.55))
    tidy(ax)
    for row in range(0, len(order), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    methods = list(table.columns)
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(methods)) if len(methods) > 1 else [0.0]
    for place, (method, offset) in enumerate(zip(methods, offsets, strict=True)):
        values = table[method].to_numpy()[order]
        style: Look = {**look(place), "s": 20, "linewidths": 0.4, "zorder": 3}
        ax.scatter(values, np.arange(len(order)) + offset, label=literal(method), **style)
    name_rows(ax, names)
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_xlim(left=0)
    first = next(iter(result.attributions.values()))
    ax.set_xlabel(f"mean |value| for {label(first.target, first.unit, most=MAX_NAME_LENGTH)}")
    notes = [f"{len(order)} of {len(table)} features"] if len(order) < len(table) else []
    ax.set_title(", ".join([*notes, *_limit(ax, table)]), loc="right", **ASIDE)
    _name_methods(ax, frame.set_index("method"))
    return ax


def _name_methods(ax: Axes, frame: Any) -> None:
    """Name the markers at the right, with the numbers of each method."""
    shown = {k: word for k, word in NUMBERS.items() if k in frame and frame[k].notna().any()}
    marks, methods = ax.get_legend_handles_labels()
    names = distinct(methods, partial(literal, most=MAX_NAME_LENGTH))
    labels = []
    for name, method in zip(names, methods, strict=True):
        cell = ", ".join(number(frame.loc[method, column], 2) for column in shown)
        labels.append(f"{name} ({cell})" if cell else name)
    style: Look = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0}
    style |= {"fontsize": STYLE.small, "title_fontsize": STYLE.small, "alignment": "left"}
    ax.legend(marks, labels, title=f"method ({', '.join(shown.values())})", **style)


def _limit(ax: Axes, table: Any) -> list[str]:
    """Limit the axis so that outlying methods are cut off; return a note on these."""
    largest = table.max()
    ordinary = largest[largest <= OUTLIER_FACTOR * largest.median()]
    beyond = [literal(name, most=MAX_NAME_LENGTH) for name in largest.index if name not in ordinary]
    if not len(ordinary) or not beyond or not float(ordinary.max()):
        return []
    ax.set_xlim(right=1.1 * float(ordinary.max()))
    return [f"{' and '.join(beyond)} in part beyond the right end"]


def look(place: int) -> Look:
    """Return marker and color of a method; both repeat together after 64 methods."""
    cycle = len(STYLE.series)
    color = STYLE.series[(place + place // cycle) % cycle]
    return {"marker": STYLE.markers[place % cycle], "facecolors": color, "edgecolors": STYLE.paper}
