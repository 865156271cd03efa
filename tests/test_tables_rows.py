"""Rows of tables, and files that must read as their frames do."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kanlens._files import write_frames
from kanlens.data._table_reader import read_table
from kanlens.data._tables import Table
from kanlens.errors import InvalidValueError, ShapeError


def refused(error: type[Exception], text: str):
    return pytest.raises(error, match=f"^{re.escape(text)}$")


FRAME = pd.DataFrame(
    {
        "size [mm]": [1.5, 2.0, 3.0, 5.0],
        "color": ["red", "blue", "green", "red"],
        "ok": [True, False, True, True],
        "new": [0, 1, 1, 0],
        "y": [1, 3, 5, 7],
    },
    index=[9, 8, 7, 6],
)


# -- rows


def test_take_keeps_the_order_asked_for():
    table = read_table(FRAME, target="y")
    for rows in ([2, 0, -1], torch.tensor([2, 0, 3]), np.array([2, 0, 3])):
        taken = table.take(rows)
        assert taken.y[:, 0].tolist() == [5, 1, 7]
        assert taken.frame.index.tolist() == [2, 0, 3]
        assert_close(taken.x, table.x[[2, 0, 3]])
    assert table.take(table.x[:, 0] > 1.5).y[:, 0].tolist() == [3, 5, 7]
    assert table.take([]).rows == 0
    assert read_table(FRAME).take([1]).y is None


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([0, 4], "row positions below 4, got 4. Count rows from 0."),
        ([-5], "row positions below 4, got -5. Count rows from 0."),
        (
            torch.ones(3, dtype=torch.bool),
            "a mask of shape (4,), got (3,). Pass one value per row.",
        ),
    ],
)
def test_take_refuses(rows, text):
    with refused(InvalidValueError, f"Table.take: expected {text}"):
        read_table(FRAME, target="y").take(rows)


@pytest.mark.slow  # takes a while
@given(rows=st.integers(2, 60), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_split_parts_the_rows(rows, fraction, seed):
    table = read_table(pd.DataFrame({"a": np.arange(rows), "y": np.arange(rows)}), target="a")
    train, held_out = table.split(fraction, torch.Generator().manual_seed(seed))
    both = train.frame.index.tolist() + held_out.frame.index.tolist()
    assert sorted(both) == list(range(rows))
    assert train.frame.index.is_monotonic_increasing
    assert held_out.frame.index.is_monotonic_increasing
    assert abs(held_out.rows - fraction * rows) <= 1
    assert train.rows and held_out.rows
    again, _ = table.split(fraction, torch.Generator().manual_seed(seed))
    assert_close(again.x, train.x, rtol=0, atol=0)


def test_split_draws_from_the_generator_it_is_given():
    table = read_table(pd.DataFrame({"a": np.arange(99.0)}))
    state = torch.get_rng_state()
    parts = [table.split(0.3, torch.Generator().manual_seed(s))[1].x for s in (1, 2)]
    assert not torch.equal(*parts)
    assert torch.equal(torch.get_rng_state(), state)


def test_split_refuses():
    table = read_table(FRAME, target="y")
    with refused(
        InvalidValueError,
        "Table.split: expected fraction below 1, got 1.0. Pass a fraction such as 0.2.",
    ):
        table.split(1.0)
    text = "Table.split: expected fraction to be a positive number, got 0. Pass a number above 0."
    with refused(InvalidValueError, text):
        table.split(0)
    text = "Table.split: expected at least 2 rows, got 1. Pass more data."
    with refused(ShapeError, text):
        table.take([0]).split(0.5)


def test_tables_hold_together():
    table = read_table(FRAME, target="y")
    text = (
        "Table: expected x of shape (4, 6), got (3, 6). Use read_table, which keeps these together."
    )
    with refused(ShapeError, text):
        Table(x=table.x[:3], schema=table.schema, frame=table.frame)
    text = "Table: expected y of shape (4, ...), got (3, 1). Give one target for each row."
    with refused(ShapeError, text):
        Table(x=table.x, y=table.y[:3], schema=table.schema, frame=table.frame)


# -- files and frames say the same

# a byte order mark at the start of a name is lost in text, as it should be
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=1, max_size=8)
TEXTS = st.sampled_from(
    ["red", "dark blue", 'q"u,o;te', "two\r\nlines", "a\rb", "c\nd", "ü", "<b>x</b>", "True"]
)
COLUMNS = st.one_of(
    st.just(st.floats(allow_nan=False, allow_infinity=False)),
    st.just(st.integers(-(2**63), 2**63 - 1)),
    st.just(st.booleans()),
    st.just(TEXTS),
)


@st.composite
def frames(draw):
    names = draw(
        st.lists(
            NAMES.filter(lambda n: n.strip() and "\r" not in n), min_size=1, max_size=4, unique=True
        )
    )
    rows = draw(st.integers(10, 15))
    columns = {}
    for name in names:
        columns[name] = draw(st.lists(draw(COLUMNS), min_size=rows, max_size=rows))
    return pd.DataFrame(columns)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
@given(frame=frames())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.filterwarnings("ignore:.*2\\*\\*53")
def test_a_file_reads_as_its_frame(tmp_path, ending, frame):
    path = tmp_path / f"a{ending}"
    write_frames([frame], path, call="w")
    named = list(frame.columns)  # also those that number rows
    table, again = read_table(frame, features=named), read_table(path, features=named)
    assert again.schema == table.schema
    assert_close(again.x, table.x, rtol=0, atol=0)
    assert again.source == path.name


def test_nullable_frames_survive_parquet(tmp_path):
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None, 3, 3], dtype="Int64"),
            "b": pd.array([True, None, False, True], dtype="boolean"),
            "s": pd.array(["u", "v", None, "u"], dtype="string"),
            "c": pd.Categorical(["1", "2", "3", "1"]),
        }
    )
    path = tmp_path / "a.parquet"
    write_frames([frame], path, call="w")
    table, again = read_table(frame, impute="mean"), read_table(path, impute="mean")
    assert again.schema == table.schema
    assert_close(again.x, table.x)
    assert table.feature_names == ("i", "b", "s", "c=1", "c=2", "c=3")
