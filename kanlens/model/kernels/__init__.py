"""Fused kernels for spline layers on the CPU; only these layers use them.

Compiling takes seconds, once on a machine: numba keeps the machine code on disk. By default
("auto") kernels run if they are compiled, else torch operations (`_choice`). Numba is loaded when
a layer is first called.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kanlens.model.kernels._choice import ASKED, recorded, use, use_within

if TYPE_CHECKING:
    from kanlens.model._kan_linear import KANLinear
    from kanlens.model._spline_forward import Weights
    from kanlens.splines._local_basis import LocalBasis

__all__ = ["ASKED", "fused", "use", "use_within"]

# seconds that kernels save: per call, and per number in x (0.18 us in float32, 0.6 in
# float64)
CALL, SAVING = 3e-4, 3e-7

PLAIN, has_storage = (Tensor, nn.Parameter), torch._C._has_storage

_bases: WeakKeyDictionary[nn.Module, LocalBasis] = WeakKeyDictionary()


def fused(layer: KANLinear, x: Tensor, grid: Tensor, *, norms: bool = False) -> Tensor | None:
    """Return y (batch, out), or mean absolute edges (out, in); None if torch is to compute it."""
    weights, graded = layer.weights(), torch.is_grad_enabled()
    if (
        recorded()
        or ASKED.get() == "torch"
        or (graded and (grid.requires_grad or weights.mask.requires_grad))
    ):
        return None
    basis = local_basis_of(layer, x, grid, weights)
    if basis is None:
        return None
    sparse, base = _module("kanlens.model.kernels._autograd"), layer.base_name
    source = _module("kanlens.model.kernels._edge_l1") if norms else sparse
    if not source.compilation(basis).ready(CALL + SAVING * x.numel()):
        return None
    if norms:
        function = source.EdgeL1.apply
    elif graded and any(t is not None and t.requires_grad for t in (*weights, x)):
        function = super(torch.autograd.Function, sparse.FusedSum).apply  # no transforms: 2 us
    else:
        return cast(Tensor, sparse.plain_sum(basis, base, x, weights))  # quicker by half
    return cast(Tensor, function(basis, base, x, *weights))


@functools.cache
def _module(name: str) -> Any:
    """Return a module, faster than an import statement (0.2 us)."""
    return importlib.import_module(name)


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def can_run_double(x: Tensor) -> bool:
    """Return whether kernels that exist only for float64 can run on a tensor."""
    return x.is_cpu and x.dtype == torch.float64 and ASKED.get() != "torch" and _has_numba()


def local_basis_of(
    layer: KANLinear, x: Tensor, grid: Tensor, weights: Weights
) -> LocalBasis | None:
    """Return the local basis of a layer's current grid; None if kernels cannot read it."""
    dual = torch.autograd.forward_ad
    dtype, tangents = x.dtype, dual._current_level >= 0
    for tensor in (x, grid, *weights):
        if tensor is not None and (
            type(tensor) not in PLAIN
            or not tensor.is_cpu
            or tensor.dtype is not dtype
            or not has_storage(tensor)  # sparse, or left behind by a transform
            or tensor.is_neg()
            or (tangents and dual.unpack_dual(tensor).tangent is not None)
        ):
            return None
    if dtype not in (torch.float32, torch.float64) or not _has_numba():
        return None
    basis = _bases.get(layer)
    if (
        basis is None
        or (basis.extrapolation, basis.degree) != (layer.extrapolation, layer.spline_order)
        or basis.knots.dtype != dtype
        or not basis.knots.equal(grid)
    ):
        from kanlens.splines._local_basis import local_basis

        basis = local_basis(grid, layer.spline_order, extrapolation=layer.extrapolation)
        _bases[layer] = basis
    return basis
