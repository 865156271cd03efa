"""Edges before and after edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kanlens.errors import MethodError
from kanlens.model._network import KAN
from kanlens.model._training_record import EditStep
from kanlens.plotting._style import ASIDE, STYLE, axes_for, literal, picture, tidy

COLUMNS, PANEL, MOST = 3, (1.9, 1.55), 12  # inches of a panel, and most panels
MAX_NAME_LENGTH = 30


@picture("plot.edits")
def edits(result: KAN | Any, *, ax: Axes | None = None) -> Axes:
    """Draw the edge before and after each edit of a single one.

    Parameters
    ----------
    result : Edit or KAN
        From `kanlens.edit`, or a model that was edited. Of more than 12 edits, the last are drawn.

    Returns
    -------
    Axes
        The last panels are in its place; units are those in which the edges were edited.

    Raises
    ------
    MethodError
        If no single edge was edited.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> import kanlens
    >>> edit = kanlens.edit(kanlens.KAN([2, 1]))
    >>> _ = edit.edge(0, 0, 1).smooth()
    >>> len(edits(edit, ax=Figure().subplots()).child_axes)
    1
    """
    steps = edited_curves(getattr(getattr(result, "model", result), "edits", ()))
    if not steps:
        got, advice = type(result).__name__, "Pass what kanlens.edit returns, after an edit"
        raise MethodError("plot.edits", "a model with an edited edge", got, advice)
    width, height = page_size(len(steps))
    ax = axes_for(ax, (width, height), bare=True)
    ax.set_axis_off()
    columns, rows = min(len(steps), COLUMNS), -(-len(steps) // COLUMNS)
    for place, step in enumerate(steps):
        left, top = (place % columns + 0.22) / columns, 1 - (place // columns + 0.2) / rows
        panel = ax.inset_axes((left, top - 0.58 / rows, 0.74 / columns, 0.58 / rows))
        tidy(panel)
        panel.plot(step.x, step.before, "--", color=STYLE.muted, linewidth=0.9, label="before")
        panel.plot(step.x, step.after, color=STYLE.accent, label="after")
        panel.set_xlim(np.min(step.x), np.max(step.x))
        words = (literal(text, most=MAX_NAME_LENGTH) for text in (step.name, step.action))
        panel.set_title("\n".join(words), loc="left", **ASIDE)
    panel.legend(fontsize=STYLE.small)
    return ax


def edited_curves(steps: Sequence[EditStep]) -> list[EditStep]:
    """Return the last edits of single edges."""
    return [step for step in steps if step.x][-MOST:]


def page_size(count: int) -> tuple[float, float]:
    """Return width and height of the picture of some edits, in inches."""
    return PANEL[0] * min(count, COLUMNS), PANEL[1] * -(-count // COLUMNS)
