"""Importance of features for all outputs at once."""

import dataclasses
import re

import pytest

from kanlens.attribution import attribute
from kanlens.attribution._attribute import importance
from kanlens.errors import InvalidValueError


def test_every_output_is_ranked(network, draw):
    model, x, rows = network([3, 2, 2]), draw(6, 3), draw(4, 3, seed=2)
    frame = importance(model, x, background=rows)
    assert frame.columns.tolist() == ["output", "feature", "importance", "low", "high", "unit"]
    assert frame["output"].tolist() == ["y1"] * 3 + ["y2"] * 3
    for output, part in frame.groupby("output"):
        found = attribute(model, x, background=rows, target=output).to_importance()
        expected = found.to_frame().set_index("feature").loc[part["feature"]]
        assert part["importance"].tolist() == expected["importance"].tolist()
        assert part["low"].tolist() == expected["low"].tolist()
        assert part["importance"].is_monotonic_decreasing
    one = importance(model, x, background=rows, target="y2")
    assert one["importance"].tolist() == frame["importance"].tolist()[3:]


def test_one_hot_columns_count_together(network, draw):
    model, x = network([3, 2, 1]), draw(6, 3)
    features = [dataclasses.replace(item, column="kind") for item in model.schema.features[:2]]
    model.schema = dataclasses.replace(model.schema, features=(*features, model.schema.features[2]))
    assert sorted(importance(model, x, background=x)["feature"]) == ["kind", "x3"]
    apart = importance(model, x, background=x, grouped=False)
    assert sorted(apart["feature"]) == ["x1", "x2", "x3"]


def test_global_methods_are_taken_as_they_are(network, draw):
    model, x = network([3, 2, 2]), draw(6, 3)
    frame = importance(model, x, method="weight_l1")
    expected = attribute(model, x, method="weight_l1", target=0).values
    assert sorted(frame["importance"][:3]) == pytest.approx(sorted(expected.tolist()))
    assert frame["low"].isna().all()


def test_errors_name_the_call(network, draw):
    text = "importance: expected method to be one of"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        importance(network([3, 1]), draw(2, 3), method="shaply")
