"""Problems as `attribute` would pose them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kanlens.attribution._problem import Problem
from kanlens.model._network import KAN
from tests.attribution.conftest import problem_of


@pytest.fixture
def problem(network: Callable[..., KAN], draw: Callable[..., Tensor]) -> Callable[..., Problem]:
    """A problem on a network of some widths: samples, background rows, the last output."""

    def make(widths: list, batch: int = 4, rows: int = 3, **options: object) -> Problem:
        model = network(widths, **options)
        n_in = model.widths[0]
        return problem_of(
            model, draw(batch, n_in), draw(rows, n_in, seed=2), target=model.widths[-1] - 1
        )

    return make


@pytest.fixture(autouse=True)
def no_gradients() -> None:
    with torch.no_grad():
        yield
