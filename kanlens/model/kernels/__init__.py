"""Fused kernels for spline layers, on the CPU and on CUDA; only these layers know that they exist.

`fused` computes a layer's output, or the mean absolute value of its edges, and is differentiable;
it declines where a kernel cannot run, and the layer then uses torch operations that give the same
numbers to rounding. Importing this compiles nothing: numba, or triton for CUDA, is loaded when a
layer is first called, and a kernel compiled when it first runs.

Compiling takes seconds, once on a machine: numba keeps the machine code on disk. By the rule
("auto") kernels run on the CPU where they were on disk when this process first asked, or where a
call is so large that compiling them pays; torch does the rest. So the digits of a call depend on
its arguments, not on the calls before it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kanlens.model.kernels.choice import ASKED, COMPILING, asked, use, use_within

if TYPE_CHECKING:
    from kanlens.model.edge_sum import Weights
    from kanlens.model.kernels.local_basis import LocalBasis
    from kanlens.model.layers import KANLinear

__all__ = ["asked", "fused", "use", "use_within"]

# seconds that torch takes longer for one number of x: 0.18 us in float32 and 0.6 us in float64
SAVING = 3e-7
TRAINING, CALLS = (
    2000,
    100,
)  # calls like this one to expect: steps of training, parts of an analysis

PLAIN, has_storage = (Tensor, nn.Parameter), torch._C._has_storage
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # of kernels for CUDA
INTERPRETED = False  # those take CPU tensors too, for tests in triton's interpreter

_bases: WeakKeyDictionary[nn.Module, LocalBasis] = WeakKeyDictionary()
_compared: WeakKeyDictionary[LocalBasis, tuple[Tensor, int]] = WeakKeyDictionary()


def fused(layer: KANLinear, x: Tensor, grid: Tensor, *, norms: bool = False) -> Tensor | None:
    """Return y (batch, out) for x (batch, in), or None where torch operations must do it.

    With `norms` the mean over the rows of |phi_oi(x_i)|, (out, in), instead.
    """
    weights, graded = layer.weights(), torch.is_grad_enabled()
    if (
        torch.compiler.is_compiling()
        or (path := ASKED.get()) == "torch"
        or (graded and (grid.requires_grad or weights.mask.requires_grad))
        or torch._C._get_tracing_state() is not None
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
        or (x.is_cpu and torch.is_autocast_enabled("cpu"))
        or torch._C._are_functorch_transforms_active()
    ):
        return None
    basis = local_basis_of(layer, x, grid, weights)
    if basis is None:
        return None
    cuda, base = not x.is_cpu or INTERPRETED, layer.base_name
    wanted = graded and any(t is not None and t.requires_grad for t in (*weights, x))
    if not cuda:
        calls = TRAINING if wanted and weights.spline.requires_grad else CALLS
        pays = path == "auto" and calls * SAVING * x.numel() > COMPILING
        stored = _module("kanlens.model.kernels.sparse").is_stored
        if not (path == "sparse" or pays or stored(basis)):
            return None
    function: Callable[..., Any]
    if norms:
        home = "kanlens.model.kernels.triton_sum" if cuda else "kanlens.model.kernels.edge_l1"
        norm = _module("kanlens.model.kernels.norms").EdgeL1
        function = functools.partial(norm.apply, _module(home))
    elif cuda:
        function = _module("kanlens.model.kernels.triton_sum").TritonSum.apply
    else:
        sparse = _module("kanlens.model.kernels.sparse")
        if not wanted:
            return cast(Tensor, sparse.plain_sum(basis, base, x, weights))  # quicker by half
        function = super(torch.autograd.Function, sparse.FusedSum).apply  # no transforms: 2 us
    return cast(Tensor, function(basis, base, x, *weights))


@functools.cache
def _module(name: str) -> Any:
    """Return a module; an import statement takes 0.2 us of every call."""
    return importlib.import_module(name)


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def can_run_double(x: Tensor) -> bool:
    """Tell whether kernels that know float64 on the CPU alone may run on a tensor."""
    wanted = x.is_cpu and x.dtype == torch.float64 and ASKED.get() != "torch"
    return wanted and _has_numba()


@functools.cache
def _has_triton(device: torch.device, dtype: torch.dtype) -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    from kanlens.model.kernels.triton_trial import can_run

    return can_run(device, dtype)


def local_basis_of(
    layer: KANLinear, x: Tensor, grid: Tensor, weights: Weights
) -> LocalBasis | None:
    """Return the pieces of a layer's basis, of its present grid; None if kernels cannot read it."""
    dual, device = torch.autograd.forward_ad, None if x.is_cpu else x.device
    dtype, tangents = x.dtype, dual._current_level >= 0
    for each in (x, grid, *weights):
        if each is not None and (
            type(each) not in PLAIN
            or not (each.is_cpu if device is None else each.device == device)
            or each.dtype is not dtype
            or not has_storage(each)  # sparse, or what a transform left behind
            or each.is_neg()
            or (tangents and dual.unpack_dual(each).tangent is not None)
        ):
            return None
    if device is None and not INTERPRETED:
        able = x.dtype in (torch.float32, torch.float64) and _has_numba()
    else:
        able = x.dtype in FLOATS and (INTERPRETED or (x.is_cuda and _has_triton(x.device, x.dtype)))
    if not able:
        return None
    known = _bases.get(layer)
    if (
        known is None
        or (known.extrapolation, known.degree) != (layer.extrapolation, layer.spline_order)
        or known.knots.is_cpu != x.is_cpu
        or (device is not None and not _is_of(known, grid))
        or (device is None and known.knots.dtype != grid.dtype)
        or (device is None and not known.knots.equal(grid))
    ):
        from kanlens.model.kernels.local_basis import local_basis

        knots = grid if grid.dtype == torch.float64 else grid.float()
        known = local_basis(knots, layer.spline_order, extrapolation=layer.extrapolation)
        _bases[layer] = known
    return known


def _is_of(known: LocalBasis, grid: Tensor) -> bool:
    """Tell whether a basis is that of a grid on a GPU, for which it waits if that may be new."""
    version = None if grid.is_inference() else grid._version
    compared = _compared.get(known)
    unchanged = compared is not None and compared[0] is grid and compared[1] == version
    if version is not None and unchanged:
        return True
    knots, wide = known.knots, grid if grid.dtype == torch.float64 else grid.float()
    if knots.device != grid.device or knots.dtype != wide.dtype:
        return False
    same = torch.equal(knots, wide)
    if same and version is not None:
        _compared[known] = grid, version
    return same
