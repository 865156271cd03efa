"""Kernels and the torch path against the definition: outputs and all gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kanlens.functions._catalog import BASES
from kanlens.model import kernels
from kanlens.model.kernels import _autograd as fused_autograd
from kanlens.model.kernels import _packing as packing
from tests.model.kernels.definition import misfit
from tests.model.kernels.layers import (
    GRIDS,
    KINDS,
    MASKS,
    ORDERS,
    OUTPUTS,
    TOLERANCES,
    Case,
    agrees,
    cases,
    make,
    misfits,
)
from tests.model.layers_for_tests import MODES

pytestmark = pytest.mark.usefixtures("one_thread")


def check(case: Case, *paths: str) -> None:
    wanted = case.wanted()
    for path in ("sparse", *paths):
        found = misfits(case, path, wanted)
        assert max(found.values()) <= TOLERANCES[case.x.dtype], (path, found)


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize(("order", "dtype"), KINDS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_drawn_layers(order, dtype, data):
    check(data.draw(cases(order, dtype)), *["torch"] * (dtype == torch.float64))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("standalone", [True, False])
def test_every_kind_of_grid(mode, grid, standalone):
    check(make(grid=grid, extrapolation=mode, enable_standalone_scale_spline=standalone), "torch")


@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize("mask", MASKS)
def test_every_base_and_mask(base, mask):
    check(make(base_activation=base, mask=mask), "torch")


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("n_out", OUTPUTS)
def test_every_width_of_outputs(n_out, dtype):
    for n_in in (1, 2, 7):
        check(make(n_in=n_in, n_out=n_out, dtype=dtype, batch=9))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("grid", ["even", "clustered"])
def test_many_intervals(grid, dtype):
    for grid_size in (199, 200, 300):
        case = make(grid=grid, grid_size=grid_size, n_in=4, n_out=17, batch=40, dtype=dtype)
        check(case)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_one_interval(order, mode):
    for grid in GRIDS:
        check(make(grid_size=1, spline_order=order, extrapolation=mode, grid=grid))


@pytest.mark.slow  # takes a while
def test_more_rows_than_a_block_holds():
    for batch in (127, 128, 129, 1100, 20_000):
        check(make(batch=batch, n_in=2, n_out=3))


def test_more_inputs_than_a_tile_of_weights_holds():
    check(make(n_in=150, n_out=18, batch=5))


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize(
    ("n_in", "n_out", "batch", "positive"),
    [
        (1500, 5, 8, True),
        (2, 3, 30_000, True),
        (40, 17, 3000, True),
        (40, 17, 3000, False),
        (784, 64, 16, True),
    ],
)
def test_long_sums_in_float32_are_rounded_as_torch_rounds_them(n_in, n_out, batch, positive):
    case = make(n_in=n_in, n_out=n_out, batch=batch, dtype=torch.float32, grid="even")
    if positive:  # so that rounding errors add up
        with torch.no_grad():
            for parameter in case.layer.parameters():
                parameter.abs_()
        case = Case(case.layer, case.x, case.grad.abs())
    wanted = case.wanted()
    torch_path = misfits(case, "torch", wanted)
    for name, off in misfits(case, "sparse", wanted).items():
        assert off <= max(TOLERANCES[torch.float32], torch_path[name]), name


@pytest.mark.slow
def test_the_gradient_of_a_mean_adds_up_over_many_rows():
    case = make(n_in=2, n_out=3, batch=60_000, dtype=torch.float32)
    case = Case(case.layer, case.x, torch.full((60_000, 3), 1 / 180_000))
    assert misfits(case, "sparse")["bias"] <= 2e-7


@pytest.mark.slow
@pytest.mark.parametrize(("order", "dtype"), KINDS)
@pytest.mark.parametrize("grid", ["even", "uneven", "updated"])
@pytest.mark.parametrize("mode", MODES)
def test_many_rows_and_few_outputs_take_polynomials(order, dtype, grid, mode):
    for n_in, n_out in ((1, 1), (3, 9), (4, 20)):
        options = {"spline_order": order, "grid_size": 2, "extrapolation": mode, "dtype": dtype}
        case = make(n_in=n_in, n_out=n_out, batch=700, grid=grid, mask="fractions", **options)
        pieces, vectors = 2 * order + 4, -(-n_out // (64 // dtype.itemsize))  # at most
        assert packing.pays.py_func(700, pieces, vectors, 0)
        assert agrees(case, "sparse")


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("batch", [3, 10])
def test_a_few_rows_of_many_inputs_share_out_the_inputs(dtype, batch):
    for n_in, n_out in ((41, 3), (150, 2)):
        case = make(n_in=n_in, n_out=n_out, batch=batch, mask="fractions", dtype=dtype)
        assert kernel_of(case) == "forward_spans"
        check(case)


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_few_rows_of_small_layers_take_the_pass_of_many(batch, dtype, large, monkeypatch):
    cases = [
        make(n_in=40, n_out=n_out, batch=batch, mask="fractions", dtype=dtype) for n_out in (3, 64)
    ]
    few = "forward_single" if batch < 3 else "forward_spans"
    assert [kernel_of(case) for case in cases] == [few, few]
    monkeypatch.setattr(fused_autograd, "LARGE", large)
    assert [kernel_of(case) for case in cases] == ["forward", few]
    check(cases[0])


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize(("n_out", "batch"), [(257, 1), (530, 3), (257, 20), (530, 70)])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_wide_layers_are_taken_by_blocks_of_outputs(n_out, batch, dtype):
    n_in = 40 if batch < 70 else 9  # the pass of many rows is the same for any number of inputs
    case = make(n_in=n_in, n_out=n_out, batch=batch, mask="fractions", dtype=dtype)
    assert (kernel_of(case) == "forward_spans") == (batch in (3, 20))
    wanted, torch_path = case.wanted(), misfits(case, "torch")
    for name, off in misfits(case, "sparse", wanted).items():
        assert off <= max(TOLERANCES[dtype], torch_path[name]), name


@pytest.mark.slow  # compiles kernels of another order
@pytest.mark.parametrize("mode", MODES)
def test_more_functions_in_a_piece_than_a_cubic_has(mode):
    for grid in GRIDS:
        case = make(n_in=41, n_out=9, batch=2, grid=grid, spline_order=5, extrapolation=mode)
        assert kernel_of(case) == "forward_single"
        wanted = case.wanted()["y"]
        with kernels.use("sparse"), torch.no_grad():
            assert misfit(case.layer(case.x), wanted) <= TOLERANCES[torch.float64]


@pytest.mark.parametrize("n_in", [33, 64, 100, 290])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_few_rows_share_out_the_inputs(n_in, dtype, many_threads):
    case = make(n_in=n_in, n_out=10, batch=33, grid="uneven", mask="fractions", dtype=dtype)
    assert kernel_of(case) == "forward_spans"
    assert agrees(case, "sparse")


def kernel_of(case: Case) -> str:
    """The name of the forward pass that a case takes."""
    seen = []
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), kernels.use("sparse"):
        patch.setattr(fused_autograd, "run", lambda kernel, *_: seen.append(kernel.__name__))
        case.layer(case.x)
    return seen[0]
