"""Indexing of flat arrays without negative-index wraparound.

numba lets negative places count from the end, which costs a comparison and a choice at every access
whose sign it cannot prove, and vectors where the compiler cannot look past the choice. An unsigned
place has no sign to look at.
"""

from __future__ import annotations

import numpy as np

from kanlens.model.kernels.compiling import inlined


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
