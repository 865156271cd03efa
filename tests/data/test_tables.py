"""Tables: files and frames become tensors with names, units and kinds, or one clear line."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from kanlens.cli._model_data import reading_notes
from kanlens.data._schema import Feature, Output, Schema, default_schema
from kanlens.data._source import scan_table
from kanlens.data._table_reader import read_features, read_table
from kanlens.errors import (
    DataError,
    DTypeError,
    FileFormatError,
    InvalidValueError,
    MissingFileError,
)


def refused(error: type[Exception], text: str):
    return pytest.raises(error, match=f"^{re.escape(text)}$")


def make(folder: Path, content: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


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


def test_every_kind_at_once():
    table = read_table(FRAME, target="y", units={"size [mm]": "mm", "y": "kg"})
    colors = ("color=blue", "color=green", "color=red")
    assert table.feature_names == ("size [mm]", *colors, "ok", "new")
    kinds = ["numeric", *["categorical"] * 3, *["binary"] * 2]
    assert [f.kind for f in table.schema.features] == kinds
    assert table.schema.groups == {"color": (1, 2, 3)}
    assert table.schema.features[0].unit == "mm"
    assert table.schema.outputs == (Output(name="y", unit="kg"),)
    assert (table.schema.target, table.schema.task) == ("y", "regression")
    assert (table.source, table.rows) == ("DataFrame", 4)
    expected = [
        [1.5, 0, 0, 1, 1, 0],
        [2.0, 1, 0, 0, 0, 1],
        [3.0, 0, 1, 0, 1, 1],
        [5.0, 0, 0, 1, 1, 0],
    ]
    assert_close(table.x, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)
    assert_close(table.y, torch.tensor([[1.0], [3], [5], [7]], dtype=torch.float64))


def test_the_frame_is_kept_with_all_columns_and_counted_rows():
    before = FRAME.copy(deep=True)
    table = read_table(FRAME, target="y", features="new")
    assert list(table.frame.columns) == list(FRAME.columns)
    assert table.frame.index.tolist() == [0, 1, 2, 3]
    table.frame.iloc[0, 0] = 99.0
    pd.testing.assert_frame_equal(FRAME, before)


def test_choice_of_columns():
    table = read_table(FRAME, target="y", features=["ok", "size [mm]"])
    assert table.feature_names == ("ok", "size [mm]")
    table = read_table(FRAME, target="y", drop="color")
    assert table.feature_names == ("size [mm]", "ok", "new")
    table = read_table(FRAME, target="y", drop=["color", "ok", "new"], categorical="size [mm]")
    assert table.feature_names == tuple(f"size [mm]={v}" for v in ("1.5", "2", "3", "5"))


# -- targets


def test_two_classes_make_one_logit():
    frame = FRAME.assign(y=["no", "yes", "no", "yes"])
    table = read_table(frame, target="y")
    assert table.schema.task == "classification"
    assert table.schema.class_labels == ("no", "yes")
    assert table.schema.outputs == (Output(name="y=yes"),)
    assert_close(table.y, torch.tensor([0, 1, 0, 1]))


def test_more_classes_make_one_logit_each():
    table = read_table(FRAME, target="color")
    assert table.schema.class_labels == ("blue", "green", "red")
    assert table.schema.output_names == ("color=blue", "color=green", "color=red")
    assert_close(table.y, torch.tensor([2, 0, 1, 2]))


@pytest.mark.parametrize(
    ("cells", "labels"), [([0, 1, 1, 0], ("0", "1")), ([True, False] * 2, ("False", "True"))]
)
def test_two_valued_targets_are_classes(cells, labels):
    table = read_table(FRAME.assign(y=cells), target="y")
    assert table.schema.task == "classification"
    assert table.schema.class_labels == labels
    assert table.y.dtype == torch.int64
    table = read_table(FRAME.assign(y=cells), target="y", task="regression")
    assert table.schema.task == "regression"
    assert_close(table.y[:, 0], torch.tensor([float(c) for c in cells], dtype=torch.float64))


def test_coded_classes_must_be_asked_for():
    frame = FRAME.assign(y=[2, 10, 1, 2])
    assert read_table(frame, target="y").schema.task == "regression"
    for options in ({"task": "classification"}, {"categorical": "y"}):
        table = read_table(frame, target="y", **options)
        assert table.schema.class_labels == ("1", "2", "10")
        assert_close(table.y, torch.tensor([1, 2, 0, 1]))


def test_several_targets():
    table = read_table(FRAME, target=["y", "new"], units={"new": "s"})
    assert table.schema.outputs == (Output(name="y"), Output(name="new", unit="s"))
    assert table.schema.target_columns == ("y", "new")
    assert_close(table.y, torch.tensor([[1, 0], [3, 1], [5, 1], [7, 0]], dtype=torch.float64))
    again = read_features(FRAME, table.schema, call="predict")
    assert_close(again.y, table.y)


# -- imputation


def test_imputation_is_stored_and_used_later():
    frame = pd.DataFrame(
        {"a": [1.0, None, 3.0, 8.0], "c": ["u", "v", "w", None], "z": [1, 2, 3, 4]}
    )
    frame.loc[3, "c"] = None
    frame = pd.concat([frame, pd.DataFrame({"a": [4.0], "c": ["w"], "z": [5]})])
    table = read_table(frame, impute="median")
    assert table.x[1, 0] == 3.5
    assert table.x[3, 1:4].tolist() == [0, 0, 1]
    assert [f.imputation for f in table.schema.features] == [3.5, "w", "w", "w", 3.0]
    later = pd.DataFrame({"z": [None], "a": [None], "c": [None]})
    found = read_features(later, table.schema, call="predict")
    assert_close(found.x, torch.tensor([[3.5, 0, 0, 1, 3.0]], dtype=torch.float64))
    assert table.frame["a"].isna().tolist() == [False, True, False, False, False]


def test_missing_cells_of_a_model_that_knows_none_are_refused_with_column_and_count(tmp_path):
    content = "a,c,y\n1,u,1\n\n,v,2\n3,u,3\n,v,4\n5,,5\n"
    schema = default_schema(1, 1, feature_names=["a"])
    text = (
        "predict: expected no missing cells, got 2 in column 'a' (first in row 1 (line 4)). "
        "Drop such rows, or train on a table read with impute='median'."
    )
    with refused(DataError, text):
        read_features(make(tmp_path, content), schema, call="predict")


@pytest.mark.parametrize("impute", [None, "mean"])
def test_rows_without_a_target_are_left_out(tmp_path, impute):
    content = "a,y\n1,\n2,1\n3, \n4,2\nx5,3\n5,3\n"
    text = (
        "read_table: expected a target y in every row, got 2 of 6 without "
        "(first in row 0 (line 2)). These rows are left out."
    )
    with pytest.warns(UserWarning, match=re.escape(text)):
        path = make(tmp_path, content.replace("x5", "9"))
        table = read_table(path, target="y", impute=impute)
    assert table.x[:, 0].tolist() == [2, 4, 9, 5]
    assert table.frame.index.tolist() == [1, 3, 4, 5]
    text = "got 'x5' in row 4 (line 6) of column 'a'"
    with pytest.raises(DataError, match=re.escape(text)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_table(make(tmp_path, content), target="y")
    text = "expected no missing cells, got 2 in column 'y' (first in row 0). Drop such rows."
    with refused(DataError, f"read_table: {text}"):
        read_table(pd.DataFrame({"a": [1, 2], "y": [None, None]}), target="y")


PEOPLE = """\ufeffid;name;bought;price;share;weight;paid\r
1;Ann;31.12.2020;$1.200,50;3%;70,5;yes\r
2;Bob;01.01.2021;$800,00;4%;;no\r
3;Cy;02.01.2021;$75,25;5%;81;yes\r
4;Di;03.01.2021;$12;6%;64,25;\r
"""


def test_tables_as_people_have_them(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE, "utf-8")
    with pytest.warns(UserWarning) as told:
        table = read_table(path, target="paid")
    assert [str(one.message) for one in told] == [
        "read_table: expected a target paid in every row, got 1 of 4 without "
        "(first in row 3 (line 5)). These rows are left out.",
        "read_table: expected columns that describe rows, got a number for each row in 'id'; "
        "3 different texts in 3 cells in 'name'. These columns are left out unless features "
        "names them.",
    ]
    names = ["bought.year", "bought.month", "bought.weekday", "bought.days"]
    assert table.feature_names == (*names, "price", "share", "weight", "weight=missing")
    assert table.x[:, 4:].tolist() == [[1200.5, 3, 70.5, 0], [800, 4, 75.75, 1], [75.25, 5, 81, 0]]
    assert table.x[:, 1].tolist() == [12, 1, 1]
    assert [f.unit for f in table.schema.features[3:6]] == ["d", "$", "%"]
    later = read_features(path, Schema.from_dict(table.schema.to_dict()), call="predict")
    assert_close(later.x[:3], table.x)


def test_commas_beside_decimal_points_are_refused(tmp_path):
    path = make(tmp_path, "a;b;y\n1,5;2.5;1\n2,5;3.5;2\n1,5;4.5;3\n")
    text = (
        "got '1,5' in row 0 (line 2) of column 'a'. Use points for decimals, or pass decimal=','."
    )
    with pytest.raises(DataError, match=re.escape(text)):
        read_table(path, target="y")
    path = make(tmp_path, "a;b;y\n1,5;2;1\n2,5;;2\n1,5;4;3\n")
    assert read_table(path, target="y").x[:, 0].tolist() == [1.5, 2.5, 1.5]


def test_marks_for_missing_cells(tmp_path):
    content = "a,k,y\n?,u,1\n2,?,2\n-999,v,3\n4,u,4\n"
    table = read_table(make(tmp_path, content), target="y", na=["?", -999])
    assert table.feature_names == ("a", "a=missing", "k", "k=missing")
    assert table.x.tolist() == [[3, 1, 0, 0], [2, 0, 0, 1], [3, 1, 1, 0], [4, 0, 0, 0]]
    again = read_features(make(tmp_path, content), table.schema, call="predict")
    assert_close(again.x, table.x)
    scanned = scan_table(make(tmp_path, content), target="y", na=["?", -999])
    assert_close(scanned.read(0, 4).x, table.x)


def test_workbooks(tmp_path):
    FRAME.to_excel(tmp_path / "a.xlsx", index=False)
    assert_close(read_table(tmp_path / "a.xlsx", target="y").x, read_table(FRAME, target="y").x)
    (tmp_path / "b.xlsx").write_bytes((tmp_path / "a.xlsx").read_bytes()[:2000])
    with pytest.raises(FileFormatError, match=r"expected a workbook, got .* in 'b.xlsx'\. The"):
        read_table(tmp_path / "b.xlsx")


@pytest.mark.slow  # takes a while
def test_a_split_learns_from_the_rows_to_train_on_alone():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": np.where(draw.random(60) < 0.2, np.nan, draw.normal(size=60)),
            "k": draw.choice(list("abc"), 60),
            "d": pd.date_range("2020-01-01", periods=60).astype(str),
            "y": draw.normal(size=60),
        }
    )
    for impute in (None, "median"):
        table = read_table(frame, target="y", impute=impute)
        train, test = table.split(0.25, torch.Generator().manual_seed(0))
        other = frame.copy()
        other.loc[test.frame.index, ["a", "k", "d"]] = [1e6, "z", "1999-05-05"]
        altered = read_table(other, target="y", impute=impute)
        with pytest.warns(UserWarning, match="got 15 in 'k'"):
            again, changed = altered.split(0.25, torch.Generator().manual_seed(0))
        assert again.schema == train.schema
        assert torch.equal(again.x, train.x)
        assert not changed.x[:, [train.feature_names.index(f"k={one}") for one in "abc"]].any()


@pytest.mark.slow  # takes a while
def test_a_class_that_occurs_once_is_trained_on():
    frame = pd.DataFrame({"a": range(30), "y": ["u"] * 20 + ["v"] * 9 + ["w"]})
    for seed in range(20):
        train, test = read_table(frame, target="y").split(0.3, torch.Generator().manual_seed(seed))
        assert train.schema.class_labels == ("u", "v", "w")
        assert train.rows + test.rows == 30


# -- refusals


def test_a_cell_that_is_no_number_is_named_with_its_row_and_line(tmp_path):
    path = make(tmp_path, 'a,b\n1,"x\ny"\n2,z\nO,z\n3,z\n')
    text = (
        "read_table: expected numbers, got 'O' in row 2 (line 5) of column 'a'. "
        "Correct that cell, or pass na='O' if it marks a missing cell."
    )
    with refused(DataError, text):
        read_table(path)
    text = (
        "read_table: expected finite numbers in column 'a', got inf in row 1 (line 3). "
        "Correct that cell."
    )
    with refused(DataError, text):
        read_table(make(tmp_path, "a,b\n1,2\ninf,3\n"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": "Y"}, "target among the columns 'size [mm]', 'color', 'ok', 'new', 'y', got"),
        ({"units": {"colour": "nm"}}, "units among the columns 'size [mm]', 'color', 'ok', 'new'"),
        ({"categorical": "colr"}, "categorical among the columns 'size [mm]', 'color', 'ok', 'ne"),
        ({"task": "regresion"}, "task to be one of classification, regression, got 'regresion'. "),
        ({"impute": "zero"}, "impute to be one of mean, median, most_frequent, got 'zero'. Choose"),
        (
            {"target": ["y", "new"], "task": "classification"},
            "one target with classes, got 2 columns. Train one model for each target.",
        ),
        ({"target": None, "task": "classification"}, "one target with classes, got 0 columns. Tra"),
        (
            {"target": ["y", "color"]},
            "numbers, got 'red' in row 0 of column 'color'. Correct that cell, or use "
            "task='classification'.",
        ),
    ],
)
def test_refused_options(options, text):
    error = pytest.raises(
        (DataError, InvalidValueError), match=f"^read_table: expected {re.escape(text)}"
    )
    with error:
        read_table(FRAME, **{"target": "y", **options})


def test_refused_sources(tmp_path):
    text = "read_table: expected a path or a DataFrame, got list. Pass one of these."
    with refused(DTypeError, text):
        read_table([[1, 2]])
    text = "read_table: expected at least one row, got a table without rows, 'a.csv'. Add the data."
    with refused(DataError, text):
        read_table(make(tmp_path, "a,b\n"))
    text = (
        "read_table: expected at least one row, got a table without rows, 'DataFrame'. "
        "Add the data."
    )
    with refused(DataError, text):
        read_table(FRAME.iloc[:0], target="y")
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    text = (
        "read_table: expected columns with one level, got a MultiIndex of 2 levels. "
        "Join the levels of each column to one name."
    )
    with refused(DataError, text):
        read_table(levels)
    path = tmp_path / "none.csv"
    text = f"read_table: expected a file, got no file at {str(path)!r}. Check the path."
    with refused(MissingFileError, text):
        read_table(path)
    with pytest.raises(FileFormatError):
        read_table(make(tmp_path, "a,b\n1,2\n3"))


def test_a_saved_row_number_is_not_a_feature(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv")
    text = "got a number for each row in 'Unnamed: 0'. These columns are left out"
    with pytest.warns(UserWarning, match=text):
        table = read_table(tmp_path / "a.csv", target="y")
    assert_close(table.x, read_table(FRAME, target="y").x)
    kept = read_table(tmp_path / "a.csv", target="y", features=["Unnamed: 0"])
    assert kept.x[:, 0].tolist() == [9, 8, 7, 6]
    text = (
        "read_table: expected a name for every column, got 'Unnamed: 0'. "
        "Name it, or leave it out with drop='Unnamed: 0'."
    )
    with refused(DataError, text):
        read_table(make(tmp_path, ",y\n1.5,2\n2.5,3\n"), target="y")


def test_a_column_named_as_a_category_is_refused():
    frame = FRAME.assign(**{"color=red": [1, 2, 3, 4]})
    text = (
        "read_table: expected distinct names of features, "
        "got 'color=red' twice. Rename one of their columns."
    )
    with refused(DataError, text):
        read_table(frame, target="y")


# -- tables for a trained model


def test_features_by_name_whatever_the_order():
    table = read_table(FRAME, target="y")
    shuffled = FRAME.assign(extra="?")[["extra", "new", "y", "color", "ok", "size [mm]"]]
    found = read_features(shuffled, table.schema, call="predict")
    assert_close(found.x, table.x)
    assert_close(found.y, table.y)
    assert found.schema is table.schema


def test_a_row_of_units_under_the_names_is_recognized(tmp_path):
    frame = pd.DataFrame({"length": ["m", 1.5, 2], "kind": ["", "u", "v"], "y": ["kg", "1", "2"]})
    text = (
        "{}: expected numbers under the column names, got 'm', 'kg' in row 0{}. If these are "
        "units, delete that row."
    )
    with refused(DataError, text.format("read_table", "")):
        read_table(frame, target="y")
    frame.to_csv(tmp_path / "d.csv", index=False)
    with refused(DataError, text.format("read_table", " (line 2)")):
        read_table(tmp_path / "d.csv", target="y")
    with refused(DataError, text.format("scan_table", " (line 2)")):
        scan_table(tmp_path / "d.csv", target="y", progress=False)
    frame.loc[0, "y"] = "3"
    with pytest.raises(DataError, match=r"got 'm' in row 0 of column 'length'\. Correct"):
        read_table(frame, target="y")


def test_numbers_with_a_unit_and_a_decimal_comma(tmp_path):
    (tmp_path / "d.csv").write_text("a;y\n1,5 kg;1\n2,25 kg;3\n1,5 kg;2\n")
    table = read_table(tmp_path / "d.csv", target="y")
    assert table.x[:, 0].tolist() == [1.5, 2.25, 1.5]
    assert reading_notes(table.schema) == ["numbers have a decimal comma; 'a' in kg"]


def test_labels_of_0_and_1_are_two_or_none():
    made = [
        Feature(name="x", column="x", kind=kind, category=category, categories=categories)
        for kind, category, categories in (
            ("numeric", None, ()),
            ("binary", None, ()),
            ("binary", "m", ("f", "m")),
            ("binary", "m", ("m",)),  # by hand: no table is read so
            ("categorical", "a", ("a", "b", "c")),
            ("missing", None, ()),
        )
    ]
    expected = [(), (), ("f", "m"), (), ("no", "yes"), ("no", "yes")]
    assert [feature.levels for feature in made] == expected
