"""How the time of forward and backward grows with the batch, the width and the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.speed.cells import Cell, place_on
from benchmarks.speed.timing import COLUMNS as TIMING_COLUMNS

COLUMNS = ("curve", "place", *TIMING_COLUMNS)


def points(curves: Mapping[str, Sequence[Cell]]) -> tuple[Cell, ...]:
    """Return every cell that lies on a curve, once.

    Examples
    --------
    >>> from benchmarks.speed.cells import CURVES
    >>> len(points(CURVES)), sum(map(len, CURVES.values()))
    (14, 16)
    """
    return tuple(dict.fromkeys(cell for cells in curves.values() for cell in cells))


def on_curves(
    cell: Cell, rows: Sequence[Mapping[str, Any]], curves: Mapping[str, Sequence[Cell]]
) -> list[dict[str, Any]]:
    """Return the rows of a cell once for each curve it lies on, with its place there.

    Examples
    --------
    >>> from benchmarks.speed.cells import CURVES
    >>> rows = on_curves(CURVES["width"][0], [{"ms": 1.0}], CURVES)
    >>> rows
    [{'curve': 'width', 'place': 16, 'ms': 1.0}]
    """
    return [
        {"curve": curve, "place": place_on(curve, cell), **row}
        for curve, cells in curves.items()
        if cell in cells
        for row in rows
    ]
