"""Formulas: as they are printed in books, and how close they are to what they stand for."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import MaxNLocator

from kanlens.checks import message
from kanlens.errors import DTypeError, ShapeError
from kanlens.model.network import find_output
from kanlens.plotting.agreement import finite_pairs, scatter_pair
from kanlens.plotting.style import (
    STYLE,
    axes_for,
    check_axes,
    context,
    literal,
    size_in_inches,
    tidy,
)

if TYPE_CHECKING:
    from kanlens.model.network import Rows

CALL = "plot.formula"
SIZE = (1.25 * STYLE.column, 0.85 * STYLE.column)
DIGITS = 4
MOST_LINES = 5  # of a formula as mathematics; a longer one is written as text
TEXT_LINES = 6
SIZES = (11.0, 9.0, 7.5)  # points, of mathematics
SPACE = 0.01  # inches between terms, for each point of size


@context()
def formula(
    result: Any,
    *,
    x: Rows | None = None,
    y: Any = None,
    output: int | str = 0,
    index: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a formula above its trade-off of complexity and loss, or above its predictions.

    A formula too long for mathematics is written as plain text.

    Parameters
    ----------
    result : SymbolicResult
        As `kanlens.symbolize` returns it.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Rows to evaluate the formula on, drawn against `y`. When None, every formula of the
        output is drawn by complexity and loss, the chosen one ringed.
    y : array-like, shape (batch,) or (batch, out), optional
        What the formula should give: targets, or outputs of the network it was made from. The
        network with functions on its edges, ``result.model``, when None.
    output : int or str
        Index or name of the output.
    index : int, optional
        Stage of the formula; the chosen one when None.
    ax : Axes, optional
        Where to draw; a new figure, made by pyplot, when None.

    Returns
    -------
    Axes
        Its title is the formula.

    Raises
    ------
    DTypeError
        If `result` has no formulas, or `ax` is no Axes.
    ShapeError
        If `y` does not fit `x`.
    InvalidValueError
        If there is no such output or stage.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from kanlens.model.function_layer import FunctionLinear
    >>> from kanlens.model.network import KAN
    >>> from kanlens.symbolic.pipeline import symbolize
    >>> parabola = KAN.from_layers([FunctionLinear(1, 1, [["x^2"]])], KAN([1, 1]).schema)
    >>> result = symbolize(parabola, torch.linspace(-1, 1, 50)[:, None])
    >>> formula(result, ax=Figure().subplots()).get_title(loc="left")
    '$y = x_{1}^{2}$'
    """
    check_axes(ax, call=CALL)
    if not (hasattr(result, "equations_") and hasattr(result, "sympy")):
        expected, got = "a SymbolicResult", type(result).__name__
        raise DTypeError(message(CALL, expected, got, "Pass what symbolize returned"))
    labels = () if result.model is None else result.model.class_labels
    place = find_output(result.output_names, labels, output, CALL)
    name = result.output_names[place]
    expression = result.sympy(index, place)
    pair = None if x is None else _pair(result, x, y, place, index)
    room = SIZE[0] - 0.7 if ax is None else max(size_in_inches(ax)[0], 1.5)
    lines, size = formula_lines(expression, name, room)
    ax = axes_for(ax, (SIZE[0], SIZE[1] + 0.2 * len(lines)), call=CALL)
    if pair is None:
        _draw_front(ax, result, name, index)
    else:
        ends = (f"{name}, network" if y is None else name, f"{name}, formula")
        scatter_pair(ax, *pair, ends, unit=_unit(result, place))
    ax.set_title("\n".join(lines), loc="left", fontsize=size, linespacing=1.4, pad=8)
    return ax


def _unit(result: Any, place: int) -> str:
    return "" if result.model is None else str(result.model.schema.outputs[place].unit)


def _pair(result: Any, x: Any, y: Any, place: int, index: int | None) -> tuple[Any, Any]:
    """Return what the formula should give on `x`, and what it gives."""
    if y is None and result.model is None:
        expected = "y, as the formula was not read from a network"
        raise ShapeError(message(CALL, expected, "None", "Pass what it should give"))
    given = result.model(x) if y is None else y
    truth, guess = _column(given, place), result.predict(x, index)[:, place]
    if len(truth) != len(guess):
        got = f"{len(truth)} for {len(guess)} rows"
        raise ShapeError(message(CALL, "y with one value per row", got, "Pass both whole"))
    finite_pairs(truth, guess, call=CALL)
    return truth, guess


def _column(values: Any, place: int) -> Any:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    numbers = np.asarray(values, dtype=np.float64)
    return numbers if numbers.ndim < 2 else numbers[:, min(place, numbers.shape[1] - 1)]


def _draw_front(ax: Axes, result: Any, name: str, index: int | None) -> None:
    table = result.equations_
    table = table[table["output"] == name] if "output" in table else table
    complexity = table["complexity"].to_numpy(dtype=np.float64)
    loss = table["loss"].to_numpy(dtype=np.float64)
    best = result.get_best(name).name if index is None else index
    chosen = int(table.index.get_indexer([best])[0])  # -1: not on the front, nothing is ringed
    tidy(ax)
    look: Any = {"color": STYLE.accent, "s": 26, "linewidths": 0, "zorder": 3}
    ax.scatter(complexity, loss, label="formulas", **look)
    ring: Any = {"facecolors": "none", "edgecolors": STYLE.ink, "linewidths": 1.0, "s": 80}
    ringed = [chosen] if chosen >= 0 else []
    ax.scatter(complexity[ringed], loss[ringed], zorder=4, label="_chosen", **ring)
    known = loss[np.isfinite(loss)]
    if len(known) and known.min() > 0:
        ax.set_yscale("log")
        ax.set_ylim(known.min() / 4, known.max() * 8)
        ax.tick_params(which="minor", length=1.2, width=0.4, labelleft=False)
    _name_points(ax, table, complexity, loss)
    ax.margins(x=0.2)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("complexity (nodes of the expression)")
    ax.set_ylabel("loss (share of the variance)")


def _name_points(ax: Axes, table: Any, complexity: Any, loss: Any) -> None:
    """Write the stage beside each point; points in one place share a line."""
    if "stage" not in table:
        return
    named: dict[tuple[float, str], list[str]] = {}
    for stage, at, value in zip(table["stage"], complexity, loss, strict=True):
        named.setdefault((float(at), f"{value:.1e}"), []).append(literal(stage))
    for (at, text), stages in named.items():
        value = float(text)
        if np.isfinite(value):
            style: Any = {"fontsize": STYLE.small, "textcoords": "offset points", "ha": "center"}
            ax.annotate(", ".join(stages), (at, value), xytext=(0, 8), va="bottom", **style)


def formula_lines(expression: Any, name: str, room: float) -> tuple[list[str], float]:
    r"""Return a formula as lines to draw, each at most `room` inches wide.

    Parameters
    ----------
    expression : sympy.Expr
        Numbers are rounded to four digits.
    name : str
        Of what it gives.
    room : float
        Width, in inches.

    Returns
    -------
    lines : list of str
        Mathematics when matplotlib can set it within five lines, else plain text.
    size : float
        Of their letters, in points.

    Examples
    --------
    >>> import sympy
    >>> formula_lines(sympy.Symbol("x1") / 2, "y", 3.0)
    (['$y = \\frac{x_{1}}{2}$'], 11.0)
    """
    import sympy

    from kanlens.symbolic.result import rounded
    from kanlens.symbolic.wording import formula_text, written

    short = rounded(expression, DIGITS)
    names = {symbol: _math_name(str(symbol)) for symbol in short.free_symbols}
    terms = short.as_ordered_terms() if short.is_Add else [short]
    parts = [str(sympy.latex(term, symbol_names=names)) for term in terms]
    pieces = [parts[0], *(part if part.startswith("-") else f"+ {part}" for part in parts[1:])]
    packed = _packed([f"{_math_name(name)} = {pieces[0]}", *pieces[1:]], room)
    return packed or (_plain(f"{written(name)} = {formula_text(short)}", room), STYLE.text)


def _packed(pieces: list[str], room: float) -> tuple[list[str], float] | None:
    """Join pieces into lines that fit, as large as possible; None when they are too many."""
    widths = []
    for piece in pieces:
        width = _math_width(f"${piece}$")
        if width is None or width > room * SIZES[0] / SIZES[-1]:
            return None
        widths.append(width / SIZES[0])
    for size in SIZES:
        lines, filled = [pieces[0]], widths[0]
        for piece, width in zip(pieces[1:], widths[1:], strict=True):
            if (filled + width + SPACE) * size <= room:
                lines[-1], filled = f"{lines[-1]} {piece}", filled + width + SPACE
            else:
                lines.append(rf"\quad {piece}")
                filled = width + SPACE
        if len(lines) <= MOST_LINES and max(widths) * size <= room:
            return [f"${line}$" for line in lines], size
    return None


def _math_width(text: str) -> float | None:
    """Return the width in inches at the largest size, None when it cannot be set."""
    try:
        parsed = MathTextParser("path").parse(text, 72, FontProperties(size=SIZES[0]))
    except (ValueError, RuntimeError):
        return None
    return float(parsed.width) / 72


def _math_name(name: str) -> str:
    """Return a name as mathematics: x1 with an index, words upright."""
    indexed = re.fullmatch(r"([A-Za-z])_?(\d+)", name)
    if indexed:
        return f"{indexed[1]}_{{{indexed[2]}}}"
    if re.fullmatch(r"[A-Za-df-z]", name):  # e is a number
        return name
    escaped = re.sub(r"([_$%#&{}])", r"\\\1", name).replace(" ", r"\ ")
    return rf"\mathrm{{{escaped}}}"


def _plain(text: str, room: float) -> list[str]:
    width = max(20, int(room / (0.56 * STYLE.text / 72)))
    lines = textwrap.wrap(text, width)
    if len(lines) > TEXT_LINES:
        lines = [*lines[: TEXT_LINES - 1], f"{lines[TEXT_LINES - 1][: width - 1]}…"]
    return [literal(line) for line in lines]
