"""update_grid and refine: the functions stay, whatever the columns, or the change is returned."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kanlens.model._kan_linear import KANLinear
from tests.model.layers_for_tests import MODES, ORDERS, everywhere, inside, normal, rich, seeded


def change(layer: KANLinear, x: Tensor, before: Tensor) -> float:
    """Largest change of an output, as a share of the spread of the outputs."""
    return ((layer(x) - before).abs().amax(0) / before.std(0)).max().item()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid_size", [5, 6, 10])
def test_refine_keeps_the_function_on_the_old_grid(order, mode, grid_size):
    layer = rich(3, 4, grid_size=5, spline_order=order, extrapolation=mode)
    x = inside(layer, 300)
    before = layer(x).detach()
    error = layer.refine(grid_size)
    assert layer.grid_size == grid_size
    assert layer.spline_weight.shape == (4, 3, grid_size + order)
    assert change(layer, x, before) < 1e-10
    assert error < 1e-9


def test_refine_keeps_the_function_everywhere_when_it_goes_on_straight():
    layer = rich()
    x = everywhere(layer)
    before = layer(x).detach()
    layer.refine(13)
    assert change(layer, x, before) < 1e-10


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid_size", [1, 2, 4])
def test_refine_to_fewer_intervals_returns_what_it_lost(mode, grid_size):
    layer = rich(1, 1, extrapolation=mode)
    low, high = layer.domain()
    x = low + (high - low) * torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    before = layer(x).detach()
    error = layer.refine(grid_size)
    assert error > 1e-3
    assert (layer(x) - before).abs().max() < 1.05 * error
    assert error < (before.max() - before.min())  # the best fit, not just any


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("standalone", [True, False])
def test_update_grid_returns_the_change_on_rows_inside_the_old_grid(mode, standalone):
    layer = rich(extrapolation=mode, enable_standalone_scale_spline=standalone)
    x = 1.5 * normal(400, 3)
    kept = ~layer.outside(x).any(1)
    assert 0 < kept.sum() < 400
    before = layer(x).detach()
    error = layer.update_grid(x)
    change = (layer(x) - before)[kept].abs().max().item()
    assert error == pytest.approx(change, rel=1e-12)  # fewer rows are added up in another order
    assert layer.outside(x).sum() == 0


@pytest.mark.parametrize("mode", MODES)
def test_update_grid_keeps_a_smooth_function_and_its_scaler(mode):
    layer = KANLinear(2, 2, 20, extrapolation=mode, generator=seeded()).double()
    places = torch.linspace(0, 3, 23, dtype=torch.float64)
    with torch.no_grad():
        layer.spline_weight.copy_(torch.sin(places).expand(2, 2, -1))
        layer.spline_scaler.copy_(torch.tensor([[3.0, -2.0], [0.5, 7.0]]))
    x = 0.9 * (2 * torch.rand(500, 2, generator=seeded(4), dtype=torch.float64) - 1)
    before, scaler = layer(x).detach(), layer.spline_scaler.detach().clone()
    error = layer.update_grid(x)
    assert error < 1e-4 * before.std()
    assert change(layer, x, before) < 1e-4
    assert_close(layer.spline_scaler, scaler, rtol=0, atol=0)
    assert layer.grid_size == 20


COLUMNS = {
    "binary": [0.0, 1.0] * 30,
    "constant inside": [0.3] * 60,
    "constant outside": [4.0] * 60,
    "mostly zero": [0.0] * 55 + [0.1, 0.2, 0.3, 0.4, 0.5],
    "integers": [float(v % 4) for v in range(60)],
    "huge": [1e6 * v for v in range(60)],
    "tiny": [1e-6 * v for v in range(60)],
    "shifted": [1e6 + v for v in range(60)],
    "twins": [0.5, 0.5 + 1e-7] * 30,
}


KEPT = ("constant outside", "shifted")  # beyond the grid, and constant to float32's rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid_size", [1, 12])
@pytest.mark.parametrize("kind", COLUMNS)
def test_update_grid_survives_any_column(kind, grid_size, mode, dtype):
    layer = KANLinear(2, 2, grid_size, extrapolation=mode, generator=seeded()).to(dtype)
    x = torch.stack([torch.tensor(COLUMNS[kind]), torch.linspace(-1, 1, 60)], dim=1).to(dtype)
    for _ in range(2):
        error = layer.update_grid(x)
        assert np.isfinite(error)
        assert (layer.grid.diff(dim=1) > 0).all()
        assert layer(x).isfinite().all()
        assert not layer.outside(x)[:, 1].any()
        assert not layer.outside(x)[:, 0].any() or kind in KEPT


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["constant inside", "binary"])
def test_update_grid_keeps_the_function_on_repeated_values(kind, mode):
    layer = rich(1, 2, extrapolation=mode)
    x = torch.tensor(COLUMNS[kind], dtype=torch.float64)[:, None]
    low, high = layer.domain()
    x = low + (high - low) * x
    before = layer(x).detach()
    error = layer.update_grid(x, margin=0.0)
    spread = before.max() - before.min() + 1.0
    assert error <= (1e-10 if kind == "constant inside" else 0.2) * spread
    assert (layer(x) - before).abs().max() == error


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", [2.0, -50.0, 1e6])
def test_a_constant_beyond_the_grid_keeps_the_function_everywhere(place, mode):
    layer = rich(2, 2, extrapolation=mode)
    x = torch.full((20, 2), place, dtype=torch.float64)
    both = torch.cat([x, inside(layer)])
    before = layer(both).detach()
    assert layer.update_grid(x) < 1e-9
    assert_close(layer(both), before, rtol=1e-9, atol=1e-9)


def test_update_grid_carries_straight_lines_to_rows_beyond_the_old_grid():
    layer = KANLinear(1, 1, base_activation="zero").double()
    with torch.no_grad():
        layer.spline_weight.copy_(torch.arange(8.0))  # evenly spaced knots: a straight line
        layer.spline_scaler.fill_(2.0)
    x = 5 * normal(200, 1)
    before = layer(x).detach()
    layer.update_grid(x)
    assert not layer.outside(x).any()
    assert_close(layer(x), before, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_update_grid_with_fewer_rows_than_intervals(rows):
    layer = rich()
    x = inside(layer, rows)
    before = layer(x).detach()
    error = layer.update_grid(x)
    assert np.isfinite(error)
    assert layer(x).isfinite().all()
    if rows:
        assert error == (layer(x) - before).abs().max().item()


def test_update_grid_passes_over_rows_that_are_not_finite():
    layer, clean = rich(), rich()
    x = inside(layer, 60)
    dirty = torch.cat([x, torch.tensor([[torch.nan] * 3, [torch.inf] * 3, [-torch.inf] * 3])])
    assert layer.update_grid(dirty) == clean.update_grid(x)
    assert_close(layer.grid, clean.grid, rtol=0, atol=0)


def test_weights_stay_contiguous_for_optimizers_that_flatten_them() -> None:
    layer = KANLinear(3, 2).double()
    layer.refine(9)
    assert layer.spline_weight.is_contiguous()
    optimizer = torch.optim.LBFGS(layer.parameters(), line_search_fn="strong_wolfe")
    x = torch.rand(20, 3, dtype=torch.float64, generator=seeded(0))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = layer(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize("trainable", [True, False])
def test_move_keeps_whether_weights_are_trained(trainable):
    layer = KANLinear(1, 1)
    layer.spline_weight.requires_grad_(trainable)
    layer.refine(9)
    assert layer.spline_weight.requires_grad == trainable


def test_move_without_a_row_inside_measures_at_the_nearest_ends():
    layer = KANLinear(2, 1, scale_noise=3.0, generator=torch.Generator().manual_seed(1)).double()
    cuts = torch.linspace(-1, 1, 4, dtype=torch.float64).expand(2, -1)
    x = torch.tensor([[9.0, 0.3], [-0.2, -9.0]], dtype=torch.float64)
    near = x.clamp(-1, 1)
    was = layer(near).detach()
    with torch.no_grad():
        error = layer._move(cuts, x)
    assert error == (layer(near) - was).abs().max().item() > 0
