from __future__ import annotations

import itertools
import time
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kanlens.errors import DataError, DTypeError, InvalidValueError, ShapeError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._trace import POINTS, store_statistics
from kanlens.plotting import network, to_svg
from tests.made import made
from tests.plotting.conftest import labelled, texts, with_units


def count(ax, kind, layer):
    found: Any = labelled(ax, f"_{kind} {layer}")
    return len(found.get_paths())


def test_every_live_edge_has_one_curve(model, ax):
    net = model([4, 5, 1])
    net.layers[0].mask[2] = 0
    net.layers[1].mask[0, 3] = 0
    assert network(net, ax=ax) is ax
    assert [count(ax, "curves", layer) for layer in (0, 1)] == [16, 4]
    assert [count(ax, "boxes", layer) for layer in (0, 1)] == [16, 4]


def test_curves_are_the_edges_over_the_range_of_the_data(model, ax):
    net = model([1, 1])
    network(net, ax=ax)
    lines: Any = labelled(ax, "_curves 0")
    drawn = lines.get_segments()[0]
    assert len(drawn) == POINTS
    statistics = net.layers[0].statistics
    x = torch.linspace(
        float(statistics.input_low), float(statistics.input_high), POINTS, dtype=torch.float64
    )
    y = net.layers[0].edge_values(x[:, None])[:, 0, 0].detach().numpy()
    scaled = (y - y.min()) / (y.max() - y.min())
    shown = (drawn[:, 1] - drawn[:, 1].min()) / np.ptp(drawn[:, 1])
    np.testing.assert_allclose(shown, scaled, atol=1e-9)


def test_names_and_units_stand_at_the_nodes(model, ax):
    names = ["superplasticizer", "ocean_proximity=NEAR BAY", "$x_{1"]
    net = with_units(model([3, 2, 1], names=names, outputs=["a_b^c"]), ["kg/m3", "", ""], "MPa")
    network(net, ax=ax, hidden_names=True)
    shown = texts(ax)
    assert "superplasticizer (kg/m3)" in shown
    assert r"\$x_{1" in shown
    assert "a_b^c (MPa)" in shown
    assert {"h1_1", "h1_2"} <= set(shown)
    root = ElementTree.fromstring(to_svg(ax))
    words = ["".join(node.itertext()).strip() for node in root.iter()]
    assert "$x_{1" in words


def test_strong_edges_are_darker_and_thicker(model, ax):
    net = model([2, 1])
    network(net, scores=[np.array([[1.0, 0.2]])], ax=ax)
    lines: Any = labelled(ax, "_lines into boxes 0")
    widths, colors = lines.get_linewidths(), lines.get_colors()
    assert widths[0] < widths[1]
    assert colors[0, 0] > colors[1, 0]  # pale is light
    assert (colors[:, 3] == 1).all()


def test_dead_hidden_nodes_are_left_out_and_unused_inputs_are_pale(model, ax):
    net = model([2, 3, 1])
    net.layers[0].mask[1] = 0
    net.layers[1].mask[0, 1] = 0
    net.layers[0].mask[:, 0] = 0
    network(net, ax=ax, hidden_names=True)
    assert "h1_2" not in texts(ax)
    nodes: Any = labelled(ax, "_nodes 1")
    assert np.isfinite(np.asarray(nodes.get_offsets().filled(np.nan))).all(1).sum() == 2
    inks = {text.get_text(): text.get_color() for text in ax.texts}
    assert inks["x1"] != inks["x2"]


def test_all_edges_dead_is_still_a_picture(model, ax):
    net = model([2, 2, 1])
    for layer in net.layers:
        layer.mask.zero_()
    network(net, ax=ax)
    assert count(ax, "curves", 0) == 0


def test_the_strongest_get_boxes_the_rest_lines(model, ax):
    net = model([4, 5, 1])
    scores = [np.arange(20.0).reshape(5, 4), np.ones((1, 5))]
    network(net, scores=scores, top=3, ax=ax)
    assert count(ax, "curves", 0) == 3
    assert count(ax, "lines without box", 0) == 17
    assert "layer 0: 3 of 20" in texts(ax)[-1]


def test_normalized_nodes_are_squares(ax):
    network(made([3, 4, 2], normalized=[4, 0]), ax=ax)
    squares: Any = labelled(ax, "_normalized 0")
    assert len(squares.get_offsets()) == 4


def test_functions_stand_out(ax):
    layer = KANLinear(2, 1, functions=[["sin", "spline"]])
    network(KAN.from_layers([layer], KAN([2, 1]).schema), ax=ax)
    boxes: Any = labelled(ax, "_boxes 0")
    frames = boxes.get_linewidths()
    assert frames[0] > frames[1]


def test_flat_and_undefined_functions_can_be_drawn(ax):
    layer = KANLinear(2, 1, functions=[["log", "constant"]])
    network(KAN.from_layers([layer], KAN([2, 1]).schema), ax=ax)
    lines: Any = labelled(ax, "_curves 0")
    flat = lines.get_segments()[1]
    assert np.ptp(flat[:, 1]) == 0
    assert len(lines.get_paths()) == 2


def test_drawing_leaves_model_and_pyplot_alone(model, ax):
    net = model([3, 2, 1])
    net.train()
    x = torch.rand(9, 3).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    network(net, x=x, ax=ax)
    assert pyplot.get_fignums() == []
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_new_figure_fits_and_is_the_only_one(model):
    ax = network(model([4, 5, 1]))
    assert len(pyplot.get_fignums()) == 1
    width, height = ax.figure.get_size_inches()
    low, high = ax.get_xlim()
    assert high - low == pytest.approx(width)
    low, high = ax.get_ylim()
    assert high - low == pytest.approx(height)


@pytest.mark.slow  # draws pictures
def test_names_that_need_room_stand_at_their_nodes(model):
    names = ["<script>alert(1)</script>", "b", "c", "kind"]
    ax = Figure(figsize=(3.6, 3.8)).add_axes((0, 0, 1, 1))
    network(model([4, 2, 1], names=names), ax=ax)
    nodes: Any = labelled(ax, "_nodes 0")
    assert [text.get_position()[0] for text in ax.texts[:4]] == nodes.get_offsets()[:, 0].tolist()


def test_names_lie_inside_the_axes_and_apart(model):
    names = [f"ocean_proximity=PLACE {i}" for i in range(13)]
    ax = network(model([13, 6, 3], names=names))
    figure: Any = ax.figure
    renderer = figure.canvas.get_renderer()
    frame = ax.get_window_extent(renderer)
    for text in ax.texts:
        box = text.get_window_extent(renderer)
        assert box.x0 > frame.x0 - 1
        assert box.x1 < frame.x1 + 1
        assert box.y0 > frame.y0 - 1
        assert box.y1 < frame.y1 + 1


def test_a_large_network_is_drawn_in_seconds():
    net = KAN([784, 64, 10])
    store_statistics(net, torch.rand(64, 784))
    started = time.process_time()
    ax = network(net, kind="curves")
    assert time.process_time() - started < 5
    assert count(ax, "curves", 0) == count(ax, "curves", 1) == 60
    assert "layer 0: 60 of 50,176, 3,000 as lines" in texts(ax)[-1]
    assert pyplot.get_fignums() == [ax.figure.number]  # type: ignore[union-attr]


def test_a_wide_network_is_a_matrix_of_strengths_for_each_layer():
    net = KAN([30, 20, 2], output_names=["low", "$high"])
    with torch.no_grad():
        net.layers[0].mask[3, 4] = 0.0
    scores = [torch.rand(20, 30) + 0.1, torch.rand(2, 20) + 0.1]
    first, second, key = network(net, scores=scores).child_axes
    shown: Any = first.images[0].get_array()
    expected = (scores[0] * net.layers[0].mask).numpy()
    assert np.argwhere(shown.mask).tolist() == [[3, 4]]
    np.testing.assert_allclose(shown.filled(0), expected / expected.max(), rtol=1e-6)
    assert [one.get_text() for one in second.get_yticklabels()] == ["low", r"\$high"]
    assert (second.get_xlabel(), first.get_ylabel()) == ("20 nodes of level 1",) * 2
    assert [one.get_text() for one in first.get_xticklabels()][:2] == ["x1", "x2"]
    assert key.get_ylabel() == "strength / strongest of the layer"
    pyplot.close("all")
    ax = Figure(figsize=(4, 3)).subplots()
    assert len(network(KAN([2, 1]), kind="strengths", ax=ax).child_axes) == 2
    assert network(KAN([40, 20, 1]), top=3).child_axes == []  # curves, as asked for
    pyplot.close("all")
    with pytest.raises(InvalidValueError, match="kind to be one of auto, curves, strengths"):
        network(net, kind="matrix")


def test_errors_say_what_to_pass(model):
    net = model([2, 1])
    with pytest.raises(ShapeError, match=r"expected scores of shapes \(1, 2\), got \(2, 1\)"):
        network(net, scores=[np.ones((2, 1))])
    with pytest.raises(DataError, match="expected finite scores, got NaN or infinity"):
        network(net, scores=[np.array([[1.0, np.nan]])])
    with pytest.raises(DTypeError, match="expected ax to be an Axes or None, got list"):
        network(net, ax=[])  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="top to be a whole number of at least 0"):
        network(net, top=-1)
    assert pyplot.get_fignums() == []  # a refused call leaves no figure


@pytest.mark.slow  # draws pictures
def test_hidden_names_do_not_overlap_where_there_is_little_room():
    axes = Figure(figsize=(3.3, 3.3)).subplots()
    network(KAN([9, 8, 1]), ax=axes, hidden_names=True)
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    names = [text for text in axes.texts if text.get_text().startswith("h1_")]
    assert len(names) == 8
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in names]
    pairs = itertools.combinations(boxes, 2)
    assert not any(one.overlaps(other) for one, other in pairs)


@pytest.mark.parametrize("widths", [[6, 9, 3], [5, (3, 2), 2]])
def test_the_strongest_paths_are_numbered(widths, ax):
    net = made(widths)
    store_statistics(net, torch.rand(50, widths[0]).double())
    network(net, ax=ax, kind="strengths")
    sizes = [layer.statistics.edge_std.numpy() for layer in net.layers]  # type: ignore[union-attr]
    first, second = (size / size.max() for size in sizes)
    owner = net.nodes[0].owner.numpy()
    products = second[:, owner][:, :, None] * first[None]  # (output, sum, feature)
    best = np.dstack(np.unravel_index(np.argsort(-products, axis=None)[:5], products.shape))[0]
    panels = [panel for panel in ax.child_axes if panel.images]
    for rank, (out, hidden, in_) in enumerate(best, start=1):
        for panel, place in zip(panels, ((in_, hidden), (owner[hidden], out)), strict=True):
            (text,) = (one for one in panel.texts if one.get_position() == tuple(place))
            assert str(rank) in text.get_text().split(",")
