"""Processes of torch.distributed that train one model.

Each holds all rows and takes the same steps with the same weights. Means over rows and gradients
are summed over the processes, so that the result is that of one process.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from kanlens._atomic_files import reason
from kanlens._checks import check_choice
from kanlens.errors import InvalidValueError, LostProcessError
from kanlens.model._spline_forward import Average

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
TIMEOUT = timedelta(minutes=10)  # of a wait for another process

_joins = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One of `count` processes that train one model; `shared` if a strategy was passed."""

    index: int = 0
    count: int = 1
    shared: bool = False

    def share(self, n: int) -> tuple[slice, float]:
        """Return this process's slice of n rows, and its share of them, which may be 0."""
        start, stop = (n * i // self.count for i in (self.index, self.index + 1))
        return (slice(start, stop), (stop - start) / n) if start < stop else (slice(0, 1), 0.0)

    def average(self, part: float) -> Average | None:
        """Return a function that adds up the processes' means; `part` is this process's weight."""
        summed = cast("Any", _Sum).apply
        return None if self.count == 1 else lambda mean: cast("Tensor", summed(part * mean))

    def gather(self, part: Tensor, n: int) -> Tensor:
        """Return values of n rows (n, ...), given those of this process's share."""
        if self.count == 1:
            return part
        whole, (rows, size) = part.new_zeros(n, *part.shape[1:]), self.share(n)
        if size:
            whole[rows] = part
        return add_up(whole)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients of all processes."""
        slopes = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count > 1:
            parts = add_up(torch.cat([slope.flatten() for slope in slopes]))
            for slope, total in zip(slopes, parts.split([*map(Tensor.numel, slopes)]), strict=True):
                slope.copy_(total.view_as(slope))

    def copy(self, tensors: Iterable[Tensor], device: torch.device) -> None:
        """Copy the tensors of the first process to all, through a device."""
        for tensor in tensors if self.count > 1 else ():
            sent = tensor.detach().to(device, copy=True).contiguous()
            with _lost_are_noticed():
                torch.distributed.broadcast(sent, 0)
            tensor.detach().copy_(sent)

    def any(self, flag: bool) -> bool:
        """Return whether a flag is True in any process."""
        return bool(add_up(torch.tensor(float(flag)))) if self.count > 1 else flag

    def check_same(self, identity: str, device: torch.device) -> None:
        """Refuse processes whose models, rows or options differ."""
        digest = hashlib.sha256(identity.encode()).digest()
        own = torch.tensor(list(digest), dtype=torch.float32, device=device)
        first = own.clone()
        self.copy([first], device)
        other = (own != first).any().float()
        if self.count > 1 and float(add_up(other)):
            expected = "the same model, rows, options and checkpoint in every process"
            advice = "Read the same data in each process, with the same seed"
            raise InvalidValueError("fit", expected, "different ones", advice)


class _Sum(torch.autograd.Function):
    """The sum over processes, with the gradient by this process's part."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return add_up(value.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


def add_up(value: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place."""
    with _lost_are_noticed():
        torch.distributed.all_reduce(value)
    return value


@contextmanager
def joined(
    strategy: str | None, device: torch.device, checkpoint: str | Path | None = None
) -> Iterator[Ranks]:
    """Join torchrun's process group for the block, unless it has been joined."""
    group = torch.distributed
    if strategy is None:
        yield Ranks()
        return
    check_choice("fit", "strategy", strategy, ("ddp",))
    if device.type not in BACKENDS:
        expected, advice = "a model on the CPU or on CUDA", "Move it there, or leave strategy out"
        raise InvalidValueError("fit", expected, f"one on {device.type}", advice)
    own = not group.is_initialized()
    if own and "WORLD_SIZE" not in os.environ:
        expected, got = "processes of torchrun for {strategy}", "a process that it has not started"
        advice = "Start torchrun --nproc-per-node 2 script.py, or leave strategy out"
        raise InvalidValueError("fit", expected, got, advice, strategy="ddp")
    if own and os.environ["WORLD_SIZE"] == "1":
        yield Ranks(shared=True)
        return
    with _in_words(checkpoint):
        try:
            if own:
                _join(BACKENDS[device.type])
            yield Ranks(index=group.get_rank(), count=group.get_world_size(), shared=True)
        finally:
            if own and group.is_initialized():
                _leave(device)


def _join(backend: str) -> None:
    """Join the processes of torchrun's environment; each group gets a new name."""
    from torch.distributed.distributed_c10d import PrefixStore

    with _lost_are_noticed():
        store, index, count = _meeting_point()
        store = PrefixStore(f"kanlens {next(_joins)}", store)
        torch.distributed.init_process_group(
            backend, store=store, rank=index, world_size=count, timeout=TIMEOUT
        )


@cache  # the first process may host the store: others would lose it when a fit ends
def _meeting_point() -> tuple[Any, int, int]:
    """Return torchrun's store, the rank of this process and the number of processes."""
    from torch.distributed.rendezvous import rendezvous

    store, index, count = next(iter(rendezvous("env://", timeout=TIMEOUT)))
    return store, index, count


def _leave(device: torch.device) -> None:
    """Leave the group; release the backend last, or other threads would not end."""
    backend = cast("Any", torch.distributed.group.WORLD)._get_backend(device)
    torch.distributed.destroy_process_group()
    del backend  # torch before 2.8 may hang without it


@contextmanager
def _lost_are_noticed() -> Iterator[None]:
    """Raise errors of torch.distributed as ConnectionError."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(str(error)) from error


@contextmanager
def _in_words(checkpoint: str | Path | None) -> Iterator[None]:
    """Raise one error for a lost process or torchrun's signal."""
    advice = "Start all again, with {checkpoint} to continue from next time"
    if checkpoint is not None:
        advice = f"Start all again with {{resume}}, to continue from {Path(checkpoint).name!r}"
    settings: dict[str, Any] = {"checkpoint": ..., "resume": True}

    def lost(reason: str) -> LostProcessError:
        expected = "all processes to train to the end"
        return LostProcessError("fit", expected, reason, advice, **settings)

    def failing() -> bool:
        return isinstance(sys.exc_info()[1], ConnectionError | LostProcessError)

    def end(number: int, frame: object) -> None:
        if not failing():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            raise lost("SIGTERM, as when another process has failed")

    main = threading.current_thread() is threading.main_thread()  # which alone gets signals
    handled = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if handled:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    except ConnectionError as error:
        raise lost(f"one that has failed: {reason(error)}") from error
    finally:
        if handled and not failing():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
