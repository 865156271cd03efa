"""What columns are taken for, and what they are refused for."""

import datetime
import decimal
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kanlens.data.cell_parsing import Column, missing_cells, parse_numbers
from kanlens.data.columns import (
    check_quantities,
    choose_columns,
    class_labels,
    column_features,
    is_classes,
)
from kanlens.errors import DataError


def refused(text: str):
    return pytest.raises(DataError, match=f"^{re.escape(text)}$")


def column(cells, *, coded: bool = False) -> Column:
    series = cells if isinstance(cells, pd.Series) else pd.Series(cells)
    return Column(name="c", cells=series, call="read_table", coded=coded)


def arrow(cells, kind: pa.DataType) -> pd.Series:
    return pd.Series(cells, dtype=pd.ArrowDtype(kind))


ABC = ["a", "b", "c"] * 2


@pytest.mark.parametrize(
    "cells",
    [
        [1, 2, 3],
        [1.5, 1e308, -1e308],
        ["1", " 2.5 ", "-1e-3"],
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series([2**63, 1, 2], dtype="uint64"),
        pd.Series([1, 2, 3], dtype="float16"),
        [10**30, 1, 2],
        [decimal.Decimal("1.5"), decimal.Decimal(2), None],
        arrow([1, 2, None], pa.int64()),
        arrow([decimal.Decimal(1)], pa.decimal128(5, 2)),
        [1, 2, 1],
        [0, 0, 0],
        [5, 5],
    ],
)
def test_numeric(cells):
    (feature,) = column_features(column(cells))
    assert (feature.name, feature.kind, feature.category) == ("c", "numeric", None)


@pytest.mark.parametrize(
    "cells", [[0, 1, 0], [0.0, 1.0], ["0", "1"], pd.Series([0, 1, None], dtype="Int64")]
)
def test_zeros_and_ones_are_binary_numbers(cells):
    (feature,) = column_features(column(cells))
    assert (feature.name, feature.kind, feature.category) == ("c", "binary", None)


@pytest.mark.parametrize(
    "cells",
    [
        [True, False],
        [True, True],
        [True, None],
        ["True", "True", "True"],
        pd.Series([True, None], dtype="boolean"),
        arrow([True, False], pa.bool_()),
    ],
)
def test_truth_values_are_binary_even_if_one_is_not_there(cells):
    (feature,) = column_features(column(cells))
    assert (feature.kind, feature.category, feature.categories) == (
        "binary",
        "True",
        ("False", "True"),
    )


def test_two_texts_are_binary():
    (feature,) = column_features(column(["yes", "no", None, "yes"]))
    assert (feature.name, feature.kind) == ("c", "binary")
    assert (feature.category, feature.categories) == ("yes", ("no", "yes"))


@pytest.mark.parametrize(
    "cells",
    [
        ABC,
        pd.Series(ABC, dtype="category"),
        pd.Series(ABC, dtype="string"),
        pd.Series(ABC, dtype=object),
        arrow(ABC, pa.string()),
        arrow(ABC, pa.dictionary(pa.int32(), pa.string())),
        [*ABC, None, " ", ""],
    ],
)
def test_categorical(cells):
    features = column_features(column(cells), unit="u")
    assert [f.name for f in features] == ["c=a", "c=b", "c=c"]
    assert [f.category for f in features] == ["a", "b", "c"]
    assert {(f.column, f.kind, f.categories, f.unit) for f in features} == {
        ("c", "categorical", ("a", "b", "c"), "u")
    }


def test_a_constant_text_is_one_category():
    (feature,) = column_features(column(["k"] * 4))
    assert (feature.name, feature.kind, feature.category) == ("c=k", "categorical", "k")


@pytest.mark.parametrize(
    "declared",
    [
        column([10, 9, 10, 1.5], coded=True),
        column(pd.Series([10, 9, 10, 1.5], dtype="category")),
    ],
)
def test_declared_codes_are_categories_in_numeric_order(declared):
    assert [f.category for f in column_features(declared)] == ["1.5", "9", "10"]


def test_declared_categories_may_be_many():
    many = [f"t{i}" for i in range(150)]
    assert len(column_features(column(many, coded=True))) == 150
    assert len(column_features(column(pd.Series(many, dtype="category")))) == 150


@pytest.mark.parametrize(
    ("cells", "impute", "filler"),
    [
        ([1, 2, 9, None], "median", 2.0),
        ([1, 2, 9, None], "mean", 4.0),
        ([9, 9, 1, 1, 2], "most_frequent", 1.0),
        ([1e308, 1e308, 1e308], "mean", 1e308),
        ([1e308, 1.2e308], "median", 1.1e308),
        ([0, 1, 1, 0, 1], "mean", 1.0),
        (["b", "a", "b", "a", "c"], "mean", "a"),
        (["x", "y", "y"], "median", "y"),
        ([True, False, True], "median", "True"),
        ([1, 2], None, None),
    ],
)
def test_imputation_values(cells, impute, filler):
    found = {f.imputation for f in column_features(column(cells), impute=impute)}
    (value,) = found
    if isinstance(filler, float):
        filler = pytest.approx(filler, rel=1e-12)
    assert value == filler


CONVERT = "Convert the column, or leave it out with drop='c'."
DATES = "Turn dates and times into numbers, or leave it out with drop='c'."


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ([None, None], "values, got column 'c'. Fill it, or leave it out with drop='c'."),
        (["", " "], "values, got column 'c'. Fill it, or leave it out with drop='c'."),
        (
            [1, "x", 2],
            "numbers, got 'x' in row 1 of column 'c'. "
            "Correct that cell, or leave it out with drop='c'.",
        ),
        (
            ["1", "x"],
            "numbers, got 'x' in row 1 of column 'c'. "
            "Correct that cell, or leave it out with drop='c'.",
        ),
        (
            ["1,5", "2,5", "2", "1.000,5"],
            "numbers, got '1,5' in row 0 of column 'c'. "
            "Write numbers with a decimal point and without thousands separators.",
        ),
        (
            ["a", "b", None, "c"],
            "texts that repeat, got 3 different ones in 3 cells in column 'c'. "
            "If it identifies rows, leave it out with drop='c'.",
        ),
        (
            [f"t{i}" for i in range(101)] * 2,
            "at most 100 distinct texts, got 101 in column 'c'. "
            "If it identifies rows, leave it out with drop='c'.",
        ),
        (
            pd.to_datetime(["2020-01-01"] * 2),
            "numbers or text, got Timestamp('2020-01-01 00:00:00') in row 0 of column 'c'. "
            + DATES,
        ),
        (
            pd.to_timedelta([1], unit="s"),
            f"numbers or text, got Timedelta('0 days 00:00:01') in row 0 of column 'c'. {DATES}",
        ),
        (
            pd.period_range("2020", periods=2, freq="D"),
            f"numbers or text, got Period('2020-01-01', 'D') in row 0 of column 'c'. {DATES}",
        ),
        (
            [None, datetime.date(2020, 1, 2)],
            f"numbers or text, got datetime.date(2020, 1, 2) in row 1 of column 'c'. {DATES}",
        ),
        (
            ["2020-01-02", "2020-01-03T10:00", "2020-01-02"],
            f"numbers or text, got '2020-01-02' in row 0 of column 'c'. {DATES}",
        ),
        (
            ["1/2/2020", "3.4.20 10:00"] * 2,
            f"numbers or text, got '1/2/2020' in row 0 of column 'c'. {DATES}",
        ),
        ([[1], [2]], f"numbers or text, got [1] in row 0 of column 'c'. {CONVERT}"),
        (
            ["a", "b", {"k": 1}],
            f"numbers or text, got {{'k': 1}} in row 2 of column 'c'. {CONVERT}",
        ),
        ([b"1"], f"numbers or text, got b'1' in row 0 of column 'c'. {CONVERT}"),
        ([1j], f"numbers or text, got 1j in row 0 of column 'c'. {CONVERT}"),
    ],
)
def test_refusals(cells, text):
    with refused(f"read_table: expected {text}"):
        column_features(column(cells))


def test_text_with_a_few_numbers_in_it_is_text():
    labels = [f.category for f in column_features(column(["a", "b", "1", "b", "a"]))]
    assert labels == ["1", "a", "b"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a", "b"], True),
        ([True, False], True),
        ([0, 1], True),
        ([1.5, 7.0, 1.5], False),
        (pd.Series([1, 2, 3], dtype="category"), True),
        ([0, 1, 2], False),
        ([1.0, np.inf], False),
        ([1, 1], False),
    ],
)
def test_which_targets_are_classes(cells, expected):
    assert is_classes(column(cells)) is expected


def test_class_labels():
    assert class_labels(column([2.0, 10.0, 1.0]), asked=True) == ("1", "2", "10")
    assert class_labels(column(["b", "a"])) == ("a", "b")
    assert class_labels(column([True, False])) == ("False", "True")
    text = "at least two classes, got only 'True' in column 'c'. Choose another target."
    with refused(f"read_table: expected {text}"):
        class_labels(column([True, True]))
    text = "at least two classes, got only 'a' in column 'c'. Choose another target."
    with refused(f"read_table: expected {text}"):
        class_labels(column(["a", "a"]))
    text = (
        "texts that repeat, got 3 different ones in 3 cells in column 'c'. "
        "If it identifies rows, leave it out with drop='c'."
    )
    with refused(f"read_table: expected {text}"):
        class_labels(column(["a", "b", "c"]))
    assert class_labels(column(["a", "b", "c"]), asked=True) == ("a", "b", "c")


def test_quantities():
    check_quantities(column(["1", 2, True]))
    text = (
        "numbers, got 'a' in row 0 of column 'c'. Correct that cell, or use task='classification'."
    )
    with refused(f"read_table: expected {text}"):
        check_quantities(column(["a", "b"]))


# -- single cells


def test_missing_cells():
    cells = pd.Series(["a", "", "  ", None, np.nan, pd.NA, "nan"], dtype=object)
    assert missing_cells(cells).tolist() == [False, True, True, True, True, True, False]


def test_numbers_beyond_floats_are_infinite_not_lost():
    cells = pd.Series([10**400, -(10**400), 3], dtype=object)
    assert parse_numbers(cells).tolist() == [np.inf, -np.inf, 3.0]


def test_nothing_in_a_cell_is_evaluated():
    cells = pd.Series(["__import__('os')", "1+1", "=1", "0x10", "1_000"])
    assert np.isnan(parse_numbers(cells)).all()


def test_true_and_one_stay_apart_in_mixed_columns():
    column = Column(name="a", cells=pd.Series([True, 1, "a"], dtype=object), call="read_table")
    assert column.texts.tolist() == ["True", "1", "a"]


# -- which columns

KNOWN = ["id", "a", "b", "y"]


def test_choose_columns():
    assert choose_columns(KNOWN, None, call="f") == ([], KNOWN)
    assert choose_columns(KNOWN, "y", ["b", "a"], call="f") == (["y"], ["b", "a"])
    assert choose_columns(KNOWN, ["y", "b"], drop=["id"], call="f") == (["y", "b"], ["a"])
    named = ["Unnamed: 0", "a"]
    assert choose_columns(named, None, "Unnamed: 0", call="f") == ([], ["Unnamed: 0"])
    assert choose_columns(named, None, drop="Unnamed: 0", call="f") == ([], ["a"])


@pytest.mark.parametrize(
    ("known", "arguments", "text"),
    [
        (
            KNOWN,
            {"target": "z"},
            "target among the columns 'id', 'a', 'b', 'y', got 'z'. Name a column of the table.",
        ),
        (
            ["size", "y"],
            {"target": "y", "features": "sise"},
            "features among the columns 'size', 'y', got 'sise'. Did you mean 'size'?",
        ),
        (
            KNOWN,
            {"target": None, "drop": ["a", "none"]},
            "drop among the columns 'id', 'a', 'b', 'y', got 'none'. Name a column of the table.",
        ),
        (
            KNOWN,
            {"target": "y", "features": ["a", "y"]},
            "each column once, as target or as feature, got 'y' twice. Rename it, or name it once.",
        ),
        (
            ["a", "a", "y"],
            {"target": "y"},
            "each column once, as target or as feature, got 'a' twice. Rename it, or name it once.",
        ),
        (
            ["y"],
            {"target": "y"},
            "a feature column beside the target, got columns 'y'. Add one.",
        ),
        (
            ["Unnamed: 0", "y"],
            {"target": "y"},
            "a name for every column, got 'Unnamed: 0'. Name it, or leave it out with "
            "drop='Unnamed: 0', if it holds row numbers.",
        ),
    ],
)
def test_choose_columns_refuses(known, arguments, text):
    with refused(f"f: expected {text}"):
        choose_columns(known, **arguments, call="f")
