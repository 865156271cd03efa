"""Layers recognized by their tensors, and networks that are a row of such layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kanlens.errors import DTypeError, ShapeError, message
from kanlens.io.importers.inert import attribute, children, class_of, path_of
from kanlens.io.importers.settings import CALL, ImportOptions, listed_names, refuse
from kanlens.io.importers.source import Source
from kanlens.io.importers.stages import Affine, Norm, Stage, elementwise, leaky, linear, network
from kanlens.model.network import KAN

Tensors = dict[str, Tensor]
Size = int | None  # None: any

_INDEXED = re.compile(r"(?:(.*)\.)?([0-9]{1,6})((?:\.[A-Za-z_]\w*)*)")
_ADVICE = "The tensors are not those of one layer; save the model again"
_SILENT = ("Dropout", "Dropout1d", "Identity", "Flatten")  # nothing in eval mode
_SPOKEN = ("SiLU", "GELU", "Tanh", "Sigmoid", "Softsign", "ReLU", "ReLU6")
_SCALING = (  # the range is infinite where a feature has none
    *("input_shift", "input_scale", "output_shift", "output_scale"),
    *("input_low", "input_high"),
)


@dataclass(frozen=True, eq=False)
class Layout:
    """A kind of layer: its library, how it is read, tensors that mark it and that may be idle."""

    library: str
    read: Callable[[Group], list[Stage]]
    marks: str  # with spaces between
    idle: str = ""
    fits: Callable[[Tensors], bool] = lambda tensors: True
    usual: str = "silu"  # the function beside the splines
    tolerance: float = 1e-9

    def groups(self, state: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """Return the marks of every layer of this kind by the layer's name in front of theirs."""
        found: dict[str, Tensors] = {}
        marks = self.marks.split()
        for key in state:
            parent = key[: -len(marks[0])].rstrip(".")
            if all(join(parent, mark) in state for mark in marks):
                group = {mark: state[join(parent, mark)] for mark in marks}
                if self.fits(group):
                    found[parent] = group
        return found

    def convert(self, source: Source, options: ImportOptions) -> KAN:
        """Make a KAN of one layer, or of layers in a row and what is between them."""
        scaling = _scaling(source.state, next(iter(self.groups(source.state))))
        model = network(self._stages(source, options, set(scaling)), options)
        for key, tensor in scaling.items():
            name = key.rpartition(".")[2]
            width = model.widths[0] if name.startswith("input_") else model.widths[-1]
            getattr(model, name).copy_(checked(key, tensor, width))
        model.holds_inputs = bool(model.input_low.isfinite().any())
        return model

    def _stages(self, source: Source, options: ImportOptions, passed: set[str]) -> list[Stage]:
        """Return the stages of layers and torch's between; all but `passed` tensors are used."""
        found = {name: Group(name, self, source, options) for name in self.groups(source.state)}
        read = {name: self.read(group) for name, group in found.items()}
        named = len(found) > 1 and not any(map(_INDEXED.fullmatch, found))
        stems = {parent.rpartition(".")[0] if named else stem_of(parent) for parent in found}
        own = {key for group in found.values() for key in group.keys}
        rest = {key: tensor for key, tensor in source.state.items() if key not in own}
        for other in BETWEEN:
            for parent in other.groups(rest):
                indexed = _INDEXED.fullmatch(parent)
                stem = stem_of(parent) if indexed else parent.rpartition(".")[0]
                if bool(indexed) is not named and stem in stems:
                    found.setdefault(parent, Group(parent, other, source, options))
        stages: list[Stage] = []
        for parent in in_order(list(found), source, options):
            if parent not in found:
                stages += _silent(source, parent, stages)
                continue
            stages += read.get(parent) or found[parent].layout.read(found[parent])
        _refuse_others(source, passed.union(*(group.keys for group in found.values())))
        return stages


@dataclass(frozen=True, eq=False)
class Group:
    """The tensors of one layer, by their names in its layout, and the keys of those read."""

    name: str  # "layers.0"
    layout: Layout
    source: Source
    options: ImportOptions
    keys: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        names = [*self.layout.marks.split(), *self.layout.idle.split()]
        self.keys.update(join(self.name, name) for name in names)

    def __contains__(self, name: str) -> bool:
        return join(self.name, name) in self.source.state

    def get(self, name: str, *shape: Size) -> Tensor:
        """Return a tensor of that shape; refuse another, integers and tensors without data."""
        found = self.find(name, *shape)
        if found is None:
            advice = "Save the whole state dict, buffers included"
            key = self.source.spelled(join(self.name, name))
            expected = f"a tensor {key} in {self.source.name}"
            raise ShapeError(message(CALL, expected, "none", advice))
        return found

    def find(self, name: str, *shape: Size) -> Tensor | None:
        """Return a tensor as `get` does, or None if there is none."""
        if not name or name not in self:
            return None
        key = join(self.name, name)
        self.keys.add(key)
        return checked(self.source.spelled(key), self.source.state[key], *shape)

    def known(self, name: str, default: Any = None) -> Any:
        """Return what the module of the layer, one around it, or a file beside it says."""
        parts = self.name.split(".")
        paths = [".".join(parts[:count]) for count in range(len(parts), -1, -1)]
        found = [attribute(self.source.owner(path), name) for path in paths]
        found.append(self.source.facts.get(name))
        return next((one for one in found if one is not None), default)

    def setting(self, name: str, found: Any = None) -> Any:
        """Return what the caller, a module or `found` says; ask for it where none does."""
        found = self.known(name) if found is None else found
        return self.options.setting(name, self.layout.library, found)

    def base(self) -> str:
        """Return the name of the function beside the splines."""
        names = ("base_name", "base_activation", "base_fun_name", "residual")
        found = (self.known(name) for name in names)
        return self.options.base(next((one for one in found if one is not None), self.layout.usual))

    def norm(self, name: str, width: Size, eps: float = 1e-5) -> list[Norm]:
        """Return the layer normalization of that name; none where there is none."""
        weight = self.find(f"{name}weight", width)
        if weight is None:
            return []
        return [Norm(weight=weight, bias=self.get(f"{name}bias", len(weight)), eps=eps)]

    def beside(
        self, weight: Tensor, base: str = "", scaler: str = "", bias: str = "", mask: str = ""
    ) -> dict[str, Any]:
        """Return what `Edges` have beside weights (out, in, n), as far as there is one so named."""
        n_out, n_in = weight.shape[:2]
        known = self.source.state.get(join(self.name, scaler), weight)
        scale = self.find(scaler, *((1,) if known.dim() == 1 else (n_out, n_in)))
        found = self.find(base, n_out, n_in)
        return {
            "base": weight.new_zeros(n_out, n_in) if found is None else found,
            "activation": "zero" if found is None else self.base(),
            "scaler": None if scale is None else scale.expand(n_out, n_in),
            "bias": self.find(bias, n_out),
            "mask": self.find(mask, n_out, n_in),
        }


def _scaling(state: Mapping[str, Tensor], layer: str) -> Tensors:
    """Return scaling and range of the inputs of a kanlens network; empty for other networks."""
    own, _, last = stem_of(layer).rpartition(".")  # "model", "layers" of "model.layers.0"
    if last != "layers" or not all(join(own, name) in state for name in _SCALING[:4]):
        return {}
    return {key: state[key] for name in _SCALING if (key := join(own, name)) in state}


def join(parent: str, name: str) -> str:
    """Return the name of a tensor in a state dict."""
    return f"{parent}.{name}" if parent else name


def checked(key: str, tensor: Tensor, *shape: Size) -> Tensor:
    """Return a tensor of floating dtype and of a shape (None: any length); refuse another."""
    fits = tensor.dim() == len(shape) and all(
        want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        words = ", ".join("any" if size is None else str(size) for size in shape)
        expected = f"{key} of shape ({words}{',' if len(shape) == 1 else ''})"
        raise ShapeError(message(CALL, expected, str(tuple(tensor.shape)), _ADVICE))
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.is_floating_point():
        got = "no data" if tensor.is_meta else str(tensor.dtype)
        expected = f"{key} to be a dense tensor of floating dtype"
        raise DTypeError(message(CALL, expected, got, "Save the model in float32 or float64"))
    return tensor.detach()


def stem_of(parent: str) -> str:
    """Return what stands before the number of a layer: "model.layers" of "model.layers.0"."""
    part = _INDEXED.fullmatch(parent)
    return (part[1] or "") if part else parent


def in_order(parents: list[str], source: Source, options: ImportOptions) -> list[str]:
    """Return the names of layers from input to output: of one, or of numbered ones.

    Modules without tensors, which only a module knows of, are among them. Layers with names of
    their own are in the order that a live module has them in, or that the caller says.
    """
    parts = {parent: _INDEXED.fullmatch(parent) for parent in parents}
    if len(parts) == 1 and None in parts.values():
        return list(parts)
    heads = {part[1] if part else parent.rpartition(".")[0] for parent, part in parts.items()}
    if None in parts.values() or len(heads) > 1:
        return _named(parents, source, options, heads)
    order = dict(sorted((int(part[2]), parent) for parent, part in parts.items() if part))
    head, index = heads.pop() or "", 0
    while index <= max(order) or source.owner(join(head, str(index))) is not None:
        if index not in order and source.owner(join(head, str(index))) is not None:
            order[index] = join(head, str(index))
        index += 1
    if sorted(order) != list(range(len(order))):
        got = ", ".join(str(index) for index in sorted(order)[:8])
        expected = f"layers in {source.name} to be numbered from 0 without gaps"
        refuse(expected, got, "Pass every layer of the KAN")
    return [order[index] for index in sorted(order)]


def _named(
    parents: list[str], source: Source, options: ImportOptions, heads: set[str]
) -> list[str]:
    """Return layers with names of their own in order."""
    options.used.add("layers")
    given, head = options.settings.get("layers"), min(heads)
    names = [join(head, name) for name in listed_names(given)] if given else []
    if not given and len(heads) == 1 and isinstance(source.module, nn.Module):  # which is compared
        names = [join(head, name) for name in children(source.owner(head), "_modules")]
    if not set(parents) <= set(names):
        shown = ", ".join(repr(parent) for parent in sorted(parents)[:4])
        got = f"layers {shown}{', ...' if len(parents) > 4 else ''}"
        advice = "Pass the part that is one KAN, or its layers in order in an nn.Sequential"
        if len(heads) == 1:
            order = ",".join(names_below(source, head))
            advice = f"Pass layers={order!r} if that is their order, with nothing between"
        refuse(f"one KAN in {source.name}", got, advice)
    return names


def names_below(source: Source, head: str) -> list[str]:
    """Return the names of what has tensors below a name, in the order of the tensors."""
    start = join(head, "")
    keys = (key.removeprefix(start) for key in source.state if key.startswith(start))
    return list(dict.fromkeys(key.partition(".")[0] for key in keys))


def _silent(source: Source, parent: str, before: list[Stage]) -> list[Stage]:
    """Return the stages of a module without tensors: none, or a function of each node."""
    module, last = source.owner(parent), before[-1] if before else None
    kind = class_of(module)
    if kind in _SILENT:
        return []
    like = getattr(last, "base", getattr(last, "scale", getattr(last, "weight", None)))
    if kind in _SPOKEN and like is not None:
        return [elementwise(parent, kind.lower(), len(like), like)]
    if kind != "LeakyReLU" or like is None:
        kinds = (*_SILENT, *_SPOKEN, "LeakyReLU")
        expected = f"only {', '.join(kinds)} between the layers of {source.name}"
        refuse(expected, f"{kind} as {parent}", "Pass the part of the model that is the KAN")
    return [leaky(parent, like.new_tensor([attribute(module, "negative_slope")]), len(like))]


def _refuse_others(source: Source, known: set[str]) -> None:
    """Refuse tensors that are of no layer."""
    others = [source.spelled(key) for key in source.state if key not in known]
    if others:
        shown = ", ".join([*map(repr, others[:3]), *(["..."] if len(others) > 3 else [])])
        expected = f"only layers of a KAN in {source.name}"
        got = f"{len(others)} other tensor{'s' if len(others) > 1 else ''} ({shown})"
        refuse(expected, got, "Pass the part of the model that is the KAN")


def _linear(group: Group) -> list[Stage]:
    """Return a linear layer of torch, or of Keras, whose weights are (in, out)."""
    keras = "kernel" in group
    weight = group.get("kernel", None, None).T if keras else group.get("weight", None, None)
    return [linear(group.name, weight, group.find("bias", len(weight)))]


def batch_norm(group: Group, start: str = "") -> list[Stage]:
    """Return eval-mode batch normalization, an affine map of every node."""
    mean = group.get(f"{start}running_mean", None)
    scale = (group.get(f"{start}running_var", len(mean)) + _eps(group)).rsqrt()
    weight, bias = (group.find(f"{start}{name}", len(mean)) for name in ("weight", "bias"))
    scale = scale if weight is None else scale * weight
    return [Affine(scale=scale, shift=-mean * scale + (0 if bias is None else bias))]


def _eps(group: Group) -> float:
    found = attribute(group.source.owner(group.name), "eps")
    return found if isinstance(found, float) else 1e-5


def _layer_norm(group: Group) -> list[Stage]:
    module = group.source.owner(group.name)
    if path_of(module).startswith("torch.") and class_of(module) != "LayerNorm":
        return _silent(group.source, group.name, [])  # the tensors of others are alike
    return [*group.norm("", None, _eps(group))]


BETWEEN = (
    Layout("torch", batch_norm, "running_mean running_var", "num_batches_tracked"),
    Layout("torch", _linear, "weight", fits=lambda tensors: tensors["weight"].dim() == 2),
    Layout("Keras", _linear, "kernel"),
    Layout("torch", _layer_norm, "weight bias", fits=lambda t: t["weight"].dim() == 1),
)
"""Layers of torch that stand between layers of a KAN in a row."""
