"""Rows as callers have them, brought into tensors."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import DTypeError


def as_tensor(x: object, call: str) -> Tensor:
    """Return a Tensor as it is, and anything that NumPy reads as numbers in float64.

    Raises
    ------
    DTypeError
        If `x` is complex, or holds no numbers.

    Examples
    --------
    >>> as_tensor([[1, 2]], "KAN.forward").dtype
    torch.float64
    """
    complex_ = x.is_complex() if isinstance(x, Tensor) else np.iscomplexobj(cast("Any", x))
    if complex_:
        raise DTypeError(message(call, "x to be real", "complex numbers", "Pass x.real or abs(x)"))
    if isinstance(x, Tensor):
        return x
    try:
        return torch.from_numpy(np.array(x, dtype=np.float64, order="C"))
    except (TypeError, ValueError) as error:
        expected = "x to be a Tensor, an ndarray or a DataFrame of numbers"
        got = f"{type(x).__name__} ({error})"
        raise DTypeError(message(call, expected, got, "Convert it first")) from error
