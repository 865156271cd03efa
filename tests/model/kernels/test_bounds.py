"""No kernel writes outside its arrays, nor uses what lies there."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numba.core.dispatcher import Dispatcher

from kanlens.model.kernels import packing, sparse_loops
from tests.model.kernels.layers import KERNELS, TOLERANCES, agrees, make, run

pytestmark = pytest.mark.usefixtures("one_thread")
ROOM = 96  # numbers on either side of an array
MODULES = (sparse_loops, packing)


class Guards:
    """Puts every array a kernel is given between two walls of NaN."""

    def __init__(self, kernel: Callable[..., object]) -> None:
        self.kernel = kernel
        self.placed: list[tuple[np.ndarray, np.ndarray, bytes]] = []

    def __call__(self, *args: object) -> object:
        result = self.kernel(*[self.place(each) for each in args])
        for array, room, wall in self.placed:
            assert room[:ROOM].tobytes() == wall, "a kernel wrote before its array"
            assert room[-ROOM:].tobytes() == wall, "a kernel wrote behind its array"
            if array.size and array.flags.writeable:
                array[:] = room[ROOM:-ROOM]
        self.placed = []
        return result

    def place(self, given: object) -> object:
        if isinstance(given, tuple):
            return tuple(self.place(each) for each in given)
        if not isinstance(given, np.ndarray):
            return given
        room = np.full(
            len(given) + 2 * ROOM, -7 if given.dtype.kind == "i" else np.nan, given.dtype
        )
        wall = room[:ROOM].tobytes()
        room[ROOM:-ROOM] = given
        self.placed.append((given, room, wall))
        return room[ROOM:-ROOM]


def guard(monkeypatch: pytest.MonkeyPatch) -> int:
    """Guard every kernel of every module; return how many there are."""
    found = [
        (module, name, each)
        for module in MODULES
        for name, each in vars(module).items()
        if isinstance(each, Dispatcher)
    ]
    for module, name, kernel in found:
        monkeypatch.setattr(module, name, Guards(kernel))
    return len(found)


SHAPES = [
    (n_in, n_out) for n_in in (1, 2, 5) for n_out in (1, 3, 4, 7, 8, 15, 16, 17, 33)
] + [(40, 9), (90, 2)]  # fmt: skip


@pytest.mark.parametrize("path", KERNELS)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("order", [1, 3])
def test_walls_around_arrays_stay_whole(path, dtype, order, monkeypatch):
    cases = []
    for n, (n_in, n_out) in enumerate(SHAPES):
        cases.append(
            make(
                n_in=n_in,
                n_out=n_out,
                batch=(1, 2, 9, 130)[n % 4],
                grid=("even", "clustered")[n % 2],
                grid_size=(1, 5, 8)[n % 3],
                extrapolation=("zero", "linear")[n % 2],
                enable_standalone_scale_spline=n % 5 > 0,
                spline_order=order,
                dtype=dtype,
                seed=n,
            )
        )
    for case in cases:  # compile before kernels are hidden from each other
        run(case, path)
    assert guard(monkeypatch) >= 6
    for case in cases:
        assert agrees(case, path), case


@pytest.mark.parametrize("path", KERNELS)
@pytest.mark.parametrize("grid", ["even", "clustered"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_nan_and_infinity_are_no_places(path, grid, dtype, monkeypatch):
    top = torch.finfo(dtype).max
    for mode in ("linear", "zero"):
        case = make(n_in=2, batch=9, grid=grid, dtype=dtype, extrapolation=mode)
        run(case, path)
        with monkeypatch.context() as patch:
            guard(patch)
            bad = [torch.nan, torch.inf, -torch.inf, top, -top, 1e-40, -0.0]
            case.x[: len(bad), 0] = torch.tensor(bad, dtype=dtype)
            run(case, path)


def test_walls_have_teeth():
    def careless(array: np.ndarray, by: int) -> None:
        whole = array.base
        whole[ROOM - 1 + by] = 0

    Guards(careless)(np.zeros(3), 1)
    with pytest.raises(AssertionError, match="before"):
        Guards(careless)(np.zeros(3), 0)
    with pytest.raises(AssertionError, match="behind"):
        Guards(careless)(np.zeros(3), 4)
