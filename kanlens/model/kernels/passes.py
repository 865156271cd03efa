"""Gradients of a spline layer, and flat views of tensors, for all kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
COLUMNS = 256  # basis functions, of some inputs, whose weights are packed at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Gradients of the same tensors and of x (batch, in); None where none is wanted."""

    x: Tensor | None = None
    spline: Tensor | None = None
    scale: Tensor | None = None
    base: Tensor | None = None


def flat(tensor: Tensor) -> Array:
    """Return a tensor's numbers as a flat array, without a copy where they lie in order.

    Examples
    --------
    >>> import torch
    >>> flat(torch.ones(2, 2)).shape
    (4,)
    """
    array: Array = tensor.detach().numpy().reshape(-1)
    return array
