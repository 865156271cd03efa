"""Nodes that multiply: every rule against its definition, and what may be written."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.model._config import KANConfig, NodesConfig
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN, describe
from kanlens.model._nodes import Grouping, Nodes, multiply, others, split
from tests.made import draw

VALUES = st.floats(-3, 3, allow_nan=False).map(lambda value: round(value, 3))


def shapley(ours: list[float], theirs: list[float]) -> list[float]:
    """The Shapley values of the factors, by all 2^d coalitions."""
    n = len(ours)

    def worth(members: tuple[int, ...]) -> float:
        return math.prod(ours[j] if j in members else theirs[j] for j in range(n))

    found = []
    for j in range(n):
        rest = [k for k in range(n) if k != j]
        value = 0.0
        for size in range(n):
            weight = 1 / (n * math.comb(n - 1, size))
            for members in itertools.combinations(rest, size):
                value += weight * (worth((*members, j)) - worth(members))
        found.append(value)
    return found


# --- products of numbers ------------------------------------------------------------------------


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=7))
def test_the_split_is_shapleys(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    size = float(torch.maximum(ours.abs(), theirs.abs()).clamp(min=1).prod())
    shares = split(ours, theirs) * (ours - theirs)
    expected = torch.tensor(shapley(ours.tolist(), theirs.tolist()), dtype=torch.float64)
    assert_close(shares, expected, rtol=0, atol=1e-13 * size)
    assert_close(shares.sum(), ours.prod() - theirs.prod(), rtol=0, atol=1e-13 * size)


@given(st.lists(VALUES, min_size=2, max_size=7))
def test_the_split_of_a_point_with_itself_is_the_derivative(values: list[float]) -> None:
    at = torch.tensor(values, dtype=torch.float64)
    expected = [math.prod(values[:j] + values[j + 1 :]) for j in range(len(values))]
    assert_close(others(at), torch.tensor(expected, dtype=torch.float64))
    assert_close(split(at, at), others(at), rtol=1e-12, atol=1e-12)
    assert_close(multiply(at), torch.tensor(math.prod(values), dtype=torch.float64))


@pytest.mark.parametrize("arity", [2, 3, 4, 17, 40])
def test_many_factors(arity: int) -> None:
    ours, theirs = 1 + 0.1 * draw(6, arity), 1 + 0.1 * draw(6, arity, seed=2)
    shares = split(ours, theirs) * (ours - theirs)
    assert_close(shares.sum(1), ours.prod(1) - theirs.prod(1), rtol=1e-12, atol=1e-12)


# --- nodes --------------------------------------------------------------------------------------


def loop(grouping: Grouping, row: Tensor) -> Tensor:
    """The nodes of one row of subnodes, one product after the other."""
    nodes, start = [float(row[i]) for i in range(grouping.sums)], grouping.sums
    for arity in grouping.arities:
        nodes.append(math.prod(row[start : start + arity].tolist()))
        start += arity
    return torch.tensor(nodes, dtype=row.dtype)


GROUPINGS = [
    Grouping(3, (2, 2)),
    Grouping(0, (3,)),
    Grouping(2, (2, 4, 3)),
    Grouping(1, (5,)),
    Grouping(4),
]


@pytest.mark.parametrize("grouping", GROUPINGS, ids=str)
@pytest.mark.parametrize("scaled", [False, True])
def test_nodes_are_the_loop(grouping: Grouping, scaled: bool) -> None:
    nodes = Nodes(grouping, scaled=scaled).double()
    x = draw(5, 2, grouping.subnodes)
    expected = torch.stack([loop(grouping, row) for row in x.flatten(0, 1)]).unflatten(0, (5, 2))
    if scaled:
        nodes.scale.copy_(draw(grouping.nodes, seed=3))
        nodes.shift.copy_(draw(grouping.nodes, seed=4))
        expected = expected * nodes.scale + nodes.shift
    assert_close(nodes(x), expected)
    assert nodes.plain == (not grouping.arities and not scaled)
    assert set(nodes.state_dict()) == ({"scale", "shift"} if scaled else set())


@pytest.mark.parametrize("grouping", GROUPINGS, ids=str)
def test_rates_are_derivatives_and_secants(grouping: Grouping) -> None:
    nodes = Nodes(grouping, scaled=True).double()
    nodes.scale.copy_(draw(grouping.nodes, seed=3))
    u, v = draw(grouping.subnodes), draw(grouping.subnodes, seed=2)
    jacobian = torch.autograd.functional.jacobian(nodes, u)  # (node, sub)
    assert_close(nodes.rates(u), jacobian[nodes.owner, torch.arange(len(u))])
    change = torch.zeros(grouping.nodes, dtype=torch.float64)
    change.index_add_(0, nodes.owner, nodes.rates(u, v) * (u - v))
    assert_close(change, nodes(u) - nodes(v), rtol=1e-12, atol=1e-12)
    slopes = draw(grouping.nodes, seed=5)
    assert_close(nodes.pull(slopes, u), slopes @ jacobian)
    assert_close(nodes.pull(slopes, u, v), slopes[nodes.owner] * nodes.rates(u, v))


def test_gradients_to_second_order() -> None:
    nodes = Nodes(Grouping(1, (2, 3))).double()
    x, y = draw(3, 6).requires_grad_(), draw(3, 6, seed=2).requires_grad_()
    x.data[0, 1] = 0.0  # where torch.prod would need care
    assert torch.autograd.gradcheck(nodes, (x,))
    assert torch.autograd.gradgradcheck(nodes, (x,))
    assert torch.autograd.gradcheck(nodes.rates, (x, y))


def test_places_and_members() -> None:
    grouping = Grouping(2, (2, 3))
    assert (grouping.subnodes, grouping.nodes) == (7, 4)
    assert [grouping.place(k) for k in range(7)] == [
        (0, None),
        (1, None),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
        (3, 2),
    ]
    assert [list(grouping.members(n)) for n in range(4)] == [[0], [1], [2, 3], [4, 5, 6]]
    assert Nodes(grouping).owner.tolist() == [0, 1, 2, 2, 3, 3, 3]
    with pytest.raises(IndexError):
        grouping.place(7)
    assert repr(Nodes(grouping, scaled=True)) == "Nodes(2 sums, products of 2, 3, scaled)"


# --- networks -----------------------------------------------------------------------------------

NETWORKS: list[list[Any]] = [
    [2, (3, 2), 1],
    [2, (3, [2, 3]), (0, 1)],
    [3, (0, [3, 2]), (1, [4])],
    [1, (0, 1)],
]


@pytest.mark.parametrize("widths", NETWORKS, ids=str)
def test_the_form_of_widths_comes_back(widths: list[Any]) -> None:
    model = KAN(widths)
    assert list(model.shape) == widths
    assert KAN(model.shape).config == model.config
    assert repr(model).startswith(f"KAN: {widths!r}, ")
    assert KANConfig.from_json(model.config.to_json()) == model.config
    rebuilt = KAN.from_config(model.config)
    assert rebuilt.shape == model.shape
    rebuilt.load_state_dict(model.state_dict())
    assert_close(rebuilt(draw(4, widths[0]).float()), model(draw(4, widths[0]).float()))
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert clone.config == model.config
        assert_close(clone(draw(4, widths[0]).float()), model(draw(4, widths[0]).float()))


def test_widths_of_a_network_with_products() -> None:
    model = KAN([2, (3, [2, 3]), (0, 1)])
    assert model.widths == (2, 5, 1)
    assert [layer.out_features for layer in model.layers] == [8, 2]
    assert [layer.in_features for layer in model.layers] == [2, 5]
    assert model.output_names == ("y",)
    facts = describe(model)
    assert facts["widths"] == [2, 5, 1]
    assert facts["shape"] == "[2, (3, [2, 3]), (0, 1)]"
    assert facts["products"] == 3
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize(
    ("widths", "shape"),
    [
        ([2, [3, 2], 1], (2, (3, 2), 1)),  # as pykan writes it
        ([2, (3, [2, 2]), 1], (2, (3, 2), 1)),
        ([2, (3, 0), 1], (2, 3, 1)),
        ([2, (3, ()), 1], (2, 3, 1)),
        ([2, 3, 1], (2, 3, 1)),
    ],
)
def test_other_ways_to_write_the_same(widths: list[Any], shape: tuple[Any, ...]) -> None:
    assert KAN(widths).shape == shape


def test_a_plain_network_is_what_it_was() -> None:
    model = KAN([2, 3, 1])
    assert model.config.nodes == ()
    assert "nodes" not in json.loads(model.config.to_json())
    assert not any("nodes" in name for name in model.state_dict())
    assert model.widths == model.shape == (2, 3, 1)


def test_names_of_nodes_and_of_factors() -> None:
    model = KAN([2, (1, [2, 3]), (1, 1)], output_names=["a", "b"])
    assert [model.node_name(1, n) for n in range(3)] == ["h1_1", "h1_2", "h1_3"]
    found = [model.subnode_name(0, n) for n in range(6)]
    assert found == ["h1_1", "h1_2.1", "h1_2.2", "h1_3.1", "h1_3.2", "h1_3.3"]
    assert [model.subnode_name(1, n) for n in range(3)] == ["a", "b.1", "b.2"]
    assert model.edge_name(0, 5, 1) == "x2 -> h1_3.3"
    assert model.edge_name(1, 2, 2) == "h1_3 -> b.2"


def test_buffers_of_nodes_follow_dtype_and_are_in_the_state() -> None:
    grouping = Grouping(1, (2,))
    nodes = [Nodes(grouping, scaled=True), Nodes(Grouping(1))]
    model = KAN.from_layers([KANLinear(2, 3), KANLinear(2, 1)], KAN([2, 1]).schema, nodes=nodes)
    model.nodes[0].scale.copy_(torch.tensor([2.0, 3.0]))
    model.nodes[0].shift.copy_(torch.tensor([0.5, -1.0]))
    model.double()
    assert model.nodes[0].scale.dtype == torch.float64
    x = draw(4, 2)
    sums = model.layers[0](x)
    hidden = torch.stack([2 * sums[:, 0] + 0.5, 3 * sums[:, 1] * sums[:, 2] - 1], 1)
    assert_close(model(x), model.layers[1](hidden))
    assert {"nodes.0.scale", "nodes.0.shift"} <= set(model.state_dict())
    assert model.config.nodes == (NodesConfig(arities=(2,), scaled=True), NodesConfig())
    other = KAN.from_config(model.config).double()
    other.load_state_dict(model.state_dict())
    assert_close(other(x), model(x))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "expected", "advice"),
    [
        ((3, 2, 1), "a layer that multiplies as a pair of its sums and products", "Write"),
        ((3, 2.0), "a layer that multiplies as a pair of its sums and products", "Write"),
        ((3, ["2"]), "a layer that multiplies as a pair of its sums and products", "Write"),
        ((-1, 2), "a layer that multiplies as a pair of its sums and products", "Write"),
        ((True, 2), "a layer that multiplies as a pair of its sums and products", "Write"),
        ((3, [2, 1]), "products of at least two factors", "Count a single factor among the sums."),
        ((3, [0]), "products of at least two factors", "Count a single factor among the sums."),
        ((0, 0), "at least one node in a layer", "Give the layer a sum or a product."),
        ((0, []), "at least one node in a layer", "Give the layer a sum or a product."),
    ],
)
def test_message_of_a_pair(entry: Any, expected: str, advice: str) -> None:
    if advice == "Write":
        advice = "Write (3, 2) for 3 sums and 2 products of two, (3, [2, 3]) for other arities."
    text = f"KAN: expected {expected}, got {entry!r}. {advice}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        KAN([2, entry, 1])


def test_message_of_features_that_multiply() -> None:
    text = (
        "KAN: expected widths of at least two whole numbers of at least 1, got [(2, 1), 1]. "
        "For example [4, 5, 1]."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        KAN([(2, 1), 1])


def test_message_of_nodes_that_do_not_fit() -> None:
    layers = [KANLinear(2, 3), KANLinear(2, 1)]
    text = (
        "KAN.from_layers: expected nodes with (subnodes, nodes) (3, 2), (1, 1), got (3, 3), (1, 1)."
        " Pass one Nodes per layer, with as many subnodes as its outputs and as many nodes as the "
        "next layer's inputs (for the last layer, as the model's outputs)."
    )
    nodes = [Nodes(Grouping(3)), Nodes(Grouping(1))]
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        KAN.from_layers(layers, KAN([2, 1]).schema, nodes=nodes)
    with pytest.raises(InvalidValueError, match=re.escape("got none.")):
        KAN.from_layers(layers, KAN([2, 1]).schema, nodes=[])


@pytest.mark.parametrize(
    ("nodes", "expected", "got"),
    [
        ([[2]], "nodes of every layer", "1 for 2 layers"),
        ([[2, 8], []], "products of at least two of a layer's outputs", "products of [2, 8] from"),
        ([[2, 1], []], "products of at least two of a layer's outputs", "products of [2, 1] from"),
        ([[2, 2], [1]], "products of at least two of a layer's outputs", "products of [1] from 1"),
        ([[], []], "layers that fit together", "widths [2, 5, 1] after [2, 7, 1]"),
    ],
)
def test_message_of_a_configuration(nodes: list[list[int]], expected: str, got: str) -> None:
    data = json.loads(KAN([2, (3, 2), 1]).config.to_json())
    data["nodes"] = [{"arities": one, "scaled": False} for one in nodes]
    config = KANConfig.from_json(json.dumps(data))
    text = f"KAN.from_config: expected {expected}, got {got}"
    with pytest.raises(FileFormatError, match=re.escape(text)):
        KAN.from_config(config)


@pytest.mark.parametrize("bad", [{"arities": [2.0], "scaled": False}, {"arities": [2]}, 3, "a"])
def test_message_of_nodes_that_are_none(bad: Any) -> None:
    data = json.loads(KAN([2, (3, 2), 1]).config.to_json())
    data["nodes"] = [bad, {"arities": [], "scaled": False}]
    with pytest.raises(FileFormatError, match=r"^KANConfig: expected a kanlens configuration, got"):
        KANConfig.from_json(json.dumps(data))
