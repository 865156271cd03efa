from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from kanlens import _runtime as runtime
from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley import _permutation_sampling as sampling


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until it is set."""
    now = [0.0]
    for module in (enumeration, sampling, runtime):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now
