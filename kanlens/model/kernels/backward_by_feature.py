"""Backward pass of the sparse kernel, parallel over features: no two threads share a write."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights
from kanlens.model.kernels import pool
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.passes import COLUMNS, Gradients, flat
from kanlens.model.kernels.sparse import (
    PACKED,
    arrays,
    backward_block,
    empty_gradients,
    lanes_of,
    nanoseconds,
    stride_of,
    tensors,
)

DESK = 65_536  # numbers of packed weights, so that they stay in a core's cache


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
    """Return gradients, as `kanlens.model.kernels.sparse.backward` does."""
    from kanlens.model.kernels import backward_by_feature_loops

    (rows, n_in), (n_out, _, n_basis) = x.shape, weights.spline.shape
    stride, group = stride_of(n_out, x), group_of(n_out, n_basis, x)
    time = 2 * nanoseconds(rows * n_in, basis, n_out) + 2 * PACKED * weights.spline.numel()
    threads = pool.threads_for(time)
    spans = pool.shares(n_in, threads)
    room = 2, min(group, n_in) * (n_basis + 1) * stride
    desks = x.new_empty(len(spans), *room) if rows else x.new_zeros(len(spans), *room)
    grad_x = torch.empty_like(x) if want_x else None
    found = empty_gradients(weights, grad_x) if want_weights else Gradients(x=grad_x)
    points, given = tuple(map(flat, (x, base, base_slope))), tensors(weights)
    base_weight, grads, block = flat(weights.base), flat(grad), backward_block(grad)
    none = grads[:0]
    wanted = (none if grad_x is None else flat(grad_x), *arrays(found, none))
    sizes = (rows, n_in, n_out, stride, n_basis, group)

    def task(j: int, _: int) -> None:
        packed, total = (flat(desk) for desk in desks[j])
        backward_by_feature_loops.backward_inputs(
            points,
            given,
            base_weight,
            basis.arrays,
            grads,
            (packed, total if want_weights else none),
            wanted,
            sizes,
            (*spans[j], block),
            lanes_of(x),
            basis.window,
        )

    pool.run(task, [(j, j + 1) for j in range(len(spans))], threads)
    return found


def group_of(n_out: int, n_basis: int, like: Tensor) -> int:
    """Return how many inputs' weights are packed at a time: at least one.

    Examples
    --------
    >>> group_of(64, 8, torch.ones(1)), group_of(4096, 8, torch.ones(1))
    (32, 2)
    """
    return max(1, min(COLUMNS, DESK // stride_of(n_out, like)) // n_basis)
