"""Compilation of kernels: on first use, without Python's global lock, cached on disk.

Flat arrays are indexed by unsigned numbers: numba lets negative indices count from the end, which
costs a comparison at every access whose sign it cannot prove, and may prevent vector code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba
import numpy as np
from torch import Tensor

from kanlens.model.kernels._choice import Compilation

Array = np.ndarray[Any, np.dtype[Any]]
_compilations: dict[Any, Compilation] = {}  # by kernel and types
Function = TypeVar("Function", bound=Callable[..., Any])

FASTMATH = ("reassoc", "contract", "nsz", "arcp")  # never nnan or ninf: NaN in must be NaN out


def compiler(**options: Any) -> Callable[[Function], Function]:
    """Return a decorator by which numba compiles a function when it is first called.

    The machine code is kept next to the source, or in the user's cache folder; where neither can be
    written it is compiled anew in each process.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": set(FASTMATH), **options}

    def decorate(function: Function) -> Function:
        try:
            compiled: Function = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache
            compiled = numba.njit(**options)(function)
        return compiled

    return decorate


_private = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # Python cannot call these
jit = compiler()
inner = compiler(**_private)
inlined = compiler(forceinline=True, **_private)  # a call passes every array as seven numbers
in_order = compiler(fastmath={"contract"})  # keeps every sum in the order it is written in


def is_ready(
    kernel: Callable[..., Any], arguments: tuple[Any, ...], seconds: float, code: str
) -> bool:
    """Return whether to run a kernel that saves `seconds` in this call; `code` compiles it."""
    signature = arguments, (0, 0, 0), (0, 0)
    key = kernel, tuple(map(numba.typeof, signature))
    if key not in _compilations:
        _compilations.setdefault(key, Compilation(partial(on_disk, kernel, signature), code))
    return _compilations[key].ready(seconds)


def on_disk(kernel: Any, arguments: tuple[Any, ...]) -> bool:
    """Return whether a kernel is compiled for types of arguments, here or in numba's cache.

    It reads private attributes of numba; False where they cannot be read.
    """
    signature = tuple(map(numba.typeof, arguments))
    if signature in kernel.signatures:
        return True
    try:
        cache, machine = kernel._cache, kernel.targetctx.codegen()
        return cache._index_key(signature, machine) in cache._cache_file._load_index()
    except (AttributeError, OSError, TypeError):
        return False


def flat(tensor: Tensor) -> Array:
    """Return a tensor as a flat array for kernels, without a copy if it is contiguous."""
    array: Array = tensor.detach().numpy().reshape(-1)
    return array


@inlined
def get(array, at):
    """Return ``array[at]`` for a nonnegative index."""
    return array[np.uint64(at)]


@inlined
def put(array, at, number):
    """Set ``array[at]`` for a nonnegative index."""
    array[np.uint64(at)] = number


@inlined
def number_like(array, whole):
    """Return a whole number in the dtype of an array."""
    return array.dtype.type(whole)
