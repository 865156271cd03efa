"""Pictures of what flows through edges, and of interactions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle

import kanlens
from kanlens import plot
from kanlens.errors import InvalidValueError
from kanlens.plotting._interactions import _short, spread_apart
from kanlens.plotting._style import STYLE


@pytest.fixture
def found():
    g = torch.Generator().manual_seed(0)
    model = kanlens.KAN([3, (2, 1), 2], scale_noise=1.0, generator=g).double()
    x = torch.rand(6, 3, generator=g, dtype=torch.float64)
    return kanlens.attribute(model, x, method="secant", background=x[:3], target=1)


def bands(axes):
    return [patch for patch in axes.patches if isinstance(patch, PathPatch)]


def nodes(axes):
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def heights(axes):
    """Both ends of every band."""
    found = [band.get_path().vertices for band in bands(axes)]
    return np.array([[v[7, 1] - v[0, 1], v[4, 1] - v[3, 1]] for v in found])


def test_bands_are_as_wide_as_the_flows(found):
    axes = plot.attribution(found, kind="paths", ax=Figure().subplots())
    sizes = [flow.abs().mean(0) for flow in found.paths]
    sizes[0] = torch.cat([sizes[0][:2], found.paths[0][:, 2:].sum(1).abs().mean(0)[None]])
    sizes[1] = sizes[1][1:]
    order = sizes[0].sum(0).argsort(descending=True)
    expected = torch.cat([sizes[0][:, order].mT.flatten(), sizes[1].mT.flatten()]).numpy()
    leaving = heights(axes)[:, 0]
    scale = leaving[:9].sum() / expected[:9].sum()
    assert leaving[:9] == pytest.approx(expected[:9] * scale, rel=0.02)
    assert len(bands(axes)) == len(expected)
    assert len(nodes(axes)) == 3 + 3 + 1


def test_bands_stay_within_their_nodes(found):
    axes = plot.attribution(found, kind="paths", row=2, ax=Figure().subplots())
    for band in bands(axes):
        v = band.get_path().vertices
        for x, low, high in ((v[0, 0], v[0, 1], v[7, 1]), (v[3, 0], v[3, 1], v[4, 1])):
            inside = [
                node.get_y() - 1e-9 <= low and high <= node.get_y() + node.get_height() + 2e-3
                for node in nodes(axes)
                if abs(node.get_x() + node.get_width() / 2 - x) < 0.05
            ]
            assert any(inside)


def test_one_sample_has_signs(found):
    axes = plot.attribution(found, kind="paths", row=-1, ax=Figure().subplots())
    from matplotlib.colors import to_hex

    colors = {to_hex(band.get_facecolor()) for band in bands(axes)}
    assert colors <= {STYLE.positive, STYLE.negative}
    flows = torch.cat([found.paths[1][-1].flatten(), found.paths[0][-1, :2].flatten()])
    assert (STYLE.positive in colors) == bool((flows > 0).any())


def test_features_beyond_the_most_leave_together(found):
    axes = plot.attribution(found, kind="paths", top=1, ax=Figure().subplots())
    texts = [text.get_text() for text in axes.texts]
    assert "2 others" in texts
    assert "y2" in texts


def test_interactions_are_the_matrix(found):
    pairs = torch.arange(9.0).reshape(1, 3, 3).double()
    pairs = (pairs + pairs.mT).expand(6, 3, 3) * torch.linspace(-1, 1, 6)[:, None, None]
    result = dataclasses.replace(found, interactions=pairs)
    axes = plot.attribution(result, kind="interactions", ax=Figure().subplots())
    table = pairs.abs().mean(0)
    order = table.sum(1).argsort(descending=True)
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(table[order][:, order].numpy())
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [found.features[i] for i in order.tolist()]
    one = plot.attribution(result, kind="interactions", row=0, top=2, ax=Figure().subplots())
    shown = np.asarray(one.images[0].get_array())
    assert shown.shape == (2, 2)
    assert one.images[0].norm.vmin == -one.images[0].norm.vmax
    assert {text.get_text()[0] for text in one.texts} <= {"\N{MINUS SIGN}", "0"}


@pytest.mark.parametrize(
    ("kind", "method"), [("interactions", "interactions"), ("paths", "secant")]
)
def test_results_without_are_refused(found, kind, method):
    bare = dataclasses.replace(found, paths=None, owners=None, method="shapley")
    with pytest.raises(InvalidValueError, match=f"with {kind}, got one of method 'shapley'"):
        plot.attribution(bare, kind=kind)


def test_slopes_have_no_waterfall(found):
    slopes = dataclasses.replace(found, method="gradient", reference=found.reference * torch.nan)
    with pytest.raises(InvalidValueError, match=r"to draw a waterfall, got slopes \('gradient'\)"):
        plot.attribution(slopes, kind="waterfall", row=0)
    assert plot.attribution(slopes, kind="bar", ax=Figure().subplots()).patches


def test_names_beside_a_matrix_are_literal_and_rounding_is_nothing(found):
    pairs = torch.tensor([[2.0, 3e-17, 0.0], [3e-17, -1.0, 0.5], [0.0, 0.5, 0.0]]).double()
    result = dataclasses.replace(
        found, interactions=pairs.expand(6, 3, 3), target="price in $", unit="k$"
    )
    axes = plot.attribution(result, kind="interactions", row=0)
    label = axes.images[0].colorbar.ax.get_ylabel()
    assert label == r"interaction for price in \$ (k\$)"
    written = [text.get_text() for text in axes.texts]
    assert written == ["2", "0", "0", "0", "\N{MINUS SIGN}1", "0.5", "0", "0.5", "0"]
    pyplot.close(axes.figure)


@pytest.mark.parametrize("scale", [1e-7, 1e-2, 1.0, 1e3, 1e6])
def test_numbers_fit_into_their_cells(found, scale):
    pairs = scale * torch.tensor([[5.1, -1.24, 2e-4], [-1.24, 3.0, 0.07], [2e-4, 0.07, 1e-9]])
    result = dataclasses.replace(found, interactions=pairs.double().expand(6, 3, 3))
    axes = plot.attribution(result, kind="interactions", row=0, ax=Figure().subplots())
    texts = [text.get_text() for text in axes.texts]
    assert not any("e" in text for text in texts)
    assert max(map(len, texts)) <= 6


def test_numbers_in_cells_have_no_power_of_ten():
    minus = "\N{MINUS SIGN}"
    found = [_short(value, 5.1e4) for value in (5.1e4, -1.24e4, 300.0, 0.2)]
    assert found == ["5.1", f"{minus}1.2", "0.03", "0"]
    assert (_short(123.4, 250.0), _short(0.036, 0.05)) == ("123", "0.036")


def test_names_are_moved_apart_as_little_as_it_takes():
    np.testing.assert_allclose(spread_apart(np.array([1.0, 0.9, 0.1]), 0.3), [1.1, 0.8, 0.1])
