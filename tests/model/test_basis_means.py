"""The means that `weight_l1` takes are kept while they hold, and no longer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from kanlens.model import _spline_forward as spline_forward
from kanlens.model._kan_linear import KANLinear
from tests.made import made


def layer_of() -> KANLinear:
    return made([3, 2]).layers[0]


def agrees(layer: KANLinear) -> bool:
    expected = layer.weight_l1(layer.places())  # which keeps nothing
    return torch.equal(layer.weight_l1(), expected)


def moved(layer: KANLinear) -> None:
    layer.grid[1] = layer.grid[1] + 1e-9


def refined(layer: KANLinear) -> None:
    layer.refine(9)


def forgotten(layer: KANLinear) -> None:
    layer.statistics = None


def seen_elsewhere(layer: KANLinear) -> None:
    found = layer.statistics
    layer.statistics = dataclasses.replace(found, quantiles=2 * found.quantiles)


def single(layer: KANLinear) -> None:
    layer.float()


def with_another_base(layer: KANLinear) -> None:
    layer.base_name = "tanh"


def cut_off(layer: KANLinear) -> None:
    layer.extrapolation = "zero"
    layer.statistics = None


CHANGES = [moved, refined, forgotten, seen_elsewhere, single, with_another_base, cut_off]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(change: Callable[[KANLinear], None]) -> None:
    layer = layer_of()
    assert agrees(layer)
    change(layer)
    assert agrees(layer)
    assert agrees(copy.deepcopy(layer))


def test_weights_may_move_and_nothing_is_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, calls = layer_of(), []
    right = spline_forward.basis_means
    monkeypatch.setattr(spline_forward, "basis_means", lambda *a: calls.append(1) or right(*a))
    for _ in range(3):
        layer.weight_l1().sum().backward()
        with torch.no_grad():
            layer.spline_weight -= 0.1 * layer.spline_weight.grad
    assert len(calls) == 1
    assert agrees(layer)


def test_gradients_are_those_of_points_that_are_given() -> None:
    layer = layer_of()
    parameters = list(layer.parameters())[:3]
    kept = torch.autograd.grad(layer.weight_l1().sum(), parameters)
    given = torch.autograd.grad(layer.weight_l1(layer.places()).sum(), parameters)
    assert_close(kept, given, rtol=0, atol=0)


def test_nothing_is_kept_where_torch_keeps_no_graph_or_the_grid_has_one() -> None:
    layer = layer_of()
    with torch.inference_mode():
        layer.weight_l1()
    layer.weight_l1().sum().backward()  # what inference made could not be differentiated
    layer.grid.requires_grad_()
    (slope,) = torch.autograd.grad(layer.weight_l1().sum(), layer.grid, allow_unused=True)
    assert slope is not None


def test_transforms_take_part_in_what_is_worked_out() -> None:
    layer = layer_of()
    grids = torch.stack([layer.grid, layer.grid * 1.5])
    weights = dict(layer.named_parameters())

    def norms(grid: torch.Tensor) -> torch.Tensor:
        layer.weight_l1()
        return torch.func.functional_call(Norms(layer), {**named(weights), "layer.grid": grid}, ())

    found = torch.func.vmap(norms)(grids)
    layer.grid.copy_(grids[1])
    assert_close(found[1], layer.weight_l1(layer.places()))


def named(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"layer.{name}": value for name, value in weights.items()}


class Norms(torch.nn.Module):
    """A module whose output is the norms of a layer."""

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> torch.Tensor:
        return self.layer.weight_l1()
