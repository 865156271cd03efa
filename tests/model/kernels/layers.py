"""Drawn layers, rows and gradients, and what a layer gives for them."""

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from kanlens.functions._catalog import BASES
from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from tests.model.kernels.definition import Wanted, layer_and_gradients, misfit
from tests.model.layers_for_tests import seeded


def of_order(order: int, *others: object) -> object:
    """Return parameters of a test; it is slow where kernels of other orders than 3 are compiled."""
    return pytest.param(order, *others, marks=[pytest.mark.slow] * (order != 3))


# Kernels know an order by the number of functions that are not zero in a piece, 2 and 4 here: 6 are
# in `test_more_functions_in_a_piece_than_a_cubic_has`. Others take no other code.
ORDERS = [of_order(order) for order in (1, 3)]
KINDS = [*(of_order(order, torch.float64) for order in (1, 3)), of_order(3, torch.float32)]
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-6}
BATCHES = (0, 1, 2, 3, 16, 33, 70)
OUTPUTS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 40)
GRIDS = ("even", "shifted", "uneven", "clustered", "updated")
MASKS = ("ones", "zeros", "some", "fractions")


@dataclass(frozen=True)
class Case:
    """A layer, rows for it and a gradient of its output."""

    layer: KANLinear
    x: Tensor = field(repr=False)
    grad: Tensor = field(repr=False)

    def wanted(self) -> dict[str, Wanted]:
        return layer_and_gradients(self.layer, self.x, self.grad)


def numbers(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def uniform(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def set_grid(layer: KANLinear, kind: str, generator: torch.Generator) -> None:
    """Give a layer knots of some kind, each input its own."""
    shape, k = layer.grid.shape, layer.spline_order
    if kind == "even":
        return
    if kind == "updated":
        x = numbers(50, layer.in_features, generator=generator) ** 3
        layer.update_grid(x.to(layer.grid.dtype))
        return
    width = torch.ones(shape, dtype=torch.float64)
    if kind == "uneven":
        width = 0.1 + uniform(*shape, generator=generator)
    if kind == "clustered":  # neighbours up to a hundred times as wide
        width = 10.0 ** (-2 * uniform(*shape, generator=generator))
    knots = width.cumsum(1) * (0.5 + uniform(shape[0], 1, generator=generator))
    knots -= knots[:, k : k + 1] - numbers(shape[0], 1, generator=generator)
    with torch.no_grad():
        layer.grid.copy_(knots)


def set_mask(layer: KANLinear, kind: str, generator: torch.Generator) -> None:
    shape = layer.mask.shape
    share = uniform(*shape, generator=generator)
    masks = {
        "ones": torch.ones(shape),
        "zeros": torch.zeros(shape),
        "some": (share < 0.6).double(),
        "fractions": share * (share < 0.7),
    }
    layer.mask.copy_(masks[kind])


def points(layer: KANLinear, batch: int, generator: torch.Generator) -> Tensor:
    """Rows inside, outside and far outside the grid, at knots, at its ends and at zeros."""
    low, high = (end.double() for end in layer.domain())
    shape = batch, layer.in_features
    x = low + (high - low) * (2 * uniform(*shape, generator=generator) - 0.5)
    kind = torch.randint(0, 10, shape, generator=generator)
    knot = torch.randint(0, layer.grid.shape[1], shape, generator=generator)
    at_knots = layer.grid.double().mT.gather(0, knot) if batch else x
    x = torch.where(kind == 0, at_knots, x)
    x = torch.where(kind == 1, low, x)
    x = torch.where(kind == 2, high, x)
    x = torch.where(kind == 3, 5 * numbers(*shape, generator=generator), x)
    zeros = torch.tensor([0.0, -0.0, 1e-310, -1e-42], dtype=torch.float64)
    pick = torch.randint(0, len(zeros), shape, generator=generator)
    return torch.where(kind == 4, zeros[pick], x).to(layer.grid.dtype)


def make(
    *,
    n_in: int = 3,
    n_out: int = 5,
    batch: int = 33,
    grid: str = "uneven",
    mask: str = "ones",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **options: object,
) -> Case:
    """Make a case in which every weight is far from its initial value."""
    generator = seeded(seed)
    layer = KANLinear(n_in, n_out, generator=generator, **options).to(dtype)
    with torch.no_grad():
        set_grid(layer, grid, generator)
        for parameter in layer.parameters():
            parameter.copy_(numbers(*parameter.shape, generator=generator))
        set_mask(layer, mask, generator)
    grad = numbers(batch, n_out, generator=generator).to(dtype)
    return Case(layer, points(layer, batch, generator), grad)


@st.composite
def cases(draw: st.DrawFn, order: int, dtype: torch.dtype) -> Case:
    """Draw a layer of some order with rows and a gradient for it."""
    return make(
        n_in=draw(st.integers(1, 9)),
        n_out=draw(st.sampled_from(OUTPUTS)),
        batch=draw(st.sampled_from(BATCHES)),
        grid=draw(st.sampled_from(GRIDS)),
        mask=draw(st.sampled_from(MASKS)),
        dtype=dtype,
        seed=draw(st.integers(0, 2**31)),
        grid_size=draw(st.integers(1, 12)),
        spline_order=order,
        extrapolation=draw(st.sampled_from(("linear", "zero"))),
        base_activation=draw(st.sampled_from(sorted(BASES))),
        enable_standalone_scale_spline=draw(st.booleans()),
    )


def run(case: Case, path: str) -> dict[str, Tensor]:
    """Return y under "y" and all gradients by name, by one path."""
    x, parameters = case.x.clone().requires_grad_(), dict(case.layer.named_parameters())
    with kernels.use(path):
        y = case.layer(x)
        found = torch.autograd.grad(y, [x, *parameters.values()], case.grad)
    return dict(zip(["y", "x", *parameters], [y.detach(), *found], strict=True))


def misfits(case: Case, path: str, wanted: dict[str, Wanted] | None = None) -> dict[str, float]:
    """Return the relative error of y and of every gradient of a path."""
    wanted = wanted or case.wanted()
    found = run(case, path)
    assert found.keys() == wanted.keys()
    assert all(each.dtype == case.x.dtype for each in found.values())
    return {name: misfit(found[name], wanted[name]) for name in wanted}


def agrees(case: Case, path: str, wanted: dict[str, Wanted] | None = None) -> bool:
    """Tell whether a path gives y and all gradients within the tolerance of its dtype."""
    return max(misfits(case, path, wanted).values()) <= TOLERANCES[case.x.dtype]
