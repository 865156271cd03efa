import copy

import numpy as np
import pytest
import sympy
import torch

from kanlens.model._network import KAN
from kanlens.symbolic import _error_budget as module
from kanlens.symbolic._assignment import Goal, assign_functions, revert_until_accurate
from kanlens.symbolic._composition import compose, feature_symbols
from kanlens.symbolic._error_budget import error_budget, error_parts
from kanlens.symbolic._library import library
from kanlens.symbolic._symbolize import symbolize
from tests.symbolic.made import spline_network, toy


def network():
    """Two hidden nodes, two outputs: every edge moves an output."""
    layers = [
        [[torch.sin, torch.square], [torch.exp, lambda v: torch.cos(2 * v)]],
        [[torch.tanh, torch.square], [lambda v: v**3, torch.sin]],
    ]
    return spline_network(layers, [(-1.5, 1.5)] * 2, grid_size=4)


@pytest.fixture(scope="module")
def replaced():
    model, x = network()
    work = KAN.from_layers(list(model.layers), model.schema)
    goal = Goal(x=x, target=model(x).detach(), limit=0.1)
    assign_functions(work, x, library(), 0.9, advance=lambda **_: None)
    refitted, base = revert_until_accurate(work, goal, refine=True)
    return model, base, refitted, x


def test_the_parts_add_up_exactly(replaced):
    model, base, refitted, x = replaced
    networks = model, base, refitted, compose(refitted), x
    steps, parts, difference = error_parts(*networks)
    assert len(steps) == 8 + 2
    total = torch.from_numpy(difference) + model(x).detach()
    np.testing.assert_allclose(parts.sum(axis=0), difference, rtol=0, atol=1e-12)
    np.testing.assert_allclose(total, refitted(x).detach(), rtol=0, atol=1e-12)
    lines, mean = error_budget(*networks)
    sums = np.sum([line.mean for line in lines], axis=0)
    np.testing.assert_allclose(sums, mean, rtol=0, atol=1e-12)
    assert all(line.max_absolute >= line.mean_absolute >= 0 for line in lines)


def test_each_part_is_the_change_of_a_network_with_one_more_function(replaced):
    """Brute force: networks are built in which ever more edges are functions."""
    model, base, refitted, x = replaced
    steps, parts, _ = error_parts(model, base, refitted, compose(refitted), x)
    half = KAN.from_layers(list(base.layers), base.schema)
    order = [(k, o, i) for k in range(2) for o in range(2) for i in range(2)]
    names = {edge: base.layers[edge[0]].functions[edge[1]][edge[2]] for edge in order}
    numbers = {edge: base.layers[edge[0]].affine[edge[1], edge[2]].tolist() for edge in order}
    for k, o, i in order:
        half.layers[k].assign(o, i, "spline", (1.0, 0.0, 1.0, 0.0))
    before = half(x).detach()
    np.testing.assert_allclose(before, model(x).detach(), atol=1e-12)
    for step, (k, o, i) in enumerate(order):
        half.layers[k].assign(o, i, names[k, o, i], numbers[k, o, i])
        after = half(x).detach()
        assert steps[step] == f"edge {k}:{o}:{i} ({names[k, o, i]})"
        np.testing.assert_allclose(parts[step], after - before, rtol=0, atol=1e-12)
        before = after
    for (k, o, i), name in names.items():  # as it was, for the other tests
        half.layers[k].assign(o, i, name, numbers[k, o, i])


def test_many_edges_share_a_line_per_layer(replaced, monkeypatch):
    model, base, refitted, x = replaced
    monkeypatch.setattr(module, "_MAX_EDGES", 3)
    steps, parts, difference = error_parts(model, base, refitted, compose(refitted), x)
    assert steps == ["layer 0", "layer 1", "refit", "formula"]
    np.testing.assert_allclose(parts.sum(axis=0), difference, rtol=0, atol=1e-12)


@pytest.mark.slow  # derives formulas
def test_the_receipt_holds_the_budget():
    model, x, y = toy()
    receipt = symbolize(model, x, y).receipt
    steps = [line.step for line in receipt.budget]
    assert steps == ["edge 0:0:0 (sin)", "edge 0:0:1 (x^2)", "edge 1:0:0 (exp)", "refit", "formula"]
    total = sum(line.mean[0] for line in receipt.budget)
    assert total == pytest.approx(receipt.mean_difference[0], abs=1e-12)
    assert receipt.budget[-1].max_absolute < 1e-6
    worst = max(receipt.budget[:3], key=lambda line: line.mean_absolute).step
    assert f"Of the edges, {worst} moved the output most: by " in receipt.summary()


def test_rows_where_the_formula_is_undefined_are_left_out():
    model, x, _ = toy()
    x1, _ = feature_symbols(model)
    networks = model, model, model
    _, _, difference = error_parts(*networks, (sympy.log(x1),), x)
    assert np.isnan(difference).any()
    _, mean = error_budget(*networks, (sympy.log(x1),), x)
    assert mean[0] == pytest.approx(difference[np.isfinite(difference[:, 0])].mean())
    lines, mean = error_budget(*networks, (sympy.log(x1 - 5),), x)
    assert mean == ()
    assert lines[-1].mean_absolute == 0


def test_rows_that_are_undefined_on_the_way_are_left_out():
    """The formula is finite everywhere, a network between it and the model is not."""
    model, x, _ = toy()
    layers = [copy.deepcopy(layer) for layer in model.layers]
    layers[0].assign(0, 0, "log", (1.0, 0.0, 1.0, 0.0))
    x1, _ = feature_symbols(model)
    networks = model, KAN.from_layers(layers, model.schema), model, (x1,), x
    _, _, difference = error_parts(*networks)
    assert np.isfinite(difference).all()
    good = x[:, 0].numpy() > 0
    assert 0 < good.sum() < len(x)
    lines, mean = error_budget(*networks)
    assert mean[0] == pytest.approx(difference[good].mean())
    assert sum(line.mean[0] for line in lines) == pytest.approx(mean[0], abs=1e-12)
