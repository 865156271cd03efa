"""Mean absolute edge values of a spline layer as a `torch.autograd.Function`, on any device.

The forward pass keeps the gradient to the weights: all takes two passes over the edge values.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights, mean_absolute_edges, widened
from kanlens.model.kernels import pool
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.second_order import NO_GRADIENTS, batched, differentiable


class EdgeL1(torch.autograd.Function):
    """The norms of all edges of a layer; keeps what is as large as x and as the weights.

    Its passes are those of a module: `edge_l1` on the CPU, `triton_sum` on CUDA.
    """

    @staticmethod
    def forward(ctx: Any, passes: Any, basis: LocalBasis, base: str, *given: Any) -> Tensor:
        """Return norms (out, in) from x (batch, in) and the fields of `Weights`, given in order."""
        (x, *tensors), ctx.given = given, (passes, basis, base)
        norms, slopes = passes.edge_norms(basis, base, x, Weights(*tensors))
        ctx.save_for_backward(x, *tensors, slopes if any(ctx.needs_input_grad[4:]) else None)
        result: Tensor = norms.mT.to(x.dtype).contiguous()
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        (passes, basis, base), (*given, slopes) = ctx.given, ctx.saved_tensors
        want_x, *want = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or batched(grad):
            reference = partial(mean_absolute_edges, again=False)
            wanted = want_x, *want[:3], False, False
            return None, None, None, *differentiable(reference, basis, base, given, grad, wanted)
        x, weights = given[0], Weights(*given[1:])
        found, grad_x, each = NO_GRADIENTS, None, widened(grad).mT.contiguous().resolve_neg()
        if any(want[:3]):
            with pool.safe():
                found = weights.unpacked(slopes * each.unsqueeze(1))
        if want_x:
            grad_x = passes.norms_gradient(basis, base, x, weights, each)
        return None, None, None, grad_x, *found, None, None
