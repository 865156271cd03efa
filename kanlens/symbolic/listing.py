"""The rows of a result as a table, in text and in LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kanlens.symbolic.wording import latex_name, written

_WIDEST = 90  # characters of an equation in a table


def text_table(outputs: Iterable[tuple[str, int, Mapping[int, Mapping[str, Any]]]]) -> list[str]:
    """Return lines of text: the rows of every output by index, the picked one marked.

    Examples
    --------
    >>> row = {"complexity": 1, "loss": 0.5, "score": 0.0, "equation": "2*x1"}
    >>> print(text_table([("y", 1, {0: row, 1: row})])[1])
    y     0           1   0.5      0  2*x1
    """
    table = [("", "", "complexity", "loss", "score", "equation")]
    for name, chosen, rows in outputs:
        label = written(name)
        for index, row in rows.items():
            mark, label = (">>>>" if index == chosen else label), ""
            sizes = (str(row["complexity"]), f"{row['loss']:.3g}", f"{row['score']:.3g}")
            text = row["equation"]
            short = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
            table.append((mark, str(index), *sizes, short))
    widths = [max(len(cells[k]) for cells in table) for k in range(6)]
    lines = []
    for cells in table:
        left = cells[0].ljust(widths[0])
        right = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        lines.append("  ".join([left, *right[:-1], cells[-1]]).rstrip())
    return lines


def latex_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    r"""Return rows as a LaTeX table for booktabs; equations are in LaTeX already.

    Examples
    --------
    >>> print(latex_table([{"equation": "x_{1}", "loss": 0.5}], ["equation", "loss"]))
    \begin{tabular}{@{}lr@{}}
    \toprule
    Equation & Loss \\
    \midrule
    $x_{1}$ & 0.5 \\
    \bottomrule
    \end{tabular}
    """
    align = "".join("l" if c in ("output", "stage", "equation") else "r" for c in columns)
    lines = [rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}", r"\toprule"]
    lines += [" & ".join(c.capitalize() for c in columns) + r" \\", r"\midrule"]
    lines += [" & ".join(_cell(c, row[c]) for c in columns) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _cell(column: str, value: Any) -> str:
    if column == "equation":
        return f"${value}$"
    if column == "output":
        return f"${latex_name(value)}$"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
