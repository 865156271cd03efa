"""Stamps, optional packages, peaks of memory, and processes that answer."""

import random
import sys

import numpy as np
import pytest
import torch

from benchmarks import machine, processes
from benchmarks.machine import load, missing, unseeded, version_of


def test_a_stamp_names_machine_and_versions():
    stamp = machine.stamp()
    assert stamp["torch"] == torch.__version__
    assert stamp["threads"] == torch.get_num_threads()
    assert stamp["cpu"]
    assert set(stamp) == set(machine.STAMP)


@pytest.mark.parametrize(
    ("text", "isa"),
    [
        ("flags\t: sse avx2 avx512f", "AVX-512"),
        ("flags\t: sse avx2", "AVX2"),
        ("Features\t: fp asimd", "NEON"),
    ],
)
def test_the_instruction_set_is_what_the_machine_says(text, isa, monkeypatch):
    said = dict([[part.strip() for part in text.split(":")]])
    monkeypatch.setattr(machine, "_said", lambda file, name: said.get(name, ""))
    assert machine.instruction_set.__wrapped__() == isa


def test_the_digest_follows_the_sources(tmp_path, monkeypatch):
    assert all(list(folder.rglob("*.py")) for folder in machine.CORE)
    monkeypatch.setattr(machine, "CORE", (tmp_path,))
    digests = []
    for text in ("x = 1", "x = 2", "x = 1"):
        (tmp_path / "a.py").write_text(text)
        machine.core_digest.cache_clear()
        digests.append(machine.core_digest())
    machine.core_digest.cache_clear()
    assert digests[0] == digests[2] != digests[1]


def test_packages_are_there_or_said_to_be_missing():
    assert missing("torch") == ""
    assert missing("no_such_package") == "not installed: pip install 'kanlens[bench]'"
    assert version_of("numpy") == np.__version__


def numpy_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002 - what a package may change


def test_a_package_that_reseeds_leaves_no_trace(tmp_path, monkeypatch):
    code = "import random, numpy, torch\nrandom.seed(1)\nnumpy.random.seed(1)\n"
    (tmp_path / "reseeding_package.py").write_text(code + "torch.manual_seed(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = random.getstate(), numpy_state(), torch.get_rng_state()
    load("reseeding_package")
    sys.modules.pop("reseeding_package")
    assert random.getstate() == before[0]
    assert numpy_state() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_random_states_come_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="on purpose"), unseeded():
        torch.rand(3)
        raise ValueError("on purpose")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("way", ["high-water mark reset", "getrusage"])
def test_a_peak_is_found_although_it_is_over(way, monkeypatch):
    if way == "getrusage":
        monkeypatch.setattr(processes, "reset_mark", lambda: False)
    with processes.peak_memory() as reading:
        block = np.ones(96 * processes.MIB // 8)
        total = float(block.sum())
        del block
    assert total
    assert reading.way in (way, "getrusage")  # a system may have no mark
    least = 80 if reading.way != "getrusage" else 0  # which an earlier, higher peak hides
    assert least <= reading.extra < 130


@pytest.mark.parametrize(
    ("module", "options", "answer"),
    [
        ("json.tool", {}, "process ended with code "),
        ("no_such_module", {}, "process ended with code "),
        ("http.server", {"timeout": 0.01}, "process ended after 0 s without an answer"),
        ("this", {}, "process gave no answer"),
    ],
)
def test_a_process_without_an_answer_is_a_failure(module, options, answer):
    assert processes.ask(module, {}, **options)["failed"].startswith(answer)


def test_a_process_answers_in_its_last_line(tmp_path, monkeypatch):
    (tmp_path / "speaking_module.py").write_text("print('words')\nprint('{\"a\": 1}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert processes.ask_all("speaking_module", [{}, {}]) == [{"a": 1}, {"a": 1}]
