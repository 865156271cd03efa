"""Restarts: trainings and searches that begin with other draws, the best of which comes first."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.cli import main
from kanlens.distributed import _restarts as restarts
from kanlens.distributed import discover, fit
from kanlens.errors import (
    DataError,
    DTypeError,
    InterruptedWarning,
    InvalidValueError,
    TrainingError,
)
from kanlens.model import kernels
from tests.made import draw

SHORT = {"steps": 2, "progress": False}
x = draw(60, 2, seed=3)
DATA = x, (3 * x[:, 0]).sin() * x[:, 1]


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def thread():
    """A scheduler with a worker in this process."""
    import distributed

    return distributed.Client(processes=False, dashboard_address=None, set_as_default=False)


def network():
    return kanlens.KAN([2, 3, 1], generator=seeded()).double()


def losses(found):
    return [one.validation_loss for one in found]


def test_the_best_of_other_weights_comes_first():
    model = network()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    found = fit(model, DATA, restarts=3, generator=seeded(), **SHORT)
    assert losses(found) == sorted(losses(found))
    assert len(set(losses(found))) == 3
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    held = [one.held_out.tolist() for one in found]
    assert held[0] == held[1] == held[2]


def test_one_restart_begins_as_the_model_is():
    (found,) = fit(network(), DATA, restarts=1, generator=seeded(), **SHORT)
    seed = restarts.new_seed(seeded())
    with kernels.use("sparse"):  # as tasks do
        same = kanlens.fit(network(), DATA, generator=restarts.seeded(seed, 0), **SHORT)
    assert found.validation_loss == same.validation_loss


@pytest.mark.slow  # works in parts
def test_workers_find_what_one_process_finds():
    expected = fit(network(), DATA, restarts=3, generator=seeded(), **SHORT)
    with thread() as one:
        found = fit(network(), DATA, restarts=3, generator=seeded(), workers=one, **SHORT)
    assert losses(found) == losses(expected)


def test_what_fit_refuses_is_refused():
    with pytest.raises(InvalidValueError, match="fit: expected validation"):
        fit(network(), DATA, restarts=2, validation=2, progress=False)
    with pytest.raises(InvalidValueError, match=r"fit: expected restarts"):
        fit(network(), DATA, restarts=0)
    with pytest.raises(DataError, match="fit: expected numbers of size"):
        wild = DATA[0], DATA[1] * 1e200
        fit(network(), wild, restarts=2, steps=1, progress=False, scale=False)
    model = network()
    model.layers[0].assign(0, 0, "x")
    with pytest.raises(
        DTypeError, match="layers of splines for restarts, got one of kind 'function'"
    ):
        fit(model, DATA)


def test_a_start_that_fails_costs_nothing_but_itself(monkeypatch):
    once, calls = restarts.fit_once, []

    def diverging(*given, **how):
        calls.append(given)
        if len(calls) != 2:
            raise TrainingError("fit", "a finite loss", "inf", "Scale it")
        return once(*given, **how)

    monkeypatch.setattr(restarts, "fit_once", diverging)
    assert len(fit(network(), DATA, restarts=3, **SHORT)) == 1
    with pytest.raises(TrainingError, match="fit: expected a finite loss"):
        fit(network(), DATA, restarts=3, **SHORT)


def test_copies_have_no_checkpoint(tmp_path):
    with pytest.raises(InvalidValueError, match="fit: expected no checkpoint for restarts"):
        fit(network(), DATA, checkpoint=tmp_path / "run")


def test_a_source_beyond_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"x1": x[:, 0], "x2": x[:, 1], "y": DATA[1]}).to_parquet(path)
    source = kanlens.scan_table(path, target="y", progress=False)
    assert len(fit(network(), source, restarts=2, **SHORT)) == 2
    monkeypatch.setattr(type(source), "held", lambda self: 10)
    with pytest.raises(DataError, match="fit: expected rows that fit in memory for restarts"):
        fit(network(), source, restarts=2, **SHORT)


def test_an_interrupt_returns_what_is_done(monkeypatch):
    once, calls = restarts.fit_once, []

    def interrupted(*given, **how):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return once(*given, **how)

    monkeypatch.setattr(restarts, "fit_once", interrupted)
    with pytest.warns(InterruptedWarning, match="interrupted. The best of 2 of 4 restarts"):
        found = fit(network(), DATA, restarts=4, generator=seeded(), **SHORT)
    assert len(found) == 2
    calls[:] = [None, None]
    with pytest.raises(KeyboardInterrupt), warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(network(), DATA, restarts=4, **SHORT)


def test_the_formula_of_the_front_comes_first():
    rows = np.random.default_rng(0).uniform(1, 2, (100, 2))
    found = discover(rows, rows[:, 0] / rows[:, 1], ("a", "b"), restarts=2, progress=False)
    assert [str(one.sympy()) for one in found] == ["a/b", "a/b"]
    with pytest.raises(DTypeError, match=r"^discover \(y\): "):
        discover(rows, "y", progress=False)


@pytest.mark.slow
def test_a_better_formula_is_put_first(monkeypatch):
    rows = np.random.default_rng(0).uniform(1, 2, (100, 1))
    targets = {0: rows[:, 0] ** 2 + np.sin(40 * rows[:, 0]), 1: rows[:, 0] ** 2}

    def search(x, y, names, generator, **how):
        return kanlens.discover(x, targets[generator is not None], names, **how)

    monkeypatch.setattr(restarts, "discover_once", search)
    found = discover(rows, rows[:, 0], ["a"], restarts=2, time_limit=1.0, progress=False)
    assert str(found[0].sympy()) == "a**2"
    assert found[1].receipt.loss > found[0].receipt.loss


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": DATA[1]}).to_csv(path, index=False)
    return path


@pytest.mark.slow  # works in parts
def test_a_command_keeps_the_best(table, tmp_path, capsys):
    words = [
        "train",
        table,
        "--target",
        "y",
        "--steps",
        2,
        "--seed",
        1,
        "-o",
        tmp_path / "m.safetensors",
    ]
    words = [*map(str, words)]
    assert main([*words, "--restarts", "3"]) == 0
    model = kanlens.load(tmp_path / "m.safetensors")
    training = kanlens.read_table(table, target="y")
    seed = torch.Generator().manual_seed(1)
    start = kanlens.KAN([2, 5, 1], generator=seed).double()
    found = fit(start, training, restarts=3, generator=seed, optimizer="lbfgs", **SHORT)
    best = min(found, key=lambda one: one.validation_loss).model
    assert best is found[0].model
    assert torch.equal(model(x), best(x))
    assert main([*words, "--restarts", "3", "--resume"]) == 1
    line = "train: expected a new run for --restarts, --scheduler or --workers, got --resume."
    assert line in " ".join(capsys.readouterr().err.split())


def test_a_command_shows_the_best_formula(table, capsys):
    pd.read_csv(table).assign(y=lambda rows: rows["a"] * rows["b"]).to_csv(table, index=False)
    assert main(["discover", str(table), "--target", "y", "--restarts", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equations"]["y"][-1]["equation"] == "a*b"
