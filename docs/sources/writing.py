"""Markdown tables, numbers as people read them, formulas as docutils reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

BEYOND = 1e-3  # smaller numbers are written with an exponent
TENS, THOUSANDS = 100, 10_000


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table; numbers stand at the right, but for the first column.

    Examples
    --------
    >>> print(table(["method", "error"], [["secant", "0.17"]]))
    | method | error |
    |---|---:|
    | secant | 0.17 |
    """
    cells = [[str(cell).replace("|", r"\|") for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True))[1:]
    rule = "|".join(["|---", *("---:" if numeric(column) else "---" for column in columns), ""])
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([f"| {' | '.join(head)} |", rule, *lines])


def numeric(column: Sequence[str]) -> bool:
    """Tell whether every cell of a column begins like a number or says that there is none."""
    return all(cell.lstrip("*-~").startswith(tuple("0123456789")) or cell == "-" for cell in column)


def short(value: float, digits: int = 2) -> str:
    """Write a number with that many digits that count; "-" when there is none.

    Examples
    --------
    >>> short(0.1834), short(2783.4), short(2.04e-15), short(math.nan), short(0.0)
    ('0.18', '2783', '2e-15', '-', '0')
    """
    if not math.isfinite(value):
        return "-"
    if value == 0.0:
        return "0"
    if abs(value) < BEYOND:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= TENS:
        return f"{value:,.0f}" if abs(value) >= THOUSANDS else f"{value:.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def percent(value: float, digits: int = 1) -> str:
    """Write a share as a percentage.

    Examples
    --------
    >>> percent(0.9769, 2)
    '97.69 %'
    """
    return f"{100.0 * value:.{digits}f} %"


def braced(tex: str) -> str:
    r"""Put braces around the digits of a fraction, which docutils would take for one number.

    Examples
    --------
    >>> braced(r"x - \frac12")
    'x - \\frac{1}{2}'
    """
    return re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", tex)
