"""Attribution and Importance: numbers in, tables out."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
import torch

from kanlens.attribution import Attribution
from kanlens.errors import MissingDependencyError


@pytest.fixture
def attribution():
    return Attribution(
        values=torch.tensor([[1.0, -2.0, 4.0], [3.0, 0.5, -1.0]], dtype=torch.float64),
        output=torch.tensor([4.0, 3.0], dtype=torch.float64),
        reference=torch.tensor([0.5, 0.5], dtype=torch.float64),
        baseline="mean output over the background",
        method="secant",
        features=("a", "b", "c"),
        target="y",
        unit="m",
    )


def test_the_gap_is_what_values_leave_unexplained(attribution):
    expected = torch.tensor([0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(attribution.completeness_gap, expected)
    relative = 0.5 / (3.5 + 1e-3 * 0.5)
    torch.testing.assert_close(attribution.relative_gap, torch.tensor([relative, 0.0]).double())

    still = dataclasses.replace(
        attribution, values=0 * attribution.values, output=attribution.reference
    )
    assert still.relative_gap.tolist() == [0.0, 0.0]


class Explanation(types.SimpleNamespace):
    def __init__(self, values, **parts):
        super().__init__(values=values, **parts)


@pytest.mark.parametrize("samples", [None, torch.ones(2, 3)])
def test_shap_gets_the_numbers_and_their_names(attribution, samples, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", types.SimpleNamespace(Explanation=Explanation))
    found = dataclasses.replace(attribution, x=samples).to_shap()
    np.testing.assert_array_equal(found.values, attribution.values.numpy())
    np.testing.assert_array_equal(found.base_values, [0.5, 0.5])
    assert found.data is None if samples is None else (found.data == 1).all()
    assert (found.feature_names, found.output_names) == (["a", "b", "c"], "y")


def test_without_shap_one_line_says_so(attribution, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingDependencyError, match="expected the package shap, got none"):
        attribution.to_shap()


def test_shap_draws_it(attribution):
    shap = pytest.importorskip("shap", reason="shap is no dependency")
    explanation = dataclasses.replace(attribution, x=torch.ones(2, 3)).to_shap()
    assert isinstance(explanation, shap.Explanation)
    shap.plots.decision(explanation.base_values[0], explanation.values, show=False)
    assert "html" in dir(shap.plots.force(explanation))


def test_frame_has_one_row_per_sample(attribution):
    frame = attribution.to_frame()
    assert frame.columns.tolist() == ["a", "b", "c", "output", "reference", "completeness_gap"]
    assert frame["b"].tolist() == [-2.0, 0.5]
    assert frame["completeness_gap"].tolist() == [0.5, 0.0]


def test_a_feature_called_output_keeps_its_name(attribution):
    frame = dataclasses.replace(attribution, features=("output", "b", "output_")).to_frame()
    assert frame.columns.tolist()[:4] == ["output", "b", "output_", "output__"]
    assert frame["output"].tolist() == [1.0, 3.0]
    assert frame["output__"].tolist() == [4.0, 3.0]


def test_json_holds_the_numbers(attribution):
    data = json.loads(attribution.to_json())
    assert data["values"] == [[1.0, -2.0, 4.0], [3.0, 0.5, -1.0]]
    assert data["completeness_gap"] == [0.5, 0.0]
    assert data["standard_error"] is None
    assert (data["method"], data["target"], data["unit"]) == ("secant", "y", "m")
    error = dataclasses.replace(attribution, standard_error=attribution.values.abs())
    assert json.loads(error.to_json())["standard_error"][0] == [1.0, 2.0, 4.0]


def test_importance_is_the_mean_size_with_an_interval(attribution):
    found = attribution.to_importance()
    torch.testing.assert_close(found.values, torch.tensor([2.0, 1.25, 2.5]).double())
    # |1|, |3|: standard error 1, no skewness, Student's quantile of one degree of freedom
    assert float(found.low[0]) == 0.0
    assert float(found.high[0]) == pytest.approx(2.0 + 12.706204736, rel=1e-9)
    assert (found.meaning, found.method, found.unit) == ("mean |value|", "secant", "m")


def test_one_sample_has_no_interval(attribution):
    one = dataclasses.replace(attribution, values=attribution.values[:1])
    found = one.to_importance()
    assert (found.low, found.high) == (None, None)
    assert found.to_frame()["importance"].tolist() == [1.0, 2.0, 4.0]


def test_importance_tables(attribution):
    found = attribution.to_importance()
    assert found.to_frame().columns.tolist() == ["feature", "importance", "low", "high"]
    assert found.to_frame()["high"].tolist() == found.high.tolist()
    assert json.loads(found.to_json())["low"] == found.low.tolist()
    bare = dataclasses.replace(found, low=None, high=None)
    assert json.loads(bare.to_json())["high"] is None
    assert bare.to_frame()[["low", "high"]].isna().all(axis=None)


def test_one_hot_columns_are_summed(attribution):
    grouped = dataclasses.replace(
        attribution, groups={"kind": (0, 2)}, standard_error=attribution.values
    ).grouped()
    assert grouped.features == ("kind", "b")
    assert grouped.values.tolist() == [[5.0, -2.0], [2.0, 0.5]]
    assert grouped.completeness_gap.tolist() == [0.5, 0.0]
    assert grouped.groups == {}
    assert grouped.standard_error is None
    assert attribution.grouped() is attribution


def test_bounds_interactions_and_flows_of_one_hot_columns_are_summed(attribution):
    pairs = torch.tensor([[[1.0, 4.0, 6.0], [4.0, 2.0, 5.0], [6.0, 5.0, 3.0]]]).repeat(2, 1, 1)
    flow = torch.arange(12.0).reshape(2, 2, 3).double()
    grouped = dataclasses.replace(
        attribution,
        groups={"kind": (0, 2)},
        bound=attribution.values.abs(),
        interactions=pairs.double(),
        paths=(flow, flow[:, :1, :2]),
    ).grouped()
    assert grouped.bound[0].tolist() == [5.0, 2.0]
    assert grouped.interactions[0].tolist() == [[1 + 3 + 6, 9.0], [9.0, 2.0]]
    assert grouped.paths[0][0].tolist() == [[2.0, 1.0], [8.0, 4.0]]
    assert torch.equal(grouped.paths[1], flow[:, :1, :2])
    data = json.loads(grouped.to_json())
    assert data["interactions"][0][0] == [10.0, 9.0]
    assert data["paths"][0][0] == [[2.0, 1.0], [8.0, 4.0]]


def test_slopes_are_no_shares_and_have_not_the_unit_of_the_output(attribution):
    assert attribution.shares
    assert attribution.to_importance().unit == "m"
    steep = dataclasses.replace(attribution, reference=attribution.reference * torch.nan)
    assert not steep.shares
    assert steep.to_importance().unit == ""
