"""Bounds of spline edges hold everywhere, are reached, and mind the rounding of their dtype."""

import re

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kanlens.errors import InvalidValueError
from kanlens.model._kan_linear import KANLinear
from kanlens.splines import _spline as spline
from tests.model.layers_for_tests import MODES


def problem(seed: int, degree: int, grid_size: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """Coefficients (3, 2, basis), uneven knots (2, knot), and the generator that drew them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, grid_size + 2 * degree + 1)
    knots = (0.05 + torch.rand(shape, generator=generator, dtype=torch.float64)).cumsum(1)
    coef = torch.randn(3, 2, grid_size + degree, generator=generator, dtype=torch.float64)
    return coef, knots, generator


def bounds(coef, knots, degree, low, high, extrapolation="zero"):
    """Bounds (out, in) of a layer of these splines."""
    n_out, n_in, n_basis = coef.shape
    layer = KANLinear(
        n_in,
        n_out,
        grid_size=n_basis - degree,
        spline_order=degree,
        enable_standalone_scale_spline=False,
        base_activation="zero",
        extrapolation=extrapolation,
    ).to(coef.dtype)
    layer.grid = knots
    with torch.no_grad():
        layer.spline_weight.copy_(coef)
        return layer.edge_bounds(low, high)


def interval(knots: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two ends per input, from well below the knots to well above."""
    low, high = knots[:, 0] - 2.0, knots[:, -1] + 2.0
    share = torch.rand(2, len(knots), generator=generator, dtype=torch.float64)
    ends = (low + (high - low) * share).sort(0).values
    return ends[0], ends[1]


def sample(low: Tensor, high: Tensor, count: int = 200) -> Tensor:
    return low + (high - low) * torch.linspace(0, 1, count, dtype=torch.float64)[:, None]


def refuse_unsound(lower: Tensor, upper: Tensor, values: Tensor) -> None:
    """Fail unless the bounds (out, in) hold for the values (batch, out, in)."""
    assert (values >= lower).all()
    assert (values <= upper).all()


@pytest.mark.parametrize("mode", MODES)
def test_bounds_of_straight_pieces_are_exact(mode):
    coef, knots, generator = problem(3, 1, 4)
    low, high = interval(knots, generator)
    lower, upper = bounds(coef, knots, 1, low, high, extrapolation=mode)
    ends = torch.cat([torch.stack([low, high]), knots.mT])
    ends = ends.clamp(low, high)
    values = spline.evaluate(ends, coef, knots, 1, extrapolation=mode)
    assert_close(lower, values.amin(0), rtol=1e-10, atol=1e-10)
    assert_close(upper, values.amax(0), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_a_single_point_and_a_constant(mode):
    coef, knots, generator = problem(2, 3, 4)
    low, _ = interval(knots, generator)
    lower, upper = bounds(coef, knots, 3, low, low, extrapolation=mode)
    value = spline.evaluate(low[None], coef, knots, 3, extrapolation=mode)[0]
    refuse_unsound(lower, upper, value[None])
    assert_close(upper, lower, rtol=1e-9, atol=1e-9)
    low, high = spline.grid_ends(knots, 3)
    lower, upper = bounds(torch.ones_like(coef), knots, 3, low, high, extrapolation=mode)
    assert_close(lower, torch.ones(3, 2, dtype=torch.float64), rtol=1e-10, atol=0)
    assert_close(upper, torch.ones(3, 2, dtype=torch.float64), rtol=1e-10, atol=0)


def test_infinite_ends_in_linear_mode_follow_the_slopes():
    knots = spline.uniform_knots(1, 0.0, 2.0, 2, degree=1).double()
    coef = torch.tensor([[[0.0, 1.0, 3.0]], [[5.0, 1.0, 1.0]], [[0.0, 4.0, 0.0]]]).double()
    minus, plus = torch.tensor([-torch.inf]), torch.tensor([torch.inf])
    lower, upper = bounds(coef, knots, 1, minus, plus, extrapolation="linear")
    expected = torch.tensor([[-torch.inf], [1.0], [-torch.inf]]).double()
    assert_close(lower, expected)
    assert_close(upper, torch.tensor([[torch.inf], [torch.inf], [4.0]]).double())
    far = torch.tensor([-7.0])
    lower, upper = bounds(coef, knots, 1, minus, far, extrapolation="linear")
    assert_close(upper, torch.tensor([[-7.0], [torch.inf], [-28.0]]).double())
    assert_close(lower, torch.tensor([[-torch.inf], [33.0], [-torch.inf]]).double())


def test_infinite_ends_in_zero_mode_are_bounded_by_the_splines_themselves():
    coef, knots, _ = problem(4, 3, 4)
    minus, plus = torch.full((2,), -torch.inf), torch.full((2,), torch.inf)
    lower, upper = bounds(coef, knots, 3, minus, plus)
    whole = bounds(coef, knots, 3, knots[:, 0] - 9.0, knots[:, -1] + 9.0)
    assert_close((lower, upper), whole, rtol=1e-10, atol=1e-10)
    lower, upper = bounds(coef, knots, 3, knots[:, -1] + 1.0, plus)
    assert_close((lower, upper), (torch.zeros(3, 2).double(),) * 2)


@pytest.mark.parametrize("ends", [(1.0, 0.0), (torch.nan, 1.0), (0.0, torch.nan)])
def test_an_interval_must_not_be_empty(ends):
    coef, knots, _ = problem(0, 3, 4)
    low, high = (torch.full((2,), end, dtype=torch.float64) for end in ends)
    text = "edge_bounds: expected low <= high, got an empty interval. Swap the ends."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        bounds(coef, knots, 3, low, high)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_far_out_mind_the_rounding_of_a_slope_that_cancels(seed):
    coef, knots, generator = problem(seed, 3, 4)
    coef = torch.full_like(coef, 1 / 3) * torch.rand(3, 1, 1, generator=generator).double()
    low = torch.full((2,), 1e5, dtype=torch.float64)
    lower, upper = bounds(coef, knots / 100, 3, low, 2 * low, extrapolation="linear")
    x = sample(low, 2 * low)
    values = spline.evaluate(x, coef, knots / 100, 3, extrapolation="linear")
    refuse_unsound(lower, upper, values)
