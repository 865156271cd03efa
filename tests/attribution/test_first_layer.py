"""Global scores of the first layer."""

from __future__ import annotations

import torch

from kanlens.attribution import Importance, attribute


def test_weight_l1_does_not_move_with_a_constant(network, draw):
    model, x = network([2, 3, 1]), draw(4, 2)
    before = attribute(model, x, method="weight_l1")
    with torch.no_grad():  # a constant from one edge of a node to the other
        scaler = model.layers[0].spline_scaler[0]
        model.layers[0].spline_weight[0, 0] += 5 / scaler[0]
        model.layers[0].spline_weight[0, 1] -= 5 / scaler[1]
    after = attribute(model, x, method="weight_l1")
    assert isinstance(after, Importance)
    assert after.low is None
    torch.testing.assert_close(after.values, before.values, rtol=1e-10, atol=1e-10)


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
