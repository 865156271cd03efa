from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kanlens.data._schema import Feature, Output, Schema
from kanlens.data._table_reader import read_table
from kanlens.data._tables import Table
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics
from kanlens.reporting import Report, report
from kanlens.reporting._analysis import Analysis, Request, analyze
from kanlens.reporting._page_data import build_content
from kanlens.reporting._report_data import read_subject

HOSTILE = "<script>alert(1)</script>"
TEMPLATE = "{{7*7}}"
METHODS = ("shapley", "secant", "gradient_x_input", "captum_input_x_gradient")


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def network(widths: list[int], *, seed: int = 1, scale: float = 1.0) -> KAN:
    """Return a float64 network that remembers rows from -1 to 1."""
    model = KAN(widths, scale_noise=0.5 * scale, generator=seeded(seed)).double()
    rows = torch.rand(80, widths[0], generator=seeded(seed + 1), dtype=torch.float64) * 2 - 1
    store_statistics(model, rows, background=12)
    return model


BLANK = b'<svg width="100pt" height="80pt"></svg>'


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the figures of a report, and leave blank what is rendered of them."""
    monkeypatch.setattr("kanlens.plotting._style._rendered", lambda *_: BLANK)


@pytest.fixture
def model() -> KAN:
    return network([3, 2, 1])


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.rand(60, 3, generator=seeded(7), dtype=torch.float64) * 1.8 - 0.9


@pytest.fixture
def y(model: KAN, rows: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(60, generator=seeded(8), dtype=torch.float64)
    return model(rows)[:, 0].detach() + 0.02 * noise


def hostile_table() -> Table:
    """Return a table whose names and cells look like markup, templates and mathematics."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            HOSTILE: generator.normal(size=60),
            TEMPLATE: generator.normal(size=60),
            "a\"b'&$x$": generator.normal(size=60),
            "kind": ["<i>red</i>", "<i>blue</i>"] * 30,
        }
    )
    frame["class"] = np.where(frame[HOSTILE] > 0, "<img src=x onerror=alert(2)>", TEMPLATE)
    return read_table(frame, target="class")


def hostile_model(table: Table) -> KAN:
    model = network([4, 2, 1], seed=3)
    model.schema = table.schema
    return model


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    table = hostile_table()
    return report(
        hostile_model(table),
        table,
        tmp_path_factory.mktemp("hostile") / "r.html",
        title=f"{HOSTILE} {TEMPLATE}",
        methods=METHODS,
        max_rows=20,
        max_features=4,
        progress=False,
    )


@pytest.fixture
def analyzed() -> Callable[..., Analysis]:
    """Return what a report would be written from, without writing it."""

    def run(model: KAN, data: Any, target: int | str | None = None, **options: Any) -> Analysis:
        request = {"methods": METHODS, "max_rows": 20, "generator": seeded(), "progress": False}
        return analyze(read_subject(model, data, target), Request(**{**request, **options}))

    return run


@pytest.fixture
def content_of(analyzed: Callable[..., Analysis]) -> Callable[..., dict[str, Any]]:
    def run(*arguments: Any, **options: Any) -> dict[str, Any]:
        return build_content(analyzed(*arguments, **options), title="T", generator="seed 0")

    return run


def schema(names: list[str], outputs: list[str], **options: Any) -> Schema:
    return Schema(
        features=tuple(Feature(name=name, column=name) for name in names),
        outputs=tuple(Output(name=name) for name in outputs),
        **options,
    )
