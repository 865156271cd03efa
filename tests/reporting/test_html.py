from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kanlens.certificates import certify
from kanlens.plotting._formats import number
from kanlens.pruning import prune
from kanlens.reporting import Report
from kanlens.reporting._page_data import build_content
from kanlens.reporting._page_records import describe_formula, without_pairs
from kanlens.reporting._report import formula_words, render_page
from kanlens.reporting._report_data import read_subject
from kanlens.reporting._what_if_data import build_panel
from kanlens.symbolic import symbolize
from tests.reporting.conftest import (
    HOSTILE,
    TEMPLATE,
    network,
    schema,
    seeded,
)
from tests.reporting.page import OWN, Page

SECTIONS = [
    *("summary", "performance", "importance", "effects", "interactions", "network", "edges"),
    *("rows", "what-if", "formula", "certificates", "methods", "pruning", "provenance"),
    *("caveats", "glossary"),
]


@pytest.mark.slow  # draws every picture of a report
def test_values_from_data_are_escaped_everywhere(hostile: Report) -> None:
    source = hostile.path.read_text(encoding="utf-8")
    page = Page(source)
    assert page.unbalanced == []
    assert page.foreign() == []
    assert page.of("img") == []
    assert source.count("<script") == len(page.scripts) == 2  # the panel's numbers, the page's own
    assert "<img" not in source
    assert "<i>" not in source
    for name in (HOSTILE, TEMPLATE, "a\"b'&$x$", "<img src=x onerror=alert(2)>"):
        assert name in page.text
    drawn = [Page(part.split("</svg>")[0]).text for part in source.split("<svg ")[1:]]
    for name in (HOSTILE, TEMPLATE, "a\"b'&$x$"):
        assert any(name in text for text in drawn), f"{name} is in no picture"


@pytest.mark.slow  # draws every picture of a report
def test_the_page_is_whole_and_stands_alone(hostile: Report) -> None:
    page = Page(hostile.path.read_text(encoding="utf-8"))
    assert [values["id"] for values in page.of("section")] == SECTIONS
    assert len(page.ids) == len(set(page.ids)), "ids must be unique"
    targets = [values["href"][1:] for values in page.of("a")]
    assert set(targets) <= set(page.ids)
    assert set(SECTIONS) <= set(targets)
    pictures = page.of("svg")
    assert len(pictures) == len(page.of("figure")) >= 10
    roles = [values.get("role") for values in pictures]
    assert (roles.count("img"), roles.count("group")) == (len(roles) - 1, 1)  # which has links
    assert page.source.count("</title>") == len(pictures) + 1
    references = [values["href"] for values in page.of("use")]
    assert len(references) > 100
    assert {reference[1:] for reference in references} <= set(page.ids)
    assert page.of("html") == [{"lang": "en"}]
    assert hostile.path.stat().st_size < 1_500_000


def test_the_reader_of_pages_finds_what_it_should() -> None:
    bad = {
        "<script>1</script>": ["script"],
        f"<script>{OWN}</script>": ["script"],  # without a policy
        '<script type="application/json" id="panel" src="a.js"></script>': ["script", "a.js"],
        '<a href="https://x.org">': ["https://x.org"],
        '<p onclick="a()">': ["onclick"],
        '<p style="background:url(http://x.org/a.png)">': ["url(http://x.org/a.png)"],
        "<style>@import 'a.css'</style>": ["@import"],
        '<img src="a.png">': ["a.png"],
    }
    for source, expected in bad.items():
        assert Page(source).foreign() == expected
    assert Page("<p><b></p>").unbalanced == ["p", "p"]
    assert Page('<a href="#a">x</a><p style="fill:url(#b)">y</p>').foreign() == []


@pytest.fixture
def bare(model: Any, rows: torch.Tensor, analyzed: Callable[..., Any]) -> dict[str, Any]:
    return build_content(analyzed(model, rows), title="T", generator="seed 0")


def pictures() -> dict[str, Any]:
    from kanlens.reporting._drawing import Picture

    one = Picture(svg="<svg></svg>", caption="c")
    single = dict.fromkeys(("network", "importance", "swarm", "comparison"), one)
    none = dict.fromkeys(("pairs", "flows", "formula", "certificate", "pruning", "history"))
    several = {"effects": [one], "performance": [], "cards": [one], "layers": [], "rows": [one] * 6}
    return {**single, **none, **several}


@pytest.mark.slow  # writes reports
def test_control_characters_are_escaped(
    model: Any, rows: torch.Tensor, analyzed: Callable[..., Any]
) -> None:
    names = ["red\x1b[31m", "nul\x00", "turned\u202e"]
    model.schema = schema(names, ["y\x9b"])
    analysis = analyzed(model, (rows, rows[:, 0]))
    panel = build_panel(analysis.subject, [0])
    content = build_content(analysis, title="T\x07", generator="seed 0")
    source = render_page(content, pictures(), panel)
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e]", source)
    page = Page(source)
    for name in ("red\\x1b[31m", "nul\\x00", "turned\\u202e", "y\\x9b", "T\\x07"):
        assert name in page.text
    controls = json.loads(page.scripts[0])["controls"]
    assert [one["name"] for one in controls] == ["red\\x1b[31m", "nul\\x00", "turned\\u202e"]


def test_what_is_missing_is_said_in_words(bare: dict[str, Any]) -> None:
    text = Page(render_page(bare, pictures())).text
    assert "The data have no targets" in text
    assert "No formula was requested;" in text
    refused = Page(render_page({**bare, "formula_refusal": "got <b>."}, pictures())).text
    assert "There is no formula: got <b>." in refused
    assert "the network is too wide" in refused
    assert "No certificate was computed;" in text
    assert "No pruning result was passed." in text
    assert "What if This section is left out: it was not requested." in text
    assert "Models compared" not in text


@pytest.mark.slow  # writes reports
def test_the_page_of_an_imitation_says_first_that_it_is_one(
    model: Any, rows: torch.Tensor, content_of: Callable[..., dict[str, Any]]
) -> None:
    model.provenance = f"imitates {HOSTILE}, R2 0.95 on 60 rows held out, 0.9 beyond the data"
    source = render_page(content_of(model, rows), pictures())
    assert HOSTILE not in source
    head = Page(source.split("</header>")[0]).text
    assert f"This page is about a network that {model.provenance}, not about the original." in head
    model.provenance = "efficient-kan, imported from m.pt"
    assert "not about the original" not in render_page(content_of(model, rows), pictures())


@pytest.mark.slow  # writes reports
def test_what_was_proven_has_a_section(bare: dict[str, Any], model: Any) -> None:
    proven = certify(model, [(-1, 1)] * 3, max_boxes=8, progress=False)
    content = {**bare, "certificate": json.loads(proven.to_json())}
    text = Page(render_page(content, pictures())).text
    assert "Wherever x1 is \N{MINUS SIGN}1.00 to 1.00, x2 is" in text
    assert f"{number(proven['y'].range.low, 4)} {number(proven['y'].range.high, 4)}" in text
    words = {"increasing": "never lowers it", "neither": "raises and lowers it"}
    for one in proven["y"].features:
        said = words.get(one.verdict, one.verdict)
        assert (
            f"{one.name} {said} {number(one.effect.bound, 4)} {number(one.effect.seen, 4)}" in text
        )


def test_the_page_says_what_the_loss_of_a_pruning_is_against(
    bare: dict[str, Any], model: Any, rows: torch.Tensor, y: torch.Tensor
) -> None:
    texts = []
    for target in (None, y):
        result = prune(model, rows, target, threshold=0.2, progress=False)
        content = {**bare, "pruning": json.loads(result.to_json())}
        texts.append(Page(render_page(content, pictures())).text)
    words = "The loss against the model's own outputs (their mean squared change over their "
    assert f"{words}variance) went from 0 to" in texts[0]
    assert "The loss against the targets went from" in texts[1]


@pytest.mark.slow  # writes reports
def test_the_page_says_which_rows_the_model_had_not_seen(
    model: Any, rows: torch.Tensor, y: torch.Tensor, analyzed: Callable[..., Any]
) -> None:
    content = build_content(analyzed(model, (rows, y)), title="T", generator="seed 0")
    assert content["data"]["held_out_rows"] is None
    models = [{"name": "this model", "score": 0.931}, {"name": "gradient boosting", "score": 0.5}]
    about = {"rows": 80, "folds": 6, "changed": True, "held_out": True, "metric": "accuracy"}
    content["baselines"] = {**about, "models": models}
    for count, words in (
        (None, "If the model was trained on these rows, the scores are optimistic."),
        (content["data"]["rows"], "All of these rows were held out of training."),
        (3, "3 of these rows were held out of training; on the other rows the scores are"),
    ):
        content["data"]["held_out_rows"] = count
        text = Page(render_page(content, pictures())).text
        assert words in text
        assert (
            "Compared with simple models, on the 80 rows of training, each held out in turn" in text
        )
        assert "The score of this model was measured before the model was changed." in text
        assert "gradient boosting 50.0%" in text


def test_formula_words() -> None:
    receipt = {"relative_rmse": 0.0123, "r2": 0.9, "model_r2": 0.91, "accuracy": None}
    receipt |= {"rows": 48, "held_out": True, "chosen_on": False}
    words = "the RMSE against the model is 1.23% of the output's standard deviation; R² 0.900, "
    for chosen_on, rows in (
        (False, "48 held-out rows"),
        (True, "48 rows used to choose the formula"),
    ):
        receipt["chosen_on"] = chosen_on
        assert formula_words(receipt) == f"On {rows}, {words}model 0.910."


@pytest.mark.slow  # writes reports
def test_a_page_says_first_why_a_formula_does_not_stand_for_its_model(
    bare: dict[str, Any], model: Any, rows: torch.Tensor
) -> None:
    quick: Any = {"functions": ["x"], "refine": False, "snap": False, "progress": False}
    result = symbolize(model, rows, generator=seeded(), **quick)
    found = describe_formula(result, read_subject(model, rows, None))
    receipt = dataclasses.replace(
        result.receipt, relative_rmse=0.35, numbers=9000, outside_share=0.1, accuracy=0.6,
        model_accuracy=0.65,
    )  # fmt: skip
    found |= {"receipt": dataclasses.asdict(receipt), "summary": receipt.summary()}
    found |= {"equation": "y = " + " + ".join(f"sin({k}*x1)" for k in range(4000)), "mathml": None}
    text = Page(render_page({**bare, "formula": found}, pictures())).text
    section = text.split("Formula Warning")[1].split("Receipt")[0]
    assert section.startswith(
        " The formula does not follow the model; do not use it in place of the model."
    )
    few = f"holds 9000 numbers and was fitted to {receipt.fitted_rows} different rows; other"
    assert few in section
    assert "rows lie outside the training ranges." in section
    assert section.index("training ranges.") < section.index("against the model is 35.00%")
    assert (
        f"Accuracy against the targets on these {receipt.rows} rows (model) 60.0% (65.0%)" in text
    )
    good = dataclasses.replace(receipt, relative_rmse=0.01, numbers=5, outside_share=0.0)
    found |= {"receipt": dataclasses.asdict(good), "summary": good.summary()}
    assert "Formula Warning" not in Page(render_page({**bare, "formula": found}, pictures())).text


@pytest.mark.slow  # writes reports
def test_the_page_says_why_there_are_no_interactions(
    rows: torch.Tensor, analyzed: Callable[..., Any]
) -> None:
    texts = []
    additive = network([3, 3])
    classes = network([3, 3])
    classes.schema = dataclasses.replace(
        classes.schema, task="classification", target="c", class_labels=("a", "b", "c")
    )
    for one in (additive, classes):
        analysis = analyzed(one, rows, 0, methods=["secant"])
        content = build_content(analysis, title="T", generator="seed 0")
        texts.append(Page(render_page(content, pictures())).text)
    words = "model is a sum of functions of single features: no two of them interact."
    assert f"The {words}" in texts[0]
    assert f"In log-odds the {words}" in texts[1]
    deep = analyzed(network([3, 2, 1]), rows, methods=["secant"])
    assert without_pairs(deep) is None
    unknown = dataclasses.replace(deep, pairs=None)
    assert without_pairs(unknown) == "undefined"
    large = dataclasses.replace(unknown, plan=dataclasses.replace(deep.plan, pairs=None))
    assert without_pairs(large) == "large"
    for analysis, words in ((unknown, "not finite on some"), (large, "they take long to compute.")):
        content = build_content(analysis, title="T", generator="seed 0")
        assert words in Page(render_page(content, pictures())).text


def test_the_page_says_of_no_background_that_nobody_named(bare: dict[str, Any]) -> None:
    assert "against 12 background rows" in Page(render_page(bare, pictures())).text
    bare["meta"]["background_rows"] = bare["comparison"]["background_rows"] = None
    bare["meta"]["background_origin"] = "of the attribution that was passed"
    text = Page(render_page(bare, pictures())).text
    assert (
        ", the mean output over the background (rows of the attribution that was passed)." in text
    )
    assert "by every method. The gap is" in text
