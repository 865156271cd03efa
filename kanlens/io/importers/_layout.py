"""Layouts of layers, recognized by their tensors, and networks made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kanlens.errors import DTypeError, ShapeError
from kanlens.io.importers._intermediate import Affine, Edges, Norm, Stage, leaky, linear, network
from kanlens.io.importers._order import HEADS, INDEXED, function_between, in_order, join, stem_of
from kanlens.io.importers._settings import (
    CALL,
    ImportOptions,
    Inert,
    attribute,
    class_of,
    path_of,
    refuse,
)
from kanlens.io.importers._source import Origin
from kanlens.model._network import KAN

Tensors = dict[str, Tensor]
Size = int | None  # None: any

_ADVICE = "The tensors are not those of one layer; save the model again"
_BASES = ("base_name", "base_activation", "base_fun_name", "base_fun", "residual")
_SCALING = (  # the range is infinite where a feature has none
    *("input_shift", "input_scale", "output_shift", "output_scale"),
    *("input_low", "input_high"),
)


@dataclass(frozen=True, eq=False)
class Layout:
    """A kind of layer: its library, its reader, and the names of its tensors."""

    library: str
    read: Callable[[Group], list[Stage]]
    marks: str  # names of tensors that every layer has, with spaces between
    idle: str = ""  # names of tensors that the reader ignores
    fits: Callable[[Tensors], bool] = lambda tensors: True
    usual: str = "silu"  # the default base function
    tolerance: float = 1e-9
    norm: bool = False  # it is a normalization

    def groups(self, state: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """Return the tensors that identify each layer of this kind, by the layer's name."""
        groups: dict[str, Tensors] = {}
        marks = self.marks.split()
        for key in state:
            parent = key[: -len(marks[0])].rstrip(".")
            if all(join(parent, mark) in state for mark in marks):
                group = {mark: state[join(parent, mark)] for mark in marks}
                if self.fits(group):
                    groups[parent] = group
        return groups

    def convert(self, source: Origin, options: ImportOptions) -> KAN:
        """Make a KAN of the layers and of the functions between them."""
        layer = next(iter(self.groups(source.state)))
        own, _, last = stem_of(layer).rpartition(".")  # "model", "layers" of "model.layers.0"
        scaling: Tensors = {}  # of a kanlens network, with the range of its inputs
        if last == "layers" and all(join(own, name) in source.state for name in _SCALING[:4]):
            keys = (join(own, name) for name in _SCALING)
            scaling = {key: source.state[key] for key in keys if key in source.state}
        model = network(self._stages(source, options, set(scaling)), options)
        for key, tensor in scaling.items():
            name = key.rpartition(".")[2]
            width = model.widths[0] if name.startswith("input_") else model.widths[-1]
            getattr(model, name).copy_(checked(key, tensor, width))
        model.holds_inputs = bool(model.input_low.isfinite().any())
        return model

    def _stages(self, source: Origin, options: ImportOptions, passed: set[str]) -> list[Stage]:
        """Return the stages in order; refuse tensors that no layer reads and `passed` lacks."""
        groups = {name: Group(name, self, source, options) for name in self.groups(source.state)}
        read = {name: self.read(group) for name, group in groups.items()}
        own = {key for group in groups.values() for key in group.keys}
        norms = _between(read, source, options, own)
        groups |= norms
        inner = any("fouriercoeffs" in g and "layernorm.weight" in g for g in groups.values())
        idle = [name for name in norms if inner and stem_of(name).endswith("layer_norm")]
        if idle:  # in All-KAN's FourierKAN
            options.notes[f"{', '.join(idle)} left out"] = None
        entries = in_order([*read], [name for name in norms if name not in idle], source, options)
        read |= {name: group.layout.read(group) for name, group in norms.items()}
        if source.module is None and "layers" not in options.settings:  # nothing is between them
            options.assume("layers", ",".join(name for name, _ in entries))
        slopes = {name for name, group in norms.items() if group.layout.read is _prelu}
        first = next(read[name][0] for name, _ in entries if name in read.keys() - slopes)
        stages: list[Stage] = []
        for place, (name, module) in enumerate(entries, 1):
            like = _nodes(stages[-1] if stages else first, inputs=not stages)
            if name in read:
                stages += _prelu(norms[name], len(like)) if name in slopes else read[name]
                continue
            kind = (module if isinstance(module, str) else class_of(module)).lower()
            if kind in HEADS and place == len(entries):
                options.notes[f"its {kind} left out: outputs are logits"] = None
                continue
            stages += function_between((name, module), like, len(like), source)
        keys = passed.union(*(group.keys for group in groups.values()))
        _refuse_others(source, keys)
        options.strangers.update(_strangers(source, keys))
        return stages


def _nodes(stage: Stage, *, inputs: bool) -> Tensor:
    """Return a tensor of a stage with one row for each output, or each input."""
    if isinstance(stage, Edges):
        return stage.base[:1].T if inputs else stage.base
    return stage.weight if isinstance(stage, Norm) else stage.scale


def _between(
    read: Mapping[str, Any], source: Origin, options: ImportOptions, own: set[str]
) -> dict[str, Group]:
    """Return the torch layers between KAN layers, or in a separate list of normalizations."""
    named = len(read) > 1 and not any(map(INDEXED.fullmatch, read))
    stems = {parent.rpartition(".")[0] if named else stem_of(parent) for parent in read}
    above = {stem.rpartition(".")[0] for stem in stems}
    rest = {key: tensor for key, tensor in source.state.items() if key not in own}
    groups: dict[str, Group] = {}
    for layout in BETWEEN:
        for parent in layout.groups(rest):
            indexed = INDEXED.fullmatch(parent)
            stem = stem_of(parent) if indexed else parent.rpartition(".")[0]
            among = bool(indexed) is not named and stem in stems
            aside = indexed and not named and layout.norm and stem.rpartition(".")[0] in above
            if among or aside or options.settings.get("layers"):
                groups.setdefault(parent, Group(parent, layout, source, options))
    return groups


def _strangers(source: Origin, keys: set[str]) -> dict[str, str]:
    """Return the unknown classes that hold tensors, by module path."""
    strangers: dict[str, str] = {}
    for key in filter(keys.__contains__, source.state):
        parts = source.spelled(key).split(".")
        for place in (".".join(parts[:count]) for count in range(len(parts))):
            module = source.owner(place)
            kind = type(module)
            path = path_of(module) or f"{kind.__module__}.{kind.__qualname__}"
            name = path.rpartition(".")[2]
            plain = module is None or (isinstance(module, Inert) and not path_of(module))
            own = name in _OWN.split() or path.partition(".")[0] in ("torch", "kanlens")
            if not (plain or own or re.fullmatch(rf"({_FAMILIES})KANLayer(WithNorm)?", name)):
                strangers[place] = path
    return strangers


@dataclass(frozen=True, eq=False)
class Group:
    """The tensors of a layer by name, and the keys of those read so far."""

    name: str  # "layers.0"
    layout: Layout
    source: Origin
    options: ImportOptions
    keys: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        names = [*self.layout.marks.split(), *self.layout.idle.split()]
        self.keys.update(join(self.name, name) for name in names)

    def __contains__(self, name: str) -> bool:
        return join(self.name, name) in self.source.state

    def get(self, name: str, *shape: Size) -> Tensor:
        """Return the floating-point tensor of a name; refuse another shape."""
        tensor = self.find(name, *shape)
        if tensor is None:
            advice = "Save the whole state dict, buffers included"
            key = self.source.spelled(join(self.name, name))
            raise ShapeError(CALL, f"a tensor {key} in {self.source.name}", "none", advice)
        return tensor

    def find(self, name: str, *shape: Size) -> Tensor | None:
        """Return a tensor as `get` does, or None."""
        if not name or name not in self:
            return None
        key = join(self.name, name)
        self.keys.add(key)
        return checked(self.source.spelled(key), self.source.state[key], *shape)

    def known(self, name: str, default: object = None) -> Any:
        """Return an attribute of the module, of an enclosing module, or of a configuration."""
        mark = join(self.name, self.layout.marks.split()[0])
        names = self.name.split("."), self.source.spelled(mark).split(".")
        paths = [".".join(parts[:count]) for parts in names for count in range(len(parts), -1, -1)]
        values = [attribute(self.source.owner(path), name) for path in paths]
        values.append(self.source.facts.get(name))
        return next((value for value in values if value is not None), default)

    def setting(self, name: str, value: object = None) -> Any:
        """Return a setting from the caller, a module, or `value`; raise if all are missing."""
        value = self.known(name) if value is None else value
        return self.options.setting(name, self.layout.library, value)

    def base(self) -> str:
        """Return the name of the base function."""
        bases = (self.known(name) for name in _BASES)
        own = attribute(self.source.owner(self.name), "act")  # of torch-conv-kan's layers
        base = next((base for base in bases if base is not None), own)
        if base is None and self.options.base_activation is None:
            base = self.options.assume("base_activation", self.layout.usual)
        return self.options.base(base)

    def find_bias(self, name: str, n_out: int) -> Tensor | None:
        """Return a bias (out,), which may be stored as a row, or None."""
        row = self.source.state.get(join(self.name, name)) if name else None
        if row is not None and row.dim() == 2:
            return self.get(name, 1, n_out)[0]
        return self.find(name, n_out)

    def norm(self, name: str, width: Size, eps: float | None = None) -> list[Norm]:
        """Return the layer normalization of that name, if there is one."""
        weight = self.find(f"{name}weight", width)
        if weight is None:
            return []
        eps = self.eps(name) if eps is None else eps
        return [Norm(weight=weight, bias=self.get(f"{name}bias", len(weight)), eps=eps)]

    def eps(self, name: str) -> float:
        """Return the eps of a normalization; the default is torch's."""
        eps = attribute(self.source.owner(join(self.name, name).rstrip(".")), "eps")
        return eps if isinstance(eps, float) else float(self.options.assume("eps", 1e-5))

    def beside(
        self, weight: Tensor, base: str = "", scaler: str = "", bias: str = "", mask: str = ""
    ) -> dict[str, Any]:
        """Return base, activation, scaler, bias and mask of `Edges` with weights (out, in, n)."""
        n_out, n_in = weight.shape[:2]
        stored = self.source.state.get(join(self.name, scaler), weight)
        scale = self.find(scaler, *((1,) if stored.dim() == 1 else (n_out, n_in)))
        line = self.find(base, n_out, n_in)
        return {
            "base": weight.new_zeros(n_out, n_in) if line is None else line,
            "activation": "zero" if line is None else self.base(),
            "scaler": None if scale is None else scale.expand(n_out, n_in),
            "bias": self.find_bias(bias, n_out),
            "mask": self.find(mask, n_out, n_in),
        }


_FAMILIES = "Bessel|Cheby|Cheby2|Gegenbauer|Hermite|Jacobi|Laguerre|Legendre|Lucas"
_OWN = (
    "KAN KANLinear KANLinear0 KANLinearFFT KANLayer KANNetwork KANModule KANLinearModule "
    "KANGAMModule EfficientKAN EfficientKANLinear BSpline_KAN MultKAN Symbolic_KANLayer ConvKAN "
    "KANSequential FastKAN FastKANLayer FasterKAN FasterKANLayer SplineLinear RadialBasisFunction "
    "RBFKAN RBF_KAN ReflectionalSwitchFunction RBFKANLayer RBF_KANLayer RBFLinear BSRBF_KAN "
    "BSRBF_KANLayer WavKAN WavKANLayer WavKANLinear ChebyKAN KACN KAJN KAGN FibonacciKANLayer "
    "GRAMLayer BottleNeckKAGN BottleNeckGRAMLayer OrthogPolyKANLayer LaguerreKANLayerNorm "
    "NaiveFourierKANLayer FourierKAN FourierKANLayer Fourier_KAN SineKAN SineKANLayer ReLUKAN "
    "ReLUKANLayer RationalKAN KAT_Group Linear BSplineBasis GaussianRbfBasis Bessel_KAN "
    "Chebyshev_KAN Chebyshev2_KAN Gegenbauer_KAN Hermite_KAN Jacobi_KAN Laguerre_KAN Legendre_kan "
    "Lucas_KAN Mexican_Hat_KAN Morlet_KAN Dog_KAN Meyer_KAN Shannon_KAN"
)
"""Classes whose forward the layouts reproduce."""


def checked(key: str, tensor: Tensor, *shape: Size) -> Tensor:
    """Return a floating-point tensor; refuse other shapes (None: any length)."""
    fits = tensor.dim() == len(shape) and all(
        want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        words = ", ".join("any" if size is None else str(size) for size in shape)
        expected = f"{key} of shape ({words}{',' if len(shape) == 1 else ''})"
        raise ShapeError(CALL, expected, str(tuple(tensor.shape)), _ADVICE)
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.is_floating_point():
        dense = tensor.layout == torch.strided
        got = "no data" if tensor.is_meta else str(tensor.dtype if dense else tensor.layout)
        expected = f"{key} to be a dense tensor of floating dtype"
        raise DTypeError(CALL, expected, got, "Save dense tensors in float32 or float64")
    return tensor.detach()


def _refuse_others(source: Origin, keys: set[str]) -> None:
    """Refuse tensors that belong to no layer."""
    others = [source.spelled(key) for key in source.state if key not in keys]
    if others:
        shown = ", ".join([*map(repr, others[:3]), *(["..."] if len(others) > 3 else [])])
        expected = f"only layers of a KAN in {source.name}"
        got = f"{len(others)} other tensor{'s' if len(others) > 1 else ''} ({shown})"
        refuse(expected, got, "Pass the part of the model that is the KAN")


def _linear(group: Group) -> list[Stage]:
    """Return a linear layer of torch or Keras."""
    keras = "kernel" in group
    weight = group.get("kernel", None, None).T if keras else group.get("weight", None, None)
    return [linear(group.name, weight, group.find("bias", len(weight)))]


def batch_norm(group: Group, start: str = "") -> list[Stage]:
    """Return eval-mode batch normalization, an affine map of every node."""
    mean = group.get(f"{start}running_mean", None)
    scale = (group.get(f"{start}running_var", len(mean)) + group.eps(start)).rsqrt()
    group.keys.add(join(group.name, f"{start}num_batches_tracked"))
    weight, bias = (group.find(f"{start}{name}", len(mean)) for name in ("weight", "bias"))
    scale = scale if weight is None else scale * weight
    return [Affine(scale=scale, shift=-mean * scale + (0 if bias is None else bias))]


def _layer_norm(group: Group) -> list[Stage]:
    module = group.source.owner(group.name)
    if path_of(module).startswith("torch.") and class_of(module) != "LayerNorm":
        return function_between((group.name, module), group.get("weight", None), 0, group.source)
    if module is None:
        group.options.assume("norm", "LayerNorm")
    return [*group.norm("", None)]


def _prelu(group: Group, width: int | None = None) -> list[Stage]:
    """Return PReLU of `width` nodes; without a module, a vector of slopes is read as PReLU."""
    slope, module = group.get("weight", None), group.source.owner(group.name)
    if class_of(module) == "LayerNorm":  # without bias
        return [Norm(weight=slope, bias=torch.zeros_like(slope), eps=group.eps(""))]
    if module is None:
        group.options.assume(group.name, "PReLU")
    elif class_of(module) != "PReLU":
        return function_between((group.name, module), slope, 0, group.source)
    return [leaky(group.name, slope, len(slope) if width is None else width)]


BETWEEN = (
    Layout("torch", batch_norm, "running_mean running_var", "num_batches_tracked", norm=True),
    Layout("torch", _linear, "weight", fits=lambda tensors: tensors["weight"].dim() == 2),
    Layout("Keras", _linear, "kernel"),
    Layout("torch", _layer_norm, "weight bias", fits=lambda t: t["weight"].dim() == 1, norm=True),
    Layout("torch", _prelu, "weight", fits=lambda t: t["weight"].dim() == 1),
)
"""Layouts of torch's and Keras' own layers, which may come between layers of a KAN."""
