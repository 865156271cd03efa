"""Comparison of a module in memory with the imported model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kanlens.io.importers._pickle_stubs import class_of
from kanlens.io.importers._settings import ImportOptions, refuse
from kanlens.model._network import KAN
from kanlens.splines._spline import breakpoints

_ROWS = 24
_SINGLE = 1e-4  # of the largest output, in other dtypes than float64
_STEPS = 8  # of dtypes with wider ones
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


def probes(model: KAN) -> Tensor:  # (row, in)
    """Return rows inside the grid, on its breakpoints, and beyond it."""
    first = model.layers[0]
    low, high = first.domain()
    cuts = breakpoints(first.grid, first.spline_order).mT[:_ROWS]
    draw = torch.Generator().manual_seed(0)
    shares = torch.rand(2 * _ROWS, len(low), generator=draw).to(low)
    shares[_ROWS:] = 3 * shares[_ROWS:] - 1
    return torch.cat([low + (high - low) * shares, cuts])


@torch.no_grad()
def check_live(module: Any, model: KAN, tolerance: float, options: ImportOptions) -> bool:
    """Run a module in memory if possible; refuse it if its outputs differ from the model's."""
    x = full = probes(model)
    columns = getattr(module, "input_id", None)  # of pykan
    if isinstance(columns, Tensor) and columns.numel() == x.shape[1]:
        full = x.new_zeros(len(x), int(columns.max()) + 1)
        full[:, columns.long()] = x
    modules = list(module.modules()) if isinstance(module, nn.Module) else []
    modes, random = [part.training for part in modules], torch.get_rng_state()
    try:
        if isinstance(module, nn.Module):
            theirs = module.eval()(full)
        else:  # of JAX
            theirs = torch.from_numpy(np.array(module(full.numpy())))
    except _FAILURES:  # it takes no such rows: a convolution, or one around the network
        return False
    finally:
        for part, mode in zip(modules, modes, strict=True):
            part.training = mode
        torch.set_rng_state(random)
    ours = model(x)
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape or math.isinf(tolerance):
        return False
    heads = {"": ours, "softmax": ours.softmax(-1), "logsoftmax": ours.log_softmax(-1)}
    size, *gaps = (
        float(values.abs().nan_to_num(0.0, 0.0, 0.0).max())
        for values in (theirs, *(theirs - head for head in heads.values()))
    )
    apart = dict(zip(heads, gaps, strict=True))
    step = _STEPS * torch.finfo(ours.dtype).eps
    bound = size * (tolerance if ours.dtype == torch.float64 else max(tolerance, _SINGLE, step))
    if all(off > bound for off in apart.values()):
        expected = f"{class_of(module)} to compute what its library does with these tensors"
        got = f"outputs {apart['']:.3g} apart, of size {size:.3g}"
        advice = "Give its layers a method to_kanlens", "pass {layers} if tanh is missing"
        refuse(expected, got, *advice, layers="0,tanh,2")
    head = min(apart, key=lambda name: apart[name] > bound)  # the first within the bound
    if head:
        options.notes[f"its {head} left out: outputs are logits"] = None
    return True
