"""Certificates: what every feature can do to an output at most, beside what it was seen to do."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kanlens.certificates import Certificate
from kanlens.checks import check_count
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.plotting.interactions import Ranked
from kanlens.plotting.style import STYLE, in_unit, literal, name_rows, picture, rows_axes

CALL = "plot.certificate"
SHOWN = 20  # features
LONGEST = 32  # characters of a name
SIGNS = {"increasing": "▲", "decreasing": "▼", "constant": "="}  # of proven verdicts


@picture(CALL)
def certificate(
    result: Certificate, *, target: str | int = 0, top: int = SHOWN, ax: Axes | None = None
) -> Axes:
    """Draw how much each feature alone can raise and lower an output, proven and seen.

    Parameters
    ----------
    result : Certificate
        As `kanlens.certify` returns it.
    target : str or int
        Name or index of the output.
    top : int
        Most features to draw, those with the largest proven effect.

    Returns
    -------
    Axes
        To the right how much the output can rise when a feature is raised, to the left how much it
        can fall: pale bars are proven bounds, dark ones what was found. A triangle behind a name
        is a proven direction.

    Raises
    ------
    InvalidValueError
        If there is no such output.
    DTypeError
        If `result` is no Certificate, or `ax` no Axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from kanlens.certificates import certify
    >>> from kanlens.model.network import KAN
    >>> proven = certify(KAN([2, 1]), [(-1, 1), (-1, 1)], progress=False)
    >>> len(certificate(proven, ax=Figure().subplots()).get_yticklabels())
    2
    """
    check_count(CALL, "top", top)
    if not isinstance(result, Certificate):
        raise DTypeError(CALL, "a Certificate", type(result).__name__, "Pass what certify returned")
    try:
        found = result[target]
    except (KeyError, IndexError) as error:
        known = ", ".join(repr(one.target) for one in result.outputs)
        expected, got = f"target to be one of {known}", repr(target)
        raise InvalidValueError(CALL, expected, got, "Name an output") from error
    sizes = np.array([one.effect.bound for one in found.features])
    names = tuple(f"{one.name} {SIGNS.get(one.verdict, '')}".strip() for one in found.features)
    rows = Ranked.of(np.nan_to_num(sizes, posinf=np.finfo(float).max), names, top, most=LONGEST)
    kept = [found.features[i] for i in rows.order]
    ax = rows_axes(ax, len(kept), 1.2)
    _draw_bars(ax, kept)
    name_rows(ax, rows.names[: len(kept)])
    ax.axvline(0, color=STYLE.muted, linewidth=0.6, zorder=1)
    whose = f"{literal(found.target, most=LONGEST)}{in_unit(found.unit)}"
    ax.set_xlabel(f"most that one feature alone changes {whose}")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
    return ax


def _draw_bars(ax: Axes, features: list[Any]) -> None:
    """Draw what is proven behind what was seen; a bound that is not finite reaches the border."""
    places = np.arange(len(features))
    bounds = [[one.falls.bound, one.rises.bound] for one in features]
    seen = [[one.falls.seen, one.rises.seen] for one in features]
    known = np.array([value for pair in bounds + seen for value in pair])
    border = 1.1 * float(known[np.isfinite(known)].max(initial=0.0)) or 1.0
    draw = partial(ax.barh, zorder=2)
    for name, values, color, height in (
        ("proven bound", bounds, STYLE.faint, 0.66),
        ("seen", seen, STYLE.accent, 0.3),
    ):
        ends = np.minimum(np.array(values), border)
        draw(places, ends[:, 1], height=height, color=color, label=name)
        draw(places, -ends[:, 0], height=height, color=color, label=f"_{name}")
