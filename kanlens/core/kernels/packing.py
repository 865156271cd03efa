"""Weights from the shape a layer keeps them in to the one kernels read, and gradients back.

A tile of outputs goes through a small buffer that is turned block by block in registers. Copying
number by number was measured to take five times as long.
"""

from __future__ import annotations

import numpy as np

from kanlens.core.kernels.compiling import inner, jit
from kanlens.core.kernels.vectors import copy_scaled, scalar_product, transpose_block

COLUMNS = 256  # of the buffer: basis functions of some inputs


@inner
def turn(source, columns, stride, target, to, target_stride, lanes):
    """Write `lanes` rows of numbers as columns.

    The source has room for columns up to a multiple of `lanes`; the target has not.
    """
    spare = np.empty(lanes * lanes, source.dtype)
    for j in range(0, columns, lanes):
        fits = j + lanes <= columns
        wanted, place = (target, to + j * target_stride) if fits else (spare, 0)
        transpose_block(source, j, stride, wanted, place, target_stride if fits else lanes)
        if not fits:
            for c in range(columns - j):
                for o in range(lanes):
                    target[to + (j + c) * target_stride + o] = spare[c * lanes + o]


@jit
def pack(given, base, packed, sizes, begin, end, origin, lanes):
    """Write the weights of inputs begin to end as (in, basis + 1, lane).

    Of those given, `spline` (out, in, basis) is multiplied by `scale` (out, in) unless that is
    empty, and it and `base` (out, in) by `mask` (out, in). The packed array begins with input
    `origin`.
    """
    (spline, scale, mask), (n_in, n_out, stride) = given, sizes
    n_basis = len(spline) // (n_in * n_out)
    scaled = len(scale) > 0
    group = max(1, COLUMNS // (n_basis + 1))
    width = (group * (n_basis + 1) + lanes - 1) // lanes * lanes
    buffer = np.zeros(lanes * width, packed.dtype)
    for left in range(begin, end, group):
        right = min(end, left + group)
        for top in range(0, n_out, lanes):
            for o in range(top, min(n_out, top + lanes)):
                to = (o - top) * width
                for i in range(left, right):
                    edge = o * n_in + i
                    factor = mask[edge]
                    buffer[to + n_basis] = base[edge] * factor
                    if scaled:
                        factor *= scale[edge]
                    copy_scaled(buffer, to, spline, edge * n_basis, n_basis, factor)
                    to += n_basis + 1
            columns = (right - left) * (n_basis + 1)
            to = (left - origin) * (n_basis + 1) * stride + top
            turn(buffer, columns, width, packed, to, stride, lanes)


@jit
def unpack(grad, given, wanted, sizes, begin, end, origin, lanes):
    """Write the gradients of a layer's weights from that of the packed ones.

    `grad` begins with input `origin` and has room for `lanes` rows more than it holds.
    """
    (spline, scale, mask), (grad_spline, grad_scale, grad_base) = given, wanted
    n_in, n_out, stride = sizes
    n_basis = len(spline) // (n_in * n_out)
    scaled = len(scale) > 0
    group = max(1, COLUMNS // (n_basis + 1))
    width = (group * (n_basis + 1) + lanes - 1) // lanes * lanes
    buffer = np.empty(lanes * width, grad.dtype)
    for left in range(begin, end, group):
        right = min(end, left + group)
        for top in range(0, n_out, lanes):
            source = (left - origin) * (n_basis + 1) * stride + top
            for j in range(0, (right - left) * (n_basis + 1), lanes):
                transpose_block(grad, source + j * stride, stride, buffer, j, width)
            for o in range(top, min(n_out, top + lanes)):
                at = (o - top) * width
                for i in range(left, right):
                    edge = o * n_in + i
                    factor = mask[edge]
                    grad_base[edge] = buffer[at + n_basis] * factor
                    if scaled:
                        total = scalar_product(buffer, at, spline, edge * n_basis, n_basis)
                        grad_scale[edge] = total * factor
                        factor *= scale[edge]
                    copy_scaled(grad_spline, edge * n_basis, buffer, at, n_basis, factor)
                    at += n_basis + 1
