"""A small network is the linear model of its steps, and the KAN that it becomes."""

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens._model_inputs import prepare_data
from kanlens.model._losses import Loss
from kanlens.training._closed_form import (
    distinct_weights,
    fit_outputs,
    make_columns,
    scaled_targets,
    to_kan,
)
from kanlens.training._growth import GrowthPath, Interactions
from kanlens.training._training_loop import settle_range, settle_scaling


def rows(count=300, seed=0):
    draws = np.random.default_rng(seed)
    frame = pd.DataFrame(draws.uniform(-1, 1, (count, 3)), columns=["a", "b", "c"])
    frame["kind"] = draws.choice(["red", "green", "blue"], count)
    shift = frame["kind"].map({"red": 0.0, "green": 1.0, "blue": -2.0})
    y = np.exp(frame["a"] * frame["b"] + frame["c"] ** 2 + 0.3 * shift)
    return frame, y + 0.05 * draws.normal(size=count)


def prepared(frame, y, **more):
    table = kanlens.read_table(frame.assign(y=y, **more), target=["y", *more])
    model = kanlens.KAN([len(table.schema.features), len(table.schema.outputs)]).double()
    x, targets = prepare_data(model, table)
    settle_range(model, x, beyond=True)
    settle_scaling(model, x, targets, None)
    return model, x, targets


def networks_of(model, x, y, *, products=True, fine=False):
    columns = make_columns(model, model.scale_inputs(x).numpy())
    weights = np.ones(len(x))
    networks = fit_outputs(columns, scaled_targets(model, y), weights, model.loss)
    for place, network in enumerate(networks if products else []):
        path = GrowthPath(network, 12, Interactions(), model.feature_names)
        while not path.ended:
            path.grow()
        networks[place] = path.steps[-1].network
    if fine:
        own = zip(networks, scaled_targets(model, y).T, strict=True)
        networks = [net.refined(columns, target, weights) for net, target in own]
    return networks


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("fine", [False, True])
def test_the_kan_has_the_outputs_of_the_networks(fine):
    frame, y = rows()
    for more in ({}, {"z": frame["a"] - frame["b"] * frame["c"]}):
        model, x, targets = prepared(frame, y, **more)
        networks = networks_of(model, x, targets, fine=fine)
        assert any(network.products or network.link for network in networks)
        with torch.no_grad():
            made = to_kan(model, networks)
            scaled = (made(x) - model.output_shift) / model.output_scale
        outputs = np.stack([network.outputs() for network in networks], 1)
        np.testing.assert_allclose(scaled.numpy(), outputs, atol=1e-11)
        assert made.schema == model.schema
        assert made.edges_alive == sum(int((layer.mask != 0).sum()) for layer in made.layers)


@pytest.mark.slow  # trains networks
def test_classes_are_logits():
    frame, y = rows()
    labels = pd.cut(y, [-np.inf, 0.9, 1.6, np.inf], labels=["low", "middle", "high"]).astype(str)
    for names in (labels, np.where(y > 1.2, "high", "low")):
        model, x, targets = prepared(frame, names)
        networks = networks_of(model, x, targets, products=False)
        with torch.no_grad():
            made = to_kan(model, networks)(x)
        outputs = np.stack([network.outputs() for network in networks], 1)
        np.testing.assert_allclose(made.numpy(), outputs, atol=1e-11)
        right = (made.argmax(1) if made.shape[1] > 1 else (made[:, 0] > 0).long()) == targets
        assert float(right.double().mean()) > 0.7


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("side", [0, 1])
def test_sums_are_the_linear_model_of_what_moves(side):
    model, x, targets = prepared(*rows())
    for network in (
        *networks_of(model, x, targets),
        *networks_of(model, x, targets, fine=True),
    ):
        network.side = side
        design, _, coefficients, _ = network.linear()
        own = network.copy()
        for product in own.products:
            product.levels = (0.0, 0.0)
        values = design.values(coefficients) + network.level
        if network.fine:  # levels of factors that were centered belong to the rest
            values = values + (network.sums() - own.sums())
            moved = own.linear()[0].values(coefficients) + own.level
            np.testing.assert_allclose(own.sums(), moved, atol=1e-10)
        else:
            np.testing.assert_allclose(network.sums(), values, atol=1e-10)


def test_what_products_say_about_single_columns_is_in_their_curves():
    model, x, targets = prepared(*rows())
    (network,) = networks_of(model, x, targets)
    assert network.products
    columns = network.columns
    fine = network.refined(columns, network.targets, network.weights)
    before = fine.sums()
    fine._center()
    np.testing.assert_allclose(fine.sums(), before, atol=1e-11)
    for product in fine.products:
        for side, factor in enumerate(fine.factor_sums(product)):
            others = product.factors[1 - side]
            if all(fine.main_coefficients()[edge.column].any() for edge in others):
                assert abs(factor.mean()) < 1e-10


def test_rows_of_weight_zero_do_not_count():
    frame, y = rows(200)
    model, x, targets = prepared(frame, y)
    columns = make_columns(model, model.scale_inputs(x).numpy())
    scaled, weights = scaled_targets(model, targets), np.ones(200)
    weights[:50] = 0.0
    changed = scaled.copy()
    changed[:50] += 100.0
    for fine in (False, True):
        found, other = (
            fit_outputs(columns, y, weights, Loss(), fine=fine)[0] for y in (scaled, changed)
        )
        np.testing.assert_allclose(found.outputs(), other.outputs(), atol=1e-9)


def test_copies_tell_nothing_of_the_noise():
    frame, y = rows(120)
    model, x, targets = prepared(frame, y)
    columns = make_columns(model, model.scale_inputs(x).numpy())
    twice = np.repeat(np.arange(120), 2)
    copies = [type(c)(c.index, c.design.take(twice)) for c in columns]
    scaled, halves = scaled_targets(model, targets), np.full(240, 0.5)
    once = fit_outputs(columns, scaled, np.ones(120), Loss(), fine=True)[0]
    counted = fit_outputs(copies, scaled[twice], halves, Loss(), fine=True)[0]
    np.testing.assert_allclose(once.outputs(), counted.outputs()[::2], atol=0.02)
    blind = fit_outputs(copies, scaled[twice], np.ones(240), Loss(), fine=True)[0]
    assert np.abs(blind.outputs()[::2] - once.outputs()).max() > 0.1
    weights = distinct_weights(240, None, torch.from_numpy(twice))
    np.testing.assert_array_equal(weights, halves)
