"""Other models beside the one of a report, against attributions and scores made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import r2_score

import kanlens
from kanlens._plain_json import to_plain
from kanlens.cli import main
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.reporting import report
from kanlens.reporting._model_comparison import (
    describe_models,
    draw_models,
    edge_words,
    partial_effect,
    read_others,
)
from kanlens.reporting._report import render_page
from tests.reporting.conftest import (
    HOSTILE,
    hostile_model,
    hostile_table,
    network,
    schema,
)
from tests.reporting.page import Page
from tests.reporting.test_html import pictures
from tests.reporting.test_writing import QUICK

Described = Callable[..., dict[str, Any]]


@pytest.fixture
def described(analyzed: Callable[..., Any]) -> Described:
    """Return what a report says of a model and others."""

    def run(model: KAN, data: Any, others: dict[str, Any], **options: Any) -> dict[str, Any]:
        analysis = analyzed(model, data, **options)
        found: dict[str, Any] = describe_models(analysis, read_others(analysis.subject, others))
        return found

    return run


def broken(widths: list[int]) -> KAN:
    model = network(widths)
    with torch.no_grad():
        model.layers[0].base_weight.fill_(1e200)
        model.output_scale.fill_(1e200)
    return model


@pytest.mark.slow  # writes reports
def test_numbers_are_those_made_by_hand(
    described: Described, model: KAN, rows: torch.Tensor, y: torch.Tensor
) -> None:
    other = network([3, 4, 1], seed=5).float()
    found = described(model, (rows, y), {"small": model, "other": other}, max_rows=60)
    first, second = found["models"]
    assert [first["name"], second["name"]] == ["small", "other"]
    outputs = [one(rows.to(one.dtype))[:, 0].detach().double().numpy() for one in (model, other)]
    assert second["r2"] == pytest.approx(r2_score(y.numpy(), outputs[1]), rel=1e-6)
    assert second["agreement"] == pytest.approx(r2_score(outputs[0], outputs[1]), rel=1e-6)
    assert first["r2"] == pytest.approx(r2_score(y.numpy(), outputs[0]), rel=1e-12)
    assert first["agreement"] == first["rank_agreement"] == 1
    background = model.background
    for one, record in ((model, first), (other, second)):
        values = kanlens.attribute(
            one, rows.to(one.dtype), method="shapley", background=background.to(one.dtype)
        ).values.double()
        sizes = values.abs().mean(0).tolist()
        assert list(record["importance"].values()) == pytest.approx(sizes, rel=1e-5)
        assert set(record["importance"]) == set(model.feature_names)
        assert record["parameters"] == sum(tensor.numel() for tensor in one.parameters())
        assert (record["widths"], record["edges_alive"]) == (one.widths, one.edges_alive)
        for name, curves in found["effects"].items():
            i = model.feature_names.index(name)
            by_hand = torch.tensor(partial_effect(rows[:, i], values[:, i]))
            effect = torch.tensor(curves[record["name"]])
            torch.testing.assert_close(effect, by_hand, rtol=1e-4, atol=1e-5)
    a, b = (
        torch.tensor([*one["importance"].values()]).argsort().argsort() for one in (first, second)
    )
    rank = 1 - 6 * int((a - b).square().sum()) / (3 * 8)
    assert second["rank_agreement"] == pytest.approx(rank)
    assert (first["dtype"], second["dtype"]) == ("float64", "float32")


def test_classes_agree_by_their_share(described: Described, rows: torch.Tensor) -> None:
    names = ["a", "b", "c"]
    models = [network([3, 2, 1], seed=seed) for seed in (1, 4)]
    for one in models:
        one.schema = schema(names, ["y"], task="classification", class_labels=("no", "yes"))
    y = (rows[:, 0] > 0).long()
    own, other = described(models[0], (rows, y), {"other": models[1]})["models"]
    says = [(one(rows)[:, 0] > 0).long() for one in models]
    assert other["changes"]["changed_rows"] == int((says[0] != says[1]).sum()) > 0
    assert other["agreement"] == pytest.approx(float((says[0] == says[1]).double().mean()))
    assert other["accuracy"] == pytest.approx(float((says[1] == y).double().mean()))
    chance = models[1](rows)[:, 0].detach()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(chance, y.double())
    assert other["log_loss"] == pytest.approx(float(loss), rel=1e-9)
    assert "r2" not in own


@pytest.mark.slow  # writes reports
def test_changes_are_those_made_by_hand(
    described: Described, model: KAN, rows: torch.Tensor
) -> None:
    other = network([3, 4, 1], seed=5)
    own, found = described(model, rows, {"other": other})["models"]
    said = [one(rows)[:, 0].detach() for one in (model, other)]
    gap = said[1] - said[0]
    change = found["changes"]
    assert own["changes"] is None
    assert change["mean_difference"] == pytest.approx(float(gap.mean()), rel=1e-12)
    assert change["mean_size"] == pytest.approx(float(gap.abs().mean()), rel=1e-12)
    assert change["largest_size"] == pytest.approx(float(gap.abs().max()), rel=1e-12)
    assert change["correlation"] == pytest.approx(float(torch.corrcoef(torch.stack(said))[0, 1]))
    assert change["changed_rows"] is None
    first = gap.abs().argsort(descending=True)[:5].tolist()
    assert [row["row"] for row in change["rows"]] == first
    assert [float(row["difference"]) for row in change["rows"]] == pytest.approx(
        gap[first].tolist()
    )
    flat = network([3, 1])
    with torch.no_grad():
        flat.layers[0].mask.zero_()
    assert described(model, rows, {"flat": flat})["models"][1]["changes"]["correlation"] is None


def test_a_model_with_fewer_features_is_compared_by_their_names(
    described: Described, model: KAN, rows: torch.Tensor
) -> None:
    fewer = network([2, 1])
    fewer.schema = schema(["x3", "x1"], ["y"])
    found = described(model, rows, {"fewer": fewer}, max_rows=60)["models"][1]
    background = model.background[:, [2, 0]]
    values = kanlens.attribute(fewer, rows[:, [2, 0]], background=background).values
    sizes = dict(zip(["x3", "x1"], values.abs().mean(0).tolist(), strict=True)) | {"x2": 0.0}
    assert found["importance"] == pytest.approx(sizes)
    gap = (fewer(rows[:, [2, 0]]) - model(rows))[:, 0].detach().abs()
    assert found["changes"]["mean_size"] == pytest.approx(float(gap.mean()))


def test_columns_of_categories_are_one_feature(described: Described) -> None:
    table = hostile_table()
    flat = network([4, 1], seed=4)
    flat.schema = table.schema
    own, other = described(hostile_model(table), table, {"flat": flat})["models"]
    assert list(own["importance"]) == list(other["importance"]) == list(table.frame)[:-1]


def test_a_passed_attribution_is_not_mixed_with_another_background(
    described: Described, model: KAN, rows: torch.Tensor
) -> None:
    same = network([3, 2, 1])
    passed = kanlens.attribute(model, rows, background=rows[:2] + 0.5, method="secant")
    own, other = described(model, rows, {"same": same}, attribution=passed)["models"]
    assert own["importance"] == other["importance"]
    assert [*own["importance"].values()] != pytest.approx(passed.values.abs().mean(0).tolist())


@pytest.mark.slow  # writes reports
def test_a_model_that_cannot_be_explained_leaves_the_others(
    described: Described, model: KAN, rows: torch.Tensor, y: torch.Tensor
) -> None:
    found = described(model, (rows, y), {"bad": broken([3, 2, 1]), "good": network([3, 1])})
    _, bad, good = found["models"]
    assert bad["reason"].startswith("expected a model with finite outputs, got NaN or infinity.")
    assert {bad[key] for key in ("r2", "agreement", "rank_agreement", "importance")} == {None}
    assert good["reason"] is None
    assert good["importance"]
    assert {name for curves in found["effects"].values() for name in curves} == {
        "this model",
        "good",
    }


def test_exact_values_that_nobody_asked_for_have_a_limit(
    analyzed: Callable[..., Any],
    model: KAN,
    rows: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kanlens.reporting._model_comparison.shapley_evaluations", lambda *_: 1e8)
    asked = analyzed(model, rows)
    unasked = replace(asked, request=replace(asked.request, methods=None))
    reason = "it would take long on a model of this size; name shapley in methods"
    for analysis, expected in ((asked, None), (unasked, reason)):
        models = read_others(analysis.subject, {"slow": network([3, 1])})
        own, slow = describe_models(analysis, models)["models"]
        assert (own["reason"], slow["reason"]) == (None, expected)


def test_edges_are_named() -> None:
    series = KANLinear(2, 1, series=["gaussian", "gaussian", "sin"])
    assert edge_words(KANLinear(2, 1)) == "spline"
    assert edge_words(series) == "spline and series of gaussian and sin"
    torch.nn.init.zeros_(series.spline_weight)
    assert edge_words(series) == "series of gaussian and sin"
    assert edge_words(KANLinear(2, 1, functions=[["sin", "spline"]])) == "function"


def test_effects_are_means_over_rows_alike() -> None:
    x, values = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([4.0, 0.0, 6.0, 2.0])
    assert partial_effect(x, values) == [[0.0, -2.0], [1.0, 2.0]]
    x = torch.arange(120.0).flip(0)
    found = torch.tensor(partial_effect(x, 3 * x))
    assert torch.equal(found[:, 0], torch.arange(12.0) * 10 + 4.5)
    torch.testing.assert_close(found[:, 1], 3 * (found[:, 0] - 59.5))


def test_what_does_not_fit_is_refused(model: KAN, rows: torch.Tensor, tmp_path: Path) -> None:
    def refused(kind: type[Exception], text: str, others: Any) -> None:
        with pytest.raises(kind, match=f"^{re.escape(text)}$"):
            report(model, rows, tmp_path / "r.html", others=others, **QUICK)

    text = "report: expected others to be a dict of names and models, got list. "
    refused(DTypeError, f"{text}Pass {{'name': model}}.", [model])
    text = "report: others['n\\n']: expected a KAN, got int. Bring it in with import_model first."
    refused(DTypeError, text, {"n\n": 3})
    start, end = "report: others['n']: expected ", ". Leave the model out."
    text = f"{start}3 features (x1, x2 and x3), got 4 features (x1, x2, x3 and x4). "
    text += "Report on the other, and compare this one."
    refused(InvalidValueError, text, {"n": network([4, 1])})
    other = network([2, 1])
    other.schema = schema(["x1", "u"], ["y"])
    text = f"{start}3 features (x1, x2 and x3), got 2 features (x1 and u){end}"
    refused(InvalidValueError, text, {"n": other})
    text = f"{start}1 output (y), got 2 outputs (y1 and y2){end}"
    refused(InvalidValueError, text, {"n": network([3, 2])})
    other = network([3, 1])
    other.schema = schema(["x1", "x2", "x3"], ["y"], task="classification")
    text = f"{start}1 task (regression), got 1 task (classification){end}"
    refused(InvalidValueError, text, {"n": other})
    other.schema = schema(["x3", "x1", "x2"], ["y"])
    text = f"{start}3 features (x1, x2 and x3), got 3 features (x3, x1 and x2){end}"
    refused(InvalidValueError, text, {"n": other})
    assert list(tmp_path.iterdir()) == []


def test_other_names_are_matched_by_position(
    described: Described, model: KAN, rows: torch.Tensor
) -> None:
    same = network([3, 2, 1])
    same.schema = schema(["u", "v", "w"], ["z"])
    own, other = described(model, rows, {"this model": same})["models"]
    assert own["importance"] == other["importance"]
    assert [own["name"], other["name"]] == ["this model of the report", "this model"]


@pytest.mark.parametrize("others", [None, {}, "itself"])
@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow  # takes a while
def test_without_others_there_is_nothing(
    others: Any, model: KAN, rows: torch.Tensor, tmp_path: Path
) -> None:
    others = {"it": model} if others == "itself" else others
    found = report(model, rows, tmp_path / "r.html", others=others, **QUICK)
    assert "models" not in found.content


@pytest.mark.slow  # draws every picture of a report
def test_the_section_escapes_names_and_says_why(
    analyzed: Callable[..., Any], content_of: Callable[..., Any], model: KAN, rows: torch.Tensor
) -> None:
    model.schema = schema([HOSTILE, "$x$", "c"], ["y"])
    analysis = analyzed(model, rows)
    others = {HOSTILE: network([3, 1]), "<i>bad</i>": broken([3, 1])}
    models = to_plain(describe_models(analysis, read_others(analysis.subject, others)))
    content = {**content_of(model, rows), "models": models}
    subjects = dict.fromkeys(("own", "good", "bad"), analysis.subject)
    drawn = list(draw_models(analysis, content, 2, subjects))
    titles = [f"Effect of {name}" for name in models["effects"]][:2]
    assert [one.title for one in drawn[-2:]] == titles
    bare = [record | {"importance": None} for record in models["models"]]
    content_of_none = content | {"models": models | {"models": bare}}
    assert list(draw_models(analysis, content_of_none, 2, subjects)) == drawn[:1]
    source = render_page(content, pictures() | {"models": drawn})
    section = source[source.index('<section id="models">') :].split("</section>")[0] + "</section>"
    page = Page(section)
    assert page.unbalanced == []
    assert page.foreign() == []
    assert page.of("i") == []
    assert HOSTILE in page.text
    assert "<i>bad</i> is not explained: expected a model with finite outputs" in page.text
    assert section.count("<td>shapley</td>") == 2
    assert section.count("<td>\N{EN DASH}</td>") == 1
    assert all(HOSTILE in Page(one.svg).text for one in drawn[:1])
    assert "#models" in [values["href"] for values in Page(source).of("a")]


@pytest.mark.slow  # draws every picture of a report
@pytest.mark.usefixtures("undrawn")
def test_the_command_names_models_by_their_files(
    model: KAN, rows: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "d.csv"
    lines = [",".join(model.feature_names), *(",".join(map(str, row)) for row in rows.tolist())]
    table.write_text("\n".join(lines))
    (tmp_path / "deep").mkdir()
    paths = [tmp_path / name for name in ("small.safetensors", "wide.safetensors")]
    paths.append(tmp_path / "deep" / "small.safetensors")
    for path, widths in zip(paths, ([3, 2, 1], [3, 4, 1], [3, 1]), strict=True):
        kanlens.save(network(widths), path)
    words = ["report", str(paths[0]), str(table), "--methods", "secant", "--no-formula", "-q"]
    words += ["--max-rows", "5", "-o", str(tmp_path / "r.html"), "--certify", "--compare"]
    assert main([*words, str(paths[1])]) == 0
    twin = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert [one["name"] for one in twin["models"]["models"]] == ["small", "wide"]
    assert twin["certificate"]["domain"]["x2"] == [rows[:, 1].min(), rows[:, 1].max()]
    assert main([*words, str(paths[1]), "--other", str(paths[2])]) != 0
    assert "two models have one file name" in capsys.readouterr().err
