"""Formulas in mathematical notation, and predictions against the truth."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kanlens._lazy import sympy
from kanlens.errors import DataError, DTypeError, ShapeError
from kanlens.model._network import Rows, Targets, find_output
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    Look,
    axes_for,
    label,
    literal,
    numbers,
    picture,
    size_in_inches,
    text_width,
    tidy,
)

if TYPE_CHECKING:
    from kanlens.symbolic import SymbolicResult

CALL = "plot.formula"
SIZE = (1.25 * STYLE.column, 0.85 * STYLE.column)
DIGITS = 4
MAX_LINES = 5  # of a formula as mathematics
TEXT_LINES = 6  # of a longer one as text
SIZES = (11.0, 9.0, 7.5)  # points, of mathematics
LOG_RATIO = 30.0  # of the largest loss over the smallest, from which their axis is logarithmic
RASTERIZE_FROM = 1500  # points beyond which they become an image inside the vector picture
SIDE = 0.85 * STYLE.column
CELL = 0.42  # inches, of a confusion matrix
NUMBERS = 20  # classes up to which the counts are written into the matrix


@picture(CALL)
def formula(
    result: SymbolicResult,
    *,
    x: Rows | None = None,
    y: Targets | None = None,
    output: int | str = 0,
    index: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a formula above its complexity and loss, or its predictions.

    A formula too long for typeset mathematics is written as plain text.

    Parameters
    ----------
    result : SymbolicResult
        From `kanlens.symbolize`.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Rows to evaluate the formula on, drawn against `y`. When None, every formula of the
        output is drawn by complexity and loss, the chosen one ringed.
    y : array-like, shape (batch,) or (batch, out), optional
        Targets, or outputs of the network that the formula was read from; those of
        ``result.model`` when None.
    output : int or str
        Index or name of the output.
    index : int, optional
        Stage of the formula; the chosen one when None.

    Returns
    -------
    Axes
        Its title is the formula.

    Raises
    ------
    DTypeError
        If `result` has no formulas, or `ax` is not an Axes.
    ShapeError
        If `y` does not fit `x`, or is None without ``result.model``.
    InvalidValueError
        If there is no such output or stage.

    Examples
    --------
    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> from kanlens.model._kan_linear import KANLinear
    >>> from kanlens.model._network import KAN
    >>> from kanlens.symbolic._symbolize import symbolize
    >>> parabola = KAN.from_layers([KANLinear(1, 1, functions=[["x^2"]])], KAN([1, 1]).schema)
    >>> result = symbolize(parabola, torch.linspace(-1, 1, 50)[:, None])
    >>> formula(result, ax=Figure().subplots()).get_title(loc="left")
    '$y = x_{1}^{2}$'
    """
    if not (hasattr(result, "equations_") and hasattr(result, "sympy")):
        expected, got = "a SymbolicResult", type(result).__name__
        raise DTypeError(CALL, expected, got, "Pass the result of symbolize")
    labels = () if result.model is None else result.model.class_labels
    place = find_output(result.output_names, labels, output, CALL)
    name = result.output_names[place]
    expression = result.sympy(index, place)
    pair = None if x is None else _pair(result, x, y, place, index)
    room = SIZE[0] - 0.7 if ax is None else max(size_in_inches(ax)[0], 1.5)
    lines, size = formula_lines(expression, name, room)
    ax = axes_for(ax, (SIZE[0], SIZE[1] + 0.2 * len(lines)))
    if pair is None:
        _draw_front(ax, result, name, index)
    else:
        ends = (f"{name}, network" if y is None else name, f"{name}, formula")
        unit = "" if result.model is None else str(result.model.schema.outputs[place].unit)
        scatter_pair(ax, *pair, ends, unit=unit)
    ax.set_title("\n".join(lines), loc="left", fontsize=size, linespacing=1.4, pad=8)
    return ax


def _pair(result: SymbolicResult, x: Any, y: Any, place: int, index: int | None) -> tuple[Any, Any]:
    """Return the targets (or outputs of the network) and the formula's values on `x`."""
    if y is None and result.model is None:
        expected = "y, as the formula was not derived from a network"
        raise ShapeError(CALL, expected, "None", "Pass the targets of x")
    guess = result.predict(x, index)[:, place]
    truth = numbers(result.model(x) if y is None else y)
    truth = truth if truth.ndim < 2 else truth[:, min(place, truth.shape[1] - 1)]
    if len(truth) != len(guess):
        got = f"{len(truth)} for {len(guess)} rows"
        raise ShapeError(CALL, "y with one value per row", got, "Pass x and y of the same rows")
    check_pairs(truth, guess, call=CALL)
    return truth, guess


def _draw_front(ax: Axes, result: SymbolicResult, name: str, index: int | None) -> None:
    table = result.equations_
    table = table[table["output"] == name] if "output" in table else table
    complexity, loss = numbers(table["complexity"]), numbers(table["loss"])
    best = result.get_best(name).name if index is None else index
    look: Look = {"color": STYLE.accent, "s": 26, "linewidths": 0, "zorder": 3}
    ax.scatter(complexity, loss, label="formulas", **look)
    ring: Look = {"facecolors": "none", "edgecolors": STYLE.ink, "linewidths": 1.0, "s": 80}
    chosen = np.flatnonzero(table.index == best)  # empty if it is not on the front
    ax.scatter(complexity[chosen], loss[chosen], zorder=4, label="_chosen", **ring)
    losses = loss[np.isfinite(loss)]
    if len(losses) and losses.min() > 0 and losses.max() > LOG_RATIO * losses.min():
        ax.set_yscale("log")
        ax.set_ylim(losses.min() / 4, losses.max() * 8)
        ax.tick_params(which="minor", length=1.2, width=0.4, labelleft=False)
    elif len(losses):
        ax.set_ylim(0, 1.2 * losses.max() or 1.0)
    ax.set_xlim(0, 1.2 * complexity.max())
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if "stage" in table and len(chosen):
        place = (complexity[chosen][0], loss[chosen][0])
        look = {"textcoords": "offset points", "ha": "center", "size": STYLE.small}
        ax.annotate(literal(table["stage"].iloc[chosen[0]]), place, (0, 8), **look)
    ax.set_xlabel("complexity (nodes of the expression)")
    ax.set_ylabel("loss (share of the variance)")


def formula_lines(expression: sympy.Expr, name: str, room: float) -> tuple[list[str], float]:
    """Return a formula in lines of `room` inches, and its font size."""
    from kanlens.symbolic._notation import formula_text, written
    from kanlens.symbolic._result import rounded

    short = rounded(expression, DIGITS)
    splines = {node.func for node in short.atoms(sympy.Function) if hasattr(node, "_imp_")}
    for place, spline in enumerate(sorted(splines, key=str), 1):
        short = short.replace(spline, sympy.Function(f"f{place}"))
    names = {symbol: _math_name(str(symbol)) for symbol in short.free_symbols}
    terms = short.as_ordered_terms() if short.is_Add else [short]
    parts = [str(sympy.latex(term, symbol_names=names)) for term in terms]
    pieces = [parts[0], *(part if part.startswith("-") else f"+ {part}" for part in parts[1:])]
    pieces[0] = f"{_math_name(name)} = {pieces[0]}"
    with contextlib.suppress(ValueError, RuntimeError):  # what matplotlib cannot set
        for size in SIZES:
            if lines := _packed(pieces, room, size):
                return lines, size
    width = max(20, int(room / (0.56 * STYLE.text / 72)))
    lines = textwrap.wrap(f"{written(name)} = {formula_text(short)}", width)
    if len(lines) > TEXT_LINES:
        lines = [*lines[: TEXT_LINES - 1], f"{lines[TEXT_LINES - 1][: width - 1]}…"]
    return [literal(line) for line in lines], STYLE.text


def _packed(pieces: list[str], room: float, size: float) -> list[str]:
    """Return pieces joined into lines; none if too long or too many."""
    lines = [""]
    for piece in pieces:
        longer = f"{lines[-1]} {piece}".strip()
        if lines[-1] and text_width(f"${longer}$", size) > room:
            longer = rf"\quad {piece}"
            lines.append("")
        if len(lines) > MAX_LINES or text_width(f"${longer}$", size) > room:
            return []
        lines[-1] = longer
    return [f"${line}$" for line in lines]


def _math_name(name: str) -> str:
    """Return a name in math markup: x1 with a subscript, words upright."""
    indexed = re.fullmatch(r"([A-Za-z])_?(\d+)", name)
    if indexed:
        return f"{indexed[1]}_{{{indexed[2]}}}"
    if re.fullmatch(r"[A-Za-df-z]", name):  # e is a number
        return name
    escaped = re.sub(r"([_$%#&{}])", r"\\\1", name).replace(" ", r"\ ")
    return rf"\mathrm{{{escaped}}}"


@picture("plot.predicted")
def predicted(
    y: Targets,
    prediction: Targets,
    *,
    class_labels: Sequence[str] | None = None,
    name: str = "",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw predictions against the truth: a scatter or confusion matrix.

    Parameters
    ----------
    y, prediction : array-like, shape (n,) or (n, 1)
        Numbers; with `class_labels`, class codes 0, 1, ...
    class_labels : sequence of str, optional
        Names of the classes, in the order of their codes; numbers are compared when None.
    name, unit : str
        Name and unit of the target.

    Returns
    -------
    Axes
        On the diagonal of the scatter plot, predictions equal the targets. Cells of the confusion
        matrix hold counts; their darkness is the share of the true class.

    Raises
    ------
    ShapeError
        If `y` and `prediction` differ in length, or hold nothing.
    DataError
        If a class code has no label, or no pair of numbers is finite.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> predicted([1.0, 2.0], [1.1, 1.9], unit="m", ax=Figure().subplots()).get_xlabel()
    'true (m)'
    """
    call = "plot.predicted"
    truth, guess = numbers(y).ravel(), numbers(prediction).ravel()
    if len(truth) != len(guess) or not len(truth):
        expected, got = "y and prediction of equal length", f"{len(truth)} and {len(guess)}"
        raise ShapeError(call, expected, got, "Pass one output of the same rows")
    if class_labels is None:
        ends = (f"true {name}".strip(), f"predicted {name}".strip())
        check_pairs(truth, guess, call=call)
        return scatter_pair(axes_for(ax, (SIDE, SIDE)), truth, guess, ends, unit=unit)
    return _confusion(truth, guess, [literal(label, most=16) for label in class_labels], ax)


def check_pairs(left: Array, right: Array, *, call: str) -> None:
    """Refuse two columns (n,) without a finite pair."""
    if not (np.isfinite(left) & np.isfinite(right)).any():
        expected, advice = "a row with a finite true and predicted value", "Check both for NaN"
        raise DataError(call, expected, "none", advice)


def scatter_pair(ax: Axes, left: Array, right: Array, names: tuple[str, str], *, unit: str) -> Axes:
    """Draw two columns (n,) against each other, on one square range."""
    finite = np.isfinite(left) & np.isfinite(right)
    left, right = left[finite], right[finite]
    tidy(ax)
    low, high = float(min(left.min(), right.min())), float(max(left.max(), right.max()))
    room = 0.05 * (high - low or 1.0)
    ends = (low - room, high + room)
    ax.plot(ends, ends, color=STYLE.muted, linewidth=0.7, zorder=1, label="_equal")
    look: Look = {"s": 7, "linewidths": 0, "color": STYLE.accent, "zorder": 2}
    alpha = float(np.clip(40 / np.sqrt(len(left)), 0.15, 0.8))
    ax.scatter(left, right, alpha=alpha, rasterized=len(left) > RASTERIZE_FROM, **look)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.set_xlabel(label(names[0], unit, most=34))
    ax.set_ylabel(label(names[1], unit, most=34))
    if lost := int((~finite).sum()):
        words = f"{lost:,} not finite"
        ax.text(0.02, 0.99, words, ha="left", va="top", transform=ax.transAxes, **ASIDE)
    return ax


def _confusion(truth: Array, guess: Array, labels: list[str], ax: Axes | None) -> Axes:
    """Draw the confusion matrix of class codes."""
    n = len(labels)
    codes = np.concatenate([truth, guess])
    if len(wrong := codes[~np.isin(codes, np.arange(n))]):
        expected, advice = f"class codes from 0 to {n - 1}", "Pass codes, not names or logits"
        raise DataError("plot.predicted", expected, f"{wrong[0]:g}", advice)
    counts = np.zeros((n, n), dtype=np.int64)
    np.add.at(counts, (truth.astype(int), guess.astype(int)), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(SIDE, CELL * n + 1.0)
    ax = axes_for(ax, (side, side))
    ax.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.15)
    turn = 40 if max(len(label) for label in labels) * n > 34 else 0
    turned: Look = {"ha": "right" if turn else "center", "rotation_mode": "anchor"}
    ax.set_xticks(range(n), labels, rotation=turn, **turned)
    ax.set_yticks(range(n), labels)
    ax.tick_params(length=0, labelsize=STYLE.small)
    ax.spines[:].set_visible(False)
    for (row, column), count in np.ndenumerate(counts if n <= NUMBERS else np.empty((0, 0))):
        color = STYLE.paper if shares[row, column] > 0.6 else STYLE.ink
        style: Look = {"ha": "center", "va": "center", "fontsize": STYLE.small, "color": color}
        ax.text(column, row, f"{count}", **style)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax
