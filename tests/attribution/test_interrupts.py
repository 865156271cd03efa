"""Ctrl-C in compare, certify and importance: what is done by then is returned and holds."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import kanlens
from kanlens.attribution import runs
from kanlens.attribution.certificates import branching, certification
from kanlens.attribution.metrics import METRICS
from kanlens.errors import InterruptedWarning

NAMES = ["shapley", "secant", "gradient_x_input"]


def after(count: int, function: Any, calls: list[None] | None = None) -> Any:
    """Have Ctrl-C come when a function is called once more than that."""
    calls = [] if calls is None else calls

    def cut(*given: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) > count:
            raise KeyboardInterrupt
        return function(*given, **options)

    return cut


def once(function: Any) -> Any:
    """Have Ctrl-C come when a function is called first."""
    calls: list[None] = []

    def cut(*given: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return function(*given, **options)

    return cut


@pytest.fixture
def model() -> kanlens.KAN:
    return kanlens.KAN([3, 2, 2], generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def x() -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.rand(12, 3, dtype=torch.float64, generator=draw)


def compared(model: kanlens.KAN, x: torch.Tensor) -> Any:
    return kanlens.compare(model, x, background=x, target=0, methods=NAMES, progress=False)


def test_methods_that_are_done_are_compared(model, x, monkeypatch):
    monkeypatch.setattr(runs, "attribute", after(2, runs.attribute))
    text = (
        "compare: expected to come to an end, got an interrupt. "
        "What was done by then is returned; other metrics are NaN."
    )
    with pytest.warns(InterruptedWarning, match=f"^{re.escape(text)}$"):
        found = compared(model, x)
    assert found.frame["method"].tolist() == ["shapley", "secant", "random"]
    assert found.skipped == {"gradient_x_input": "an interrupt came first"}
    assert found.frame["shapley_error"].isna().all()
    assert list(found.importance) == ["shapley", "secant"]
    assert '"skipped"' in found.to_json()


def test_metrics_that_are_done_are_kept(model, x, monkeypatch):
    whole = compared(model, x)
    columns = list(whole.arrows)
    metric = METRICS[columns[1]]
    cut = type(metric)(**{**vars(metric), "function": after(1, metric.function)})
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning):
        patch.setitem(METRICS, columns[1], cut)
        found = compared(model, x)
    assert found.skipped == {}
    assert list(found.frame) == list(whole.frame)
    first = found.frame.set_index("method")[columns]
    wanted = whole.frame.set_index("method")[columns]
    assert first.loc["shapley"].equals(wanted.loc["shapley"])
    assert first.loc["secant", columns[0]] == wanted.loc["secant", columns[0]]
    assert first.loc["secant", columns[1:]].isna().all()
    assert first.loc["random"].isna().all()


def test_a_comparison_without_a_method_passes_the_interrupt(model, x, monkeypatch):
    monkeypatch.setattr(runs, "attribute", after(0, runs.attribute))
    with pytest.raises(KeyboardInterrupt):
        compared(model, x)


def certified(model: kanlens.KAN) -> Any:
    box = dict.fromkeys(model.feature_names, (-1.0, 1.0))
    return kanlens.certify(model, box, tolerance=1e-4, max_boxes=9, progress=False)


def test_bounds_of_the_boxes_so_far_hold(model, monkeypatch):
    text = (
        "certify: expected to come to an end, got an interrupt. "
        "What is proven of 2 of 2 outputs holds."
    )
    calls: list[None] = []
    cut, counted = branching._children, after(10**6, branching._children, calls)
    with monkeypatch.context() as patch:
        patch.setattr(branching, "_children", counted)
        whole = certified(model)
    cut = after(len(calls) - 1, cut)  # the last cut of the second output
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning, match=re.escape(text)):
        patch.setattr(branching, "_children", cut)
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
        (certification, "explore"),
        (certification.multipliers, "best_lines"),
        (certification.conclusions, "output_certificate"),
    ],
)
def test_an_output_that_was_begun_is_certified_without_what_takes_long(
    model, monkeypatch, module, name
):
    monkeypatch.setattr(module, name, once(getattr(module, name)))
    with pytest.warns(InterruptedWarning, match="What is proven of 1 of 2 outputs holds"):
        found = certified(model)
    [only] = found.outputs
    assert only.target == "y1"
    values = model(torch.rand(500, 3, dtype=torch.float64) * 2 - 1).detach()[:, 0]
    assert only.range.low <= float(values.min()) <= float(values.max()) <= only.range.high
