"""Compilation of kernels: on first use, without the interpreter's lock, cached on disk.

Also how they index flat arrays: without negative-index wraparound. numba lets negative places count
from the end, which costs a comparison and a choice at every access whose sign it cannot prove, and
vectors where the compiler cannot look past the choice. An unsigned place has no sign to look at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from torch import Tensor

from kanlens.model.kernels.choice import ASKED

Array = np.ndarray[Any, np.dtype[Any]]
_stored: dict[Any, bool] = {}  # by kernel and types
Function = TypeVar("Function", bound=Callable[..., Any])

FASTMATH = ("reassoc", "contract", "nsz", "arcp")  # never nnan or ninf: NaN in must be NaN out


def jit(function: Function) -> Function:
    """Compile a function with numba when it is first called.

    The machine code is kept beside the source, or in the user's cache folder; where neither can be
    written it is compiled anew in each process.
    """
    return _compiled(function, {})


def inner(function: Function) -> Function:
    """Compile a function that only other kernels call; Python cannot.

    Leaving out the ways in from Python makes compilation shorter.
    """
    return _compiled(function, {"no_cpython_wrapper": True, "no_cfunc_wrapper": True})


def inlined(function: Function) -> Function:
    """Compile a function into each kernel that calls it.

    A call passes every array as seven numbers and counts references to it.
    """
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
    return _compiled(function, options)


def in_order(function: Function) -> Function:
    """Compile as `jit` does, but keep every sum and product in the order it is written in."""
    return _compiled(function, {"fastmath": {"contract"}})


def _compiled(function: Function, options: dict[str, Any]) -> Function:
    common = {"nogil": True, "error_model": "numpy", "fastmath": set(FASTMATH), **options}
    try:
        compiled: Function = numba.njit(cache=True, **common)(function)
    except RuntimeError:  # no folder for the cache
        compiled = numba.njit(**common)(function)
    return compiled


def is_worth(
    kernel: Callable[..., Any], arguments: tuple[Any, ...], nanoseconds: float, compiling: float
) -> bool:
    """Return whether `pool.share` runs a kernel: it was on disk at the first call, or it pays.

    It saves `nanoseconds`, and takes `compiling` seconds.
    """
    path = ASKED.get()
    if path == "sparse" or (path == "auto" and nanoseconds / 1e9 > compiling):
        return True
    signature = arguments, (0, 0, 0), (0, 0)
    key = kernel, tuple(map(numba.typeof, signature))
    if key not in _stored:
        _stored.setdefault(key, on_disk(kernel, signature))
    return _stored[key]


def on_disk(kernel: Any, arguments: tuple[Any, ...]) -> bool:
    """Return whether a kernel is compiled for types of arguments, here or in numba's cache.

    That reads private parts of numba; False where they cannot be read.

    Examples
    --------
    >>> double = numba.njit(lambda x: 2 * x)
    >>> on_disk(double, (1,)), double(3), on_disk(double, (1,)), on_disk(double, (1.0,))
    (False, 6, True, False)
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
    """Return a tensor's numbers as kernels take them, without a copy where they lie in order."""
    array: Array = tensor.detach().numpy().reshape(-1)
    return array


@inlined
def get(array, at):
    """Return ``array[at]``, for a place not below zero."""
    return array[np.uint64(at)]


@inlined
def put(array, at, number):
    """Set ``array[at]``, for a place not below zero."""
    array[np.uint64(at)] = number


@inlined
def number_like(array, whole):
    """Return a whole number in the type of an array's numbers."""
    return array.dtype.type(whole)
