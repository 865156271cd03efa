"""Kernels that fill the design matrix of the basis, and contract its gradient to x."""

from __future__ import annotations

import numpy as np

from kanlens.model.kernels.compiling import jit
from kanlens.model.kernels.sparse_loops import find_piece
from kanlens.model.kernels.vectors import write_polynomials, write_slopes


@jit
def fill(x, n_in, n_basis, basis, buffer, begin, end, window):
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
def contract(x, n_in, n_basis, basis, grad_basis, grad_x, begin, end, window):
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
