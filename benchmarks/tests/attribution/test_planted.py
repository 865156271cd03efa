"""Planted networks are what they are said to be, edge by edge and as a whole."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from benchmarks.attribution.cases import CASES
from benchmarks.attribution.writing import EVEN, Sheet, write
from kanlens.attribution.integration._integrated_gradients import integrate
from kanlens.attribution.integration._lines import Lines, meeting_points
from kanlens.model._analysis import live_features

EXACT = {"bilinear", "product", "sobol_g", "threshold", "xor"}  # pieces of polynomials


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow  # many cases
def test_the_network_is_its_formula(name):
    """Both are written by hand: one as text, the other edge by edge."""
    assert CASES[name].spline_error(seeded(1)) < (2e-14 if name in EXACT else 2e-9)


def test_a_network_that_is_another_formula_is_noticed():
    case = CASES["exp_sin"]
    with torch.no_grad():
        before = float(case.model.layers[1].bias[0])
        case.model.layers[1].bias[0] += 1e-6
        try:
            assert case.spline_error(seeded()) > 5e-7
        finally:
            case.model.layers[1].bias[0] = before


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow  # many cases
def test_null_features_do_nothing_and_others_do_something(name):
    case = CASES[name]
    x, other = case.draw(64, seeded()), case.draw(64, seeded(1))
    for feature in range(case.inputs):
        moved = x.clone()
        moved[:, feature] = other[:, feature]
        change = float((case.model(moved) - case.model(x)).detach().abs().max())
        by_formula = float((case.formula(moved) - case.formula(x)).abs().max())
        if feature in case.null:
            assert by_formula == 0
            assert change < 1e-14
        else:
            assert by_formula > 1e-3


def test_null_features_are_dead_in_three_ways():
    """The structure gives away the first two, and misses the one that cancels."""
    case = CASES["null_features"]
    assert case.null == (2, 3, 4)
    first = case.model.layers[0]
    assert not bool(first.mask[:, 2].any())
    assert bool(first.mask[:, 3].any())
    assert not bool(first.spline_weight[:, 3].any())
    assert live_features(case.model, 0).tolist() == [True, True, False, False, True]
    assert bool(first.spline_weight[:, 4].any())


def test_rows_follow_their_law():
    case = CASES["cancellation"]
    x = case.draw(4000, seeded())
    assert float(torch.corrcoef(x[:, :2].T)[0, 1]) > 0.97
    assert abs(float(torch.corrcoef(x[:, 1:].T)[0, 1])) < 0.05
    assert_close(x.mean(0), torch.zeros(3).double(), atol=0.01, rtol=0)
    assert_close(x.var(0), torch.full((3,), 1 / 3).double(), atol=0.01, rtol=0)
    same = CASES["duplicate_one"].draw(9, seeded())
    assert torch.equal(same[:, 0], same[:, 1])
    assert not torch.equal(same[:, 0], same[:, 2])


def test_rows_fill_every_part_of_every_range_and_depend_on_the_generator_alone():
    case = CASES["friedman"]
    x, again, other = (case.draw(20, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    for column in x.T:
        assert sorted((20 * column).floor().int().tolist()) == list(range(20))


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_polynomials_up_to_the_order_are_met_exactly(order):
    sheet = Sheet(edges={(0, 0): lambda x: x**order - x}, cuts=[(-1.0, 0.2, 3.0)], order=order)
    x = torch.linspace(-1, 3, 200).double()[:, None]
    scale = 3.0**order
    assert_close(write([sheet])(x), x**order - x, atol=1e-14 * scale, rtol=0)
    beyond = Sheet(edges={(0, 0): lambda x: x ** (order + 1)}, cuts=[(-1.0, 3.0)], order=order)
    missed = (write([beyond])(x) - x ** (order + 1)).detach().abs().max()
    assert float(missed) > 1e-3


def test_a_kink_on_a_cut_is_met_exactly():
    sheet = Sheet(edges={(0, 0): torch.abs}, cuts=[(-1.0, 0.0, 1.0)], order=1, pieces=3)
    x = torch.linspace(-1.5, 1.5, 100).double()[:, None]
    assert_close(write([sheet])(x), x.abs(), atol=1e-14, rtol=0)


def test_edges_that_are_not_written_are_masked():
    sheet = Sheet(edges={(1, 0): torch.sin}, cuts=[EVEN, EVEN])
    assert write([sheet]).layers[0].mask.tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_writing_draws_nothing():
    before = torch.get_rng_state()
    write([Sheet(edges={(0, 0): torch.sin}, cuts=[EVEN])])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["product", "xor", "sobol_g"])
def test_rounding_inside_a_network_is_taken_for_no_jump(name):
    model, x = CASES[name].model, CASES[name].draw(500, seeded(1))
    end = model.scale_inputs(x)
    for rows in (torch.zeros_like(x[:1]), x.mean(0, keepdim=True)):
        start = model.scale_inputs(rows).expand_as(x)
        lines = Lines(model=model, target=0, start=start, end=end, at_once=8192)
        assert not bool(integrate(lines, meeting_points(model, 0)).unsettled.any())
