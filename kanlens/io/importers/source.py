"""A foreign model as it was found: read from a file, or given as a module or a state dict."""

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
from kanlens.io import tensor_files
from kanlens.io.importers import containers
from kanlens.io.importers.containers import ADVICE, located, read_facts, refusal
from kanlens.io.importers.inert import Inert, children
from kanlens.io.importers.settings import CALL
from kanlens.io.tensor_files import check_file, printable

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"  # of torch.save without a zip file
_DEPTH = 4  # of dicts in dicts, as in {"model": {"state_dict": {...}}, "epoch": 3}
_OF_JAX = "c_basis c_res c_spl c_ext bias omega phase c_cos c_sin"
_UNREADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, struct.error, BadZipFile),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Origin:
    """Tensors by name, what error messages call them, their module, and a file of facts."""

    name: str
    state: dict[str, Tensor]
    module: Any = None  # a live one, or an inert one read from a pickle
    facts: Mapping[str, Any] = field(default_factory=dict)
    spelling: Mapping[str, str] = field(default_factory=dict)  # names as they were found

    def owner(self, path: str) -> Any:
        """Return the module at a path; None if there is none, or none is known."""
        found = self.module
        for part in path.split(".") if path else ():
            found = children(found, "_modules").get(part)
        return found

    def below(self, path: str) -> Origin:
        """Return the part of a network that a name leads to."""
        start = f"{path}."
        changed: dict[str, Any] = {"name": f"{path!r} of {self.name}", "module": self.owner(path)}
        for kind in ("state", "spelling"):
            found = {k: one for k, one in getattr(self, kind).items() if k.startswith(start)}
            changed[kind] = {key.removeprefix(start): one for key, one in found.items()}
        return replace(self, **changed)

    def spelled(self, key: str) -> str:
        """Return the name of a tensor as it was found."""
        return self.spelling.get(key, key)


def found(name: str, state: Mapping[str, Tensor], module: Any = None, facts: Any = None) -> Origin:
    """Return tensors as a source, those that are kept in lists one a kind as layers of them all.

    That is ``layers.0.grid`` for ``grid_0``, ``layers.0.act_fun.coef`` for ``act_fun.0.coef``, and
    one tensor for the networks of all features, each of which is ``models.<feature>``.
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
        if part and any(part["stem"] + one in state for one in mark.split()):
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


def sources(given: object) -> list[Origin]:
    """Return every state dict in what the caller gave, at any depth; nothing in a file is run."""
    if isinstance(given, nn.Module):
        module = _translated(given)
        if module is not given:
            module = copy.copy(module)
            module.__dict__["live"] = given
        state = {k: one for k, one in module.state_dict().items() if isinstance(one, Tensor)}
        return [found(f"the module {type(given).__name__}", state, module)]
    if isinstance(given, Mapping):
        found_here = _state_dicts(given, "the state dict", (), {})
        return found_here or [found("the arrays", _arrays(given))]
    if not isinstance(given, str | os.PathLike):
        if (model := _of_jax(given)).state:
            return [model]
        expected = "a path, a Module or a state dict"
        advice = "Pass the trained model, or the name of its file"
        raise DTypeError(CALL, expected, type(given).__name__, advice)
    path = check_file(located(given), call=CALL)
    content, name = read_tensors(path), repr(path.name)
    if isinstance(content, Inert):
        content = {"": content}
    if not isinstance(content, Mapping):
        expected, got = f"a state dict in {name}", f"a {type(content).__name__}"
        raise FileFormatError(CALL, expected, got, ADVICE)
    result = _state_dicts(content, name, (), read_facts(path))
    size = max((sum(t.nbytes for t in one.state.values()) for one in result), default=0)
    if size > 4 * path.stat().st_size:  # tensors take no more room than the file
        raise refusal(path.name, f"repeats its numbers, {size} bytes of tensors")
    return result


def _translated(module: nn.Module) -> nn.Module:
    """Return a module in which layers are what they say they are, by a method `to_kanlens`."""
    own: Any = module
    if hasattr(own, "to_kanlens"):
        layer: nn.Module = own.to_kanlens()
        if not hasattr(layer, "edge_kind"):
            expected = f"{type(module).__name__}.to_kanlens to return a layer of kanlens"
            raise DTypeError(CALL, expected, type(layer).__name__, "Return a KANLinear")
        return layer
    parts = {name: one and _translated(one) for name, one in module._modules.items()}
    if all(one is module._modules[name] for name, one in parts.items()):
        return module
    changed = copy.copy(module)
    changed.__dict__["_modules"] = parts
    return changed


def _arrays(given: Mapping[Any, Any], start: str = "") -> dict[str, Tensor]:
    """Return the arrays of numbers in dicts in dicts, under names with dots."""
    result: dict[str, Tensor] = {}
    for key, value in given.items():
        if isinstance(value, Mapping) and start.count(".") < _DEPTH:
            result |= _arrays(value, f"{start}{key}.")
        elif hasattr(value, "__array__") and (array := np.array(value)).dtype.kind in "fi":
            result[f"{start}{key}"] = torch.from_numpy(array)
    return result


def _of_jax(model: Any) -> Origin:
    """Return a live model of jaxKAN: the arrays of its layers, and their grids."""
    layers = getattr(model, "layers", ())
    parts = {str(i): one for i, one in enumerate(layers if hasattr(layers, "__iter__") else ())}
    held = {}
    for index, layer in parts.items():
        known = {name: getattr(layer, name, None) for name in _OF_JAX.split()}
        known["grid"] = getattr(getattr(layer, "grid", None), "item", None)
        if known["c_basis"] is not None or known["c_cos"] is not None:
            held[index] = {name: one[...] for name, one in known.items() if one is not None}
    top, row = Inert(), Inert()
    row.__dict__["_modules"] = parts
    top.__dict__.update(_modules={"layers": row}, live=model)
    return found(f"the model {type(model).__name__}", _arrays({"layers": held}), top)


def read_tensors(path: Path) -> object:
    """Return what a .safetensors file or a file of torch.save holds, without running any of it."""
    start = tensor_files.first_bytes(path)
    if start[8:] == b"{":
        return tensor_files.read_safetensors(path, call=CALL)[1]
    if not tensor_files.looks_like_torch(start):
        expected, advice = "a file of torch.save or .safetensors", "It is truncated or foreign"
        raise FileFormatError(CALL, expected, f"{path.name!r}, neither", advice)
    if start[:1] != b"P" and start != _MAGIC:
        raise refusal(path.name, "is a pickle that torch.save did not write")
    try:
        if start[:1] == b"P":
            return containers.read_archive(path)
        # as a file: by its name, torch reads whatever ends in .safetensors as that
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # what they say is said better below
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
    given: Mapping[Any, Any], name: str, under: tuple[str, ...], facts: Mapping[str, Any]
) -> list[Origin]:
    """Collect what holds tensors, up to `_DEPTH`; Lightning's hyper-parameters are facts."""
    given_facts = given.get("hyper_parameters")
    if isinstance(given_facts, Mapping | Inert):
        facts = given_facts if isinstance(given_facts, Mapping) else vars(given_facts)
    named = ((key, value) for key, value in given.items() if isinstance(key, str))
    state = {key: value for key, value in named if isinstance(value, Tensor)}
    place = f"{name} under {printable('.'.join(under))!r}" if under else name
    result = [found(place, state, facts=facts)] if state else []
    for key, value in given.items():
        path = (*under, str(key)[:40]) if key != "" else under
        if isinstance(value, Mapping) and len(under) < _DEPTH:
            result += _state_dicts(value, name, path, facts)
        elif isinstance(value, Inert) and "_modules" in vars(value):
            place = f"{name} under {printable('.'.join(path))!r}" if path else name
            result.append(found(place, containers.state_of(value), value, facts))
    return result
