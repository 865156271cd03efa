"""Training when nothing is chosen: members, folds, the path, and the way back from a kill."""

import re
import signal
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.attribution import effect
from kanlens.errors import FileFormatError, InterruptedWarning, InvalidValueError
from kanlens.model._kan_linear import KANLinear
from kanlens.training import _default_ensemble as ensemble
from kanlens.training import _fit_default, _process_group, fit_default
from kanlens.training._checkpointing import read_state
from kanlens.training._default_ensemble import EnsembleRun, add_penalties, grid_intervals
from kanlens.training._objective import score
from kanlens.training._process_group import Ranks
from kanlens.training._small_network import SmallNetwork
from tests.training.conftest import seeded


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(ensemble, "UPDATES", (120, 1000, 200))


@pytest.fixture
def briefest(monkeypatch):
    """Updates for what does not ask how well they train."""
    monkeypatch.setattr(ensemble, "UPDATES", (40, 1000, 60))


def built(hidden, grid_size, outputs=1, **options):
    generator = torch.Generator().manual_seed(1)
    model = kanlens.KAN([2, *hidden, outputs], grid_size=grid_size, generator=generator, **options)
    return model.double()


def table(function, rows=90):
    x = torch.rand(rows, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 10 + 5 * x, function(2 * x - 1)


def product(x):
    return 100 + 30 * x[:, :1] * x[:, 1:]


def run_on(x, y, model, seed=0, weights=None):
    run = EnsembleRun(model, x, y, weights, torch.Generator().manual_seed(seed))
    run.begin()
    return run


@pytest.mark.slow  # trains networks
def test_the_network_is_the_mean_of_its_members():
    x, y = table(product)
    model = built([48], 5, outputs=1)
    run = run_on(x, y, model)
    run.train(lambda *_, **__: None)
    with torch.no_grad():
        members = run._by_member(run._outputs(run.x)).double().mean(1)
        members = members * model.output_scale + model.output_shift
        torch.testing.assert_close(model(x), members, rtol=1e-5, atol=1e-3)
        networks = run.finish(0.0).members
        outputs = torch.stack([network(x) for network in networks], 1)[:, :, 0]
        own = run._by_member(run._outputs(run.x)).double()[:, :, 0]
    own = own * model.output_scale + model.output_shift
    torch.testing.assert_close(outputs, own, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(outputs.mean(1), model(x)[:, 0], rtol=0, atol=1e-11)
    assert sum(network.edges_alive for network in networks) == model.edges_alive
    whole = effect(model, "x1", x)
    parts = effect(networks, "x1", x)
    torch.testing.assert_close(parts.values, whole.values, rtol=0, atol=1e-11)
    assert parts.members.std(0).max() > 0
    assert "members" not in run.finish(0.0).to_json()
    assert model.statistics is not None
    assert len(model.background) == 90


@pytest.mark.slow  # trains networks
def test_hidden_units_of_training_rows_are_where_the_functions_were_learned(monkeypatch):
    monkeypatch.setattr("kanlens.training._training_loop.COST", -1.0)  # as if grids cost
    x, y = table(product)
    found = fit_default((x, y), build=built, generator=seeded(2), progress=False).model
    hidden = found.levels(found.scale_inputs(x))[0][1]
    assert float(found.layers[1].outside(hidden).any(1).double().mean()) > 0.5
    assert not kanlens.trace(found, x).outside[1].any()


def test_gradients_of_penalties_are_those_of_their_definition():
    run = run_on(*table(product), built([], 6))
    layer = KANLinear(3, 4, grid_size=6).double()
    with torch.no_grad():
        layer.mask[1, 2] = layer.mask[3, 0] = 0.0
    for _ in range(2):  # they are added up
        add_penalties(layer, run.bend.double() * 0.3, 0.7)
    found = [parameter.grad for parameter in layer.parameters()]
    coef, base = layer.coefficients(), layer.base_weights()
    norms = (coef.square().mean(-1) + base.square() + 1e-8).sqrt()
    total = 0.3 * coef.diff(n=2).square().sum() + 0.7 * norms.sum()
    parameters = [layer.base_weight, layer.spline_weight, layer.spline_scaler]
    expected = torch.autograd.grad(2 * total, parameters)
    assert layer.bias.grad is None
    torch.testing.assert_close(found[:3], list(expected), rtol=1e-12, atol=1e-14)


def test_members_do_not_see_their_folds():
    x, y = table(product)
    run = run_on(x, y, built([48], 5))
    assert (run.judged.sum(1) == 1).all()
    assert run.judged.sum(0).tolist() == [15] * 6
    fold = run.judged[:, 2]
    run.y[fold] += 1000.0  # what a member does not see cannot move it
    other = run_on(x, y, built([48], 5))
    for one in (run, other):
        one.objective = None  # the penalty of single networks takes no part
        one._one_pass()
    rows = run.x[:5]
    with torch.no_grad():
        moved = (run._by_member(run.model(rows) - other.model(rows))).abs().amax((0, 2))
    assert float(moved[2]) < 1e-6
    assert float(moved[[0, 1, 3, 4, 5]].min()) > 1e-4


@pytest.mark.slow  # trains networks
def test_every_row_is_judged_by_a_member_that_has_not_seen_it():
    x, y = table(product)
    found = fit_default((x, y), build=built, generator=seeded(), progress=False)
    assert sorted(found.held_out.tolist()) == list(range(90))
    assert 0.9 < found.metric < 1
    assert found.model.widths == (2, 48, 1)


def test_members_that_disagree_do_not_lower_the_loss_below_that_of_their_mean(monkeypatch):
    x, y = table(product)
    run = run_on(x, y, built([48], 5))
    for wild in (0.0, 3.0):  # off the targets everywhere but in their own folds
        outputs = run.y + 0.1 + wild * torch.randn(90, 6, generator=seeded()) * ~run.judged
        monkeypatch.setattr(run, "_outputs", lambda _, outputs=outputs: outputs)
        errors = (outputs - run.y).double().square()
        held, mean = errors[run.judged].mean(), (outputs.mean(1) - run.y[:, 0]).square().mean()
        unbiased = float(held - (errors.mean() - mean))
        assert (unbiased < -1) == bool(wild)
        found = run._evaluate()["validation_loss"]
        assert found == pytest.approx(max(unbiased, float(mean)), rel=1e-4)


def test_logits_of_members_get_the_level_and_spread_of_their_mean():
    outputs = torch.randn(50, 6, 3, generator=seeded(), dtype=torch.float64)
    outputs = outputs * torch.arange(1.0, 7)[:, None] + torch.arange(3.0)
    found, mean = ensemble.spread_as_mean(outputs), outputs.mean(1)
    for k in range(6):
        torch.testing.assert_close(found[:, k].mean(0), mean.mean(0))
        spreads = [(part - part.mean(0)).square().sum() for part in (found[:, k], mean)]
        assert float(spreads[0]) == pytest.approx(float(spreads[1]), rel=1e-9)
        turned = torch.stack([found[:, k, 0], outputs[:, k, 0]])
        assert float(turned.corrcoef()[0, 1]) == pytest.approx(1)
    outputs[:, 2] = 4.0  # a member that is flat
    assert bool(ensemble.spread_as_mean(outputs).isfinite().all())
    torch.testing.assert_close(ensemble.spread_as_mean(outputs[:, :1]), outputs[:, :1])


@pytest.mark.slow  # trains networks
def test_no_hidden_layer_where_none_pays(monkeypatch):
    monkeypatch.setattr(ensemble, "UPDATES", (400, 1000, 400))
    x, y = table(lambda x: x[:, :1] ** 2 + x[:, 1:])
    generator = torch.Generator().manual_seed(0)
    found = fit_default((x, y), build=built, progress=False, generator=generator)
    assert found.model.widths == (2, 1)
    assert found.metric > 0.9


@pytest.mark.slow  # trains networks
def test_noise_is_not_fitted():
    x, _ = table(product)
    noise = torch.randn(90, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = fit_default((x, noise), build=built, generator=seeded(), progress=False)
    with torch.no_grad():
        assert float(found.model(x).var()) < 0.3
    assert found.metric > -0.15


@pytest.mark.slow
@pytest.mark.usefixtures("few_folds")
def test_classes_and_several_outputs():
    x, y = table(lambda x: torch.cat((x[:, :1] * x[:, 1:], x[:, :1]), 1))
    labels = np.array(["a", "b", "c"])[(y > 0).sum(1).numpy()]
    options = {"generator": seeded(), "progress": False}
    found = fit_default((x, labels), build=lambda *sizes: built(*sizes, outputs=3), **options)
    assert found.metric_name == "accuracy"
    assert found.metric > 0.8
    found = fit_default((x, y), build=lambda *sizes: built(*sizes, outputs=2), **options)
    assert found.metric > 0.8


def drawn(rows, seed, **options):
    """Train on rows by default; all draws, those of the weights too, are of one generator."""
    generator = torch.Generator().manual_seed(seed)

    def build(hidden, grid_size):
        widths = [2, *hidden, 1]
        return kanlens.KAN(widths, grid_size=grid_size, generator=generator).double()

    return fit_default(rows, build=build, generator=generator, progress=False, **options)


def stopped(monkeypatch, layers, error, after=3):
    """Have an error come in the middle of the training of a network of that many layers."""
    functions = {1: (SmallNetwork, "step"), 2: (EnsembleRun, "_learn")}
    function, done = getattr(*functions[layers]), []

    def broken(self, *given):
        done.append(None)
        if len(done) == after:
            raise error
        return function(self, *given)

    monkeypatch.setattr(*functions[layers], broken)


@pytest.mark.slow
@pytest.mark.usefixtures("briefest")
@pytest.mark.parametrize("layers", [1, 2])
def test_a_killed_run_goes_on_bit_for_bit_from_either_network(tmp_path, monkeypatch, layers):
    rows, path = table(product), tmp_path / "run"
    whole = drawn(rows, 4)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        stopped(patch, layers, RuntimeError("killed"))
        drawn(rows, 4, checkpoint=path, checkpoint_every=0)
    again = drawn(rows, 5, checkpoint=path, resume=True)  # its draws, not those of the seed
    assert torch.equal(again.model(rows[0]), whole.model(rows[0]))
    assert again.history == whole.history
    assert not again.interrupted


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("briefest")
def test_an_interrupt_in_the_first_network_waits_and_leaves_a_checkpoint(tmp_path, monkeypatch):
    rows, path, update = table(product), tmp_path / "run", SmallNetwork.step

    def interrupted(self, *given):
        signal.raise_signal(signal.SIGINT)
        return update(self, *given)

    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning, match="continues from"):
        patch.setattr(SmallNetwork, "step", interrupted)
        patch.setattr(EnsembleRun, "_learn", pytest.fail)
        part = drawn(rows, 4, checkpoint=path)
    assert part.interrupted
    assert part.model.widths == (2, 1)
    assert len(part.held_out) == 90
    assert set(read_state(path)) == {"identity", "draws"}
    again = drawn(rows, 5, checkpoint=path, resume=True)
    assert torch.equal(again.model(rows[0]), drawn(rows, 4).model(rows[0]))


@pytest.mark.usefixtures("briefest")
def test_a_checkpoint_of_the_first_network_is_of_its_rows(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        stopped(patch, 1, RuntimeError("killed"))
        drawn(table(product), 4, checkpoint=path)
    with pytest.raises(FileFormatError, match="expected a checkpoint of the same data"):
        drawn(table(product, rows=80), 4, checkpoint=path, resume=True)


@pytest.mark.usefixtures("briefest")
def test_an_interrupt_before_the_hidden_layer_is_of_use_is_told(monkeypatch):
    x, y = table(lambda x: x[:, :1].square())
    update = EnsembleRun._learn

    def interrupted(self, *given):
        if len(self.model.layers) == 2:
            raise KeyboardInterrupt
        update(self, *given)

    monkeypatch.setattr(EnsembleRun, "_learn", interrupted)
    with pytest.warns(InterruptedWarning):
        found = fit_default((x, y), build=built, progress=False)
    assert len(found.model.layers) == 1
    assert found.stopped_because == "interrupted after step 0"
    assert found.interrupted


def test_an_interrupt_of_another_process_ends_all(monkeypatch):
    monkeypatch.setattr(_process_group, "add_up", lambda flag: flag + 1)
    monkeypatch.setattr(_fit_default, "joined", lambda *_: nullcontext(Ranks(count=2)))
    monkeypatch.setattr(Ranks, "copy", lambda *_: None)
    monkeypatch.setattr(EnsembleRun, "_learn", pytest.fail)
    for options in ({}, {"max_edges": 4}):
        with pytest.warns(InterruptedWarning):
            found = fit_default(table(product), progress=False, **options)
        assert found.interrupted


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("briefest")
@pytest.mark.parametrize("rows", [2, 3, 7])
def test_few_rows(rows):
    x, y = table(product, rows)
    found = fit_default((x, y), build=built, progress=False)
    assert bool(found.model(x).isfinite().all())


def test_grids_grow_with_the_rows():
    assert [grid_intervals(n) for n in (2, 50, 500, 5000, 10**6)] == [3, 5, 8, 13, 20]


@pytest.mark.parametrize("wrong", [[1.0], [-1.0] * 90, [0.0] * 90, [float("nan")] * 90])
def test_weights_that_are_none_are_refused(wrong):
    x, y = table(product)
    text = "fit: expected sample_weight to be 90 numbers of at least 0, not all 0, got "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        kanlens.fit(built([], 3), (x, y), sample_weight=wrong, steps=1)


def test_weights_enter_the_loss_of_a_single_network():
    x, y = table(product)
    weights = torch.arange(90) % 3
    loss = kanlens.fit(built([], 3), (x, y), steps=0, validation=0.0, sample_weight=weights).loss
    repeated = torch.arange(90).repeat_interleave(weights)
    model = built([], 3)
    kanlens.fit(model, (x, y), steps=0, validation=0.0)
    errors = ((model(x) - y) / model.output_scale).detach().square()[repeated]
    assert loss == pytest.approx(float(errors.mean()))


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("briefest")
@pytest.mark.usefixtures("few_folds")
def test_the_rows_choose_the_default_network():
    x, y = table(product)
    state = torch.get_rng_state()
    found = kanlens.fit_default((x, y), progress=False, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert found.model.widths[0] == 2
    assert found.metric > 0.5
    frame = pd.DataFrame({"size": x[:, 0], "kind": ["a", "b", "c"] * 30})
    labels = [("low", "middle", "high")[k % 3] for k in range(90)]
    found = kanlens.fit_default((frame, labels), progress=False)
    assert found.model.feature_names == ("size", "kind=a", "kind=b", "kind=c")
    assert found.model.class_labels == ("high", "low", "middle")
    rows = kanlens.read_table(frame.assign(y=labels), target="y")
    short = {"hidden": (), "progress": False}
    assert kanlens.fit_default(rows, **short).model.widths[-1] == 3
    assert kanlens.fit_default((x, y > y.mean()), **short).model.task == "classification"
    with pytest.raises(TypeError, match=r"fit: expected a KAN, got None. Call fit_default"):
        kanlens.fit(None, (x, y))
    with pytest.raises(TypeError, match="fit: expected options to be FitOptions or None, got dict"):
        kanlens.fit(kanlens.KAN([2, 1]), (x, y), {"steps": 2})
    for data, match in (
        ((x[:, 0], y), r"x of shape \(batch, in\), got \(90,\)"),
        (kanlens.read_table(frame), "fit_default: expected a table with a target, got none"),
        (x, r"a Table or a pair \(x, y\)"),
    ):
        with pytest.raises(kanlens.errors.KanlensError, match=match):
            kanlens.fit_default(data, progress=False)


SHAPES = {(5,): (2, 5, 1), (16,): (2, 16, 1), ((1, 7),): (2, 8, 1), (5, 3): (2, 5, 3, 1)}


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("briefest")
@pytest.mark.parametrize("hidden", SHAPES)
def test_a_shape_alone_is_trained_by_the_recipe(hidden, monkeypatch):
    monkeypatch.setattr("kanlens.training._fit_default.fit_additive", pytest.fail)
    x, y = table(product)
    result = fit_default((x, y), hidden=hidden, generator=seeded(), progress=False)
    assert result.model.widths == SHAPES[hidden]
    if hidden == (16,):  # two members
        assert result.folds.bincount().tolist() == [45, 45]
        assert len(result.held_out) == 90
        return
    assert result.folds is None
    assert len(result.held_out) == 15
    with torch.no_grad():
        outputs = result.model(x)[result.held_out]
    expected = score(result.model, outputs, y[result.held_out])
    assert result.metric == pytest.approx(expected, abs=1e-4)


@pytest.mark.usefixtures("briefest")
def test_rows_held_out_of_a_single_network_are_not_learned():
    x, y = table(product)
    runs = [run_on(x, y, built([5], 5)) for _ in range(2)]
    held = runs[0].judged[:, 0]
    runs[0].y[held] += 1000.0
    other = run_on(x, y, built([5], 5))
    other.y[~held] += 1.0
    for run in (*runs, other):
        run._one_pass()
    with torch.no_grad():
        outputs = [run.model(run.x[:5]) for run in (*runs, other)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[2], outputs[1])


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("briefest")
def test_a_given_shape_goes_on_from_its_checkpoint_alone(tmp_path, monkeypatch):
    rows, path = table(product), tmp_path / "run"
    whole = drawn(rows, 4, hidden=(5,))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        stopped(patch, 2, RuntimeError("killed"))
        drawn(rows, 4, hidden=(5,), checkpoint=path, checkpoint_every=0)
    again = drawn(rows, 5, hidden=(5,), checkpoint=path, resume=True)
    assert torch.equal(again.model(rows[0]), whole.model(rows[0]))
    for hidden in ((), (6,)):
        with pytest.raises(FileFormatError, match="expected a checkpoint of the same data"):
            drawn(rows, 4, hidden=hidden, checkpoint=path, resume=True)


def test_widths_that_are_no_sequence_are_refused():
    with pytest.raises(TypeError, match="fit_default: expected hidden to be a sequence of widths"):
        fit_default(table(product), hidden=5)
