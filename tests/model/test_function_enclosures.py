"""Bounds of elementary edges and of their slopes hold, are reached, and know what is undefined."""

import pytest
import torch
from torch import Tensor

from kanlens.functions._catalog import FUNCTIONS
from kanlens.functions._elementary import ElementaryFunction
from kanlens.functions._registration import register_function
from kanlens.model._kan_linear import KANLinear

BUILTIN = sorted(FUNCTIONS)


def intervals(g: ElementaryFunction, count: int = 300) -> tuple[Tensor, Tensor]:
    """Intervals on which g is defined, narrow and wide."""
    generator = torch.Generator().manual_seed(3)
    low = 2 * torch.randn(count, generator=generator, dtype=torch.float64)
    width = 4 * torch.rand(count, generator=generator, dtype=torch.float64) ** 3
    good = g.defined(low, low + width)
    return low[good], (low + width)[good]


def between(low: Tensor, high: Tensor, count: int = 60) -> Tensor:
    share = torch.linspace(0, 1, count + 2, dtype=torch.float64)[1:-1]
    return low + (high - low) * share.reshape(-1, *[1] * low.dim())


@pytest.mark.parametrize("name", BUILTIN)
def test_slope_bounds_hold_and_are_reached(name):
    g = FUNCTIONS[name]
    low, high = intervals(g)
    lower, upper = g.extremes(low, high, 1)
    slopes = g.derivative(between(low, high))
    room = 1e-12 * (1 + slopes.abs())
    assert bool(((slopes >= lower - room) & (slopes <= upper + room)).all())
    if name in ("abs", "sign", "relu"):
        return  # kinks: both sides count, also at the ends
    slack = (upper - lower) - (slopes.amax(0) - slopes.amin(0))
    near = slack <= 0.2 * (upper - lower) + 1e-9  # beside a pole no grid of points comes close
    assert float(near.double().mean()) > 0.8


def test_a_missing_turn_of_the_slope_is_caught():
    from dataclasses import replace

    g = replace(FUNCTIONS["gaussian"], turns=((0.0,), ()))
    low, high = intervals(g)
    slopes = g.derivative(between(low, high))
    assert bool((slopes > g.extremes(low, high, 1)[1] + 1e-6).any())


@pytest.mark.parametrize(
    ("name", "low", "high"), [("1/x", -1.0, 1.0), ("log", -1.0, 1.0), ("tan", 1.0, 2.0)]
)
def test_no_bound_across_poles_and_undefined_places(name, low, high):
    ends = torch.tensor(low).double(), torch.tensor(high).double()
    lower, upper = FUNCTIONS[name].extremes(*ends, 1)
    assert lower == -torch.inf
    assert upper == torch.inf


def test_a_jump_up_has_no_upper_bound_but_a_lower_one():
    ends = torch.tensor(-1.0).double(), torch.tensor(1.0).double()
    lower, upper = FUNCTIONS["sign"].extremes(*ends, 1)
    assert lower == 0
    assert upper == torch.inf
    assert FUNCTIONS["sign"].extremes(ends[1], ends[1], 1)[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILTIN)
def test_layers_enclose_functions_beside_splines(name):
    generator = torch.Generator().manual_seed(0)
    layer = KANLinear(
        2, 2, functions=[[name, "spline"], [name, name]], generator=generator, scale_noise=3.0
    ).double()
    with torch.no_grad():
        layer.affine.copy_(torch.randn(2, 2, 4, generator=generator))
        layer.mask[1, 1] = 0
    low = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    high = low + torch.rand(20, 2, generator=generator, dtype=torch.float64) ** 2
    inside = layer.enclosure(low, high)
    x = between(low, high).reshape(-1, 2)
    for found, values in (
        (inside.values(low, high), layer.edge_values(x)),
        (inside.slopes(low, high), layer.edge_derivatives(x)),
    ):
        shaped = values.detach().reshape(-1, 20, 2, 2)
        room = 1e-12 * (1 + shaped.abs())
        good = torch.isfinite(shaped)
        hull = (found.points.amin(-1) + found.below).amin(-1)
        top = (found.points.amax(-1) + found.above).amax(-1)
        for lower, upper in (found.bounds(), (hull, top)):
            assert not bool((lower.isnan() | upper.isnan()).any())
            assert not bool((good & ((shaped < lower - room) | (shaped > upper + room))).any())
        assert float(found.bounds()[0][:, 1, 1].abs().amax()) == 0


def test_registered_functions_have_values_but_no_slopes_to_rely_on():
    def well(u):
        return u**4 - u**2

    with register_function("well", well, well, turning=(-(0.5**0.5), 0.0, 0.5**0.5)):
        layer = KANLinear(1, 1, functions=[["well"]]).double()
        low, high = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
        lower, upper = layer.edge_bounds(low, high)
        assert -0.2500001 < lower.item() <= -0.25
        assert 0 <= upper.item() < 1e-6
        assert torch.isinf(layer.edge_slope_bounds(low, high)[1]).all()
