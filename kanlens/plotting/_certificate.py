"""Certificates: proven bounds of effects of features, and observed effects."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kanlens._checks import check_count
from kanlens.certificates import Certificate
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.plotting._interactions import Ranked
from kanlens.plotting._style import STYLE, Look, label, name_rows, picture, rows_axes

CALL = "plot.certificate"
SHOWN = 20  # features
MAX_NAME_LENGTH = 32
SIGNS = {"increasing": "▲", "decreasing": "▼", "constant": "="}  # of proven verdicts


@picture(CALL)
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
    check_count(CALL, "top", top)
    if not isinstance(result, Certificate):
        raise DTypeError(CALL, "a Certificate", type(result).__name__, "Pass the result of certify")
    try:
        output = result[target]
    except (KeyError, IndexError) as error:
        names = ", ".join(repr(output.target) for output in result.outputs)
        expected, got = f"target to be one of {names}", repr(target)
        raise InvalidValueError(CALL, expected, got, "Name an output") from error
    sizes = np.array([feature.effect.bound for feature in output.features])
    marked = tuple(f"{f.name} {SIGNS.get(f.verdict, '')}".strip() for f in output.features)
    rows = Ranked.of(
        np.nan_to_num(sizes, posinf=np.finfo(float).max), marked, top, most=MAX_NAME_LENGTH
    )
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
