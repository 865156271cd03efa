from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.model.network import KAN
from kanlens.reporting.subject import spread
from tests.reporting.conftest import hostile_model, hostile_table, network

Build = Callable[..., dict[str, Any]]


def test_pairs_are_the_interactions_strongest_first(
    content_of: Build, model: KAN, rows: torch.Tensor
) -> None:
    found = content_of(model, rows)["interactions"]
    truth = attribute(
        model, rows[spread(60, 20)], method="interactions", background=model.background
    ).interactions  # type: ignore[union-attr]
    assert (found["rows"], found["background_rows"]) == (20, 12)
    assert len(found["pairs"]) == 3
    sizes = [one["size"] for one in found["pairs"]]
    assert sizes == sorted(sizes, reverse=True)
    for one in found["pairs"]:
        i, j = (model.feature_names.index(name) for name in one["features"])
        assert one["size"] == pytest.approx(float(truth[:, i, j].abs().mean()), rel=1e-12)
        assert one["mean"] == pytest.approx(float(truth[:, i, j].mean()), rel=1e-12)
    assert found["share"] == pytest.approx(sum(one["share"] for one in found["pairs"]))
    assert 0 < found["share"] < 1


def test_flows_are_those_of_the_secant(content_of: Build, model: KAN, rows: torch.Tensor) -> None:
    found = content_of(model, rows)["flows"]
    paths = attribute(
        model, rows[spread(60, 20)], method="secant", background=model.background
    ).paths  # type: ignore[union-attr]
    assert found["method"] == "secant"
    for layer, path in zip(found["layers"], paths, strict=True):
        torch.testing.assert_close(torch.tensor(layer).double(), path.abs().mean(0))


def test_one_layer_has_neither(content_of: Build, rows: torch.Tensor) -> None:
    found = content_of(network([3, 1]), rows)
    assert found["interactions"] is None
    assert found["flows"] is None


def test_categories_of_a_column_are_one(content_of: Build) -> None:
    table = hostile_table()
    found = content_of(hostile_model(table), table)["interactions"]
    names = {name for one in found["pairs"] for name in one["features"]}
    assert "kind" in names
    assert len(found["pairs"]) == 6  # of four columns
