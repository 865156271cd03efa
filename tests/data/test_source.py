"""Sources: what is read in blocks is what the whole table says, wherever the rows come from."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from kanlens._resources import memory_limit
from kanlens._runtime import unfinished
from kanlens.data import _profile as profile
from kanlens.data import _row_readers as row_readers
from kanlens.data import _source as source
from kanlens.data._source import is_large, scan_features, scan_table
from kanlens.data._table_reader import read_features, read_table
from kanlens.errors import (
    DataError,
    DTypeError,
    FileFormatError,
    InvalidValueError,
    KanlensError,
    MissingFileError,
    OutputError,
)

ROWS = 60


def make(rows=ROWS, seed=0):
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": draw.normal(size=rows),
            "flag": draw.integers(0, 2, rows),
            "color": draw.choice(["red", "green", "blue"], rows),
            "ok": draw.choice([True, False], rows),
            "gap": np.where(draw.random(rows) < 0.3, np.nan, draw.normal(size=rows)),
            "code": draw.integers(0, 5, rows),
            "y": draw.normal(size=rows),
        }
    )
    frame.loc[3:9, "color"] = None
    return frame


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(row_readers, "GROUP", 7)
    monkeypatch.setattr(source, "GROUP", 7)


def folder(path, frame, parts=3):
    path.mkdir()
    (path / "_SUCCESS").touch()
    for index, rows in enumerate(np.array_split(np.arange(len(frame)), parts)):
        frame.iloc[rows].to_parquet(path / f"part-{index}.parquet", row_group_size=11)
    return path


def every_kind(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv.gz", index=False, sep="\t")
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=13)
    parts = [frame.iloc[i : i + 17] for i in range(0, len(frame), 17)]
    files = [tmp_path / name for name in ("t.csv", "t.tsv.gz", "t.parquet")]
    return [frame, *files, folder(tmp_path / "t", frame), parts, iter(parts)]


@pytest.mark.slow  # reads a table in every way
@pytest.mark.parametrize("impute", ["median", "mean"])
def test_every_source_is_the_table_it_stands_for(tmp_path, impute):
    frame = make()
    how = {"target": "y", "impute": impute, "categorical": "code", "units": {"size": "mm"}}
    table = read_table(frame, **how)
    for one in every_kind(tmp_path, frame):
        found = scan_table(one, **how)
        for ours, theirs in zip(found.schema.features, table.schema.features, strict=True):
            if isinstance(theirs.imputation, float):
                assert abs(ours.imputation - theirs.imputation) < 1e-12
                assert ours == type(ours)(**{**vars(theirs), "imputation": ours.imputation})
            else:
                assert ours == theirs
        assert found.schema.outputs == table.schema.outputs
        batches = list(found.batches(8))
        assert [len(batch.x) for batch in batches] == [8] * 7 + [4]
        assert_close(torch.cat([batch.x for batch in batches]), table.x, atol=1e-12, rtol=0)
        assert_close(torch.cat([batch.y for batch in batches]), table.y, atol=0, rtol=0)


@pytest.mark.slow  # takes a while
@given(
    cells=st.lists(
        st.sampled_from([0, 1, 2.5, "a", "b", "0", None, True, "x y", "1", float("inf")]),
        min_size=1,
        max_size=12,
    ),
    coded=st.booleans(),
    impute=st.sampled_from([None, "median", "mean", "most_frequent"]),
)
@pytest.mark.filterwarnings("ignore:.*(left out|2\\*\\*53)")
def test_columns_are_the_same_kind_as_of_a_table(cells, coded, impute):
    frame = pd.DataFrame({"a": pd.Series(cells, dtype=object), "b": range(len(cells))})
    how = {"impute": impute, "categorical": ["a"] if coded else ()}
    try:
        expected = read_table(frame, **how).schema
    except KanlensError as error:  # what blocks refuse is refused when they are read
        with pytest.raises(type(error)) as found:
            scan_table(frame, **how).table(call="x")
        assert str(found.value).replace("scan_table", "read_table") == str(error)
        return
    assert scan_table(frame, **how).schema == expected


def test_classes_are_found_over_all_blocks(tmp_path):
    frame = make().drop(columns=["gap", "color"]).assign(kind=["a"] * 50 + ["b"] * 5 + ["c"] * 5)
    found = scan_table(folder(tmp_path / "t", frame), target="kind")
    assert found.schema == read_table(frame, target="kind").schema
    assert torch.cat([one.y for one in found.batches(9)]).tolist() == [0] * 50 + [1] * 5 + [2] * 5


def test_numbers_that_are_text_further_down_are_text(tmp_path):
    cells = [*map(str, range(10, 30)), *"abcd" * 10, "007"]
    pd.DataFrame({"a": cells, "y": 1.5}).to_csv(tmp_path / "t.csv", index=False)
    read = read_table(tmp_path / "t.csv", target="y", categorical="a")
    assert scan_table(tmp_path / "t.csv", target="y", categorical="a").schema == read.schema
    assert "a=007" in read.feature_names


def test_partitions_become_columns(tmp_path):
    for year, place in ((2020, "north"), (2021, "east"), (2022, "west")):
        part = tmp_path / "t" / f"year={year}" / f"place={place}"
        part.mkdir(parents=True)
        make(3, year).drop(columns=["color", "gap"]).to_parquet(part / "a.parquet")
    found = scan_table(tmp_path / "t", target="y", features=["size", "year", "place"])
    assert found.schema.features[2].categories == ("east", "north", "west")
    x = torch.cat([one.x for one in found.batches(4)])
    assert x[:, 1].tolist() == [2020.0] * 3 + [2021.0] * 3 + [2022.0] * 3
    assert x[:, 3].tolist() == [1.0] * 3 + [0.0] * 6


def test_rows_are_taken_from_any_place_and_named_when_they_cannot_be_read(tmp_path):
    frame = make().assign(code=np.arange(ROWS, dtype=float))
    path = folder(tmp_path / "t", frame)
    found = scan_table(path, target="y", features=["code", "size"])
    assert found.take([0, 20, 59]).x[:, 0].tolist() == [0, 20, 59]
    assert found.sample(5).x[:, 0].tolist() == [0, 15, 30, 44, 59]
    ends = found.sample(2, extremes=True).x
    for column in (0, 1):
        assert ends[:, column].min() == frame[["code", "size"]].to_numpy()[:, column].min()
        assert ends[:, column].max() == frame[["code", "size"]].to_numpy()[:, column].max()
    assert found.read(19, 23).x[:, 0].tolist() == [19, 20, 21, 22]
    for wrong in ([3, 2], [-1], [60], []):
        with pytest.raises(InvalidValueError, match=r"^Source\.take: expected increasing row"):
            found.take(wrong)
    frame.loc[45, "size"] = np.inf
    folder(tmp_path / "u", frame)
    bad = scan_table(tmp_path / "u", target="y", features=["size"])
    refused = r"^scan_table: expected finite numbers in column 'size', got inf in row 5 of part-2"
    with pytest.raises(DataError, match=refused):
        bad.read(40, 50)
    with pytest.raises(DataError, match=refused):
        bad.take([3, 45])
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"got inf in row 45 \(line 47\)\."):
        scan_table(tmp_path / "t.csv", target="y", features=["size"]).read(40, 50)


def test_rows_for_a_model_are_found_by_its_schema(tmp_path):
    frame = make().drop(columns=["gap", "color"])
    schema = read_table(frame, target="y").schema
    path = folder(tmp_path / "t", frame[["y", "code", "ok", "flag", "size"]].assign(more=1))
    found = scan_features(path, schema, call="predict")
    assert_close(found.read(5, 30).x, read_features(frame, schema, call="predict").x[5:30])
    assert "more" not in found.columns
    with pytest.raises(DataError, match=r"^predict: expected a column 'size', got columns 'y'"):
        scan_features(frame[["y"]], schema, call="predict")


def test_files_that_differ_are_refused(tmp_path):
    path = folder(tmp_path / "t", make())
    make(5).assign(size="big").to_parquet(path / "part-9.parquet")
    with pytest.raises(
        DataError,
        match=r"the same types in every file, got other types .* in 'part-9",
    ):
        scan_table(path, target="y")
    make(5).drop(columns="flag").to_parquet(path / "part-9.parquet")
    with pytest.raises(DataError, match=r"got no column 'flag' in 'part-9.parquet'. Write"):
        scan_table(path, target="y")
    assert scan_table(path, target="y", features=["size"]).rows == ROWS + 5  # it is not asked for
    make(5).astype({"size": "float32", "flag": "int8"}).to_parquet(path / "part-9.parquet")
    assert scan_table(path, target="y", features=["size", "flag"]).rows == ROWS + 5


def test_what_is_no_table_is_refused(tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match=r"^scan_table: expected a file or folder, got none"):
        scan_table(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(FileFormatError, match=r"^scan_table: expected Parquet files, got"):
        scan_table(tmp_path / "bad.parquet")
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"^scan_table: expected a table: \.csv"):
        scan_table(tmp_path / "t.json")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n4,5\n")
    with pytest.raises(FileFormatError, match=r"got 1 in line 3 of 't.csv'"):
        scan_table(tmp_path / "t.csv")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 50)[:-20])
    with pytest.raises(FileFormatError, match=r"got a truncated one"):
        scan_table(tmp_path / "t.csv.gz")
    with pytest.raises(InvalidValueError, match=r"^scan_table: expected argument .* got 'targets'"):
        scan_table(make(), targets="y")
    with pytest.raises(DTypeError, match=r"^scan_table: expected a path, a DataFrame, or batches"):
        scan_table(5)
    with pytest.raises(DTypeError, match=r"^scan_table: expected batches of x .* got str"):
        scan_table(["a"])
    with pytest.raises(DataError, match=r"got shapes \(3,\)"):
        scan_table([torch.zeros(3)])
    with pytest.raises(DataError, match=r"expected at least one row, got none"):
        scan_table([])
    with pytest.raises(DataError, match=r"^scan_table: expected at least one row, got a table"):
        scan_table(pd.DataFrame({"a": []}))
    for other in ({"b": [1.0]}, {"a": ["x"]}, {"a": [1.0], "b": [1.0]}):
        with pytest.raises(DataError, match=r"batches with the same columns and types"):
            scan_table([pd.DataFrame({"a": [1.0]}), pd.DataFrame(other)])
    with pytest.raises(DataError, match=r"got \('\[1 2\]',\) in row 0 of column 'a'"):
        scan_table(pd.DataFrame({"a": [np.array([1, 2])] * 3}))
    with pytest.raises(
        DataError, match=r"^scan_table: expected columns with one level, got a Multi"
    ):
        scan_table(pd.concat({"x": make()}, axis=1))
    (tmp_path / "csvs").mkdir()
    make().to_csv(tmp_path / "csvs" / "a.csv")
    with pytest.raises(DataError, match=r"expected a folder of Parquet files, got none in"):
        scan_table(tmp_path / "csvs")
    monkeypatch.setattr(
        "pyarrow.parquet.ParquetWriter.write_table",
        lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(OutputError, match=r"got 'No space left on device' at"):
        scan_table([torch.zeros(3, 2)])


def test_batches_of_a_loader_have_features_and_targets():
    x, y = torch.rand(20, 3), torch.rand(20, 2)
    pairs = torch.utils.data.TensorDataset(x, y)
    found = scan_table(torch.utils.data.DataLoader(pairs, batch_size=6), target=["y1", "y2"])
    table = found.table(call="x")
    assert table.feature_names == ("x1", "x2", "x3")
    assert_close(table.x.float(), x)
    assert_close(table.y.float(), y)
    assert scan_table([x, x]).rows == 40


def test_a_temporary_file_goes_with_its_source(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = scan_table([torch.zeros(3, 2)])
    assert set(tmp_path.iterdir()) == unfinished  # which a command that is left removes
    del found
    with pytest.raises(DataError):
        scan_table([])
    assert not list(tmp_path.iterdir())
    assert not unfinished


def test_rows_beyond_memory_are_stood_for_by_some(monkeypatch):
    found = scan_table(make(), target="y", features=["size", "flag"])
    assert found.table(call="prune").rows == ROWS
    monkeypatch.setattr(source, "CELL", 2**26 // 200)
    with (
        memory_limit("prune", "64MiB"),
        pytest.warns(
            UserWarning, match=r"^prune: expected rows .* got 60 in 'DataFrame'; 20 of them, evenly"
        ),
    ):
        assert found.table(call="prune").rows == 20


def test_files_larger_than_memory_are_told_before_they_are_read(tmp_path, monkeypatch):
    frame = pd.DataFrame({"a": np.arange(2000.0), "b": 1.0})
    files = [tmp_path / "t.parquet", tmp_path / "t.csv"]
    frame.to_parquet(files[0])
    frame.to_csv(files[1])
    with memory_limit("train", "64MiB"):
        assert not any(is_large(file, call="train") for file in files)
        monkeypatch.setattr(source, "CELL", 2**25 // 3000)
        monkeypatch.setattr(source, "TEXT", 2**25 // 10_000)
        assert all(is_large(file, call="train") for file in files)
    assert is_large(tmp_path, call="train")
    assert not is_large(tmp_path / "none.csv", call="train")


@pytest.mark.slow  # takes a while
def test_quantiles_of_many_numbers_are_as_near_as_stated():
    draw = np.random.default_rng(0)
    normal = draw.normal(size=200_000)
    for numbers in (normal, np.sort(normal), np.exp(4 * normal), np.round(normal, 3)):
        one = profile.ColumnProfile()
        for start in range(0, len(numbers), 65_536):
            one.add(pd.Series(numbers[start : start + 65_536]), start)
        found = one.typical("median", "a", "x")
        low, high = np.searchsorted(np.sort(numbers), [found, np.nextafter(found, np.inf)])
        assert low / len(numbers) - profile.RANK_ERROR <= 0.5
        assert high / len(numbers) + profile.RANK_ERROR >= 0.5
        assert abs(one.typical("mean", "a", "x") / numbers.mean() - 1) < 1e-9
    with pytest.raises(DataError, match=r"^x: expected at most 2000 distinct numbers to find"):
        one = profile.ColumnProfile()
        one.add(pd.Series(normal), 0)
        one.typical("most_frequent", "a", "x")


def test_more_categories_than_are_kept_are_refused(monkeypatch):
    monkeypatch.setattr(profile, "DISTINCT", 10)
    monkeypatch.setattr(source, "DISTINCT", 10)
    frame = pd.DataFrame({"a": range(ROWS), "y": np.arange(ROWS) * 2.0})
    assert scan_table(frame, target="y").schema.feature_names == ("a",)
    for how in ({"target": "y", "categorical": "a"}, {"target": "a", "task": "classification"}):
        with pytest.raises(DataError, match=r"^scan_table: expected at most 10 categories, got"):
            scan_table(frame, **how)
    with pytest.raises(DataError, match=r"^scan_table: expected at most 10 categories, got"):
        scan_table(frame.astype({"a": "category"}), target="y")


def test_a_model_takes_a_source_for_rows():
    import kanlens

    frame = make()[["size", "flag", "y"]]
    model = kanlens.KAN([2, 1], feature_names=["size", "flag"]).double()
    found = scan_table(frame, target="y")
    assert_close(model(found), model(frame))
    assert_close(kanlens.trace(model, found).output, kanlens.trace(model, frame).output)
