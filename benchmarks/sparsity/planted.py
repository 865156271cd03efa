"""Networks written down by hand: functions whose true edges are known.

Each is the sparsest network of its shape that gives its function, up to the order of its hidden
nodes: every hidden node but the last has a neighbour of its own, and a function that is not
straight follows each sum, so that no sum can be moved or split without more edges.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["PLANTED", "Planted", "graph_of_product"]

Function: TypeAlias = Callable[[Tensor], Tensor]
Masks: TypeAlias = tuple[Tensor, ...]  # one per layer, truth values (out, in)

BLEND = 0.6  # share of a relevant input in an irrelevant one that goes along with it


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A network of known functions.

    Attributes
    ----------
    formula : str
        The function in words of mathematics.
    layers : tuple of dict
        For each layer, the function of each edge (out, in) that is there.
    inputs : int
        Number of inputs, those that no edge leaves among them; they come last.
    widths : tuple of int
        Of the network that is trained to find this one.
    uneven : bool
        Whether inputs crowd around 0 (cubes of even draws) instead of lying evenly in [-1, 1].
    """

    formula: str
    layers: tuple[dict[tuple[int, int], Function], ...]
    inputs: int
    widths: tuple[int, ...]
    uneven: bool = False

    @property
    def masks(self) -> Masks:
        """Which edges there are, one matrix (out, in) per layer."""
        outs = [1 + max(out for out, _ in layer) for layer in self.layers]
        sizes = itertools.pairwise([self.inputs, *outs])
        masks = [torch.zeros(out, in_, dtype=torch.bool) for in_, out in sizes]
        for mask, layer in zip(masks, self.layers, strict=True):
            for edge in layer:
                mask[edge] = True
        return tuple(masks)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:  # (rows, inputs)
        """Draw inputs in [-1, 1]; every other irrelevant one is a blend with a relevant one.

        A blend is 0.6 of the relevant input and 0.4 of its own draw, a correlation of 0.83.

        Examples
        --------
        >>> PLANTED["composed"].draw(9, torch.Generator()).shape
        torch.Size([9, 10])
        """
        share = torch.rand(rows, self.inputs, generator=generator, dtype=torch.float64)
        x = 2 * share - 1
        if self.uneven:
            x = x**3
        relevant = self.relevant
        for count, column in enumerate(range(len(relevant), self.inputs, 2)):
            partner = relevant[count % len(relevant)]
            x[:, column] = BLEND * x[:, partner] + (1 - BLEND) * x[:, column]
        return x

    @property
    def relevant(self) -> tuple[int, ...]:
        """The inputs that matter."""
        return tuple(self.masks[0].any(0).nonzero()[:, 0].tolist())

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate the network on x (batch, in); returns (batch,)."""
        values = x
        for layer, mask in zip(self.layers, self.masks, strict=True):
            sums = x.new_zeros(len(x), mask.shape[0])
            for (out, in_), function in layer.items():
                sums[:, out] += function(values[:, in_])
            values = sums
        return values[:, 0]


def graph_of_product(relevant: int, inputs: int) -> Masks:
    """Return the true edges of a product of one-variable factors: it is exp of a sum of logarithms.

    Parameters
    ----------
    relevant : int
        Number of factors; their variables come first.
    inputs : int
        Number of all inputs.

    Returns
    -------
    tuple of Tensor
        One hidden node that the relevant inputs enter, and the edge that leaves it.

    Examples
    --------
    >>> graph_of_product(2, 3)[0]
    tensor([[ True,  True, False]])
    """
    first = torch.zeros(1, inputs, dtype=torch.bool)
    first[0, :relevant] = True
    return first, torch.ones(1, 1, dtype=torch.bool)


def _wave(x: Tensor) -> Tensor:
    return torch.sin(torch.pi * x)


def _line(x: Tensor) -> Tensor:
    return x


PLANTED: dict[str, Planted] = {
    "additive": Planted(
        formula="sin(pi x1) + x2^2 / 2 + exp(x3) / 5 + |x4| / 5",
        layers=(
            {
                (0, 0): _wave,
                (0, 1): lambda x: x.square() / 2,
                (0, 2): lambda x: torch.exp(x) / 5,
                (0, 3): lambda x: torch.abs(x) / 5,
            },
        ),
        inputs=20,
        widths=(20, 1),
    ),
    "composed": Planted(
        formula="exp(sin(pi x1) + x2^2)",
        layers=({(0, 0): _wave, (0, 1): torch.square}, {(0, 0): torch.exp}),
        inputs=10,
        widths=(10, 5, 1),
    ),
    "groups": Planted(
        formula="sin(2 (x1 + x2)) + exp(-(x3^2 + 2 x4^2))",
        layers=(
            {
                (0, 0): _line,
                (0, 1): _line,
                (1, 2): torch.square,
                (1, 3): lambda x: 2 * x.square(),
            },
            {(0, 0): lambda h: torch.sin(2 * h), (0, 1): lambda h: torch.exp(-h)},
        ),
        inputs=12,
        widths=(12, 5, 1),
    ),
    "overlap": Planted(
        formula="tanh(2 (x1 + x2^2)) + (sin(pi x1) + x3)^2 / 2",
        layers=(
            {(0, 0): _line, (0, 1): torch.square, (1, 0): _wave, (1, 2): _line},
            {(0, 0): lambda h: torch.tanh(2 * h), (0, 1): lambda h: h.square() / 2},
        ),
        inputs=9,
        widths=(9, 5, 1),
        uneven=True,
    ),
    "deep": Planted(
        formula="log(1/2 + exp(sin(pi x1) + x2^2) + (x3 + x4)^2)",
        layers=(
            {(0, 0): _wave, (0, 1): torch.square, (1, 2): _line, (1, 3): _line},
            {(0, 0): torch.exp, (0, 1): torch.square},
            {(0, 0): lambda u: torch.log(0.5 + u)},
        ),
        inputs=8,
        widths=(8, 4, 2, 1),
    ),
}
