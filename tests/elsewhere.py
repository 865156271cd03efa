"""A device that this machine does not have: what ends up on the wrong one is found without a GPU.

Inside `elsewhere` tensors made on or moved to device "lazy" keep their numbers on the CPU. As with
CUDA, no operation takes tensors of both places, but for single numbers and indices, and numpy reads
none that is not moved back. torch's own backend of that name is never asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)
BETWEEN = ("_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_")


class Far(Tensor):
    """A tensor that is elsewhere, and its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Far:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        return _run(function, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __init__(self, seen: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = _run(function, args, kwargs or {})
        for each in tree_flatten(found)[0]:
            if isinstance(each, Far):
                self.seen(each)
        return found


class _Calls(TorchFunctionMode):
    """Does in steps that torch dispatches what it else does by itself: data, lists of indices."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        if function is Tensor.tolist:
            return args[0].cpu().tolist()
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            whole = args[1] if isinstance(args[1], tuple) else (args[1],)
            key = tuple(torch.tensor(one) if isinstance(one, list) else one for one in whole)
            args = (args[0], key, *args[2:])
        return function(*args, **kwargs)


@contextmanager
def elsewhere(seen: Callable[[Tensor], None] = lambda made: None) -> Iterator[torch.device]:
    """Have a device elsewhere inside the block; `seen` is told of all that is made there."""
    with _Mode(seen), _Calls():
        yield DEVICE


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    far = [each for each in given if isinstance(each, Far)]
    near = [each for each in given if not isinstance(each, Far) and each.dim()]
    name = function._schema.name.split("::")[1]
    if far and near and name not in BETWEEN:
        shapes = [tuple(each.shape) for each in near]
        raise RuntimeError(f"{name}: tensors on two devices, those of shapes {shapes} on the CPU")
    out = bool(far)
    if kwargs.get("device") is not None:
        out = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    if out and kwargs.get("generator") is not None:
        raise RuntimeError(f"{name}: a generator of the CPU for a tensor that is elsewhere")
    if name == "copy_" and not isinstance(args[0], Far):
        out = False
    of = {id(each.held): each for each in far}
    plain = [tree_map(lambda one: one.held if isinstance(one, Far) else one, each)
             for each in (args, kwargs)]  # fmt: skip
    found = function(*plain[0], **plain[1])
    if not out:
        return found

    def moved(one: Any) -> Any:
        known = of.get(id(one))
        if known is not None or not isinstance(one, Tensor):
            return one if known is None else known
        return Far(one)

    return tree_map(moved, found)
