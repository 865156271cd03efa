"""What a forward and a backward pass of a spline layer take and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.core.kernels import pool

Array = np.ndarray[Any, np.dtype[Any]]
SLICE = 16_384  # numbers, half of those from which torch shares out work
WORK = 0.6  # nanoseconds of one number of a base function


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Gradients of the same tensors and of x (batch, in); None where none is wanted."""

    x: Tensor | None = None
    spline: Tensor | None = None
    scale: Tensor | None = None
    base: Tensor | None = None


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return a function of every number, computed in slices on this package's threads.

    torch would use threads of its own on large tensors, which wait by spinning and hold up those of
    the kernels that follow; slices as short as these it takes in one.

    Examples
    --------
    >>> import torch
    >>> elementwise(torch.square, torch.tensor([[1.0, 2.0]]))
    tensor([[1., 4.]])
    """
    if x.numel() <= SLICE:
        return function(x).contiguous()
    given = x.contiguous().view(-1)
    result = torch.empty_like(given)

    inference = torch.is_inference_mode_enabled()  # a matter of each thread

    def task(begin: int, end: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for at in range(begin, end, SLICE):
                part = slice(at, min(end, at + SLICE))
                result[part] = function(given[part])

    threads = pool.threads_for(WORK * x.numel())
    pool.run(task, pool.shares(len(given), threads, SLICE), threads)
    return result.view(x.shape)


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
