"""Private parts of numba that the kernels use, and the address of OpenMP's entry point.

`parallel` emits calls of compiled functions by numba's own means; all else that numba does not
publish stands here, and tests/model/kernels/test_internals.py names what a release has changed.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numba
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

__all__ = ["Dispatcher", "global_compiler_lock", "gomp_parallel", "on_disk"]  # tests wrap the first


def on_disk(kernel: Any, arguments: tuple[Any, ...]) -> bool:
    """Return whether a kernel is compiled for arguments of such types, here or in numba's cache.

    False where numba's cache cannot be read.

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


def gomp_parallel() -> int:
    """Return the address of OpenMP's GOMP_parallel; 0 if torch brings none."""
    found = getattr(ctypes.CDLL(None), "GOMP_parallel", None) if sys.platform == "linux" else None
    return (found and ctypes.cast(found, ctypes.c_void_p).value) or 0
