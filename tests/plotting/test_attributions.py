from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib import pyplot
from matplotlib.figure import Figure

import kanlens
from kanlens.attribution._compare import Comparison
from kanlens.attribution._result import Attribution, Importance
from kanlens.errors import DTypeError, InvalidValueError, ShapeError
from kanlens.plotting import attribution, comparison
from kanlens.plotting._attributions import swarm
from kanlens.plotting._formats import number
from tests.plotting.conftest import labelled, texts


def found(features=4, rows=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.arange(features, 0, -1).double()
    values = torch.randn(rows, features, generator=generator, dtype=torch.float64) * sizes
    return Attribution(
        values=values,
        output=values.sum(1) + 2.0,
        reference=torch.full((rows,), 2.0, dtype=torch.float64),
        baseline="mean output over the background",
        method="shapley",
        features=tuple(f"f{i}" for i in range(features)),
        target="strength",
        unit="MPa",
        x=torch.rand(rows, features, generator=generator, dtype=torch.float64),
    )


def rows_of(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_bars_are_means_with_intervals_strongest_first(ax):
    result = found()
    assert attribution(result, ax=ax) is ax
    importance = result.to_importance()
    order = importance.values.argsort(descending=True)
    assert rows_of(ax) == [f"f{int(i)}" for i in order]
    widths = [patch.get_width() for patch in ax.patches]
    np.testing.assert_allclose(widths, importance.values[order].numpy())
    lines: Any = labelled(ax, "_intervals")
    ends = np.array([segment[:, 0] for segment in lines.get_segments()])
    np.testing.assert_allclose(ends[:, 0], importance.low[order].numpy())
    assert ax.get_xlabel() == "mean |value| for strength (MPa)"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is on top


def test_the_rest_is_one_row(ax):
    result = found(30)
    attribution(result, top=5, ax=ax)
    assert rows_of(ax)[-1] == "26 others"
    assert len(ax.patches) == 5
    rest = result.to_importance().values.sort(descending=True).values[4:].sum()
    assert ax.patches[-1].get_width() == pytest.approx(float(rest))
    few = attribution(found(3), top=2, ax=Figure().subplots())
    assert rows_of(few) == ["f0", "2 others"]


def test_beeswarm_has_every_sample_at_its_value(ax):
    result = found(25)
    attribution(result, kind="beeswarm", ax=ax)
    assert len(rows_of(ax)) == 20
    order = result.values.abs().mean(0).argsort(descending=True)
    first: Any = labelled(ax, "_swarm 0")
    np.testing.assert_allclose(first.get_offsets()[:, 0], result.values[:, order[0]].numpy())
    last: Any = labelled(ax, "_swarm 19")
    rest = result.values[:, order[19:]].sum(1).numpy()
    np.testing.assert_allclose(last.get_offsets()[:, 0], rest)
    assert np.abs(np.asarray(last.get_offsets())[:, 1] - 19).max() <= 0.38 + 1e-9
    ranks = np.argsort(np.argsort(result.x[:, order[0]].numpy()))  # type: ignore[index]
    assert (np.argsort(first.get_array()) == np.argsort(ranks)).all()
    assert labelled(ax, "_color key") is not None


def test_beeswarm_without_samples_has_one_color(ax):
    attribution(dataclasses.replace(found(), x=None), kind="beeswarm", ax=ax)
    first: Any = labelled(ax, "_swarm 0")
    assert first.get_array() is None
    assert not ax.child_axes


def test_a_large_swarm_is_thinned_and_says_so(ax):
    attribution(found(3, rows=5001), kind="beeswarm", ax=ax)
    first: Any = labelled(ax, "_swarm 0")
    assert len(first.get_offsets()) == 2000
    assert first.get_rasterized()
    assert "2,000 of 5,001 samples" in texts(ax)


@given(arrays(float, st.integers(1, 200), elements=st.floats(-10, 10, width=16)))
def test_points_of_a_swarm_never_coincide(values):
    offsets = swarm(values, float(np.ptp(values)))
    assert np.abs(offsets).max() <= 0.38 + 1e-12
    places = np.stack([values, offsets], axis=1)
    assert len(np.unique(places, axis=0)) == len(places)


def test_waterfall_leads_from_reference_to_output(ax):
    result = found(6)
    attribution(result, kind="waterfall", row=np.int64(3), ax=ax)  # type: ignore[arg-type]
    assert len(ax.patches) == 6  # and no gap
    bars = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert bars[-1][0] == pytest.approx(2.0)
    assert bars[0][0] + bars[0][1] == pytest.approx(float(result.output[3]))
    for upper, lower in itertools.pairwise(bars):
        assert upper[0] == pytest.approx(lower[0] + lower[1])
    sizes = [abs(width) for _, width in bars]
    assert sizes == sorted(sizes, reverse=True)
    strongest = int(result.values[3].abs().argmax())
    assert rows_of(ax)[0] == f"f{strongest} = {float(result.x[3, strongest]):.4g}"
    assert any(text.startswith("output") for text in texts(ax))
    assert ax.get_xlabel() == "strength (MPa)"


def test_waterfall_shows_what_is_not_explained(ax):
    result = found(4)
    short = dataclasses.replace(result, values=result.values * 0.9)
    attribution(short, kind="waterfall", row=-1, ax=ax)
    assert rows_of(ax)[-1] == "not explained (gap)"
    gap = float(short.completeness_gap[-1])
    assert ax.patches[-1].get_width() == pytest.approx(gap)
    last, first = ax.patches[-1], ax.patches[0]
    assert last.get_x() == pytest.approx(2.0)
    assert first.get_x() + first.get_width() == pytest.approx(float(short.output[-1]))


def test_names_are_literal(ax):
    result = dataclasses.replace(found(1), features=("$x_{1",), target="a$b$")
    attribution(result, ax=ax)
    assert rows_of(ax) == [r"\$x_{1"]
    assert r"a\$b\$" in ax.get_xlabel()


def test_errors_of_attribution():
    text = re.escape("got 'force'. Use shap.plots.force(e) with e = result.to_shap().")
    with pytest.raises(InvalidValueError, match=text):
        attribution(found(), kind="force")
    with pytest.raises(InvalidValueError, match="interactions, paths, waterfall, got 'bars'"):
        attribution(found(), kind="bars")
    with pytest.raises(InvalidValueError, match="expected row, a sample from 0 to 59, got None"):
        attribution(found(), kind="waterfall")
    with pytest.raises(InvalidValueError, match="for kind='beeswarm', got an Importance"):
        attribution(found().to_importance(), kind="beeswarm")
    with pytest.raises(DTypeError, match="expected an Attribution or an Importance, got Tensor"):
        attribution(torch.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"expected x of shape \(60, 4\), got \(60, 3\)"):
        attribution(found(), kind="beeswarm", x=np.zeros((60, 3)))
    words = pd.DataFrame({f"f{i}": ["red"] * 60 for i in range(4)})
    with pytest.raises(DTypeError, match="x as numbers, got a DataFrame of other cells"):
        attribution(found(), kind="beeswarm", x=words)
    with pytest.raises(DTypeError, match="expected a Comparison, got Attribution"):
        comparison(found())
    assert pyplot.get_fignums() == []


def made(methods=8, features=13):
    random = np.random.default_rng(0)
    names = [f"captum_method_{i}" for i in range(methods)]
    index = pd.Index([f"ocean_proximity={i}" for i in range(features)], name="feature")
    table = pd.DataFrame(random.random((features, methods)), index=index, columns=names)
    frame = pd.DataFrame(
        {
            "method": names,
            "shapley_error": np.linspace(0, 1, methods),
            "relative_gap": [1e-16] * methods,
        }
    )
    first = dataclasses.replace(found(features), features=tuple(index))
    return Comparison(
        attributions={names[0]: first},
        frame=frame,
        importance=table,
        arrows={"shapley_error": "↓", "relative_gap": "↓"},
        agreement=pd.DataFrame(),
        scores={},
        skipped={},
    )


def test_comparison_has_a_marker_per_method_and_feature(ax):
    result = made()
    assert comparison(result, ax=ax) is ax
    order = result.importance.mean(axis=1).sort_values(ascending=False).index
    assert rows_of(ax) == list(order)
    for method in result.importance:
        marks: Any = labelled(ax, method)
        np.testing.assert_allclose(marks.get_offsets()[:, 0], result.importance.loc[order, method])
        assert np.abs(np.asarray(marks.get_offsets())[:, 1] - np.arange(13)).max() < 0.5
    assert ax.get_xlabel() == "mean |value| for strength (MPa)"


def legend_of(ax):
    legend = ax.get_legend()
    return [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]


def test_the_legend_names_methods_and_their_numbers(ax):
    comparison(made(3), ax=ax)
    title, *lines = legend_of(ax)
    assert title == "method (error, gap)"
    assert lines[1] == f"captum_method_1 (0.50, {number(1e-16, 2)})"


def test_a_method_that_dwarfs_the_others_is_cut_and_named(ax):
    result = made(4)
    comparison(result, ax=ax)
    whole, title = ax.get_xlim()[1], ax.get_title(loc="right")
    assert title == ""
    table = result.importance.copy()
    table["captum_method_2"] *= 100
    comparison(dataclasses.replace(result, importance=table), ax=ax)
    assert ax.get_title(loc="right") == "captum_method_2 in part beyond the right end"
    others = table.drop(columns="captum_method_2").to_numpy().max()
    assert others < ax.get_xlim()[1] <= max(1.2 * others, whole)


def test_unknown_numbers_are_left_out(ax):
    result = made(2)
    frame = result.frame.assign(shapley_error=float("nan"))
    comparison(dataclasses.replace(result, frame=frame), ax=ax)
    assert legend_of(ax)[:2] == ["method (gap)", f"captum_method_0 ({number(1e-16, 2)})"]


def test_the_legend_is_in_the_figure_and_covers_nothing():
    ax = comparison(made())
    figure: Any = ax.figure
    figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert ax.get_window_extent().x1 <= box.x0 < box.x1 <= figure.bbox.x1
    assert min(label.get_window_extent().x0 for label in ax.get_yticklabels()) > 0


def test_twenty_methods_still_differ(ax):
    result = made(20)
    comparison(result, ax=ax)
    looks = set()
    for method in result.importance:
        marks: Any = labelled(ax, method)
        looks.add((tuple(marks.get_facecolor()[0]), marks.get_paths()[0].vertices.tobytes()))
    assert len(looks) == 20


def test_importance_can_be_any_method(ax):
    importance = Importance(
        values=torch.tensor([0.2, 0.7]), meaning="Sobol index", method="sobol",
        features=("a", "b"), target="y",
    )  # fmt: skip
    attribution(importance, ax=ax)
    assert ax.get_xlabel() == "Sobol index for y"
    assert not ax.collections  # no intervals
    what = "Share of the output's variance that a feature explains alone"
    attribution(dataclasses.replace(importance, meaning=what), ax=ax)
    assert ax.get_xlabel() == f"{what}\nfor y"


@pytest.mark.slow  # draws pictures
def test_slopes_are_no_contributions(ax):
    steep = dataclasses.replace(found(), reference=torch.full((60,), torch.nan))
    assert attribution(steep, kind="beeswarm", ax=ax).get_xlabel() == "value for strength"
    whole = attribution(found(), kind="beeswarm", ax=pyplot.figure().subplots())
    assert whole.get_xlabel() == "contribution to strength (MPa)"


def test_a_single_row_leaves_room_for_the_key_of_colors():
    axes = attribution(found(1), kind="beeswarm")
    figure: Any = axes.figure
    figure.canvas.draw()
    key = next(child for child in axes.child_axes if child.get_label() == "_color key")
    high = max(label.get_window_extent().y0 for label in key.get_yticklabels())
    low = min(label.get_window_extent().y1 for label in key.get_yticklabels())
    assert low < key.yaxis.label.get_window_extent().y0
    assert key.yaxis.label.get_window_extent().y1 < high
    pyplot.close(figure)


def test_what_importance_returns_is_drawn():
    rows = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    frame = kanlens.importance(kanlens.KAN([2, 3, 2]), rows, background=rows)
    part = frame[frame["output"] == "y2"]
    axes = attribution(part, ax=Figure().subplots())
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(part["importance"].tolist())
    assert axes.get_xlabel() == "importance for y2"
    for wrong, kind, text in (
        (frame, InvalidValueError, "the rows of one output, got 2"),
        (frame[:0], InvalidValueError, "the rows of one output, got none"),
        (frame[["feature"]], DTypeError, "columns 'output', 'feature'"),
    ):
        with pytest.raises(kind, match=text):
            attribution(wrong)
    with pytest.raises(InvalidValueError, match="for kind='beeswarm'"):
        attribution(part, kind="beeswarm")


def test_large_numbers_are_written_out():
    values, start = torch.tensor([[-54012.0, 1234567.0]]), torch.tensor([130833.0])
    numbers = {"values": values, "reference": start, "output": values.sum(1) + start}
    x = torch.tensor([[0.5, 12000.0]])
    result = dataclasses.replace(found(2), features=("a", "b"), x=x, **numbers)
    axes = attribution(result, kind="waterfall", row=0, ax=Figure().subplots())
    texts = [text.get_text().strip() for text in axes.texts]
    minus = "\N{MINUS SIGN}"
    assert f"{minus}54,012" in texts
    assert "reference 130,833" in texts
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b = 12,000", "a = 0.5000"]
    axes.figure.canvas.draw()
    assert axes.xaxis.get_offset_text().get_text() == ""
    assert "200,000" in [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize("sign", [1, -1])
def test_ends_of_a_waterfall_stand_beside_the_lines_of_its_axes(sign):
    result = found(5)
    values = sign * result.values[:1].abs()
    steep = dataclasses.replace(result, values=values, output=values.sum(1) + 2, x=result.x[:1])  # type: ignore[index]
    axes = attribution(steep, kind="waterfall", row=0)
    figure: Any = axes.figure
    figure.canvas.draw()
    place = axes.get_window_extent()
    ends = [one for one in axes.texts if one.get_text().startswith(("output", "reference"))]
    assert len(ends) == 2
    for box in (one.get_window_extent() for one in ends):
        assert place.x0 + 2 < box.x0 < box.x1 < place.x1
        assert place.y0 + 2 < box.y0 < box.y1 < place.y1
    pyplot.close(figure)


def test_codes_have_their_labels(ax):
    result = found(4, rows=1)
    coded = dataclasses.replace(
        result,
        features=("plan=basic", "plan=pro", "sex", "visits"),
        levels=dict.fromkeys(("plan=basic", "plan=pro"), ("no", "yes")) | {"sex": ("f", "m")},
        x=torch.tensor([[0.0, 1.0, 1.0, 0.0]]),
    )
    attribution(coded, kind="waterfall", ax=ax)
    shown = {*rows_of(ax), *texts(ax)}
    assert {"plan=basic: no", "plan=pro: yes", "sex: m", "visits = 0"} <= shown
