"""Backward kernel over blocks of input features: pack their weights, use them, unpack gradients.

With few rows the way of the weights through memory takes longer than the sums. Here they are read
once, and what is made of them stays in a core's cache.
"""

from __future__ import annotations

from kanlens.model.kernels.compiling import jit
from kanlens.model.kernels.packing import pack, unpack
from kanlens.model.kernels.sparse_loops import backward


@jit
def backward_inputs(
    points, given, base_weight, basis, grad, desks, wanted, sizes, span, lanes, window
):
    """Write the gradients of inputs first to last: of x, and of their weights.

    The gradient of x, or those of the weights, are left out when their arrays are empty. The desks
    have room for the packed weights of a group of inputs, and for the gradient of these.
    """
    (x, base, base_slope), (grad_x, grad_spline, grad_scale, grad_base) = points, wanted
    (rows, n_in, n_out, stride, n_basis, group), (packed, total) = sizes, desks
    first, last, block = span
    size = (n_basis + 1) * stride
    weights, outer = (grad_spline, grad_scale, grad_base), (n_in, n_out, stride)
    for left in range(first, last, group):
        right = min(last, left + group)
        if len(grad_x) > 0:
            pack(given, base_weight, packed, outer, left, right, left, lanes)
        inside = (n_in, n_out, stride, size)
        spans = (0, rows, left, right, block, left)
        backward(x, base, base_slope, packed, basis, grad, total, grad_x, inside, spans, window)
        if len(grad_base) > 0:
            unpack(total, given, weights, outer, left, right, left, lanes)
