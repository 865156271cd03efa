"""The table of libraries in the documentation says what is measured."""

from pathlib import Path

import pandas as pd
import pytest

from tests.io.importers.libraries import ANALYSES, LIBRARIES, loaded, measured

TABLE = Path(__file__).parents[3] / "figures" / "data" / "libraries.csv"
WHOLE = [  # of every kind of edges one; all differences are measured again
    "pykan 0.1 to 0.2.8, microkan",
    "FastKAN without normalization",
    "FasterKAN",
    "ChebyKAN",
    "Wav-KAN shannon",
    "SineKAN",
]


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(TABLE).set_index("library")


def test_every_library_has_its_line(table):
    assert list(table.index) == list(LIBRARIES)
    assert len(table) >= 25
    assert set(table.columns) == {"difference", *(one.__name__ for one in ANALYSES)}


@pytest.mark.parametrize("name", LIBRARIES)
def test_differences_are_rounding(name, table):
    difference = loaded(name)[2]
    assert difference < 1e-13
    assert table.difference[name] < 1e-13


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_possible_is_what_the_table_says(name, table):
    line = measured(name)
    cells = [one.__name__ for one in ANALYSES]
    assert [line[cell] for cell in cells] == table.loc[name, cells].tolist()
