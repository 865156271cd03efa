"""Mean absolute edge values of a spline layer on CUDA, on kernels in Triton.

The (batch, out, in) tensor of edge values is never built. Not measured on a GPU.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights, mean_absolute_edges
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.second_order import NO_GRADIENTS, batched, differentiable
from kanlens.model.kernels.triton_sum import gradient_x, over_rows, pack, unpack, widened


class TritonL1(torch.autograd.Function):
    """The norms of all edges of a layer; keeps what is as large as x and as the weights."""

    @staticmethod
    def forward(ctx: Any, basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
        """Return norms (out, in) from x (batch, in) and the fields of `Weights` in their order."""
        ctx.basis, ctx.base = basis, base
        slopes, norms = over_rows(basis, base, x, Weights(*tensors), None, None)
        ctx.save_for_backward(x, *tensors, slopes if any(ctx.needs_input_grad[3:]) else None)
        return (norms.mT / len(x)).to(x.dtype).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        basis, base, (*given, slopes) = ctx.basis, ctx.base, ctx.saved_tensors
        want_x, *want = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or batched(grad):
            reference = partial(mean_absolute_edges, again=False)
            wanted = want_x, *want[:3], False, False
            return None, None, *differentiable(reference, basis, base, given, grad, wanted)
        x, weights = given[0], Weights(*given[1:])
        shares = widened(grad).mT / len(x)  # (in, out)
        total = slopes * shares.unsqueeze(1)
        found = unpack(total, weights) if any(want[:3]) else NO_GRADIENTS
        grad_x = None
        if want_x:
            each = shares.contiguous().resolve_neg()
            grad_x = gradient_x(basis, base, x, pack(weights), each, signed=True)
        return None, None, grad_x, *found, None, None
