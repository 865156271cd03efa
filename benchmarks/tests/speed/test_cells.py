"""Cells have names that are read again, and are chosen by words of them."""

import re

import pytest

from benchmarks.speed.cells import (
    CELLS,
    CURVES,
    MEMORY_CELLS,
    SMOKE_CELLS,
    Cell,
    check_cells,
    parse,
    select,
)
from kanlens.errors import InvalidValueError


def test_every_name_is_read_again():
    every = [*CELLS, *MEMORY_CELLS, *SMOKE_CELLS, *(c for cells in CURVES.values() for c in cells)]
    assert [parse(cell.name) for cell in every] == every
    assert len(CELLS) == 16


def test_words_must_all_fit():
    assert [cell.name for cell in select(CELLS, ["G50"])] == ["1024x64->64 G50"]
    assert all(cell.grid_size == 5 for cell in select(CELLS, ["G5"]))
    assert len(select(CELLS, ["4096x64->64 order"])) == 2
    assert select(CELLS, []) == CELLS


def test_a_whole_name_need_not_be_known():
    new = Cell(batch=8, in_features=2, out_features=1, grid_size=3, uniform=False)
    assert select(CELLS, ["8x2->1 G3 non-uniform"]) == (new,)


@pytest.mark.parametrize("text", ["G7", "8x2->1", "8x2->1 G3 order 9"])
def test_what_fits_nothing_is_refused(text):
    names = "; ".join(cell.name for cell in CELLS)
    words = (
        f"benchmarks speed: expected words of a cell's name, got {text!r}. "
        f"Choose words from: {names}."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(words)}$"):
        check_cells(CELLS, [text])
