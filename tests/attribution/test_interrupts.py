"""Ctrl-C in attribute, compare and importance: what is done by then is returned and holds."""

import re
from typing import Any

import pytest
import torch

import kanlens
from kanlens.attribution import _attribute as attribute
from kanlens.attribution import _method_runs as method_runs
from kanlens.attribution.metrics import METRICS
from kanlens.attribution.shapley import _permutation_sampling as sampling
from kanlens.errors import InterruptedWarning
from tests.interrupting import after, once

NAMES = ["shapley", "secant", "gradient_x_input"]


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
    monkeypatch.setattr(method_runs, "attribute", after(2, method_runs.attribute))
    with pytest.warns(InterruptedWarning, match="interrupted"):
        found = compared(model, x)
    assert found.frame["method"].tolist() == ["shapley", "secant", "random"]
    assert found.skipped == {"gradient_x_input": "an interrupt came first"}
    assert found.frame["shapley_error"].isna().all()
    assert list(found.importance) == ["shapley", "secant"]
    assert '"skipped"' in found.to_json()
    monkeypatch.setattr(method_runs, "attribute", after(0, method_runs.attribute))
    with pytest.raises(KeyboardInterrupt):
        compared(model, x)


def test_metrics_that_are_done_are_kept(model, x, monkeypatch):
    whole = compared(model, x)
    columns = list(whole.arrows)
    metric = METRICS[columns[2]]
    cut = type(metric)(**{**vars(metric), "function": after(1, metric.function)})
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning):
        patch.setitem(METRICS, columns[2], cut)
        found = compared(model, x)
    assert found.skipped == {}
    assert list(found.frame) == list(whole.frame)
    first = found.frame.set_index("method")[columns]
    wanted = whole.frame.set_index("method")[columns]
    assert first.loc["shapley"].equals(wanted.loc["shapley"])
    assert first.loc["secant", columns[:2]].equals(wanted.loc["secant", columns[:2]])
    assert first.loc["secant", columns[2:]].isna().all()
    assert first.loc["random"].isna().all()


def test_outputs_that_are_done_are_ranked(model, x, monkeypatch):
    monkeypatch.setattr(attribute, "attribute", after(1, attribute.attribute))
    text = "importance: interrupted. Results of 1 of 2 outputs are returned."
    with pytest.warns(InterruptedWarning, match=f"^{re.escape(text)}$"):
        found = kanlens.importance(model, x, background=x)
    assert set(found["output"]) == {"y1"}
    monkeypatch.setattr(attribute, "attribute", after(0, attribute.attribute))
    with pytest.raises(KeyboardInterrupt):
        kanlens.importance(model, x, background=x)


def sampled(model: kanlens.KAN, x: torch.Tensor, **options: Any) -> Any:
    return kanlens.attribute(
        model,
        x,
        background=x,
        target=0,
        algorithm="sampling",
        generator=torch.Generator().manual_seed(0),
        **options,
    )


@pytest.mark.parametrize("place", ["_meet", "_estimate", "_fit"])
def test_sampled_values_of_whole_rounds_are_kept(model, x, monkeypatch, place):
    one = sampled(model, x, tolerance=1e9)
    cut = after(
        {"_meet": 2, "_estimate": 1, "_fit": 0}[place], getattr(sampling._JointSampling, place)
    )
    monkeypatch.setattr(sampling._JointSampling, place, cut)  # a round is two meetings
    with pytest.warns(InterruptedWarning, match="^attribute: interrupted"):
        found = sampled(model, x, tolerance=1e-9)
    assert "stopped by an interrupt" in found.remark
    torch.testing.assert_close(found.values, one.values, rtol=0, atol=0)
    torch.testing.assert_close(found.standard_error, one.standard_error, rtol=0, atol=0)


def test_samples_that_are_left_get_a_round_each(model, x, monkeypatch):
    monkeypatch.setattr(sampling, "BUDGET", 1)  # each sample alone
    monkeypatch.setattr(sampling._JointSampling, "_meet", once(sampling._JointSampling._meet, 2))
    with pytest.warns(InterruptedWarning):
        found = sampled(model, x[:3], tolerance=1e-9)
    assert bool(torch.isfinite(found.values).all())
    assert float(found.standard_error.min()) > 0
    monkeypatch.setattr(sampling._JointSampling, "_meet", after(0, sampling._JointSampling._meet))
    with pytest.raises(KeyboardInterrupt):
        sampled(model, x)
