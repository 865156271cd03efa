"""Attribution part by part is attribution: the rows, their order, and their numbers."""

import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import kanlens
from kanlens.distributed import _analyses as analyses
from kanlens.distributed import attribute, importance
from kanlens.errors import (
    DataError,
    InterruptedWarning,
    InvalidValueError,
    MethodError,
    OutputError,
)
from tests.made import draw, made

BACKGROUND = draw(10, 3, seed=5)
SAMPLED = {"method": "captum_gradient_shap", "n_samples": 5}

pytestmark = pytest.mark.usefixtures("small_blocks")


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def run(model, data, tmp_path):
    """Attribute in parts of 100 rows into a folder of a given name."""

    def run(name="out", **options):
        given = {"background": BACKGROUND, "generator": seeded(), "part_rows": 100, **options}
        return attribute(model, data, tmp_path / name, progress=False, **given)

    return run


@pytest.mark.slow  # works in parts
@pytest.mark.parametrize("method", ["shapley", "gradient"])
def test_the_rows_are_those_of_one_call(run, model, x, method):
    expected = kanlens.attribute(model, x, method=method, background=BACKGROUND)
    found = run(method=method)
    assert (found.rows, found.parts, found.kept) == (500, 5, 0)
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), rtol=1e-12, atol=1e-13)
    one, other = found.importance.to_frame(), expected.to_importance().to_frame()
    pd.testing.assert_frame_equal(one, other, rtol=1e-11)
    gap = expected.completeness_gap.abs().max()
    assert found.largest.get("completeness_gap", 0.0) == pytest.approx(
        float(gap.nan_to_num()), abs=1e-13
    )


def test_the_files_are_in_the_order_of_the_rows(run, x):
    run()
    files = sorted((run().folder).glob("*.parquet"))
    assert [file.name for file in files] == [f"part-{n:06d}.parquet" for n in range(5)]
    assert [pq.read_metadata(file).num_rows for file in files] == [100] * 5


@pytest.mark.slow  # computes in parts
def test_sampled_numbers_do_not_depend_on_the_parts(run):
    whole = run("whole", **SAMPLED, part_rows=500).to_frame()
    parts = run("parts", **SAMPLED, part_rows=50).to_frame()
    assert parts.equals(whole)
    other = run("other", **SAMPLED, generator=seeded(4)).to_frame()
    assert not other["x1"].equals(whole["x1"])
    blocks = whole["x1"].to_numpy().reshape(10, 50)
    assert len(np.unique(blocks[:, 0])) == 10


@pytest.mark.slow  # works in parts
def test_parts_that_are_there_are_kept_and_others_made_again(run):
    first = run(**SAMPLED)
    expected = first.to_frame()
    times = {file.name: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    (first.folder / "part-000001.parquet").unlink()
    whole = (first.folder / "part-000003.parquet").read_bytes()
    (first.folder / "part-000003.parquet").write_bytes(whole[:-20])
    (first.folder / f".{'0' * 32}.parquet").write_bytes(whole[:20])  # of a process that was killed
    again = run(**SAMPLED, generator=None)  # with the seed of the run
    assert again.kept == 3
    assert again.to_frame().equals(expected)
    assert again.importance.to_frame().equals(first.importance.to_frame())
    kept = [name for name, at in times.items() if (first.folder / name).stat().st_mtime_ns == at]
    assert sorted(kept) == ["_manifest.json", *(f"part-00000{n}.parquet" for n in (0, 2, 4))]
    assert len(list(first.folder.iterdir())) == 6


@pytest.mark.slow  # works in parts
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"method": "gradient"}, "the method of the run in '{}', got 'gradient', not 'secant'."),
        ({"background": BACKGROUND[:5]}, "the background of the run in '{}', got another."),
        ({"part_rows": 150}, "the part rows of the run in '{}', got 150, not 100."),
    ],
)
def test_another_run_is_refused(run, other, said):
    folder = run(method="secant").folder
    text = f"attribute: expected {said.format(folder)} "
    text += "Choose another folder to write to, or remove "
    with pytest.raises(OutputError, match=f"^{re.escape(text)}this one\\.$"):
        run(**{"method": "secant", **other})


@pytest.mark.slow  # works in parts
def test_another_seed_and_other_data_are_refused(run, data):
    run(**SAMPLED)
    with pytest.raises(OutputError, match="expected the seed of the run"):
        run(**SAMPLED, generator=seeded(9))
    pd.read_parquet(data / "2.parquet").to_parquet(data / "2.parquet")
    with pytest.raises(OutputError, match="expected the data of the run"):
        run(**SAMPLED)


def test_a_folder_of_other_things_is_left_alone(run, data):
    with pytest.raises(
        OutputError, match=r"^attribute: expected an empty folder, or that of a run"
    ):
        run(data)
    assert len(list(data.iterdir())) == 3


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_done(run, monkeypatch):
    completed = analyses.completed

    def interrupted(*given):
        done = completed(*given)
        yield next(done)
        yield next(done)
        raise KeyboardInterrupt

    monkeypatch.setattr(analyses, "completed", interrupted)
    with (
        pytest.warns(InterruptedWarning, match=r"2 of 5 parts are done; the same call continues"),
        pytest.raises(KeyboardInterrupt),
    ):
        run(**SAMPLED)
    monkeypatch.undo()
    monkeypatch.setattr(analyses, "BLOCK", 50)
    found = run(**SAMPLED)
    assert found.kept == 2
    assert found.to_frame().equals(run("new", **SAMPLED).to_frame())


def test_a_bad_cell_is_named_by_its_row_and_file(run, data):
    frame = pd.read_parquet(data / "1.parquet")
    frame.loc[frame.index[7], "x2"] = np.nan
    frame.to_parquet(data / "1.parquet")
    with pytest.raises(DataError, match=r"^attribute: [^\n]*'x2'[^\n]* row 7 of 1\.parquet[^\n]*$"):
        run()


def test_files_that_differ_are_refused_before_anything_is_written(run, data, tmp_path):
    frame = pd.read_parquet(data / "1.parquet").rename(columns={"x2": "other"})
    frame.to_parquet(data / "1.parquet")
    with pytest.raises(DataError, match=r"^attribute: expected [^\n]* in '1\.parquet'[^\n]*$"):
        run()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # works in parts
def test_a_full_disk_ends_in_one_line(run, monkeypatch):
    def full(table, where, **_):
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(
        OutputError, match=r"^attribute: [^\n]*'No space left on device' at [^\n]*$"
    ):
        run()
    monkeypatch.undo()
    monkeypatch.setattr(analyses, "BLOCK", 50)
    assert run().kept == 0


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"method": "sobol_total"}, MethodError, "expected a method with values for each row"),
        ({"method": "shaply"}, InvalidValueError, "Did you mean 'shapley'"),
        ({"part_rows": 70}, InvalidValueError, "expected part_rows to be a multiple of 50"),
        ({"workers": 0}, InvalidValueError, "expected workers to be"),
        ({"workers": "nowhere:1"}, MethodError, "expected a Dask scheduler at 'nowhere:1', got no"),
    ],
)
def test_what_cannot_be_done_is_refused(run, options, error, said, monkeypatch):
    monkeypatch.setattr("kanlens.distributed._jobs.SCHEDULER_TIMEOUT", 0.2)
    with pytest.raises(error, match=f"^attribute: [^\\n]*{re.escape(said)}[^\\n]*$"):
        run(**options)


def test_text_tables_are_read_here(model, x, tmp_path):
    frame = pd.DataFrame(x[:60].numpy(), columns=list(model.feature_names))
    frame.to_csv(tmp_path / "x.csv", index=False)
    given = {"background": BACKGROUND, "part_rows": 50}
    found = attribute(model, tmp_path / "x.csv", tmp_path / "out", **given)
    expected = kanlens.attribute(model, x[:60], background=BACKGROUND).to_frame()
    pd.testing.assert_frame_equal(found.to_frame(), expected, rtol=1e-12, atol=1e-13)
    with pytest.raises(DataError, match="expected a Parquet file or folder, for workers"):
        attribute(model, tmp_path / "x.csv", tmp_path / "new", workers="tcp://127.0.0.1:1")


@pytest.mark.slow  # works in parts
def test_importance_is_that_of_all_rows_at_once(data, x):
    model = made([3, 2, 2])
    expected = kanlens.importance(model, x, background=BACKGROUND, progress=False)
    found = importance(model, data, background=BACKGROUND, part_rows=100, progress=False)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-11)
    one = importance(model, data, background=BACKGROUND, target=1, part_rows=100)
    assert list(one["output"].unique()) == [model.output_names[1]]
