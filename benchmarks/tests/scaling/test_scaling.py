"""Growth of time and memory, and work by several processes: every part in its smallest form."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.harness import Setup
from benchmarks.scaling import experiments, processes
from benchmarks.scaling.processes import watch
from benchmarks.scaling.subject import measure, write_folder

SIZES = {"rows": 300, "features": 2, "width": 1, "grid": 2}


@pytest.mark.slow  # measures in every way once
@pytest.mark.parametrize("task", experiments.TASKS)
def test_every_task_is_measured(task):
    found = measure(task, SIZES)
    assert found["seconds"] > 0
    assert found["extra_mib"] >= 0


def test_every_task_has_its_sizes():
    keys = experiments.GROWTH.plan(Setup()).keys
    assert len(set(keys)) == len(keys)
    assert {key[0] for key in keys} == set(experiments.TASKS)
    few = experiments.GROWTH.plan(Setup(smoke=True)).keys
    assert {key[:2] for key in few} == {(task, axes[0]) for task, axes in experiments.TASKS.items()}


def test_the_exponent_of_a_power_has_an_interval():
    sizes = [10, 20, 40, 80]
    slope, half = experiments.exponent(sizes, [3 * size**1.5 for size in sizes])
    assert slope == pytest.approx(1.5) and half < 1e-6
    slope, half = experiments.exponent(sizes, [1.0, 4.0, 3.0, 9.0])
    assert half > 0.3


def test_a_folder_has_the_rows_that_were_asked_for(tmp_path):
    folder = write_folder(tmp_path / "rows", 1001, 3, files=3)
    assert pq.read_table(folder).shape == (1001, 4)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.slow  # starts another interpreter
def test_a_command_is_watched_and_a_process_of_it_killed():
    parent = (
        "import subprocess, sys; x = bytearray(60 << 20);"
        "sys.exit(subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)']).returncode)"
    )
    found = watch(["timeit", "-n1", "-r1", parent], kill=lambda: True, victim=_sleeps)
    assert found.killed is not None
    assert found.seconds < 50
    assert len(found.peaks) == 2
    assert max(found.peaks.values()) > 60


def _sleeps(line):
    return "sleep(60)" in line and "subprocess" not in line


def written(folder, parts):
    folder.mkdir()
    for name, rows in parts.items():
        pq.write_table(pa.table({"x": rows}), folder / f"part-{name}.parquet")
    return folder


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({0: [1, 2], 1: [3]}, "as by one"),
        ({0: [1, 2], 1: [3, 3]}, "4 rows out"),
        ({0: [2, 1], 1: [3]}, "part-0.parquet differs"),
        ({0: [1, 2, 3]}, "part-0.parquet differs"),
        ({0: [1, 2], 2: [3]}, "part-2.parquet differs"),
    ],
)
def test_rows_that_are_not_those_of_one_process_are_noticed(tmp_path, parts, words):
    expected = written(tmp_path / "one", {0: [1, 2], 1: [3]})
    assert processes._compared(written(tmp_path / "two", parts), expected, 3).endswith(words)


def test_weights_that_differ_are_noticed(tmp_path):
    from safetensors.torch import save_file
    from torch import tensor

    save_file({"a": tensor([1.0, 2.0])}, tmp_path / "one")
    save_file({"a": tensor([1.0, 2.5])}, tmp_path / "two")
    assert "within 5e-01 of" in processes._weights_differ(tmp_path / "one", tmp_path / "two")


def test_summaries_say_how_much_faster_two_are():
    rows = [("ranks", 1, 8.0), ("ranks", 2, 4.0), ("workers", 1, 9.0), ("workers", 2, 6.0)]
    frame = pd.DataFrame(rows, columns=["task", "count", "seconds"])
    found = processes.summary(frame.assign(rows=9, peak_mib=1.0, note=""))["processes"]
    assert found["times one"].tolist() == [1, 2, 1, 1.5]
    sizes = [(50, 1.0), (100, 2.0), (200, 4.0)]
    lines = [("forward", "rows", size, seconds, 1.0) for size, seconds in sizes]
    frame = pd.DataFrame(lines, columns=["task", "axis", "value", "seconds", "extra_mib"])
    (line,) = experiments.GROWTH.summary(frame)["growth"].to_dict("records")
    assert line["exponent"] == pytest.approx(1)
