"""Splines against the recursion, SciPy and NumPy, and the properties every B-spline has."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from kanlens.errors import ShapeError
from kanlens.splines import _spline as spline
from tests.model.layers_for_tests import EXACT, MODES
from tests.model.layers_for_tests import ORDERS as DEGREES


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, int, torch.Generator]:
    """Uneven knots (in, knot) of any degree, 1 to 8 intervals, and a generator."""
    degree = draw(st.integers(1, 5))
    grid_size = draw(st.integers(1, 8))
    n_inputs = draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return uneven(n_inputs, grid_size, degree, generator), degree, generator


def uneven(n_inputs: int, grid_size: int, degree: int, generator: torch.Generator) -> Tensor:
    shape = (n_inputs, grid_size + 2 * degree + 1)
    width = 0.05 + torch.rand(shape, generator=generator, dtype=torch.float64)
    knots = width.cumsum(1)
    return knots - knots[:, degree : degree + 1] - 1.0


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def inside(knots: Tensor, degree: int, count: int, generator: torch.Generator) -> Tensor:
    """Random points of the grid, both ends and every breakpoint among them."""
    low, high = spline.grid_ends(knots, degree)
    share = torch.rand(count, len(knots), generator=generator, dtype=torch.float64)
    return torch.cat([low + (high - low) * share, spline.breakpoints(knots, degree).mT])


def anywhere(knots: Tensor, degree: int, count: int, generator: torch.Generator) -> Tensor:
    """Points from well below the first knot to well above the last, and all knots."""
    low, high = knots[:, 0] - 1.0, knots[:, -1] + 1.0
    share = torch.rand(count, len(knots), generator=generator, dtype=torch.float64)
    return torch.cat([low + (high - low) * share, knots.mT])


def count_basis(knots: Tensor, degree: int) -> int:
    return knots.shape[1] - degree - 1


def refit_error(
    coef: Tensor, old: Tensor, new: Tensor, degree: int, x: Tensor, mode: str = "zero"
) -> float:
    """Largest change of a refitted spline at x, as a share of its largest value there."""
    before = spline.evaluate(x, coef, old, degree, extrapolation=mode)
    fitted = spline.refit(coef, old, new, degree, extrapolation=mode)
    after = spline.evaluate(x, fitted, new, degree, extrapolation=mode)
    return float((after - before).abs().max() / before.abs().max())


class Operations(TorchDispatchMode):
    """Counts the operations that are run, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


# --- values and derivatives ------------------------------------------------------------------


@pytest.mark.parametrize("degree", DEGREES)
def test_a_derivative_that_jumps_takes_the_right_side_but_at_the_right_end(degree):
    generator = torch.Generator().manual_seed(degree)
    knots = uneven(2, 4, degree, generator)
    x = spline.breakpoints(knots, degree).mT
    for mode in MODES:
        found = spline.basis(x, knots, degree, derivative=degree, extrapolation=mode)
        columns = [
            BSpline(row, np.eye(4 + degree), degree)(x[:, i], degree) for i, row in enumerate(knots)
        ]
        expected = torch.from_numpy(np.stack(columns, 1))
        assert_close(found, expected, rtol=1e-12, atol=1e-9)
    nearer = torch.cat([x[:-1] + 1e-9, x[-1:] - 1e-9])
    assert_close(found, spline.basis(nearer, knots, degree, derivative=degree))


@given(problems())
def test_values_and_derivatives_are_scipys(problem):
    knots, degree, generator = problem
    coef = normal(2, len(knots), count_basis(knots, degree), generator=generator)
    low, high = spline.grid_ends(knots, degree)
    share = torch.rand(9, len(knots), generator=generator, dtype=torch.float64)
    x = low + (high - low) * share  # knots are left out: SciPy may take the other side
    for order in range(degree + 1):
        found = spline.evaluate(x, coef, knots, degree, derivative=order)
        for o in range(2):
            for i in range(len(knots)):
                oracle = BSpline(knots[i].numpy(), coef[o, i].numpy(), degree)
                expected = torch.from_numpy(oracle(x[:, i].numpy(), order))
                size = max(1.0, expected.abs().max().item())
                assert_close(found[:, o, i], expected, rtol=1e-12, atol=1e-12 * size * 50**order)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("mode", MODES)
def test_derivatives_beyond_the_degree_are_zero(degree, mode):
    knots = spline.uniform_knots(1, -1.0, 1.0, 3, degree=degree).double()
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    found = spline.basis(x, knots, degree, derivative=degree + 1, extrapolation=mode)
    assert_close(found, torch.zeros(13, 1, 3 + degree, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(degree, mode):
    generator = torch.Generator().manual_seed(degree)
    knots = uneven(2, 3, degree, generator)
    low, high = spline.grid_ends(knots, degree)
    share = torch.tensor([-0.9, -0.31, 0.13, 0.57, 0.83, 1.22, 1.9], dtype=torch.float64)
    x = (low + (high - low) * share[:, None]).requires_grad_()
    assert gradcheck(lambda x: spline.basis(x, knots, degree, extrapolation=mode), x)
    assert gradgradcheck(lambda x: spline.basis(x, knots, degree, extrapolation=mode), x)


@given(problems())
def test_local_sums_are_those_of_the_whole_basis(problem):
    knots, degree, generator = problem
    coef = normal(2, len(knots), count_basis(knots, degree), generator=generator)
    x = inside(knots, degree, 30, generator)
    expected = spline.evaluate(x, coef, knots, degree).sum(2)
    assert_close(spline.local_sums(x, coef, knots, degree), expected, **EXACT)
    x[0, 0] = torch.nan
    sums = spline.local_sums(x, coef, knots, degree)
    assert sums[0].isnan().all()
    assert sums[1:].isfinite().all()


@pytest.mark.parametrize("degree", DEGREES)
def test_local_sums_have_derivatives_of_any_order(degree):
    generator = torch.Generator().manual_seed(degree)
    knots = uneven(2, 3, degree, generator)
    low, high = spline.grid_ends(knots, degree)
    x = (low + (high - low) * torch.tensor([[0.13], [0.57]]).double()).requires_grad_()
    coef = normal(1, 2, count_basis(knots, degree), generator=generator).requires_grad_()
    assert gradcheck(lambda *at: spline.local_sums(*at, knots, degree), (x, coef))
    assert gradgradcheck(lambda *at: spline.local_sums(*at, knots, degree), (x, coef))


# --- properties ------------------------------------------------------------------------------


@given(problems())
def test_basis_is_nonnegative_and_sums_to_one_inside(problem):
    knots, degree, generator = problem
    values = spline.basis(inside(knots, degree, 30, generator), knots, degree)
    assert values.min() >= -1e-15
    assert_close(values.sum(-1), torch.ones_like(values[..., 0]), **EXACT)


@given(problems())
def test_each_function_lives_on_its_own_knots_alone(problem):
    knots, degree, generator = problem
    x = anywhere(knots, degree, 30, generator)
    values = spline.basis(x, knots, degree)
    for k in range(values.shape[-1]):
        left, right = knots[:, k], knots[:, k + degree + 1]
        away, within = (x < left) | (x > right), (x > left) & (x < right)
        assert not values[..., k][away].any()
        assert (values[..., k][within] > 0).all()


@given(problems())
def test_polynomials_up_to_the_degree_are_reproduced(problem):
    """Marsden's identity: (x - y)^k is the spline with coefficients prod_j (t_(i+j) - y)."""
    knots, degree, generator = problem
    x = inside(knots, degree, 30, generator)
    y = normal(4, 1, generator=generator)
    windows = knots[:, 1:-1].unfold(1, degree, 1)  # (in, basis, degree)
    coef = (windows - y[..., None, None]).prod(-1)
    found = spline.evaluate(x, coef, knots, degree)
    expected = (x[:, None] - y) ** degree
    size = expected.abs().max().item() + coef.abs().max().item()
    assert_close(found, expected, rtol=0, atol=1e-13 * size)


# --- the edge of the grid, odd points, shapes and dtypes -------------------------------------


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_last_float_before_at_and_after_the_right_end(degree, dtype):
    knots = uneven(1, 3, degree, torch.Generator().manual_seed(9)).to(dtype)
    high = spline.grid_ends(knots, degree)[1]
    up, down = (torch.nextafter(high, high.new_tensor([s])) for s in (torch.inf, -torch.inf))
    x = torch.stack([down, high, up])
    tight = 2e-6 if dtype == torch.float32 else 1e-13
    for mode in MODES:
        values = spline.basis(x, knots, degree, extrapolation=mode)
        assert_close(values.sum(-1), torch.ones_like(x), rtol=0, atol=100 * tight)
        assert_close(values[0], values[1], rtol=0, atol=100 * tight)
        assert_close(values[2], values[1], rtol=0, atol=100 * tight)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("degree", DEGREES)
def test_nan_gives_nan_in_every_derivative_and_only_in_its_row(mode, degree):
    knots = spline.uniform_knots(2, -1.0, 1.0, 3, degree=degree)
    x = torch.tensor([[torch.nan, 0.1], [0.2, 0.3]])
    for order in range(degree + 2):
        values = spline.basis(x, knots, degree, derivative=order, extrapolation=mode)
        assert values[0, 0].isnan().all()
        assert values[0, 1].isfinite().all()
        assert values[1].isfinite().all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(2,), (0, 2), (4, 2), (3, 4, 2), (1, 0, 2), (2, 1, 3, 2)])
def test_any_leading_shape(mode, shape):
    knots = uneven(2, 3, 3, torch.Generator().manual_seed(0))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = spline.basis(x, knots, 3, extrapolation=mode)
    assert values.shape == (*shape, 6)
    flat = spline.basis(x.reshape(-1, 2), knots, 3, extrapolation=mode)
    assert_close(values.reshape(-1, 2, 6), flat, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(4, 3), (2,), ()])
def test_columns_must_match_the_knots(shape):
    text = (
        f"basis: expected x of shape (..., 1), got {shape}. Give one row of knots per column of x."
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
        spline.basis(torch.zeros(shape), spline.uniform_knots(1, 0.0, 1.0, 2, degree=1), 1)


def test_uniform_knots_follow_torchs_default_dtype():
    knots = spline.uniform_knots(2, -1.0, 1.0, 4, degree=2)
    assert_close(knots, torch.linspace(-2, 2, 9).expand(2, 9))
    torch.set_default_dtype(torch.float64)
    try:
        knots = spline.uniform_knots(1, -1.0, 1.0, 5, degree=3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(knots, torch.linspace(-2.2, 2.2, 12, dtype=torch.float64)[None], **EXACT)
    assert knots[0, 3] == -1.0
    assert knots[0, -4] == 1.0


def test_extend_keeps_the_cuts_and_steps_by_their_mean():
    cuts = torch.tensor([[0.0, 1.0, 4.0]])
    assert_close(spline.extend(cuts, 2), torch.tensor([[-4.0, -2.0, 0.0, 1.0, 4.0, 6.0, 8.0]]))
    knots = spline.extend(cuts, 2)
    assert_close(spline.breakpoints(knots, 2), cuts)
    assert_close(spline.grid_ends(knots, 2), (torch.tensor([0.0]), torch.tensor([4.0])))


# --- derivative as a spline --------------------------------------------------------------------


@given(problems())
def test_differentiate_is_the_derivative_inside(problem):
    knots, degree, generator = problem
    coef = normal(2, len(knots), count_basis(knots, degree), generator=generator)
    x = inside(knots, degree, 9, generator)[:9]
    found_coef, found_knots = spline.differentiate(coef, knots, degree)
    expected = spline.evaluate(x, coef, knots, degree, derivative=1)
    if degree == 1:
        values = spline.basis(x, found_knots, 0)
        found = torch.einsum("bik,oik->boi", values, found_coef)
    else:
        found = spline.evaluate(x, found_coef, found_knots, degree - 1)
    size = max(1.0, expected.abs().max().item())
    assert_close(found, expected, rtol=1e-12, atol=1e-12 * size)


# --- least squares ---------------------------------------------------------------------------


@pytest.mark.parametrize("degree", DEGREES)
def test_fit_is_the_least_squares_solution(degree):
    generator = torch.Generator().manual_seed(degree)
    knots = uneven(2, 4, degree, generator)
    x = inside(knots, degree, 80, generator)
    y = normal(len(x), 3, 2, generator=generator)
    coef = spline.fit(x, y, knots, degree, ridge=1e-18)
    for i in range(2):
        design = BSpline(knots[i], np.eye(4 + degree), degree)(x[:, i])
        expected = np.linalg.lstsq(design, y[:, :, i].numpy(), rcond=None)[0].T
        assert_close(coef[:, i], torch.from_numpy(expected), rtol=1e-8, atol=1e-8)


def test_ridge_is_relative_to_the_largest_squared_column():
    generator = torch.Generator().manual_seed(1)
    knots = uneven(1, 3, 3, generator)
    x, y = inside(knots, 3, 20, generator), None
    y = normal(len(x), 2, 1, generator=generator)
    coef = spline.fit(x, y, knots, 3, ridge=0.1)
    design = spline.basis(x, knots, 3)[:, 0]
    ridge = 0.1 * design.square().sum(0).max() * torch.eye(6, dtype=torch.float64)
    expected = torch.linalg.solve(design.T @ design + ridge, design.T @ y[:, :, 0]).T
    assert_close(coef[:, 0], expected, rtol=1e-10, atol=1e-10)


def test_weights_multiply_the_residuals():
    generator = torch.Generator().manual_seed(1)
    knots = uneven(1, 3, 3, generator)
    x = inside(knots, 3, 40, generator)
    y = normal(len(x), 2, 1, generator=generator)
    weights = torch.ones_like(x)
    weights[10:] = 0.0
    found = spline.fit(x, y, knots, 3, weights=weights, ridge=1e-6)
    largest = spline.basis(x[:10], knots, 3).square().sum(0).amax()
    assert largest > 0
    assert_close(found, spline.fit(x[:10], y[:10], knots, 3, ridge=1e-6))


def test_one_factorisation_per_input_serves_all_outputs():
    generator = torch.Generator().manual_seed(1)
    knots = uneven(3, 4, 3, generator)
    x = inside(knots, 3, 30, generator)
    y = normal(len(x), 50, 3, generator=generator)
    with Operations() as operations:
        together = spline.fit(x, y, knots, 3)
    solvers = ("linalg_", "cholesky", "lstsq", "svd", "inverse")
    costly = [name for name in operations.names if any(word in name for word in solvers)]
    assert costly == ["linalg_qr", "linalg_solve_triangular"]
    alone = spline.fit(x, y[:, 7:8], knots, 3)
    assert_close(together[7:8], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize(
    "points",
    [[], [0.3], [0.3] * 50, [0.0, 1.0] * 20, [0.5, 0.5 + 1e-15], [50.0] * 5, [-1.0, 7.0]],
    ids=["none", "one", "one repeated", "two values", "two twins", "far outside", "beyond"],
)
@pytest.mark.parametrize("mode", MODES)
def test_fit_is_finite_whatever_the_samples(degree, points, mode):
    knots = spline.uniform_knots(1, 0.0, 1.0, 4, degree=degree).double()
    x = torch.tensor(points, dtype=torch.float64)[:, None]
    y = torch.cos(x)[:, None].expand(-1, 2, -1)
    coef = spline.fit(x, y, knots, degree, extrapolation=mode)
    assert coef.shape == (2, 1, 4 + degree)
    assert coef.isfinite().all()
    assert coef.abs().max() < 100
    within = (x >= 0).all() and (x <= 1).all()
    if points and within:
        reached = spline.evaluate(x, coef, knots, degree, extrapolation=mode)
        assert_close(reached, y.contiguous(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("degree", DEGREES)
def test_fit_knows_what_splines_do_outside_the_grid(degree):
    knots = uneven(1, 4, degree, torch.Generator().manual_seed(degree))
    low, high = spline.grid_ends(knots, degree)
    x = low + (high - low) * torch.linspace(-1, 2, 301, dtype=torch.float64)[:, None]
    coef = spline.fit(x, 3 * x[:, None] - 1, knots, degree, extrapolation="linear")
    found = spline.evaluate(x, coef, knots, degree, extrapolation="linear")[:, 0]
    assert_close(found, 3 * x - 1, rtol=1e-3, atol=1e-3)
    wrong = spline.fit(x, 3 * x[:, None] - 1, knots, degree, extrapolation="zero")
    found = spline.evaluate(x, wrong, knots, degree, extrapolation="linear")[:, 0]
    assert (found - (3 * x - 1)).abs().max() > 0.1


# --- refit -----------------------------------------------------------------------------------


@given(problems(), st.sampled_from(MODES), st.integers(0, 6))
@settings(max_examples=30)
def test_refit_to_a_grid_that_holds_the_old_keeps_the_function(problem, mode, more):
    knots, degree, generator = problem
    coef = normal(3, len(knots), count_basis(knots, degree), generator=generator)
    cuts = spline.breakpoints(knots, degree)
    share = torch.rand(len(knots), more, generator=generator, dtype=torch.float64)
    extra = cuts[:, :1] + (cuts[:, -1:] - cuts[:, :1]) * (0.01 + 0.98 * share)
    new = spline.extend(torch.cat([cuts, extra], dim=1).sort(dim=1).values, degree)
    if not (new.diff(dim=1) > 1e-3).all():
        return
    x = inside(knots, degree, 40, generator)
    assert refit_error(coef, knots, new, degree, x, mode) < 1e-7
    if mode == "linear":
        beyond = anywhere(knots, degree, 40, generator)
        assert refit_error(coef, knots, new, degree, beyond, mode) < 1e-6


def test_refit_is_the_least_squares_fit_with_every_interval_alike():
    """The definition: degree + 2 Chebyshev points between neighbouring breakpoints of either."""
    old = spline.uniform_knots(1, -1.0, 1.0, 9, degree=3).double()
    new = spline.uniform_knots(1, -0.5, 0.3, 2, degree=3).double()
    coef = normal(2, 1, 12, generator=torch.Generator().manual_seed(4))
    both = torch.cat([spline.breakpoints(old, 3)[0], spline.breakpoints(new, 3)[0]])
    cuts = np.unique(both[(both >= -0.5) & (both <= new[0, -4])].numpy())
    roots = np.cos(np.pi * (np.arange(5) + 0.5) / 5)
    middle, half = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts) / 2
    x = torch.from_numpy((middle[:, None] + half[:, None] * roots).reshape(-1, 1))
    target = spline.evaluate(x, coef, old, 3)[:, :, 0].numpy()
    design = spline.basis(x, new, 3)[:, 0].numpy()
    expected = np.linalg.lstsq(design, target, rcond=None)[0].T
    found = spline.refit(coef, old, new, 3)[:, 0]
    assert_close(found, torch.from_numpy(expected), rtol=1e-8, atol=1e-8)


def test_refit_error_has_teeth():
    knots = spline.uniform_knots(1, -1.0, 1.0, 2, degree=3).double()
    new = spline.uniform_knots(1, -1.0, 1.0, 3, degree=3).double()
    coef = normal(1, 1, 5, generator=torch.Generator().manual_seed(0))
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    assert refit_error(coef, knots, new, 3, x) > 1e-3
