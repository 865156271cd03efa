"""Edges of a spline layer: bounds, the edges as objects, selections, and what is said of them."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics
from tests.model.layers_for_tests import MODES, ORDERS, everywhere, normal, rich, seeded


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_edge_objects_are_the_edges(order, mode):
    layer = rich(spline_order=order, extrapolation=mode)
    with torch.no_grad():
        layer.mask[0, 1] = 0.0
    x = everywhere(layer)
    values = layer.edge_values(x).detach()
    for o in range(2):
        for i in range(3):
            found = torch.from_numpy(layer.edge(o, i)(x[:, i].numpy()))
            assert_close(found, values[:, o, i], rtol=1e-10, atol=1e-9)


@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.sampled_from(MODES),
    st.sampled_from(["silu", "identity", "zero", "tanh", "gelu"]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_edge_bounds_hold(seed, order, mode, base, dtype):
    layer = rich(2, 3, seed=seed, spline_order=order, extrapolation=mode, base_activation=base)
    layer = layer.to(dtype)
    with torch.no_grad():
        layer.mask[0, 0] = 0.0
    ends = (4 * normal(2, 2, seed=seed)).to(dtype).sort(0).values
    lower, upper = layer.edge_bounds(ends[0], ends[1])
    assert lower.dtype == dtype
    steps = torch.linspace(0, 1, 200, dtype=dtype)[:, None]
    x = (ends[0] + (ends[1] - ends[0]) * steps).clamp(ends[0], ends[1])
    values = layer.edge_values(x)
    assert (values >= lower).all()
    assert (values <= upper).all()
    assert lower[0, 0] == 0.0 == upper[0, 0]


def test_edge_bounds_are_tight_where_one_part_is_alone():
    layer = rich(1, 1, base_activation="silu")
    ends = torch.tensor([-0.9]), torch.tensor([-0.6])
    spline_only, base_only = copy.deepcopy(layer), copy.deepcopy(layer)
    with torch.no_grad():
        spline_only.base_weight.zero_()
        base_only.spline_weight.zero_()
    x = torch.linspace(-0.9, -0.6, 500, dtype=torch.float64)[:, None]
    for part, slack in ((spline_only, 0.1), (base_only, 1e-9)):
        lower, upper = part.edge_bounds(ends[0].double(), ends[1].double())
        values = part.edge_values(x)
        size = values.max() - values.min()
        assert (upper - lower).item() <= (1 + slack) * size.item() + 1e-9


def test_edge_bounds_of_the_whole_line_are_never_nan():
    for mode in MODES:
        for base in ("silu", "identity", "zero", "tanh", "gelu"):
            layer = rich(extrapolation=mode, base_activation=base)
            with torch.no_grad():
                layer.mask[0] = 0.0
            ends = torch.full((3,), torch.inf, dtype=torch.float64)
            lower, upper = layer.edge_bounds(-ends, ends)
            assert not (lower.isnan() | upper.isnan()).any()
            assert not (lower[0].any() | upper[0].any())
            values = layer.edge_values(everywhere(layer))
            assert (values >= lower).all()
            assert (values <= upper).all()


def test_what_the_layer_says_of_itself():
    layer = rich(grid_size=4, spline_order=2)
    assert layer.degrees_of_freedom == 7
    assert rich(grid_size=4, spline_order=2, base_activation="zero").degrees_of_freedom == 6
    line = rich(grid_size=4, spline_order=2, base_activation="identity")
    assert line.degrees_of_freedom == 6  # the splines can write its base
    assert layer.piece_degree is None
    for base in ("identity", "zero"):
        assert rich(spline_order=2, base_activation=base).piece_degree == 2
    with torch.no_grad():
        layer.base_weight.zero_()
    assert layer.piece_degree == 2
    assert_close(layer.breakpoints(), layer.grid[:, 2:-2])
    assert_close(rich(extrapolation="zero").breakpoints(), rich().grid)
    low, high = layer.domain()
    assert_close(layer.breakpoints()[:, [0, -1]], torch.stack([low, high], dim=1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_between_breakpoints_edges_are_polynomials(order, mode):
    layer = rich(1, 1, spline_order=order, extrapolation=mode, base_activation="identity")
    cuts = layer.breakpoints()[0].detach()
    cuts = torch.cat([cuts[:1] - 1, cuts, cuts[-1:] + 1])
    for low, high in itertools.pairwise(cuts):
        u = np.linspace(-1, 1, 21)
        x = (low + high) / 2 + (high - low) / 2 * torch.from_numpy(u)
        y = layer.edge_values(x[:, None])[:, 0, 0].detach().numpy()
        rest = y - np.polynomial.Polynomial.fit(u, y, order)(u)
        assert np.abs(rest).max() < 1e-9 * max(1.0, np.abs(y).max())


@pytest.mark.parametrize("standalone", [True, False])
def test_select_keeps_the_chosen_edges(standalone):
    model = KAN([4, 3], enable_standalone_scale_spline=standalone, extrapolation="zero")
    store_statistics(model, torch.rand(20, 4, generator=seeded()))
    layer = model.layers[0].eval()
    layer.refine(8)
    small = layer.select([2, 0], [3, 1])
    assert (small.out_features, small.in_features, small.grid_size) == (2, 2, 8)
    assert not small.training
    x = torch.rand(9, 4, generator=seeded(1)) * 3
    expected = layer.edge_values(x)[:, [2, 0]][:, :, [3, 1]]
    assert_close(small.edge_values(x[:, [3, 1]]), expected)
    assert_close(small.bias, layer.bias[[2, 0]])
    assert_close(small.statistics.quantiles, layer.statistics.quantiles[[3, 1]])
    expected = layer.statistics.edge_mean[[2, 0]][:, [3, 1]]
    assert_close(small.statistics.edge_mean, expected)
    with torch.no_grad():
        small.spline_weight.zero_()
    assert layer.spline_weight.any()
