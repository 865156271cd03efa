"""Dense passes: the design matrix of the B-spline basis, times the weights by BLAS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights
from kanlens.model.kernels import pool
from kanlens.model.kernels.compiling import flat, jit
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.sparse import Gradients
from kanlens.model.kernels.sparse_loops import find_piece
from kanlens.model.kernels.vectors import write_polynomials, write_slopes

BUFFER = 1_000_000  # numbers of the basis at hand


def forward(x: Tensor, base: Tensor, basis: LocalBasis, weights: Weights) -> Tensor:
    """Return y (batch, out), as `kanlens.model.kernels.sparse.forward` does."""
    y = torch.addmm(weights.bias, base, weights.base_weights().mT)
    coef = weights.coefficients().flatten(1)
    buffer = _buffer(x, coef)
    for rows, part in zip(x.split(len(buffer)), y.split(len(buffer)), strict=True):
        values = buffer[: len(rows)]
        _over_rows(fill, rows, basis, values)
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
            _over_rows(fill, rows, basis, values)
            total.addmm_(given.mT, values)
        if grad_x is not None:
            torch.mm(given, coef, out=values)
            _over_rows(contract, rows, basis, values, grad_x[j : j + len(rows)])
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


def _over_rows(
    kernel: Callable[..., None], x: Tensor, basis: LocalBasis, values: Tensor, *wanted: Tensor
) -> None:
    """Run a kernel on shares of the rows of x and of the design matrix (row, in * basis)."""
    n_in = x.shape[1]
    arrays = flat(x), n_in, values.shape[1] // n_in, basis.arrays, basis.window
    given = (*arrays, flat(values), *map(flat, wanted))
    pool.share(kernel, given, len(x), values.numel(), chunks=1)


@jit
def fill(x, n_in, n_basis, basis, window, buffer, begin, end):
    """Write the basis (row, in, basis) of rows begin to end."""
    starts, ends, origins, scales, first, powers, low, density, even, jump, one = basis
    live, pieces = len(window), len(first)
    buffer[begin * n_in * n_basis : end * n_in * n_basis] = 0
    for r in range(begin, end):
        for i in range(n_in):
            value, to = x[r * n_in + i], (r * n_in + i) * n_basis
            at = i * jump
            left, rate = low[i * one], density[i * one]
            piece = find_piece(value, starts, ends, at, pieces, left, rate, even)
            u = (value - origins[at + piece]) * scales[at + piece]
            source = (at + piece) * live * live
            write_polynomials(u, powers, source, buffer, to + first[piece], window)
            if value != value:
                buffer[to : to + n_basis] = value


@jit
def contract(x, n_in, n_basis, basis, window, grad_basis, grad_x, begin, end):
    """Add to grad_x (row, in) what comes through the basis, from its gradient."""
    starts, ends, origins, scales, first, powers, low, density, even, jump, one = basis
    live, pieces = len(window), len(first)
    values, slopes = np.empty(live, x.dtype), np.empty(live, x.dtype)
    for r in range(begin, end):
        for i in range(n_in):
            value, at = x[r * n_in + i], i * jump
            left, rate = low[i * one], density[i * one]
            piece = find_piece(value, starts, ends, at, pieces, left, rate, even)
            scale = scales[at + piece]
            u = (value - origins[at + piece]) * scale
            write_slopes(u, scale, powers, (at + piece) * live * live, values, slopes, 0, window)
            source = (r * n_in + i) * n_basis + first[piece]
            for k in range(live):
                grad_x[r * n_in + i] += slopes[k] * grad_basis[source + k]
