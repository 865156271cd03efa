"""Columns called by what is no text: numbers, dates, nothing."""

import re

import numpy as np
import pandas as pd
import pytest

from kanlens.data._table_reader import read_table
from kanlens.errors import DataError


def test_columns_named_by_numbers():
    frame = pd.DataFrame(np.arange(12.0).reshape(3, 4))
    assert read_table(frame, target="3").feature_names == ("0", "1", "2")
    assert read_table(frame, target=np.int64(3), features=range(2)).feature_names == ("0", "1")
    table = read_table(frame, target=[2, 3], drop=0, units={1: "m"}, categorical=1)
    assert table.feature_names == ("1=1", "1=5", "1=9")
    assert table.schema.output_names == ("2", "3")
    assert table.keep("1=5").feature_names == ("1=5",)
    assert read_table(frame, target=3).keep(1).feature_names == ("1",)
    text = (
        "read_table: expected target among the columns '0', '1', '2', '3', got '-1'. "
        "Did you mean '1'?"
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        read_table(frame, target=-1)


@pytest.mark.parametrize(
    ("labels", "target", "names"),
    [
        ([0.5, 1.5, 2.5], 2.5, ("0.5", "1.5")),
        ([None, 0, "b"], "b", ("None", "0")),
        ([True, False, "y"], False, ("True", "y")),
        ([b"a", b"b", "y"], b"b", ("b'a'", "y")),
        ([("a", 1), "b", "y"], "y", ("('a', 1)", "b")),
        (pd.MultiIndex.from_arrays([["a", "b", "y"]]), "y", ("a", "b")),
        (pd.CategoricalIndex(["a", "b", "y"]), "y", ("a", "b")),
        (
            pd.date_range("2020-01-01", periods=3),
            pd.Timestamp("2020-01-03"),
            ("2020-01-01 00:00:00", "2020-01-02 00:00:00"),
        ),
    ],
    ids=str,
)
def test_columns_called_by_what_is_no_text(labels, target, names):
    frame = pd.DataFrame(np.arange(9.0).reshape(3, 3))
    frame.columns = labels
    assert read_table(frame, target=target).feature_names == names


def test_labels_of_one_text_are_refused():
    frame = pd.DataFrame(np.arange(9.0).reshape(3, 3), columns=[1, "1", "y"])
    text = (
        "read_table: expected each column once, as target or as feature, got '1' twice. "
        "Rename it, or name it once."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        read_table(frame, target="y")
