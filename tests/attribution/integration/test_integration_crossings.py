"""Where lines are cut, and the rules between cuts."""

import copy

import numpy as np
import pytest
import torch

from kanlens.attribution.integration._integrated_gradients import rule
from kanlens.attribution.integration._lines import (
    Interpolation,
    Lines,
    Segments,
    meeting_points,
    smooth_segments,
)
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN
from tests.attribution.conftest import build
from tests.attribution.integration import brute_force


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def lines_of(model, x, rows, target=0):
    start, end = model.scale_inputs(rows), model.scale_inputs(x)
    return Lines(model=model, target=target, start=start, end=end, at_once=1000)


@pytest.mark.parametrize("widths", [[3, 4, 1], [3, 3, 3, 1], [3, (1, 2), 1]])
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_cuts_are_where_inputs_pass_breakpoints(widths, extrapolation, draw):
    model = float64_copy(build(widths, extrapolation=extrapolation))
    x, rows = draw(6, 3), draw(6, 3, seed=2)
    found = smooth_segments(lines_of(model, x, rows), meeting_points(model, 0))
    assert len(found) > 20
    for line in range(6):
        own = found[found.owner == line]
        expected = [0.0, *brute_force.crossings(model, x[line], rows[line])]
        np.testing.assert_allclose(own.low.numpy(), expected, rtol=0, atol=1e-12)
        assert bool((own.high[:-1] == own.low[1:]).all())
        assert float(own.high[-1]) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_breakpoint_that_an_input_only_just_passes_is_crossed_twice(seed):
    model = float64_copy(build([1, 1, 1], seed, base_activation="zero"))
    line = lines_of(model, *torch.tensor([[[2.0]], [[-2.0]]], dtype=torch.float64))
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    hidden = line.hidden(1, torch.zeros_like(t, dtype=torch.long), t)[:, 0]
    top = (hidden[1:-1] > hidden[:-2]) & (hidden[1:-1] >= hidden[2:])
    turn = int(top.nonzero()[0]) + 1
    knots = meeting_points(model, 0)
    knots[1] = hidden[turn].reshape(1, 1) - 1e-3
    cuts = smooth_segments(line, knots).low
    near = cuts[(cuts - t[turn]).abs() < 0.05]
    values = line.hidden(1, torch.zeros_like(near, dtype=torch.long), near)[:, 0]
    passed = near[(values - knots[1][0, 0]).abs() < 1e-12]
    assert len(passed) == 2
    assert float(passed[0]) < float(t[turn]) < float(passed[1])


def test_only_breakpoints_that_lead_to_the_output_count():
    model = float64_copy(build([3, 2, 2]))
    model.layers[0].mask[:, 1] = 0
    model.layers[1].mask[1, 0] = 0  # hidden node 0 leads to the first output only
    model.layers[0].mask[1, 2] = 0
    model.layers[0].spline_weight[1, 0] = 0  # a base function, which has no breakpoints
    first, second = (meeting_points(model, target) for target in (0, 1))
    assert [torch.isfinite(one).any(1).tolist() for one in first] == [
        [True, False, True],
        [True] * 2,
    ]
    assert not bool(torch.isfinite(second[0]).any())
    assert torch.isfinite(second[1]).any(1).tolist() == [False, True]


def test_functions_leave_only_their_kinks():
    model = KAN([2, 1, 1], grid_size=4).double()
    layer = copy.deepcopy(model.layers[0])
    layer.assign(0, 0, "relu", (2.0, 0.0, 1.0, 0.0))  # its kink is a breakpoint of the grid
    layer.assign(0, 1, "sin", (1.0, 0.0, 1.0, 0.0))
    model = float64_copy(KAN.from_layers([layer, model.layers[1]], model.schema))
    found = meeting_points(model, 0)[0]
    assert found[0][torch.isfinite(found[0])].unique().tolist() in ([0.0], [0.0, 1.0])
    assert found[1][torch.isfinite(found[1])].tolist() in ([], [1.0])


def test_segments_are_cut_in_order_and_remember_what_they_are_parts_of():
    low, high = double(0.0, 0.5, 0.0), double(0.5, 1.0, 1.0)
    segments = Segments(torch.tensor([0, 0, 1]), low, high)
    t = double(0.8, 0.25, 0.7, 0.7)
    cut, origin = segments.cut(torch.tensor([1, 0, 1, 1]), t)
    assert origin.tolist() == [0, 0, 1, 1, 1, 2]
    assert cut.owner.tolist() == [0, 0, 0, 0, 0, 1]
    assert cut.low.tolist() == [0.0, 0.25, 0.5, 0.7, 0.8, 0.0]
    assert cut.high.tolist() == [0.25, 0.5, 0.7, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("m", [1, 2, 5, 10])
def test_rules_are_exact_up_to_their_degree(m):
    pair, degree = rule(m), 3 * m + 1
    for weights, exact in ((pair.weights, degree), (pair.coarse, 2 * m - 1)):
        for power in range(exact + 1):
            expected = 2 / (power + 1) if power % 2 == 0 else 0.0
            assert float(weights @ pair.nodes**power) == pytest.approx(expected, abs=1e-14)
    beyond = 2 * m + 2 * (m > 1)
    wrong = float(pair.coarse @ pair.nodes**beyond) - 2 / (beyond + 1)
    assert abs(wrong) > 1e-7
    assert bool((pair.weights > 0).all())
    assert bool((pair.nodes.diff() > 0).all())


def test_interpolation_finds_roots_of_polynomials():
    curve = Interpolation(6, 10)
    values = (curve.nodes**5 - 0.3 * curve.nodes)[None].expand(2, -1)
    low, high = double(0.5, -0.2), double(1.0, 0.3)
    place, slope = curve.solve(values, double(0.0, 0.0), low, high)
    expected = double(0.3**0.25, 0.0)
    torch.testing.assert_close(place, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(slope, 5 * expected**4 - 0.3)
    torch.testing.assert_close(curve.sample(values)[0], curve.places**5 - 0.3 * curve.places)
