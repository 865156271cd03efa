"""Attributions sample by sample, drawn: what stands where."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kanlens.attribution.result import Attribution
from kanlens.errors import InvalidValueError, MethodError, ShapeError
from kanlens.plotting import attribution, to_svg
from kanlens.plotting.samples import strongest_partner
from tests.plotting.conftest import labelled, texts
from tests.plotting.test_attributions import found


@pytest.mark.parametrize("order", ["output", "cluster"])
def test_a_heatmap_has_every_value_and_the_outputs_above(order: str, ax: Axes) -> None:
    result = found(6, rows=40)
    attribution(result, kind="heatmap", top=4, order=order, ax=ax)
    table = np.asarray(ax.images[0].get_array())
    best = result.values.abs().mean(0).argsort(descending=True)
    (above,) = (panel for panel in ax.child_axes if panel.get_label() == "_output")
    shown = above.lines[0].get_ydata()
    picks = np.array([int((result.output - value).abs().argmin()) for value in shown])
    assert sorted(picks) == list(range(40))
    np.testing.assert_allclose(table[0], result.values[picks, best[0]])
    np.testing.assert_allclose(table[-1], result.values[picks][:, best[3:]].sum(1))
    rises = (np.diff(shown) >= 0).all()
    assert rises == (order == "output")
    if order == "cluster":  # neighbors are alike
        away = np.linalg.norm(np.diff(result.values[picks], axis=0), axis=1).mean()
        by_output = result.values[result.output.argsort()]
        assert away < 0.8 * np.linalg.norm(np.diff(by_output, axis=0), axis=1).mean()


def interacting() -> Attribution:
    result = found(4, rows=200)
    assert result.x is not None
    values = result.values.clone()
    values[:, 1] = (result.x[:, 1] - 0.5) * result.x[:, 3] + 2 * result.x[:, 1]
    return dataclasses.replace(result, values=values)


def test_dependence_is_colored_by_the_partner(ax: Axes) -> None:
    result = interacting()
    assert result.x is not None
    attribution(result, kind="dependence", feature="f1", ax=ax)
    points: Any = labelled(ax, "_samples")
    np.testing.assert_allclose(points.get_offsets()[:, 0], result.x[:, 1])
    np.testing.assert_allclose(points.get_offsets()[:, 1], result.values[:, 1])
    np.testing.assert_allclose(points.get_array(), result.x[:, 3])
    assert ax.get_xlabel() == "f1"
    assert ax.get_ylabel() == "contribution to strength (MPa)"
    pairs = torch.zeros(200, 4, 4).double()
    pairs[:, 1, 1], pairs[:, 1, 2], pairs[:, 1, 3] = 9.0, 0.5, 0.1
    exact = dataclasses.replace(result, interactions=pairs)
    assert strongest_partner(exact, result.x.numpy(), 1) == 2  # main effects do not count
    other = attribution(result, kind="dependence", feature=1, other="f0", ax=ax).collections[-1]
    np.testing.assert_allclose(other.get_array(), result.x[:, 0])


def test_an_image_has_the_pixels_beside_their_values(ax: Axes) -> None:
    result = found(24, rows=5)
    assert result.x is not None
    attribution(result, kind="image", row=2, shape=(2, 4, 3), ax=ax)
    left, right = (panel.images[0].get_array() for panel in ax.child_axes)
    assert left.shape == (2, 4, 3)
    np.testing.assert_allclose(right, result.values[2].view(2, 4, 3).sum(2))
    with pytest.raises(ShapeError, match=r"expected shape .* of 24 features, got \(3, 3\)"):
        attribution(result, kind="image", shape=(3, 3), ax=ax)


@pytest.mark.parametrize("row", [None, 2])
def test_images_of_one_sample_and_of_all(row: int | None, ax: Axes) -> None:
    result = found(12, rows=5)
    assert result.x is not None
    attribution(result, kind="image", row=row, shape=(3, 4), ax=ax)
    left, right = (np.asarray(panel.images[0].get_array()) for panel in ax.child_axes)
    wanted = result.values.abs().mean(0) if row is None else result.values[row]
    np.testing.assert_allclose(right, wanted.view(3, 4))
    pixels = (result.x.mean(0) if row is None else result.x[row]).view(3, 4).numpy()
    assert np.corrcoef(left.ravel(), pixels.ravel())[0, 1] > 1 - 1e-9
    assert [panel.get_title() for panel in ax.child_axes] == (
        ["mean sample", "mean |value|"] if row is None else ["sample", "value"]
    )


def test_a_single_sample_need_not_be_named() -> None:
    alone = found()
    parts = {name: getattr(alone, name)[:1] for name in ("values", "reference", "output", "x")}
    alone = dataclasses.replace(alone, **parts)
    drawn = [
        attribution(alone, kind="waterfall", ax=Figure().subplots(), row=row) for row in (None, 0)
    ]
    assert texts(drawn[0]) == texts(drawn[1]) != []


def test_errors_of_samples(ax: Axes) -> None:
    slopes = dataclasses.replace(found(), reference=torch.full((60,), torch.nan))
    with pytest.raises(InvalidValueError, match="shares of a change to draw a waterfall"):
        attribution(slopes, kind="waterfall", row=0, ax=ax)
    with pytest.raises(InvalidValueError, match="expected row, a sample from 0 to 59, got None"):
        attribution(found(), kind="waterfall", ax=ax)
    with pytest.raises(InvalidValueError, match="expected feature, a name or an index below 4"):
        attribution(found(), kind="dependence", ax=ax)
    with pytest.raises(MethodError, match="expected samples beside the values, got none"):
        attribution(dataclasses.replace(found(), x=None), kind="dependence", feature=0, ax=ax)
    with pytest.raises(InvalidValueError, match="expected order to be one of cluster, output"):
        attribution(found(), kind="heatmap", order="size", ax=ax)


@pytest.mark.parametrize("kind", ["dependence", "heatmap", "image", "waterfall"])
def test_one_constant_sample_with_a_hostile_name_is_drawn(kind: str, ax: Axes) -> None:
    name = r"$\frac{x}{$ <b>&_^"
    single = dataclasses.replace(
        found(1, rows=1),
        values=torch.zeros(1, 1).double(),
        x=torch.zeros(1, 1).double(),
        features=(name,),
        target=name,
        unit=name,
    )
    attribution(single, kind=kind, row=0, feature=0, order="cluster", shape=(1, 1), ax=ax)
    assert to_svg(ax).startswith("<svg")
