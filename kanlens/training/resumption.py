"""The state of an unfinished training run in one file, so that it can go on after a kill.

The file is .safetensors with metadata ``format="kanlens.training"``: tensors of the model, of the
best state so far and of the optimizer, and one JSON string that holds everything else. Nothing in
it is executed when it is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from kanlens.checks import message
from kanlens.errors import FileFormatError
from kanlens.files import atomic_write
from kanlens.io.tensor_files import read_safetensors

FORMAT = "kanlens.training"
FORMAT_VERSION = "1"
TENSOR = "__tensor__"  # stands for a tensor in the JSON, its value is the tensor's key


def write_state(path: Path, state: Any) -> None:
    """Write nested dicts and lists of tensors, numbers, text and None to one file, atomically.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_state(Path(folder) / "s", {"step": 3, "w": [torch.ones(2)]})
    ...     read_state(Path(folder) / "s")
    {'step': 3, 'w': [tensor([1., 1.])]}
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    words = json.dumps(_pack(state, tensors))
    data = save(
        tensors, metadata={"format": FORMAT, "format_version": FORMAT_VERSION, "state": words}
    )
    with atomic_write(path, call="fit") as temporary:
        temporary.write_bytes(data)


def read_state(path: Path) -> Any:
    """Read what `write_state` wrote.

    Raises
    ------
    FileFormatError
        If the file is truncated, something else, or of a newer kanlens.
    """
    metadata, tensors = read_safetensors(path, call="fit")
    if metadata.get("format") != FORMAT:
        raise FileFormatError(_wrong(path, repr(metadata.get("format"))))
    if metadata.get("format_version") != FORMAT_VERSION:
        found = f"format version {metadata.get('format_version')!r}"
        raise FileFormatError(_wrong(path, found))
    try:
        return _unpack(json.loads(metadata["state"]), tensors)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(_wrong(path, f"{type(error).__name__}: {error}"[:120])) from error


def difference(there: dict[str, Any], here: dict[str, Any], name: str) -> str:
    """Word how one part of two runs' identities differs; options by the first that does.

    Examples
    --------
    >>> difference({"options": {"steps": 3}}, {"options": {"steps": 4}}, "options")
    'options (steps 3 there, 4 here)'
    """
    if name != "options" or not isinstance(there.get(name), dict):
        return name
    old, new = there[name], here[name]
    key = next((key for key in new if old.get(key) != new[key]), None)
    if key is None:
        return name
    return f"options ({key} {old.get(key)!r} there, {new[key]!r} here)"


def _wrong(path: Path, got: str) -> str:
    expected = f"{path.name!r} to be the checkpoint of a training run"
    return message("fit", expected, got, "Start without resume, or name the right file")


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON types; its tensors go to `tensors`."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().clone().contiguous()
        return {TENSOR: key}
    if isinstance(value, dict):
        # keys of an optimizer's state are whole numbers, which JSON would turn into text
        return {"__dict__": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(item, tensors) for item in value]
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict) and TENSOR in value:
        return tensors[value[TENSOR]]
    if isinstance(value, dict):
        return {key: _unpack(item, tensors) for key, item in value["__dict__"]}
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    return value
