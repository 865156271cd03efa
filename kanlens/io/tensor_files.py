"""Files of tensors, read as data: what is there, of which kind, and whether it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import DTypeError, FileFormatError, MissingFileError
from kanlens.outputs import Pathlike


def read_safetensors(path: Pathlike, *, call: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return metadata and tensors of any .safetensors file.

    Parameters
    ----------
    path : str or path
        The file.
    call : str
        The public call, for error messages.

    Returns
    -------
    metadata : dict of str
        Empty when the file has none.
    tensors : dict of Tensor
        In memory of their own, on the CPU.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FileFormatError
        If it is a folder, truncated, or of another format.

    Examples
    --------
    >>> import tempfile, torch
    >>> from safetensors.torch import save_file
    >>> path = Path(tempfile.mkdtemp(), "a.safetensors")
    >>> save_file({"weight": torch.ones(2)}, path)
    >>> read_safetensors(path, call="load")[1]
    {'weight': tensor([1., 1.])}
    """
    with _opened(path, call) as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name).clone() for name in names}
        return file.metadata() or {}, tensors


def read_metadata(path: Pathlike, *, call: str) -> dict[str, str]:
    """Return the metadata alone, as `read_safetensors` does, without reading any tensor.

    Examples
    --------
    >>> import tempfile, torch
    >>> from safetensors.torch import save_file
    >>> path = Path(tempfile.mkdtemp(), "a.safetensors")
    >>> save_file({"weight": torch.ones(2)}, path, {"format": "pt"})
    >>> read_metadata(path, call="load")
    {'format': 'pt'}
    """
    with _opened(path, call) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Pathlike, call: str) -> Iterator[Any]:
    """Open a .safetensors file; what goes wrong in the block is the file's fault."""
    name = check_file(path, call=call).name
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        if looks_like_torch(first_bytes(path)):
            got, advice = f"a PyTorch file, {name!r}", "Read it with import_model"
        else:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            got, advice = f"{name!r} ({reason})", "It is truncated or of another format"
        raise FileFormatError(message(call, "a .safetensors file", got, advice)) from error


def check_file(path: Pathlike, *, call: str) -> Path:
    """Return the path of a file that is there to be read.

    Raises
    ------
    DTypeError
        If `path` is no path.
    MissingFileError
        If there is no such file.
    FileFormatError
        If it is a folder or a device.

    Examples
    --------
    >>> check_file(__file__, call="load").name
    'tensor_files.py'
    """
    if not isinstance(path, str | os.PathLike):
        text = message(call, "a path", type(path).__name__, "Pass the name of a file")
        raise DTypeError(text)
    file = Path(path)
    try:
        there, usable = file.exists(), file.is_file()
    except (OSError, ValueError):  # a name that no file can have
        there, usable = False, False
    if not there:
        text = message(call, "a file", f"no file at {str(path)!r}", "Check the path")
        raise MissingFileError(text)
    if not usable:
        kind = "a folder" if file.is_dir() else "a device"
        raise FileFormatError(message(call, "a file", f"{kind}, {str(path)!r}", "Name a file"))
    return file


def first_bytes(path: Pathlike) -> bytes:
    """Return the first nine bytes of a file, which tell its kind; none if it cannot be read.

    Examples
    --------
    >>> first_bytes(__file__)[:3]
    b'\"\"\"'
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(9)
    except OSError:
        return b""


def looks_like_torch(start: bytes) -> bool:
    r"""Tell a file of torch.save, new or old, by its first nine bytes.

    Examples
    --------
    >>> looks_like_torch(b"PK\x03\x04"), looks_like_torch(b"\x80\x00\x00\x00\x00\x00\x00\x00{")
    (True, False)
    """
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:] != b"{")


def printable(name: str) -> str:
    r"""Return a name as it stands, line breaks and the like escaped.

    Examples
    --------
    >>> printable("a\nb")
    'a\\nb'
    """
    return repr(name)[1:-1]
