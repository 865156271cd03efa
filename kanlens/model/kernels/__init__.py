"""Fused CPU kernels for spline layers; only `KANLinear` knows that they exist.

`layer_sum` computes a layer's output and is differentiable; it declines where a kernel cannot run,
and the layer then uses torch operations that give the same numbers. Importing this compiles
nothing: numba is loaded and a kernel compiled when one first runs.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kanlens.model.kernels import pool
from kanlens.model.kernels.dispatch import asked, choose, use

if TYPE_CHECKING:
    from kanlens.model.edge_sum import Weights
    from kanlens.model.kernels.local_basis import LocalBasis
    from kanlens.model.layers import KANLinear

__all__ = ["asked", "choose", "layer_sum", "ready_within", "use", "use_within"]

LOADING, COMPILING = 1.5, 10.0  # seconds of work: of loading numba, of compiling all kernels
CAUTION = 2.0  # factor by which they may take longer

_bases: WeakKeyDictionary[nn.Module, tuple[str, LocalBasis]] = WeakKeyDictionary()


def layer_sum(layer: KANLinear, x: Tensor) -> Tensor | None:
    """Return y (batch, out) for x (batch, in), or None where torch operations must do it.

    Examples
    --------
    >>> from kanlens.model.layers import KANLinear
    >>> layer = KANLinear(2, 3)
    >>> torch.allclose(layer_sum(layer, torch.zeros(1, 2)), layer.forward_torch(torch.zeros(1, 2)))
    True
    """
    path = asked()
    weights = layer.weights()
    if path == "torch" or not _can_run(layer, x, weights):
        return None
    if path == "auto":
        n_in, n_out = layer.in_features, layer.out_features
        path = choose(x.shape[0], n_in, n_out, layer.grid_size, layer.spline_order)
        if path == "dense" and pool.forked():  # a matrix product would wait for threads now gone
            path = "sparse"
    from kanlens.model.kernels.function import FusedSum, Plan

    plan = Plan(
        path=path,
        basis=_basis(layer),
        degree=layer.spline_order,
        extrapolation=layer.mode,
        base=layer.base_name,
    )
    result: Tensor = FusedSum.apply(
        plan, x, weights.spline, weights.scale, weights.base, weights.bias, weights.mask
    )
    return result


def ready_within(seconds: float) -> bool:
    """Tell whether kernels for float64 would be ready after so many seconds of work.

    Loading numba takes a second or two, compiling the kernels of a layer about ten; afterwards
    they are on disk. Neither can be broken off.

    Examples
    --------
    >>> ready_within(0.0) <= ready_within(1000.0)
    True
    """
    if not _has_numba() or ("numba" not in sys.modules and seconds < CAUTION * LOADING):
        return False
    if seconds >= CAUTION * COMPILING:
        return True
    from kanlens.model.kernels import backward_by_feature_loops, packing, silu_loops, sparse_loops
    from kanlens.model.kernels.compiling import is_compiled

    needed = (
        *(sparse_loops.forward, sparse_loops.backward, sparse_loops.column_sums),
        *(packing.pack, packing.unpack, backward_by_feature_loops.backward_inputs),
        *(silu_loops.write_silu, silu_loops.write_silu_pair),
    )
    return all(is_compiled(kernel, "float64") for kernel in needed)


def use_within(seconds: float) -> AbstractContextManager[None]:
    """Use torch operations inside the block where kernels would not be ready in time.

    Examples
    --------
    >>> with use_within(0.001), use("torch"):
    ...     asked()
    'torch'
    """
    return use(asked() if ready_within(seconds) else "torch")


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def _can_run(layer: KANLinear, x: Tensor, weights: Weights) -> bool:
    """Tell whether a kernel gives what torch operations would."""
    tensors = [x, weights.spline, weights.base, weights.bias, weights.mask, layer.grid]
    if weights.scale is not None:
        tensors.append(weights.scale)
    plain = all(
        type(each) in (Tensor, nn.Parameter)
        and each.is_cpu
        and each.dtype == x.dtype
        and each.layout == torch.strided
        and not each.is_neg()
        for each in tensors
    )
    return (
        plain
        and x.dtype in (torch.float32, torch.float64)
        and not (torch.is_grad_enabled() and (layer.grid.requires_grad or layer.mask.requires_grad))
        and torch._C._get_tracing_state() is None
        and torch.utils._python_dispatch._get_current_dispatch_mode() is None
        and not torch.is_autocast_enabled("cpu")
        and not _transformed(tensors)
        and _has_numba()
    )


def _transformed(tensors: list[Tensor]) -> bool:
    """Tell whether torch.func or forward-mode differentiation is at work."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    if active is not None and active():
        return True
    unpack = torch.autograd.forward_ad.unpack_dual
    return any(unpack(each).tangent is not None for each in tensors)


def _basis(layer: KANLinear) -> LocalBasis:
    """Return the pieces of a layer's basis, worked out anew when its grid has changed."""
    from kanlens.model.kernels.local_basis import local_basis

    known = _bases.get(layer)
    if known is not None:
        extrapolation, basis = known
        same = extrapolation == layer.mode and basis.degree == layer.spline_order
        if same and basis.knots.dtype == layer.grid.dtype and torch.equal(basis.knots, layer.grid):
            return basis
    basis = local_basis(layer.grid, layer.spline_order, extrapolation=layer.mode)
    _bases[layer] = (layer.mode, basis)
    return basis
