"""Losses step by step: training, pruning and sparsity paths; edges before and after edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kanlens._lazy import pd
from kanlens.errors import DataError, MethodError
from kanlens.model._network import KAN
from kanlens.model._training_record import EditStep
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    Look,
    axes_for,
    literal,
    numbers,
    picture,
    tidy,
)

if TYPE_CHECKING:
    from kanlens.pruning import PruneResult
    from kanlens.training import FitResult, SparsityPath

SIZE = (STYLE.column, 0.66 * STYLE.column)
RING: Look = {"markerfacecolor": "none", "markeredgecolor": STYLE.ink, "markersize": 8}
LOG_RATIO = 20.0  # of largest to smallest loss beyond which the axis is logarithmic


@picture("plot.pruning")
def pruning(result: PruneResult | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the loss against the number of edges left while edges were removed.

    Parameters
    ----------
    result : PruneResult or DataFrame
        From `kanlens.prune`, or its frame: columns edges_left and loss_after.

    Returns
    -------
    Axes
        x falls from left to right; the first point is the original model, a ring marks the result.

    Raises
    ------
    DataError
        If those columns are missing, or a frame has no rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> steps = pd.DataFrame({"edges_left": [3, 2], "loss_after": [0.1, 0.2]})
    >>> pruning(steps, ax=Figure().subplots()).get_xlabel()
    'edges left'
    """
    curve = getattr(result, "curve", None)
    if curve is None:
        frame = _frame(result, ("edges_left", "loss_after"), "plot.pruning")
        curve = frame.rename(columns={"loss_after": "loss"})
    edges, losses = numbers(curve["edges_left"]), numbers(curve["loss"])
    ax = axes_for(ax, SIZE)
    marker: Look = {"marker": "o", "markersize": 3.0 if len(edges) <= 60 else 0.0}
    ax.plot(edges, losses, color=STYLE.accent, label="loss", zorder=3, **marker)
    tuned = np.flatnonzero(np.diff(edges) == 0)  # refits and training change the loss alone
    look: Look = {"color": STYLE.series[1], "linewidth": 1.6}
    for place in tuned:
        step = slice(place, place + 2)
        ax.plot(edges[step], losses[step], label="_tuned", zorder=5, **look)
    if len(tuned):
        ax.plot([], [], label="refit or fine-tuning", **look)
        ax.legend(loc="best")
    ax.plot(edges[-1:], losses[-1:], "o", label="_after", zorder=4, **RING)
    _finish_axes(ax, losses, "edges left")
    ax.invert_xaxis()
    text = f"{edges[-1]:.0f} edges, loss {losses[-1]:.3g}"
    ax.text(1.0, 1.0, text, ha="right", va="bottom", transform=ax.transAxes, **ASIDE)
    return ax


@picture("plot.history")
def history(result: FitResult | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the loss in training, step by step.

    Parameters
    ----------
    result : FitResult or DataFrame
        From `kanlens.fit`, or its frame: columns step, loss and, optionally, validation_loss.

    Returns
    -------
    Axes
        The dotted line marks the step whose weights were kept.

    Raises
    ------
    DataError
        If those columns are missing, or there is no step.

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> steps = pd.DataFrame({"step": [1, 2], "loss": [1.0, 0.1]})
    >>> len(history(steps, ax=Figure().subplots()).lines)
    1
    """
    frame = _frame(result, ("step", "loss"), "plot.history")
    steps, lines = numbers(frame["step"]), {"training": numbers(frame["loss"])}
    if "validation_loss" in frame and frame["validation_loss"].notna().any():
        lines["held-out rows"] = numbers(frame["validation_loss"])
    ax = axes_for(ax, SIZE)
    marker: Look = {"marker": "o", "markersize": 3.0} if len(steps) < 3 else {}
    looks = ((STYLE.accent, "-"), (STYLE.series[1], (0, (4, 1.5))))
    for (name, losses), (color, dashes) in zip(lines.items(), looks, strict=False):
        ax.plot(steps, losses, color=color, linestyle=dashes, label=name, zorder=3, **marker)
    best = getattr(result, "best_step", None)
    if best is not None:
        style: Look = {"color": STYLE.muted, "linewidth": 0.7, "linestyle": ":", "label": "_best"}
        ax.axvline(best, zorder=1, **style)
    _finish_axes(ax, np.concatenate(list(lines.values())), "step")
    if len(lines) > 1:
        ax.legend(loc="best")
    return ax


@picture("plot.path")
def path(result: SparsityPath | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the held-out loss along a sparsity path against edges.

    Parameters
    ----------
    result : SparsityPath or DataFrame
        From `kanlens.sparsity_path`, or its frame.

    Returns
    -------
    Axes
        x, the edges above the threshold, falls from left to right; bars are one standard error,
        the ring is the sparsest model that is still as good as the best one.

    Raises
    ------
    DataError
        If columns are missing, or a frame has no rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> steps = pd.DataFrame({"edges_above": [9, 4], "held_out_loss": [0.10, 0.11]})
    >>> steps = steps.assign(standard_error=0.02, best=[False, True])
    >>> path(steps, ax=Figure().subplots()).get_ylabel()
    'held-out loss'
    """
    columns = ("edges_above", "held_out_loss", "standard_error", "best")
    frame = _frame(result, columns, "plot.path")
    edges, losses, errors = (numbers(frame[name]) for name in columns[:3])
    best = frame["best"].to_numpy(dtype=bool)
    ax = axes_for(ax, SIZE)
    style: Look = {"color": STYLE.accent, "elinewidth": 0.7, "markersize": 3.0, "zorder": 3}
    ax.errorbar(edges, losses, errors, marker="o", linewidth=1.0, label="loss", **style)
    ax.plot(edges[best], losses[best], "o", label="_best", zorder=4, **RING)
    _finish_axes(ax, losses, "edges left")
    ax.set_ylabel("held-out loss")
    ax.invert_xaxis()
    return ax


def _frame(result: Any, columns: tuple[str, ...], call: str) -> pd.DataFrame:
    """Return the frame of a result; refuse one without columns or rows."""
    frame: pd.DataFrame = result.to_frame() if hasattr(result, "to_frame") else result
    wanted = " and ".join(columns)
    names = [str(name) for name in getattr(frame, "columns", ())]
    if not set(columns) <= set(names):
        got = f"columns {', '.join(names)}" if names else f"a {type(result).__name__}"
        raise DataError(call, f"a frame with {wanted}", got, "Pass the result, or its to_frame()")
    if not len(frame):
        raise DataError(call, f"rows of {wanted}", "none", "Pass a frame with rows")
    return frame


def _finish_axes(ax: Axes, losses: Array, counted: str) -> None:
    """Label the axes of counts and losses, and choose the scale of the losses."""
    ax.set(xlabel=counted, ylabel="loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    finite = losses[np.isfinite(losses)]
    if len(finite) and finite.min() > 0 and finite.max() > LOG_RATIO * finite.min():
        ax.set_yscale("log")
        ax.tick_params(which="minor", length=1.2, width=0.4, labelleft=False)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5))


COLUMNS, PANEL, MOST = 3, (1.9, 1.55), 12  # inches of a panel, and most panels
MAX_NAME_LENGTH = 30


@picture("plot.edits")
def edits(result: KAN | Any, *, ax: Axes | None = None) -> Axes:
    """Draw an edge before and after each edit of a single edge.

    Parameters
    ----------
    result : Edit or KAN
        From `kanlens.edit`, or a model that was edited. At most the last 12 edits are drawn.

    Returns
    -------
    Axes
        With one panel per edit in ``child_axes``, in the units of the edit.

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
        raise MethodError("plot.edits", "a model with an edit of a single edge", got, advice)
    ax = axes_for(ax, page_size(len(steps)), bare=True)
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
    """Return width and height of a figure of `count` edits, in inches."""
    return PANEL[0] * min(count, COLUMNS), PANEL[1] * -(-count // COLUMNS)
