"""DeepLift and DeepLiftShap, on the plain model and on its view."""

from __future__ import annotations

import copy

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.model.network import KAN


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
