"""Forward and backward passes over few rows, shared out by inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.core.edge_sum import Weights
from kanlens.core.kernels import pool
from kanlens.core.kernels.local_basis import LocalBasis
from kanlens.core.kernels.passes import Gradients, flat
from kanlens.core.kernels.sparse import arrays, empty_gradients, lanes_of, stride_of, tensors

WEIGHT = 8  # products that moving one weight is worth


def forward(x: Tensor, base: Tensor, basis: LocalBasis, weights: Weights) -> Tensor:
    """Return y (batch, out), as `kanlens.core.kernels.sparse.forward` does."""
    from kanlens.core.kernels import few_loops

    threads = _threads(x, basis, weights)
    spans = pool.split(x.shape[1], threads)
    parts = x.new_empty(len(spans), len(x), len(weights.bias))
    given, base_weight = tensors(weights), flat(weights.base)
    points, sizes = (flat(x), flat(base)), _sizes(x, weights)

    def task(j: int, _: int) -> None:
        few_loops.forward_few(
            *points,
            given,
            base_weight,
            basis.arrays,
            flat(parts[j]),
            sizes,
            spans[j],
            lanes_of(x),
            basis.window,
        )

    pool.run(task, [(j, j + 1) for j in range(len(spans))], threads)
    y = parts[0] if len(parts) == 1 else parts.sum(0)
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

    threads = _threads(x, basis, weights)
    grad_x = torch.empty_like(x) if want_x else None
    found = empty_gradients(weights, grad_x) if want_weights else Gradients(x=grad_x)
    points, given = (flat(x), flat(base), flat(base_slope)), tensors(weights)
    none = flat(x[:0])
    wanted = (none if grad_x is None else flat(grad_x), *arrays(found, none))
    base_weight, rows, sizes = flat(weights.base), flat(grad), _sizes(x, weights)

    def task(first: int, last: int) -> None:
        few_loops.backward_few(
            points,
            given,
            base_weight,
            basis.arrays,
            rows,
            wanted,
            sizes,
            (first, last),
            lanes_of(x),
            basis.window,
        )

    pool.run(task, pool.shares(x.shape[1], threads), threads)
    return found


def _sizes(x: Tensor, weights: Weights) -> tuple[int, int, int, int, int]:
    n_out = len(weights.bias)
    return (*x.shape, n_out, stride_of(n_out, x), weights.spline.shape[2])


def _threads(x: Tensor, basis: LocalBasis, weights: Weights) -> int:
    """Return how many threads a pass deserves: weights that are moved count besides the sums."""
    work = len(x) * weights.base.numel() * (len(basis.window) + 1)
    return pool.threads_for(work + WEIGHT * weights.spline.numel())
