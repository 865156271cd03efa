"""Pack weights into the memory layout of the kernels, and unpack their gradients.

Some outputs of some inputs at a time are turned into a desk that stays in a core's cache: rows one
vector long, one for each column of the matrix they come from.
"""

from __future__ import annotations

import numpy as np

from kanlens.model.kernels.compiling import inner, jit
from kanlens.model.kernels.passes import COLUMNS
from kanlens.model.kernels.simd_transpose import dot_rows, scale_rows, turn_block


@inner
def lay_out(matrix, width, top, rows, left, columns, desk, to, lanes):
    """Write some rows and columns of a matrix of so many columns as rows of the desk."""
    for j in range(0, columns, lanes):
        at, place = top * width + left + j, to + j * lanes
        turn_block(matrix, at, width, rows, columns - j, desk, place, lanes)


@inner
def put_back(desk, at, lanes, matrix, width, top, rows, left, columns):
    """Write rows of the desk as columns of a matrix."""
    for j in range(0, columns, lanes):
        to, place = top * width + left + j, at + j * lanes
        turn_block(desk, place, lanes, columns - j, rows, matrix, to, width)


@inner
def lay_out_factors(scale, mask, n_in, span, desk, places, lanes):
    """Lay out the mask, and what multiplies the coefficients: the mask, times a scale if any."""
    (top, rows, left, inputs), (at_mask, at_factor) = span, places
    lay_out(mask, n_in, top, rows, left, inputs, desk, at_mask, lanes)
    if len(scale) == 0:
        desk[at_factor : at_factor + inputs * lanes] = desk[at_mask : at_mask + inputs * lanes]
        return
    lay_out(scale, n_in, top, rows, left, inputs, desk, at_factor, lanes)
    for i in range(inputs):
        place = at_factor + i * lanes
        scale_rows(desk, place, 0, desk, place, 0, desk, at_mask + i * lanes, 1)


@jit
def pack(given, base, packed, sizes, begin, end, origin, lanes):
    """Write the weights of inputs begin to end as (in, basis + 1, lane).

    Of those given, `spline` (out, in, basis) is multiplied by `scale` (out, in) unless that is
    empty, and it and `base` (out, in) by `mask` (out, in). The packed array begins with input
    `origin`.
    """
    (spline, scale, mask), (n_in, n_out, stride) = given, sizes
    n_basis = len(spline) // (n_in * n_out)
    group = max(1, COLUMNS // n_basis)
    part = group * lanes
    at_factor, at_base, at_spline = part, 2 * part, 3 * part
    desk = np.zeros(3 * part + group * n_basis * lanes, packed.dtype)
    for left in range(begin, end, group):
        inputs = min(group, end - left)
        for top in range(0, n_out, lanes):
            rows = n_out - top
            span = (top, rows, left, inputs)
            lay_out_factors(scale, mask, n_in, span, desk, (0, at_factor), lanes)
            lay_out(base, n_in, top, rows, left, inputs, desk, at_base, lanes)
            columns = inputs * n_basis
            lay_out(
                spline, n_in * n_basis, top, rows, left * n_basis, columns, desk, at_spline, lanes
            )
            for i in range(inputs):
                here, to = i * lanes, (left + i - origin) * (n_basis + 1) * stride + top
                at = at_spline + here * n_basis
                scale_rows(packed, to, stride, desk, at, lanes, desk, at_factor + here, n_basis)
                to += n_basis * stride
                scale_rows(packed, to, stride, desk, at_base + here, lanes, desk, here, 1)


@jit
def unpack(grad, given, wanted, sizes, begin, end, origin, lanes):
    """Write the gradients of a layer's weights from that of the packed ones.

    `grad` begins with input `origin`.
    """
    (spline, scale, mask), (grad_spline, grad_scale, grad_base) = given, wanted
    n_in, n_out, stride = sizes
    n_basis = len(spline) // (n_in * n_out)
    group = max(1, COLUMNS // n_basis)
    part, width = group * lanes, n_in * n_basis
    at_factor, at_base, at_scale, at_spline = part, 2 * part, 3 * part, 4 * part
    desk = np.zeros(4 * part + group * n_basis * lanes, grad.dtype)
    for left in range(begin, end, group):
        inputs = min(group, end - left)
        column, columns = left * n_basis, inputs * n_basis
        for top in range(0, n_out, lanes):
            rows = n_out - top
            span = (top, rows, left, inputs)
            lay_out_factors(scale, mask, n_in, span, desk, (0, at_factor), lanes)
            if len(scale) > 0:
                lay_out(spline, width, top, rows, column, columns, desk, at_spline, lanes)
            for i in range(inputs):
                here, at = i * lanes, (left + i - origin) * (n_basis + 1) * stride + top
                to = at_spline + here * n_basis
                if len(scale) > 0:
                    dot_rows(desk, at_scale + here, grad, at, stride, desk, to, n_basis)
                    place = at_scale + here
                    scale_rows(desk, place, 0, desk, place, 0, desk, here, 1)
                scale_rows(desk, to, lanes, grad, at, stride, desk, at_factor + here, n_basis)
                at += n_basis * stride
                scale_rows(desk, at_base + here, 0, grad, at, 0, desk, here, 1)
            put_back(desk, at_spline, lanes, grad_spline, width, top, rows, column, columns)
            put_back(desk, at_base, lanes, grad_base, n_in, top, rows, left, inputs)
            if len(scale) > 0:
                put_back(desk, at_scale, lanes, grad_scale, n_in, top, rows, left, inputs)
