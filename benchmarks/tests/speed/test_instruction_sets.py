"""Timing as on another processor: what the process is told, and what it answers."""

from __future__ import annotations

import pytest

from benchmarks import machine
from benchmarks.speed import instruction_sets
from benchmarks.speed.cells import parse
from benchmarks.speed.experiments import TIMING, SpeedSetup
from benchmarks.speed.instruction_sets import ENVIRONMENTS, answer, time_elsewhere
from kanlens.errors import InvalidValueError

SETUP = SpeedSetup(smoke=True, peers=("efficient-kan",), cells=("8x2->1 G3 float64",))


@pytest.mark.parametrize(
    ("isa", "devices"),
    [
        ((), ("cpu",)),
        (("native",), ("cpu",)),
        (("avx2",), ("cpu as avx2",)),
        (("native", "avx2"), ("cpu", "cpu as avx2")),
    ],
)
def test_the_processor_is_timed_once_for_each(isa, devices):
    setup = SpeedSetup(isa=isa, devices=("cpu",), cells=("G50",))
    assert [key[0] for key in TIMING.plan(setup).keys] == list(devices)
    assert all(setup.taking_part(device) for device in devices)


def test_an_unknown_one_is_refused():
    with pytest.raises(InvalidValueError, match=r"isa to be one of .*'mmx'"):
        SpeedSetup(isa=("mmx",))


def test_a_new_process_is_told_and_answers_with_its_own_stamp(monkeypatch):
    told = {}

    def ask(module, question, **how):
        told.update(how["told"])
        assert module == instruction_sets.__name__
        return answer(question)

    monkeypatch.setattr(instruction_sets, "ask", ask)
    rows = TIMING.run(SETUP, ("cpu as avx2", "8x2->1 G3 float64"))
    assert told == ENVIRONMENTS["avx2"]
    assert {row["peer"] for row in rows} == {"nn.Linear", "kanlens", "efficient-kan"}
    assert all(row["status"] == "ok" and row["ms"] > 0 for row in rows)
    assert max(row["value_error"] for row in rows) < 1e-12  # in float64
    assert TIMING.current(SETUP, ("cpu as avx2", "8x2->1 G3 float64"), rows)


def test_a_process_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(instruction_sets, "ask", lambda *given, **how: {"failed": "no such thing"})
    with pytest.raises(RuntimeError, match="--isa avx2: no such thing"):
        time_elsewhere(parse("8x2->1 G3"), [], SETUP.settings(), instructions="avx2")


def test_vectors_in_use_may_be_shorter_than_those_there_are(monkeypatch):
    monkeypatch.setattr(
        machine, "_said", lambda file, name: "avx512f avx2" if name == "flags" else ""
    )
    machine.instruction_set.cache_clear()
    try:
        assert machine.instruction_set() == "AVX-512"
        machine.instruction_set.cache_clear()
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
        assert machine.instruction_set() == "AVX2 of AVX-512"
    finally:
        machine.instruction_set.cache_clear()
