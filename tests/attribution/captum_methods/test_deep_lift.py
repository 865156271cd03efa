"""DeepLift and DeepLiftShap, on the plain model and on its view."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.model.network import KAN
from tests.attribution.captum_methods.conftest import Plain


def stock(model, x, rows, *, shap=False):
    """What captum returns when it is given the model as it is."""
    from captum.attr import DeepLift, DeepLiftShap

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        given, free = Plain(model), x.clone().requires_grad_()
        if shap:
            return DeepLiftShap(given).attribute(free, rows).detach()
        left = free.repeat_interleave(len(rows), 0)
        found = DeepLift(given).attribute(left, rows.repeat(len(x), 1)).detach()
        return found.reshape(len(x), len(rows), -1).mean(1)


def off(model, x, rows, values):
    """The largest gap next to the mean change."""
    change = (model(x).detach() - model(rows).detach().mean(0))[:, 0]
    return float((change - values.sum(1)).abs().max() / change.abs().mean())


def rough(seed):
    """A network on a fine grid with large coefficients: captum is off by 14 to 31 mean changes."""
    generator = torch.Generator().manual_seed(seed)
    return KAN(
        [5, 4, 3, 1], scale_noise=20.0, grid_size=20, grid_range=(-3, 3), generator=generator
    ).double()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stock_is_off_by_ten_times_the_change_where_the_view_is_complete(seed, draw):
    model, x, row = rough(seed), draw(32, 5), draw(1, 5, seed=2)
    theirs = off(model, x, row, stock(model, x, row))
    ours = off(model, x, row, attribute(model, x, method="captum_deep_lift", background=row).values)
    assert theirs > 10
    assert ours < 1e-12


def test_deep_lift_shap_is_off_and_repaired_likewise(draw):
    model, x, rows = rough(0), draw(16, 5), draw(4, 5, seed=2)
    theirs = off(model, x, rows, stock(model, x, rows, shap=True))
    found = attribute(model, x, method="captum_deep_lift_shap", background=rows)
    ours = off(model, x, rows, found.values)
    assert theirs > 10
    assert ours < 1e-12


def test_stock_is_the_gradient_times_the_distance(network, draw):
    model, x, row = network([3, 4, 1]), draw(5, 3), draw(1, 3, seed=2)
    with torch.enable_grad():
        free = x.clone().requires_grad_()
        slopes = torch.autograd.grad(model(free).sum(), free)[0]
    torch.testing.assert_close(stock(model, x, row), slopes * (x - row), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("widths", [[3, 2], [3, (1, [2, 3]), 2], [3, 4, 3, 2]])
def test_deep_lift_shap_is_deep_lift_averaged(widths, rows, network, draw):
    model, x, rows = network(widths), draw(4, 3), draw(rows, 3, seed=2)
    one, other, ours = (
        attribute(model, x, method=method, background=rows, target=1)
        for method in ("captum_deep_lift", "captum_deep_lift_shap", "secant")
    )
    torch.testing.assert_close(other.values, one.values, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(other.values, ours.values, rtol=1e-10, atol=1e-12)
    assert float(other.completeness_gap.abs().max()) < 1e-12


@pytest.mark.parametrize("function", ["abs", "sign", "relu", "1/x", "log"])
def test_kinks_and_poles_are_no_hindrance(function, network, draw):
    model = network([3, 2, 1])
    layers = [copy.deepcopy(layer) for layer in model.layers]
    layers[0].assign(0, 1, function, (1.0, 3.0 if function == "log" else 0.1, 0.7, 0.0))
    if function == "log":
        layers[0].affine[0, 1, 0] = 0.1  # stays positive on these samples
    formula = KAN.from_layers(layers, model.schema)
    x, rows = draw(4, 3), draw(3, 3, seed=2)
    for method in ("captum_deep_lift", "captum_deep_lift_shap"):
        found = attribute(formula, x, method=method, background=rows)
        size = float(found.values.abs().max())
        assert float(found.completeness_gap.abs().max()) < 1e-12 * size
