"""The pieces of a basis against the basis itself."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kanlens.splines import _spline as spline
from kanlens.splines._local_basis import LocalBasis, local_basis
from tests.model.kernels.layers import GRIDS, make
from tests.model.layers_for_tests import MODES, ORDERS


def piece_of(found: LocalBasis, row: int, x: float) -> int:
    starts = found.starts.reshape(-1, found.pieces)[row if found.stride else 0]
    return int(np.searchsorted(starts, x, side="right")) - 1


def powers_of(found: LocalBasis) -> np.ndarray:  # (row * piece, power, function)
    """Return the polynomials without the zeros after them."""
    n = found.degree + 1
    count = len(found.starts) * n * n
    assert not found.powers[count:].any()
    return found.powers[:count].reshape(-1, n, n)


def evaluate(found: LocalBasis, row: int, x: float) -> tuple[Tensor, Tensor]:
    """All functions of one input at a point and their slopes, from the pieces."""
    row = row if found.stride else 0
    c, n = piece_of(found, row, x), found.degree + 1
    at = row * found.stride + c
    scale = found.scales[at]
    u = (x - found.origins[at]) * scale
    powers = powers_of(found)[at].astype(float)  # (power, function)
    size = found.knots.shape[1] - n
    values, slopes = torch.zeros(2, size, dtype=torch.float64)
    for k in range(n):
        polynomial = np.polynomial.Polynomial(powers[:, k])
        values[found.first[c] + k] = polynomial(u)
        slopes[found.first[c] + k] = polynomial.deriv()(u) * scale
    return values, slopes


def places(knots: Tensor) -> Tensor:
    """Points in every interval between knots, at every knot, and beyond both ends."""
    share = torch.tensor([0.0, 0.13, 0.97], dtype=knots.dtype)
    between = knots[:-1, None] + knots.diff()[:, None] * share
    width = knots[-1] - knots[0]
    beyond = torch.stack([knots[0] - 3 * width, knots[0] - 0.01, knots[-1], knots[-1] + width])
    return torch.cat([beyond, between.flatten()])


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_piece_is_the_basis(order, mode, grid):
    for grid_size in (1, 4):
        layer = make(n_in=2, grid=grid, grid_size=grid_size, spline_order=order).layer
        found = local_basis(layer.grid, order, extrapolation=mode)
        for i, knots in enumerate(layer.grid):
            x = places(knots)
            pairs = [evaluate(found, i, float(each)) for each in x]
            for n, given in enumerate(zip(*pairs, strict=True)):
                expected = spline.basis(
                    x[:, None], knots[None], order, derivative=n, extrapolation=mode
                )[:, 0]
                size = max(1.0, float(expected.abs().max()))
                assert_close(torch.stack(given), expected, rtol=1e-11, atol=1e-12 * size)


def test_inputs_with_the_same_knots_share_a_row():
    layer = make(n_in=4, grid="even").layer
    found = local_basis(layer.grid, 3, extrapolation="linear")
    assert found.stride == 0 and len(found.starts) == found.pieces
    layer.grid[2, 5] += 1e-9
    other = local_basis(layer.grid, 3, extrapolation="linear")
    assert other.stride == other.pieces and len(other.starts) == 4 * other.pieces


def test_even_is_told_from_uneven():
    assert local_basis(make(grid="even").layer.grid, 3, extrapolation="zero").sure > 0.49
    clustered = make(grid="clustered", grid_size=12).layer.grid
    assert local_basis(clustered, 3, extrapolation="zero").sure == 0
