"""How well predictions agree with what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from kanlens.checks import message
from kanlens.errors import DataError, ShapeError
from kanlens.plotting.style import STYLE, axes_for, check_axes, context, literal, tidy

Array = np.ndarray[Any, np.dtype[Any]]

CALL = "plot.predicted"
MANY = 1500  # points beyond which they become an image inside the vector picture
SIDE = 0.85 * STYLE.column
CELL = 0.42  # inches, of a confusion matrix
NUMBERS = 20  # classes up to which the counts are written into the matrix


@context()
def predicted(
    y: Any,
    prediction: Any,
    *,
    class_labels: Sequence[str] | None = None,
    name: str = "",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw predictions against the truth: a scatter, or for classes the confusion matrix.

    Parameters
    ----------
    y, prediction : array-like, shape (n,) or (n, 1)
        Numbers; with `class_labels`, class codes 0, 1, ...
    class_labels : sequence of str, optional
        Names of the classes, in the order of their codes; numbers are compared when None.
    name, unit : str
        Of what is predicted.
    ax : Axes, optional
        Where to draw; a new figure, made by pyplot, when None.

    Returns
    -------
    Axes
        On the line in the scatter prediction and truth are equal. Cells of the matrix hold
        counts, and are as dark as their share of the true class.

    Raises
    ------
    ShapeError
        If `y` and `prediction` differ in length, or hold nothing.
    DataError
        If a class code has no label, or no pair of numbers is finite.
    DTypeError
        If `ax` is no Axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> predicted([1.0, 2.0], [1.1, 1.9], unit="m", ax=Figure().subplots()).get_xlabel()
    'true (m)'
    """
    check_axes(ax, call=CALL)
    truth, guess = _flat(y), _flat(prediction)
    if len(truth) != len(guess) or not len(truth):
        got = f"{len(truth)} and {len(guess)}"
        text = message(CALL, "y and prediction of one length", got, "Pass one output of one table")
        raise ShapeError(text)
    if class_labels is None:
        ends = (f"true {name}".strip(), f"predicted {name}".strip())
        finite_pairs(truth, guess, call=CALL)
        return scatter_pair(axes_for(ax, (SIDE, SIDE), call=CALL), truth, guess, ends, unit=unit)
    return _confusion(truth, guess, [literal(label, most=16) for label in class_labels], ax)


def finite_pairs(left: Array, right: Array, *, call: str) -> Array:
    """Return which pairs of numbers are finite, shape (n,); refuse when none is.

    Raises
    ------
    DataError
        If no pair is finite.
    """
    finite = np.isfinite(left) & np.isfinite(right)
    if not finite.any():
        raise DataError(message(call, "finite numbers", "none", "Check the prediction"))
    return np.asarray(finite)


def scatter_pair(ax: Axes, left: Array, right: Array, names: tuple[str, str], *, unit: str) -> Axes:
    """Draw two columns of numbers, shape (n,) each, against each other, on one square range."""
    finite = np.isfinite(left) & np.isfinite(right)
    left, right = left[finite], right[finite]
    tidy(ax)
    low = float(min(left.min(), right.min()))
    high = float(max(left.max(), right.max()))
    room = 0.05 * (high - low or 1.0)
    ends = (low - room, high + room)
    ax.plot(ends, ends, color=STYLE.muted, linewidth=0.7, zorder=1, label="_equal")
    look: Any = {"s": 7, "linewidths": 0, "color": STYLE.accent, "zorder": 2}
    alpha = float(np.clip(40 / np.sqrt(len(left)), 0.15, 0.8))
    ax.scatter(left, right, alpha=alpha, rasterized=len(left) > MANY, **look)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    suffix = f" ({literal(unit)})" if unit else ""
    ax.set_xlabel(literal(names[0], most=34) + suffix)
    ax.set_ylabel(literal(names[1], most=34) + suffix)
    lost = int((~finite).sum())
    if lost:
        style: Any = {"fontsize": STYLE.small, "color": STYLE.muted, "transform": ax.transAxes}
        ax.text(0.02, 0.99, f"{lost:,} not finite", ha="left", va="top", **style)
    return ax


def _flat(values: Any) -> Array:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64).ravel()


def _confusion(truth: Array, guess: Array, labels: list[str], ax: Axes | None) -> Axes:
    n = len(labels)
    codes = np.concatenate([truth, guess])
    if not np.isin(codes, np.arange(n)).all():
        wrong = codes[~np.isin(codes, np.arange(n))][0]
        expected = f"class codes from 0 to {n - 1}"
        raise DataError(message(CALL, expected, f"{wrong:g}", "Pass codes, not names or logits"))
    counts = np.zeros((n, n), dtype=np.int64)
    np.add.at(counts, (truth.astype(int), guess.astype(int)), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(SIDE, CELL * n + 1.0)
    ax = axes_for(ax, (side, side), call=CALL)
    ax.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.15)
    turn = 40 if max(len(label) for label in labels) * n > 34 else 0
    ax.set_xticks(range(n), labels, rotation=turn, ha="right" if turn else "center")
    ax.set_yticks(range(n), labels)
    for label in ax.get_xticklabels():
        label.set_rotation_mode("anchor")
    ax.tick_params(length=0, labelsize=STYLE.small)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for (row, column), count in np.ndenumerate(counts):
        if n <= NUMBERS:
            color = STYLE.paper if shares[row, column] > 0.6 else STYLE.ink
            style: Any = {"ha": "center", "va": "center", "fontsize": STYLE.small, "color": color}
            ax.text(column, row, f"{count}", **style)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax
