"""What coalitions are worth: the kernel against the layer run on every coalition by itself."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley._enumeration import coalition_worths
from kanlens.attribution.shapley._game_loops import add_function
from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from kanlens.model._nodes import Grouping, Nodes
from kanlens.model.kernels._compiling import jit
from tests.model.kernels.layers import GRIDS, numbers, set_grid


@pytest.fixture(autouse=True)
def kernels_without_gradients():
    with torch.no_grad(), kernels.use("sparse"):
        yield


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spline_layer(nodes: int, seed: int = 0, grid: str = "even", **options: object) -> KANLinear:
    generator = seeded(seed)
    layer = KANLinear(nodes, 1, scale_noise=3.0, generator=generator, **options).double()
    set_grid(layer, grid, generator)
    return layer


def steps(nodes: Nodes, players: int, batch: int = 2, rows: int = 3, seed: int = 1):
    generator, sums = seeded(seed), nodes.grouping.subnodes
    ours = numbers(batch, sums, players, generator=generator)
    theirs = numbers(rows, sums, players, generator=generator)
    return ours, theirs, numbers(rows, sums, generator=generator)


def one_by_one(
    ours: Tensor, theirs: Tensor, start: Tensor, nodes: Nodes, layer: KANLinear
) -> Tensor:
    """Run the layer on every coalition."""
    found = []
    for places in itertools.product([0, 1], repeat=ours.shape[2]):
        inside = torch.tensor(places[::-1], dtype=torch.float64)  # bit p is player p
        found.append(start + ((ours[:, None] - theirs) * inside).sum(-1))  # (batch, rows, sub)
    moved = torch.stack(found, dim=1)
    worth = layer.forward_torch(nodes(moved).flatten(0, 2))[:, 0] - layer.bias
    return worth.reshape(moved.shape[:3]).mean(2)


def shaken(nodes: Nodes) -> Nodes:
    nodes.double()
    if nodes.scaled:
        nodes.scale.copy_(numbers(len(nodes.scale), generator=seeded(5)))
        nodes.shift.copy_(numbers(len(nodes.shift), generator=seeded(6)))
        nodes.scale[0] = 1.0
    return nodes


SHAPES = {
    "sums": Nodes(Grouping(3)),
    "one": Nodes(Grouping(1)),
    "scaled": shaken(Nodes(Grouping(2), scaled=True)),
    "products": Nodes(Grouping(1, (2, 3))),
    "scaled products": shaken(Nodes(Grouping(1, (2,)), scaled=True)),
}


@pytest.mark.slow  # many layers of every kind
@given(
    seed=st.integers(0, 999),
    shape=st.sampled_from(sorted(SHAPES)),
    grid=st.sampled_from(GRIDS),
    players=st.integers(1, 6),
    extrapolation=st.sampled_from(["linear", "zero"]),
)
@settings(max_examples=15, deadline=None)
def test_worths_are_those_of_every_coalition(seed, shape, grid, players, extrapolation):
    nodes = SHAPES[shape]
    layer = spline_layer(nodes.grouping.nodes, seed, grid, extrapolation=extrapolation)
    given_steps = steps(nodes, players, seed=seed)
    expected = one_by_one(*given_steps, nodes, layer)
    found = coalition_worths(*given_steps, nodes, layer)
    size = float(expected.abs().max()) + 1
    assert_close(found, expected, rtol=1e-12, atol=1e-12 * size)


@jit
def add_functions(points, totals, curves, window):
    for j in range(len(curves[3])):
        add_function(points, len(points), totals, 0, j, curves, window)


@pytest.mark.slow  # compiles for another order, the rest of the kernel knows none
@pytest.mark.parametrize("grid", GRIDS)
def test_functions_of_another_order(grid, monkeypatch):
    layer = spline_layer(3, grid=grid, spline_order=5, base_activation="zero")
    given_steps, seen = steps(SHAPES["sums"], 2), []
    monkeypatch.setattr(enumeration.pool, "share", lambda _, arguments, *__: seen.extend(arguments))
    coalition_worths(*given_steps, SHAPES["sums"], layer)
    points = torch.linspace(-3, 3, 500, dtype=torch.float64)
    totals, (curves, window) = np.zeros(500), (seen[5], seen[8])
    add_functions(points.numpy(), totals, curves, window)
    expected = layer.forward_torch(points[:, None].expand(-1, 3))[:, 0] - layer.bias
    assert_close(torch.from_numpy(totals), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("players", [10, 11, 12])
@pytest.mark.parametrize("shape", ["sums", "products"])
def test_more_players_than_are_taken_together(players, shape):
    nodes = SHAPES[shape]
    layer = spline_layer(nodes.grouping.nodes)
    given_steps = steps(nodes, players, batch=1, rows=1)
    expected = one_by_one(*given_steps, nodes, layer)
    found = coalition_worths(*given_steps, nodes, layer)
    assert_close(found, expected, rtol=1e-12, atol=1e-11)


def test_points_on_knots_and_far_away():
    layer = spline_layer(1, grid="uneven")
    for place in [*layer.grid[0].tolist(), -1e6, 1e6]:
        ours = torch.full((1, 1, 1), place, dtype=torch.float64)
        theirs, start = torch.zeros_like(ours), torch.zeros(1, 1, dtype=torch.float64)
        expected = layer.forward_torch(ours[:, :, 0]) - layer.bias
        found = coalition_worths(ours, theirs, start, SHAPES["one"], layer)[:, 1:]
        assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_very_uneven_grids_need_several_steps(monkeypatch):
    layer = spline_layer(3, grid="clustered")
    given_steps = steps(SHAPES["sums"], 4)
    expected = one_by_one(*given_steps, SHAPES["sums"], layer)
    monkeypatch.setattr(enumeration, "MAX_BINS", 2)
    basis = kernels.local_basis_of(layer, layer.grid, layer.grid, layer.weights())
    assert enumeration._curves(layer, basis)[-1] > 2  # knots in a bin
    found = coalition_worths(*given_steps, SHAPES["sums"], layer)
    assert_close(found, expected, rtol=1e-12, atol=1e-11)


def test_a_base_that_nobody_uses_does_not_matter():
    layer = spline_layer(3, base_activation=nn.Tanh)
    given_steps = steps(SHAPES["sums"], 3)
    assert coalition_worths(*given_steps, SHAPES["sums"], layer) is None
    layer.base_weight.zero_()
    expected = one_by_one(*given_steps, SHAPES["sums"], layer)
    found = coalition_worths(*given_steps, SHAPES["sums"], layer)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_masked_and_fractional_edges():
    layer = spline_layer(3)
    layer.mask.copy_(torch.tensor([[1.0, 0.0, 0.5]]))
    given_steps = steps(SHAPES["sums"], 3)
    expected = one_by_one(*given_steps, SHAPES["sums"], layer)
    found = coalition_worths(*given_steps, SHAPES["sums"], layer)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_nan_stays():
    ours, theirs, start = steps(SHAPES["sums"], 2)
    ours[1, 0, 1] = torch.nan
    found = coalition_worths(ours, theirs, start, SHAPES["sums"], spline_layer(3))
    assert found.isnan().tolist() == [[False] * 4, [False, False, True, True]]


def test_samples_alone_and_threads_change_nothing(many_threads):
    layer, nodes = spline_layer(3), SHAPES["sums"]
    ours, theirs, start = steps(nodes, 5, batch=7)
    together = coalition_worths(ours, theirs, start, nodes, layer)
    for row in range(7):
        alone = coalition_worths(ours[row : row + 1], theirs, start, nodes, layer)
        assert bool((alone[0] == together[row]).all())


def test_where_it_cannot_run():
    nodes, layer = SHAPES["sums"], spline_layer(3)
    given_steps = steps(nodes, 2)
    assert coalition_worths(*given_steps, nodes, layer) is not None
    with kernels.use("torch"):
        assert coalition_worths(*given_steps, nodes, layer) is None
    mixed = copy.deepcopy(layer)
    mixed.assign(0, 0, "x")
    assert coalition_worths(*given_steps, nodes, mixed) is None
    singles = [each.float() for each in given_steps]
    assert coalition_worths(*singles, nodes, layer.float()) is None


WRONG = {  # in the order that they have
    "numbers": lambda numbers: numbers * (1 + 1e-6),
    "starts": lambda starts: starts + 0.2,
    "bins": lambda bins: np.minimum(bins + 2, 6),
    "low": lambda low: low + 1.0,
    "density": lambda density: density * 2,
}


@pytest.mark.parametrize("field", WRONG)
def test_wrong_pieces_are_seen(field, monkeypatch):
    layer, nodes = spline_layer(3), SHAPES["sums"]
    given_steps = steps(nodes, 4)
    expected = one_by_one(*given_steps, nodes, layer)
    basis = kernels.local_basis_of(layer, layer.grid, layer.grid, layer.weights())
    right = enumeration._curves(layer, basis)
    wrong = [
        WRONG[field](part) if field == name else part
        for name, part in zip(WRONG, right, strict=False)
    ]
    monkeypatch.setattr(enumeration, "_curves", lambda *_: (*wrong, *right[len(wrong) :]))
    found = coalition_worths(*given_steps, nodes, layer)
    assert float((found - expected).abs().max()) > 1e-9
