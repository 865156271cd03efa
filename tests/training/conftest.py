"""Small problems that train in a moment, and one thread, as such sizes want."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import kanlens
from kanlens.training import _training_loop as run_module


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(net: kanlens.KAN, data: object, **options: object) -> kanlens.FitResult:
    settings = {"steps": 6, "progress": False, "generator": seeded(), **options}
    return kanlens.fit(net, data, **settings)


@pytest.fixture
def network() -> Callable[..., kanlens.KAN]:
    def build(widths: Sequence[int] = (2, 2, 1), seed: int = 0, **options: object) -> kanlens.KAN:
        generator = torch.Generator().manual_seed(seed)
        return kanlens.KAN(widths, generator=generator, **options).double()

    return build


@pytest.fixture
def short_polish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four proximal steps at the end, not fifty, for what does not ask where they lead."""
    monkeypatch.setattr(run_module, "POLISH", 4)


@pytest.fixture
def waves() -> tuple[Tensor, Tensor]:
    """x (60, 2) away from the grid, y = sin(x1) + x2^2 / 10 (60, 1)."""
    generator = torch.Generator().manual_seed(5)
    x = 3 + 4 * torch.rand(60, 2, dtype=torch.float64, generator=generator)
    return x, (x[:, :1].sin() + x[:, 1:] ** 2 / 10)
