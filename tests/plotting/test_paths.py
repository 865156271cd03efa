from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from kanlens.errors import DataError, ShapeError
from kanlens.plotting import history, path, predicted, pruning
from tests.plotting.conftest import labelled, texts


def pruned(edges, losses):
    return SimpleNamespace(curve=pd.DataFrame({"edges_left": [10, *edges], "loss": [0.1, *losses]}))


def test_pruning_starts_with_the_whole_model(ax):
    assert pruning(pruned([9, 8, 4], [0.1, 0.12, 0.2]), ax=ax) is ax
    line: Any = labelled(ax, "loss")
    np.testing.assert_allclose(line.get_xdata(), [10, 9, 8, 4])
    np.testing.assert_allclose(line.get_ydata(), [0.1, 0.1, 0.12, 0.2])
    assert ax.xaxis_inverted()
    assert ax.get_yscale() == "linear"
    assert texts(ax) == ["4 edges, loss 0.2"]


def test_pruning_takes_a_frame_and_a_wide_range(ax):
    pruning(pd.DataFrame({"edges_left": [3, 2], "loss_after": [1e-6, 0.1]}), ax=ax)
    assert ax.get_yscale() == "log"


def test_pruning_refuses_what_it_cannot_draw():
    with pytest.raises(DataError, match="a frame with edges_left and loss_after, got columns a"):
        pruning(pd.DataFrame({"a": [1]}))
    with pytest.raises(DataError, match="expected rows of edges_left and loss_after, got none"):
        pruning(pd.DataFrame({"edges_left": [], "loss_after": []}))
    with pytest.raises(DataError, match="got a list"):
        pruning([1, 2])
    assert pyplot.get_fignums() == []


def test_history_draws_both_losses_and_the_best_step(ax):
    frame = pd.DataFrame(
        {"step": [1, 2, 3], "loss": [1.0, 0.1, 0.01], "validation_loss": [1.0, 0.2, 0.3]}
    )
    result = SimpleNamespace(to_frame=lambda: frame, best_step=2)
    assert history(result, ax=ax) is ax
    held: Any = labelled(ax, "held-out rows")
    np.testing.assert_allclose(held.get_ydata(), [1.0, 0.2, 0.3])
    best: Any = labelled(ax, "_best")
    assert best.get_xdata()[0] == 2
    assert ax.get_yscale() == "log"
    assert ax.get_legend() is not None


def test_history_without_held_out_rows_needs_no_legend(ax):
    frame = pd.DataFrame({"step": [1, 2], "loss": [1.0, 0.9], "validation_loss": [np.nan] * 2})
    history(frame, ax=ax)
    assert len(ax.lines) == 1
    assert ax.get_legend() is None


def test_predictions_lie_on_one_square_range(ax):
    y = np.array([1.0, 2.0, 4.0])
    assert predicted(y, y[:, None] + 0.5, name="depth", unit="m", ax=ax) is ax
    assert ax.get_xlim() == ax.get_ylim()
    points: Any = ax.collections[0]
    np.testing.assert_allclose(points.get_offsets(), np.stack([y, y + 0.5], axis=1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("true depth (m)", "predicted depth (m)")


def test_predictions_that_are_not_finite_are_counted(ax):
    predicted([1.0, 2.0, 3.0], [1.0, np.nan, np.inf], ax=ax)
    assert texts(ax) == ["2 not finite"]
    with pytest.raises(
        DataError, match=r"plot\.predicted: expected a row with a finite true and predicted value"
    ):
        predicted([1.0], [np.nan])
    assert pyplot.get_fignums() == []


def test_confusion_counts_every_row(ax):
    predicted([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0], class_labels=["a", "$b", "c"], ax=ax)
    assert texts(ax) == ["1", "1", "0", "0", "1", "0", "1", "0", "2"]
    shares = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shares.sum(1), 1.0)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", r"\$b", "c"]


def test_predicted_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match="expected y and prediction of equal length, got 2 and 1"):
        predicted([1, 2], [1])
    with pytest.raises(DataError, match=r"expected class codes from 0 to 1, got 0\.5"):
        predicted([0, 1], [0.5, 1], class_labels=["a", "b"])
    assert pyplot.get_fignums() == []


def test_a_path_has_errors_and_a_ring_at_the_best(ax):
    steps = {
        "edges_above": [9, 5, 2],
        "held_out_loss": [0.1, 0.11, 0.5],
        "best": [False, True, False],
    }
    assert path(pd.DataFrame(steps).assign(standard_error=[0.02, 0.03, 0.04]), ax=ax) is ax
    (bars,) = ax.containers
    (segments,) = bars.lines[2]
    ends = np.array([segment[:, 1] for segment in segments.get_segments()])
    np.testing.assert_allclose(ends, [[0.08, 0.12], [0.08, 0.14], [0.46, 0.54]])
    ring: Any = labelled(ax, "_best")
    assert (ring.get_xdata().tolist(), ring.get_ydata().tolist()) == ([5], [0.11])
    assert ax.xaxis_inverted()
    with pytest.raises(DataError, match=r"plot\.path: expected a frame with edges_above"):
        path(pd.DataFrame({"a": [1]}))
