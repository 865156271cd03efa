"""The page of a network that grew begins with its terms and the scores of all sizes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.data._tables import Table
from kanlens.model._network import KAN
from kanlens.plotting import _style as style
from kanlens.reporting import Report
from kanlens.reporting import _figures as figures
from kanlens.reporting._analysis import Analysis, _terms
from kanlens.reporting._report_data import read_subject
from tests.reporting.conftest import BLANK, HOSTILE, TEMPLATE, seeded
from tests.reporting.page import Page
from tests.reporting.test_schema import faults


@functools.cache
def grown() -> tuple[KAN, Table]:
    """Return a network with a product, and its table with a hostile name and a category."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (150, 2))
    kind = np.resize(["u", "v", "w"], 150)
    y = 3 * x[:, 0] * x[:, 1] + (kind == "v") + 0.1 * draw.normal(size=150)
    frame = pd.DataFrame({HOSTILE: x[:, 0], TEMPLATE: x[:, 1], "kind": kind, "y": y})
    table = kanlens.read_table(frame, target="y")
    front = kanlens.frontier(table, max_edges=8, progress=False, generator=seeded())
    references = {"the default network of 90 edges": 0.999, "EBM": 0.5}
    return dataclasses.replace(front, references=references).simplest, table


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Return a report of which the pictures of growth alone are rendered."""
    render, draw_growth = style._rendered, figures._growth

    def drawn(analysis: Analysis) -> Any:
        monkeypatch.setattr(style, "_rendered", render)
        pictures = draw_growth(analysis)
        monkeypatch.setattr(style, "_rendered", lambda *_: BLANK)
        return pictures

    monkeypatch.setattr(figures, "_growth", drawn)
    monkeypatch.setattr(style, "_rendered", lambda *_: BLANK)
    model, table = grown()
    path = kanlens.save(model, tmp_path / "model.safetensors")
    options = {"methods": ["secant"], "progress": False}
    return kanlens.report(kanlens.load(path), table, path.with_name("page.html"), **options)


@pytest.mark.slow  # draws pictures
def test_the_first_pictures_are_terms_and_sizes(written: Report) -> None:
    source, growth = written.path.read_text("utf-8"), written.content["growth"]
    page = Page(source)
    assert not page.unbalanced and "<script>alert" not in source
    titles = ("All terms", "Score of each size", "All edges")
    places = [source.index(f'<p class="title">{title}') for title in titles]
    assert places == sorted(places) and places[1] < source.index('<section id="performance">')
    step = growth["steps"][growth["chosen"]]
    end = "of the 0.999 that the default network of 90 edges does"
    assert re.fullmatch(rf"{step['edges']} edges explain 0\.\d+ {end}", growth["headline"])
    assert f"On 150 rows held out of growth in turn, {growth['headline']}." in page.text
    assert "(this network)" in page.text
    pair = {(HOSTILE, TEMPLATE), (TEMPLATE, HOSTILE)}
    assert {" * ".join(names) for names in pair} & {one["added"] for one in growth["steps"]}
    assert len(growth["terms"]) >= 2
    assert faults(written.content) == []


@pytest.mark.slow  # takes a while
def test_bands_are_shown_on_the_rows_of_growth_alone() -> None:
    """On others they would be those of another fit, which a curve may leave."""
    model, table = grown()
    for count in (len(table.x), 90):
        subject = read_subject(model, (table.x[:count], table.y[:count]), None)
        shown = _terms(subject, subject.x)
        assert shown is not None
        bands = [e.band for one in shown.terms for side in one.factors for e in side]
        assert any(band is not None for band in bands) == (count > 90)


@pytest.mark.slow
@pytest.mark.usefixtures("blank")
def test_a_network_that_has_changed_has_the_page_of_others(tmp_path: Path) -> None:
    model, table = copy.deepcopy(grown())
    with torch.no_grad():
        model.layers[0].bias.add_(1.0)
    options = {"methods": ["secant"], "progress": False}
    changed = kanlens.report(model, table, tmp_path / "page.html", **options)
    assert "growth" not in changed.content
    assert 'id="terms"' not in changed.path.read_text("utf-8")
