"""Checkpoint of a training run, a .safetensors file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._atomic_files import atomic_write, check_writable
from kanlens._checks import check_positive
from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.io._checkpoint import read_safetensors
from kanlens.model._config import UNTRAINED, KANConfig
from kanlens.model._network import KAN
from kanlens.training._options import FitOptions

FORMAT = "kanlens.training"
FORMAT_VERSION = "1"
TENSOR = "__tensor__"  # JSON key of the name of a tensor in the file
ARRAY = "__array__"  # JSON key of an array, stored as a tensor
EVERY = 30.0  # seconds between writes
COPIED = 0.5  # seconds between copies of the state


class Checkpoint:
    """The file that a run resumes from, written from time to time.

    `begun` is the state to resume from, None for a new run; `path` is None where nothing is
    written. The state is copied after some steps, not all, to keep short steps fast; an interrupt
    during a step writes the last copy.
    """

    def __init__(
        self,
        call: str,
        path: str | Path | None,
        every: float = EVERY,
        *,
        resume: bool = False,
        written: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_positive(call, "checkpoint_every", every, zero=True)
        if path is None and resume:
            expected, advice = "a checkpoint to resume from", "Pass {checkpoint}, for example"
            raise InvalidValueError(call, expected, "none", advice, checkpoint="run.safetensors")
        if path is not None and written:
            check_writable(path, call=call)
        file, self.begun = None if path is None else Path(path), None
        if file is not None and resume and file.exists():
            self.begun = read_state(file, call=call)
            options = (self.begun.get("identity") or {}).get("options")
            if isinstance(options, dict) and "optimizer" in options:  # maybe of an earlier version
                options.update(asdict(FitOptions()) | options)
        self.path, self.every, self.clock = file if written else None, every, clock
        self.copied = self.written = clock()
        self.copy: Any = None

    def note(self, state: Callable[[], Any], *, last: bool = False) -> None:
        """Copy the state if a copy is due; write it if the file is due or at the `last` step."""
        if self.path is None:
            return
        now = self.clock()
        if last or self.copy is None or now - self.copied >= min(COPIED, self.every):
            self.copy, self.copied = state(), now
        if last or now - self.written >= self.every:
            self.write()

    def begin(self, state: dict[str, Any]) -> None:
        """Write the identity and random state of a new run; refuse the file of another run."""
        if self.begun is not None and "draws" in self.begun:
            check_identity(self.begun, state["identity"], call="fit")
            self.begun = None
        if self.begun is None:
            self.copy = state
            self.write()

    def model(self, options: FitOptions) -> KAN | None:
        """Return the untrained network of a saved run with these options, or None."""
        identity = (self.begun or {}).get("identity", {})
        if identity.get("options") != asdict(options):
            return None
        model = KAN.from_config(KANConfig.from_json(identity["model"][1]))
        model.scaled = True
        return model

    def write(self) -> None:
        """Write the last copy, if there is one."""
        if self.path is not None and self.copy is not None:
            write_state(self.path, self.copy)
            self.written = self.clock()


def write_state(path: Path, state: object) -> None:
    """Write nested tensors, arrays, numbers and text to one file, atomically."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    words = json.dumps(_pack(state, tensors))
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "state": words}
    data = save(tensors, metadata=metadata)
    with atomic_write(path, call="fit") as temporary:
        temporary.write_bytes(data)


def read_state(path: Path, *, call: str = "fit") -> Any:
    """Read a file of `write_state`."""
    metadata, tensors = read_safetensors(path, call=call)
    if metadata.get("format") != FORMAT:
        raise _wrong(call, path, repr(metadata.get("format")))
    if metadata.get("format_version") != FORMAT_VERSION:
        raise _wrong(call, path, f"format version {metadata.get('format_version')!r}")
    try:
        return dict(_unpack(json.loads(metadata["state"]), tensors))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise _wrong(call, path, f"{type(error).__name__}: {error}"[:120]) from error


def identity_of(
    model: KAN, options: FitOptions, x: Tensor, y: Tensor, *of_rows: Tensor | None
) -> dict[str, Any]:
    """Return the identity of a run for its checkpoint: digest of the data, model and options."""
    digest = hashlib.sha256()
    for part in (x, y, *(part for part in of_rows if part is not None)):
        digest.update(part.detach().cpu().double().contiguous().numpy().tobytes())
    config = replace(model.config, scaled=False, **UNTRAINED).to_json()
    return {
        "data": [list(x.shape), digest.hexdigest()],
        "model": [str(model.dtype), config],
        "options": asdict(options),
    }


def check_identity(saved: dict[str, Any], here: dict[str, Any], *, call: str) -> None:
    """Refuse the state of a run on other data, model or options."""
    there = saved.get("identity") or {}
    other = next((name for name in sorted(here) if there.get(name) != here[name]), None)
    if other is None:
        return
    if other == "options" and isinstance(there.get(other), dict):
        old, new = there[other], here[other]
        if (key := next((key for key in new if old.get(key) != new[key]), None)) is not None:
            other = f"options ({key} {old.get(key)!r} there, {new[key]!r} here)"
    expected = "a checkpoint of the same data, model and options"
    advice = "Resume with the same arguments", "leave out {resume} to start anew"
    raise FileFormatError(call, expected, f"one with other {other}", *advice, resume=...)


def _wrong(call: str, path: Path, got: str) -> FileFormatError:
    expected = f"{path.name!r} to be the checkpoint of a training run"
    advice = "Leave out {resume}", "pass the path of a checkpoint"
    return FileFormatError(call, expected, got, *advice, resume=...)


def _pack(value: object, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON types; its tensors go to `tensors`."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().clone().contiguous()
        return {TENSOR: key}
    if isinstance(value, np.ndarray):
        return {ARRAY: _pack(torch.from_numpy(value), tensors)}
    if isinstance(value, dict):
        # keys of an optimizer's state are whole numbers, which JSON would turn into text
        return {"__dict__": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(item, tensors) for item in value]
    return value


def _unpack(value: object, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict) and TENSOR in value:
        return tensors[value[TENSOR]]
    if isinstance(value, dict) and ARRAY in value:
        return _unpack(value[ARRAY], tensors).numpy()
    if isinstance(value, dict):
        return {key: _unpack(item, tensors) for key, item in value["__dict__"]}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value
