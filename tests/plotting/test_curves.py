from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot

from kanlens.attribution import edge_band
from kanlens.errors import DataError, DTypeError, InvalidValueError, MethodError, ShapeError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics, trace
from kanlens.plotting import edge, edges, network, to_svg
from kanlens.plotting._curves import words_for
from kanlens.plotting._style import STYLE, text_width
from tests.plotting.conftest import labelled, with_units


def line(ax, label="_curve"):
    found: Any = labelled(ax, label)
    return np.asarray(found.get_xydata())


def scaled(model):
    """A network that takes kilograms around 50 and returns meters around 7."""
    net = with_units(model([2, 2, 1], names=["mass", "age"], data=False), ["kg", "a"], "m")
    net.input_shift[:] = 50.0
    net.input_scale[:] = 20.0
    net.output_scale[:] = 3.0
    rows = torch.rand(100, 2, generator=torch.Generator().manual_seed(1)).double() * 30 + 35
    store_statistics(net, rows)
    return net


def test_first_layer_is_in_units_of_the_feature(model, ax):
    net = scaled(model)
    assert edge(net, 0, 1, 0, ax=ax) is ax
    drawn = line(ax)
    phi = net.layers[0].edge(1, 0)
    np.testing.assert_allclose(drawn[:, 1], phi((drawn[:, 0] - 50) / 20), atol=1e-12)
    assert drawn[0, 0] < 36 < 64 < drawn[-1, 0]
    assert ax.get_xlabel() == "mass (kg)"
    assert ax.get_ylabel() == "contribution to h1_2"


def test_last_layer_is_in_units_of_the_output(model, ax):
    net = scaled(model)
    edge(net, 1, "y", "h1_2", ax=ax)
    drawn = line(ax)
    np.testing.assert_allclose(drawn[:, 1], 3 * net.layers[1].edge(0, 1)(drawn[:, 0]), atol=1e-12)
    assert ax.get_ylabel() == "contribution to y (m)"


def test_density_knots_and_shading(model, ax):
    net = model([2, 1])
    edge(net, 0, 0, 0, ax=ax)
    density: Any = labelled(ax, "_density")
    heights = density.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(0.13)
    knots: Any = labelled(ax, "_knots")
    at = [segment[0][0] for segment in knots.get_segments()]
    np.testing.assert_allclose(at, net.layers[0].breakpoints()[0].numpy(), atol=1e-9)
    spans = [patch for patch in ax.patches if patch.get_label() != "_outside grid"]
    ends = sorted(float(patch.get_extents().x0) for patch in spans)
    assert len(ends) == 2


def test_density_follows_given_rows(model, ax):
    net = model([2, 1])
    rows = torch.full((50, 2), 0.5, dtype=torch.float64)
    edge(net, 0, 0, 0, data=rows, ax=ax)
    density: Any = labelled(ax, "_density")
    vertices = density.get_paths()[0].vertices
    full = vertices[vertices[:, 1] > 0.1, 0]
    assert full.min() <= 0.5 <= full.max()
    assert np.ptp(full) < 0.1


def test_parts_add_up(model, ax):
    edge(model([2, 1]), 0, 0, 0, parts=True, ax=ax)
    whole = line(ax, "sum")[:, 1]
    parts = line(ax, "spline")[:, 1] + line(ax, "base (silu)")[:, 1]
    np.testing.assert_allclose(parts, whole, atol=1e-12)
    assert ax.get_legend() is not None


def test_an_edge_function_alone(model, ax):
    phi = dataclasses.replace(model([1, 1]).layers[0].edge(0, 0), name="f $1", unit="s")
    edge(phi, data=torch.linspace(-0.5, 0.5, 20), ax=ax)
    drawn = line(ax)
    np.testing.assert_allclose(drawn[:, 1], phi(drawn[:, 0]), atol=1e-12)
    assert ax.get_xlabel() == "x (s)"
    assert ax.get_ylabel() == r"contribution to f \$1"


def test_two_valued_inputs_are_points(model, ax):
    net = model([2, 1], names=["smoker", "place=NEAR BAY"])
    first, second = net.schema.features
    features = (
        dataclasses.replace(first, kind="binary", categories=("never", "daily"), category="daily"),
        dataclasses.replace(second, kind="categorical", column="place", category="NEAR BAY"),
    )
    net.schema = dataclasses.replace(net.schema, features=features)
    edge(net, 0, 0, "smoker", ax=ax)
    drawn = line(ax, "_levels")
    np.testing.assert_allclose(
        drawn[:, 1], net.layers[0].edge(0, 0)(np.array([0.0, 1.0])), atol=1e-3
    )
    assert [label.get_text() for label in ax.get_xticklabels()] == ["never", "daily"]
    panels = edges(net, ax=ax.figure.add_subplot()).child_axes
    assert [label.get_text() for label in panels[1].get_xticklabels()] == ["no", "yes"]


def test_jumps_and_poles_are_drawn_where_defined(ax):
    layer = KANLinear(1, 1, functions=[["log"]])
    edge(KAN.from_layers([layer], KAN([1, 1]).schema), 0, 0, 0, ax=ax)
    drawn = line(ax)
    assert np.isnan(drawn[drawn[:, 0] < 0, 1]).all()
    assert np.isfinite(ax.get_ylim()).all()
    with pytest.raises(MethodError, match="edge made of a spline and a base, got an elementary f"):
        edge(layer.edge(0, 0), parts=True)


def test_many_edges_share_one_range_and_lose_their_means(model, ax):
    net = model([3, 4, 1])
    net.layers[0].mask[1, 2] = 0
    assert edges(net, 0, ax=ax) is ax
    panels = ax.child_axes
    assert len(panels) == 11
    assert len({panel.get_ylim() for panel in panels}) == 1
    titles = [panel.get_title() for panel in panels]
    assert titles[0] == "x1 → h1_1"
    assert "x3 → h1_2" not in titles
    statistics = net.layers[0].statistics
    drawn = line(panels[0])
    mean = float(statistics.edge_mean[0, 0])
    values = net.layers[0].edge(0, 0)(drawn[:, 0]) - mean
    np.testing.assert_allclose(drawn[:, 1], values, atol=5e-3)
    assert pyplot.get_fignums() == []


def test_edges_of_one_node_and_the_strongest(model, ax):
    net = model([3, 4, 1])
    panels = edges(net, 0, in_="x2", ax=ax).child_axes
    assert [panel.get_title() for panel in panels] == [f"x2 → h1_{i}" for i in (1, 2, 3, 4)]
    other = ax.figure.add_subplot()
    assert len(edges(net, 0, top=5, ax=other).child_axes) == 5
    assert "the 5 strongest of 12 edges" in [text.get_text() for text in other.texts]


def test_one_new_figure(model):
    first = edge(model([2, 1]), 0, 0, 0)
    second = edges(model([2, 1]))
    assert len(pyplot.get_fignums()) == 2
    assert first.figure is not second.figure


def test_errors_say_what_exists(model):
    net = model([2, 1], names=["mass", "age"])
    with pytest.raises(InvalidValueError, match="expected layer from 0 to 0, got None"):
        edge(net)
    with pytest.raises(InvalidValueError, match="expected in_ from 0 to 1 or a name, got 'masss'"):
        edge(net, 0, 0, "masss")
    with pytest.raises(InvalidValueError, match="expected out from 0 to 0 or a name, got 1"):
        edge(net, 0, 1, 0)
    with pytest.raises(DTypeError, match=r"plot\.edge: expected a KAN or an Edge, got str"):
        edge("edge")  # type: ignore[arg-type]
    phi = net.layers[0].edge(0, 0)
    with pytest.raises(InvalidValueError, match=r"in_ with an Edge, got \(0, None, None\)"):
        edge(phi, 0)
    with pytest.raises(DataError, match=r"plot\.edge: expected finite values in data, got none"):
        edge(phi, data=torch.zeros(0))
    net.layers[0].mask.zero_()
    with pytest.raises(InvalidValueError, match="expected nonzero edges to draw, got none"):
        edges(net)
    assert pyplot.get_fignums() == []


@pytest.mark.slow
@pytest.mark.parametrize("draw", [edge, edges, network], ids=lambda draw: draw.__name__)
def test_a_trace_is_drawn_as_its_rows_are(model, draw):
    net, rows = model([2, 2, 1]), torch.linspace(-0.5, 0.8, 60).double().reshape(30, 2)
    name, place = ("x", {}) if draw is network else ("data", {"layer": 1})
    place |= {"out": 0, "in_": 1} if draw is edge else {}
    drawn = [to_svg(draw(net, **place, **{name: x}), prefix="p") for x in (rows, trace(net, rows))]
    assert drawn[0] == drawn[1] != to_svg(draw(net, **place), prefix="p")
    with pytest.raises(ShapeError, match=r"of layers with \[2, 2\] inputs, got one with \[3\]"):
        draw(net, **place, **{name: trace(KAN([3, 1]), torch.zeros(2, 3))})


@pytest.mark.parametrize("layer", [0, 1])
def test_a_band_is_that_of_the_numbers(layer, model, ax):
    net = scaled(model)
    rows = torch.rand(90, 2, generator=torch.Generator().manual_seed(3)).double() * 30 + 35
    y = rows.sum(1)
    edge(net, layer, 0, 1, data=rows, y=y, band=True, ax=ax)
    found: Any = labelled(ax, "95% band")
    corners = found.get_paths()[0].vertices
    places = line(ax)[90:110:5, 0]
    band = edge_band(net, layer, 0, 1, rows, y, at=places)
    heights = [np.ptp(corners[corners[:, 0] == x][:, 1]) for x in places]
    np.testing.assert_allclose(heights, band["high"] - band["low"], rtol=1e-9)
    whole = edge_band(net, layer, 0, 1, rows, y)
    assert corners[:, 0].min() >= whole["x"].min() - 1e-9  # none beyond the rows
    with pytest.raises(MethodError, match="expected a model, data and y for a band, got only some"):
        edge(net, layer, 0, 1, data=rows, band=True, ax=ax)


@pytest.mark.slow  # draws pictures
def test_long_names_break_at_spaces():
    name, room = "outcome=customer buys more", 1.35
    found = words_for("effect on", name, "log-odds", room)
    assert found == "effect on\noutcome=customer\nbuys more (log-odds)"
    assert words_for("effect on", name, "log-odds", 4.0) == f"effect on {name} (log-odds)"
    for text in (found, words_for("effect on", name.replace(" ", "_"), "log-odds", room)):
        assert text.count("\n") == 2
        assert all(text_width(line, STYLE.text) <= room for line in text.split("\n"))
    assert words_for("effect on", 9 * name, "log-odds", room).endswith("…")
