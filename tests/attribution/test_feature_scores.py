"""Global scores of features from the sizes of edges."""

import torch

from kanlens.attribution import attribute
from kanlens.attribution._direct_methods import pykan
from tests.attribution.conftest import problem_of


def test_a_sum_that_stands_still_passes_nothing_on(network, draw):
    model, x = network([3, 2, 1]), draw(9, 3)
    with torch.no_grad():
        model.layers[0].mask[0] = 0
    found = pykan(problem_of(model, x)).values
    assert bool(torch.isfinite(found).all())
    with torch.no_grad():
        model.layers[1].mask[0, 0] = 0
    torch.testing.assert_close(pykan(problem_of(model, x)).values, found)


def test_units_play_no_part(network, draw):
    model, x = network([3, 4, 2]), draw(20, 3)
    before = pykan(problem_of(model, x, target=1)).values
    with torch.no_grad():
        model.layers[-1].spline_weight *= 1e-6
        model.layers[-1].base_weight *= 1e-6
    torch.testing.assert_close(pykan(problem_of(model, x, target=1)).values, before)


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
