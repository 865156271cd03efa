from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import kanlens
import kanlens.reporting._report
from kanlens.errors import (
    DTypeError,
    InterruptedWarning,
    InvalidValueError,
    MethodError,
    OutputError,
)
from kanlens.model._network import KAN
from kanlens.reporting import Report, report
from tests.reporting.conftest import network, seeded

QUICK: Any = {"methods": ["secant"], "max_rows": 8, "progress": False}


def masked(found: Report) -> tuple[str, str]:
    """Return page and twin without the seconds that methods took."""
    page = re.sub(r'(<td class="n seconds">)[^<]*', r"\1", found.path.read_text("utf-8"))
    twin = re.sub(r'("seconds": )[\d.e-]+', r"\1", found.json_path.read_text("utf-8"))
    return page, twin


@pytest.mark.slow  # writes two whole reports
def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    x = torch.rand(40, 2, generator=seeded(), dtype=torch.float64)
    methods = ["shapley", "captum_shapley_value_sampling"]
    others = {"deep": network([2, 2, 1])}
    found = [
        report(network([2, 1]), (x, x.sum(1)), tmp_path / name, methods=methods, others=others)
        for name in ("a.html", "b/c.html")
    ]
    page, twin = masked(found[0])
    assert (page, twin) == masked(found[1])
    assert str(tmp_path) not in page + twin, "no absolute path may leak"
    assert [one["name"] for one in found[0].content["models"]["models"]] == ["this model", "deep"]


@pytest.mark.usefixtures("undrawn")
def test_the_twin_is_the_content(model: KAN, rows: torch.Tensor, tmp_path: Path) -> None:
    found = report(model, rows, tmp_path / "deep" / "er" / "r.html", **QUICK)
    assert found.path == tmp_path / "deep" / "er" / "r.html"
    assert found.json_path == tmp_path / "deep" / "er" / "r.json"
    assert json.loads(found.json_path.read_text("utf-8")) == found.content
    assert found.json_path.read_text("utf-8") == found.to_json()
    assert found.content["meta"]["title"] == "Model of y"
    assert list(found.to_frame().columns) == ["level", "code", "text"]
    assert len(found.to_frame()) == len(found.content["alerts"])


@pytest.mark.usefixtures("undrawn")
def test_a_passed_attribution_names_the_output(rows: torch.Tensor, tmp_path: Path) -> None:
    model = network([3, 2])
    shares = kanlens.attribute(model, rows[:4], target=1, background=rows[:3])
    found = report(model, rows, tmp_path / "r.html", results=[shares], **QUICK)
    assert found.content["meta"]["target"] == model.output_names[1]


@pytest.mark.slow  # analyzes four times
@pytest.mark.usefixtures("undrawn")
def test_the_callers_generator_decides(model: KAN, rows: torch.Tensor, tmp_path: Path) -> None:
    options: Any = {**QUICK, "methods": ["captum_shapley_value_sampling"], "max_rows": 3}

    def importance(generator: torch.Generator | None) -> Any:
        path = tmp_path / "r.html"
        return report(model, rows, path, generator=generator, **options).content["importance"]

    assert importance(seeded(1)) == importance(seeded(1)) != importance(seeded(2))
    assert importance(None) == importance(seeded(0))


def test_a_path_of_another_kind_is_refused(model: KAN, rows: torch.Tensor) -> None:
    text = "report: expected a file name that ends in .html, got 'r.json'. Change the name."
    with pytest.raises(OutputError, match=f"^{re.escape(text)}$"):
        report(model, rows, "r.json")


def test_an_unwritable_path_is_refused_before_the_work(
    model: KAN, rows: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kanlens.reporting._report, "analyze", pytest.fail)
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "r.html"
    with pytest.raises(OutputError) as caught:
        report(model, rows, path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("report: expected a file to write, got ")
    (tmp_path / "r.json").mkdir()
    text = (
        f"report: expected a file to write, got a folder, {str(tmp_path / 'r.json')!r}. "
        "Name a file."
    )
    with pytest.raises(OutputError, match=f"^{re.escape(text)}$"):
        report(model, rows, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("failing", ["r.html", "r.json"])
def test_both_files_or_none(
    failing: str,
    existing: bool,
    model: KAN,
    rows: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if existing:
        (tmp_path / "r.html").write_text("old page")
        (tmp_path / "r.json").write_text("old twin")
    replace = Path.replace

    def broken(self: Path, target: Path) -> Path:
        if Path(target).name == failing:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OutputError, match="No space left on device"):
        report(model, rows, tmp_path / "r.html", **QUICK)
    left = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert left == ({"r.html": "old page", "r.json": "old twin"} if existing else {})


def test_messages(model: KAN, rows: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "r.html"

    def refused(kind: type[Exception], text: str, **options: Any) -> None:
        with pytest.raises(kind, match=f"^{re.escape(text)}"):
            report(model, rows, path, **options)

    text = "report: expected at least one method, got none. Leave methods=... out."
    refused(InvalidValueError, text, methods=[])
    refused(InvalidValueError, "report: expected methods to be one of ", methods=["shaply"])
    names = "Attribution, Comparison, SymbolicResult, PruneResult, FitResult, Certificate"
    text = f"report: expected results to be of {names}, at most one of each, got "
    refused(DTypeError, text + "float. Pass results of attribute (by row), ", results=[1.0])
    refused(DTypeError, text + "int. Pass results of attribute (by row), ", results=1)
    shares = kanlens.attribute(model, rows[:2], background=rows)
    refused(DTypeError, text + "two of Attribution. ", results=[shares, shares])
    other = kanlens.certify(network([2, 1]), [(-1, 1)] * 2, max_boxes=2, progress=False)
    text = "report: expected certificate of 'y', got one of y for features x1, x2. Certify this"
    refused(InvalidValueError, text, results=[other])
    refused(InvalidValueError, text, results=other)
    text = (
        "report: expected max_rows to be a whole number of at least 2, got 1. Pass a "
        "whole number such as 2."
    )
    refused(InvalidValueError, text, max_rows=1)
    text = (
        "report: expected max_features to be a whole number of at least 1, got 0. "
        "Pass a whole number such as 1."
    )
    refused(InvalidValueError, text, max_features=0)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_finite_outputs_is_refused(
    model: KAN, rows: torch.Tensor, tmp_path: Path
) -> None:
    with torch.no_grad():
        model.layers[0].base_weight.fill_(1e200)
        model.output_scale.fill_(1e200)
    text = "report: expected a model with finite outputs, got NaN or infinity. "
    with pytest.raises(MethodError, match=f"^{re.escape(text)}"):
        report(model, rows, tmp_path / "r.html", **QUICK)


@pytest.mark.parametrize("place", ["analyze", "_page"])
def test_an_interrupt_leaves_the_report_as_it_was(model, rows, tmp_path, monkeypatch, place):
    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    for name in ("r.html", "r.json"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(f"kanlens.reporting._report.{place}", stopped)
    said = "report: interrupted. Nothing is written; call it again."
    with (
        pytest.warns(InterruptedWarning, match=f"^{re.escape(said)}$"),
        pytest.raises(KeyboardInterrupt),
    ):
        kanlens.report(model, rows, tmp_path / "r.html", methods=["shapley"], progress=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "r.html": "old",
        "r.json": "old",
    }
