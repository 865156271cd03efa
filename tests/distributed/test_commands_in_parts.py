"""kanlens attribute and importance on tables in parts."""

import json

import pandas as pd
import pytest

import kanlens
from kanlens.cli import main
from kanlens.data._source import Source
from tests.made import draw


@pytest.fixture
def command(model, data, tmp_path, capsys):
    """Run a command on the folder; return its exit code, what it printed, and its words."""
    kanlens.save(model, tmp_path / "model.safetensors")
    columns = list(model.feature_names)
    pd.DataFrame(draw(10, 3, seed=5).numpy(), columns=columns).to_parquet(tmp_path / "b.parquet")

    def command(name, *words):
        given = [name, f"{tmp_path}/model.safetensors", str(data), "--json"]
        code = main([*given, "--background", f"{tmp_path}/b.parquet", *map(str, words)])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if code == 0 else printed.out, printed.err

    return command


def test_a_folder_is_written_and_gone_on_with(command, model, x, tmp_path):
    out = tmp_path / "out"
    code, found, words = command("attribute", "-o", out)
    assert (code, found["rows"], found["parts"], found["parts_kept"]) == (0, 500, 1, 0)
    assert f"wrote {out} (1 files)" in words.replace("\n", "")
    expected = kanlens.attribute(model, x, background=draw(10, 3, seed=5))
    pd.testing.assert_frame_equal(pd.read_parquet(out), expected.to_frame(), rtol=1e-12)
    assert command("attribute", "-o", out)[1]["parts_kept"] == 1
    code, _, words = command("attribute", "-o", out, "--method", "secant")
    assert code == 1
    assert "expected the method of the run in" in words


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_table_too_large_goes_into_one_file(command, model, x, tmp_path, monkeypatch, name):
    monkeypatch.setattr(Source, "held", lambda self, numbers=0: self.rows - 1)
    code, found, _ = command("attribute", "-o", tmp_path / name)
    assert (code, found["rows"]) == (0, 500)
    read = pd.read_csv if name == "a.csv" else pd.read_parquet
    expected = kanlens.attribute(model, x, background=draw(10, 3, seed=5)).to_frame()
    pd.testing.assert_frame_equal(read(tmp_path / name), expected, rtol=1e-12)


@pytest.mark.slow  # workers start
def test_workers_do_what_one_process_does(command, model, x, scheduler, tmp_path):
    code, found, _ = command("attribute", "--scheduler", scheduler, "-o", tmp_path / "out")
    assert (code, found["rows"]) == (0, 500)
    assert len(pd.read_parquet(tmp_path / "out")) == 500
    code, found, _ = command("importance", "--scheduler", scheduler)
    frame = kanlens.importance(model, x, background=draw(10, 3, seed=5))
    found = pd.DataFrame(found["importance"])[list(frame)]
    pd.testing.assert_frame_equal(found, frame, rtol=1e-10)


@pytest.mark.slow  # computes in parts
def test_a_scheduler_that_is_not_there_is_one_line(command, tmp_path, monkeypatch):
    monkeypatch.setattr("kanlens.distributed._jobs.SCHEDULER_TIMEOUT", 0.2)
    code, printed, words = command(
        "attribute", "--scheduler", "tcp://127.0.0.1:1", "-o", tmp_path / "o"
    )
    assert (code, printed) == (1, "")
    said = " ".join(words.split())
    assert said.endswith(
        "kanlens: attribute: expected a Dask scheduler at 'tcp://127.0.0.1:1', got no answer. "
        "Start one with 'dask scheduler', or work without one."
    )
