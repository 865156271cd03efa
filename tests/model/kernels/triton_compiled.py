"""Machine code of the kernels in Triton, for a GPU that is not there.

In a process of its own: triton complains at the end of any that compiles.
"""

from typing import Any

import triton
from triton.backends.compiler import GPUTarget

from kanlens.model.kernels import triton_kernels
from kanlens.model.kernels.triton_sum import BYTES, OPTIONS, ROWS, TERMS, tile

A100 = GPUTarget("cuda", 80, 32)
WHOLE = ("jump", "count", "n_rows", "n_in", "n_out", "n_basis", "span")
KERNELS = {
    "forward": {},
    "by_x": {"SIGNED": True},
    "by_weights": {"SIGNED": False, "TERMS": TERMS},
}


def signature(kernel: Any, given: str, kind: str, fixed: dict[str, object]) -> dict[str, str]:
    """Types of a kernel's arguments, for x of one type and sums in another."""
    found = dict.fromkeys(kernel.arg_names, f"*{kind}")
    found |= dict.fromkeys(WHOLE, "i32") | {"first": "*i32", "norms": "*fp64"}
    found |= dict.fromkeys(("x", "bias", "y", "grad"), f"*{given}")
    if fixed.get("SIGNED"):
        found["grad"] = f"*{kind}"
    found = {name: found[name] for name in kernel.arg_names}
    return found | dict.fromkeys(fixed, "constexpr")


def compiled(types: str, degree: int = 3) -> dict[str, tuple[int, int]]:
    """Bytes of machine code and of shared memory of every kernel, for types "x,sums"."""
    given, kind = types.split(",")
    outs = tile(64, BYTES // (8 if kind == "fp64" else 4))
    found = {}
    for name, more in KERNELS.items():
        fixed = {"DEGREE": degree, "STEPS": 3, "ROWS": ROWS, "OUTS": outs, **more}
        kernel = getattr(triton_kernels, name)
        source = triton.compiler.ASTSource(
            fn=kernel, signature=signature(kernel, given, kind, fixed), constexprs=fixed
        )
        done = triton.compile(source, target=A100, options=dict(OPTIONS))
        found[name] = len(done.asm["cubin"]), done.metadata.shared
    return found
