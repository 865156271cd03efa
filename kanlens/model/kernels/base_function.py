"""Elementwise base activation and its derivative, on this package's threads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.functions.catalog import BASES
from kanlens.model.kernels import pool
from kanlens.model.kernels.passes import flat
from kanlens.threads import one_thread

SLICE = 32_640  # numbers, just below those from which torch shares out work
WORK = 0.4  # nanoseconds of one number of a base function and its slope


def values(base: str, x: Tensor) -> Tensor:
    """Return the base function of x.

    Examples
    --------
    >>> values("silu", torch.tensor([[0.0, 1.0]]))
    tensor([[0.0000, 0.7311]])
    """
    if base == "silu":
        from kanlens.model.kernels import silu_loops

        return _compiled(silu_loops.write_silu, x, count=1)[0]
    return _in_slices(lambda part: (BASES[base].value(part),), x, count=1)[0]


def pair(base: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the base function of x and its derivative.

    Examples
    --------
    >>> pair("tanh", torch.tensor([0.0]))
    (tensor([0.]), tensor([1.]))
    """
    if base == "silu":
        from kanlens.model.kernels import silu_loops

        value, slope = _compiled(silu_loops.write_silu_pair, x, count=2)
    else:
        value, slope = _in_slices(BASES[base].pair, x, count=2)
    return value, slope


def _compiled(kernel: Callable[..., None], x: Tensor, *, count: int) -> list[Tensor]:
    """Return all results of a kernel that takes x, room for them, and a range of places."""
    given = x.detach().contiguous()
    results = [torch.empty_like(given) for _ in range(count)]
    arrays = [flat(each) for each in (given, *results)]
    threads = pool.threads_for(WORK * x.numel())

    def task(begin: int, end: int) -> None:
        kernel(*arrays, begin, end)

    pool.run(task, pool.split(x.numel(), threads), threads)
    return results


def _in_slices(
    function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, *, count: int
) -> tuple[Tensor, ...]:
    """Return all results of a function of every number.

    torch would use threads of its own on large tensors, which wait by spinning and hold up those of
    the kernels that follow; slices as short as these most of its operations take in one. In a
    process that was forked its threads are gone, and whoever waits for them hangs.
    """
    if pool.forked():
        with one_thread():
            return tuple(each.contiguous() for each in function(x))
    if x.numel() <= SLICE:
        return tuple(each.contiguous() for each in function(x))
    given = x.contiguous().view(-1)
    results = tuple(torch.empty_like(given) for _ in range(count))

    inference = torch.is_inference_mode_enabled()  # a matter of each thread

    def task(begin: int, end: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for at in range(begin, end, SLICE):
                part = slice(at, min(end, at + SLICE))
                for result, found in zip(results, function(given[part]), strict=True):
                    result[part] = found

    threads = pool.threads_for(WORK * x.numel())
    pool.run(task, pool.shares(len(given), threads, SLICE), threads)
    return tuple(result.view(x.shape) for result in results)
