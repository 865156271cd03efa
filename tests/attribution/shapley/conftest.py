from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from kanlens import long_work
from kanlens.attribution.shapley import enumeration, sampling


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until it is set."""
    now = [0.0]
    for module in (enumeration, sampling, long_work):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now
