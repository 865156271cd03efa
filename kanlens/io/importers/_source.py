"""The source of a foreign model: a file, a module, a state dict or arrays."""

from __future__ import annotations

import copy
import os
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from kanlens.errors import DTypeError, FileFormatError, KanlensError
from kanlens.io._checkpoint import (
    check_file,
    first_bytes,
    looks_like_torch,
    printable,
    read_safetensors,
)
from kanlens.io.importers import _containers as containers
from kanlens.io.importers._containers import ADVICE, located, read_facts, refusal
from kanlens.io.importers._settings import CALL, Inert, children

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"  # of torch.save without a zip file
_DEPTH = 4  # of dicts in dicts, as in {"model": {"state_dict": {...}}, "epoch": 3}
_OF_JAX = "c_basis c_res c_spl c_ext bias omega phase c_cos c_sin"
_UNREADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, struct.error, BadZipFile),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Origin:
    """Tensors by name, the name of their source in messages, its module, and other facts."""

    name: str
    state: dict[str, Tensor]
    module: Any = None  # in memory, or a stub read from a pickle
    facts: Mapping[str, Any] = field(default_factory=dict)
    spelling: Mapping[str, str] = field(default_factory=dict)  # original names of renamed tensors

    def owner(self, path: str) -> Any:
        """Return the module at a path, or None."""
        module = self.module
        for part in path.split(".") if path else ():
            module = children(module, "_modules").get(part)
        return module

    def below(self, path: str) -> Origin:
        """Return the part of the source below a name."""
        start, changed = f"{path}.", dict[str, Any]()
        for kind in ("state", "spelling"):
            items = getattr(self, kind).items()
            changed[kind] = {k.removeprefix(start): v for k, v in items if k.startswith(start)}
        return replace(self, name=f"{path!r} of {self.name}", module=self.owner(path), **changed)

    def spelled(self, key: str) -> str:
        """Return the original name of a tensor."""
        return self.spelling.get(key, key)


def origin(name: str, state: Mapping[str, Tensor], module: Any = None, facts: Any = None) -> Origin:
    """Return tensors as an Origin, with lists of tensors renamed as layers.

    That is ``layers.0.grid`` for ``grid_0``, ``layers.0.act_fun.coef`` for ``act_fun.0.coef``, and
    one stacked tensor for the networks of all features, ``models.<feature>``.
    """
    facts = facts if isinstance(facts, Mapping) else {}
    keys: dict[str, list[str]] = {}
    for key in state:
        keys.setdefault(_respelled(key, state), []).append(key)
    tensors = {new: state[old[0]] for new, old in keys.items() if len(old) == 1}
    for new, old in keys.items():
        if len(old) > 1:
            parts = [state[key] for key in old]
            same = len({part.shape for part in parts}) == 1
            tensors |= {new: torch.stack(parts)} if same else dict(zip(old, parts, strict=True))
    spelling = {new: old[0] for new, old in keys.items() if new in tensors and new != old[0]}
    return Origin(name=name, state=tensors, module=module, facts=facts, spelling=spelling)


def _respelled(key: str, state: Mapping[str, Tensor]) -> str:
    for mark, pattern, layout in _SPELLINGS:
        part = pattern.fullmatch(key)
        if part and any(part["stem"] + name in state for name in mark.split()):
            start, depth = f"{part['stem']}models.0.layers.", 0
            if "{depth}" in layout:  # of the network of the first feature
                depth = sum(k.startswith(start) and k.endswith("spline_weight") for k in state)
            i = int(part.groupdict().get("index") or 0)
            return layout.format(**part.groupdict(), depth=depth, before=i - 1, half=i // 2)
    return key


_LISTS = "act_fun.0.coef spline_weights.0 poly_weights.0"
_NAMES = "act_fun|symbolic_fun|biases|((base|spline|poly)_weight|spline_scaler|layer_norm|prelu)s"
_INDEX, _REST = r"(?P<index>[0-9]{1,6})", r"(?P<rest>(\.\w+)*)"
_OF_NODES = "(?P<name>grid|(sub)?node_(bias|scale))"
_RATIO = "weight_(numerator|denominator)"  # KAT's, before a linear layer
_SPELLINGS = [
    (mark, re.compile(rf"(?P<stem>(.+\.)?){pattern}"), "{stem}layers." + layout)
    for mark, pattern, layout in (
        (_LISTS, rf"(?P<name>{_NAMES})\.{_INDEX}{_REST}", "{index}.{name}{rest}"),
        (_LISTS, rf"{_OF_NODES}_{_INDEX}", "{index}.{name}"),
        (
            "act1.weight_numerator",
            rf"(act(?=\d\.{_RATIO})|fc){_INDEX}\.(?P<rest>{_RATIO}|weight|bias)",
            "{before}.{rest}",
        ),
        ("0.weight_numerator", rf"{_INDEX}\.(?P<rest>{_RATIO}|weight|bias)", "{half}.{rest}"),
        (
            "models.0.layers.0.spline_weight",
            rf"models\.[0-9]{{1,6}}\.layers\.{_INDEX}{_REST}",
            "{index}{rest}",
        ),
        ("models.0.layers.0.spline_weight", r"linear\.(?P<rest>weight|bias)", "{depth}.{rest}"),
    )
]


def sources(source: object) -> list[Origin]:
    """Return every state dict in a source; nothing in a file is run."""
    if isinstance(source, nn.Module):
        module = _translated(source)
        if module is not source:
            module = copy.copy(module)
            module.__dict__["live"] = source
        state = {k: value for k, value in module.state_dict().items() if isinstance(value, Tensor)}
        return [origin(f"the module {type(source).__name__}", state, module)]
    if isinstance(source, Mapping):
        origins = _state_dicts(source, "the state dict", (), {})
        return origins or [origin("the arrays", _arrays(source))]
    if not isinstance(source, str | os.PathLike):
        if (model := _of_jax(source)).state:
            return [model]
        expected = "a path, a Module or a state dict"
        advice = "Pass the trained model, or the name of its file"
        raise DTypeError(CALL, expected, type(source).__name__, advice)
    path = check_file(located(source), call=CALL)
    content, name = read_tensors(path), repr(path.name)
    if isinstance(content, Inert):
        content = {"": content}
    if not isinstance(content, Mapping):
        expected, got = f"a state dict in {name}", f"a {type(content).__name__}"
        raise FileFormatError(CALL, expected, got, ADVICE)
    result = _state_dicts(content, name, (), read_facts(path))
    size = max((sum(t.nbytes for t in part.state.values()) for part in result), default=0)
    if size > 4 * path.stat().st_size:  # tensors take no more room than the file
        raise refusal(path.name, f"expands to {size} bytes of tensors by repeating numbers")
    return result


def _translated(module: nn.Module) -> nn.Module:
    """Return a module in which `to_kanlens` has replaced layers that have this method."""
    own: Any = module
    if hasattr(own, "to_kanlens"):
        layer: nn.Module = own.to_kanlens()
        if not hasattr(layer, "edge_kind"):
            expected = f"{type(module).__name__}.to_kanlens to return a layer of kanlens"
            raise DTypeError(CALL, expected, type(layer).__name__, "Return a KANLinear")
        return layer
    parts = {name: part and _translated(part) for name, part in module._modules.items()}
    if all(part is module._modules[name] for name, part in parts.items()):
        return module
    changed = copy.copy(module)
    changed.__dict__["_modules"] = parts
    return changed


def _arrays(arrays: Mapping[Any, Any], start: str = "") -> dict[str, Tensor]:
    """Return the arrays in nested dicts, by names joined with dots."""
    result: dict[str, Tensor] = {}
    for key, value in arrays.items():
        if isinstance(value, Mapping) and start.count(".") < _DEPTH:
            result |= _arrays(value, f"{start}{key}.")
        elif hasattr(value, "__array__") and (array := np.array(value)).dtype.kind in "fi":
            result[f"{start}{key}"] = torch.from_numpy(array)
    return result


def _of_jax(model: object) -> Origin:
    """Return the arrays and grids of a model of jaxKAN in memory."""
    layers = getattr(model, "layers", ())
    parts = dict(enumerate(layers if hasattr(layers, "__iter__") else ()))
    arrays = {}
    for index, layer in parts.items():
        values = {name: getattr(layer, name, None) for name in _OF_JAX.split()}
        values["grid"] = getattr(getattr(layer, "grid", None), "item", None)
        if values["c_basis"] is not None or values["c_cos"] is not None:
            arrays[index] = {name: v[...] for name, v in values.items() if v is not None}
    top, row = Inert(), Inert()
    row.__dict__["_modules"] = {str(index): layer for index, layer in parts.items()}
    top.__dict__.update(_modules={"layers": row}, live=model)
    return origin(f"the model {type(model).__name__}", _arrays({"layers": arrays}), top)


def read_tensors(path: Path) -> object:
    """Return the content of a file of torch.save or .safetensors."""
    start = first_bytes(path)
    if start[8:] == b"{":
        return read_safetensors(path, call=CALL)[1]
    if not looks_like_torch(start):
        expected, advice = "a file of torch.save or .safetensors", "It may be truncated"
        raise FileFormatError(CALL, expected, f"{path.name!r}, neither", advice)
    if start[:1] != b"P" and start != _MAGIC:
        raise refusal(path.name, "is a pickle that torch.save did not write")
    try:
        if start[:1] == b"P":
            return containers.read_archive(path)
        # given a path, torch would read any *.safetensors as safetensors
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # the error below is clearer
            return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, *_UNREADABLE) as error:
        if isinstance(error, KanlensError):
            raise
        reason = printable(" ".join(str(error).split())[:120]) or type(error).__name__
        if "global" in str(error).lower():
            advice = f"{ADVICE}, or save the module again: zip files are read"
            raise refusal(path.name, "is a pickled module without a zip file", advice) from error
        cut = isinstance(error, (BadZipFile, EOFError)) or start[:1] != b"P"
        what = "is truncated or damaged" if cut or "exhausted" in reason else "cannot be read"
        advice = "Copy it again, or save the model again"
        raise refusal(path.name, f"{what} ({reason})", advice) from error


def _state_dicts(
    content: Mapping[Any, Any], name: str, under: tuple[str, ...], facts: Mapping[str, Any]
) -> list[Origin]:
    """Collect dicts of tensors, and Lightning's hyper-parameters as facts."""

    def place(path: tuple[str, ...]) -> str:
        return f"{name} under {printable('.'.join(path))!r}" if path else name

    options = content.get("hyper_parameters")
    if isinstance(options, Mapping | Inert):
        facts = options if isinstance(options, Mapping) else vars(options)
    named = ((key, value) for key, value in content.items() if isinstance(key, str))
    state = {key: value for key, value in named if isinstance(value, Tensor)}
    result = [origin(place(under), state, facts=facts)] if state else []
    for key, value in content.items():
        path = (*under, str(key)[:40]) if key != "" else under
        if isinstance(value, Mapping) and len(under) < _DEPTH:
            result += _state_dicts(value, name, path, facts)
        elif isinstance(value, Inert) and "_modules" in vars(value):
            result.append(origin(place(path), containers.state_of(value), value, facts))
    return result
