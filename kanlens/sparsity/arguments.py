"""What the norms of a layer refuse: a whole network, and what is no layer of edges."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kanlens.checks import check_columns, check_rows, message
from kanlens.errors import InvalidValueError

__all__ = ["check_layer", "check_rows_of"]


def check_layer(call: str, layer: Any, needed: str = "edge_values") -> None:
    """Refuse what is no layer of edges, or lacks what a norm needs.

    Raises
    ------
    InvalidValueError
        If `layer` has no attribute `needed`.

    Examples
    --------
    >>> from kanlens.model.layers import KANLinear
    >>> check_layer("weight_l1", KANLinear(2, 1), "weight_l1")
    """
    if hasattr(layer, "mask") and hasattr(layer, needed):
        return
    whole = hasattr(layer, "layers")
    advice = "Pass one of model.layers" if whole else "Pass a KANLinear"
    kind = type(layer).__name__
    got = kind if not hasattr(layer, "mask") else f"{kind}, which has no {needed}"
    raise InvalidValueError(message(call, "a layer of edges", got, advice))


def check_rows_of(call: str, layer: Any, x: Any) -> None:
    """Refuse what is no layer, and what are no rows of its inputs.

    Raises
    ------
    InvalidValueError
        If `layer` is no layer of edges, or `x` no Tensor.
    ShapeError
        If `x` has no rows, or another number of columns.

    Examples
    --------
    >>> import torch
    >>> from kanlens.model.layers import KANLinear
    >>> check_rows_of("activation_l1", KANLinear(2, 1), torch.zeros(3, 2))
    """
    check_layer(call, layer)
    if not isinstance(x, Tensor):
        advice = "Convert it with torch.as_tensor"
        raise InvalidValueError(message(call, "x to be a Tensor", type(x).__name__, advice))
    check_columns(call, x, layer.in_features)
    check_rows(call, x)
