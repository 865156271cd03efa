"""Layers with series and functions against their definition, and as exact objects."""

import copy
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.testing import assert_close

from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import find_function
from kanlens.io._checkpoint import load, save
from kanlens.model._edge_layer import EdgeLayer
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from tests.model.layers_for_tests import EXACT, SERIES, everywhere, inside, rich

TABLE = [["sin", "spline", "x^2"], ["abs", "exp", "spline"]]
KINDS = {
    **{kind: {"series": names, "spline_order": 2} for kind, names in SERIES.items()},
    "functions": {"functions": TABLE},
    "functions alone": {"functions": [["sin", "x", "x^3"], ["tanh", "x^2", "gaussian"]]},
    "a series and functions": {"series": SERIES["bumps"], "functions": TABLE},
}


@pytest.fixture(params=KINDS)
def layer(request):
    return rich(**KINDS[request.param])


@pytest.fixture(params=SERIES)
def series(request):
    return rich(**KINDS[request.param])


def by_hand(layer, x):  # (batch, out, in)
    options = {"spline_order": layer.spline_order, "grid_size": layer.grid_size}
    splines = KANLinear(layer.in_features, layer.out_features, **options).double()
    splines.load_state_dict({name: layer.state_dict()[name] for name in splines.state_dict()})
    edges = splines.edge_values(x)
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            for k, name in enumerate(layer.series):
                a, b = layer.series_affine[i, k]
                value = find_function(name).value(a * x[:, i] + b)
                edges[:, o, i] += layer.mask[o, i] * layer.series_weight[o, i, k] * value
            if (name := layer.functions[o][i]) != "spline":
                a, b, c, d = layer.affine[o, i]
                value = c * find_function(name).value(a * x[:, i] + b) + d
                edges[:, o, i] = layer.mask[o, i] * value
    return edges


def test_it_is_an_edge_layer_that_computes_its_definition(layer):
    assert isinstance(layer, EdgeLayer)
    layer.mask[1, 0] = 0
    layer.mask[0, 2] = 0.5
    x = everywhere(layer) if layer.affine is None else inside(layer)
    assert_close(layer.edge_values(x), by_hand(layer, x), **EXACT)
    assert_close(layer(x), layer.edge_values(x).sum(2) + layer.bias, **EXACT)
    assert_close(layer(x[None]), layer(x)[None])
    assert_close(layer.activation_l1(x), layer.edge_values(x).abs().mean(0), **EXACT)


@pytest.mark.slow
def test_derivatives_in_inputs_and_weights(layer):
    x = inside(layer, 7).requires_grad_()
    values = layer.edge_values(x).sum(0)
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            (slope,) = torch.autograd.grad(values[o, i], x, retain_graph=True)
            assert_close(layer.edge_derivatives(x)[:, o, i], slope[:, i], rtol=1e-9, atol=1e-11)
    names = [name for name in ("series_weight", "affine") if name in dict(layer.named_parameters())]
    weights = [getattr(layer, name).detach().requires_grad_() for name in names]

    def run(rows, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (rows,))

    assert torch.autograd.gradcheck(run, (x, *weights))


def test_an_edge_is_the_same_function_as_an_exact_object(layer):
    x = everywhere(layer) if layer.affine is None else inside(layer)
    values, slopes = layer.edge_values(x).detach(), layer.edge_derivatives(x).detach()
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            edge, at = layer.edge(o, i), x[:, i].numpy()
            size = 1 + float(values[:, o, i].abs().max())
            assert np.abs(edge(at) - values[:, o, i].numpy()).max() < 1e-12 * size
            assert np.abs(edge.derivative(at) - slopes[:, o, i].numpy()).max() < 1e-11 * size
            assert np.abs(edge.to_scipy()(at) - edge(at)).max() < 1e-12 * size
            assert np.abs(edge.scaled(-2.0)(at) + 2 * edge(at)).max() < 1e-12 * size
            moved = edge.in_units(3.0, 2.0)
            assert np.abs(moved(3 + 2 * at) - edge(at)).max() < 1e-10 * size
            assert edge.domain == pytest.approx(tuple(float(end[i]) for end in layer.domain()))


def test_integrals_are_those_of_quadrature(series):
    edge = series.edge(0, 1)
    low, high = edge.domain
    cuts = sorted({low, *(b for b in edge._pieces.breaks if low < b < high), high})
    options = {"epsabs": 1e-13, "limit": 200}
    area = sum(quad(lambda v: float(edge(v)), *pair, **options)[0] for pair in pairwise(cuts))
    assert edge.integral(low, high) == pytest.approx(area, rel=1e-9, abs=1e-10)
    assert edge.integral(high, low) == -edge.integral(low, high)


@pytest.mark.slow
def test_bounds_hold_up_to_infinity(series):
    x = everywhere(series)
    values = series.edge_values(x).detach()
    for reach in (torch.inf, 40.0):
        ends = torch.full((series.in_features,), reach, dtype=torch.float64)
        lower, upper = series.edge_bounds(-ends, ends)
        assert bool((values >= lower).all())
        assert bool((values <= upper).all())


def test_breakpoints_hold_the_kinks():
    layer = KANLinear(1, 1, series=["relu", "sin"]).double()
    with torch.no_grad():
        layer.series_weight.fill_(1.0)
        layer.series_affine[0, 0] = torch.tensor([2.0, -1.0])
    assert 0.5 in layer.breakpoints()[0].tolist()
    assert layer.piece_degree is None
    assert layer.degrees_of_freedom == KANLinear(1, 1).degrees_of_freedom + 2


def test_a_part_of_a_layer_and_a_file_keep_the_series(layer, tmp_path):
    x = inside(layer)
    small = layer.select([1], [2, 0])
    assert small.functions == (tuple(layer.functions[1][i] for i in (2, 0)),)
    assert_close(small.edge_values(x[:, [2, 0]]), layer.edge_values(x)[:, 1:, [2, 0]])
    model = KAN.from_layers([layer], KAN([3, 2]).schema)
    save(model, tmp_path / "model.safetensors")
    assert_close(load(tmp_path / "model.safetensors")(x), model(x), rtol=0, atol=0)
    assert_close(copy.deepcopy(model)(x), model(x), rtol=0, atol=0)


def test_a_function_in_place_of_an_edge_leaves_the_others(series):
    x, mixed = inside(series), copy.deepcopy(series)
    assert_close(mixed(x), series(x), rtol=0, atol=0)
    mixed.assign(1, 2, "x^2", (1.0, 0.0, 3.0, 0.0))
    expected = series.edge_values(x).detach()
    expected[:, 1, 2] = 3 * x[:, 2] ** 2
    assert_close(mixed.edge_values(x), expected, **EXACT)
    assert_close(mixed(x), expected.sum(2) + series.bias, **EXACT)


def test_weight_l1_ignores_constants_and_scales_with_the_edge(series):
    norms = series.weight_l1()
    with torch.no_grad():
        series.spline_weight.add_(5.0 / series.spline_scaler[..., None])
        assert_close(series.weight_l1(), norms, rtol=1e-9, atol=1e-9)
    assert bool((norms > 0).all())


def test_unknown_functions_and_aliases_are_refused():
    text = "KANLinear: expected names of functions, not aliases, got 'cos'. For example, 'sin' for"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        KANLinear(1, 1, series=["cos"])
    for name in ("gausian", "T0(tanh)", "T100(tanh)"):
        with pytest.raises(InvalidValueError, match=r"^KANLinear: expected function"):
            KANLinear(1, 1, series=[name])
