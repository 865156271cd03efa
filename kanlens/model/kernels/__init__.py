"""Fused kernels for spline layers, on the CPU and on CUDA; only these layers know that they exist.

`fused` computes a layer's output, or the mean absolute value of its edges, and is differentiable;
it declines where a kernel cannot run, and the layer then uses torch operations that give the same
numbers. Importing this compiles nothing: numba, or triton for CUDA, is loaded and a kernel compiled
when one first runs. Loading numba takes half a second, and compiling ten if that was never done:
the first few small calls of a process leave it to torch, whose last digits may be others.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kanlens.checks import check_choice
from kanlens.resources import analysis_begun, processor_share

if TYPE_CHECKING:
    from kanlens.model.edge_sum import Weights
    from kanlens.model.kernels.local_basis import LocalBasis
    from kanlens.model.layers import KANLinear

__all__ = ["asked", "fused", "ready_within", "use", "use_within"]

Path = Literal["auto", "sparse", "torch"]
PATHS = ("auto", "sparse", "torch")

SMALL, FIRST = 1_000_000, 8  # products of a small call, and how many of these load nothing
LOADING, COMPILING = 1.5, 16.0  # seconds of work: of loading numba, of compiling all kernels
CAUTION = 2.0  # factor by which they may take longer

PLAIN, has_storage = (Tensor, nn.Parameter), torch._C._has_storage
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # of kernels for CUDA
INTERPRETED = False  # those take CPU tensors too, for tests in triton's interpreter

_small_calls = itertools.count()
_asked: ContextVar[Path] = ContextVar("kanlens_kernel_path", default="auto")
_bases: WeakKeyDictionary[nn.Module, LocalBasis] = WeakKeyDictionary()
_compared: WeakKeyDictionary[LocalBasis, tuple[Tensor, int]] = WeakKeyDictionary()


@contextmanager
def use(path: Path) -> Iterator[None]:
    """Make every spline layer take one path inside the block.

    The paths are the sparse kernels, torch operations, or the rule ("auto"): the kernels but for
    the first small calls of a process. Where a kernel cannot run (`torch.compile`, CUDA without
    triton, half precision on the CPU) torch operations run in its place.

    Examples
    --------
    >>> with use("torch"):
    ...     asked()
    'torch'
    """
    check_choice("kernels.use", "path", path, list(PATHS))
    before = _asked.set(path)
    try:
        yield
    finally:
        _asked.reset(before)


def asked() -> Path:
    """Return the path asked for on this thread."""
    return _asked.get()


def fused(layer: KANLinear, x: Tensor, grid: Tensor, *, norms: bool = False) -> Tensor | None:
    """Return y (batch, out) for x (batch, in), or None where torch operations must do it.

    With `norms` the mean over the rows of |phi_oi(x_i)|, (out, in), instead.
    """
    if "numba" not in sys.modules and x.is_cpu and _is_small_start(layer, x):
        return None
    weights, graded = layer.weights(), torch.is_grad_enabled()
    if (
        torch.compiler.is_compiling()
        or _asked.get() == "torch"
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
    function: Callable[..., Any]
    if norms:
        home = "kanlens.model.kernels.triton_sum" if cuda else "kanlens.model.kernels.edge_l1"
        norm = _module("kanlens.model.kernels.norms").EdgeL1
        function = functools.partial(norm.apply, _module(home))
    elif cuda:
        function = _module("kanlens.model.kernels.triton_sum").TritonSum.apply
    else:
        sparse = _module("kanlens.model.kernels.sparse")
        if not (graded and any(t is not None and t.requires_grad for t in (*weights, x))):
            return cast(Tensor, sparse.plain_sum(basis, base, x, weights))  # quicker by half
        function = super(torch.autograd.Function, sparse.FusedSum).apply  # no transforms: 2 us
    return cast(Tensor, function(basis, base, x, *weights))


@functools.cache
def _module(name: str) -> Any:
    """Return a module; an import statement takes 0.2 us of every call."""
    return importlib.import_module(name)


def _is_small_start(layer: KANLinear, x: Tensor) -> bool:
    """Tell whether a call is small, and one of the first."""
    if asked() != "auto" or analysis_begun() or len(x) * layer.spline_weight.numel() > SMALL:
        return False
    return next(_small_calls) < FIRST


def ready_within(seconds: float) -> bool:
    """Tell whether kernels for float64 would be ready after so many seconds of work.

    Loading numba takes a second or two, compiling the kernels of a layer sixteen; afterwards
    they are on disk. Neither can be broken off.
    """
    if not _has_numba() or ("numba" not in sys.modules and seconds < CAUTION * LOADING):
        return False
    if seconds >= CAUTION * COMPILING:
        return True
    from kanlens.model.kernels import passes
    from kanlens.model.kernels.compiling import is_compiled

    return all(is_compiled(kernel, "float64") for kernel in (passes.forward, passes.backward))


def use_within(seconds: float) -> AbstractContextManager[None]:
    """Use torch operations inside the block where kernels would not be ready in time.

    On a busy machine that takes longer: the time counts by the share of a processor there is.
    """
    if CAUTION * LOADING <= seconds < math.inf:
        seconds *= processor_share()
    return use(asked() if ready_within(seconds) else "torch")


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def can_run_double(x: Tensor) -> bool:
    """Tell whether kernels that know float64 on the CPU alone may run on a tensor."""
    wanted = x.is_cpu and x.dtype == torch.float64 and _asked.get() != "torch"
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
