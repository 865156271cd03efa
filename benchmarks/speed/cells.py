"""What is measured: shapes of one layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kanlens.errors import InvalidValueError

PATTERN = re.compile(
    r"(?P<batch>\d+)x(?P<inputs>\d+)->(?P<outputs>\d+) G(?P<grid>\d+)"
    r"(?: order (?P<order>[1-5]))?(?P<uneven> non-uniform)?(?P<double> float64)?"
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One layer and the rows it is given.

    `order` is the degree of the pieces; unless the grid is `uniform`, every input has knots of its
    own; `dtype` is "float32" or "float64".
    """

    batch: int
    in_features: int
    out_features: int
    grid_size: int
    order: int = 3
    uniform: bool = True
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """The cell in words, which `parse` reads."""
        order = "" if self.order == 3 else f" order {self.order}"
        shape = f"{self.batch}x{self.in_features}->{self.out_features} G{self.grid_size}"
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"{shape}{order}{'' if self.uniform else ' non-uniform'}{dtype}"

    @property
    def basis(self) -> int:
        """Number of basis functions of one input."""
        return self.grid_size + self.order

    @property
    def edges(self) -> int:
        """Number of edges."""
        return self.in_features * self.out_features


def parse(text: str) -> Cell | None:
    """Read the name of a cell; None for any other text.

    Examples
    --------
    >>> parse("8x2->1 G5 order 2").order
    2
    """
    found = PATTERN.fullmatch(text.strip())
    if found is None:
        return None
    return Cell(
        batch=int(found["batch"]),
        in_features=int(found["inputs"]),
        out_features=int(found["outputs"]),
        grid_size=int(found["grid"]),
        order=int(found["order"] or 3),
        uniform=found["uneven"] is None,
        dtype="float32" if found["double"] is None else "float64",
    )


def named(*names: str) -> tuple[Cell, ...]:
    """Return the cells of these names."""
    return tuple(cell for cell in map(parse, names) if cell is not None)


CELLS = named(
    "1x784->64 G5",
    "16x784->64 G5",
    "64x64->10 G5",
    "37x29->13 G30 non-uniform",
    "64x784->64 G5",
    "64x784->64 G5 float64",
    "1024x784->64 G5",
    "1024x256->256 G5",
    "4096x64->64 G5",
    "4096x64->64 G5 float64",
    "4096x64->64 G5 order 2",
    "4096x64->64 G5 order 5",
    "4096x64->64 G5 non-uniform",
    "65536x8->5 G5",
    "1024x64->64 G50",
    "256x16->16 G200",
)
MEMORY_CELLS = named(
    "64x784->64 G5",
    "2048x256->256 G5",
    "4096x64->64 G5",
    "65536x8->5 G5",
    "1024x64->64 G50",
    "256x16->16 G200",
)
CURVES: dict[str, tuple[Cell, ...]] = {
    "batch": named(*(f"{n}x64->64 G5" for n in (64, 256, 1024, 4096, 16384))),
    "width": named(*(f"1024x{n}->{n} G5" for n in (16, 32, 64, 128, 256))),
    "grid size": named(*(f"1024x64->64 G{n}" for n in (5, 10, 20, 50, 100, 200))),
}

SMOKE_CELLS = named("32x6->4 G5", "16x4->4 G50", "16x4->4 G5 order 1 non-uniform float64")
SMOKE_MEMORY_CELLS = named("64x8->8 G5")
SMOKE_CURVES = {
    "batch": named("16x4->4 G5", "32x4->4 G5"),
    "width": named("16x4->4 G5", "16x8->8 G5"),
    "grid size": named("16x4->4 G5", "16x4->4 G10"),
}


def place_on(curve: str, cell: Cell) -> int:
    """Return where a cell stands on a curve."""
    places = {"batch": cell.batch, "width": cell.in_features, "grid size": cell.grid_size}
    return places[curve]


def select(cells: Sequence[Cell], wanted: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells that fit one of the texts, all when there is none.

    A text is words of a cell's name, as ``G50`` or ``order 2``; or the whole name of any cell,
    which need not be among `cells`.
    """
    if not wanted:
        return tuple(cells)
    found: dict[Cell, None] = {}
    for text in wanted:
        new = parse(text)
        found |= dict.fromkeys([new] if new is not None else _fitting(cells, text))
    return tuple(found)


def check_cells(cells: Sequence[Cell], wanted: Sequence[str]) -> None:
    """Refuse a text that fits no cell and names none."""
    for text in wanted:
        if parse(text) is None and not _fitting(cells, text):
            advice = f"Choose words from: {'; '.join(cell.name for cell in cells)}"
            expected = "words of a cell's name"
            raise InvalidValueError("benchmarks speed", expected, repr(text), advice)


def _fitting(cells: Sequence[Cell], text: str) -> list[Cell]:
    words = set(text.split())
    return [cell for cell in cells if words and words <= set(cell.name.split())]
