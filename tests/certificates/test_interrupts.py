"""Ctrl-C in certify: what is proven by then is returned and holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import kanlens
from kanlens.certificates import _branch_and_bound as branch_and_bound
from kanlens.certificates import _certify as certify
from kanlens.errors import InterruptedWarning
from tests.interrupting import after, once


@pytest.fixture
def model() -> kanlens.KAN:
    return kanlens.KAN([3, 2, 2], generator=torch.Generator().manual_seed(0)).double()


def certified(model: kanlens.KAN) -> Any:
    box = dict.fromkeys(model.feature_names, (-1.0, 1.0))
    return kanlens.certify(model, box, tolerance=1e-4, max_boxes=9, progress=False)


@pytest.mark.slow  # divides many boxes
def test_bounds_of_the_boxes_so_far_hold(model, monkeypatch):
    calls: list[None] = []
    cut, counted = branch_and_bound._children, after(10**6, branch_and_bound._children, calls)
    with monkeypatch.context() as patch:
        patch.setattr(branch_and_bound, "_children", counted)
        whole = certified(model)
    cut = after(len(calls) - 1, cut)  # the last cut of the second output
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning, match="interrupted"):
        patch.setattr(branch_and_bound, "_children", cut)
        found = certified(model)
    first, second = found.outputs
    assert first.boxes == whole.outputs[0].boxes
    assert second.boxes < whole.outputs[1].boxes
    assert not second.decided
    best = whole.outputs[1].range
    assert second.range.low <= best.low <= best.high <= second.range.high
    points = torch.rand(500, 3, dtype=torch.float64) * 2 - 1
    values = model(points).detach()[:, 1]
    assert second.range.low <= float(values.min()) <= float(values.max()) <= second.range.high


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (certify, "explore"),
        (certify, "output_certificate"),
    ],
)
def test_an_output_that_was_begun_is_certified_without_what_takes_long(
    model, monkeypatch, module, name
):
    monkeypatch.setattr(module, name, once(getattr(module, name)))
    with pytest.warns(InterruptedWarning, match="Bounds of 1 of 2 outputs are returned"):
        found = certified(model)
    [only] = found.outputs
    assert only.target == "y1"
    assert only.boxes == 1 or name == "output_certificate"  # which comes after the cutting
    values = model(torch.rand(500, 3, dtype=torch.float64) * 2 - 1).detach()[:, 0]
    assert only.range.low <= float(values.min()) <= float(values.max()) <= only.range.high
