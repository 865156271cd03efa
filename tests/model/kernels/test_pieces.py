"""The pieces that kernels find against a search of the knots."""

import numpy as np
import pytest
import torch

from kanlens.model.kernels._compiling import jit
from kanlens.model.kernels._local_support import write_pieces
from kanlens.splines._local_basis import LocalBasis, local_basis
from tests.model.kernels.layers import GRIDS, make, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


@jit
def run(x, n_in, basis, held):
    write_pieces(x, n_in, basis, held, 0, len(x) // n_in)


def found(basis: LocalBasis, x: np.ndarray) -> np.ndarray:
    held = np.full(x.size, -7, np.int32)
    run(x.ravel(), x.shape[1], basis.arrays, held)
    return held.reshape(x.shape)


def expected(basis: LocalBasis, x: np.ndarray) -> np.ndarray:
    starts = basis.starts.reshape(-1, basis.pieces)
    of = [starts[i if basis.stride else 0] for i in range(x.shape[1])]
    places = [np.searchsorted(each, x[:, i], "right") - 1 for i, each in enumerate(of)]
    return np.where(np.isnan(x), 0, np.stack(places, axis=1))


def hard_points(basis: LocalBasis, n_in: int) -> np.ndarray:
    """Rows at every knot and the numbers beside it, between knots, far off and not finite."""
    knots = basis.starts.reshape(-1, basis.pieces)[:, 1:].ravel()
    kind = knots.dtype.type
    beside = [knots, np.nextafter(knots, kind(np.inf)), np.nextafter(knots, kind(-np.inf))]
    others = [-np.inf, np.inf, np.nan, 0.0, -0.0, 1e30, -1e30, 1e-30]
    drawn = np.random.default_rng(0).normal(0, 1, 500)
    rows = np.concatenate([*beside, np.array(others, kind), drawn.astype(kind)])
    shifts = [np.roll(rows, 17 * i) for i in range(n_in)]
    some = slice(None, None, 1 + n_in // 50)  # of many inputs, whose knots are others
    return np.ascontiguousarray(np.stack(shifts, axis=1)[some])


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("n_in", "grid_size"), [(1, 1), (3, 5), (7, 130), (300, 4)])
def test_every_number_is_in_the_piece_that_holds_it(grid, n_in, grid_size, dtype):
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    layer = make(n_in=n_in, grid=grid, grid_size=grid_size, dtype=kind).layer
    for mode in ("linear", "zero"):
        basis = local_basis(layer.grid, 3, extrapolation=mode)
        x = hard_points(basis, n_in)
        np.testing.assert_array_equal(found(basis, x), expected(basis, x))


@pytest.mark.parametrize("away", [1e-7, 1e-3, 0.2, 0.44, 0.46])
def test_knots_nearly_even_are_guessed_only_where_that_is_certain(away):
    layer = make(n_in=2, grid="even", grid_size=9).layer
    step = float(layer.grid[0, 1] - layer.grid[0, 0])
    layer.grid[:, 4:-4] += step * away * torch.sign(torch.randn(8, generator=seeded(1)))
    basis = local_basis(layer.grid, 3, extrapolation="linear")
    assert (basis.sure > 0) == (away < 0.45)
    x = hard_points(basis, 2)
    np.testing.assert_array_equal(found(basis, x), expected(basis, x))


def test_the_comparison_sees_a_guess_that_is_too_sure():
    layer = make(n_in=2, grid="even", grid_size=9).layer
    layer.grid[:, 6] += 0.2 * float(layer.grid[0, 1] - layer.grid[0, 0])
    basis = local_basis(layer.grid, 3, extrapolation="linear")
    x = hard_points(basis, 2)
    np.testing.assert_array_equal(found(basis, x), expected(basis, x))
    object.__setattr__(basis, "sure", 0.5)
    del basis.__dict__["arrays"]
    assert (found(basis, x) != expected(basis, x)).any()
