"""trace and store_statistics: what is recorded, from whom it stays apart, and no side effects."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kanlens.errors import ShapeError
from kanlens.model import _spline_forward as spline_forward
from kanlens.model._network import KAN
from kanlens.model._trace import edge_moments, store_statistics, trace
from tests.model.layers_for_tests import refused, seeded


def problem(**options: object) -> tuple[KAN, Tensor]:
    model = KAN([3, 4, 2], generator=seeded(), scale_noise=5.0, **options).double()
    with torch.no_grad():
        model.input_shift += 1.0
        model.input_scale *= 2.0
        model.output_scale *= 3.0
        model.layers[1].bias += torch.tensor([1.0, -2.0])
    return model, 1.0 + 3.0 * torch.randn(40, 3, generator=seeded(1), dtype=torch.float64)


@pytest.mark.parametrize("mode", ["linear", "zero"])
def test_trace_records_every_layer(mode):
    model, x = problem(extrapolation=mode)
    record = trace(model, x)
    assert_close(record.x, x)
    assert_close(record.output, model(x).detach())
    hidden = model.scale_inputs(x)
    for index, layer in enumerate(model.layers):
        assert_close(record.inputs[index], hidden)
        assert_close(record.edge_values(index), layer.edge_values(hidden).detach())
        assert_close(record.edge_derivatives(index), layer.edge_derivatives(hidden).detach())
        sums = record.edge_values(index).sum(2) + layer.bias.detach()
        assert_close(record.pre_activations[index], sums)
        hidden = layer(hidden).detach()
    assert not record.output.requires_grad
    assert not record.edge_values(0).requires_grad


def test_outside_is_the_share_of_inputs_and_hidden_units_beyond_the_grid():
    model, x = problem()
    record = trace(model, x)
    for index, layer in enumerate(model.layers):
        low, high = (float(end[0]) for end in layer.domain())
        values = record.inputs[index].detach().numpy()
        expected = ((values < low) | (values > high)).mean(0)
        assert_close(record.outside[index], torch.from_numpy(expected))
        assert 0 < record.outside[index].max() <= 1
    both = torch.cat(record.outside)
    assert record.outside_share == pytest.approx(both.mean().item())
    assert trace(model, torch.ones(5, 3).double()).outside[0].sum() == 0.0
    assert trace(model, 99 * torch.ones(5, 3).double()).outside[0].tolist() == [1.0] * 3


def test_hidden_units_are_inside_where_training_data_reached():
    model, x = problem()
    assert trace(model, x).outside[1].max() > 0.1  # no training data is known
    store_statistics(model, x)
    assert not trace(model, x).outside[1].any()
    beyond, known = trace(model, 3 * x), model.layers[1].statistics
    values, room = beyond.inputs[1], 0.01 * (known.input_high - known.input_low)
    far = (values < known.input_low - room) | (values > known.input_high + room)
    expected = (far & model.layers[1].outside(values)).double().mean(0)
    assert_close(beyond.outside[1], expected)
    assert expected.max() > 0.1


def test_a_trace_does_not_change_with_its_model_or_its_input():
    model, x = problem()
    record = trace(model, x)
    before = [record.x, record.inputs[0], record.edge_values(0), record.output]
    before = [tensor.clone() for tensor in before]
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1.0)
        x.add_(1.0)
    after = [record.x, record.inputs[0], record.edge_values(0), record.output]
    assert_close(after, before, rtol=0, atol=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.x = x


def disturbed(model: KAN, call) -> list[str]:
    """Name what a call changed besides what it returned."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = {name: p.grad for name, p in model.named_parameters()}
    mode, hooks = model.training, count_hooks(model)
    call()
    found = []
    if not torch.equal(states[0], torch.get_rng_state()):
        found.append("torch's random state")
    numpys = np.random.get_state()[1]  # noqa: NPY002
    if states[1] != random.getstate() or not np.array_equal(states[2], numpys):
        found.append("another random state")
    if any(not torch.equal(tensors[name], t) for name, t in model.state_dict().items()):
        found.append("tensors")
    if any(p.grad is not grads[name] for name, p in model.named_parameters()):
        found.append("gradients")
    if any(not p.requires_grad for p in model.parameters()):
        found.append("requires_grad")
    if model.training != mode or any(m.training != mode for m in model.modules()):
        found.append("mode")
    if count_hooks(model) != hooks:
        found.append("hooks")
    return found


def count_hooks(model: KAN) -> int:
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())


@pytest.mark.parametrize("training", [True, False])
def test_analyses_leave_the_model_and_every_random_state_alone(training):
    model, x = problem()
    model.train(training)
    model(x).sum().backward()
    low, high = torch.full((3,), -1.0).double(), torch.full((3,), 2.0).double()
    layer = model.layers[0]
    for call in (
        lambda: trace(model, x).edge_values(1),
        lambda: trace(model, x).to_frame(),
        lambda: edge_moments(layer, x),
        lambda: layer.edge_bounds(low, high),
        lambda: layer.edge(0, 0).roots(),
        lambda: layer.weight_l1(x),
        lambda: layer.select([0], [1]),
        lambda: store_statistics(model, x),
        model.config.to_json,
    ):
        assert disturbed(model, call) == []


def test_disturbance_check_has_teeth():
    model, x = problem()
    model(x).sum().backward()

    def draws() -> None:
        torch.rand(1)

    def writes() -> None:
        model.input_shift.add_(1.0)

    def hooks() -> None:
        model.layers[0].register_forward_hook(lambda *_: None)

    before = torch.get_rng_state()
    assert disturbed(model, draws) == ["torch's random state"]
    torch.set_rng_state(before)
    assert disturbed(model, writes) == ["tensors"]
    assert disturbed(model, model.eval) == ["mode"]
    assert disturbed(model, model.zero_grad) == ["gradients"]
    assert disturbed(model, hooks) == ["hooks"]
    assert disturbed(model, lambda: model.requires_grad_(False)) == ["requires_grad"]


def test_frame_has_a_row_per_layer_input():
    model, x = problem(feature_names=["a", "b", "c"])
    record = trace(model, x)
    frame = record.to_frame()
    assert frame["name"].tolist() == ["a", "b", "c", "h1_1", "h1_2", "h1_3", "h1_4"]
    assert frame["layer"].tolist() == [0] * 3 + [1] * 4
    assert frame["in"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    values = record.inputs[1][:, 2]
    row = frame.iloc[5]
    assert row["low"] == pytest.approx(values.min().item())
    assert row["high"] == pytest.approx(values.max().item())
    assert row["mean"] == pytest.approx(values.mean().item())
    assert row["outside"] == pytest.approx(record.outside[1][2].item())


@pytest.mark.parametrize(("small", "chunk"), [(2**16, 1), (1, 1), (1, 50), (1, 10**9)])
def test_edge_moments_are_those_of_all_rows_at_once(small, chunk, monkeypatch):
    monkeypatch.setattr(spline_forward, "MAX_DIRECT_VALUES", small)
    monkeypatch.setattr(spline_forward, "CHUNK", chunk)
    model, x = problem()
    layer = model.layers[0]
    with torch.no_grad():
        layer.spline_weight[0, 0] += 1e6  # a large constant must not drown the deviation
    values = layer.edge_values(x).detach()
    mean, std = edge_moments(layer, x)
    assert_close(mean, values.mean(0), rtol=1e-12, atol=1e-9)
    assert_close(std, values.std(0, correction=0), rtol=1e-5, atol=1e-9)


def test_remember_stores_statistics_and_a_background():
    model, x = problem()
    assert model.statistics is None
    assert model.background is None
    store_statistics(model, x, background=7)
    record = trace(model, x)
    assert len(model.statistics) == 2
    for index, found in enumerate(model.statistics):
        values = record.edge_values(index)
        assert_close(found.edge_mean, values.mean(0))
        assert_close(found.edge_std, values.std(0, correction=0))
        assert_close(found.input_low, record.inputs[index].amin(0))
        assert_close(found.input_high, record.inputs[index].amax(0))
    assert_close(model.background, x[torch.linspace(0, 39, 7).round().long()])
    store_statistics(model, x[:3])
    assert_close(model.background, x[:3])


def test_no_rows_are_refused():
    model, x = problem()
    with refused(ShapeError, "trace: expected at least 1 row, got 0. Pass more data."):
        trace(model, x[:0])
