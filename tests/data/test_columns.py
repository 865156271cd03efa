"""What columns are taken for, and what they are refused for."""

import datetime
import decimal
import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kanlens.data._cell_parsing import Column, missing_cells, parse_numbers
from kanlens.data._column_types import (
    class_labels,
    column_features,
    is_classes,
)
from kanlens.data._columns import choose_columns
from kanlens.data._schema import Schema
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
        pd.Series([1, 2, 4], dtype="Int64"),
        pd.Series([2**53, 1, 2], dtype="uint64"),
        pd.Series([1, 2, 3], dtype="float16"),
        [decimal.Decimal("1.5"), decimal.Decimal(2)],
        arrow([1, 2], pa.int64()),
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
    "cells", [[0, 1, 0], [0.0, 1.0], ["0", "1"], pd.Series([0, 1], dtype="Int64")]
)
def test_zeros_and_ones_are_binary_numbers(cells):
    (feature,) = column_features(column(cells))
    assert (feature.name, feature.kind, feature.category) == ("c", "binary", None)


@pytest.mark.parametrize(
    ("cells", "categories"),
    [
        (["yes", "no", "no", "yes"], ("no", "yes")),
        ([True, False], ("False", "True")),
        ([True, True], ("False", "True")),
        (["True", "True", "True"], ("False", "True")),
        (pd.Series([True, True], dtype="boolean"), ("False", "True")),
        (arrow([True, False], pa.bool_()), ("False", "True")),
    ],
)
def test_two_texts_or_truth_values_are_binary(cells, categories):
    (feature,) = column_features(column(cells))
    assert (feature.name, feature.kind) == ("c", "binary")
    assert (feature.category, feature.categories) == (categories[1], categories)


@pytest.mark.parametrize(
    "cells",
    [
        ABC,
        pd.Series(ABC, dtype="category"),
        pd.Series(ABC, dtype="string"),
        pd.Series(ABC, dtype=object),
        arrow(ABC, pa.string()),
        arrow(ABC, pa.dictionary(pa.int32(), pa.string())),
    ],
)
def test_categorical(cells):
    features = column_features(column(cells), unit="u")
    assert [f.name for f in features] == ["c=a", "c=b", "c=c"]
    assert [f.category for f in features] == ["a", "b", "c"]
    assert {(f.column, f.kind, f.categories, f.unit) for f in features} == {
        ("c", "categorical", ("a", "b", "c"), "u")
    }


@pytest.mark.parametrize(
    ("cells", "labels", "words"),
    [
        (["a", "a ", " b", "b", "c", "c"], ("a", "b", "c"), None),
        (
            ["yes"] * 6 + ["Yes", "YES"] + ["no"] * 4 + ["No"],
            ("no", "yes"),
            "'No' read as 'no', 'YES' read as 'yes', 'Yes' read as 'yes'",
        ),
        (["m"] * 3 + ["M"] * 2 + ["k"], ("M", "k", "m"), "'M', 'm' as separate categories"),
        (
            ["TP53", "Tp53"] * 3 + ["MYC"] * 4 + ["Myc"],
            ("MYC", "TP53", "Tp53"),
            "'Myc' read as 'MYC', 'TP53', 'Tp53' as separate categories",
        ),
    ],
)
def test_spellings_of_a_text_are_one_label_where_one_is_usual(cells, labels, words, recwarn):
    text = (
        f"read_table: expected one spelling of each text in 'c', got {words}. Spell texts of the "
        "same meaning alike."
    )
    features = column_features(column(cells))
    assert features[0].categories == labels
    assert [str(one.message) for one in recwarn] == ([] if words is None else [text])
    assert class_labels(column(cells)) == labels
    schema = Schema(features=features, outputs=())
    frame = pd.DataFrame({"c": cells})
    coded = frame.assign(c=frame["c"].str.strip().replace({"Yes": "yes", "YES": "yes"}))
    coded = coded.replace({"c": {"No": "no", "Myc": "MYC"}})
    np.testing.assert_array_equal(
        schema.encode(frame, call="f"), schema.encode(coded, call="predict")
    )


@pytest.mark.filterwarnings("ignore:.*as separate categories")
def test_a_spelling_that_training_did_not_have_is_the_label_it_is_of():
    features = column_features(column(["yes", "no", "no", "yes"]))
    schema = Schema(features=features, outputs=())
    frame = pd.DataFrame({"c": ["YES", " yes", "No ", "NO"]})
    assert schema.encode(frame, call="f")[:, 0].tolist() == [1, 1, 0, 0]
    target = Schema(
        features=(), outputs=(), task="classification", class_labels=("no", "yes"), target="c"
    )
    assert target.encode_target(frame["c"], call="f").tolist() == [1, 1, 0, 0]
    with pytest.warns(UserWarning, match="'Yess'"):
        schema.encode(pd.DataFrame({"c": ["Yess"]}), call="f")
    stay = Schema(features=column_features(column(["m", "M", "k"] * 2)), outputs=())
    assert stay.encode(pd.DataFrame({"c": ["m", "M", "K"]}), call="f").tolist() == [
        [0, 0, 1],
        [1, 0, 0],
        [0, 1, 0],
    ]


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


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ([1.5, None, 4], ["c", "c=missing"]),
        (["yes", " ", "no"], ["c", "c=missing"]),
        ([*ABC, None], ["c=a", "c=b", "c=c", "c=missing"]),
        (["missing", "b", "a", "a", ""], ["c=a", "c=b", "c=missing", "c=(missing)"]),
        (["2020-01-31", None, "2020-02-01"], ["c.month", "c.weekday", "c.days", "c=missing"]),
    ],
)
def test_missing_cells_have_a_feature_of_their_own(cells, names):
    features = column_features(column(cells))
    assert [one.name for one in features] == names
    assert [one.kind == "missing" for one in features] == [*[False] * (len(names) - 1), True]
    assert {one.column for one in features} == {"c"}
    assert len(column_features(column(cells), impute="median")) == len(names) - 1


def test_whole_numbers_that_floats_round_are_told():
    text = (
        "read_table: expected whole numbers up to 2**53, got 9223372036854775808 in column 'c'. "
        "They are rounded; if they identify rows, leave the column out."
    )
    with pytest.warns(UserWarning, match=re.escape(text)):
        column_features(column(pd.Series([2**63, 1, 2], dtype="uint64")))


@pytest.mark.parametrize(
    ("cells", "decimal", "numbers"),
    [
        (["1,234.5", "1,000,000", "-12,345"], ".", [1234.5, 1e6, -12345]),
        (["$3.50", "-$1,000", "$ -2", "€4"], ".", [3.5, -1000, -2, 4]),
        (["3%", "4.5 %", ".5%", "1e-3%"], ".", [3, 4.5, 0.5, 1e-3]),
        (["\u22123.5", "$\u22122", "1e\u22122", "4"], ".", [-3.5, -2, 1e-2, 4]),
        (["12 kg", "1.5kg", "-3 kg", "1,000 kg"], ".", [12, 1.5, -3, 1000]),
        (["12,5 kg", "1.000 kg"], ",", [12.5, 1000]),
        (["EUR 12", "-EUR 3", "?"], ".", [12, -3, np.nan]),
        (["1'000.5", "2\u202f000", "3 000", "+7"], ".", [1000.5, 2000, 3000, 7]),
        (["3,5", "1.234,5", "-,25", "12"], ",", [3.5, 1234.5, -0.25, 12]),
        (["1.234", "1.234.567", 2.5], ",", [1234, 1234567, 2.5]),
        (["1,23", "12,3456", "1,2345", "1 23", "--1", "$", "%", "5 $ %", "1,000.5,1"], ".", None),
        (["1.5", "1,5,5", "1,234.5"], ",", None),
    ],
)
def test_numbers_as_people_write_them(cells, decimal, numbers):
    values = parse_numbers(pd.Series(cells, dtype=object), decimal)
    if numbers is None:
        assert np.isnan(values).all()
    else:
        np.testing.assert_array_equal(values, numbers)


@hypothesis.given(
    st.floats(-1e12, 1e12).map(lambda value: round(value, 3)), st.sampled_from([".", ","])
)
def test_grouped_numbers_are_what_they_were_written_from(value, decimal):
    text = f"{value:,.3f}"
    if decimal == ",":
        text = text.translate(str.maketrans(",.", ".,"))
    assert parse_numbers(pd.Series([text]), decimal)[0] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("cells", "unit"),
    [
        (["$3", "$4.5"], "$"),
        (["3 %", "4%"], "%"),
        (["$3", "4"], ""),
        ([1], ""),
        (["12 kg", "1.5kg", None, "1,000 kg", "-3 kg"], "kg"),
        (["EUR 12", "EUR-13.5"], "EUR"),
        (["12 EUR", "13 EUR", "12 EUR"], "EUR"),
        (["3 km/h", "4km/h"], "km/h"),
        (["1.5 °C", "\u22122 °C"], "°C"),
        (["1e3 m2", "2 m2"], "m2"),
    ],
)
def test_a_sign_that_all_cells_have_is_the_unit(cells, unit):
    assert column_features(column(cells))[0].unit == unit
    assert column_features(column(cells), unit="own")[0].unit == "own"


@pytest.mark.parametrize(
    ("cells", "parts", "rows"),
    [
        (
            ["2020-01-31", "2021-01-31"],
            ["year", "weekday", "days"],
            [[2020, 4, 18292], [2021, 6, 18658]],
        ),
        (["31/1/2020", "1/2/2020"], ["month", "weekday", "days"], [[1, 4, 18292], [2, 5, 18293]]),
        (["1/31/2020", "2/1/2020"], ["month", "weekday", "days"], [[1, 4, 18292], [2, 5, 18293]]),
        (["3.1.2020", "4.1.2020"], ["weekday", "days"], [[4, 18264], [5, 18265]]),
        (["3.1.2020", "2020-01-04"], ["weekday", "days"], [[4, 18264], [5, 18265]]),
        (["31/1/2020", " 2020/2/1"], ["month", "weekday", "days"], [[1, 4, 18292], [2, 5, 18293]]),
        (["3/1/2020", "4/1/2020"], ["month", "weekday", "days"], [[3, 6, 18322], [4, 2, 18353]]),
        (
            ["2020-01-31T06:00", "2020-01-31 18:30"],
            ["hour", "days"],
            [[6, 18292.25], [18.5, 18292 + 18.5 / 24]],
        ),
        (["2020-01", "2020-03"], ["month", "weekday", "days"], [[1, 2, 18262], [3, 6, 18322]]),
        (
            ["1 Jan 2020", "2 Feb 2020"],
            ["month", "weekday", "days"],
            [[1, 2, 18262], [2, 6, 18294]],
        ),
        (
            ["Jan 2, 2020", "Feb 2, 2020"],
            ["month", "weekday", "days"],
            [[1, 3, 18263], [2, 6, 18294]],
        ),
        (pd.to_datetime(["2020-01-01"] * 2), ["days"], [[18262]] * 2),
        (
            pd.to_datetime(["2020-01-01", "2020-01-02"], utc=True),
            ["weekday", "days"],
            [[2, 18262], [3, 18263]],
        ),
        (
            pd.period_range("2020-01", periods=2, freq="M"),
            ["month", "weekday", "days"],
            [[1, 2, 18262], [2, 5, 18293]],
        ),
        (
            [datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 3, 12)],
            ["weekday", "hour", "days"],
            [[3, 0, 18263], [4, 12, 18264.5]],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*month first")
def test_dates(cells, parts, rows):
    frame = pd.DataFrame({"c": pd.Series(cells)})
    features = column_features(column(cells))
    assert [one.part for one in features] == parts
    assert {one.kind for one in features} == {"date"}
    schema = Schema(features=features, outputs=())
    np.testing.assert_allclose(schema.encode(frame, call="f"), rows, rtol=1e-12)


def test_dates_that_may_begin_with_either_are_told():
    text = (
        "read_table: expected dates with one order of day and month, got ambiguous ones in column "
        "'c', read with the month first. Write them as 2021-04-03."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        column_features(column(["3/4/2021", "5/6/2021"]))


CONVERT = "Convert the column, or leave it out with drop='c'."
CORRECT = "Correct that cell, or pass na='x' if it marks a missing cell."


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ([None, None], "values, got column 'c'. Fill it, or leave it out with drop='c'."),
        (["", " "], "values, got column 'c'. Fill it, or leave it out with drop='c'."),
        ([1, "x", 2], f"numbers, got 'x' in row 1 of column 'c'. {CORRECT}"),
        (["1", "x"], f"numbers, got 'x' in row 1 of column 'c'. {CORRECT}"),
        (
            ["1,5", "2,5", "2", "1,75"],
            "numbers, got '1,5' in row 0 of column 'c'. Use points for decimals, or pass "
            "decimal=','.",
        ),
        (
            ["3%", "0.05", "0"],
            "numbers in % as in the other cells, got '0.05' in row 1 of column 'c'. "
            "Write the same sign in all cells or in none.",
        ),
        (
            ["$3", "4", "€5"],
            "numbers in $ as in the other cells, got '€5' in row 2 of column 'c'. "
            "Write the same sign in all cells or in none.",
        ),
        (
            ["12 kg", "500 g", "3 kg"],
            "numbers in one unit, got 'g', 'kg' in column 'c'. Convert the column, or leave it out "
            "with drop='c'.",
        ),
        (
            ["12 kg", "13", "14 kg", "15 kg"],
            "numbers in kg as in the other cells, got '13' in row 1 of column 'c'. "
            "Write the same sign in all cells or in none.",
        ),
        (
            ["12 kg", "15 kg", "13 kg", "unknown"],
            "numbers, got 'unknown' in row 3 of column 'c'. Correct that cell, or pass "
            "na='unknown' if it marks a missing cell.",
        ),
        (
            ["28.02.2021", "31.02.2021", "01.03.2021"],
            "dates, got '31.02.2021' in row 1 of column 'c'. '31.02.2021' does not exist; correct "
            "it, or pass na='31.02.2021' if it marks a missing cell.",
        ),
        (
            ["13/02/2021", "3/4/2021", "02/13/2021"],
            "dates with one order of day and month, got '02/13/2021' in row 2 of column 'c'. Write "
            "them as 2021-04-03.",
        ),
        (
            ["a", "b", None, "c"],
            "a categorical column: at most 100 distinct texts, some occurring more than once, "
            "got 3 different texts in 3 cells in column 'c'. "
            "If it identifies rows, leave it out with drop='c'.",
        ),
        (
            [f"t{i}" for i in range(101)] * 2,
            "a categorical column: at most 100 distinct texts, some occurring more than once, "
            "got 101 distinct texts in column 'c'. "
            "If it identifies rows, leave it out with drop='c'.",
        ),
        (
            pd.to_timedelta([1], unit="s"),
            f"numbers or text, got Timedelta('0 days 00:00:01') in row 0 of column 'c'. {CONVERT}",
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


@pytest.mark.parametrize(
    "cells",
    [
        ["3a", "3b", "4a"] * 3,
        ["1 year", "2 years", "3 years"] * 3,
        ["A1", "A2", "A1"],
        ["a", "b", "1", "b", "a"],
    ],
)
def test_levels_with_numbers_in_them_stay_levels(cells):
    assert column_features(column(cells))[0].categories == tuple(sorted(set(cells)))


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
    assert class_labels(column([2.0, 10.0, 1.0]), declared=True) == ("1", "2", "10")
    assert class_labels(column(["b", "a"])) == ("a", "b")
    assert class_labels(column([True, False])) == ("False", "True")
    text = "at least two classes, got only 'True' in column 'c'. Choose another target."
    with refused(f"read_table: expected {text}"):
        class_labels(column([True, True]))
    text = "at least two classes, got only 'a' in column 'c'. Choose another target."
    with refused(f"read_table: expected {text}"):
        class_labels(column(["a", "a"]))
    text = (
        "a categorical column: at most 100 distinct texts, some occurring more than once, "
        "got 3 different texts in 3 cells in column 'c'. "
        "If it identifies rows, leave it out with drop='c'."
    )
    with refused(f"read_table: expected {text}"):
        class_labels(column(["a", "b", "c"]))
    assert class_labels(column(["a", "b", "c"]), declared=True) == ("a", "b", "c")


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
            "a feature besides the target, got columns 'y'. Add or name a feature column.",
        ),
    ],
)
def test_choose_columns_refuses(known, arguments, text):
    with refused(f"f: expected {text}"):
        choose_columns(known, **arguments, call="f")
