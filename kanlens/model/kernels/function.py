"""The fused spline layer as a `torch.autograd.Function`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights, edge_sum
from kanlens.model.kernels import base_function, dense, sparse
from kanlens.model.kernels.local_basis import LocalBasis

PASSES: dict[str, ModuleType] = {"sparse": sparse, "dense": dense}


class FusedSum(torch.autograd.Function):
    """The sum over edges; keeps x and weights for its gradient, nothing in between."""

    @staticmethod
    def forward(
        ctx: Any, path: str, basis: LocalBasis, base: str, x: Tensor, *tensors: Any
    ) -> Tensor:
        """Return y (batch, out) from x (batch, in) and the fields of `Weights` in their order."""
        ctx.path, ctx.basis, ctx.base = path, basis, base
        ctx.save_for_backward(x, *tensors)
        value = base_function.values(base, x)
        result: Tensor = PASSES[path].forward(x.contiguous(), value, basis, Weights(*tensors))
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        basis, base = ctx.basis, ctx.base
        given, wanted = ctx.saved_tensors, ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or batched(grad):
            return None, None, None, *differentiable(edge_sum, basis, base, given, grad, wanted)
        (x, *tensors), (want_x, *want) = given, wanted
        grad = grad.contiguous().resolve_neg()
        value, slope = base_function.pair(base, x)
        found = PASSES[ctx.path].backward(
            x.contiguous(),
            value,
            slope,
            basis,
            Weights(*tensors),
            grad,
            want_x=want_x,
            want_weights=any(want[:3]),
        )
        bias = sparse.bias_gradient(grad) if want[3] else None
        return None, None, None, found.x, found.spline, found.scale, found.base, bias, None


def differentiable(
    reference: Callable[..., Tensor],
    basis: LocalBasis,
    base: str,
    tensors: Sequence[Tensor | None],
    grad: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return gradients to x and the weights that have gradients of their own.

    They are those of `reference`, which does in torch operations what a kernel does.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():  # aliases: a tensor may have been made from another
        given: list[Any] = [each if each is None else each.view_as(each) for each in tensors]
        y = reference(
            given[0],
            Weights(*given[1:]),
            grid=basis.knots,
            degree=basis.degree,
            extrapolation=basis.extrapolation,
            base=base,
        )
    asked = [each for each, want in zip(given, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(y, asked, grad, create_graph=again))
    return [next(found) if want else None for want in wanted]


def batched(grad: Tensor) -> bool:
    """Tell whether many gradients come at once, as ``is_grads_batched`` sends them."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad)
