"""Configurations that rebuild a layer or a network without its tensors, as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kanlens._checks import check_count
from kanlens._resources import check_memory
from kanlens.data._schema import Schema
from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.model._held_out import HeldOut
from kanlens.model._losses import loss_of
from kanlens.model._nodes import Grouping, Nodes
from kanlens.model._training_record import EditStep, GrowthRecord, TrainingRecord

UNTRAINED: dict[str, Any] = {  # initial values of attributes set by training and edits
    **dict.fromkeys(("record", "growth", "held_out")),
    "constraints": {},
    "edits": (),
}
_BYTES = 50  # per weight while a layer is drawn; 100 were measured
_SOLVED = 8  # bytes of a number in the equations solved for the initial splines
# defaults of a network for values missing in the JSON
_FACTS: dict[str, Any] = {"scaled": False, "holds_inputs": False, "provenance": ""}


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """Configuration of a layer without its tensors."""

    kind: str  # key into LAYER_KINDS
    in_features: int
    out_features: int
    grid_size: int = 5  # intervals
    spline_order: int = 3  # degree of the pieces; 3 is cubic
    base_activation: str = "silu"  # key into BASES
    extrapolation: str = "linear"  # of the splines outside the grid; or "zero"
    grid_eps: float = 0.02  # share of even spacing in an updated grid
    enable_standalone_scale_spline: bool = True  # whether the layer has `spline_scaler`
    functions: tuple[tuple[str, ...], ...] = ()  # (out, in), of layers with symbolic edges
    series: tuple[str, ...] = ()  # functions added to the splines

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerConfig:
        """Rebuild a configuration from its JSON."""
        rows = tuple(tuple(row) for row in data.get("functions", ()))
        return cls(**{**data, "functions": rows, "series": tuple(data.get("series", ()))})


@dataclass(frozen=True, kw_only=True)
class NodesConfig:
    """Configuration of the nodes that are formed from the sums of a layer."""

    arities: tuple[int, ...] = ()  # numbers of factors of each product, which are the last sums
    scaled: bool = False  # whether they have a fixed scale and shift
    normalized: int = 0  # number of last sums normalized over a row
    eps: float = 1e-5  # added to their variance

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NodesConfig:
        """Rebuild a configuration from its JSON."""
        nodes = cls(**{**data, "arities": tuple(data["arities"]), "scaled": data["scaled"]})
        whole = all(type(number) is int for number in (*nodes.arities, nodes.normalized))
        if not (whole and isinstance(nodes.scaled, bool) and 0 <= nodes.eps < math.inf):
            raise TypeError(f"nodes are {data!r}")
        return nodes


@dataclass(frozen=True, kw_only=True)
class KANConfig:
    """Configuration of a network without its tensors, which JSON can hold.

    efficient-kan and pykan name the same things differently: `grid_size` is pykan's ``grid``,
    `spline_order` is pykan's ``k``, `base_activation` is pykan's ``base_fun``.

    Attributes
    ----------
    layers : tuple of LayerConfig
        From the inputs to the outputs.
    schema : Schema
        Names, units and kinds of inputs and outputs, and the task.
    scaled : bool
        Whether the scaling of inputs and outputs is fixed, so that `kanlens.fit` keeps it.
    holds_inputs : bool
        Whether `kanlens.fit` clips features to the range of its data.
    nodes : tuple of NodesConfig
        One per layer; empty, and absent from the JSON, when every node is a plain sum.
    record : TrainingRecord or None
        Held-out scores from training; absent from the JSON when None.
    growth : GrowthRecord or None
        Scores of the sizes of a network that grew; likewise.
    held_out : HeldOut or None
        Predictions of rows that training did not see; likewise.
    constraints : dict of str to str
        Shapes that the effects of columns were trained to have; likewise.
    provenance : str
        Source of an imported model, and the assumptions made; absent from the JSON of others.
    edits : tuple of EditStep
        Edits by `kanlens.edit`; likewise.
    """

    layers: tuple[LayerConfig, ...]
    schema: Schema
    scaled: bool = False
    holds_inputs: bool = False
    nodes: tuple[NodesConfig, ...] = ()
    record: TrainingRecord | None = None
    growth: GrowthRecord | None = None
    held_out: HeldOut | None = None
    constraints: dict[str, str] = field(default_factory=dict)
    provenance: str = ""
    edits: tuple[EditStep, ...] = ()

    def to_json(self) -> str:
        """Return the configuration as JSON, keys sorted.

        Examples
        --------
        >>> from kanlens.data._schema import default_schema
        >>> layer = LayerConfig(kind="spline", in_features=1, out_features=1)
        >>> config = KANConfig(layers=(layer,), schema=default_schema(1, 1))
        >>> KANConfig.from_json(config.to_json()) == config
        True
        """
        data = dataclasses.asdict(self)
        for layer in data["layers"]:  # omitted if empty, as by versions without series
            if not layer["series"]:
                del layer["series"]
        for nodes in data["nodes"]:
            if not nodes["normalized"]:
                del nodes["normalized"], nodes["eps"]
        if data["schema"]["loss"] == "squared_error":
            del data["schema"]["loss"], data["schema"]["loss_parameter"]
        data["schema"] = {k: own for k, own in data["schema"].items() if own or k != "per_row"}
        optional = ("nodes", "provenance", *UNTRAINED)
        parts = {name: part for name, part in data.items() if part or name not in optional}
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> KANConfig:
        """Rebuild a configuration from `to_json`.

        Raises
        ------
        FileFormatError
            If the text is not a configuration of kanlens.
        """
        try:
            data = json.loads(text)
            layers = tuple(LayerConfig.from_dict(item) for item in data["layers"])
            schema = Schema.from_dict(data["schema"])
            loss_of(schema)
            about = {name: data.get(name, usual) for name, usual in _FACTS.items()}
            for name, fact in about.items():
                if type(fact) is not type(_FACTS[name]):
                    raise TypeError(f"{name} is {fact!r}")
            nodes = tuple(NodesConfig.from_dict(item) for item in data.get("nodes", ()))
            record = TrainingRecord.from_dict(data["record"]) if "record" in data else None
            growth = GrowthRecord.from_dict(data["growth"]) if "growth" in data else None
            held = HeldOut.from_dict(data["held_out"], schema) if "held_out" in data else None
            shapes = {str(name): str(shape) for name, shape in data.get("constraints", {}).items()}
            edits = tuple(EditStep.from_dict(item) for item in data.get("edits", ()))
            about |= {"nodes": nodes, "record": record, "growth": growth, "held_out": held}
            about |= {"constraints": shapes, "edits": edits}
            return cls(layers=layers, schema=schema, **about)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            got = f"{type(error).__name__}: {error}"
            raise _unfit("a kanlens configuration", got, "KANConfig") from error


def nodes_of(config: KANConfig, kinds: Collection[str]) -> list[Nodes]:
    """Return every layer's nodes, unscaled; refuse unknown kinds and layers that do not fit."""
    unknown = [layer.kind for layer in config.layers if layer.kind not in kinds]
    if unknown or not config.layers:
        expected = f"layers of kind {', '.join(sorted(kinds))}"
        got = repr(unknown[0]) if unknown else "none"
        raise FileFormatError("KAN.from_config", expected, got, "Upgrade kanlens")
    ends = config.nodes or (NodesConfig(),) * len(config.layers)
    if len(ends) != len(config.layers):
        raise _unfit("nodes of every layer", f"{len(ends)} for {len(config.layers)} layers")
    nodes = []
    for layer, end in zip(config.layers, ends, strict=True):
        group = Grouping(layer.out_features - sum(end.arities), end.arities)
        if group.sums < 0 or not group.nodes or any(arity < 2 for arity in end.arities):
            got = f"products of {list(end.arities)} from {layer.out_features} outputs"
            raise _unfit("products of at least two of a layer's outputs", got)
        if not 0 <= end.normalized <= group.sums * (not end.arities):
            got = f"{end.normalized} of {group.sums}"
            raise _unfit("normalized sums of a layer without products", got)
        nodes.append(Nodes(group, scaled=end.scaled, normalized=end.normalized, eps=end.eps))
    if nodes[-1].normalized:
        raise _unfit("outputs that are not normalized", "normalized ones")
    inputs = [len(config.schema.features), *(node.grouping.nodes for node in nodes)]
    outputs = [*(layer.in_features for layer in config.layers), len(config.schema.outputs)]
    if inputs != outputs:
        raise _unfit("layers that fit together", f"widths {outputs} after {inputs}")
    return nodes


def _unfit(expected: str, got: str, call: str = "KAN.from_config") -> FileFormatError:
    return FileFormatError(call, expected, got, "Save the model again")


def check_layer(
    in_features: int, out_features: int, grid_size: int, spline_order: int, grid_eps: float
) -> None:
    """Refuse a width, grid or order that no layer can have."""
    check_count("KANLinear", "in_features", in_features)
    check_count("KANLinear", "out_features", out_features)
    check_count("KANLinear", "grid_size", grid_size)
    whole = isinstance(spline_order, numbers.Integral) and not isinstance(spline_order, bool)
    if not whole or spline_order not in range(1, 6):
        fields = "KANLinear", "to be an integer from 1 to 5", repr(spline_order), "3 is cubic"
        raise InvalidValueError(*fields, argument="spline_order")
    weights = in_features * out_features * (grid_size + spline_order + 2)
    equations = in_features * (grid_size + 1) * (grid_size + spline_order)
    layer = f"a layer of {in_features:,} x {out_features:,} edges on {grid_size:,} intervals"
    advice = "Make it narrower, or its grid coarser"
    check_memory("KANLinear", _BYTES * weights + _SOLVED * equations, layer, advice)
    if not (isinstance(grid_eps, numbers.Real) and 0 <= grid_eps <= 1):
        fields = "KANLinear", "from 0 to 1", repr(grid_eps), "The default is 0.02"
        raise InvalidValueError(*fields, argument="grid_eps")


def check_grid(ends: Sequence[float], knots: Tensor | None = None) -> tuple[float, float]:
    """Return the ends of a grid; refuse ends in the wrong order, and knots too close."""
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        expected = "grid_range of two finite numbers, the lower first"
        raise InvalidValueError("KANLinear", expected, repr(ends), "Pass numbers such as (-1, 1)")
    if knots is not None and not bool((knots.diff(dim=1) > 0).all()):
        expected = f"grid_range wide enough for its intervals in {knots.dtype}"
        raise InvalidValueError("KANLinear", expected, repr(ends), "Scale the inputs")
    return low, high
