"""No kernel uses the basis of a grid that has changed, however it was changed."""

import gc
import pickle
from collections.abc import Callable

import pytest
import torch

from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from kanlens.splines import _local_basis as local_basis
from tests.model.kernels.layers import Case, agrees, make

pytestmark = pytest.mark.usefixtures("one_thread")


def loaded(layer: KANLinear) -> None:
    layer.load_state_dict(make(grid="clustered", seed=4).layer.state_dict())


def assigned(layer: KANLinear) -> None:
    layer.load_state_dict(make(grid="clustered", seed=4).layer.state_dict(), assign=True)


def data(layer: KANLinear) -> None:
    layer.grid.data = layer.grid + 0.25


def data_in_place(layer: KANLinear) -> None:
    layer.grid.data.mul_(1.25)


def numpy(layer: KANLinear) -> None:
    layer.grid.numpy()[1, 3:5] += 0.01


def one_knot(layer: KANLinear) -> None:
    layer.grid[2, 4] += 1e-6


def extrapolation(layer: KANLinear) -> None:
    layer.extrapolation = "zero"


CHANGES: tuple[Callable[[KANLinear], object], ...] = (
    loaded,
    assigned,
    data,
    data_in_place,
    numpy,
    one_knot,
    extrapolation,
    lambda layer: layer.grid.copy_(layer.grid.flip(0)),
    lambda layer: layer.update_grid(torch.linspace(-3, 2, 60, dtype=torch.float64).view(20, 3)),
    lambda layer: layer.refine(9),
    lambda layer: setattr(layer, "grid", layer.grid * 2),
)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_grids_are_noticed(change):
    case = make(grid="uneven")
    assert agrees(case, "sparse")
    change(case.layer)
    assert agrees(case, "sparse")


def test_another_dtype_and_back():
    case = make(grid="uneven")
    assert agrees(case, "sparse")
    case.layer.float()
    assert agrees(Case(case.layer, case.x.float(), case.grad.float()), "sparse")
    case.layer.double()
    assert agrees(case, "sparse")


def test_a_layer_that_was_used_keeps_no_more_in_its_files():
    layer = make().layer
    before = len(pickle.dumps(layer)), set(layer.state_dict()), set(vars(layer))
    layer(make().x)
    assert (len(pickle.dumps(layer)), set(layer.state_dict()), set(vars(layer))) == before


def test_an_unchanged_grid_is_worked_out_once(monkeypatch):
    case, calls = make(), []
    right = local_basis.local_basis

    def counted(*args, **options):
        calls.append(1)
        return right(*args, **options)

    monkeypatch.setattr(local_basis, "local_basis", counted)
    for _ in range(3):
        case.layer(case.x)
    assert len(calls) == 1


@pytest.mark.slow  # many layers of every kind
def test_bases_of_layers_that_are_gone_are_forgotten():
    gc.collect()
    before = len(kernels._bases)
    for _ in range(5):
        make().layer(make().x)
    gc.collect()
    assert len(kernels._bases) == before
