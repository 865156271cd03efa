"""Several processes, started by torchrun, lead to what one leads to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kanlens
from kanlens.errors import InvalidValueError, LostProcessError
from kanlens.training._checkpointing import read_state
from kanlens.training._process_group import Ranks, _in_words
from tests.training import rank_program

LAUNCHER = str(Path(rank_program.__file__).with_name("rank_launcher.py"))
ROOT = str(Path(kanlens.__file__).parents[1])
pytestmark = pytest.mark.slow  # starts interpreters


def launch(folder):
    """Run all jobs of two processes; return the exit code and the standard error of each."""
    settings = {**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, LAUNCHER, str(folder)], subprocess.PIPE
    with subprocess.Popen(command, env=settings, stdout=pipe, stderr=pipe, text=True) as agent:
        try:
            printed, errors = agent.communicate(timeout=200)
        except subprocess.TimeoutExpired:
            agent.terminate()  # the end of the block would wait for it
            raise
    assert agent.returncode == 0, errors
    words = [(folder / f"{name}.txt").read_text() for name in ("lost", "two")]
    return list(zip(map(int, printed.split()), words, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def one(folder):
    """What one process, this one, makes of the cases."""
    rank_program.FOLDER = folder
    yield rank_program.run("equal") | {"whole": rank_program.run("whole")}


@pytest.fixture(scope="module")
def jobs(folder):
    return launch(folder)


@pytest.fixture(scope="module")
def two(folder, jobs):
    code, words = jobs[1]
    assert code == 0, words
    assert "kanlens" not in words
    found = {name: torch.load(folder / f"{name}2.pt") for name in ("resumed", "equal", "whole")}
    return found["equal"] | found


def distance(found, expected):
    """Return the largest difference between tensors of the same names, infinite ones aside."""
    assert found.keys() == expected.keys()
    gaps = [(found[name].double() - expected[name].double()).abs() for name in found]
    return max(float(gap.nan_to_num(0.0).max()) for gap in gaps)


def check_a_job_goes_on_from_where_it_lost_a_process(one, two, jobs, folder):
    code, words = jobs[0]
    assert code == 1
    said = r"LostProcessError: fit: expected all processes to train to the end, got .*failed.*\. "
    assert re.search(f"{said}Start all again with resume=True, to continue from 'run'\\.", words)
    state = read_state(folder / "run")
    assert (state["step"], state["batch"]) == (3, 2)
    assert distance(rank_program.run("resumed"), one["whole"]) < 1e-9
    assert distance(two["resumed"], two["whole"]) == 0


def test_rows_are_dealt_out_evenly():
    for n, count in ((1, 3), (7, 3), (8, 4), (100, 7)):
        shares = [Ranks(index=i, count=count).share(n) for i in range(count)]
        rows = [range(n)[place] for place, part in shares if part]
        assert [row for some in rows for row in some] == list(range(n))
        assert {len(some) for some in rows} <= {n // count, n // count + 1}
        assert sum(part for _, part in shares) == pytest.approx(1)
        assert all(len(range(n)[place]) > 0 for place, _ in shares)
    assert Ranks().share(5) == (slice(0, 5), 1.0)


def test_a_strategy_without_processes_is_refused():
    data = torch.rand(9, 1), torch.rand(9, 1)
    with pytest.raises(InvalidValueError, match="'ddp', got a process that it has not started"):
        kanlens.fit(kanlens.KAN([1, 1]), data, strategy="ddp")
    with pytest.raises(InvalidValueError, match=r"^fit: expected strategy to be "):
        kanlens.fit(kanlens.KAN([1, 1]), data, strategy="fsdp")


@pytest.fixture
def handled():
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.usefixtures("handled")
def test_torchruns_signal_does_not_cut_off_the_error_of_a_lost_process():
    with pytest.raises(LostProcessError, match="one that has failed: 'gone'"):
        try:
            with _in_words(None):
                try:
                    raise ConnectionError("gone")
                finally:
                    signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
    with pytest.raises(LostProcessError, match="SIGTERM"), _in_words(None):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("handled")
def test_torchruns_signal_ends_training_and_later_the_process():
    with _in_words(None):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_processes_do_what_one_does(one, two, jobs, folder):
    """All in one test: each worker of pytest would start the processes anew."""
    for case in [*rank_program.CASES, "norms", "streamed"]:
        assert distance(two[case], one[case]) < 1e-6, case
    for case in ["deep", "deep-weights"]:  # steps of LBFGS are the same to the last digit
        weights = {name: value for name, value in two[case].items() if name != "history"}
        assert distance(weights, {name: one[case][name] for name in weights}) == 0, case
    assert distance(two["default"], one["default"]) < 1e-4  # in single precision
    for case in rank_program.WRONG:  # the mean of the penalties of processes is noticed
        assert distance(one["wrong"][case], one[case]) == 0  # alone it is right
        assert distance(two["wrong"][case], one[case]) > 1e-4
    assert distance(two["wrapped"], one["wrapped"]) < 1e-9  # in DDP and FSDP
    text = "fit: expected the same model, rows, options and checkpoint in every process, got diff"
    assert two["refused"].startswith(text)
    check_a_job_goes_on_from_where_it_lost_a_process(one, two, jobs, folder)
