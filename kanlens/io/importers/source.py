"""A foreign model as it was found: read from a file, or given as a module or a state dict."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from kanlens.checks import message
from kanlens.errors import DTypeError, FileFormatError, KanlensError
from kanlens.io.tensor_files import (
    check_file,
    first_bytes,
    looks_like_torch,
    printable,
    read_safetensors,
)
from kanlens.model.network import KAN

CALL = "import_model"
_ADVICE = "Save torch.save(model.state_dict(), path)"
_DEPTH = 4  # of dicts in dicts, as in {"model": {"state_dict": {...}}, "epoch": 3}
_UNREADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, struct.error, BadZipFile),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Tensors by name, what error messages call them, and their module, if one was given."""

    name: str
    state: dict[str, Tensor]
    module: nn.Module | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportOptions:
    """What the caller knows and a state dict does not say; None leaves it to the importer."""

    base_activation: str | type[nn.Module] | Callable[..., Any] | None = None
    extrapolation: str | None = None
    feature_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that are set."""
        return tuple(name for name, value in vars(self).items() if value is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Importer:
    """How the models of one library are recognized, by the tensors of `layout`, and rebuilt."""

    library: str
    layout: str
    matches: Callable[[Mapping[str, Tensor]], bool]
    convert: Callable[[Source, ImportOptions], KAN]


def sources(given: object) -> list[Source]:
    """Return every state dict in what the caller gave; dicts in dicts are looked through.

    Files are read as data: .safetensors, or torch's with ``weights_only=True``.

    Raises
    ------
    DTypeError
        If it is no path, module or mapping.
    MissingFileError
        If there is no such file.
    FileFormatError
        If the file is truncated, holds pickled objects, or is of another format.
    """
    if isinstance(given, nn.Module):
        state = {
            key: value for key, value in given.state_dict().items() if isinstance(value, Tensor)
        }
        return [Source(name=f"the module {type(given).__name__}", state=state, module=given)]
    if isinstance(given, Mapping):
        return _state_dicts(given, "the state dict", ())
    if not isinstance(given, str | os.PathLike):
        expected = "a path, a Module or a state dict"
        advice = "Pass the trained model, or the name of its file"
        raise DTypeError(message(CALL, expected, type(given).__name__, advice))
    path = check_file(given, call=CALL)
    found = read_tensors(path)
    if not isinstance(found, Mapping):
        text = message(CALL, f"a state dict in {path.name!r}", f"a {type(found).__name__}", _ADVICE)
        raise FileFormatError(text)
    return _state_dicts(found, repr(path.name), ())


def read_tensors(path: Path) -> object:
    """Return what a .safetensors file or a file of torch.save holds, without running any of it."""
    start = first_bytes(path)
    if start[8:] == b"{":
        return read_safetensors(path, call=CALL)[1]
    if not looks_like_torch(start):
        expected, advice = "a file of torch.save or .safetensors", "It is truncated or foreign"
        raise FileFormatError(message(CALL, expected, f"{path.name!r}, neither", advice))
    try:
        _refuse_script(path, start)
        # as a file: by its name, torch reads whatever ends in .safetensors as that
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # what they say is said better below
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise _refusal(path, "is a pickled module") from error
    except _UNREADABLE as error:
        if isinstance(error, KanlensError):
            raise
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise _refusal(path, f"cannot be read ({reason})") from error


def _refuse_script(path: Path, start: bytes) -> None:
    """Refuse TorchScript, which some versions of torch.load would run."""
    if start[:1] != b"P":
        return
    with ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:
        raise _refusal(path, "is a TorchScript program")


def _refusal(path: Path, what: str) -> FileFormatError:
    text = f"{CALL}: {printable(path.name)} {what}, expected a state dict. {_ADVICE}."
    return FileFormatError(text)


def _state_dicts(found: Mapping[Any, Any], name: str, under: tuple[str, ...]) -> list[Source]:
    """Collect the mappings that hold tensors, at any depth up to `_DEPTH`."""
    state = {
        key: value
        for key, value in found.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    place = f"{name} under {'.'.join(under)!r}" if under else name
    result = [Source(name=place, state=state)] if state else []
    for key, value in found.items():
        if isinstance(value, Mapping) and len(under) < _DEPTH:
            result += _state_dicts(value, name, (*under, str(key)))
    return result
