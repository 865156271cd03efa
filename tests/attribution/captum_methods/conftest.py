"""Problems as `attribute` would pose them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kanlens.attribution.problem import Problem
from kanlens.model.analysis import float64_copy
from kanlens.model.network import KAN


def posed(
    model: KAN, x: Tensor, rows: Tensor | None = None, target: int = 0, seed: int = 3
) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    return Problem(model=float64_copy(model), x=x, rows=rows, target=target, generator=generator)


@pytest.fixture
def problem(network: Callable[..., KAN], draw: Callable[..., Tensor]) -> Callable[..., Problem]:
    """A problem on a network of some widths: samples, background rows, the last output."""

    def make(widths: list, batch: int = 4, rows: int = 3, **options: object) -> Problem:
        model = network(widths, **options)
        n_in = model.widths[0]
        return posed(
            model, draw(batch, n_in), draw(rows, n_in, seed=2), target=model.widths[-1] - 1
        )

    return make


@pytest.fixture(autouse=True)
def no_gradients() -> None:
    with torch.no_grad():
        yield
