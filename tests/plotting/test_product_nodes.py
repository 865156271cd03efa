"""Nodes that multiply, in the diagram and in pictures of their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from kanlens.errors import InvalidValueError
from kanlens.model._nodes import Grouping
from kanlens.plotting import edge, edges, network
from kanlens.plotting._layout import DROP, arrange
from kanlens.plotting._style import STYLE
from tests.made import made
from tests.plotting.conftest import labelled
from tests.plotting.test_layout import overlaps

GROUPS = st.tuples(st.integers(0, 4), st.lists(st.integers(2, 4), max_size=3)).filter(
    lambda one: one[0] + len(one[1]) > 0
)


def places(ax, label):
    found: Any = labelled(ax, label)
    return np.asarray(found.get_offsets())


@given(st.integers(1, 4), st.lists(GROUPS, min_size=1, max_size=3), st.booleans())
def test_factors_lie_below_their_node_and_above_the_boxes(n_in, layers, fitted):
    groups = [Grouping(sums, tuple(arities)) for sums, arities in layers]
    shown = [np.ones(n_in, dtype=bool), *(np.ones(one.nodes, dtype=bool) for one in groups)]
    edges_of = [
        tuple(np.divmod(np.arange(group.subnodes * len(below)), len(below)))
        for group, below in zip(groups, shown, strict=False)
    ]
    size = {"width": 6.0, "height": 2.0 * len(groups)} if fitted else {}
    layout = arrange(shown, edges_of, groups=groups, **size)
    for index, group in enumerate(groups):
        above, ends, boxes = layout.nodes[index + 1], layout.arrivals[index], layout.boxes[index]
        assert ends.shape == (group.subnodes, 2)
        assert overlaps(boxes) == 0
        for node in range(group.nodes):
            members = ends[list(group.members(node))]
            if node < group.sums:
                np.testing.assert_allclose(members[0], above[node])
                continue
            drop = above[node, 1] - members[:, 1]
            assert (drop > 0.02).all()
            assert (drop <= DROP + 1e-9).all()
            np.testing.assert_allclose(members[:, 0].mean(), above[node, 0])
            assert (np.diff(members[:, 0]) > 0).all()
            assert boxes.ends[1] <= members[:, 1].min() + 1e-9
        order = np.argsort(ends[:, 0], kind="stable")
        owner = [group.place(int(end))[0] for end in order]
        assert owner == sorted(owner)  # the factors of one node do not mix with the next one's


def test_products_are_crossed_circles_over_their_factors(model, ax):
    net = model([2, (2, [2, 3]), (0, 1)])
    network(net, ax=ax)
    assert len(places(ax, "_products 0")) == 2
    assert len(places(ax, "_products 1")) == 1
    np.testing.assert_allclose(places(ax, "_products 0"), places(ax, "_nodes 1")[2:])
    np.testing.assert_allclose(places(ax, "_products 1"), places(ax, "_nodes 2"))
    legs: Any = labelled(ax, "_factors 0")
    assert len(legs.get_segments()) == 5
    for segment in legs.get_segments():
        assert segment[0, 1] < segment[1, 1]
    lines: Any = labelled(ax, "_lines out of boxes 0")
    ends = {tuple(np.round(segment[-1], 6)) for segment in lines.get_segments()}
    assert ends == {tuple(np.round(segment[0], 6)) for segment in legs.get_segments()} | {
        tuple(np.round(place, 6)) for place in places(ax, "_nodes 1")[:2]
    }


def test_a_constant_factor_is_pale(model, ax):
    net = model([2, (1, [2, 3]), 1])
    net.layers[0].mask[3] = 0
    network(net, ax=ax)
    legs: Any = labelled(ax, "_factors 0")
    pale = [np.allclose(color, to_rgba(STYLE.faint)) for color in legs.get_colors()]
    assert pale == [False, False, True, False, False]


def test_a_product_without_edges_is_not_drawn(model, ax):
    net = model([2, (1, [2, 3]), 1])
    net.layers[0].mask[1:3] = 0
    net.layers[1].mask[0, 1] = 0
    network(net, ax=ax)
    assert len(places(ax, "_products 0")) == 1
    net.layers[0].mask[3:] = 0
    net.layers[1].mask[0, 2] = 0
    other = Figure().subplots()
    network(net, ax=other)
    assert "_products 0" not in {item.get_label() for item in other.collections}


def test_an_edge_is_found_by_the_name_of_its_factor(model, ax):
    net = model([2, (1, 1), (0, 1)], names=["mass", "length"])
    edge(net, 0, "h1_2.2", "mass", ax=ax)
    assert ax.get_ylabel() == "contribution to h1_2.2"
    assert ax.get_xlabel() == "mass"
    panels = Figure(figsize=(5, 4)).subplots()
    edges(net, 1, out="y.1", ax=panels)
    assert len(panels.child_axes) == 2


def test_message_of_a_product_for_an_end(model, ax):
    net = model([2, (1, 1), 1])
    with pytest.raises(InvalidValueError, match="expected out from 0 to 2 or a name, got 'h1_2'"):
        edge(net, 0, "h1_2", 0, ax=ax)


def test_sums_of_the_last_layer_are_in_units_of_the_data_and_factors_are_not():
    net = made([2, (1, 1)], scaled_nodes=True)
    x = np.linspace(-1, 1, 9)
    for out, unit in ((0, float(net.output_scale[0] * net.nodes[0].scale[0])), (1, 1.0)):
        picture = Figure().subplots()
        edge(net, 0, out, 0, ax=picture)
        curve = next(line for line in picture.lines if line.get_label() == "_curve")
        phi = net.layers[0].edge(out, 0)
        at = np.interp(x, curve.get_xdata(), curve.get_ydata())
        scaled = (x - float(net.input_shift[0])) / float(net.input_scale[0])
        inside = (x > curve.get_xdata()[0]) & (x < curve.get_xdata()[-1])
        np.testing.assert_allclose(at[inside], unit * phi(scaled)[inside], atol=2e-2)
