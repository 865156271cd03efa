"""Products under pruning: constant factors, constant products, and what is left of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import kanlens
from kanlens.errors import MethodError
from kanlens.model._kan_linear import KANLinear
from kanlens.pruning._propagation import Propagation, compact, reached, varying
from tests.made import draw, levels, made
from tests.pruning.conftest import columns_of, prune

WIDTHS: list[list[Any]] = [[3, (1, [2, 3]), 2], [3, (1, [2, 3]), (1, [3])], [3, (1, [2, 3])]]


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("scaled_nodes", [False, True])
@pytest.mark.slow  # many cases
def test_propagation_is_a_full_run(widths, scaled_nodes):
    model, x = made(widths, scaled_nodes=scaled_nodes), draw(30, 3)
    state = Propagation(model, x)
    first = state.output
    assert_close(first, levels(model, x)[2])
    for out in range(model.layers[0].out_features):
        state.remove((0, out, out % 3))
        assert_close(state.output, model(x).detach(), rtol=0, atol=1e-11)
        sums = levels(model, x)[1]
        assert_close(state.sums[0], sums[0], rtol=0, atol=1e-12)
    before = state.output
    state.remove((0, 2, 0))
    state.undo()
    assert torch.equal(state.output, before)


@pytest.mark.slow  # takes a while
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(WIDTHS),
    st.integers(0, 10**6),
    st.floats(0.2, 0.9),
    st.booleans(),
    st.booleans(),
)
def test_a_compacted_network_is_the_masked_one(widths, seed, share, scaled_nodes, zeros):
    model, generator = made(widths, scaled_nodes=scaled_nodes), torch.Generator().manual_seed(seed)
    for layer in model.layers:
        layer.mask[torch.rand(layer.mask.shape, generator=generator) < share] = 0
        layer.mask[0, 0] = 1
        if zeros:
            with torch.no_grad():
                layer.bias[torch.rand(layer.bias.shape, generator=generator) < 0.3] = 0
    x = draw(20, 3)
    small = compact(model)
    assert_close(small(x[:, columns_of(small, model)]), model(x), rtol=1e-12, atol=1e-11)
    assert small.edges_alive <= model.edges_alive
    moving = small(x[:, columns_of(small, model)]).detach().std(0) > 1e-9
    assert not bool((moving & ~reached(small)).any())
    half = compact(model.float())
    assert half.dtype == torch.float32
    assert all(buffer.dtype != torch.float64 for buffer in half.buffers())


def test_a_factor_without_edges_goes_into_the_scale():
    model, x = made([3, (1, [2, 3]), 2]), draw(20, 3)
    model.layers[0].mask[4] = 0  # the second of three factors
    small = compact(model)
    assert small.shape == (3, (1, 2), 2)
    constant = float(model.layers[0].bias[4].detach())
    assert_close(small.nodes[0].scale, torch.tensor([1.0, 1.0, constant], dtype=torch.float64))
    assert_close(small(x), model(x), rtol=0, atol=1e-12)
    assert small.statistics is not None
    assert small.statistics[0].edge_mean.shape == (5, 3)


def test_a_hidden_product_of_one_factor_becomes_a_sum():
    model, x = made([3, (1, [2, 3]), 2]), draw(20, 3)
    model.layers[0].mask[[3, 5]] = 0
    small = compact(model)
    assert small.shape == (3, (2, 1), 2)  # what was the last node is now the second sum
    assert_close(small(x), model(x), rtol=0, atol=1e-12)
    for layer in model.layers[1].mask.T:
        assert layer.shape == (2,)
    scale = float((model.layers[0].bias[3] * model.layers[0].bias[5]).detach())
    assert_close(float(small.nodes[0].scale[1]), scale)
    model.layers[0].mask[1] = 0
    plain = compact(model)
    assert plain.shape == (3, 3, 2)
    assert plain.nodes[0].scaled
    assert_close(plain(x), model(x), rtol=0, atol=1e-12)


def test_an_output_stays_a_product():
    model, x = made([3, (1, [2, 3])]), draw(20, 3)
    model.layers[0].mask[1] = 0
    model.layers[0].mask[[3, 4]] = 0
    small = compact(model)
    assert small.shape == (3, (1, [2, 3]))
    assert small.output_names == model.output_names
    assert_close(small(x), model(x), rtol=0, atol=1e-12)
    model.layers[0].mask[4] = 1
    assert compact(model).shape == (3, (1, 2))
    assert_close(compact(model)(x), model(x), rtol=0, atol=1e-12)


def test_a_zero_factor_makes_the_node_constant():
    model, x = made([3, (1, [2, 3]), 2]), draw(20, 3)
    with torch.no_grad():
        model.layers[0].mask[1] = 0
        model.layers[0].bias[1] = 0
    assert varying(model, 0, torch.ones(6, dtype=torch.bool)).tolist() == [True, False, True]
    model.layers[1].mask[:] = 0
    model.layers[1].mask[0, 1] = 1
    assert not reached(model).any()
    with pytest.raises(MethodError, match="with a path from some feature to an output, got none"):
        prune(model, x, threshold=0.1)
    model.layers[1].mask[0, 2] = 1
    assert reached(model).tolist() == [True, False]
    result = prune(model, x, threshold=0.0)
    reasons = {(r["layer"], r["out"], r["in"]): r["reason"] for r in result.removed}
    assert reasons[1, 0, 1] == "constant node"
    assert {reasons[0, 2, i] for i in range(3)} == {"dead end"}
    small = result.model
    assert small.shape == (3, (0, [3]), 2)
    assert result.constant_outputs == ("y2",)
    assert_close(small(x), model(x), rtol=0, atol=1e-12)


def test_a_zero_factor_of_an_output_takes_the_others_along():
    model, x = made([3, (1, [2, 3])]), draw(20, 3)
    with torch.no_grad():
        model.layers[0].mask[2] = 0
        model.layers[0].bias[2] = 0
    result = prune(model, x, threshold=0.0)
    assert {(r["out"], r["reason"]) for r in result.removed} == {(1, "dead end")}
    assert result.constant_outputs == ("y2",)
    assert_close(result.model(x), model(x), rtol=0, atol=1e-12)


def test_a_factor_that_becomes_zero_is_not_taken_for_a_path():
    """Two symmetric rows fold an odd factor to exactly zero: nothing varies any more."""
    layer = KANLinear(2, 2, functions=[["x", "x"], ["x", "x"]])
    with torch.no_grad():
        layer.mask.copy_(torch.eye(2))
        layer.affine[1, 1, 2] = 1e-3
    plain = kanlens.KAN([2, (0, 1)])
    model = kanlens.KAN.from_layers([layer], plain.schema, nodes=list(plain.nodes)).double()
    x = torch.tensor([[0.5, 0.5], [-0.5, -0.5]], dtype=torch.float64)
    with pytest.raises(
        MethodError,
        match=r"a path .* to an output, got a threshold of 0\.5 that cuts every path",
    ):
        prune(model, x, threshold=0.5)


def test_a_superfluous_factor_is_found_and_removed():
    """The product of x1, x2 and almost 1 loses its third factor, and nothing else."""
    model = kanlens.KAN([2, (0, [3]), 1], generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        first, last = model.layers
        for out, in_ in ((0, 0), (1, 1)):
            first.spline_weight[out, in_] = torch.linspace(-1, 1, 8)
            first.spline_scaler[out, in_] = 1.0
        first.base_weight[2] = 1e-5
        first.bias[2] = 1.0
        last.spline_weight[0, 0] = torch.linspace(-1, 1, 8)
        last.spline_scaler[0, 0] = 1.0
    x = draw(100, 2).clamp(-1, 1)
    result = prune(model, x, budget=1e-4)
    assert result.edges_after == 3
    assert result.model.shape == (2, (0, 1), 1)
    assert_close(result.model(x), model(x), rtol=0, atol=1e-4)
