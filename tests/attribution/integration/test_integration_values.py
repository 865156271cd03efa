"""Integrated gradients against brute force, and what holds for them whatever the network."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kanlens.attribution.integration._integrated_gradients import integrated_gradients
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.model import _analysis as analysis
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes
from kanlens.model._trace import trace
from tests.attribution.conftest import build, problem_of
from tests.attribution.integration import brute_force


def normal(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def with_function(name, layer, parameters, widths=(3, 3, 1)):
    """A network with one function on two edges of a layer."""
    model = build(widths)
    layers = [copy.deepcopy(one) for one in model.layers]
    for edge in ((0, 0), (layers[layer].out_features - 1, 2)):
        layers[layer].assign(*edge, name, parameters)
    changed = KAN.from_layers(layers, model.schema)
    for buffer in ("input_shift", "input_scale", "output_shift", "output_scale"):
        getattr(changed, buffer).copy_(getattr(model, buffer))
    return changed


def check(model, x, rows, target=0, tolerance=1e-11):
    asked = problem_of(model, x, rows, target)
    found = integrated_gradients(asked)
    expected = brute_force.integrated_gradients(asked.model, x, rows, target)
    scale = expected.abs().sum(1, keepdim=True) + 1e-3 * expected.abs().sum(1).mean()
    assert bool(((found.values - expected).abs() <= tolerance * scale).all())
    output = asked.output(x)
    gap = (found.values.sum(1) - output + found.reference).abs()
    summed = found.values.abs().sum(1) + output.abs() + abs(found.reference)
    assert float((gap / summed).max()) < 1e-13  # rounding of what is summed
    return found


@pytest.mark.parametrize(
    "widths", [[2, 2, 1], [4, 3, 1], [3, 2, 2, 1], [3, (1, 1), 1], [3, (2, [3]), 2, 1], [3, (0, 1)]]
)
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
@pytest.mark.slow  # many cases
def test_values_are_what_brute_force_finds(widths, extrapolation):
    model = build(widths, extrapolation=extrapolation)
    check(model, 2 * normal(3, widths[0]), normal(2, widths[0], seed=2))


@pytest.mark.slow  # takes a while
@settings(max_examples=12, deadline=None)
@given(
    features=st.integers(1, 3),
    hidden=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    grid_size=st.integers(1, 6),
    spline_order=st.integers(1, 5),
    extrapolation=st.sampled_from(["linear", "zero"]),
    base=st.sampled_from(["silu", "identity", "zero", "tanh", "gelu"]),
    spread=st.sampled_from([0.3, 1.0, 4.0]),
    seed=st.integers(0, 99),
)
def test_values_hold_for_any_network(
    features, hidden, grid_size, spline_order, extrapolation, base, spread, seed
):
    model = build(
        [features, *hidden, 1],
        seed,
        grid_size=grid_size,
        spline_order=spline_order,
        extrapolation=extrapolation,
        base_activation=base,
    )
    x, rows = spread * normal(2, features, seed=seed), normal(1, features, seed=seed + 1)
    check(model, x, rows, tolerance=1e-10)


def test_values_hold_for_uneven_grids_masks_and_several_outputs():
    model = build([4, 3, 2])
    model.update_grid(normal(60, 4, seed=3) ** 3)
    with torch.no_grad():
        model.layers[0].mask[:, 1] = 0
        model.layers[1].mask[1, 0] = 0
        model.layers[0].mask[1, 2] = 0
    for target in (0, 1):
        found = check(model, normal(3, 4), normal(2, 4, seed=2), target)
        assert bool((found.values[:, 1] == 0).all())


def test_scaled_nodes_count():
    model = build([3, (1, 1), 1])
    nodes = Nodes(Grouping(1, (2,)), scaled=True).double()
    nodes.scale.copy_(torch.tensor([2.0, -0.5]))
    nodes.shift.copy_(torch.tensor([0.3, 0.1]))
    model.nodes[0] = nodes
    check(model, normal(3, 3), normal(2, 3, seed=2))


KINKED = [n for n, g in FUNCTIONS.items() if g.kinks and g.domain == "real" and not g.jumps]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        *((name, layer) for name in KINKED for layer in (0, 1)),
        *((name, 0) for name in ("constant", "x^5", "sin", "gelu", "morlet", "sinc")),
    ],
)
def test_function_edges_with_kinks_are_cut_there(name, layer):
    model = with_function(name, layer, (2.0, 0.25, 0.8, 0.2))
    check(model, normal(4, 3), normal(2, 3, seed=2))


def test_a_kink_counts_where_no_spline_reads_the_grid():
    model = with_function("abs", 0, (1.0, 0.0, 1.0, 0.0), widths=(3, 2, 1))
    model.layers[0].assign(1, 0, "abs", (1.0, -0.25, 0.5, 0.0))
    assert [row[0] for row in model.layers[0].functions] == ["abs", "abs"]
    check(model, normal(4, 3), normal(2, 3, seed=2))


@pytest.mark.parametrize("layer", [0, 1])
def test_what_a_jump_adds_is_missing_and_said(layer):
    x, rows = normal(20, 3), normal(1, 3, seed=2)
    inputs = trace(build((3, 3, 1)), x).inputs[layer][:, 0]
    place = round(64 * float(inputs.median())) / 64
    model = with_function("sign", layer, (2.0, -2 * place, 0.8, 0.2))
    asked = problem_of(model, x, rows)
    found = integrated_gradients(asked)
    gap = (asked.output(x) - found.reference - found.values.sum(1)).abs()
    assert bool((gap < 1e-13).any())
    assert float(gap.max()) > 0.1
    lines = int((gap > 1e-9).sum())
    assert f"a jump or a pole, not certified, on {lines} of 20 lines" in found.remark
    assert found.evaluations < 300


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("name", ["1/x", "1/x^2", "tan"])
def test_a_pole_ends_the_search(name):
    model = with_function(name, 0, (1.7, 0.11, 0.8, 0.2))
    found = integrated_gradients(problem_of(model, normal(10, 3), normal(1, 3, seed=2)))
    assert bool(torch.isfinite(found.values).all())
    assert "not certified" in found.remark


@pytest.mark.parametrize("widths", [(3, 1), (3, 2, 1)])
def test_a_line_out_of_the_domain_is_one_clear_error(widths):
    model = with_function("log", 0, (1.0, 0.0, 1.0, 0.0), widths)
    x = torch.full((3, 3), 9.0, dtype=torch.float64)
    rows = x[:1] - 1
    rows[0, 0] = -50.0
    with pytest.raises(MethodError, match="sample, got NaN or infinity on the line to sample 0"):
        integrated_gradients(problem_of(model, x, rows))


@pytest.mark.parametrize("scaled", [False, True])
def test_one_layer_needs_no_quadrature(scaled):
    model = build([3, (2, 1)])
    if scaled:
        nodes = Nodes(Grouping(2, (2,)), scaled=True).double()
        nodes.scale.copy_(torch.tensor([1.0, -3.0, 2.0]))
        model.nodes[0] = nodes
    x, rows = normal(5, 3), normal(4, 3, seed=2)
    asked = problem_of(model, x, rows, 1)
    found = integrated_gradients(asked)
    assert (found.evaluations, found.remark) == (0.0, "closed form")
    torch.testing.assert_close(found.values.sum(1), asked.output(x) - found.reference)
    expected = brute_force.integrated_gradients(asked.model, x, rows, 1)
    torch.testing.assert_close(found.values, expected, rtol=1e-11, atol=1e-13)


def test_a_sample_on_the_background_gets_zero():
    model, x = build([3, 4, 1]), normal(2, 3)
    found = integrated_gradients(problem_of(model, x[:1], x[:1]))
    assert bool((found.values == 0).all())
    assert found.evaluations == 0
    part = integrated_gradients(problem_of(model, x, x))
    half = integrated_gradients(problem_of(model, x[:1], x[1:])).values / 2
    torch.testing.assert_close(part.values[:1], half, rtol=1e-12, atol=1e-14)


def test_a_feature_that_does_not_move_gets_zero():
    model, x, rows = build([3, 4, 1]), normal(4, 3), normal(1, 3, seed=2)
    x[:, 1] = rows[0, 1]
    assert bool((integrated_gradients(problem_of(model, x, rows)).values[:, 1] == 0).all())


def test_baselines():
    model, x, rows = build([3, 4, 1]), normal(4, 3), normal(5, 3, seed=2)
    asked = problem_of(model, x, rows)
    each, mean = (integrated_gradients(asked, baseline=name) for name in ("each", "mean"))
    assert each.baseline == "mean output over the background"
    assert mean.baseline == "output at the mean of the background"
    single = [integrated_gradients(replace(asked, rows=row[None])).values for row in rows]
    torch.testing.assert_close(each.values, torch.stack(single).mean(0))
    alone = integrated_gradients(replace(asked, rows=rows.mean(0, keepdim=True)))
    torch.testing.assert_close(mean.values, alone.values)
    assert mean.reference == alone.reference
    with pytest.raises(InvalidValueError, match="baseline to be one of each, mean"):
        integrated_gradients(asked, baseline="zero")
    with pytest.raises(InvalidValueError, match="tolerance to be a positive number"):
        integrated_gradients(asked, tolerance=0.0)


def test_blocks_change_nothing(monkeypatch):
    model, x, rows = build([3, 4, 2, 1]), normal(5, 3), normal(4, 3, seed=2)
    expected = integrated_gradients(problem_of(model, x, rows))
    monkeypatch.setattr(analysis, "BUDGET", 3000)
    found = integrated_gradients(problem_of(model, x, rows))
    torch.testing.assert_close(found.values, expected.values, rtol=1e-10, atol=1e-13)
    assert abs(found.evaluations - expected.evaluations) < 0.02 * expected.evaluations


def test_an_output_that_stands_still_gives_nothing():
    model = build(
        [3, 1, 1], 15, grid_size=3, spline_order=1, extrapolation="zero", base_activation="zero"
    )
    x, rows = 0.3 * normal(2, 3, seed=15), normal(1, 3, seed=16)
    check(model, x, rows, tolerance=1e-10)
    assert bool((integrated_gradients(problem_of(model, x, rows)).values == 0).all())
