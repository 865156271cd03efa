"""No kernel writes outside its arrays, nor uses what lies there."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from kanlens.model._spline_forward import Weights
from kanlens.model.kernels import _autograd as fused_autograd
from tests.model.kernels.layers import TOLERANCES, agrees, make, run

pytestmark = pytest.mark.usefixtures("one_thread")
Groups: TypeAlias = Sequence[Sequence[Tensor | None]]
ROOM = 96  # numbers on either side of an array


class Guards:
    """Puts every tensor a pass is given between two walls of NaN."""

    def __init__(self, run: Callable[..., object]) -> None:
        self.run, self.calls = run, 0

    def __call__(
        self, kernel: object, weights: Weights, basis: object, tensors: Groups, *rest: object
    ) -> None:
        self.calls += 1
        placed = [self.place(group) for group in (weights, *tensors)]
        self.run(kernel, Weights(*placed[0]), basis, placed[1:], *rest)
        for group, mine in zip((weights, *tensors), placed, strict=True):
            for tensor, inside in zip(group, mine, strict=True):
                if tensor is not None:
                    room = inside._base
                    assert room[:ROOM].isnan().all(), "a kernel wrote before its array"
                    assert room[-ROOM:].isnan().all(), "a kernel wrote behind its array"
                    tensor.detach().copy_(inside)

    def place(self, group: Sequence[Tensor | None]) -> list[Tensor | None]:
        return [each if each is None else self.room(each) for each in group]

    def room(self, tensor: Tensor) -> Tensor:
        room = torch.full((tensor.numel() + 2 * ROOM,), torch.nan, dtype=tensor.dtype)
        room[ROOM:-ROOM] = tensor.detach().flatten()
        return room[ROOM:-ROOM].view(tensor.shape)


def guard(monkeypatch: pytest.MonkeyPatch) -> Guards:
    """Guard every pass of a layer."""
    guards = Guards(fused_autograd.run)
    monkeypatch.setattr(fused_autograd, "run", guards)
    return guards


SHAPES = [
    (n_in, n_out) for n_in in (1, 2, 5) for n_out in (1, 3, 4, 7, 8, 15, 16, 17, 33)
] + [(40, 9), (90, 2)]  # fmt: skip


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize(
    ("order", "dtype"), [(1, torch.float64), (3, torch.float64), (3, torch.float32)]
)
def test_walls_around_arrays_stay_whole(dtype, order, monkeypatch):
    cases = []
    for n, (n_in, n_out) in enumerate(SHAPES):
        cases.append(
            make(
                n_in=n_in,
                n_out=n_out,
                batch=(1, 2, 9, 130, 0)[n % 5],
                grid=("even", "clustered")[n % 2],
                grid_size=(1, 5, 8)[n % 3],
                extrapolation=("zero", "linear")[n % 2],
                enable_standalone_scale_spline=n % 5 > 0,
                spline_order=order,
                dtype=dtype,
                seed=n,
            )
        )
    guards = guard(monkeypatch)
    for case in cases:
        assert agrees(case, "sparse"), case
    assert guards.calls == 2 * len(cases)


@pytest.mark.parametrize("grid", ["even", "clustered"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_nan_and_infinity_are_no_places(grid, dtype, monkeypatch):
    top = torch.finfo(dtype).max
    for mode in ("linear", "zero"):
        case = make(n_in=2, batch=9, grid=grid, dtype=dtype, extrapolation=mode)
        with monkeypatch.context() as patch:
            guard(patch)
            bad = [torch.nan, torch.inf, -torch.inf, top, -top, 1e-40, -0.0]
            case.x[: len(bad), 0] = torch.tensor(bad, dtype=dtype)
            run(case, "sparse")


def test_walls_have_teeth():
    def careless(kernel: object, weights: Weights, basis: object, tensors: Groups, place: int):
        tensors[0][1]._base[ROOM + place] = 0

    given = Weights(*5 * [torch.zeros(3)]), None, [(None, torch.zeros(3))]
    Guards(careless)(None, *given, 2)
    with pytest.raises(AssertionError, match="before"):
        Guards(careless)(None, *given, -1)
    with pytest.raises(AssertionError, match="behind"):
        Guards(careless)(None, *given, 3)
