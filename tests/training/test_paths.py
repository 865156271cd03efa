"""Paths over strengths: what they hold, how they end, what they choose, and what they refuse."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import kanlens
from kanlens import sparsity
from kanlens.errors import DataError, FileFormatError, InterruptedWarning, InvalidValueError
from kanlens.model._trace import trace
from kanlens.training import _checkpointing as checkpointing
from kanlens.training import _training_loop as run_module
from kanlens.training import sparsity_path
from kanlens.training._checkpointing import read_state
from kanlens.training._objective import constant_loss, row_losses, task_loss
from kanlens.training._result import active_edges, active_features, mean_and_error, weighty_edges
from kanlens.training._training_loop import TrainingRun
from tests.training.conftest import seeded


def planted(rows=120):
    """Four features, of which the last two are irrelevant."""
    x = 2 * torch.rand(rows, 4, generator=seeded(1), dtype=torch.float64) - 1
    y = torch.sin(3 * x[:, 0]) + x[:, 1] ** 2
    return x, y + 0.02 * torch.randn(rows, generator=seeded(2), dtype=torch.float64)


def walk(net, data, **options):
    settings = {"steps": 6, "progress": False, "generator": seeded(), **options}
    return sparsity_path(net, data, **settings)


@pytest.fixture(scope="module")
def path():
    net = kanlens.KAN([4, 1], generator=seeded(0)).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "POLISH", 15)
        return walk(net, planted(), strengths=6)


@pytest.mark.slow
def test_the_path_runs_from_full_to_dead(path):
    assert path.strengths[0] == 0.0
    assert path.strengths == tuple(sorted(path.strengths))
    ratios = np.diff(np.log(path.strengths[1:6]))
    assert_close(ratios, np.full_like(ratios, ratios[0]))
    assert path.steps[0].edges_alive == 4
    assert path.steps[-1].edges_alive == 0
    assert path.stopped_because == (
        f"nearly all edges are zero at strength {path.strengths[-1]:.3g}"
    )
    losses = [step.loss for step in path.steps[2:]]
    assert losses == sorted(losses)


@pytest.mark.slow  # trains networks
def test_the_chosen_model_has_the_planted_structure(path):
    step = path.steps[path.best]
    assert step.features == ("x1", "x2")
    assert step.alive[0].tolist() == [[True, True, False, False]]
    assert step.edges_alive == step.edges_above == 2
    assert step.metric > 0.97
    assert path.model_at() is step.model
    assert path.model_at(0) is path.steps[0].model


@pytest.mark.slow  # takes a while
def test_the_numbers_of_a_step_are_those_of_its_model(path):
    x, y = planted()
    kept = torch.ones(len(x), dtype=torch.bool)
    kept[path.held_out] = False
    target = y.unsqueeze(1)
    assert len(path.held_out) == 24
    for step in path.steps:
        with torch.no_grad():
            output = step.model(x)
            losses = row_losses(step.model, output, target)
            assert_close(losses[kept].mean().item(), step.loss)
            assert_close(losses[~kept].mean().item(), step.held_out_loss)
            error = losses[~kept].std() / math.sqrt(24)
            assert_close(error.item(), step.standard_error)
            inputs = trace(step.model, x[kept]).inputs
            norm = sparsity.activation_l2(step.model.layers[0], inputs[0])
            assert_close(norm.sum().item(), step.penalty)
    shifted = (target[kept].mean() - target[~kept]) / path.model_at(0).output_scale
    assert_close(path.constant_loss, shifted.square().mean().item())


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
def test_the_model_that_was_given_is_left_alone():
    net = kanlens.KAN([4, 1], generator=seeded(0)).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = walk(net, planted(), strengths=[0.01, 0.1], steps=2)
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
    assert not net.scaled
    assert net.statistics is None
    models = [net, *(step.model for step in found.steps)]
    assert len({id(model) for model in models}) == 3
    assert found.stopped_because == "all strengths done"


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
def test_each_step_begins_where_the_last_one_ended(network, monkeypatch):
    starts: list[Tensor] = []
    begin = TrainingRun.begin

    def noted(self, *given):
        starts.append(self.model.layers[0].spline_weight.detach().clone())
        begin(self, *given)

    monkeypatch.setattr(TrainingRun, "begin", noted)
    found = walk(network((4, 1)), planted(), strengths=[0.0, 0.01, 0.1], steps=2)
    for start, step in zip(starts[1:], found.steps, strict=False):
        assert_close(start, step.model.layers[0].spline_weight.detach(), rtol=0, atol=0)


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("penalty", ["activation_l1", {"weight_l1": 1.0, "curvature": 1e-4}])
def test_other_penalties_make_edges_small(network, penalty):
    options = {"penalty": penalty, "strengths": [0.0, 0.02], "entropy_weight": 1.0}
    found = walk(network((4, 1)), planted(), **options)
    assert found.steps[1].edges_alive == 4
    assert found.steps[1].penalty < found.steps[0].penalty
    weights = {penalty: 1.0} if isinstance(penalty, str) else penalty
    assert found.penalty == weights


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
def test_classes_and_products(network):
    x, y = planted()
    found = walk(network((4, (1, 1), 1)), (x, y > 0.4), strengths=[0.0, 0.02], steps=2)
    assert found.metric_name == "accuracy"
    assert 0.5 < found.constant_loss < 0.8
    assert found.model_at(1).class_labels == ("False", "True")


@pytest.mark.usefixtures("short_polish")
def test_an_interrupt_returns_what_was_found(network, monkeypatch):
    begin, calls = TrainingRun.begin, []

    def interrupted(self, *given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        begin(self, *given)

    monkeypatch.setattr(TrainingRun, "begin", interrupted)
    with pytest.warns(InterruptedWarning, match="^sparsity_path: interrupted"):
        found = walk(network((4, 1)), planted(), strengths=[0.0, 0.01, 0.1, 1.0], steps=1)
    assert found.strengths == (0.0, 0.01)
    assert found.stopped_because == "interrupted after strength 0.01"
    calls[:] = [1, 1]
    with pytest.raises(KeyboardInterrupt):
        walk(network((4, 1)), planted(), strengths=[0.0], steps=1)


@pytest.mark.slow  # starts another interpreter
@pytest.mark.usefixtures("short_polish")
@pytest.mark.parametrize(
    ("options", "call"),
    [({"optimizer": "adam", "batch_size": 32}, 8), ({}, 2)],
    ids=["adam", "in the first strength"],
)
def test_a_resumed_path_is_bit_for_bit_the_unbroken_one(
    network, monkeypatch, tmp_path, options, call
):
    settings = {"strengths": 3, "steps": 2, **options}
    whole = walk(network((4, 1)), planted(), **settings)
    one_step, calls = TrainingRun._one_step, []

    def interrupted(self, move_grids):
        calls.append(1)
        if len(calls) == call:  # of two steps for each strength
            raise KeyboardInterrupt
        one_step(self, move_grids)

    saving = {"checkpoint": tmp_path / "c", **settings}
    ended = pytest.warns(InterruptedWarning) if call > 2 else pytest.raises(KeyboardInterrupt)
    with monkeypatch.context() as patch, ended:
        patch.setattr(checkpointing, "COPIED", 0.0)
        patch.setattr(TrainingRun, "_one_step", interrupted)
        walk(network((4, 1)), planted(), **saving)
    saved = read_state(tmp_path / "c")
    assert len(saved["steps"]) == (call - 1) // 2
    assert saved["run"]["step"] == (call - 1) % 2
    monkeypatch.setattr(TrainingRun, "_one_step", count := Counted(one_step))
    again = walk(network((4, 1), seed=0), planted(), **saving, resume=True, generator=seeded(9))
    assert count.calls == 2 * len(whole.steps) - (call - 1)
    assert again.stopped_because == whole.stopped_because
    assert again.best == whole.best
    for one, other in zip(again.steps, whole.steps, strict=True):
        for name in ("strength", "loss", "held_out_loss", "penalty", "metric", "stopped_because"):
            assert getattr(one, name) == getattr(other, name)
        assert_close(one.model.state_dict(), other.model.state_dict(), rtol=0, atol=0)
        for mine, theirs in zip(one.model.statistics, other.model.statistics, strict=True):
            assert torch.equal(mine.quantiles, theirs.quantiles)
    text = (
        "sparsity_path: expected a checkpoint of the same data, model and options, got one with "
        "other options (strengths 3 there, 4 here). "
        "Resume with the same arguments, or leave out resume=... to start anew."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        walk(network((4, 1)), planted(), **{**saving, "strengths": 4}, resume=True)


class Counted:
    """A method of runs that counts its calls."""

    def __init__(self, method):
        self.method, self.calls = method, 0

    def __get__(self, run, _=None):
        def called(move_grids):
            self.calls += 1
            self.method(run, move_grids)

        return called


def test_a_path_cannot_resume_from_nothing(network):
    with pytest.raises(InvalidValueError, match="to resume from, got none"):
        walk(network((4, 1)), planted(), resume=True)


@pytest.mark.slow  # trains networks
def test_a_path_that_is_stuck_ends(network):
    found = walk(network((4, 1)), planted(), strengths=2, steps=1, learning_rate=1e-12)
    assert len(found.steps) <= 4
    last = found.strengths[-1]
    assert found.stopped_because == (
        f"edges are nonzero at strength {last:.3g}, the last one tried"
    )


@pytest.mark.usefixtures("short_polish")
def test_the_bar_shows_every_strength(network, monkeypatch):
    calls: list[tuple[int, str]] = []

    @contextlib.contextmanager
    def bar(description, total, *, shown=None):  # type: ignore[no-untyped-def]
        assert (description, total, shown) == ("path", 2, None)
        yield lambda steps=1, note="": calls.append((steps, note))

    monkeypatch.setattr("kanlens.training._sparsity_path.progress_bar", bar)
    found = walk(network((4, 1)), planted(), strengths=[0.0, 0.1], steps=1, progress=None)
    assert [steps for steps, _ in calls] == [0, 1, 1]
    step = found.steps[1]
    assert calls[-1][1] == (
        f"strength 1.00e-01  loss {step.held_out_loss:.2e}  {step.edges_above} edges"
    )


def test_the_result_reads_as_a_table_and_as_json(path):
    frame = path.to_frame()
    assert frame["strength"].tolist() == list(path.strengths)
    assert frame.index[frame["best"]].tolist() == [path.best]
    assert frame.loc[path.best, "features"] == "x1, x2"

    def refuse(word):
        raise ValueError(word)

    data = json.loads(path.to_json(), parse_constant=refuse)
    assert data["best"] == path.best
    assert data["steps"][path.best]["alive"] == [[[True, True, False, False]]]
    assert data["penalty"] == {"activation_l2": 1.0}


# --- the choice -----------------------------------------------------------------------------------


def test_the_choice_is_the_sparsest_within_one_standard_error_or_the_tolerance(path):
    def best(losses, error, edges, tolerance):
        steps = tuple(
            dataclasses.replace(
                path.steps[0], held_out_loss=loss, standard_error=error, edges_above=count
            )
            for loss, count in zip(losses, edges, strict=True)
        )
        return dataclasses.replace(path, steps=steps, constant_loss=1.0, tolerance=tolerance).best

    losses, edges = [0.10, 0.11, 0.14, 0.9], [9, 5, 3, 0]
    assert best(losses, 0.02, edges, 0.0) == 1
    assert best(losses, 0.05, edges, 0.0) == 2
    assert best(losses, 0.0, edges, 0.0) == 0
    assert best(losses, 0.0, edges, 0.05) == 2
    assert best([0.1, 0.1, 0.1], 0.0, [5, 5, 5], 0.0) == 0
    assert best([math.nan, 0.2, 0.1], 0.0, [1, 5, 5], 0.0) == 2


def test_errors_of_means():
    assert mean_and_error(torch.tensor([2.0])) == (2.0, 0.0)


# --- structure ------------------------------------------------------------------------------------


def test_edges_without_a_path_are_left_out():
    net = kanlens.KAN([2, 3, 1])
    first = torch.tensor([[True, False], [False, True], [False, False]])
    second = torch.tensor([[True, False, True]])
    found = active_edges(net, [first, second])
    assert found[0].tolist() == [[True, False], [False, False], [False, False]]
    assert found[1].tolist() == [[True, False, False]]
    assert active_features(net, found) == ("x1",)
    assert first.sum() == 2  # left alone


def test_a_product_is_reached_by_its_factors():
    net = kanlens.KAN([2, (1, 1), 1])  # sums 0; 1 and 2 are multiplied
    first = torch.tensor([[False, False], [True, False], [False, True]])
    found = active_edges(net, [first, torch.tensor([[True, True]])])
    assert torch.equal(found[0], first)
    assert found[1].tolist() == [[False, True]]
    found = active_edges(net, [first, torch.tensor([[True, False]])])
    assert not any(mask.any() for mask in found)


def test_the_threshold_is_relative_to_the_layer(network):
    net, x = network((4, 1)), planted()[0]
    layer = net.layers[0]
    with torch.no_grad():
        layer.spline_weight[0, 1] *= 1e-6
        layer.base_weight[0, 1] *= 1e-6
        layer.spline_weight[0, 2] = 0.0
        layer.base_weight[0, 2] = 0.0
        layer.mask[0, 3] = 0.0
    assert weighty_edges(net, [x], 0.01)[0].tolist() == [[True, False, False, False]]
    assert weighty_edges(net, [x], 0.0)[0].tolist() == [[True, True, False, False]]


def test_the_loss_of_the_best_constant(network):
    net = network((1, 3))
    net.schema = dataclasses.replace(
        net.schema, task="classification", class_labels=("a", "b", "c")
    )
    codes = torch.tensor([0, 0, 1, 1, 1, 2])
    share = torch.tensor([2.0, 3.0, 1.0]).double() / 6
    expected = -(share * share.log()).sum().item()
    assert constant_loss(net, codes, codes) == pytest.approx(expected, abs=1e-6)
    other = share.log().expand(6, -1) + torch.tensor([0.1, 0.0, 0.0])
    assert task_loss(net, other, codes).item() > expected


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strengths": [0.1, 0.1]}, "expected strictly increasing strengths, got [0.1, 0.1]"),
        ({"strengths": []}, "sparsity_path: expected some strengths, got []"),
        ({"penalty": None}, "expected penalty to be a norm or norms with weights, got None"),
        ({"strengths": "0.1"}, "number of strengths to be a whole number of at least 2, got '0.1'"),
        ({"strengths": [-1.0]}, "expected a strength to be a number of at least 0, got -1.0"),
        ({"strengths": 1}, "the number of strengths to be a whole number of at least 2, got 1"),
        ({"threshold": -0.1}, "expected threshold to be a number of at least 0, got -0.1"),
        ({"optimiser": "adam"}, "got 'optimiser'"),
        ({"penalty": "activation_l3"}, "got 'activation_l3'"),
    ],
)
def test_messages(network, options, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        walk(network((4, 1)), planted(), **options)


def test_data_that_does_not_fit_is_refused_under_the_name_of_the_call(network):
    with pytest.raises(DataError, match=r"expected data to be a Table or a pair \(x, y\), got int"):
        walk(network((4, 1)), 3)


def test_a_path_index_that_is_none_is_refused(path):
    count = len(path.steps)
    text = f"an index from {-count} to {count - 1}, got 99"
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        path.model_at(99)
