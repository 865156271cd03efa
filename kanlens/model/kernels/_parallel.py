"""Parallel loops over OpenMP threads in compiled code.

They run without Python, whose global lock slows down the start of threads: 50 us, and 4 without.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

from kanlens.model.kernels._vectors import Value

WORD, BYTE = ir.IntType(64), ir.IntType(8)
FAILED = "a loop on several threads failed"


@intrinsic
def share_out(typing: Any, task: Any, arguments: Any, span: Any, team: Any) -> Any:
    """Call ``task(*arguments, begin, end)`` on parts of a range.

    A `span` is (begin, end, step); parts of length `step` are taken by the next free thread of a
    `team`: (number of threads, address of GOMP_parallel). One thread is the caller's.
    """
    kinds = (*map(types.unliteral, arguments.types), types.int64, types.int64)
    called = task.get_call_type(typing, kinds, {})

    def generate(context: BaseContext, builder: ir.IRBuilder, sig: Signature, args: Any) -> Value:
        compiled = task.dispatcher.overloads[called.args]
        context.active_code_library.add_linking_library(compiled.library)
        begin, end, step = (builder.extract_value(args[2], j) for j in range(3))
        threads, address = (builder.extract_value(args[3], j) for j in range(2))
        lent = _lent(context, builder, sig.args[1], args[1])
        shared = cgutils.pack_struct(builder, [lent, begin, end, step, ir.Constant(WORD, 0)])
        place = cgutils.alloca_once_value(builder, shared)
        worker = _worker(context, builder, compiled, shared.type)
        data = builder.bitcast(place, BYTE.as_pointer())
        with builder.if_else(builder.icmp_signed(">", threads, ir.Constant(WORD, 1))) as (
            many,
            single,
        ):
            with many:
                number = builder.trunc(threads, ir.IntType(32))
                kinds = worker.type, data.type, number.type, number.type
                kind = ir.FunctionType(ir.VoidType(), kinds).as_pointer()
                flags = ir.Constant(number.type, 0)
                builder.call(builder.inttoptr(address, kind), [worker, data, number, flags])
            with single:
                builder.call(worker, [data])
        failed = builder.load(cgutils.gep_inbounds(builder, place, 0, 4))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            context.call_conv.return_user_exc(builder, MemoryError, (FAILED,))
        return context.get_dummy_value()

    return types.void(task, arguments, span, team), generate


def _lent(context: BaseContext, builder: ir.IRBuilder, kind: types.Type, value: Value) -> Value:
    """Return borrowed arrays: the caller owns them, so threads need no reference counts."""
    if isinstance(kind, types.BaseTuple):
        members = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        lent = [_lent(context, builder, *member) for member in members]
        return context.make_tuple(builder, kind, lent)
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        return array._getvalue()
    return value


def _worker(context: BaseContext, outer: ir.IRBuilder, compiled: Any, shared: ir.Type) -> Value:
    """Emit a loop that takes all parts; its data are (arguments, next index, end, step, failed)."""
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer()])
    name = outer.module.get_unique_name("worker")
    worker = ir.Function(outer.module, kind, name)
    worker.linkage = "internal"
    builder = ir.IRBuilder(worker.append_basic_block("start"))
    place = builder.bitcast(worker.args[0], shared.as_pointer())
    members = [cgutils.gep_inbounds(builder, place, 0, j) for j in range(5)]
    arguments = cgutils.unpack_tuple(builder, builder.load(members[0]))
    end, step = builder.load(members[2]), builder.load(members[3])
    take, part, stop = (worker.append_basic_block(name) for name in ("take", "part", "stop"))
    builder.branch(take)
    builder.position_at_end(take)
    begin = builder.atomic_rmw("add", members[1], step, "monotonic")
    builder.cbranch(builder.icmp_signed("<", begin, end), part, stop)
    builder.position_at_end(part)
    last = builder.add(begin, step)
    last = builder.select(builder.icmp_signed("<", last, end), last, end)
    signature, values = compiled.signature, [*arguments, begin, last]
    status, _ = context.call_internal_no_propagate(builder, compiled.fndesc, signature, values)
    with cgutils.if_unlikely(builder, status.is_error):
        builder.store(ir.Constant(WORD, 1), members[4])
        builder.branch(stop)
    builder.branch(take)
    builder.position_at_end(stop)
    builder.ret_void()
    return worker
