"""Reading and writing single numbers of flat arrays without a look at the sign of the place.

numba lets negative places count from the end, which costs a comparison and a choice at every access
whose sign it cannot prove. With these, finding the piece of a number and the polynomials alive
there was measured to take 3.6 ns instead of 5.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _place(context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value, at: ir.Value) -> Any:
    """Return the pointer to one number."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [at])


@intrinsic
def get(typing, array, at):
    """Return ``array[at]`` of a flat array, for a place not below zero."""
    signature = array.dtype(array, at)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        return builder.load(_place(context, builder, sig.args[0], *args))

    return signature, generate


@intrinsic
def put(typing, array, at, number):
    """Set ``array[at]`` of a flat array, for a place not below zero."""
    signature = types.void(array, at, array.dtype)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        builder.store(args[2], _place(context, builder, sig.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def number_like(typing, array, whole):
    """Return a whole number in the type of an array's numbers."""
    signature = array.dtype(array, whole)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        return builder.sitofp(args[1], context.get_value_type(sig.return_type))

    return signature, generate
