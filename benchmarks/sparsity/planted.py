"""Functions whose true edges are known, among inputs that do not matter.

Each function is written as the sparsest network of its shape, up to the order of the hidden nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = tuple[Tensor, Tensor]  # x (rows, in) and y (rows, 1)
Edge: TypeAlias = tuple[int, int]  # (out, in)

ROWS = {"train": 400, "validation": 200, "test": 2000}
NOISE = 0.3  # of the targets but for those of the test rows, in deviations of the function
BLEND = 0.6  # share of a relevant input in every other irrelevant one


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A function of x (rows, in), the edges it needs in every layer, and the network to train."""

    function: Callable[[Tensor], Tensor]
    edges: tuple[set[Edge], ...]
    widths: tuple[int, ...]
    uneven: bool = False  # inputs are cubes of even draws

    def draw(self, seed: int) -> dict[str, Rows]:
        """Draw rows in [-1, 1] to train on, to choose by, and to judge by."""
        generator = torch.Generator().manual_seed(seed)
        shape = sum(ROWS.values()), self.widths[0]
        x = 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1
        x = x**3 if self.uneven else x
        relevant = sorted({in_ for _, in_ in self.edges[0]})
        for count, column in enumerate(range(len(relevant), shape[1], 2)):
            partner = x[:, relevant[count % len(relevant)]]
            x[:, column] = BLEND * partner + (1 - BLEND) * x[:, column]
        y = self.function(x)[:, None]
        noise = torch.randn(*y.shape, generator=generator, dtype=torch.float64)
        noise[-ROWS["test"] :] = 0
        parts = [part.split(list(ROWS.values())) for part in (x, y + NOISE * y.std() * noise)]
        return dict(zip(ROWS, zip(*parts, strict=True), strict=True))


def f1_of_edges(
    found: Sequence[set[Edge]], true: Sequence[set[Edge]], widths: Sequence[int]
) -> float:
    """Return the F1 of edges under the order of hidden nodes that makes the most of them agree."""
    orders = itertools.product(*(itertools.permutations(range(width)) for width in widths[1:-1]))
    first, last = tuple(range(widths[0])), tuple(range(widths[-1]))
    shared = max(
        sum(
            (nodes[level + 1][out], nodes[level][in_]) in layer
            for level, layer in enumerate(found)
            for out, in_ in true[level]
        )
        for nodes in ((first, *hidden, last) for hidden in orders)
    )
    return 2 * shared / (sum(map(len, found)) + sum(map(len, true)))


def wave(x: Tensor) -> Tensor:
    """Return sin(pi x)."""
    return torch.sin(torch.pi * x)


PLANTED: dict[str, Planted] = {
    "additive": Planted(
        function=lambda x: wave(x[:, 0]) + x[:, 1] ** 2 / 2 + x[:, 2].exp() / 5 + x[:, 3].abs() / 5,
        edges=({(0, 0), (0, 1), (0, 2), (0, 3)},),
        widths=(20, 1),
    ),
    "composed": Planted(
        function=lambda x: (wave(x[:, 0]) + x[:, 1] ** 2).exp(),
        edges=({(0, 0), (0, 1)}, {(0, 0)}),
        widths=(10, 5, 1),
    ),
    "groups": Planted(
        function=lambda x: (
            torch.sin(2 * (x[:, 0] + x[:, 1])) + torch.exp(-(x[:, 2] ** 2) - 2 * x[:, 3] ** 2)
        ),
        edges=({(0, 0), (0, 1), (1, 2), (1, 3)}, {(0, 0), (0, 1)}),
        widths=(12, 5, 1),
    ),
    "overlap": Planted(
        function=lambda x: (
            torch.tanh(2 * (x[:, 0] + x[:, 1] ** 2)) + (wave(x[:, 0]) + x[:, 2]) ** 2 / 2
        ),
        edges=({(0, 0), (0, 1), (1, 0), (1, 2)}, {(0, 0), (0, 1)}),
        widths=(9, 5, 1),
        uneven=True,
    ),
    "deep": Planted(
        function=lambda x: (
            0.5 + (wave(x[:, 0]) + x[:, 1] ** 2).exp() + (x[:, 2] + x[:, 3]) ** 2
        ).log(),
        edges=({(0, 0), (0, 1), (1, 2), (1, 3)}, {(0, 0), (0, 1)}, {(0, 0)}),
        widths=(8, 4, 2, 1),
    ),
}
