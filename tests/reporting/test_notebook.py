"""What notebooks show: every result is one line, and a picture, a table or a formula."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ElementTree
from functools import cache
from typing import Any

import pandas as pd
import pytest
import torch

import kanlens
from kanlens import _display as display
from kanlens._display import LINE, Displayed
from kanlens.attribution import effect, terms
from kanlens.model._kan_linear import KANLinear
from kanlens.reporting._notebook import _parts, to_html
from tests.reporting.conftest import HOSTILE, seeded

NAMES = (HOSTILE, *(f"a rather long name of feature {i}" for i in range(2)))


@cache
def results() -> dict[str, Any]:
    x = torch.rand(30, len(NAMES), generator=seeded(), dtype=torch.float64)
    frame = pd.DataFrame(x.numpy(), columns=list(NAMES)).assign(target=x[:, 0].square().numpy())
    table = kanlens.read_table(frame, target="target")
    model = kanlens.KAN([len(NAMES), 1, 1], generator=seeded()).double()
    fit = kanlens.fit(model, table, steps=2, progress=False, generator=seeded())
    common: dict[str, Any] = {"progress": False, "generator": seeded()}
    path = kanlens.sparsity_path(model, table, strengths=2, steps=1, penalty="weight_l1", **common)
    found = kanlens.attribute(model, table.x[:3], background=table.x[:4], progress=False)
    rows: dict[str, Any] = {"background": table.x[:4], "progress": False}
    few = kanlens.KAN.from_layers(
        [KANLinear(1, 1, functions=[["x^2"]])], kanlens.KAN([1, 1]).schema
    )
    edit = kanlens.edit(model, table.x)
    edit.edge(0, 0, 0).smooth()
    return {
        "Edit": edit,
        "EditDiff": edit.diff(table, table.y, by=HOSTILE),
        "KAN": model,
        "Table": table,
        "FitResult": fit,
        "SparsityPath": path,
        "Trace": kanlens.trace(model, table.x),
        "PruneResult": kanlens.prune(model, table.x, threshold=0.5),
        "SymbolicResult": kanlens.symbolize(few, x[:, :1].float(), progress=False),
        "Attribution": found,
        "Importance": found.to_importance(),
        "Effect": effect(model, HOSTILE, table.x),
        "Comparison": kanlens.compare(model, table.x[:3], methods=["secant"], **rows),
        "Certificate": kanlens.certify(model, x[:1].expand(2, -1).mT, progress=False),
        "Edge": model.layers[0].edge(0, 0),
        "Terms": terms(kanlens.KAN([len(NAMES), 1], feature_names=NAMES), x),
        "Frontier": kanlens.frontier(table, max_edges=2, progress=False, generator=seeded()),
        "Imitation": kanlens.imitate(
            lambda rows: rows[HOSTILE] ** 2, frame[list(NAMES)], max_edges=2, **common
        ),
    }


KINDS = [
    *("KAN", "Table", "FitResult", "SparsityPath", "Trace", "PruneResult", "SymbolicResult"),
    *("Attribution", "Importance", "Effect", "Comparison", "Certificate", "Edge"),
    *("Terms", "Frontier", "Imitation", "Edit", "EditDiff"),
]


@pytest.mark.slow  # draws every picture of a report
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_one_line_and_a_page(kind: str) -> None:
    result = results()[kind]
    assert type(result).__name__ == kind
    line, page = repr(result), result._repr_html_()
    assert line.startswith(f"{kind}: ")
    assert len(line) <= LINE
    assert "\n" not in line
    assert HOSTILE not in page
    assert html.escape(line) in page
    assert re.search("<svg|<table|<math", page)
    assert len(page) < 200_000
    for svg in re.findall("<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
        own = 'class="plate' in svg  # with a scale of colors, on white paper of its own
        assert ("currentColor" in svg) != own  # light or dark as the page around it
        assert ("#ffffff" in svg) == own


def test_every_kind_of_result_is_shown() -> None:
    waiting, found = [Displayed], set()
    while waiting:
        kinds = [one for one in waiting.pop().__subclasses__() if "kanlens." in one.__module__]
        waiting += kinds
        found |= {one.__name__ for one in kinds}
        assert all(_parts.dispatch(one) is not _parts.dispatch(object) for one in kinds)
    assert found >= {*KINDS, "Report"}


def test_what_is_no_result_is_not_shown() -> None:
    with pytest.raises(TypeError, match="dict"):
        to_html({})


def test_one_attributed_row_is_a_waterfall_and_a_wide_network_has_no_picture() -> None:
    model = kanlens.KAN([1, 1])
    rows = torch.rand(5, 1, generator=seeded())
    page = kanlens.attribute(model, rows[:1], background=rows)._repr_html_()
    assert "reference" in page
    assert "<svg" not in kanlens.KAN([20, 10, 1])._repr_html_()


@pytest.mark.slow
def test_a_report_shows_its_alerts(tmp_path: Any, undrawn: None) -> None:
    found = kanlens.report(
        results()["KAN"],
        results()["Table"],
        tmp_path / "page.html",
        methods=["secant"],
        progress=False,
    )
    assert repr(found).startswith(f"Report: {tmp_path / 'page.html'}"[:LINE])
    assert "<table" in found._repr_html_()


def test_a_result_is_its_text_where_nothing_renders_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "renderer", None)
    assert kanlens.KAN([1, 1])._repr_html_() is None
