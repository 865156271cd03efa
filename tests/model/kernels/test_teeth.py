"""Deliberately wrong kernels are told from right ones by the comparison the tests use."""

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from kanlens.model.kernels import _autograd as fused_autograd
from kanlens.splines import _local_basis as local_basis
from kanlens.splines._local_basis import LocalBasis
from tests.model.kernels.layers import Case, agrees, make, run

pytestmark = pytest.mark.usefixtures("one_thread")

Change = Callable[[LocalBasis], dict[str, object]]


def forgotten(case: Case) -> Case:
    """The same case in a new layer, of which no basis is remembered."""
    return dataclasses.replace(case, layer=copy.deepcopy(case.layer))


def changed(array: np.ndarray, place: int, factor: float) -> np.ndarray:
    array = array.copy()
    array[place] *= factor
    return array


def piece(basis: LocalBasis, number: int) -> slice:
    size = (basis.degree + 1) ** 2
    return slice(number * size, (number + 1) * size)


def one_power(basis: LocalBasis) -> dict[str, object]:
    place = piece(basis, 3).start + np.flatnonzero(basis.powers[piece(basis, 3)])[-1]
    return {"powers": changed(basis.powers, place, 1 + 1e-7)}


def slope_beyond(basis: LocalBasis) -> dict[str, object]:
    last = piece(basis, basis.pieces - 1)
    place = last.start + np.flatnonzero(basis.powers[last])[-1]
    return {"powers": changed(basis.powers, place, 1 + 1e-6)}


def first_off_by_one(basis: LocalBasis) -> dict[str, object]:
    first = basis.first.copy()
    first[2] += 1
    return {"first": first}


def start_moved(basis: LocalBasis) -> dict[str, object]:
    starts = basis.starts.copy()
    starts[3] += 0.2 * (starts[4] - starts[3])
    return {"starts": starts}


def scale_wrong(basis: LocalBasis) -> dict[str, object]:
    return {"scales": changed(basis.scales, 2, 1 + 1e-9)}


def origin_wrong(basis: LocalBasis) -> dict[str, object]:
    return {"origins": changed(basis.origins, 2, 1 + 1e-9)}


def rows_shared(basis: LocalBasis) -> dict[str, object]:
    return {"stride": 0}


CHANGES = (
    one_power, slope_beyond, first_off_by_one, start_moved, scale_wrong, origin_wrong, rows_shared
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_basis_is_noticed(change: Change, monkeypatch):
    case = make(batch=60, grid_size=4)
    wanted = case.wanted()
    assert agrees(case, "sparse", wanted)

    def wrong(*args: object, **options: object) -> LocalBasis:
        basis = right(*args, **options)
        return dataclasses.replace(basis, **change(basis))

    right = local_basis.local_basis
    monkeypatch.setattr(local_basis, "local_basis", wrong)
    assert not agrees(forgotten(case), "sparse", wanted)


@pytest.mark.slow  # compiles kernels of another order
def test_an_open_right_end_is_noticed_at_order_one(monkeypatch):
    case = make(spline_order=1, grid="even", grid_size=4, n_in=1, extrapolation="zero")
    case.x[:] = case.layer.domain()[1]
    wanted = case.wanted()
    assert agrees(case, "sparse", wanted)
    right = local_basis.local_basis

    def wrong(*args: object, **options: object) -> LocalBasis:
        basis = right(*args, **options)
        starts = basis.starts.copy()
        starts[6] = np.nextafter(starts[6], -9.0)  # the end of the grid itself
        assert starts[6] == case.layer.domain()[1]
        ends = np.append(starts[1:], np.nan)  # one input
        return dataclasses.replace(basis, starts=starts, ends=ends)

    monkeypatch.setattr(local_basis, "local_basis", wrong)
    assert not agrees(forgotten(case), "sparse", wanted)


@pytest.mark.parametrize("place", range(5))  # of x, spline, scale, base weights, bias
def test_a_wrong_gradient_is_noticed(place, monkeypatch):
    case = make()
    right = fused_autograd.backward

    def wrong(*args: object) -> list[Tensor]:
        found = right(*args)
        found[place].view(-1)[-1] += 1e-9 * found[place].abs().max()
        return found

    assert agrees(case, "sparse")
    monkeypatch.setattr(fused_autograd, "backward", wrong)
    assert not agrees(case, "sparse")


def test_a_wrong_output_is_noticed(monkeypatch):
    case, right = make(), fused_autograd.plain_sum

    def wrong(*args: object) -> object:
        return right(*args) * (1 + 1e-11)

    monkeypatch.setattr(fused_autograd, "plain_sum", wrong)
    assert not agrees(case, "sparse")


def test_the_path_that_was_asked_for_runs(monkeypatch):
    called = []
    for name in ("plain_sum", "backward"):
        right = getattr(fused_autograd, name)

        def seen(*args, right=right, name=name):
            called.append(name)
            return right(*args)

        monkeypatch.setattr(fused_autograd, name, seen)
    case = make()
    run(case, "sparse")
    assert called == ["plain_sum", "backward"]
    called.clear()
    run(case, "torch")
    assert called == []
