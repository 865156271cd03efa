"""The command certify."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import kanlens
from kanlens.cli import main
from kanlens.cli._attribution_commands import read_ranges
from kanlens.errors import InvalidValueError
from tests.cli.test_commands import answer

QUICK = ["--max-boxes", "64"]


@pytest.mark.slow  # runs commands
def test_the_domain_is_that_of_the_training(workshop, capsys):
    facts = answer(capsys, "certify", workshop / "model.safetensors", *QUICK)
    frame = pd.read_csv(workshop / "data.csv")
    for name in ("width", "height", "noise"):
        low, high = facts["domain"][name]
        assert frame[name].min() - 1e-9 <= low < high <= frame[name].max() + 1e-9
        assert high - low > 0.7 * (frame[name].max() - frame[name].min())


@pytest.mark.slow  # runs commands
def test_a_table_or_ranges_may_be_named(workshop, tmp_path, capsys):
    out = tmp_path / "certificate.json"
    model, data = workshop / "model.safetensors", workshop / "data.csv"
    words = ["--domain", "noise=0:0, width=-0.5:0.5", "-o", out, *QUICK]
    facts = answer(capsys, "certify", model, data, *words)
    frame = pd.read_csv(data)
    assert facts["domain"]["height"] == pytest.approx([frame.height.min(), frame.height.max()])
    assert facts["domain"]["noise"] == [0.0, 0.0]
    assert facts["domain"]["width"] == [-0.5, 0.5]
    assert json.loads(out.read_text()) == facts
    found = facts["outputs"][0]["range"]
    inside = frame[frame.width.abs() <= 0.5].assign(noise=0.0)
    y = kanlens.load(model)(inside[["width", "height", "noise"]]).detach()
    assert found["low"] <= float(y.min()) <= float(y.max()) <= found["high"]


@pytest.mark.slow  # runs commands
def test_the_certificate_is_said_in_words(workshop, capsys):
    assert main(["certify", f"{workshop}/model.safetensors", *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "area: between" in shown
    assert "of an additive function" in shown


def test_ranges_must_be_written_so(workshop, capsys):
    assert main(["certify", f"{workshop}/model.safetensors", "--domain", "width=a:b"]) == 1
    assert "certify: expected --domain name=low:high" in capsys.readouterr().err


def test_a_model_that_was_never_trained_needs_a_table(tmp_path, capsys):
    path = tmp_path / "new.safetensors"
    kanlens.save(kanlens.KAN([2, 1]), path)
    assert main(["certify", str(path)]) == 1
    expected = "certify: expected a domain, got a model without statistics of its training"
    assert expected in capsys.readouterr().err


def test_ranges_are_of_names_that_may_hold_commas_and_signs():
    given = read_ranges("color=red, dark=0:1, a,b = -1:2e3,c=0:0,")
    assert given == {"color=red, dark": (0.0, 1.0), "a,b": (-1.0, 2000.0), "c": (0.0, 0.0)}
    assert read_ranges(None) == read_ranges(" ,") == {}


@pytest.mark.parametrize(
    "text", ["age", "age=1", "age=1:2:3", "a=0:1,age=1:x", "=1:2", "age=0:1,age=0:2"]
)
def test_other_words_for_a_range_are_refused(text):
    with pytest.raises(
        InvalidValueError, match=r"expected --domain name=low:high, each name once, got '=?(age|=)"
    ):
        read_ranges(text)
