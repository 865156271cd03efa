"""Readers of torch's zipped pickles, Keras archives and pykan's files.

Nothing of a pickle is imported or run: its opcodes are those that torch writes, every name in it
becomes an inert class, and only calls that rebuild tensors and plain containers do anything.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import json
import math
import os
import struct
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from pickle import Unpickler
from pickletools import genops
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from kanlens._atomic_files import Pathlike
from kanlens._checks import optional_module
from kanlens.errors import FileFormatError
from kanlens.io._checkpoint import printable
from kanlens.io.importers._settings import CALL, Inert, children, path_of

ADVICE = "Save torch.save(model.state_dict(), path)"
_DEPTH, _MODULES = 64, 10_000  # largest nesting and number of modules
_NUMBERS = "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
_STORAGES = "Float Double Half BFloat16 Long Int Short Char Byte Bool"
_TYPES: dict[str, torch.dtype] = {
    f"torch.{storage}Storage": getattr(torch, name)
    for storage, name in zip(_STORAGES.split(), _NUMBERS.split(), strict=True)
}
_HARMLESS = {"collections", "functools", "pathlib", "datetime", "_codecs"}
_CALLING = {*sys.stdlib_module_names, "__builtin__"} - _HARMLESS
_NAMED, _LONG = 10_000, 2_000_000  # largest numbers of names and opcodes in a pickle
_OPCODES = (
    "PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ NEWOBJ_EX BINPERSID POP "
    "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET EMPTY_TUPLE EMPTY_DICT EMPTY_LIST EMPTY_SET "
    "TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS ADDITEMS FROZENSET NONE NEWTRUE "
    "NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINBYTES "
    "SHORT_BINBYTES BINSTRING SHORT_BINSTRING"
)


def refusal(name: str, what: str, advice: str = ADVICE) -> FileFormatError:
    """Return the error of a file that is not a state dict."""
    return FileFormatError(CALL, "a state dict", f"{printable(name)}, which {what}", advice)


class _Fixed:
    """A tensor or a function that rebuilds one; a pickle cannot change its attributes."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __setstate__(self, state: object) -> None:
        pass

    def __call__(self, *args: object) -> Any:
        return self.value(*args)


class _Ordered(dict[Any, Any]):
    """An ordered dictionary without attributes."""

    def __setstate__(self, state: object) -> None:
        pass


class _Names(type):
    """Metaclass of the stubs for names in a pickle; refuses calls of the standard library."""

    def __call__(cls, *args: object, **options: object) -> Any:
        path = getattr(cls, "path", "")
        if path.partition(".")[0] in _CALLING:
            raise _CallError(path)
        return super().__call__(*args, **options)


class _CallError(ValueError):
    """A pickle calls a function other than those that rebuild tensors and containers."""


class _InertUnpickler(Unpickler):
    """An unpickler that imports nothing, for pickles in zip files of torch.save."""

    def __init__(self, archive: ZipFile, name: str) -> None:
        self.archive, self.root = archive, name[: -len("data.pkl")]
        self.storages: dict[str, _Fixed] = {}
        self.names: dict[str, Any] = {}
        super().__init__(io.BytesIO(archive.read(name)))

    def find_class(self, module: str, name: str) -> Any:
        """Return a stub for a class name, or one of a few harmless functions."""
        path = printable(f"{module}.{name}")[:80]
        builders: dict[str, Any] = {
            "collections.OrderedDict": _Ordered,
            "builtins.set": set,
            "__builtin__.set": set,
            "torch._utils._rebuild_tensor_v2": _Fixed(_rebuilt),
            "torch._utils._rebuild_parameter": _Fixed(lambda data, *_: data),
            "torch._utils._rebuild_parameter_with_state": _Fixed(lambda data, *_: data),
            "torch._tensor._rebuild_from_type_v2": _Fixed(lambda build, _, args, *__: build(*args)),
            **dict.fromkeys(("builtins.getattr", "__builtin__.getattr"), _Fixed(self._member)),
        }
        kind = builders.get(path, _TYPES.get(path, self.names.get(path)))
        if kind is None:
            kind = self.names[path] = _Names("Inert", (Inert,), {"path": path})
        if len(self.names) > _NAMED:
            raise ValueError("too many names")
        return kind

    def _member(self, *names: object) -> Any:
        """Return a stub for a function of torch that a pickle looks up by getattr."""
        path = path_of(names[0]) if len(names) == 2 else ""
        if not path.startswith("torch.") or not isinstance(names[1], str):
            raise _CallError("builtins.getattr")
        return self.find_class(path, names[1])

    def persistent_load(self, pid: Any) -> _Fixed:
        """Return the tensor of a whole storage, by its name."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError("a storage of another kind")
        if key not in self.storages:
            data = self.archive.read(f"{self.root}data/{key}")
            if type(count) is not int or len(data) != count * dtype.itemsize:
                raise ValueError(f"storage {key[:20]!r} has {len(data)} bytes")
            values = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0)
            self.storages[key] = _Fixed(values.to(dtype))
        return self.storages[key]


_EXPANDED = 2**16


def _rebuilt(stored: _Fixed, offset: int, size: Any, stride: Any, *_: object) -> _Fixed:
    """Return a view of a storage; refuse one beyond its end, or large with repeated numbers."""
    storage: Tensor = stored.value
    numbers = (offset, *size, *stride)
    whole = all(type(n) is int and n >= 0 for n in numbers) and len(size) == len(stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
    most = max(len(storage), _EXPANDED)  # numbers, those of expanded tensors included
    if not whole or math.prod(size) > most or (all(size) and last >= len(storage)):
        raise ValueError(f"a tensor of shape {tuple(size)[:8]} beyond its storage")
    return _Fixed(storage.as_strided(tuple(size), tuple(stride), offset))


def read_archive(path: Path) -> object:
    """Return the content of a zip file of torch.save or Keras."""
    with ZipFile(path) as archive:
        names = archive.namelist()
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise refusal(path.name, "is a compressed zip file, which torch.save never writes")
        if "model.weights.h5" in names:
            return _read_keras(archive, path.name)
        if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
            advice = "Pass torch.jit.load(path), or its state_dict()"
            raise refusal(path.name, "is a TorchScript program", advice)
        pickles = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
        order = [name for name in names if name.endswith("byteorder")]
        if len(pickles) != 1 or (order and archive.read(order[0]) != b"little"):
            raise refusal(path.name, "is not a file of torch.save, or has another byte order")
        try:
            with archive.open(pickles[0]) as content:
                allowed = _OPCODES.split()
                for count, (opcode, argument, _) in enumerate(genops(content)):
                    if opcode.name not in allowed or count > _LONG:
                        raise ValueError(f"unexpected opcode {opcode.name} at {count}")
                    if opcode.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
                        raise ValueError(f"object {argument} of {count}")
            return _unwrapped(_InertUnpickler(archive, pickles[0]).load(), path.name)
        except _CallError as error:
            raise refusal(path.name, f"is a pickled module that calls {error}") from error


def _unwrapped(root: object, name: str) -> object:
    """Unwrap tensors (`_Fixed`); refuse pickled modules of kanlens."""
    top, seen = {"": root}, set()
    stack: list[Any] = [top]
    while stack:
        parent = stack.pop()
        if id(parent) in seen:
            continue
        seen.add(id(parent))
        if path_of(parent).startswith("kanlens."):
            raise refusal(name, "is a pickled module")
        items = parent if isinstance(parent, dict) else vars(parent)
        for key, value in items.items():
            if isinstance(value, _Fixed) and isinstance(value.value, Tensor):
                items[key] = value.value
            elif isinstance(value, dict | Inert):
                stack.append(value)
    return top[""]


def state_of(module: Inert) -> dict[str, Tensor]:
    """Return the state dict of an inert module."""
    state: dict[str, Tensor] = {}
    stack, count = [("", module)], 0
    while stack:
        (start, parent), count = stack.pop(), count + 1
        if count > _MODULES or start.count(".") > _DEPTH:
            expected = f"at most {_MODULES} modules, nested at most {_DEPTH} deep"
            raise FileFormatError(CALL, expected, "more, or deeper", ADVICE)
        hidden = vars(parent).get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, set) else set()
        for key, value in (children(parent, "_parameters") | children(parent, "_buffers")).items():
            if isinstance(key, str) and isinstance(value, Tensor) and key not in hidden:
                state[start + key] = value
        stack += [
            (f"{start}{name}.", child)
            for name, child in reversed(children(parent, "_modules").items())
            if isinstance(name, str) and isinstance(child, Inert)
        ]
    return state


# --- files of Keras ----------------------------------------------------------------------------

_KERAS = {  # classes of layers: their names in files, and their tensors in the stored order
    "KANLinear": ("kan_linear", ("kernel", "bias", "spline", "knots")),
    "Dense": ("dense", ("kernel", "bias")),
}


def _read_keras(archive: ZipFile, name: str) -> dict[str, Any]:
    """Return the tensors of a Sequential of Keras, with names such as ``layers.0.kernel``."""
    h5py = optional_module("h5py", call=CALL, extra="keras")
    config = json.loads(archive.read("config.json"))
    content = io.BytesIO(archive.read("model.weights.h5"))
    layers = config["config"]["layers"] if config["class_name"] == "Sequential" else [config]
    result: dict[str, Any] = {"hyper_parameters": (facts := {})}
    used: Counter[str] = Counter()
    with h5py.File(content) as file:
        for layer in layers:
            kind, options = str(layer["class_name"]), layer["config"]
            if kind in ("InputLayer", "Dropout", "Flatten"):
                continue
            if kind not in _KERAS or options.get("activation", "linear") != "linear":
                expected = f"a Sequential of KANLinear and linear Dense layers in {name!r}"
                advice = "Save the part of the model that is one"
                raise FileFormatError(CALL, expected, printable(kind)[:40], advice)
            stem, names = _KERAS[kind]
            place = f"layers/{stem}_{used[kind]}" if used[kind] else f"layers/{stem}"
            number, used[kind] = used.total(), used[kind] + 1
            names = tuple(n for n in names if n != "bias" or options.get("use_bias", True))
            places = {name: f"{place}/vars/{i}" for i, name in enumerate(names)}
            if options.get("use_layernorm", False):
                norm = enumerate(("weight", "bias"))
                places |= {f"layer_norm.{n}": f"{place}/layer_norm/vars/{i}" for i, n in norm}
            for part, key in places.items():
                result[f"layers.{number}.{part}"] = _numbers(file, key, len(content.getbuffer()))
            facts[f"layers.{number}.base_activation"] = options.get("base_activation", "relu")
    return result


def _numbers(file: Any, key: str, most: int) -> Tensor:
    """Return a numeric array of a Keras file; refuse external links and filters."""
    node = file
    for part in key.split("/"):
        if type(node.get(part, getlink=True)).__name__ != "HardLink":
            raise ValueError(f"no array {key}")
        node = node[part]
    linked = node.chunks or node.external or node.is_virtual
    if node.dtype.kind != "f" or node.nbytes > most or linked:
        raise ValueError(f"{key} is not a plain array of floats")
    return torch.from_numpy(node[()])


# --- pykan's three files -----------------------------------------------------------------------

_ENDS = ("_state", "_config.yml", "_cache_data")
# largest size and nesting of a configuration: larger ones take long to read
_MAX_BYTES, _MAX_NESTING = 2**22, 64


def located(path: Pathlike) -> Pathlike:
    """Return the state file for any of pykan's three files or their prefix; else the path."""
    text = os.fspath(path)
    stem = next((text[: -len(end)] for end in _ENDS if text.endswith(end)), text)
    try:
        there = Path(f"{stem}_state").is_file() and (stem != text or not Path(text).exists())
    except (OSError, ValueError):  # a name that no file can have
        return path
    return f"{stem}_state" if there else path


def read_facts(path: Path) -> Mapping[str, Any]:
    """Return the settings in the configuration file next to a state of pykan."""
    beside = path.with_name(path.name.removesuffix("_state") + "_config.yml")
    if not path.name.endswith("_state") or not beside.is_file():
        return {}
    import yaml

    bad = (yaml.YAMLError, OSError, ValueError, RecursionError, TypeError, LookupError)
    try:
        if beside.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
        text = beside.read_text(encoding="utf-8")
        steps = ((c in "[{") - (c in "]}") for c in text)
        deep = max(itertools.accumulate(steps, initial=0)) > _MAX_NESTING
        if deep or any(part * _MAX_NESTING in text for part in ("- ", " ")):
            raise ValueError("it is too deep")
        facts = yaml.load(text, _loader())
    except (*bad, AttributeError, struct.error) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        expected, advice = "the configuration of pykan", "Remove it, or save the model again"
        got = f"{beside.name!r} ({printable(reason)})"
        raise FileFormatError(CALL, expected, got, advice) from error
    return facts if isinstance(facts, dict) else {}


@functools.cache
def _loader() -> Any:
    """Return a loader of YAML with pykan's numbers and named objects."""
    import yaml

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Refuse YAML merge keys: repeated merges would fill the memory."""

    def number(loader: Loader, node: yaml.SequenceNode) -> Any:
        kinds = {"i4": "<i", "i8": "<q", "f4": "<f", "f8": "<d"}
        dtype, raw = node.value
        kind = kinds[dtype.value[0][1].value[0].value]
        return struct.unpack(kind, base64.b64decode(raw.value))[0]

    def items(loader: Loader, node: yaml.SequenceNode) -> list[Any]:
        return loader.construct_sequence(node, deep=True)

    for module in ("core", "_core"):
        tag = f"tag:yaml.org,2002:python/object/apply:numpy.{module}.multiarray.scalar"
        Loader.add_constructor(tag, number)
    for kind in ("object:", "name:"):
        tag = f"tag:yaml.org,2002:python/{kind}"
        Loader.add_multi_constructor(tag, lambda loader, name, node: name)
    Loader.add_constructor("tag:yaml.org,2002:python/tuple", items)
    return Loader
