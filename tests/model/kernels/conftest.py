"""Numbers of threads for tests of kernels, and passes for few rows in small layers too."""

from collections.abc import Iterator

import pytest
import torch

from kanlens.model.kernels import _autograd as fused_autograd


@pytest.fixture(autouse=True)
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the smallest layers take the passes of large ones; return where they begin.

    Not those of another order: each pass of it takes seconds to compile.
    """
    before, spec = fused_autograd.LARGE, getattr(request.node, "callspec", None)
    if spec is None or spec.params.get("order", 3) == 3:
        monkeypatch.setattr(fused_autograd, "LARGE", 0)
    return before


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch and kernels keep to the calling thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
