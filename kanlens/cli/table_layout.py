"""Tables that a narrow terminal shows without breaking a number or a name anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

if TYPE_CHECKING:
    import pandas as pd

PAD = 2  # around every column
HEAD = 9  # characters of a line in a header, where a word allows it
TEXT = 16  # fewest characters of a line of words
NAMES = re.compile(r"[^_ =]*[_ =]+|[^_ =]+")  # pieces of names that a line may end after
WORDS = re.compile(r"\S*\s+|\S+")


def blocks(frame: pd.DataFrame, width: int, *, key: int = 20) -> list[pd.DataFrame]:
    """Cut a table that is too wide into some that fit, each with the first column.

    Parameters
    ----------
    frame : DataFrame
        Its first column names the rows.
    width : int
        Of the terminal, in characters.
    key : int
        Characters of a line in the first column.

    Returns
    -------
    list of DataFrame
        The frame itself where it fits.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"name": ["a_long_name"], "first": [1.5], "second": [2.5]})
    >>> [part.columns.tolist() for part in blocks(frame, 18, key=6)]
    [['name', 'first'], ['name', 'second']]
    """
    cells = frame.map(_cell)
    if sum(_width(cells, name) for name in cells) <= width:
        return [frame]
    cells.columns = [broken(str(name), HEAD) for name in cells]
    first = str(cells.columns[0])
    cells[first] = [broken(text, key) for text in cells[first]]
    free = width - _width(cells, first)
    found, room = [[first]], free
    for name in cells.columns[1:]:
        if " " in "".join(cells[name]):
            most = room - PAD if room >= TEXT + PAD else free - PAD
            cells[name] = [broken(text, max(most, TEXT), WORDS) for text in cells[name]]
        if _width(cells, name) > room and len(found[-1]) > 1:
            found.append([first])
            room = free
        found[-1].append(name)
        room -= _width(cells, name)
    return [cells[names] for names in found]


def broken(text: str, most: int, pieces: re.Pattern[str] = NAMES) -> str:
    r"""Break a text into lines of at most `most` characters, where a piece of it ends.

    Examples
    --------
    >>> broken("captum_shapley_value_sampling", 16)
    'captum_shapley_\nvalue_sampling'
    """
    lines = [""]
    for piece in pieces.findall(text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > most:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _width(cells: pd.DataFrame, name: str) -> int:
    """Return the characters that a column takes."""
    lines = [line for text in (name, *cells[name]) for line in str(text).split("\n")]
    return PAD + max(cell_len(line) for line in lines)
