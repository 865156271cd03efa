"""Dense passes: the design matrix of the B-spline basis, times the weights by BLAS."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights
from kanlens.model.kernels import pool
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.passes import Gradients, flat

BUFFER = 1_000_000  # numbers of the basis at hand


def forward(x: Tensor, base: Tensor, basis: LocalBasis, weights: Weights) -> Tensor:
    """Return y (batch, out), as `kanlens.model.kernels.sparse.forward` does."""
    y = torch.addmm(weights.bias, base, weights.base_weights().mT)
    coef = weights.coefficients().flatten(1)
    buffer = _buffer(x, coef)
    for rows, part in zip(x.split(len(buffer)), y.split(len(buffer)), strict=True):
        values = buffer[: len(rows)]
        _fill(rows, basis, values)
        part.addmm_(values, coef.mT)
    return y


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
    coef = weights.coefficients().flatten(1)
    buffer, total = _buffer(x, coef), torch.zeros_like(coef) if want_weights else None
    grad_x = (grad @ weights.base_weights()).mul_(base_slope) if want_x else None
    for j in range(0, len(x), len(buffer)):
        rows, given = x[j : j + len(buffer)], grad[j : j + len(buffer)]
        values = buffer[: len(rows)]
        if total is not None:
            _fill(rows, basis, values)
            total.addmm_(given.mT, values)
        if grad_x is not None:
            torch.mm(given, coef, out=values)
            _contract(rows, basis, values, grad_x[j : j + len(rows)])
    if total is None:
        return Gradients(x=grad_x)
    spline = total.view_as(weights.spline)
    scale = None
    if weights.scale is not None:
        scale = (spline * weights.spline).sum(-1) * weights.mask
    factor = weights.mask if weights.scale is None else weights.mask * weights.scale
    return Gradients(
        x=grad_x,
        spline=spline.mul_(factor.unsqueeze(-1)),
        scale=scale,
        base=(grad.mT @ base).mul_(weights.mask),
    )


def _buffer(x: Tensor, coef: Tensor) -> Tensor:  # (row, in * basis)
    rows = max(16, min(len(x), BUFFER // coef.shape[1]))
    return x.new_empty(rows, coef.shape[1])


def _fill(x: Tensor, basis: LocalBasis, values: Tensor) -> None:
    from kanlens.model.kernels import dense_loops

    n_in, given, wanted = x.shape[1], flat(x), flat(values)
    n_basis = values.shape[1] // n_in

    def task(begin: int, end: int) -> None:
        dense_loops.fill(given, n_in, n_basis, basis.arrays, wanted, begin, end, basis.window)

    threads = pool.threads_for(values.numel())
    pool.run(task, pool.split(len(x), threads), threads)


def _contract(x: Tensor, basis: LocalBasis, grad_basis: Tensor, grad_x: Tensor) -> None:
    from kanlens.model.kernels import dense_loops

    n_in, arrays = x.shape[1], (flat(x), flat(grad_basis), flat(grad_x))
    n_basis = grad_basis.shape[1] // n_in

    def task(begin: int, end: int) -> None:
        dense_loops.contract(
            arrays[0], n_in, n_basis, basis.arrays, arrays[1], arrays[2], begin, end, basis.window
        )

    threads = pool.threads_for(grad_basis.numel())
    pool.run(task, pool.split(len(x), threads), threads)
