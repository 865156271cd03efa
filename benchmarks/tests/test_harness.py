"""The harness: units are run once and stored, results go on, and say what they were made on."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from importlib import import_module
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.commands import BENCHMARKS, main
from benchmarks.drawing import Picture
from benchmarks.harness import Benchmark, Setup, Units, units
from benchmarks.machine import STAMP, instruction_set
from benchmarks.symbolic import experiments
from benchmarks.tests.pair import PAIR, double
from kanlens._runtime import Interruption
from kanlens.errors import FileFormatError, InvalidValueError

PLACES = [
    ("benchmarks.speed.experiments", "SPEED"),
    *(place[:2] for place, _ in BENCHMARKS.values()),
]
ALL = [getattr(import_module(module), name) for module, name in PLACES]
EVERY = [each for one in ALL for each in one.experiments]
DATA = Path(harness.__file__).parents[1] / "figures" / "data"


QUIET = {"jobs": 1, "progress": False}


def benchmark(log=None, **changes):
    """Return a benchmark of one experiment that writes down what it runs, and breaks at 3."""

    def run(setup, key):
        if log is not None:
            log.append(key[0])
        if key[0] == 3:
            raise RuntimeError("broken")
        return double(setup, key)

    return Benchmark(name="x", experiments=(dataclasses.replace(PAIR, run=run, **changes),))


def test_units_are_stored_with_key_and_stamp_and_not_run_again(tmp_path):
    found = benchmark().run(Setup(seeds=(1, 2)), tmp_path, **QUIET)
    assert (found.measured, found.skipped) == (2, {"pair: that": "why"})
    assert [path.name for path in found.files] == ["first.csv", "second.csv"]
    frame = found.tables["first"]
    assert list(frame.columns) == ["n", "double", *STAMP]
    assert frame[["n", "double"]].to_numpy().tolist() == [[1, 2], [2, 4]]
    assert set(frame["isa"]) == {instruction_set()}
    assert found.summaries["total"].iloc[0, 0] == 6
    again = benchmark().run(Setup(seeds=(1, 2)), tmp_path, **QUIET)
    assert again.measured == 0
    pd.testing.assert_frame_equal(again.tables["first"], frame)
    assert benchmark().run(Setup(seeds=(1, 2)), tmp_path, fresh=True, **QUIET).measured == 2


def test_workers_of_a_scheduler_run_units_also_those_that_run_alone(tmp_path):
    import distributed

    there = Benchmark(name="x", experiments=(dataclasses.replace(PAIR, alone=True),))
    options = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        found = there.run(Setup(seeds=(1, 2)), tmp_path, jobs=address, progress=False)
    assert found.tables["first"]["double"].tolist() == [2, 4]
    assert found.measured == 2


def test_a_plan_of_some_units_leaves_the_others_alone(tmp_path):
    log = []
    benchmark().run(Setup(seeds=(1, 2)), tmp_path, **QUIET)
    some = benchmark(log, plan=lambda setup: Units(keys=((2,),), whole=False))
    found = some.run(Setup(), tmp_path, fresh=True, **QUIET)
    assert log == [2]
    assert found.tables["first"]["n"].tolist() == [2]
    assert sorted(pd.read_csv(tmp_path / "first.csv")["n"]) == [1, 2]


def test_rows_that_no_longer_count_are_measured_again(tmp_path):
    benchmark().run(Setup(seeds=(1, 2)), tmp_path, **QUIET)
    log = []
    stale = benchmark(log, current=lambda setup, key, rows: bool(rows) and key != (2,))
    stale.run(Setup(seeds=(1, 2)), tmp_path, **QUIET)
    assert log == [2]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    log = []
    with pytest.raises(RuntimeError, match="broken"):
        benchmark(log).run(Setup(seeds=(1, 3, 2)), tmp_path, **QUIET)
    found = benchmark(log).run(Setup(seeds=(2, 1)), tmp_path, **QUIET)
    assert log == [1, 3, 2]
    assert found.tables["first"]["n"].tolist() == [2, 1]  # as in the plan


def test_what_an_interrupt_cuts_short_is_no_measurement(tmp_path):
    def cut(setup, key):
        with Interruption().kept():  # as training does, which returns what it has
            if key == (2,):
                raise KeyboardInterrupt
        return double(setup, key)

    broken = Benchmark(name="x", experiments=(dataclasses.replace(PAIR, run=cut),))
    with pytest.raises(KeyboardInterrupt):
        broken.run(Setup(seeds=(1, 2)), tmp_path, **QUIET)
    assert pd.read_csv(tmp_path / "first.csv")["n"].tolist() == [1]
    assert benchmark().run(Setup(seeds=(1, 2)), tmp_path, **QUIET).measured == 1


def test_the_first_table_is_stored_last_and_tells_what_is_whole(tmp_path, monkeypatch):
    order = []
    store = harness.Records.store
    monkeypatch.setattr(
        harness.Records, "store", lambda r, *a: (order.append(r.path.stem), store(r, *a))
    )
    pd.DataFrame({"n": [1]}).to_csv(tmp_path / "second.csv", index=False)
    benchmark().run(Setup(seeds=(1,)), tmp_path, **QUIET)
    assert order == ["second", "first"]
    assert len(pd.read_csv(tmp_path / "second.csv")) == 1


def test_pictures_are_drawn_from_tables_that_are_there(tmp_path):
    def draw(frames):
        return Figure()

    pictures = {"drawn": Picture(("first",), draw, ""), "not drawn": Picture(("third",), draw, "")}
    both = dataclasses.replace(benchmark(), pictures=pictures)
    found = both.run(Setup(seeds=(1,)), tmp_path, **QUIET)
    assert [path.name for path in found.files] == ["first.csv", "second.csv", "drawn.png"]
    assert found.files[-1].exists()


@pytest.mark.slow  # starts processes
def test_units_run_in_processes_of_their_own(monkeypatch):
    """They are forked off one that has imported the package, which takes 3 s of each otherwise."""
    new, asked = multiprocessing.get_context, []
    forked = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    multiprocessing.set_forkserver_preload([double.__module__])
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda way: asked.append(way) or new(forked)
    )
    found = dict(units(PAIR, Setup(), [(1,), (2,)], 2))
    assert asked == ["spawn"]
    assert {key: tables["first"][0]["double"] for key, tables in found.items()} == {
        (1,): 2,
        (2,): 4,
    }
    assert {tables["first"][0]["threads"] for tables in found.values()} == {1}


@pytest.mark.parametrize("experiment", EVERY, ids=lambda each: next(iter(each.tables)))
def test_every_experiment_can_be_sent_to_a_process(experiment):
    assert len(ForkingPickler.dumps(experiment)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EVERY, ids=lambda each: next(iter(each.tables)))
def test_every_stored_table_can_be_read_and_summed_up(experiment):
    records = experiment.records(DATA)
    first = next(iter(records.values()))
    assert first.rows
    assert all(set(row) == set(first.columns) for row in first.rows)
    assert all(len(frame) for frame in experiment.summary(first.frame()).values())


def test_every_stored_file_names_its_command_and_its_commit():
    lines = (DATA / "README.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| ") and "stored by" not in line]
    named = [name.strip() for row in rows for name in row[1].split(",")]
    assert sorted(named) == sorted(path.stem for path in DATA.glob("*.csv"))
    assert all(row[-3].strip() and row[-2].strip() for row in rows)


def test_unknown_names_and_counts_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match=r"^benchmarks x: expected parts.*mean 'pair'\?"):
        benchmark().run(Setup(), tmp_path, parts=["pear"], progress=False)
    with pytest.raises(InvalidValueError, match=r"^benchmarks x: expected jobs"):
        benchmark().run(Setup(), tmp_path, jobs=0, progress=False)
    with pytest.raises(InvalidValueError, match=r"^benchmarks: expected seeds"):
        Setup(seeds=())
    assert not list(tmp_path.iterdir())


def test_a_file_with_other_columns_is_refused(tmp_path):
    (tmp_path / "first.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="--fresh"):
        benchmark().run(Setup(), tmp_path, **QUIET)
    assert benchmark().run(Setup(seeds=(1,)), tmp_path, fresh=True, **QUIET).measured == 1


def test_the_command_prints_json_and_says_what_it_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(experiments, "SYMBOLIC", benchmark())
    monkeypatch.chdir(tmp_path)
    assert main(["symbolic", "--json", "-o", "out", "--jobs", "1", "--seeds", "2"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["measured"] == 2
    assert "left out pair: that: why" in err
    assert (tmp_path / "out" / "first.csv").exists()


def test_an_unknown_part_is_told_by_the_option_that_named_it(tmp_path, capsys):
    assert main(["sparsity", "--parts", "grid", "-o", str(tmp_path)]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert err.startswith("kanlens: benchmarks sparsity: expected --parts to be one of")
