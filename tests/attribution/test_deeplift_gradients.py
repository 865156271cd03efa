"""Secants and gradients."""

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.model import _analysis as analysis


def test_a_sample_next_to_the_background_gets_gradient_times_distance(network, draw):
    model, row = network([3, 4, 1]), draw(1, 3)
    step = torch.tensor([[1e-6, 0.0, -2e-6]], dtype=torch.float64)
    found = attribute(model, row + step, method="secant", background=row)
    expected = attribute(model, row + step, method="gradient_x_input", background=row)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-14)
    assert float(found.values[0, 1]) == 0


def test_a_sample_on_the_background_gets_zero(network, draw):
    model, row = network([3, 4, 1]), draw(1, 3)
    found = attribute(model, row, method="secant", background=row)
    assert bool((found.values == 0).all())
    assert bool((found.relative_gap == 0).all())


def test_blocks_change_nothing(network, draw, monkeypatch):
    model, x, rows = network([3, 4, 1]), draw(5, 3), draw(4, 3, seed=2)
    for method in ("secant", "gradient_x_input", "captum_deep_lift", "edge_std"):
        expected = attribute(model, x, method=method, background=rows)
        with monkeypatch.context() as patch:
            patch.setattr(analysis, "BUDGET", 40)
            found = attribute(model, x, method=method, background=rows)
        torch.testing.assert_close(found.values, expected.values, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("widths", [[3, 2], [3, 4, 2], [3, (2, 1), 3, 2], [3, (1, [3]), 2]])
def test_as_much_leaves_a_node_as_arrives(widths, network, draw):
    model, x, rows = network(widths), draw(5, 3), draw(4, 3, seed=2)
    found = attribute(model, x, method="secant", background=rows, target=1)
    torch.testing.assert_close(found.paths[0].sum(1), found.values)
    arriving = found.output - found.reference
    torch.testing.assert_close(found.paths[-1].sum((1, 2)), arriving, rtol=1e-12, atol=1e-12)
    for index in range(1, len(found.paths)):
        owner = model.nodes[index - 1].owner
        at_sums = found.paths[index - 1].sum(2)
        at_nodes = torch.zeros_like(found.paths[index][:, 0]).index_add(1, owner, at_sums)
        torch.testing.assert_close(found.paths[index].sum(1), at_nodes, rtol=1e-11, atol=1e-12)


def test_flows_of_a_single_background_row_are_changes_times_slopes(network, draw):
    model, x, row = network([2, 3, 1]), draw(1, 2), draw(1, 2, seed=2)
    found = attribute(model, x, method="secant", background=row)
    with torch.no_grad():
        ours, theirs = (model.scale_inputs(z) for z in (x, row))
        rise = model.layers[0].edge_values(ours) - model.layers[0].edge_values(theirs)
        step = model.layers[0](ours) - model.layers[0](theirs)
        inner = [model.layers[1].edge_values(model.layers[0](z))[0, 0] for z in (ours, theirs)]
    slopes = (inner[0] - inner[1]) / step[0] * model.output_scale
    torch.testing.assert_close(found.paths[0][0], rise[0] * slopes[:, None])


@pytest.mark.parametrize("widths", [[8, 5, 1], [5, 4, 3, 1], [4, 6, 6, 6, 1]])
def test_hardly_any_rounding_lies_between_what_arrives_and_what_leaves(widths, network, draw):
    model, x = network(widths), draw(300, widths[0])
    found = attribute(model, x, method="secant", background=draw(1, widths[0], seed=2))
    ulps = torch.finfo(torch.float64).eps * (found.output.abs() + found.values.abs().sum(1))
    assert float((found.completeness_gap.abs() / ulps).max()) < 10  # up to 9 by either kernel
