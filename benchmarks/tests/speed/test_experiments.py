"""The whole benchmark in its smallest form: files, resuming, and the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.commands import main
from benchmarks.speed import experiments, memory, verdict
from benchmarks.speed.experiments import MEMORY, SCALING, SPEED, TIMING, SpeedSetup, finished
from benchmarks.speed.peers import chosen
from kanlens.errors import InvalidValueError

SMALL = SpeedSetup(smoke=True, peers=("efficient-kan",), cells=("order",))


@pytest.mark.slow  # starts a process that measures memory, which imports torch
def test_smoke(tmp_path, capsys, monkeypatch):
    asked = memory.ask_all

    def ask_all(module, questions):  # one process is as good as all of them
        return asked(module, questions[:1]) + [memory.answer(each) for each in questions[1:]]

    monkeypatch.setattr(memory, "ask_all", ask_all)
    monkeypatch.chdir(tmp_path)
    assert main(["speed", "--smoke", "--peers", "FastKAN", "--json"]) == 0
    folder = Path("kanlens-bench-smoke")
    out, err = capsys.readouterr()
    found = json.loads(out)
    names = ["speed-memory.csv", "speed-scaling.csv", "speed.csv", "speed.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(f"{folder / name} (" in err for name in names)
    for part, name in ((TIMING, "speed"), (MEMORY, "speed-memory")):
        frame = pd.read_csv(folder / f"{name}.csv")
        assert list(frame.columns) == list(part.columns(name))
        assert set(frame["status"]) <= {"ok", "not supported"}
        assert frame["date"].notna().all()
    ways = {row["way"] for row in found["tables"]["speed-memory"]}
    assert ways <= {"high-water mark reset", "getrusage"}
    assert found["measured"] == 3 + 1 + 4
    curves = {row["curve"] for row in found["tables"]["speed-scaling"]}
    assert curves == {"batch", "width", "grid size"}
    assert found["verdict"][0]["outcome"] == "pass"
    assert {finding["outcome"] for finding in found["verdict"][1:]} == {"not measured"}


def timed(setup, folder, **options):
    return SPEED.run(setup, folder, parts=["timing"], progress=False, **options)


@pytest.mark.slow  # runs an experiment
def test_a_finished_cell_is_not_measured_again(tmp_path):
    first = timed(SMALL, tmp_path)
    assert first.measured == 1
    assert [path.name for path in tmp_path.iterdir()] == ["speed.csv"]
    text = (tmp_path / "speed.csv").read_text()
    again = timed(SMALL, tmp_path)
    assert again.measured == 0
    assert (tmp_path / "speed.csv").read_text() == text
    assert again.to_dict()["tables"] == first.to_dict()["tables"]
    assert timed(SMALL, tmp_path, fresh=True).measured == 1
    more = replace(SMALL, peers=("efficient-kan", "FastKAN"))
    assert timed(more, tmp_path).measured == 1


@pytest.mark.parametrize(
    ("column", "value"), [("core", "k0000000"), ("threads", 77), ("torch", "1.0"), ("cpu", "x")]
)
def test_rows_of_another_state_or_machine_are_measured_again(column, value):
    peers = chosen(["efficient-kan"])
    rows = [{"peer": peer.name, "version": None, **experiments.stamp()} for peer in peers]
    assert finished(rows, peers)
    assert finished([{**row, "date": "1999-01-01", "load": 99.0} for row in rows], peers)
    rows[1][column] = value
    assert not finished(rows, peers)


def test_a_peer_installed_since_is_measured(monkeypatch):
    peers = chosen(["pykan"])
    monkeypatch.setattr(experiments, "version_of", lambda name: "")
    rows = [{"peer": peer.name, "version": None, **experiments.stamp()} for peer in peers]
    assert finished(rows, peers)
    monkeypatch.setattr(experiments, "version_of", lambda name: "0.2.8")
    assert not finished(rows, peers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "rounds to be a whole number of at least 1, got 0"),
        ({"seconds": -1.0}, "seconds to be a positive number, got -1.0"),
        ({"memory_limit": 0.0}, "memory_limit to be a positive number, got 0.0"),
        ({"devices": ("abacus",)}, "device to be one of "),
        ({"peers": ("pikan",)}, "peers to be one of "),
        ({"cells": ("G7",)}, "words of a cell's name, got 'G7'"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(options, words):
    with pytest.raises(InvalidValueError, match=f"^benchmarks speed: expected {re.escape(words)}"):
        SpeedSetup(**options)


def test_cells_leave_curves_out():
    some = SpeedSetup(cells=("G50",), devices=("cpu",))
    assert SCALING.plan(some).keys == ()
    assert MEMORY.plan(some).keys == (("cpu", "1024x64->64 G50"),)
    assert not MEMORY.plan(some).whole
    assert MEMORY.plan(SpeedSetup(cells=("order",), devices=("cpu",))).keys == ()
    assert len(SCALING.plan(SpeedSetup(devices=("cpu",))).keys) == 14


def test_a_process_answers_for_one_peer():
    question = {"cell": "64x8->8 G5", "device": "cpu", "threads": 1, "seed": 0}
    answer = memory.answer({**question, "peer": "kanlens"})
    assert answer["extra_mib"] >= 0
    assert answer["parameters"] == 8 * 8 * 10 + 8
    assert answer["note"] == ""
    assert memory.answer({**question, "peer": "kanlens", "cell": "G5"}) == {
        "failed": "no cell 'G5'"
    }


@pytest.mark.slow  # compiles kernels of its own
def test_check_turns_a_broken_promise_into_an_error(tmp_path, capsys, monkeypatch):
    from benchmarks.speed.verdict import Finding

    words = ["speed", "--smoke", "--parts", "timing", "--cells", "order", "--check"]
    words += ["--peers", "efficient-kan", "-o", str(tmp_path)]
    assert main(words) == 0
    slow = Finding(promise="fast", outcome="fail", figure=0.5, bound=1.0, where="here")
    monkeypatch.setattr(verdict, "judge", lambda speed, memory: [slow])
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.endswith(
        "kanlens: benchmarks speed: expected fast, got 1 broken, the first with 0.5 at here. "
        "See the promises above.\n"
    )
