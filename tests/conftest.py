"""What tests of several rooms share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawing of reports out, which other tests are about: most of their time."""
    monkeypatch.setattr("kanlens.reporting._report._page", lambda *_: "<!DOCTYPE html>\n")


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels share out even the smallest work among three threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr("kanlens.model.kernels._pool.SERIAL", 0)
    yield
    torch.set_num_threads(before)
