"""Losses that are not finite, interrupts, and options that cannot be."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import InterruptedWarning, InvalidValueError, TrainingError
from kanlens.training._objective import Objective
from kanlens.training._training_loop import TrainingRun
from tests.training.conftest import run, seeded


def logarithm(offset=0.5):
    """A network log(x + offset), to learn data so near the pole that steps go beyond it."""
    x = torch.linspace(0.05, 2, 50, dtype=torch.float64)[:, None]
    net = kanlens.KAN([1, 1], generator=seeded()).double()
    layer = copy.deepcopy(net.layers[0])
    layer.assign(0, 0, "log", (1.0, offset, 1.0, 0.0))
    return kanlens.KAN.from_layers([layer], net.schema), (x, (0.3 * x + 0.001).log())


def state_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_a_line_search_turns_back_where_the_loss_is_not_finite(monkeypatch):
    tried: list[float] = []
    closure = TrainingRun._closure

    def watched(self):
        value = closure(self)
        tried.append(float(value))
        return value

    monkeypatch.setattr(TrainingRun, "_closure", watched)
    net, data = logarithm()
    result = run(net, data, steps=12, scale=False, validation=0.0)
    assert math.inf in tried  # or the test would prove nothing
    assert result.stopped_because == "all 12 steps done"
    assert result.loss < 1e-12


def test_a_line_search_without_the_guard_fails(monkeypatch):
    def bare(self):
        self.optimizer.zero_grad()
        value = self.objective.total(self.train_x, self.train_y)
        value.backward()
        return value.detach()

    monkeypatch.setattr(TrainingRun, "_closure", bare)
    net, data = logarithm()
    before = state_of(net)
    result = run(net, data, steps=12, scale=False, validation=0.0)
    assert result.stopped_because == (
        "the loss was not finite at step 1; the model has the state of step 0, the best finite one"
    )
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_batches_stop_at_the_first_loss_that_is_not_finite(optimizer, monkeypatch):
    net, data = logarithm()
    taken: list[bool] = []
    step = torch.optim.Adam.step

    def counted(self, *args):
        taken.append(all(bool(torch.isfinite(p).all()) for p in net.parameters()))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    options = {"optimizer": optimizer, "learning_rate": 0.4, "batch_size": 10}
    result = run(net, data, steps=10, scale=False, **options)
    failed = len(result.history)
    assert result.stopped_because == (
        f"the loss was not finite at step {failed}; the model has the state of step "
        f"{result.best_step}, the best finite one"
    )
    assert failed < 10
    assert result.best_step < failed
    assert all(taken)  # no step was taken from a state that is not finite
    assert 4 * (failed - 1) <= len(taken) < 4 * failed
    assert bool(torch.isfinite(net(data[0])).all())
    assert math.isfinite(result.loss)


def test_a_held_out_loss_that_is_not_finite_stops(network, waves, monkeypatch):
    evaluate = TrainingRun._evaluate

    def broken(self):
        record = evaluate(self)
        return {**record, "validation_loss": math.inf} if self.step == 3 else record

    monkeypatch.setattr(TrainingRun, "_evaluate", broken)
    result = run(network(), waves)
    assert len(result.history) == 3
    assert result.stopped_because.startswith("the loss was not finite at step 3; ")
    assert 0 < result.best_step < 3


def test_a_start_that_is_not_finite_is_refused_and_changes_nothing(network, waves):
    net = network()
    with torch.no_grad():
        net.layers[1].bias.fill_(1e200)
    before = state_of(net)
    with pytest.raises(TrainingError, match="a finite loss to start from, got a loss of inf"):
        run(net, waves)
    assert not net.scaled
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def test_a_penalty_that_is_not_finite_is_refused():
    net, data = logarithm(offset=0.06)  # the grid reaches down to -1
    with pytest.raises(TrainingError, match="a finite loss to start from, got a penalty of nan"):
        run(net, data, scale=False, penalty="weight_l1", strength=0.1)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_an_interrupt_leaves_the_best_state(network, waves, optimizer, monkeypatch):
    expected = network()
    run(expected, waves, optimizer=optimizer, steps=3, grid_updates=0)
    net = network().eval()
    evaluated: list[int] = []
    evaluate, total = TrainingRun._evaluate, Objective.total

    def counted(self):
        evaluated.append(self.step)
        return evaluate(self)

    def interrupted(self, *rows):
        if evaluated[-1] == 3:
            raise KeyboardInterrupt  # in the middle of step 4
        return total(self, *rows)

    monkeypatch.setattr(TrainingRun, "_evaluate", counted)
    monkeypatch.setattr(Objective, "total", interrupted)
    with pytest.warns(InterruptedWarning):
        run(net, waves, optimizer=optimizer, steps=50, grid_updates=0)
    assert evaluated == [0, 1, 2, 3]
    assert not net.training
    assert net.scaled
    assert net.statistics is not None
    assert all(p.grad is None for p in net.parameters())
    if optimizer == "lbfgs":  # Adam's rate depends on the number of steps
        assert_close(dict(net.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"learning_rate": 0}, "fit: expected learning_rate to be a positive number, got 0"),
        ({"learning_rate": math.nan}, "expected learning_rate to be a positive number, got nan"),
        ({"optimizer": "adm"}, "expected optimizer to be one of adam, adamw, lbfgs, got 'adm'"),
        ({"penalty": "weight_l2", "strength": 1.0}, "got 'weight_l2'"),
        ({"strength": 0.5}, "expected a penalty for the strength, got none"),
        ({"strength": -1.0}, "fit: expected strength to be a number of at least 0, got -1.0"),
        ({"weight_decay": 0.1}, "got 0.1 with 'lbfgs'"),
        ({"validation": 1.0}, "fit: expected validation to be a share below 1, got 1.0"),
        ({"validation": -0.1}, "fit: expected validation to be a number of at least 0, got -0.1"),
        ({"steps": 1.5}, "fit: expected steps to be a whole number of at least 0, got 1.5"),
        ({"steps": -1}, "fit: expected steps to be a whole number of at least 0, got -1"),
        ({"batch_size": 0}, "fit: expected batch_size to be a whole number of at least 1, got 0"),
        ({"patience": 0}, "fit: expected patience to be a whole number of at least 1, got 0"),
        ({"grid_updates": -1}, "expected grid_updates to be a whole number of at least 0, got -1"),
        ({"entropy_weight": "two"}, "entropy_weight to be a number of at least 0, got 'two'"),
        ({"checkpoint_every": -1}, "checkpoint_every to be a number of at least 0, got -1"),
        ({"resume": True}, "expected a checkpoint to resume from, got none"),
    ],
)
def test_options_that_cannot_be_are_refused(network, waves, options, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        run(network(), waves, **options)
