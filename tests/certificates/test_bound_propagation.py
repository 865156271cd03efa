"""Bounds on single boxes hold, close in fast, and forget nothing that cancels."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.attribution.random_networks import random_model
from kanlens.certificates import _relaxation as relaxation
from kanlens.certificates._bound_propagation import BoundPropagation, BoxBounds
from kanlens.certificates._relaxation import Interval, node_bounds
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes
from tests.attribution.conftest import build

SHAPES = ([3, 1], [2, 3, 1], [3, (2, 1), 1], [3, 4, 3, 1], [2, 3, (1, 2), (1, 1)], [20, 2, 1])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def setting(model: KAN, width: float, count: int = 12) -> tuple[BoundPropagation, Tensor, Tensor]:
    """A model with a domain, and boxes of a width in it."""
    clone = float64_copy(model)
    low = (clone.input_shift - 1.2 * clone.input_scale)[:, None]
    domain = torch.cat([low, low + 2.4 * clone.input_scale[:, None]], 1)
    share = torch.rand(count, len(domain), generator=seeded(), dtype=torch.float64) * (1 - width)
    span = domain[:, 1] - domain[:, 0]
    start = domain[:, 0] + span * share
    return BoundPropagation(clone, clone.widths[-1] - 1, domain), start, start + width * span


def sampled(
    own: BoundPropagation, low: Tensor, high: Tensor, count: int = 40
) -> tuple[Tensor, Tensor]:
    """Outputs (point, box) and gradients (point, box, in) in the boxes."""
    share = torch.rand(count, *low.shape, generator=seeded(1), dtype=torch.float64)
    x = (low + (high - low) * share).clamp(low, high).reshape(-1, low.shape[1]).requires_grad_()
    y = own.model(x)[:, own.target]
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach().reshape(count, -1), slope.reshape(count, *low.shape)


def holds(found: BoxBounds, value: Tensor, slope: Tensor) -> bool:
    room = 1e-11
    inside = (value >= found.value[0] - room) & (value <= found.value[1] + room)
    steep = (slope >= found.slope[0] - room) & (slope <= found.slope[1] + room)
    return bool((inside.all() & steep.all()).item())


@pytest.mark.slow
@pytest.mark.parametrize("widths", SHAPES)
@pytest.mark.parametrize("width", [0.05, 0.8])
def test_bounds_hold_on_boxes(widths, width):
    for options in ({}, {"extrapolation": "zero", "spline_order": 2}):
        own, low, high = setting(build(widths, **options), width)
        assert holds(own.bounds(low, high), *sampled(own, low, high))


def test_the_check_sees_bounds_that_are_too_narrow():
    own, low, high = setting(build([2, 3, 1]), 0.3)
    found = own.bounds(low, high)
    cut = found.value[0], found.value[1] - 0.4 * (found.value[1] - found.value[0])
    wrong = replace(found, value=cut)
    assert not holds(wrong, *sampled(own, low, high))


@pytest.mark.parametrize("widths", [[2, 3, 1], [3, 4, 3, 1], [3, (2, 1), 1]])
def test_what_bounds_lose_falls_with_the_square_of_the_box(widths):
    excess: dict[float, list[Tensor]] = {}
    for width in (0.08, 0.01):
        own, low, high = setting(build(widths, base_activation="zero", grid_size=2), width)
        found = own.bounds(low, high)
        corners = torch.cartesian_prod(*[torch.linspace(0, 1, 9).double()] * low.shape[1])
        x = low + (high - low) * corners[:, None]
        y = own.model(x.reshape(-1, low.shape[1]))[:, own.target].reshape(len(corners), -1)
        excess[width] = [(found.value[1] - found.value[0]) - (y.amax(0) - y.amin(0))]
    assert float(excess[0.01][0].median()) < 0.05 * float(excess[0.08][0].median())


def test_bounds_of_a_part_are_no_wider():
    own, low, high = setting(build([3, 4, 1]), 0.5)
    whole, part = own.bounds(low, high), own.bounds(low, 0.5 * (low + high))
    assert bool((part.value[0] >= whole.value[0] - 1e-9).all())
    assert bool((part.value[1] <= whole.value[1] + 1e-9).all())


def test_the_distance_from_an_additive_function_is_bounded():
    own, low, high = setting(build([3, 4, 1]), 0.4)
    own.additive = torch.randn(4, 3, generator=seeded(), dtype=torch.float64)
    found = own.bounds(low, high)
    x = low + (high - low) * torch.rand(50, *low.shape, generator=seeded(2), dtype=torch.float64)
    flat = x.reshape(-1, 3)
    edges = own.model.layers[0].edge_values(own.model.scale_inputs(flat))
    apart = own.model(flat)[:, 0] - (edges * own.additive).sum((1, 2))
    shaped = apart.reshape(50, -1)
    assert bool(((shaped >= found.apart[0]) & (shaped <= found.apart[1])).all())


def test_a_product_is_relaxed_to_a_plane_and_a_margin_that_hold():
    nodes = Nodes(Grouping(1, (2, 3)), scaled=True).double()
    nodes.scale.copy_(torch.tensor([2.0, -1.0, 0.5]))
    nodes.shift.copy_(torch.tensor([1.0, 3.0, -2.0]))
    low = torch.randn(5, 6, generator=seeded(), dtype=torch.float64)
    high = low + torch.rand(5, 6, generator=seeded(1), dtype=torch.float64)
    slopes = torch.randn(5, 2, 3, generator=seeded(2), dtype=torch.float64)
    weights, margin = relaxation.through_nodes(nodes, slopes, low, high)
    sums = low + (high - low) * torch.rand(200, 5, 6, generator=seeded(3), dtype=torch.float64)
    form = (slopes * nodes(sums)[:, :, None]).sum(-1)
    left = form - (weights * sums[:, :, None]).sum(-1)
    assert bool(((left >= margin[0]) & (left <= margin[1])).all())
    bounds = node_bounds(nodes, Interval(low, high))
    assert bool(((nodes(sums) >= bounds[0]) & (nodes(sums) <= bounds[1])).all())


def test_a_factor_that_may_be_undefined_leaves_a_product_without_bounds():
    inf = float("inf")
    sums = Interval(torch.tensor([[0.0, -inf]]).double(), torch.tensor([[0.0, inf]]).double())
    low, high = node_bounds(Nodes(Grouping(0, (2,))), sums)
    assert (low.item(), high.item()) == (-inf, inf)


@pytest.mark.parametrize("seed", range(30, 35))
def test_bounds_hold_for_models_of_every_kind(seed):
    model, domain = random_model(seed)
    own = BoundPropagation(float64_copy(model), 0, domain)
    low, high = domain[None, :, 0], domain[None, :, 1]
    found = own.bounds(low, high)
    value, slope = sampled(own, low, high, 200)
    good = torch.isfinite(value)
    assert bool((value[good] >= found.value[0] - 1e-9).all())
    assert bool((value[good] <= found.value[1] + 1e-9).all())
    steep = slope[torch.isfinite(slope).all(-1)]
    assert bool((steep >= found.slope[0] - 1e-9).all())
    assert bool((steep <= found.slope[1] + 1e-9).all())
