"""Global scores of features from the sizes of edges."""

from __future__ import annotations

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.attribution.feature_scores import pykan
from kanlens.attribution.problem import Problem
from kanlens.model.analysis import float64_copy
from tests.attribution import oracles


def problem(model, x, target=0):
    return Problem(model=float64_copy(model), x=x, rows=None, target=target)


@pytest.mark.parametrize("widths", [[3, 2], [3, 4, 2], [3, (2, 1), 3, 2], [3, (1, [3]), 2]])
@pytest.mark.parametrize("target", [0, 1])
def test_is_its_definition(network, draw, widths, target):
    model, x = network(widths), draw(20, 3)
    found = pykan(problem(model, x, target)).values
    torch.testing.assert_close(found, oracles.pykan(model, x, x, target))


def test_a_sum_that_stands_still_passes_nothing_on(network, draw):
    model, x = network([3, 2, 1]), draw(9, 3)
    with torch.no_grad():
        model.layers[0].mask[0] = 0
    found = pykan(problem(model, x)).values
    assert bool(torch.isfinite(found).all())
    with torch.no_grad():
        model.layers[1].mask[0, 0] = 0
    torch.testing.assert_close(pykan(problem(model, x)).values, found)


def test_units_play_no_part(network, draw):
    model, x = network([3, 4, 2]), draw(20, 3)
    before = pykan(problem(model, x, 1)).values
    with torch.no_grad():
        model.layers[-1].spline_weight *= 1e-6
        model.layers[-1].base_weight *= 1e-6
    torch.testing.assert_close(pykan(problem(model, x, 1)).values, before)


def test_only_edges_that_lead_on_count(network, draw):
    model, x = network([2, 3, 2]), draw(4, 2)
    with torch.no_grad():
        model.layers[1].mask[1, 2] = 0  # the third node does not reach y2
        model.layers[0].mask[0, 0] = 0
    norms = model.layers[0].weight_l1().detach()
    found = attribute(model, x, method="weight_l1", target="y2")
    torch.testing.assert_close(found.values, norms[:2].sum(0))
    edges = model.layers[0].edge_values(model.scale_inputs(x)).detach()
    found = attribute(model, x, method="edge_std", target="y2")
    torch.testing.assert_close(found.values, edges.std(0, correction=0)[:2].sum(0))


def test_one_layer_counts_the_edges_of_the_output(network, draw):
    model, x = network([2, 3]), draw(4, 2)
    found = attribute(model, x, method="weight_l1", target=2)
    torch.testing.assert_close(found.values, model.layers[0].weight_l1()[2].detach())
