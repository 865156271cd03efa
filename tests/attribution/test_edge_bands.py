"""Confidence bands of edges, beside least squares from the definition and simulations."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from kanlens.attribution import edge_band
from kanlens.attribution._edge_bands import NORMAL, _NodeFit
from kanlens.errors import DataError, MethodError
from kanlens.model._network import KAN
from kanlens.splines import _spline as spline
from tests.made import draw, made

Array = np.ndarray[Any, Any]
ROWS = torch.rand(150, 2, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
NOISE = draw(150, seed=2)


def additive():
    """Two splines of four coefficients without a base function, in units away from the data's."""
    model = KAN([2, 1], grid_size=2, spline_order=2, base_activation="zero").double()
    model.output_scale[:] = 3.0
    return model


def columns(model, x):
    """Bias and basis of both inputs, in the units of the output: (row, coefficient)."""
    layer = model.layers[-1]
    basis = spline.basis(x, layer.grid, layer.spline_order, extrapolation="linear")
    return 3.0 * np.concatenate([np.ones((len(x), 1)), basis.flatten(1).numpy()], 1)


def targets(x, noise):
    return 2 * x[:, 0].square() - x[:, 1] + 0.3 * noise * (1 + x[:, 0].abs())


def points(count):
    ends = (float(ROWS[:, 0].min()), float(ROWS[:, 0].max()))
    return torch.linspace(*ends, count, dtype=torch.float64)


def least_squares(model, y):
    """Residuals, influence of each target on the coefficients, and how the first function moves."""
    design = columns(model, ROWS)
    inverse = np.linalg.pinv(design)  # (coefficient, row)
    at = torch.zeros(201, 2).double()
    at[:, 0] = points(201)
    moves = columns(model, at) - design.mean(0)
    moves[:, [0, *range(5, 9)]] = 0.0
    left = y.numpy() - design @ (inverse @ y.numpy())
    return left, moves @ inverse, np.einsum("nk,kn->n", design, inverse)


def test_closed_forms_are_those_of_least_squares():
    model, y = additive(), targets(ROWS, NOISE)
    left, influence, leverage = least_squares(model, y)
    error = np.sqrt(influence**2 @ (left / (1 - leverage)) ** 2)
    band = edge_band(model, 0, "y", "x1", ROWS, y)
    np.testing.assert_allclose(band["high"] - band["effect"], NORMAL * error, rtol=1e-10)
    np.testing.assert_allclose(band["effect"] - band["low"], NORMAL * error, rtol=1e-10)
    wrong = np.sqrt(influence**2 @ left**2)  # without leverages
    assert np.abs(wrong / error - 1).max() > 1e-2


@pytest.mark.slow  # many networks and methods
def test_bands_cover_the_truth():
    model, inside = additive(), []
    truth = 2 * (points(21).square() - ROWS[:, 0].square().mean())
    for seed in range(60):
        y = targets(ROWS, draw(150, seed=seed + 10))
        coefficients = np.linalg.pinv(columns(model, ROWS)) @ y.numpy()
        weight = torch.from_numpy(coefficients[1:]).view(1, 2, 4)
        with torch.no_grad():
            model.layers[0].spline_weight.copy_(weight / model.layers[0].spline_scaler[..., None])
        band = edge_band(model, 0, 0, 0, ROWS, y, at=points(21))
        inside.append((band["low"] < truth.numpy()) & (truth.numpy() < band["high"]))
    assert 0.92 < np.mean(inside) < 0.98


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_have_the_curvature_of_their_loss(classes):
    model = made([2, 1 if classes == 2 else 3])
    labels = ("a", "b", "c")[:classes]
    schema = dataclasses.replace(model.schema, task="classification", class_labels=labels)
    model.schema = schema
    codes = (ROWS[:, 0] > 0).long() + (classes == 3) * (ROWS[:, 1] > 0).long()
    fit = _NodeFit(model, 0, 0, ROWS, codes, call="t")
    rest = (0 * codes if classes == 2 else model(ROWS)[:, 1:].logsumexp(1)).detach()
    score = model(ROWS)[:, 0].detach() - rest  # of the first logit, against the others together
    p, rate = score.sigmoid(), float(model.output_scale[0])
    own = codes == 1 if classes == 2 else codes == 0
    np.testing.assert_allclose(fit.curvature, rate**2 * p * (1 - p), rtol=1e-10)
    np.testing.assert_allclose(fit.slopes, rate * (own.double() - p), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer", [0, 1])
def test_slopes_and_curvature_go_through_products_and_scales(layer):
    model = made([2, (1, 2), (1, 1)], scaled_nodes=True)
    y = draw(150, 2, seed=5)
    out = model.layers[layer].out_features - 1  # a factor
    fit = _NodeFit(model, layer, out, ROWS, y, call="t")
    size = (model(ROWS) - y).square().mean(0).detach()

    def loss(shift):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            moved.layers[layer].bias[out] += shift
        return ((moved(ROWS) - y).square() / size).sum(1).detach() / 2

    step = 1e-5
    numeric = (loss(-step) - loss(step)) / (2 * step)
    np.testing.assert_allclose(fit.slopes, numeric, rtol=1e-5, atol=1e-6)
    band = edge_band(model, layer, out, 1, ROWS, y)
    assert (band["high"] > band["low"]).all()


def test_nothing_is_said_where_no_rows_are():
    model = KAN([2, 1], grid_size=12).double()
    x = torch.where(ROWS.abs() < 0.5, ROWS.sign() * 0.7, ROWS)  # a gap
    band = edge_band(model, 0, 0, 0, x, targets(x, NOISE))
    inner = band["x"].abs() < 0.15
    assert band["low"][inner].isna().all()
    assert band["low"][band["x"].abs() > 0.7].notna().all()


def test_a_formula_and_a_masked_edge():
    model = made([2, 1], functions=True)
    y = draw(150, seed=5)
    band = edge_band(model, 0, 0, 0, ROWS, y)
    ratio = (band["high"] - band["effect"]) / band["effect"].abs()  # only its factor is free
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
    model.layers[0].mask[0, 0] = 0
    band = edge_band(model, 0, 0, 0, ROWS, y)
    assert (band[["effect", "low", "high"]] == 0).all(axis=None)


def test_errors_say_what_is_needed(monkeypatch):
    model, y = additive(), targets(ROWS, NOISE)
    with pytest.raises(DataError, match=r"expected more rows than coefficients \(\d+\), got 7\."):
        edge_band(model, 0, 0, 0, ROWS[:7], y[:7])
    monkeypatch.setattr("kanlens.attribution._edge_bands.MAX_COEFFICIENTS", 1000)
    with pytest.raises(MethodError, match="at most 1,000 coefficients, got 1,081 at y"):
        edge_band(KAN([120, 1]), 0, 0, 0, torch.zeros(3, 120), torch.zeros(3))
    deep = KAN([2, 2, 1]).double()
    deep.layers[1].mask[0, 0] = 0  # nothing depends on the first hidden node
    assert edge_band(deep, 0, 0, 0, ROWS, y)["low"].isna().all()
    with torch.no_grad():
        model.layers[0].bias.fill_(1e200)
        model.output_scale.fill_(1e200)
    with pytest.raises(MethodError, match="edge_band: expected a model with finite outputs"):
        edge_band(model, 0, 0, 0, ROWS, y)
