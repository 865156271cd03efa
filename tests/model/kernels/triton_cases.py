"""Kernels in Triton against the definition: in triton's interpreter, or on a GPU.

`test_triton.py` runs this in a process of its own: triton decides when it is imported whether it
interprets.
"""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kanlens.model import kernels
from kanlens.model.edge_sum import Weights
from kanlens.model.kernels import local_basis, triton_sum, triton_trial
from kanlens.model.layers import KANLinear
from tests.model.kernels import norms
from tests.model.kernels.definition import misfit
from tests.model.kernels.layers import TOLERANCES, Case, cases, make, run
from tests.model.kernels.test_autograd import (  # noqa: F401 (run here once more)
    test_axes_before_the_inputs,
    test_rows_and_gradients_laid_out_anyhow,
    test_weights_laid_out_anyhow,
    test_without_gradients,
)
from tests.model.layers_for_tests import EXACT, MODES, ORDERS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALVES = (torch.float16, torch.bfloat16)
few = settings(max_examples=2, deadline=None)


@pytest.fixture(autouse=True)
def on_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spline layers on the CPU run on kernels in Triton."""

    monkeypatch.setattr(kernels, "INTERPRETED", DEVICE == "cpu")


def there(case: Case) -> Case:
    """The case on the device."""
    return Case(case.layer.to(DEVICE), case.x.to(DEVICE), case.grad.to(DEVICE))


def misfits(case: Case) -> dict[str, float]:
    wanted = case.wanted()
    found = run(there(case), "sparse")
    return {name: misfit(found[name].cpu(), wanted[name]) for name in wanted}


def check(case: Case) -> None:
    found = misfits(case)
    assert max(found.values()) <= TOLERANCES[case.x.dtype], found


def test_it_is_triton_that_runs(monkeypatch):
    seen = []
    right = triton_sum.launch
    monkeypatch.setattr(triton_sum, "launch", lambda *a, **o: [seen.append(a[0]), right(*a, **o)])
    run(there(make(batch=2)), "auto")
    assert len(seen) == 3


@pytest.mark.parametrize("dtype", kernels.FLOATS)
def test_the_trial_of_a_device_succeeds(dtype):
    assert triton_trial.can_run.__wrapped__(torch.device(DEVICE), dtype)


@pytest.mark.parametrize(
    ("of", "name"),
    [(triton_sum, "over_rows"), (triton_sum, "gradient_x"), (Weights, "packed")],
)
def test_the_trial_fails_where_a_kernel_is_wrong(of, name, monkeypatch):
    right = getattr(of, name)

    def wrong(*given, **options):
        found = right(*given, **options)
        first = found[0] if isinstance(found, tuple) else found
        first *= 1.05
        return found

    monkeypatch.setattr(of, name, wrong)
    assert not triton_trial.can_run.__wrapped__(torch.device(DEVICE), torch.float32)


# --- drawn layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@few
@given(data=st.data())
def test_float64(order, data):
    check(data.draw(cases(order, torch.float64)))


@pytest.mark.parametrize("order", [1, 3])
@few
@given(data=st.data())
def test_float32(order, data):
    check(data.draw(cases(order, torch.float32)))


@pytest.mark.parametrize("order", [2, 3])
@few
@given(data=st.data())
def test_norms_of_edges(order, data):
    case = data.draw(cases(order, torch.float64).filter(lambda case: len(case.x)))
    with torch.no_grad():
        case.layer.mask.abs_()
    grad = case.grad.new_ones(case.layer.mask.shape) * 0.7
    check_norms(case.layer, case.x, grad)


def check_norms(layer: KANLinear, x: Tensor, grad: Tensor) -> None:
    wanted = norms.norms_by_definition(layer, x, grad)
    found = norms.run_norms(layer.to(DEVICE), x.to(DEVICE), grad.to(DEVICE))
    for name, each in wanted.items():
        assert each.misfit(found[name].cpu()) <= norms.TOLERANCES[x.dtype], name


@pytest.mark.parametrize(("dtype", "mode"), list(zip(TOLERANCES, MODES, strict=True)))
def test_norms_of_many_rows(dtype, mode):
    layer = norms.rough(2, 5, dtype=dtype, extrapolation=mode)
    check_norms(layer, norms.uniform(70, 2, dtype=dtype), torch.randn(5, 2).to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_added_up_in_float32(dtype):
    case = make(n_in=4, dtype=dtype, grid="even")
    wanted, found = case.wanted(), run(there(case), "sparse")
    for name, each in found.items():
        assert each.dtype == dtype
        assert misfit(each.cpu(), wanted[name]) <= torch.finfo(dtype).eps


# --- shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "n_in", "n_out"), [(0, 3, 5), (1, 1, 1), (65, 1, 33), (3, 7, 35)]
)
def test_few_rows_and_odd_widths(batch, n_in, n_out):
    check(make(batch=batch, n_in=n_in, n_out=n_out, grid="even"))


@pytest.mark.parametrize("grid", ["even", "clustered"])
def test_two_hundred_intervals(grid):
    check(make(grid=grid, grid_size=200, n_in=2, n_out=17, batch=40))


# --- special rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(("mode", "base"), [("linear", "zero"), ("zero", "silu")])
def test_nan_and_infinity_spoil_their_rows_and_no_other(bad, mode, base):
    case = there(make(batch=40, extrapolation=mode, base_activation=base))
    clean, x = run(case, "sparse"), case.x.clone()
    x[3, 1] = bad
    spoiled = dataclasses.replace(case, x=x)
    found, expected = run(spoiled, "sparse"), run(spoiled, "torch")
    rows = torch.arange(40, device=DEVICE) != 3
    for name in ("y", "x"):
        assert_close(found[name][rows], clean[name][rows], rtol=0, atol=0)
    for name in ("spline_weight", "spline_scaler", "base_weight"):
        assert_close(found[name][:, [0, 2]], clean[name][:, [0, 2]], rtol=0, atol=0)
    if bad != bad:
        assert found["y"][3].isnan().all() and found["x"][3, 1].isnan()
        assert found["spline_weight"][:, 1].isnan().all()
    else:
        same = found["y"][3].isclose(expected["y"][3])
        assert (same | ~found["y"][3].isfinite()).all()


# --- gradients of gradients, autocast -------------------------------------------------------------


@pytest.mark.parametrize("norms", [False, True])
def test_gradients_have_gradients(norms):
    case = there(make(batch=9))
    parameters = [each for name, each in case.layer.named_parameters() if name != "bias"]

    def second(path: str) -> tuple[Tensor, ...]:
        x = case.x.clone().requires_grad_()
        with kernels.use(path):
            y = case.layer.activation_l1(x) if norms else case.layer(x)
            first = torch.autograd.grad(y.square().sum(), [x, *parameters], create_graph=True)
            return torch.autograd.grad(sum(each.square().sum() for each in first), parameters)

    for found, wanted in zip(second("sparse"), second("torch"), strict=True):
        assert_close(found, wanted, **EXACT)


def test_under_autocast_sums_are_in_half_precision_and_gradients_are_not():
    case = there(make(dtype=torch.float32))
    layer = case.layer
    given = kernels.local_basis_of(layer, case.x, layer.grid, layer.weights())
    x = case.x.clone().requires_grad_()
    weights, parameters = case.layer.weights(), list(case.layer.parameters())
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        y = triton_sum.TritonSum.apply(given, case.layer.base_name, x, *weights)
        wanted = case.layer.forward_torch(case.x)
    assert y.dtype == wanted.dtype == torch.bfloat16
    exact = run(case, "torch")
    assert_close(y.float(), exact["y"], rtol=0.01, atol=0.01)
    found = torch.autograd.grad(y, [x, *parameters], case.grad.bfloat16())
    assert {each.dtype for each in found} == {torch.float32}
    for each, name in zip(found, list(exact)[1:], strict=True):
        assert_close(each, exact[name], rtol=0.02, atol=0.02 * float(exact[name].abs().max()))


# --- grids that change, and teeth -----------------------------------------------------------------


def test_a_grid_that_was_changed_is_noticed():
    case = make(batch=20)
    for change in ("moved", "updated", "loaded"):
        there(case)
        with torch.no_grad():
            if change == "moved":
                case.layer.grid.mul_(1.1)
            elif change == "updated":
                case.layer.update_grid(case.x.to(DEVICE))
            else:
                case.layer.load_state_dict(make(seed=3, batch=1).layer.state_dict())
        found, wanted = run(there(case), "sparse"), run(there(case), "torch")
        for name, each in found.items():
            assert_close(each, wanted[name], **EXACT)


def test_the_same_numbers_twice():
    case = there(make(batch=70, n_out=17))
    for found, again in zip(*(run(case, "sparse").values() for _ in range(2)), strict=True):
        assert_close(found, again, rtol=0, atol=0)


@pytest.mark.parametrize("column", ["origin", "scale", "power"])
def test_a_wrong_coefficient_is_noticed(column, monkeypatch):
    right = local_basis.LocalBasis.tables.func
    place = {"origin": 1, "scale": 2, "power": 3 + 4 * 1 + 1}[column]

    def wrong(basis: local_basis.LocalBasis) -> local_basis.Tables:
        tables = right(basis)
        tables.pieces[2, place] *= 1 + 1e-7
        return tables

    check(make(batch=60, grid_size=4))
    monkeypatch.setattr(local_basis.LocalBasis, "tables", property(wrong))
    with pytest.raises(AssertionError):
        check(make(batch=60, grid_size=4))
