"""The gradients that a kernel has no way to find, by torch operations.

These are gradients with gradients of their own, and many gradients at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights
from kanlens.model.kernels.local_basis import LocalBasis

NO_GRADIENTS: tuple[Tensor | None, ...] = (None, None, None)  # of spline, scale and base weights


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
            grid=basis.knots.to(given[0].dtype),
            degree=basis.degree,
            extrapolation=basis.extrapolation,
            base=base,
        )
    asked = [each for each, want in zip(given, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(y, asked, grad.to(y.dtype), create_graph=again))
    return [next(found) if want else None for want in wanted]


def batched(grad: Tensor) -> bool:
    """Tell whether many gradients come at once, as ``is_grads_batched`` sends them."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad)
