"""What hidden nodes do for an output, against the definitions."""

import numpy as np
import pytest
import torch

from kanlens.attribution import METHODS, attribute
from kanlens.errors import InvalidValueError
from kanlens.model._trace import trace

captum_internal_influence = METHODS["captum_internal_influence"].function
captum_layer_activation = METHODS["captum_layer_activation"].function
captum_layer_conductance = METHODS["captum_layer_conductance"].function
captum_layer_deep_lift = METHODS["captum_layer_deep_lift"].function
captum_layer_gradient_x_activation = METHODS["captum_layer_gradient_x_activation"].function
captum_layer_integrated_gradients = METHODS["captum_layer_integrated_gradients"].function

WIDTHS = [[3, 2, 2], [3, (1, [2, 3]), 2, 2], [3, (2, 1), (1, 1)]]
LEVELS = [(widths, level) for widths in WIDTHS for level in range(1, len(widths))]
COMPLETE = {  # relative to the change
    captum_layer_deep_lift: 1e-12,
    captum_layer_conductance: 3e-3,
    captum_layer_integrated_gradients: 1e-3,
}


def nodes_and_slopes(given, level, x):
    """The nodes of a level and the output's slopes in them, by autograd alone."""
    model, target = given.model, given.target
    last = level == len(model.layers)
    with torch.enable_grad():
        hidden = model.scale_inputs(x)
        for index in range(level):
            hidden = model.nodes[index](model.layers[index](hidden))
        if last:
            hidden = hidden * model.output_scale + model.output_shift
        found = hidden.detach().requires_grad_()
        y = found
        for index in range(level, len(model.layers)):
            y = model.nodes[index](model.layers[index](y))
        y = y[:, target] if last else y[:, target] * model.output_scale[target]
        return found.detach(), torch.autograd.grad(y.sum(), found)[0]


def on_lines(given, level, n=4000):
    """Places on the lines from all background rows, shape (batch, row, place, in)."""
    t = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    x, b = given.x[:, None, None], given.background[None, :, None]
    return b + t[None, None, :, None] * (x - b)


@pytest.mark.parametrize("widths", WIDTHS)
def test_activations_are_those_of_the_trace(widths, problem):
    given = problem(widths)
    record = trace(given.model, given.x)
    for level in range(1, len(widths) - 1):
        found = captum_layer_activation(given, layer=level)
        torch.testing.assert_close(found.values, record.inputs[level], rtol=1e-12, atol=1e-13)
    outputs = captum_layer_activation(given, layer=len(widths) - 1).values
    torch.testing.assert_close(outputs[:, given.target], given.output(given.x))
    assert float(outputs[:, 0].abs().max()) == 0  # the output that is not asked for


@pytest.mark.parametrize(("widths", "level"), LEVELS)
def test_gradient_times_activation(widths, level, problem):
    given = problem(widths)
    nodes, slopes = nodes_and_slopes(given, level, given.x)
    found = captum_layer_gradient_x_activation(given, layer=level)
    torch.testing.assert_close(found.values, nodes * slopes, rtol=1e-10, atol=1e-12)
    assert np.isfinite(found.reference)


@pytest.mark.parametrize(("widths", "level"), LEVELS)
@pytest.mark.parametrize("function", COMPLETE)
@pytest.mark.slow  # many cases
def test_complete_ones_add_up_to_the_change(function, widths, level, problem):
    given = problem(widths)
    found = function(given, layer=level)
    change = given.output(given.x) - found.reference
    gap = (change - found.values.sum(1)).abs().sum() / change.abs().sum()
    assert float(gap) < COMPLETE[function]
    assert found.features == tuple(
        given.model.node_name(level, i) for i in range(given.model.widths[level])
    )


@pytest.mark.parametrize(("widths", "level"), LEVELS)
def test_conductance_is_the_sum_over_the_line(widths, level, problem):
    given = problem(widths, batch=2, rows=2)
    lines = on_lines(given, level)
    nodes, slopes = nodes_and_slopes(given, level, lines.reshape(-1, lines.shape[-1]))
    nodes, slopes = (part.reshape(*lines.shape[:3], -1) for part in (nodes, slopes))
    both = (slopes[:, :, 1:] + slopes[:, :, :-1]) / 2
    expected = (both * nodes.diff(dim=2)).sum(2).mean(1)
    found = captum_layer_conductance(given, layer=level).values
    size = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * size)


@pytest.mark.parametrize(("widths", "level"), LEVELS)
def test_influence_is_the_mean_slope_on_the_line(widths, level, problem):
    given = problem(widths, batch=2, rows=2)
    lines = on_lines(given, level)
    _, slopes = nodes_and_slopes(given, level, lines.reshape(-1, lines.shape[-1]))
    slopes = slopes.reshape(*lines.shape[:3], -1)
    expected = ((slopes[:, :, 1:] + slopes[:, :, :-1]) / 2).mean(2).mean(1)
    found = captum_internal_influence(given, layer=level)
    size = float(expected.abs().max())
    torch.testing.assert_close(found.values, expected, rtol=0, atol=2e-3 * size)
    assert np.isnan(found.reference)


def test_more_steps_bring_conductance_closer_by_their_square(problem):
    given = problem([3, 3, 1])
    gaps = []
    for n in (40, 400):
        found = captum_layer_conductance(given, n_steps=n)
        gap = given.output(given.x) - found.reference - found.values.sum(1)
        gaps.append(float(gap.abs().sum()))
    assert gaps[1] < gaps[0] / 20


def test_deep_lift_of_nodes_is_what_flows_through_them(network, draw):
    model, x, rows = network([3, (2, 1), 3, 2]), draw(4, 3), draw(3, 3, seed=2)
    paths = attribute(model, x, method="secant", background=rows, target=1).paths
    for level in (1, 2):
        found = attribute(
            model, x, method="captum_layer_deep_lift", background=rows, target=1, layer=level
        )
        leaving = paths[level].sum(1)  # what leaves each node of the level
        torch.testing.assert_close(found.values, leaving, rtol=1e-10, atol=1e-12)


def test_columns_are_named_after_the_nodes(network, draw):
    model, x = network([3, (2, 1), 2]), draw(4, 3)
    found = attribute(model, x, method="captum_layer_conductance", background=x, target="y2")
    assert found.features == ("h1_1", "h1_2", "h1_3")
    assert list(found.to_frame().columns[:3]) == ["h1_1", "h1_2", "h1_3"]
    assert found.x is None
    assert found.groups == {}
    last = attribute(model, x, method="captum_layer_conductance", background=x, target=1, layer=2)
    assert last.features == ("y1", "y2")
    torch.testing.assert_close(last.values[:, 1], last.output - last.reference, rtol=1e-2, atol=0)


LAYERED = [name for name, method in METHODS.items() if method.of_nodes]


def test_all_of_them_say_that_they_are_of_nodes():
    assert len(LAYERED) == 6
    assert all(METHODS[name].scope == "local" for name in LAYERED)
    assert not METHODS["shapley"].of_nodes


def test_levels_that_are_not_there_are_refused(problem):
    for method in LAYERED:
        with pytest.raises(InvalidValueError, match="level of nodes, to 2, the outputs, got 3"):
            METHODS[method].function(problem([2, 2, 1]), layer=3)
