"""Enclosures of spline edges and their slopes hold everywhere, are tight, and keep signs."""

import pytest
import torch
from torch import Tensor

from kanlens.model._kan_linear import KANLinear
from kanlens.model._layer_enclosures import MAX_COORDINATE, slope_range
from tests.model.layers_for_tests import MODES, ORDERS, SERIES, normal, rich

BASES = ("silu", "tanh", "gelu", "identity", "zero")
NOISE = 1e-15  # of an evaluation, next to the size of the edge


def boxes(scale: float, n_in: int = 3, count: int = 15) -> tuple[Tensor, Tensor]:
    """Wide, narrow and empty intervals, from the middle of the grid to far outside."""
    generator = torch.Generator().manual_seed(5)
    middle = scale * torch.randn(count, n_in, generator=generator, dtype=torch.float64)
    width = scale * torch.rand(count, n_in, generator=generator, dtype=torch.float64)
    width = width * torch.tensor([1.0, 0.1, 0.0], dtype=torch.float64)[:n_in]
    return middle - width, middle + width


def escapes(low: Tensor, high: Tensor, values: Tensor) -> bool:
    """Whether values (point, box, out, in) leave bounds (box, out, in)."""
    room = NOISE * (1 + values.abs())
    return bool(((values < low - room) | (values > high + room)).any())


def between(low: Tensor, high: Tensor, count: int = 30) -> Tensor:  # (point, box, in)
    share = torch.linspace(0, 1, count + 2, dtype=torch.float64)[1:-1]
    return torch.minimum(low + (high - low) * share[:, None, None], high)


def at(layer: KANLinear, x: Tensor, slopes: bool) -> Tensor:
    edges = layer.edge_derivatives if slopes else layer.edge_values
    return edges(x.reshape(-1, layer.in_features)).detach().reshape(*x.shape[:2], -1, x.shape[2])


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("base", BASES)
def test_enclosures_hold_everywhere(order, mode, base):
    check_enclosures(rich(spline_order=order, extrapolation=mode, base_activation=base))


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize("name", SERIES)
def test_enclosures_of_series_hold_everywhere(name):
    for seed in (0, 1):
        check_enclosures(rich(series=SERIES[name], spline_order=1, seed=seed))


@pytest.mark.parametrize("name", list(SERIES)[:5])
@pytest.mark.slow  # many cases
def test_enclosures_of_series_are_narrow(name):
    layer = rich(series=SERIES[name], spline_order=1)
    low, high = (end[None] for end in layer.domain())
    lower, upper = layer.enclosure(low, high).values(low, high).bounds()
    values = at(layer, between(low, high, 2001), slopes=False)
    assert float(((upper - lower) / (values.amax(0) - values.amin(0))).max()) < 1.5


def check_enclosures(layer: KANLinear) -> None:
    """Refuse an enclosure that an edge or its slope leaves."""
    for scale in (0.5, 100.0):
        low, high = boxes(scale)
        inside = layer.enclosure(low, high)
        for slopes, found in ((False, inside.values(low, high)), (True, inside.slopes(low, high))):
            values = at(layer, between(low, high), slopes)
            assert not escapes(*found.bounds(), values)
            hull = (found.points.amin(-1) + found.below).amin(-1)
            top = (found.points.amax(-1) + found.above).amax(-1)
            assert not escapes(hull, top, values)


@pytest.mark.parametrize("slopes", [False, True])
def test_the_check_catches_bounds_that_are_too_narrow(slopes):
    layer = rich()
    low, high = boxes(1.0)
    inside = layer.enclosure(low, high)
    lower, upper = (inside.slopes if slopes else inside.values)(low, high).bounds()
    values = at(layer, between(low, high), slopes)
    assert escapes(lower, upper - 0.2 * (upper - lower) - 1e-6, values)


def test_combined_edges_are_enclosed_more_tightly_than_one_by_one():
    layer = rich(1, 2)
    with torch.no_grad():  # the second edge is the first, turned over
        for name in ("spline_weight", "base_weight"):
            weight = getattr(layer, name)
            weight[1] = -weight[0]
        layer.spline_scaler[1] = layer.spline_scaler[0]
    low, high = layer.domain()[0][None], layer.domain()[1][None]
    found = layer.enclosure(low, high).values(low, high)
    assert float((found.points[0, 0] + found.points[0, 1]).abs().amax()) < 1e-12
    assert float((found.bounds()[1] - found.bounds()[0]).amin()) > 0.1


def test_rising_coefficients_give_slopes_of_at_least_zero():
    layer = KANLinear(2, 3, base_activation="zero", grid_size=6).double()
    with torch.no_grad():
        layer.spline_scaler.fill_(1.0)
        steps = normal(3, 2, 9).clamp_min(0)  # half of them are exactly 0
        layer.spline_weight.copy_(steps.cumsum(-1))
    low, high = boxes(0.5, 2)
    lower, _ = layer.edge_slope_bounds(low.clamp(-1, 1), high.clamp(-1, 1))
    assert bool((lower >= 0).all())
    assert bool((lower == 0).any())


@pytest.mark.parametrize("base", BASES)
def test_slope_ranges_of_bases_are_reached(base):
    from kanlens.functions._catalog import BASES as records

    low, high = torch.tensor([[-9.0, -2.0, 0.3], [9.0, 1.0, 0.4]], dtype=torch.float64)
    least, most = (end.numpy() for end in slope_range(records[base], low, high))
    x = low + (high - low) * torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
    slopes = records[base].nth(x.numpy(), 1)
    assert (slopes >= least - 1e-15).all()
    assert (slopes <= most + 1e-15).all()
    assert (slopes.max(0) - slopes.min(0) > 0.999 * (most - least) - 1e-9).all()


def test_boxes_beyond_what_was_asked_for_have_no_bounds():
    layer = rich()
    low, high = boxes(1.0)
    wide = low.amin(0, keepdim=True) - 1, high.amax(0, keepdim=True) + 1
    lower, upper = layer.enclosure(low, high).values(*wide).bounds()
    assert bool(torch.isinf(lower).all())
    assert bool(torch.isinf(upper).all())
    far = torch.full((1, 3), 2 * MAX_COORDINATE, dtype=torch.float64)
    assert bool(torch.isinf(layer.edge_slope_bounds(far, far)[0]).all())


def test_dead_edges_are_zero_wherever():
    layer = rich()
    layer.mask[0, 1] = 0
    far = torch.full((1, 3), 2 * MAX_COORDINATE, dtype=torch.float64)
    for low, high in (boxes(1.0), (far, far)):
        for lower, upper in (layer.edge_bounds(low, high), layer.edge_slope_bounds(low, high)):
            assert float(lower[:, 0, 1].abs().amax()) == 0
            assert float(upper[:, 0, 1].abs().amax()) == 0


def test_one_box_and_many_agree():
    layer = rich()
    low, high = boxes(1.0)
    many = layer.edge_bounds(low, high)
    for row in range(3):
        one = layer.edge_bounds(low[row], high[row])
        for batched, single in zip(many, one, strict=True):
            assert batched[row].shape == single.shape
        values = at(layer, between(low[row : row + 1], high[row : row + 1]), slopes=False)
        assert not escapes(one[0][None], one[1][None], values)
    single = layer.edge_slope_bounds(low[0], high[0])
    assert torch.equal(single[0], layer.edge_slope_bounds(low[:1], high[:1])[0][0])
