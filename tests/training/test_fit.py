"""Training ends well: every optimizer, task and shape, the best state, the same bytes again."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.training._objective import score, task_loss
from kanlens.training._options import FitOptions
from tests.training.conftest import run, seeded


@torch.no_grad()
def loss_of(net, x, y):
    return float(task_loss(net, net(x), y))


@torch.no_grad()
def size_of(net):
    return sum(float(kanlens.sparsity.weight_l1(layer).sum()) for layer in net.layers)


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize(
    ("optimizer", "options", "least"),
    [
        ("lbfgs", {"steps": 15}, 0.999),
        ("adam", {"steps": 60, "batch_size": 16, "learning_rate": 0.05}, 0.98),
        ("adamw", {"steps": 60, "batch_size": 16, "learning_rate": 0.05}, 0.98),
    ],
)
def test_regression_is_learned(network, waves, optimizer, options, least):
    net = network((2, 1))
    result = run(net, waves, optimizer=optimizer, **options)
    assert result.metric_name == "R2"
    assert result.metric > least
    assert len(result.held_out) == 12
    kept = torch.ones(60, dtype=torch.bool)
    kept[result.held_out] = False
    held = (waves[0][~kept], waves[1][~kept])
    assert_close(result.metric, score(net, net(held[0]), held[1]))
    assert_close(result.validation_loss, loss_of(net, *held))
    assert_close(net.output_shift, waves[1][kept].mean(0))


@pytest.mark.slow  # trains networks
def test_two_and_three_classes_are_learned(network):
    x = torch.linspace(-2, 2, 60, dtype=torch.float64)[:, None]
    two = run(network((1, 1)), (x, (x[:, 0].abs() > 1).numpy()))
    three = run(network((1, 3)), (x, torch.bucketize(x[:, 0], torch.tensor([-0.6, 0.7]).double())))
    for result in (two, three):
        assert result.metric_name == "accuracy"
        assert result.metric > 0.8
        assert_close(result.model.output_scale, torch.ones_like(result.model.output_scale))
    batches = run(network((1, 3)), (x, torch.arange(60) // 20), optimizer="adam", steps=40)
    assert batches.loss < math.log(3)


def test_several_outputs_are_scaled_one_by_one(network, waves):
    x, y = waves
    both = torch.cat([y, 1e4 * x[:, :1]], dim=1)
    net = network((2, 2))
    result = run(net, (x, both), steps=10)
    assert result.metric > 0.99
    assert net.output_scale[1] > 1e3 * net.output_scale[0]


def test_float32(network, waves):
    net = network((2, 1)).float()
    result = run(net, (waves[0].numpy(), waves[1].numpy()))
    assert net.dtype == torch.float32
    assert math.isfinite(result.loss)
    assert result.loss < 1.0


@pytest.mark.slow  # trains networks
def test_the_same_generator_gives_the_same_bytes(network, waves):
    def bytes_of(seed):
        net = network()
        run(net, waves, optimizer="adam", batch_size=16, generator=seeded(seed))
        return b"".join(t.numpy().tobytes() for t in net.state_dict().values())

    before = torch.get_rng_state()
    assert bytes_of(1) == bytes_of(1)
    assert bytes_of(1) != bytes_of(2)
    assert torch.equal(torch.get_rng_state(), before)  # torch's own are left alone


@pytest.mark.slow  # trains networks
def test_without_generator_torchs_own_decides(network, waves):
    def trained(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            options = {"optimizer": "adam", "steps": 2, "batch_size": 10}
            found = run(network(), waves, generator=None, **options)
            return [*found.model.layers[0].spline_weight.flatten().tolist(), *found.held_out]

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_the_best_state_is_put_back(network, waves):
    net = network((2, 1))
    noise = waves[1] + torch.rand(60, 1, dtype=torch.float64, generator=seeded())
    result = run(net, (waves[0], noise), steps=10)
    losses = {int(r["step"]): r["validation_loss"] for r in result.history}
    assert losses[result.best_step] == min(losses.values())
    held_x, held_y = waves[0][result.held_out], noise[result.held_out]
    assert_close(loss_of(net, held_x, held_y), result.validation_loss)
    last = losses[len(result.history)]
    assert last > result.validation_loss  # or the test would prove nothing


def test_training_never_ends_worse_than_it_began(network, waves):
    net = network((2, 1))
    run(net, waves, steps=12, validation=0.0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    options = {"optimizer": "adam", "learning_rate": 5.0, "validation": 0.0, "grid_updates": 0}
    result = run(net, waves, steps=2, **options)
    assert result.best_step == 0
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


@pytest.mark.slow  # trains networks
def test_the_penalty_decides_which_state_is_best(network, waves):
    plain = run(network(), waves, steps=8)
    sparse = run(network(), waves, steps=8, penalty="weight_l1", strength=0.3)
    assert sparse.history[-1]["penalty"] > 0
    assert plain.history[-1]["penalty"] == 0
    assert size_of(sparse.model) < 0.6 * size_of(plain.model)
    assert sparse.loss > plain.loss
    totals = [r["validation_loss"] + r["penalty"] for r in sparse.history]
    assert totals[sparse.best_step - 1] == min(totals)


def test_entropy_weight_enters_the_penalty(network, waves):
    options = {"steps": 1, "penalty": "weight_l1", "strength": 0.1}
    without = run(network(), waves, entropy_weight=0.0, **options).history[0]["penalty"]
    net = network()
    run(net, waves, entropy_weight=0.0, **options)
    for layer in net.layers:
        layer.statistics = None
    assert_close(without, 0.1 * size_of(net))
    assert run(network(), waves, entropy_weight=5.0, **options).history[0]["penalty"] > without


def test_early_stopping_says_so(network):
    x = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None]
    net = network((1, 1))
    noise = torch.rand(40, dtype=torch.float64, generator=seeded())
    result = run(net, (x, noise), steps=200, patience=3, grid_updates=0)
    assert result.stopped_because == "no improvement in 3 steps"
    assert len(result.history) < 200
    assert len(result.history) >= result.best_step + 3 > 3 or result.best_step == 0


def test_grids_move_on_schedule(network, waves):
    assert FitOptions(steps=40, grid_updates=5).grid_steps() == {0, 5, 10, 15, 20}
    assert FitOptions(steps=3, grid_updates=5).grid_steps() == {0, 1}
    assert FitOptions(steps=10, grid_updates=0).grid_steps() == set()
    for updates, moved in ((0, False), (1, True)):
        net = network((2, 1))
        grid = net.layers[0].grid.clone()
        result = run(net, waves, steps=2, grid_updates=updates)
        assert torch.equal(net.layers[0].grid, grid) != moved
        assert (result.history[0]["grid_error"] > 0) == moved


@pytest.mark.slow  # trains networks
def test_grids_follow_hidden_values_at_the_end_unless_it_costs(network, waves, monkeypatch):
    def outside(cost):
        monkeypatch.setattr("kanlens.training._training_loop.COST", cost)
        net = network((2, 3, 1))
        result = run(net, waves, steps=6, grid_updates=1)
        with torch.no_grad():
            loss = (net(waves[0]) - waves[1]) / net.output_scale
        kept = torch.ones(len(loss), dtype=torch.bool)
        kept[result.held_out] = False
        assert_close(loss[kept].square().mean().item(), result.loss)
        hidden = kanlens.trace(net, waves[0][kept]).inputs[1]
        return float(net.layers[1].outside(hidden).double().mean())  # whatever training reached

    assert outside(-1.0) > 0.02  # never accepted
    assert outside(math.inf) < 0.01  # always accepted


def test_a_target_far_from_all_others_is_named(network):
    x = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None]
    y = x[:, 0] ** 2
    run(network((1, 1)), (x, y), steps=1)
    y[7] = -1e8
    with pytest.warns(
        UserWarning, match=r"^fit: expected targets within 1000 .* got -1e\+08 in row 7"
    ):
        run(network((1, 1)), (x, y), steps=1)


def test_early_stopping_waits_for_the_last_grid(network):
    x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
    with pytest.warns(UserWarning, match="^fit: expected targets that vary"):
        result = run(network((1, 1)), (x, torch.ones(20)), steps=20, patience=1, grid_updates=2)
    assert len(result.history) >= 11  # grids move before steps 0 and 10


def test_a_first_fit_scales_and_a_refit_does_not(network, waves):
    net = network()
    assert_close(net.input_scale, torch.ones(2, dtype=torch.float64))
    run(net, waves, steps=1)
    first = [net.input_shift.clone(), net.input_scale.clone(), net.output_scale.clone()]
    run(net, (waves[0] * 10, waves[1] * 10), steps=1)
    assert_close([net.input_shift, net.input_scale, net.output_scale], first, rtol=0, atol=0)
    run(net, (waves[0] * 100, waves[1] * 10), steps=0, scale=True)
    assert net.input_scale[0] > 5 * first[1][0]


def test_masked_edges_stay_masked_and_untouched(network, waves):
    for optimizer in ("lbfgs", "adam"):
        net = network()
        net.layers[0].mask[1, 0] = 0
        weight = net.layers[0].spline_weight.detach().clone()
        base = net.layers[0].base_weight.detach().clone()
        options = {"steps": 3, "optimizer": optimizer, "grid_updates": 0}
        result = run(net, waves, penalty="weight_l1", strength=0.01, **options)
        assert result.best_step > 0
        layer = net.layers[0]
        assert layer.mask[1, 0] == 0
        assert_close(layer.spline_weight[1, 0], weight[1, 0], rtol=0, atol=0)
        assert_close(layer.base_weight[1, 0], base[1, 0], rtol=0, atol=0)
        assert not torch.equal(layer.spline_weight[0, 0], weight[0, 0])


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_function_edges_are_trained(network, optimizer):
    x = torch.linspace(0.2, 2, 50, dtype=torch.float64)[:, None]
    net = network((1, 1))
    layer = copy.deepcopy(net.layers[0])
    layer.assign(0, 0, "exp", (0.8, 0.1, 1.0, 0.0))
    net = kanlens.KAN.from_layers([layer], net.schema)
    options = {"learning_rate": 0.05, "batch_size": 8} if optimizer == "adam" else {}
    result = run(net, (x, torch.exp(1.3 * x)), optimizer=optimizer, steps=30, **options)
    assert result.best_step > 0
    assert result.metric > (0.999999 if optimizer == "lbfgs" else 0.9)
    assert net.layers[0].functions == (("exp",),)


def test_modes_gradients_and_frozen_weights_are_left_alone(network, waves):
    net = network()
    net.eval()
    net.layers[1].train()
    net.layers[0].base_weight.requires_grad_(False)
    base = net.layers[0].base_weight.clone()
    with torch.no_grad():  # gradients may be off outside
        assert run(net, waves, steps=2).best_step > 0
    assert [m.training for m in (net, *net.layers)] == [False, False, True]
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(net.layers[0].base_weight, base)


@pytest.mark.parametrize(("optimizer", "rows"), [("lbfgs", 2), ("adam", 3)])
def test_two_rows_or_three(network, optimizer, rows):
    x = torch.arange(2.0 * rows).reshape(rows, 2)
    result = run(network(), (x, x.sum(1)), optimizer=optimizer, steps=2)
    assert math.isfinite(result.loss)
    assert len(result.held_out) == round(0.2 * rows)
    assert bool(torch.isfinite(result.model(x.double())).all())


def test_r2_where_it_is_not_defined(network):
    net = network((1, 2))
    y = torch.tensor([[0.1, 0.0], [0.1, 2.0], [0.1, 1.0]], dtype=torch.float64)
    assert score(net, y, y) == 1.0  # of the second output alone
    assert score(net, torch.full_like(y, 1.0), y) == 0.0
    assert math.isnan(score(net, y[:1], y[:1]))


def test_no_steps_scale_and_nothing_else(network, waves):
    net = network()
    weights = [p.detach().clone() for p in net.parameters()]
    result = run(net, waves, steps=0)
    assert result.stopped_because == "the number of steps was 0"
    assert result.best_step == 0
    assert result.history == ()
    assert net.scaled
    assert net.statistics is not None
    assert_close(list(net.parameters()), weights, rtol=0, atol=0)


@pytest.mark.slow  # trains networks
def test_an_imported_model_that_no_step_improves_says_so_and_names_the_way_on(network, waves):
    draw = torch.Generator().manual_seed(1)
    x, y = waves[0], torch.randn(60, 1, dtype=torch.float64, generator=draw)
    elsewhere = network((2, 6, 1))
    run(elsewhere, (x, y), steps=30, validation=0.0)  # which learns them by heart
    net = kanlens.import_model(elsewhere.state_dict())
    before = [p.detach().clone() for p in net.parameters()]
    result = run(net, (x, y), steps=2)
    assert result.best_step == 0
    assert result.stopped_because == (
        "all 2 steps done; none was better than the model as imported, which may have been trained "
        "on the held-out rows and is unchanged: hold none out, or pass rows that it has not seen"
    )
    assert_close(list(net.parameters()), before, rtol=0, atol=0)
    on = run(net, (x, y), steps=2, validation=0.0, grid_updates=0)
    assert on.best_step == 2
    assert on.stopped_because == "all 2 steps done"


def test_the_model_remembers_its_training_data(network, waves):
    net = network()
    result = run(net, waves, steps=1)
    kept = torch.ones(60, dtype=torch.bool)
    kept[result.held_out] = False
    first = net.statistics[0]
    inside = net.scale_inputs(waves[0][kept])
    assert_close(first.input_low, inside.amin(0))
    assert_close(first.input_high, inside.amax(0))
    assert net.background.shape == (48, 2)


def test_the_result_reads_as_a_table_and_as_json(network, waves):
    result = run(network(), waves, steps=2, validation=0.0)
    frame = result.to_frame()
    columns = ["step", "loss", "penalty", "validation_loss", "metric", "grid_error"]
    assert frame.columns.tolist() == columns
    assert frame["step"].tolist() == [1, 2]
    assert math.isnan(result.validation_loss)

    def refuse(word):
        raise ValueError(word)

    data = json.loads(result.to_json(), parse_constant=refuse)
    assert data["validation_loss"] is None
    assert data["history"][0]["loss"] == result.history[0]["loss"]
    assert data["stopped_because"] == "all 2 steps done"


def test_the_bar_shows_loss_and_metric(network, waves, monkeypatch):
    import contextlib

    calls: list[tuple[int, str]] = []

    @contextlib.contextmanager
    def bar(description, total, *, shown=None):  # type: ignore[no-untyped-def]
        assert (description, total, shown) == ("training", 2, None)
        yield lambda steps=1, note="": calls.append((steps, note))

    monkeypatch.setattr("kanlens.training._fit.progress_bar", bar)
    result = run(network(), waves, steps=2, progress=None)
    assert [steps for steps, _ in calls] == [0, 1, 1]
    last = result.history[-1]
    assert calls[-1][1] == f"loss {last['loss']:.3e}  R2 {last['metric']:.4f}"
