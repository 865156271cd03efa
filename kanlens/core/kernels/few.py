"""Forward pass over few rows, and backward pass over any number, shared out by inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.core.edge_sum import Weights
from kanlens.core.kernels import pool
from kanlens.core.kernels.local_basis import LocalBasis
from kanlens.core.kernels.passes import Array, Gradients, flat
from kanlens.core.kernels.sparse import (
    PACKED,
    arrays,
    backward_block,
    empty_gradients,
    lanes_of,
    nanoseconds,
    stride_of,
    tensors,
)

COLUMNS = 256  # basis functions, of some inputs, that are packed at a time


@dataclass(kw_only=True, eq=False)
class _Work:
    """The work on some rows, how it is shared out, and what the kernels take of it."""

    spans: list[tuple[int, int]]
    threads: int
    sizes: tuple[int, int, int, int, int, int]
    points: tuple[Array, ...]
    given: tuple[Array, ...]
    base_weight: Array
    desks: Tensor

    def run(self, task: Callable[[int, tuple[int, int]], None]) -> None:
        """Call a task with the number and the inputs of every share."""
        jobs = [(j, j + 1) for j in range(len(self.spans))]
        pool.run(lambda j, _: task(j, self.spans[j]), jobs, self.threads)


def _work(points: tuple[Tensor, ...], basis: LocalBasis, weights: Weights, *, parts: int) -> _Work:
    """Share out work by inputs, into so many parts for each of several threads."""
    x = points[0]
    (rows, n_in), (n_out, _, n_basis) = x.shape, weights.spline.shape
    stride, group = stride_of(n_out, x), max(2, COLUMNS // n_basis // 2 * 2)
    time = nanoseconds(rows * n_in, basis, n_out) + PACKED * weights.spline.numel()
    threads = pool.threads_for(len(points) * time / 2)  # a backward pass has three, and does twice
    spans = pool.split(n_in, threads * parts if threads > 1 else 1)
    room = 2, min(group, n_in) * (n_basis + 1) * stride
    return _Work(
        spans=spans,
        threads=threads,
        sizes=(rows, n_in, n_out, stride, n_basis, group),
        points=tuple(map(flat, points)),
        given=tensors(weights),
        base_weight=flat(weights.base),
        desks=x.new_empty(len(spans), *room) if rows else x.new_zeros(len(spans), *room),
    )


def forward(x: Tensor, base: Tensor, basis: LocalBasis, weights: Weights) -> Tensor:
    """Return y (batch, out), as `kanlens.core.kernels.sparse.forward` does."""
    from kanlens.core.kernels import few_loops

    work = _work((x, base), basis, weights, parts=1)
    sums = x.new_empty(len(work.spans), len(x), len(weights.bias))

    def task(j: int, span: tuple[int, int]) -> None:
        few_loops.forward_few(
            work.points,
            work.given,
            work.base_weight,
            basis.arrays,
            flat(work.desks[j, 0]),
            flat(sums[j]),
            work.sizes,
            span,
            lanes_of(x),
            basis.window,
        )

    work.run(task)
    y = sums[0] if len(sums) == 1 else sums.sum(0)
    return y.add_(weights.bias)


def backward(
    x: Tensor,
    base: Tensor,
    base_slope: Tensor,
    basis: LocalBasis,
    weights: Weights,
    grad: Tensor,
    *,
    want_x: bool,
    want_weights: bool,
) -> Gradients:
    """Return gradients, as `kanlens.core.kernels.sparse.backward` does."""
    from kanlens.core.kernels import few_loops

    work = _work((x, base, base_slope), basis, weights, parts=pool.CHUNKS)
    grad_x = torch.empty_like(x) if want_x else None
    found = empty_gradients(weights, grad_x) if want_weights else Gradients(x=grad_x)
    rows = flat(grad)
    none, block = rows[:0], backward_block(grad)
    wanted = (none if grad_x is None else flat(grad_x), *arrays(found, none))

    def task(j: int, span: tuple[int, int]) -> None:
        packed, total = (flat(desk) for desk in work.desks[j])
        few_loops.backward_few(
            work.points,
            work.given,
            work.base_weight,
            basis.arrays,
            rows,
            (packed, total if want_weights else none),
            wanted,
            work.sizes,
            (*span, block),
            lanes_of(x),
            basis.window,
        )

    work.run(task)
    return found
