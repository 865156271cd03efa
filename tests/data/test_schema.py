"""Schemas: from columns to features, there and back, and the refusals."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from kanlens.data._schema import Feature, Output, Schema, choices, default_schema
from kanlens.data._table_reader import read_table
from kanlens.errors import DataError, InvalidValueError


def refused(error: type[Exception], text: str):
    return pytest.raises(error, match=f"^{re.escape(text)}$")


def colors(imputation: str | None = None) -> tuple[Feature, ...]:
    names = ("blue", "green", "red")
    return tuple(
        Feature(
            name=f"color={name}",
            column="color",
            kind="categorical",
            category=name,
            categories=names,
            imputation=imputation,
        )
        for name in names
    )


SCHEMA = Schema(
    features=(
        Feature(name="size", column="size", unit="mm", imputation=2.5),
        *colors("red"),
        Feature(
            name="ok", column="ok", kind="binary", category="True", categories=("False", "True")
        ),
    ),
    outputs=(Output(name="y", unit="kg"),),
    target="y",
)
FRAME = pd.DataFrame(
    {"ok": [True, False], "extra": ["?", "?"], "color": ["green", None], "size": ["7", None]}
)


def test_encode_by_name_with_imputation():
    expected = [[7.0, 0, 1, 0, 1], [2.5, 0, 0, 1, 0]]
    found = SCHEMA.encode(FRAME, call="predict")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_encode_leaves_the_frame_alone():
    before = FRAME.copy(deep=True)
    SCHEMA.encode(FRAME, call="predict")
    pd.testing.assert_frame_equal(FRAME, before)


def test_encode_takes_columns_that_are_one_hot_already():
    frame = pd.DataFrame({"size": [1], "ok": [0], "color=red": [1]})
    frame["color=blue"] = frame["color=green"] = 0
    found = SCHEMA.encode(frame, call="predict")
    np.testing.assert_array_equal(found, [[1.0, 0, 0, 1, 0]])


def test_encode_of_no_features_and_of_no_rows():
    none = Schema(features=(), outputs=())
    assert none.encode(FRAME, call="predict").shape == (2, 0)
    assert SCHEMA.encode(FRAME.iloc[:0], call="predict").shape == (0, 5)


def test_encode_knows_columns_named_by_numbers():
    schema = default_schema(2, 1, feature_names=["0", "1"])
    found = schema.encode(pd.DataFrame([[1.0, 2.0]]), call="predict")
    np.testing.assert_array_equal(found, [[1.0, 2.0]])


@pytest.mark.parametrize("cells", [["1", "0"], [1, 0], [1.0, 0.0], ["True", "False"]])
def test_truth_values_may_be_written_as_zero_and_one(cells):
    schema = SCHEMA.select([4])
    found = schema.encode(pd.DataFrame({"ok": cells}), call="predict")
    np.testing.assert_array_equal(found, [[1.0], [0.0]])


@pytest.mark.parametrize(
    ("column", "cells", "text"),
    [
        ("size", ["7", "x"], "numbers in column 'size', got 'x' in row 1. Correct that cell."),
        (
            "size",
            [1.0, -np.inf],
            "finite numbers in column 'size', got -inf in row 1. Correct that cell.",
        ),
        (
            "size",
            pd.to_datetime(["2020-01-01", "2020-01-02"]),
            "numbers in column 'size', got Timestamp('2020-01-01 00:00:00') in row 0. "
            "Correct that cell.",
        ),
    ],
)
def test_encode_refuses_cells(column, cells, text):
    with refused(DataError, f"predict: expected {text}"):
        SCHEMA.encode(FRAME.assign(**{column: cells}), call="predict")


@pytest.mark.parametrize(
    ("column", "cells", "row", "text"),
    [
        ("color", ["red", "pink"], 1, "1 in 'color' ('pink'), as none of the known categories"),
        ("ok", [True, None], 1, "1 missing in 'ok', as 'False'"),
        ("ok", [2, 1], 0, "1 in 'ok' ('2'), as 'False'"),
        ("ok", [7, "x"], 0, "2 in 'ok' ('7', 'x'), as 'False'"),
    ],
)
def test_unseen_and_missing_cells_are_told_and_count_as_no_category(column, cells, row, text):
    expected = (
        f"predict: expected cells like those of training, got {text}. "
        "Train again with such rows where they matter."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(expected)}$"):
        x = SCHEMA.encode(FRAME.assign(**{column: cells}), call="predict")
    picks = [k for k, one in enumerate(SCHEMA.features) if one.column == column]
    assert not x[row, picks].any()


def test_missing_numbers_take_the_median_or_their_own_level():
    read = pd.DataFrame({"a": [1.0, 2.0, 9.0, 2.5], "b": [1.0, None, 4.0, 3.0], "k": list("aab ")})
    schema = read_table(read.assign(c=["u", "v", "w", "w"])).schema
    assert schema.feature_names == ("a", "b", "b=missing", "k", "k=missing", "c=u", "c=v", "c=w")
    assert schema.groups == {"b": (1, 2), "k": (3, 4), "c": (5, 6, 7)}
    new = pd.DataFrame({"a": [None, 3], "b": [None, 7], "k": ["", "b"], "c": ["v", " "]})
    text = "got 1 missing in 'a', as 2.25; 1 missing in 'c', as none of the known categories. Train"
    with pytest.warns(UserWarning, match=re.escape(text)):
        x = schema.encode(new, call="predict")
    rows = [[2.25, 3, 1, 0, 1, 0, 1, 0], [3, 7, 0, 1, 0, 0, 0, 0]]
    np.testing.assert_array_equal(x, rows)


def test_missing_cells_are_known_to_a_model_without_their_mark():
    frame = pd.DataFrame(
        {
            "size": [1.0, 2.0, None, 4.0, 5.0],
            "kind": ["a", "b", None, "c", "a"],
            "new": ["no", "yes", None, "no", "yes"],
            "day": ["2020-01-01", None, "2020-02-03", "2021-04-05", "2021-01-01"],
        }
    )
    table = read_table(frame)
    keep = [k for k, one in enumerate(table.schema.features) if one.kind != "missing"]
    schema = table.schema.select(keep)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    np.testing.assert_array_equal(schema.encode(frame, call="f"), table.x.numpy()[:, keep])
    with pytest.warns(UserWarning, match="1 in 'kind' \\('d'\\), as none of the known"):
        schema.encode(frame.assign(kind=list("abcda")), call="f")


def test_choices_of_a_column_with_missing_cells():
    frame = pd.DataFrame({"k": ["a", "b", "c", None] * 2, "s": ["u", "v", "", "u"] * 2})
    schema = read_table(frame).schema
    assert choices(schema.features[:4]) == (("a", "b", "c", "missing"), np.eye(4).tolist())
    assert choices(schema.features[4:]) == (("u", "v", "missing"), [[0, 0], [1, 0], [0, 1]])


def test_encode_refuses_missing_and_repeated_columns():
    text = (
        "predict: expected a column 'size', got columns 'ok', 'extra', 'color', 'sise'. "
        "Add it, or rename 'sise'."
    )
    with refused(DataError, text):
        SCHEMA.encode(FRAME.rename(columns={"size": "sise"}), call="predict")
    text = "predict: expected a column 'size', got columns 'ok'. Add it."
    with refused(DataError, text):
        SCHEMA.encode(FRAME[["ok"]], call="predict")
    twice = pd.concat([FRAME, FRAME[["size"]]], axis=1)
    text = "predict: expected one column 'size', got 2. Rename or drop one."
    with refused(DataError, text):
        SCHEMA.encode(twice, call="predict")


def test_a_long_cell_and_a_long_header_stay_one_short_line():
    frame = FRAME.assign(size=["7", "long\n" * 1000])
    with pytest.raises(DataError) as caught:
        SCHEMA.encode(frame, call="predict")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)
    wide = pd.DataFrame(0, index=[0], columns=[f"c{i}" for i in range(99)])
    with refused(
        DataError,
        "predict: expected a column 'size', got columns 'c0', 'c1', 'c2', 'c3', 'c4', 'c5', "
        "'c6', 'c7', .... Add it.",
    ):
        SCHEMA.encode(wide, call="predict")


# -- targets


def classes(*labels: str) -> Schema:
    return Schema(features=(), outputs=(), target="t", task="classification", class_labels=labels)


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ("abc", ["b", "a", "c"]),
        ("abc", np.array(["b", "a", "c"])),
        ("abc", pd.Series(["b", "a", "c"], dtype="category")),
        ("abc", pd.DataFrame({"t": ["b", "a", "c"]})),
        ("123", [2.0, 1.0, 3.0]),
        ("123", torch.tensor([2, 1, 3])),
        ("123", ["2", "1", "3"]),
    ],
)
def test_class_codes(labels, values):
    codes = classes(*labels).encode_target(values, call="fit")
    assert codes.dtype == np.int64
    assert codes.tolist() == [1, 0, 2]


def test_class_codes_refuse():
    text = (
        "fit: expected only 'a', 'b' in target 't', got 'z' in row 1. "
        "Correct it, or train with that class."
    )
    with refused(DataError, text):
        classes("a", "b").encode_target(["a", "z"], call="fit")
    text = "fit: expected no missing cells, got 2 in column 't' (first in row 1). Drop such rows."
    with refused(DataError, text):
        classes("a", "b").encode_target(["a", None, " "], call="fit")


def test_regression_targets_keep_their_axes():
    one = default_schema(1, 1)
    assert one.encode_target(["1.5", 2], call="fit").tolist() == [1.5, 2.0]
    assert one.encode_target(np.zeros((3, 1)), call="fit").shape == (3, 1)
    two = default_schema(1, 2)
    found = two.encode_target(pd.DataFrame({"a": [1, 2], "b": ["3", "4"]}), call="fit")
    np.testing.assert_array_equal(found, [[1.0, 3.0], [2.0, 4.0]])


def test_regression_targets_refuse():
    text = "fit: expected 2 target columns, got 3. Give one column for each output."
    with refused(DataError, text):
        default_schema(1, 2).encode_target(np.zeros((2, 3)), call="fit")
    text = "fit: expected finite numbers in column 'y2', got inf in row 1. Correct that cell."
    with refused(DataError, text):
        default_schema(1, 2).encode_target(np.array([[1, 2], [3, np.inf]]), call="fit")


def test_target_columns():
    assert default_schema(1, 2).target_columns == ()
    assert SCHEMA.target_columns == ("y",)
    assert classes("a", "b", "c").target_columns == ("t",)
    outputs = (Output(name="u"), Output(name="v"))
    assert Schema(features=(), outputs=outputs, target="u, v").target_columns == ("u", "v")


# -- the schema itself


def test_names_groups_and_selection():
    assert SCHEMA.feature_names == ("size", "color=blue", "color=green", "color=red", "ok")
    assert SCHEMA.output_names == ("y",)
    assert SCHEMA.groups == {"color": (1, 2, 3)}
    kept = SCHEMA.select([4, 1])
    assert kept.feature_names == ("ok", "color=blue")
    assert kept.groups == {}
    assert kept.target == "y"
    np.testing.assert_array_equal(kept.encode(FRAME, call="predict"), [[1, 0], [0, 0]])


@pytest.mark.parametrize("schema", [SCHEMA, classes("a", "b"), default_schema(3, 2)])
def test_dict_roundtrip_through_json(schema):
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_wrong_names_are_refused():
    text = "KAN: expected 2 feature_names, got 1. Name each one once."
    with refused(InvalidValueError, text):
        default_schema(2, 1, feature_names=["a"])
    text = "KAN: expected distinct output_names, got 'a' more than once. Rename one."
    with refused(InvalidValueError, text):
        default_schema(1, 2, output_names=["a", "a"])


@pytest.mark.parametrize(
    ("kept", "labels", "codes"),
    [
        ("abcd", ("a", "b", "c", "d"), np.eye(4).tolist()),
        ("bd", ("a, c", "b", "d"), [[0, 0], [1, 0], [0, 1]]),
        ("c", ("all others", "c"), [[0], [1]]),
    ],
)
def test_categories_without_a_feature_are_one_choice(kept, labels, codes):
    shared = {"kind": "categorical", "column": "k", "categories": tuple("abcd")}
    features = [Feature(name=f"k={one}", category=one, **shared) for one in kept]
    assert choices(features) == (labels, codes)


def read_column(cells: list, trained: list) -> np.ndarray:
    """Return cells as a model reads them that was trained on a column."""
    frame = pd.DataFrame({"share": trained, "other": range(len(trained))})
    schema = read_table(frame).schema
    return schema.encode(pd.DataFrame({"share": cells, "other": 0}), call="predict")[:, 0]


PERCENT, FRACTIONS = ["5%", "51.2%", "80%", "64%"], [0.05, 0.512, 0.8, 0.64]


@pytest.mark.parametrize(
    ("cells", "trained", "values"),
    [
        (["51.2%", "7%"], PERCENT, [51.2, 7]),
        ([51.2, 7.0], PERCENT, [51.2, 7]),
        ([0.9, 7.0], PERCENT, [0.9, 7]),
        (["51.2%", "7%"], FRACTIONS, [0.512, 0.07]),
        (["51.2%"], [5.0, 51.2, 80.0], [51.2]),
        (["0.4%", "0.2%"], ["0.1%", "0.3%", "0.5%"], [0.4, 0.2]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_percentages_are_read_as_in_training(cells, trained, values):
    np.testing.assert_allclose(read_column(cells, trained), values, rtol=1e-12)


def test_numbers_like_fractions_in_a_column_of_percentages_are_told():
    text = (
        "predict: expected percentages, got numbers that look like fractions (0.512) in "
        "column 'share'. This is read as 0.512%; multiply by 100 if it is a fraction."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        assert read_column([0.512, 0.7], PERCENT).tolist() == [0.512, 0.7]


def test_cells_in_another_unit_than_in_training_are_refused():
    trained = ["12 kg", "13 kg", "15 kg"]
    assert read_column(["7 kg"], trained).tolist() == read_column([7], trained).tolist() == [7.0]
    text = (
        "predict: expected numbers in kg, got '7 g' in row 0 of column 'share'. Convert the units."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        read_column(["7 g"], trained)
