"""Checkpoints: a model in one .safetensors file, and readers of such files that run no code.

Tensors are those of the state dict, of one dtype, and where the model has them
``statistics.layers.<l>.{quantiles,edge_mean,edge_std}`` and ``background``. The metadata are
`format`, `format_version`, `kanlens_version` (as information), `kanlens_checksum` (SHA-256 of
the other metadata and of the tensors) and `config`: KANConfig as JSON with sorted keys.

When the layout changes: raise FORMAT_VERSION by one; add ``_upgrade_<old>(config, tensors)``, which
changes both in place to the next layout, to _UPGRADES; put a file written by the old code in the
test data and its outputs in expected.json; never edit an old one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from kanlens._atomic_files import Pathlike, atomic_write
from kanlens._checks import version_of
from kanlens.errors import (
    DTypeError,
    FileFormatError,
    InvalidValueError,
    KanlensError,
    MissingFileError,
    reworded,
)
from kanlens.model._analysis import Model, check_model, check_sound
from kanlens.model._config import KANConfig
from kanlens.model._kan_linear import LAYER_KINDS
from kanlens.model._network import KAN
from kanlens.model._statistics import LEVELS, LayerStatistics

FORMAT = "kanlens.model"
FORMAT_VERSION = 5
CHECKSUM, WRITER = "kanlens_checksum", "kanlens_version"  # keys in the metadata


def _upgrade_1(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Upgrade version 1, which had no ranges that inputs are clipped to."""
    shift = tensors.get("input_shift", torch.zeros(0))
    for name, end in (("input_low", -torch.inf), ("input_high", torch.inf)):
        tensors[name] = torch.full_like(shift, end)


def _upgrade_4(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Upgrade version 4, whose layers had kinds "series" and "function", now "spline"."""
    for layer in config["layers"]:
        if layer["kind"] in ("series", "function"):
            layer["kind"] = "spline"


_UPGRADES: dict[int, Callable[[dict[str, Any], dict[str, Tensor]], None]] = {
    1: _upgrade_1,
    2: lambda config, tensors: None,  # had no normalized nodes
    3: lambda config, tensors: None,  # had no features of dates and of missing cells
    4: _upgrade_4,
}
_STATISTICS = tuple(field.name for field in dataclasses.fields(LayerStatistics))
_UNBUILDABLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError)


def save(model: Model, path: Pathlike) -> Path:
    """Write a model with its names and statistics to a .safetensors file.

    An existing file is replaced in one step at the end, and is kept if anything fails.

    Parameters
    ----------
    model : KAN or fitted estimator
    path : str or path
        The file to write; its folder is created.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DTypeError
        If `model` is not a KAN, or has layers or tensors that `load` could not rebuild.
    InvalidValueError
        If its weights are not finite, knots do not increase, a scale is 0, or a mask is neither 0
        nor 1.
    OutputError
        If the file cannot be written there.

    Examples
    --------
    >>> import tempfile
    >>> save(KAN([2, 1]), Path(tempfile.mkdtemp(), "model.safetensors")).name
    'model.safetensors'
    """
    model = check_model("save", model)
    for index, layer in enumerate(model.layers):
        if type(layer) is not LAYER_KINDS.get(getattr(layer, "kind", "")):
            expected = f"layers of kind {', '.join(sorted(LAYER_KINDS))}"
            got = f"{type(layer).__name__} as layer {index}"
            raise DTypeError("save", expected, got, "Replace that layer")
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in _stored(model).items()
    }
    config = model.config.to_json()
    with _building("save", "a configuration that can be built", DTypeError):
        rebuilt = _build(config, tensors, model.dtype)
    fault = _mismatch(rebuilt, tensors)
    if fault is not None:
        raise DTypeError("save", *fault, "Give the model the tensors of its configuration")
    check_sound("save", model, InvalidValueError)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kanlens_version": version_of("kanlens"),
        "config": config,
    }
    metadata[CHECKSUM] = checksum(metadata, tensors)
    content = _sorted_header(safetensors_bytes(tensors, metadata))
    with atomic_write(path, call="save") as temporary:
        temporary.write_bytes(content)
    return Path(path)


def load(path: Pathlike) -> KAN:
    """Read a model from a file that `save` of this or any older version wrote.

    Parameters
    ----------
    path : str or path
        The .safetensors file.

    Returns
    -------
    KAN
        In the dtype of the file, on the CPU.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FileFormatError
        If the file is truncated, damaged, in another format, or newer than this version reads, or
        if weights are not finite, knots do not increase, a scale is 0, or a mask not 0 or 1.

    Examples
    --------
    >>> import tempfile
    >>> path = save(KAN([2, 3, 1]), Path(tempfile.mkdtemp(), "model.safetensors"))
    >>> load(path).widths
    (2, 3, 1)
    """
    metadata, tensors = read_safetensors(path, call="load")
    name = Path(path).name
    if metadata.get("format") != FORMAT:
        got = f"{name!r}, which is of format {metadata.get('format')!r}"
        advice = "Models of other libraries are read by {import_model}"
        raise FileFormatError("load", "a kanlens model", got, advice, import_model=None)
    digest = checksum(metadata, tensors)
    version = _checked_version(metadata.get("format_version"), name)
    with _building("load", f"a configuration that can be built in {name!r}", FileFormatError):
        config = _upgraded(metadata.get("config", ""), tensors, version)
        model = _build(config, tensors, _floating(tensors.get("input_shift"), torch.float32))
    fault = _mismatch(model, tensors)
    if fault is not None:
        raise _damaged(f"{fault[0]} in {name!r}", fault[1])
    model.background = tensors.get("background")
    for part, tensor in _stored(model).items():
        if part != "background":
            tensor.copy_(tensors[part])
    check_sound("load", model, FileFormatError, place=f" of {name!r}")
    if metadata.get(CHECKSUM, digest) != digest:
        got, advice = "other content: the file is damaged", "Copy the file again, or save it again"
        raise FileFormatError("load", f"the checksum of {name!r}", got, advice)
    return model


@contextlib.contextmanager
def _building(call: str, expected: str, kind: type[KanlensError]) -> Iterator[None]:
    """Raise any error of the block, which builds a model, as an error of type `kind`."""
    try:
        yield
    except KanlensError as error:
        raise reworded(call, error, kind) from error
    except (*_UNBUILDABLE, RuntimeError) as error:
        got = " ".join(f"{type(error).__name__}: {error}"[:200].split())
        raise kind(call, expected, got, "Save the model again") from error


def _damaged(expected: str, got: str) -> FileFormatError:
    return FileFormatError("load", expected, got, "Save the model again")


def _stored(model: KAN) -> dict[str, Tensor]:
    """Return all tensors that are saved, by name."""
    tensors = dict(model.state_dict())
    for index, layer in enumerate(model.layers):
        if layer.statistics is not None:
            for name in _STATISTICS:
                tensors[f"statistics.layers.{index}.{name}"] = getattr(layer.statistics, name)
    if model.background is not None:
        tensors["background"] = model.background
    return tensors


def _sorted_header(content: bytes) -> bytes:
    """Sort the metadata, so that the same model gives the same bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def _checked_version(text: str | None, name: str) -> int:
    if text is None or not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise _damaged(f"a whole number as format_version of {name!r}", repr(text))
    version = int(text)
    if version > FORMAT_VERSION:
        expected = f"format version {FORMAT_VERSION} or older"
        raise FileFormatError("load", expected, f"{version} in {name!r}", "Upgrade kanlens")
    if version < 1:
        raise _damaged(f"format_version of {name!r} to be at least 1", text)
    return version


def _upgraded(config: str, tensors: dict[str, Tensor], version: int) -> str:
    """Upgrade a configuration and its tensors, version by version, to the current layout."""
    if version == FORMAT_VERSION:
        return config
    data = json.loads(config)
    for old in range(version, FORMAT_VERSION):
        _UPGRADES[old](data, tensors)
    return json.dumps(data, sort_keys=True)


def _build(text: str, tensors: dict[str, Tensor], dtype: torch.dtype) -> KAN:
    """Build a model for the tensors; refuse layers far larger than the file."""
    try:
        config = KANConfig.from_json(text)
    except RecursionError as error:
        raise _damaged("a kanlens configuration", "too many nested brackets") from error
    largest = max((tensor.numel() for tensor in tensors.values()), default=0)
    for index, part in enumerate(config.layers):
        size = max(part.in_features * part.out_features, part.grid_size)
        if size > max(largest, 64):
            expected = f"a tensor of at least {size} numbers for layer {index}"
            raise _damaged(expected, f"at most {largest}")
    model = KAN.from_config(config).to(dtype)
    for index, layer in enumerate(model.layers):
        names = [f"statistics.layers.{index}.{name}" for name in _STATISTICS]
        if any(name in tensors for name in names):
            kinds = [_floating(tensors.get(name), dtype) for name in names]
            shapes = (layer.in_features, LEVELS), *2 * [(layer.out_features, layer.in_features)]
            layer.statistics = LayerStatistics(
                **{
                    name: torch.zeros(shape, dtype=kind)
                    for name, shape, kind in zip(_STATISTICS, shapes, kinds, strict=True)
                }
            )
    if (rows := tensors.get("background")) is not None:  # expanded, it takes no memory
        none = torch.zeros((), dtype=_floating(rows, dtype))
        model.background = none.expand(*rows.shape[:1], model.widths[0])
    return model


def _floating(tensor: Tensor | None, default: torch.dtype) -> torch.dtype:
    """Return the dtype of a tensor if it is a floating-point one, else the default."""
    return tensor.dtype if tensor is not None and tensor.is_floating_point() else default


def _mismatch(model: KAN, tensors: dict[str, Tensor]) -> tuple[str, str] | None:
    """Return the first mismatch of model and tensors as (expected, got)."""
    signatures = {name: _signature(t.shape, t.dtype) for name, t in _stored(model).items()}
    for name, expected in signatures.items():
        tensor = tensors.get(name)
        got = "none" if tensor is None else _signature(tensor.shape, tensor.dtype)
        if got != expected:
            return f"tensor {name} of {expected}", got
    for name, tensor in tensors.items():
        if name not in signatures:
            got = f"one of {_signature(tensor.shape, tensor.dtype)}"
            return f"no tensor {printable(name)}", got
    return None


def _signature(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"shape {tuple(shape)} and {str(dtype).removeprefix('torch.')}"


def read_safetensors(path: Pathlike, *, call: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and copies of the tensors of a .safetensors file."""
    with _opened(path, call) as file:
        names = file.keys()
        return file.metadata() or {}, {name: file.get_tensor(name).clone() for name in names}


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
    """Open a .safetensors file; raise any error of the block as FileFormatError."""
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
    """Return the first nine bytes of a file; empty if it is unreadable."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)
    except OSError:
        return b""


def looks_like_torch(start: bytes) -> bool:
    """Return whether the first bytes are those of a file of torch.save, zipped or legacy."""
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:] != b"{")


def printable(name: str) -> str:
    """Return a name with control characters escaped."""
    return repr(name)[1:-1]
