"""A layer cut down to some of its inputs and outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import InvalidValueError

if TYPE_CHECKING:
    from kanlens.model.layers import KANLinear

    Layer = TypeVar("Layer", bound=KANLinear)


def select(layer: Layer, out: Sequence[int], in_: Sequence[int]) -> Layer:
    """Return a layer of the same kind that keeps only outputs `out` and inputs `in_`.

    Edge tensors are cut along both axes, `grid` along the inputs, `bias` along the outputs.

    Raises
    ------
    InvalidValueError
        If an index is no output or input of the layer, or none is given.
    """
    rows = _indices("out", out, layer.out_features)
    columns = _indices("in_", in_, layer.in_features)
    functions = layer.config.functions
    config = dataclasses.replace(
        layer.config,
        out_features=len(rows),
        in_features=len(columns),
        functions=tuple(tuple(functions[o][i] for i in in_) for o in out) if functions else (),
    )
    small = type(layer).from_config(config).to(layer.grid)
    state = {}
    for name, tensor in layer.state_dict().items():
        if name == "grid":
            state[name] = tensor[columns]
        else:
            state[name] = tensor[rows] if name == "bias" else tensor[rows][:, columns]
    small.load_state_dict(state)
    small.train(layer.training)
    if layer.statistics is not None:
        small.statistics = layer.statistics.select(rows, columns)
    return small


def _indices(name: str, indices: Sequence[int], size: int) -> Tensor:
    chosen = [int(index) for index in indices]
    if chosen and min(chosen) >= 0 and max(chosen) < size:
        return torch.tensor(chosen)
    expected = f"{name} to list indices from 0 to {size - 1}"
    raise InvalidValueError(message("select", expected, repr(list(indices)), "Name at least one"))
