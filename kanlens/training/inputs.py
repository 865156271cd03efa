"""What reaches and leaves every layer while a network runs, without running it twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kanlens.model.network import KAN

__all__ = ["LayerValues", "layer_values"]


@dataclass(frozen=True)
class LayerValues:
    """What layers saw, in order.

    Attributes
    ----------
    inputs : list of Tensor, each of shape (batch, in)
        What reached each layer, in its scaled units.
    outputs : list of Tensor, each of shape (batch, out)
        What left it.
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@contextmanager
def layer_values(model: KAN) -> Iterator[LayerValues]:
    """Collect the input and the output of every layer when a model runs inside the block.

    Yields
    ------
    LayerValues
        Filled while the model runs; with gradients, as the model computed them. Whatever happens
        in the block, no hook is left on the model.

    Examples
    --------
    >>> import torch
    >>> model = KAN([2, 3, 1])
    >>> with layer_values(model) as values:
    ...     _ = model(torch.zeros(4, 2))
    >>> [x.shape[1] for x in values.inputs]
    [2, 3]
    """
    found = LayerValues()

    def note(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        found.inputs.append(arguments[0])
        found.outputs.append(output)

    handles = [layer.register_forward_hook(note) for layer in model.layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
