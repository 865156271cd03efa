"""What tests of several rooms share."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import typer


@pytest.fixture(scope="session", autouse=True)
def commands_built_once() -> Iterator[None]:
    """Build the commands of an application once: typer does at every call, which takes 40 ms."""
    build, built = typer.main.get_command, dict[tuple[typer.Typer, int], Any]()

    def once(app: typer.Typer) -> Any:
        key = app, len(app.registered_commands)
        if key not in built:
            built[key] = build(app)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", once)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawing of reports out, which other tests are about: most of their time."""
    monkeypatch.setattr("kanlens.reporting._report._page", lambda *_: "<!DOCTYPE html>\n")


@pytest.fixture
def few_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the default recipes cross-validate in two folds, with two members."""
    monkeypatch.setattr("kanlens.training._fit_default.FOLDS", 2)
    for module in ("_fit_default", "_default_ensemble"):
        monkeypatch.setattr(f"kanlens.training.{module}.MEMBERS", 2)


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let certificates look for extremes at few points, half of their time; bounds need none."""
    monkeypatch.setattr("kanlens.certificates._sampling.POINTS", 256)
    monkeypatch.setattr("kanlens.certificates._sampling.STEPS", 4)


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels share out even the smallest work among three threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr("kanlens.model.kernels._pool.SERIAL", 0)
    yield
    torch.set_num_threads(before)
