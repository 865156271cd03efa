"""Files of tensors, read as data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kanlens._atomic_files import Pathlike
from kanlens.errors import DTypeError, FileFormatError, MissingFileError

CHECKSUM, WRITER = "kanlens_checksum", "kanlens_version"  # keys in the metadata


def read_safetensors(path: Pathlike, *, call: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return metadata and copied tensors of any .safetensors file."""
    with _opened(path, call) as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name).clone() for name in names}
        return file.metadata() or {}, tensors


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors and metadata, without the checksum and the version."""
    texts = sorted(pair for pair in metadata.items() if pair[0] not in (CHECKSUM, WRITER))
    digest = hashlib.sha256(json.dumps(texts).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_metadata(path: Pathlike, *, call: str) -> dict[str, str]:
    """Return the metadata of a .safetensors file."""
    with _opened(path, call) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Pathlike, call: str) -> Iterator[Any]:
    """Open a .safetensors file; reword any error in the block."""
    name = check_file(path, call=call).name
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        if looks_like_torch(first_bytes(path)):
            got, advice = f"a PyTorch file, {name!r}", "Read it with {import_model}"
        else:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            got, advice = f"{name!r} ({reason})", "It is truncated or of another format"
        expected = "a .safetensors file"
        raise FileFormatError(call, expected, got, advice, import_model=None) from error


def check_file(path: Pathlike, *, call: str) -> Path:
    """Return the path of a file; refuse a missing or unreadable one."""
    if not isinstance(path, str | os.PathLike):
        raise DTypeError(call, "a path", type(path).__name__, "Pass the name of a file")
    file = Path(path)
    try:
        there, usable = file.exists(), file.is_file()
    except (OSError, ValueError):  # a name that no file can have
        there, usable = False, False
    if not there:
        raise MissingFileError(call, "a file", f"no file at {str(path)!r}", "Check the path")
    if not usable:
        kind = "a folder" if file.is_dir() else "a device"
        raise FileFormatError(call, "a file", f"{kind}, {str(path)!r}", "Name a file")
    return file


def first_bytes(path: Pathlike) -> bytes:
    """Return the first nine bytes of a file, or none if it is unreadable."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)
    except OSError:
        return b""


def looks_like_torch(start: bytes) -> bool:
    """Return whether a file's first bytes are those of torch.save, new or old."""
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:] != b"{")


def printable(name: str) -> str:
    """Return a name with line breaks and the like escaped."""
    return repr(name)[1:-1]
