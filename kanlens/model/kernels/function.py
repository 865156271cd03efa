"""The fused spline layer as a `torch.autograd.Function`."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights, edge_sum
from kanlens.model.kernels import base_function, dense, sparse
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.splines.spline import Extrapolation

PASSES: dict[str, ModuleType] = {"sparse": sparse, "dense": dense}


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a layer is, weights and rows aside, and the path it takes."""

    path: str
    basis: LocalBasis
    degree: int
    extrapolation: Extrapolation
    base: str

    def reference(self, x: Tensor, weights: Weights) -> Tensor:
        """Return the same in torch operations."""
        return edge_sum(
            x,
            weights,
            grid=self.basis.knots,
            degree=self.degree,
            extrapolation=self.extrapolation,
            base=self.base,
        )


class FusedSum(torch.autograd.Function):
    """The sum over edges; keeps x and weights for its gradient, nothing in between."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, x: Tensor, *tensors: Tensor | None) -> Tensor:
        """Return y (batch, out) from x (batch, in) and the fields of `Weights` in their order."""
        weights = _weights(tensors)
        ctx.plan = plan
        ctx.save_for_backward(x, *tensors)
        result: Tensor = PASSES[plan.path].forward(
            x.contiguous(), base_function.values(plan.base, x), plan.basis, weights
        )
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        plan, (x, *tensors) = ctx.plan, ctx.saved_tensors
        want_x, want = ctx.needs_input_grad[1], ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or _batched(grad):
            return _differentiable(plan, x, tensors, grad, ctx.needs_input_grad[1:])
        grad = grad.contiguous().resolve_neg()
        value, slope = base_function.pair(plan.base, x)
        found = PASSES[plan.path].backward(
            x.contiguous(),
            value,
            slope,
            plan.basis,
            _weights(tensors),
            grad,
            want_x=want_x,
            want_weights=any(want[:3]),
        )
        bias = sparse.bias_gradient(grad) if want[3] else None
        return None, found.x, found.spline, found.scale, found.base, bias, None


def _weights(tensors: Any) -> Weights:
    spline, scale, base, bias, mask = tensors
    return Weights(spline=spline, scale=scale, base=base, bias=bias, mask=mask)


def _differentiable(plan: Plan, x: Tensor, tensors: Any, grad: Tensor, want: Any) -> Any:
    """Return gradients that have gradients of their own."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():  # aliases: a tensor may have been made from another
        given: list[Any] = [each if each is None else each.view_as(each) for each in (x, *tensors)]
        y = plan.reference(given[0], _weights(given[1:]))
    asked = [each for each, wanted in zip(given, want, strict=True) if wanted]
    found = iter(torch.autograd.grad(y, asked, grad, create_graph=again))
    return None, *(next(found) if wanted else None for wanted in want)


def _batched(grad: Tensor) -> bool:
    """Tell whether many gradients come at once, as ``is_grads_batched`` sends them."""
    kinds = ("is_batchedtensor", "is_legacy_batchedtensor")
    return any(getattr(torch._C._functorch, kind)(grad) for kind in kinds)
