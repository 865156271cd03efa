from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kanlens.plotting._layout import CROWD, LINE, arrange, place_labels


def dense(widths, most=10**6):
    shown = [np.ones(n, dtype=bool) for n in widths]
    edges = []
    for below, above in itertools.pairwise(widths):
        out, in_ = np.divmod(np.arange(below * above), below)
        edges.append((out[:most], in_[:most]))
    return arrange(shown, edges)


def overlaps(boxes):
    """Number of pairs of boxes that share some area."""
    gap = np.abs(boxes.centers[:, None] - boxes.centers[None]) - boxes.size
    pairs = (gap < -1e-9).all(2)
    return int(np.triu(pairs, 1).sum())


@given(st.lists(st.integers(1, 8), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_boxes_never_overlap_and_stay_inside(widths, seed):
    random = np.random.default_rng(seed)
    shown = [np.ones(n, dtype=bool) for n in widths]
    edges = []
    for below, above in itertools.pairwise(widths):
        alive = random.random((above, below)) < random.random()
        edges.append(np.nonzero(alive))
    layout = arrange(shown, edges)
    for index, boxes in enumerate(layout.boxes):
        assert overlaps(boxes) == 0
        assert len(boxes.out) == len(edges[index][0])
        if len(boxes.out):
            half = boxes.size / 2
            assert boxes.centers[:, 0].min() - half > -1e-9
            assert boxes.centers[:, 0].max() + half < layout.width + 1e-9
            below, above = layout.nodes[index][0, 1], layout.nodes[index + 1][0, 1]
            assert below < boxes.ends[0] < boxes.ends[1] < above


@pytest.mark.parametrize("widths", [[4, 5, 1], [13, 6, 3], [8, 5, 1], [6, 10, 10, 2]])
def test_sixty_edges_have_legible_boxes(widths):
    layout = dense(widths)
    assert layout.width <= 9.0
    assert all(overlaps(boxes) == 0 for boxes in layout.boxes)
    assert min(boxes.size for boxes in layout.boxes) > 0.19


def test_boxes_stand_over_their_input_in_order():
    layout = dense([3, 4, 1])
    boxes = layout.boxes[0]
    for i in range(3):
        own = boxes.centers[boxes.in_ == i, 0]
        assert own.mean() == pytest.approx(layout.nodes[0][i, 0])
    assert (np.diff(boxes.centers[:, 0]) > 0).all()


def test_a_given_size_is_filled():
    shown = [np.ones(2, dtype=bool), np.ones(1, dtype=bool)]
    edges = [(np.array([0, 0]), np.array([0, 1]))]
    layout = arrange(shown, edges, width=2.0, height=1.5)
    assert (layout.width, layout.height) == (2.0, 1.5)
    assert layout.nodes[1][0].tolist() == [1.0, 1.5]


def test_a_crowd_is_an_even_row():
    layout = dense([CROWD + 1, 1], most=7)
    x = layout.nodes[0][:, 0]
    assert np.allclose(np.diff(x), np.diff(x)[0])
    assert overlaps(layout.boxes[0]) == 0


def test_names_side_by_side_slanted_or_upright():
    def angle(x, name):
        at = np.array(x)
        names = [(name, "")] * len(x)
        width = x[-1] + x[0]
        return place_labels(at, names, np.ones(len(x)), width=width, side=-1).angle

    assert angle([1.0, 3.0], "short") == 0
    assert angle([1.5, 2.0, 2.5, 3.0, 3.5], "a longer name") == 40
    assert angle([0.2, 0.4, 0.6], "a longer name") == 90


def test_where_names_do_not_fit_the_strongest_have_theirs():
    x = np.linspace(0, 3, 200)
    strength = np.zeros(200)
    strength[57] = 1
    names = [(f"x{i}", "") for i in range(200)]
    labels = place_labels(x, names, strength, width=3.0, side=-1)
    assert 57 in labels.nodes
    assert np.diff(labels.x).min() > LINE
    assert labels.texts[labels.nodes.tolist().index(57)] == "x57"


def test_names_too_long_lose_their_unit_then_their_middle():
    x = np.array([0.5, 0.8, 1.1])
    names = [("blast furnace slag", "kg/m3"), ("age", "days"), ("ocean_proximity=NEAR BAY", "")]
    labels = place_labels(x, names, np.ones(3), width=1.6, side=-1, room=1.2)
    assert labels.texts[1] == "age (days)"
    assert labels.texts[0].startswith("blast")
    assert "kg" not in labels.texts[0]
    assert labels.texts[2].endswith("BAY")
    assert labels.height < 1.3
