"""Which nodes still lead anywhere, and a network without those that do not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.core.network import KAN
from kanlens.errors import MethodError

__all__ = ["compact", "connected", "reached"]


def reached(masks: Sequence[Tensor]) -> Tensor:  # (out,)
    """Tell which outputs live edges lead to from some feature.

    Examples
    --------
    >>> reached([torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])])
    tensor([False,  True])
    """
    found = torch.ones(masks[0].shape[1], dtype=torch.bool)
    for mask in masks:
        found = ((mask != 0).cpu() & found).any(1)
    return found


def connected(masks: Sequence[Tensor]) -> bool:
    """Tell whether live edges lead from some feature to some output.

    Examples
    --------
    >>> connected([torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0, 1.0]])])
    False
    """
    return bool(reached(masks).any())


def compact(model: KAN) -> KAN:
    """Return the same function without the nodes and features that no live edge leaves.

    Parameters
    ----------
    model : KAN
        Left as it is.

    Returns
    -------
    KAN
        With the names, units, scaling and statistics of what is left.

    Raises
    ------
    MethodError
        If a layer has no live edge.

    Examples
    --------
    >>> model = KAN([2, 1])
    >>> _ = model.layers[0].mask[0, 0].zero_()
    >>> compact(model).feature_names
    ('x2',)
    """
    kept = kept_inputs(model)
    if not all(kept):
        got = f"none in layer {kept.index([])}"
        advice = "The model is constant; there is nothing to compact"
        raise MethodError(message("compact", "a live edge in every layer", got, advice))
    outs = [*kept[1:], list(range(len(model.output_names)))]
    layers = [
        layer.select(out, in_) for layer, out, in_ in zip(model.layers, outs, kept, strict=True)
    ]
    small = KAN.from_layers(layers, model.schema.select(kept[0]))
    columns = torch.tensor(kept[0])
    small.input_shift.copy_(model.input_shift[columns])
    small.input_scale.copy_(model.input_scale[columns])
    small.output_shift.copy_(model.output_shift)
    small.output_scale.copy_(model.output_scale)
    small.scaled = model.scaled
    small.background = None if model.background is None else model.background[:, columns]
    return small.train(model.training)


def kept_inputs(model: KAN) -> list[list[int]]:
    """Return for each layer the inputs that a live edge leaves.

    Examples
    --------
    >>> kept_inputs(KAN([2, 1]))
    [[0, 1]]
    """
    return [(layer.mask != 0).any(0).nonzero()[:, 0].tolist() for layer in model.layers]
