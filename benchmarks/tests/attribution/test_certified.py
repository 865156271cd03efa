"""The part that attacks certificates."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch

from benchmarks.attribution import certified
from benchmarks.attribution.random_networks import SHAPES, random_model
from benchmarks.harness import Setup
from kanlens.certificates._certify import certify

FILE = "attribution-certificates"


@pytest.fixture(scope="module")
def table():
    setup = Setup(smoke=True)
    keys = certified.CERTIFICATES.plan(setup).keys
    found = [certified.CERTIFICATES.rows(setup, key)[FILE] for key in keys]
    return pd.DataFrame([row for rows in found for row in rows])


@pytest.mark.slow  # measures in every way once
def test_nothing_breaks(table):
    assert table["kind"].tolist() == ["wild", "fitted"]
    assert set(table.columns) == set(certified.CERTIFICATES.columns(FILE))
    assert (table["broken"] == 0).all()
    assert (table["attempts"] > 64).all()
    assert (table["range_ratio"] >= 1 - 1e-9).all()
    totals, fitted = certified.CERTIFICATES.summary(table).values()
    assert totals["attempts"].sum() == table["attempts"].sum()
    assert fitted["name"].tolist() == ["2-3-1"]


@pytest.mark.slow
def test_teeth_a_wrong_certificate_is_broken(monkeypatch):
    def wrong(model, domain, **options):
        proven = certify(model, domain, **options)
        first = proven.outputs[0]
        middle = (first.range.seen_low + first.range.seen_high) / 2
        span = dataclasses.replace(first.range, high=middle)
        outputs = (dataclasses.replace(first, range=span), *proven.outputs[1:])
        return dataclasses.replace(proven, outputs=outputs)

    monkeypatch.setattr(certified, "certify", wrong)
    (row,) = certified.CERTIFICATES.run(Setup(smoke=True), ("fitted", "2-3-1"))
    assert row["broken"] > 0
    assert "range" in row["claims"]


@pytest.mark.slow  # runs an experiment
def test_random_networks_are_of_every_kind():
    shapes, bases, dtypes, kinds = set(), set(), set(), set()
    for seed in range(60):
        model, domain = random_model(seed)
        shapes.add(repr(list(model.shape)))
        bases.add(model.layers[0].base_name)
        dtypes.add(model.dtype)
        kinds.add(model.layers[0].edge_kind)
        assert bool((domain[:, 0] <= domain[:, 1]).all())
    assert len(shapes) == len(SHAPES)
    assert len(bases) == 5
    assert dtypes == {torch.float32, torch.float64}
    assert kinds == {"spline", "function"}
