"""Intermediate form of a network (stages), and its conversion to layers and nodes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from kanlens.data._schema import default_schema
from kanlens.errors import KanlensError, ShapeError, reworded
from kanlens.functions._catalog import BASES
from kanlens.io.importers._settings import CALL, ImportOptions, sum_of
from kanlens.model._config import LayerConfig
from kanlens.model._conversion import expand_normalization
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes
from kanlens.splines import _spline as spline

_NAMES = {"base": "base_weight", "spline": "spline_weight", "knots": "grid"}
_NAMES |= {"scaler": "spline_scaler"}
_DEGREES = "splines of degree 1 to 5"


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """A stage of edges and their sums, with fields like those of `KANLinear`."""

    name: str
    base: Tensor  # (out, in): weights of the base function `activation`
    activation: str = "silu"
    spline: Tensor | None = None  # (out, in, basis)
    knots: Tensor | None = None  # (in, knot), with those beyond the grid
    scaler: Tensor | None = None  # (out, in)
    bias: Tensor | None = None  # (out,)
    mask: Tensor | None = None  # (out, in)
    functions: tuple[tuple[str, ...], ...] = ()  # (out, in)
    affine: Tensor | None = None  # (out, in, 4): a, b, c, d
    series: tuple[str, ...] = ()
    series_weight: Tensor | None = None  # (out, in, n)
    series_affine: Tensor | None = None  # (in, n, 2)
    extrapolation: str = "zero"
    grid_eps: float = 0.02

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names in `KANLinear`."""
        parts = vars(self).items()
        return {_NAMES.get(name, name): part for name, part in parts if isinstance(part, Tensor)}

    def rescaled(self, scale: Tensor, shift: Tensor) -> Edges:
        """Return edges whose sums are ``scale * sum + shift``."""
        names = ("base", "series_weight", "spline" if self.scaler is None else "scaler", "affine")
        parts: dict[str, Any] = {name: getattr(self, name) for name in names}
        for name, part in parts.items():
            if part is not None:
                parts[name] = (part.movedim(0, -1) * scale).movedim(-1, 0)
        if self.affine is not None:
            parts["affine"][..., :2] = self.affine[..., :2]
        parts["bias"] = shift if self.bias is None else self.bias * scale + shift
        return replace(self, **parts)

    def shifted(self, by: Tensor) -> Edges:
        """Return edges with shifted sums."""
        return replace(self, bias=by if self.bias is None else self.bias + by)

    def on(self, low: float, high: float) -> Edges:
        """Return edges with a grid of one interval."""
        return replace(self, knots=uniform(low, high, 1, 1, self.base, self.base.shape[1]))

    def plus(self, names: Sequence[str], weight: Tensor, affine: Tensor) -> Edges:
        """Return edges with more series functions: weights (out, in, n) and a, b (in, n, 2)."""
        if self.series_weight is not None and self.series_affine is not None:
            weight = torch.cat([self.series_weight, weight], -1)
            affine = torch.cat([self.series_affine, affine], 1)
        series = (*self.series, *names)
        return replace(self, series=series, series_weight=weight, series_affine=affine)

    def spelled_out(self) -> Edges:
        """Return edges whose base function, if a sum in `SUMS`, is replaced by series terms."""
        total = sum_of(self.activation)
        if self.activation in BASES or total is None:
            return self
        terms, rest = total
        names, a, b, c = zip(*terms, strict=True)
        base, places = self.base, torch.tensor([a, b], dtype=torch.float64).T.to(self.base)
        constant = rest * (base if self.mask is None else base * self.mask).sum(1)
        others = replace(self.shifted(constant), base=torch.zeros_like(base), activation="zero")
        weight = base[..., None] * base.new_tensor(c)
        return others.plus(names, weight, places.expand(base.shape[1], -1, 2))

    @property
    def config(self) -> LayerConfig:
        """The configuration of the layer; refuses invalid splines."""
        n_out, n_in = self.base.shape
        order, size = 1, 1
        if self.spline is not None and self.knots is not None:
            order = self.knots.shape[1] - self.spline.shape[2] - 1
            size = self.spline.shape[2] - order
        if min(n_out, n_in) < 1 or order not in range(1, 6) or size < 1:
            expected = f"a layer {self.name!r} with {_DEGREES}" if self.name else _DEGREES
            got = f"{n_out} x {n_in} splines of degree {order} on {size} intervals"
            raise ShapeError(CALL, expected, got, "Train it with another spline_order")
        return LayerConfig(
            kind=KANLinear.kind,
            in_features=n_in,
            out_features=n_out,
            grid_size=size,
            spline_order=order,
            base_activation=self.activation,
            extrapolation=self.extrapolation,
            grid_eps=self.grid_eps,
            enable_standalone_scale_spline=self.scaler is not None,
            functions=self.functions,
            series=self.series,
        )

    def layer(self, dtype: torch.dtype, device: torch.device) -> KANLinear:
        """Build the layer."""
        layer = KANLinear.from_config(self.config).to(dtype=dtype, device=device)
        layer.load_state_dict({**layer.state_dict(), **self.tensors})
        return layer


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """A scale and a shift of every node, as of batch normalization."""

    scale: Tensor  # (node,)
    shift: Tensor
    arities: tuple[int, ...] = ()  # numbers of factors of products, formed before scaling


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """Layer normalization; the raw nodes may be kept too, in front of the normalized ones."""

    weight: Tensor  # (node,)
    bias: Tensor
    eps: float = 1e-5
    beside: bool = False


Stage: TypeAlias = Edges | Affine | Norm


def edges_of(name: str, layer: KANLinear) -> Edges:
    """Return the edges of a layer of kanlens."""
    config, tensors = layer.config, layer.state_dict()
    names = {part.name: _NAMES.get(part.name, part.name) for part in fields(Edges)}
    return Edges(
        name=name,
        activation=config.base_activation,
        functions=config.functions,
        series=config.series,
        extrapolation=config.extrapolation,
        grid_eps=config.grid_eps,
        **{name: tensors[key] for name, key in names.items() if key in tensors},
    )


def linear(name: str, weight: Tensor, bias: Tensor | None) -> Edges:
    """Return the edges of `torch.nn.Linear`."""
    return Edges(name=name, base=weight, activation="identity", bias=bias)


def one_by_one(names: Mapping[tuple[int, int], str], affine: Tensor) -> dict[str, Any]:
    """Return series fields of `Edges` that add c g(a x + b) to each edge (out, in) in `names`."""
    slots: dict[tuple[str, int], list[tuple[int, int]]] = {}
    used: Counter[tuple[str, int]] = Counter()
    for (out, in_), name in names.items():
        slots.setdefault((name, used[name, in_]), []).append((out, in_))
        used[name, in_] += 1
    weight = affine.new_zeros(*affine.shape[:2], len(slots))
    places = affine.new_tensor([1.0, 0.0]).repeat(affine.shape[1], len(slots), 1)
    for k, edges in enumerate(slots.values()):
        for out, in_ in edges:
            weight[out, in_, k], places[in_, k] = affine[out, in_, 2], affine[out, in_, :2]
    series = tuple(name for name, _ in slots)
    return {"series": series, "series_weight": weight, "series_affine": places}


def elementwise(name: str, function: str, width: int, like: Tensor) -> Edges:
    """Return edges that apply a function to each node; edges between others are masked."""
    eye = torch.eye(width, dtype=like.dtype, device=like.device)
    return Edges(name=name, base=eye, activation=function, mask=eye)


def leaky(name: str, slope: Tensor, width: int) -> Edges:
    """Return the edges of torch's PReLU, a x + (1 - a) relu(x)."""
    slopes = slope.expand(width)
    line = replace(elementwise(name, "identity", width, slope), base=torch.diag(slopes))
    place = slope.new_tensor([1.0, 0.0]).repeat(width, 1, 1)
    return line.plus(["relu"], torch.diag(1 - slopes)[..., None], place)


@dataclass(eq=False)
class _LayerChain:
    """The layers and their nodes so far."""

    edges: list[Edges] = field(default_factory=list)
    nodes: list[Nodes] = field(default_factory=list)

    def add(self, stage: Stage) -> None:
        """Append the next stage."""
        if isinstance(stage, Norm):
            self._normalize(stage)
        elif isinstance(stage, Affine):
            self._transform(stage)
        else:
            self._fit(stage.name, stage.base.shape[1])
            stage = stage.spelled_out()
            self.edges.append(stage)
            self.nodes.append(Nodes(Grouping(stage.config.out_features)))

    def _transform(self, affine: Affine) -> None:
        """Apply a scale and a shift to the last sums or their nodes."""
        if not self.edges:
            self._hand_on(torch.eye(len(affine.scale)).to(affine.scale))
        if affine.arities:
            sums = len(self.edges[-1].base) - sum(affine.arities)
            self.nodes[-1] = Nodes(Grouping(sums, affine.arities))
        self._fit("a normalization", len(affine.scale))
        last, scale, shift = self.nodes[-1], affine.scale, affine.shift
        if last.additive:
            self.edges[-1] = self.edges[-1].rescaled(scale, shift)
            return
        if last.scaled:
            scale, shift = scale * last.scale, scale * last.shift + shift
        self._scale(last.grouping, scale, shift, normalized=last.normalized, eps=last.eps)

    def _hand_on(self, weight: Tensor) -> None:
        """Add a layer of linear edges that copies nodes, times weights."""
        self.add(replace(linear("inputs", weight, None), mask=weight))

    def _normalize(self, norm: Norm) -> None:
        """Normalize the last sums; products, and raw nodes to keep, are first copied by a layer."""
        n, eye = len(norm.weight), torch.eye(len(norm.weight)).to(norm.weight)
        if not self.edges or not self.nodes[-1].plain or norm.beside:
            self._hand_on(torch.cat([eye, eye]) if norm.beside else eye)
        raw = norm.weight.new_zeros(n if norm.beside else 0)
        self._fit("a normalization", len(raw) + n)
        scale, shift = torch.cat([raw + 1, norm.weight]), torch.cat([raw, norm.bias])
        self._scale(Grouping(len(scale)), scale, shift, normalized=n, eps=norm.eps)

    def _scale(self, grouping: Grouping, scale: Tensor, shift: Tensor, **options: Any) -> None:
        """Scale and shift the last nodes."""
        self.nodes[-1] = Nodes(grouping, scaled=True, **options)
        self.nodes[-1].scale, self.nodes[-1].shift = scale.detach(), shift.detach()

    def _fit(self, name: str, width: int) -> None:
        if self.edges and self.width != width:
            expected = f"{name} to take the {self.width} outputs of {self.edges[-1].name}"
            advice = "The layers are not of one network; pass one at a time"
            raise ShapeError(CALL, expected, f"{width} inputs", advice)

    @property
    def width(self) -> int:
        """Number of nodes after the last layer."""
        return self.nodes[-1].grouping.nodes


def network(stages: Iterable[Stage], options: ImportOptions) -> KAN:
    """Convert a sequence of stages to a network."""
    row = _LayerChain()
    exact = options.setting("layer_norm", "", "keep") == "exact"
    for stage in stages:
        row.add(stage)
    if row.nodes[-1].normalized:  # an output is a sum or a product
        row.add(elementwise("outputs", "identity", row.width, row.edges[0].base))
    first, last = row.edges[0], row.width
    kinds = (tensor.dtype for edges in row.edges for tensor in edges.tensors.values())
    dtype, device = functools.reduce(torch.promote_types, kinds), first.base.device
    layers = [edges.layer(dtype, device) for edges in row.edges]
    names = {"feature_names": options.feature_names, "output_names": options.output_names}
    try:
        schema = default_schema(first.base.shape[1], last, **names)
    except KanlensError as error:
        raise reworded(CALL, error) from error
    model = KAN.from_layers(layers, schema, nodes=row.nodes)
    model.scaled = True  # as after training: a later fit must not set its scaling
    return expand_normalization(model) if exact else model


def uniform(low: float, high: float, size: int, order: int, like: Tensor, n_in: int) -> Tensor:
    """Return the knots (in, knot) of a uniform grid, extended by `order` at each end."""
    cuts = torch.linspace(low, high, size + 1, dtype=torch.float64)[None].expand(n_in, -1)
    return spline.extend(cuts, order).to(like)
