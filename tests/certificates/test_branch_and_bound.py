"""The partition covers the domain, is cut at knots, and adds up to bounds of changes."""

import pytest
import torch

from kanlens._runtime import Deadline
from kanlens.certificates._additive_approximation import (
    additive_changes,
    fitted_weights,
    least_distance,
)
from kanlens.certificates._bound_propagation import BoundPropagation
from kanlens.certificates._branch_and_bound import SearchBudget, halved, refine
from kanlens.certificates._feature_effects import slices, total_change
from kanlens.certificates._relaxation import Interval
from kanlens.certificates._sampling import (
    Extremes,
    dual_norms,
    explore,
    spread_points,
    steepest_pairs,
)
from kanlens.model._analysis import features_read, float64_copy
from kanlens.model._network import KAN
from tests.attribution.conftest import build

UNIT = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]).double()
KNOTS = torch.linspace(-1, 1, 6).double().expand(2, -1)
NO_LIMIT = SearchBudget(
    tolerance=0.02, max_boxes=200, deadline=Deadline.after(None), progress=False
)


def seen(width: float = 0.0) -> Extremes:
    """Nothing much: every bound is far from it."""
    zero = torch.zeros(2).double()
    return Extremes(
        value=(0.0, width),
        apart=(0.0, 0.0),
        slope_low=zero,
        slope_high=zero,
        norms=torch.zeros(3).double(),
    )


def test_boxes_cover_the_domain_once():
    own = BoundPropagation(float64_copy(build([2, 3, 1])), 0, UNIT)
    boxes, count, decided = refine(own, seen(), NO_LIMIT)
    assert not decided
    assert len(boxes) > 50
    assert count <= 200
    volumes = (boxes.high - boxes.low).prod(1)
    assert float(volumes.sum()) == pytest.approx(4.0, rel=1e-12)
    x = 2 * torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double() - 1
    inside = ((x[:, None] >= boxes.low) & (x[:, None] <= boxes.high)).all(-1)
    assert bool((inside.sum(1) == 1).all())


def test_boxes_are_cut_at_a_knot_near_the_middle():
    low, high = torch.zeros(2, 2).double(), torch.ones(2, 2).double()
    knots = torch.tensor([[0.4, 5.0], [0.9, 7.0]], dtype=torch.float64)
    feature, usable = torch.tensor([0, 1]), torch.tensor([True, True])
    lows, highs = halved(low, high, feature, knots, usable)
    assert highs[0].tolist() == [0.4, 1.0]  # the knot
    assert lows[3].tolist() == [0.0, 0.5]  # no knot near: the middle


def largest_changes(model, index):
    """Return the largest rise and fall along a feature, the other one at 0."""
    x = torch.zeros(4001, 2).double()
    x[:, index] = torch.linspace(-1, 1, 4001).double()
    y = model(x)[:, 0]
    return [float(gap.max()) for gap in (y - y.cummin(0).values, y.cummax(0).values - y)]


@pytest.mark.parametrize("index", [0, 1])
def test_changes_add_up_over_slices(index):
    model = float64_copy(build([2, 1], base_activation="zero"))
    own = BoundPropagation(model, 0, UNIT)
    boxes = own.bounds(UNIT[None, :, 0], UNIT[None, :, 1])
    changes = largest_changes(model, index)
    for bound, change in zip(total_change(boxes, slices(own, index), index), changes, strict=True):
        assert change <= bound <= change + 0.1 * sum(changes)


@pytest.mark.parametrize("index", [0, 1])
def test_changes_follow_from_the_additive_function_and_its_distance(index):
    model = float64_copy(build([2, 1]))
    own = BoundPropagation(model, 0, UNIT)
    own.additive = model.output_scale.expand(1, 2)
    zero, wide = torch.zeros(()).double(), torch.ones(()).double()
    bounds, changes = additive_changes(own, Interval(zero, zero)), largest_changes(model, index)
    for bound, change in zip(bounds[index].tolist(), changes, strict=True):
        assert change <= bound <= change + 0.02 * sum(changes)
    off = additive_changes(own, Interval(-wide, wide))
    torch.testing.assert_close(off, bounds + 2, rtol=1e-9, atol=0)


def test_norms_are_dual():
    slope = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    step = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    change = (slope * step).sum(1).abs()
    for column, norm in enumerate((2.0, float("inf"), 1.0)):
        assert bool((change <= dual_norms(slope)[:, column] * step.norm(norm, dim=1) + 1e-5).all())


def test_points_are_spread_over_the_domain_and_repeat():
    points = spread_points(UNIT, 512)
    assert torch.equal(points, spread_points(UNIT, 512))
    assert points.abs().max() <= 1
    assert points.mean(0).abs().max() < 0.01


def test_exploring_finds_extremes():
    model = float64_copy(build([2, 3, 1]))
    sample = explore(model, 0, UNIT, KNOTS)
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 201).double()] * 2)
    y = model(grid)[:, 0]
    width = float(y.max() - y.min())
    assert float(sample.value.max()) >= float(y.max()) - 1e-3 * width
    assert float(sample.value.min()) <= float(y.min()) + 1e-3 * width


def test_pairs_are_the_largest_rise_and_fall_of_a_line():
    def wave(x):
        return torch.sin(3 * x[:, 0]) + x[:, 1]

    rise, fall = steepest_pairs(wave, UNIT, 0, torch.zeros(1, 2).double(), KNOTS[0])
    assert rise.rise == pytest.approx(2.0, abs=0.01)
    assert fall.rise == pytest.approx(torch.sin(torch.tensor(3.0)).item() - 1, abs=0.01)
    assert torch.equal(rise.x[:, 1], torch.zeros(2).double())


def test_an_additive_function_in_the_first_layer_is_recovered():
    model = float64_copy(build([2, 3, 1]))
    own = BoundPropagation(model, 0, UNIT)
    x = spread_points(UNIT, 600)
    edges = model.layers[0].edge_values(model.scale_inputs(x))
    truth = torch.tensor([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]]).double()
    value = (edges * truth).sum((1, 2)) + 4.0
    left = value - (edges * fitted_weights(own, x, value)).sum((1, 2))
    assert float(left.max() - left.min()) < 1e-4 * float(value.max() - value.min())


def test_no_additive_function_is_near_a_product():
    class Product:
        noise, domain = 0.0, UNIT

        @staticmethod
        def outputs(x):
            return x[:, 0] * x[:, 1]

    assert least_distance(Product()) == pytest.approx(1.0)


def test_structure_tells_what_is_additive():
    def is_separable(model, target, free):
        return int(features_read(model, target)[:, free].sum(1).max()) <= 1

    both, one = torch.tensor([True, True]), torch.tensor([True, False])
    model = KAN([2, 2, 1])
    assert not is_separable(model, 0, both)
    assert is_separable(model, 0, one)
    model.layers[0].mask.copy_(torch.eye(2))
    assert is_separable(model, 0, both)
    assert not is_separable(KAN([2, (0, 1)]), 0, both)
