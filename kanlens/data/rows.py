"""Rows as callers have them, brought into tensors."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import DTypeError


def check_dense(x: object, call: str, name: str = "x") -> None:
    """Refuse sparse tensors and arrays.

    Raises
    ------
    DTypeError

    Examples
    --------
    >>> check_dense(torch.eye(2), "fit")
    """
    if (x.layout != torch.strided) if isinstance(x, Tensor) else hasattr(x, "todense"):
        got, advice = f"a sparse {type(x).__name__}", f"Pass {name}.to_dense(), or {name}.toarray()"
        raise DTypeError(message(call, f"{name} to be dense", got, advice))


def unmasked(x: Any) -> Any:
    """Return an array with NaN where it is masked; anything else as it is.

    Examples
    --------
    >>> unmasked(np.ma.masked_array([1.0, 2.0], mask=[False, True]))
    array([ 1., nan])
    """
    if not isinstance(x, np.ma.MaskedArray):
        return x
    return cast("Any", x).astype(np.float64).filled(np.nan)


def as_tensor(x: object, call: str) -> Tensor:
    """Return a Tensor as it is, and anything that NumPy reads as numbers in float64.

    Raises
    ------
    DTypeError
        If `x` is complex or sparse, or holds no numbers.

    Examples
    --------
    >>> as_tensor([[1, 2]], "KAN.forward").dtype
    torch.float64
    """
    complex_ = x.is_complex() if isinstance(x, Tensor) else np.iscomplexobj(cast("Any", x))
    if complex_:
        raise DTypeError(message(call, "x to be real", "complex numbers", "Pass x.real or abs(x)"))
    check_dense(x, call)
    if isinstance(x, Tensor):
        return x
    try:
        return torch.from_numpy(np.array(unmasked(x), dtype=np.float64, order="C"))
    except (TypeError, ValueError) as error:
        expected = "x to be a Tensor, an ndarray or a DataFrame of numbers"
        got = f"{type(x).__name__} ({error})"
        raise DTypeError(message(call, expected, got, "Convert it first")) from error
