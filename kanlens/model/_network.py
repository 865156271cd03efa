"""The network: its layers, the scaling of its inputs and outputs, and their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from kanlens._checks import check_choice, check_columns, check_finite, check_generator, find_place
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens.data._cell_parsing import as_tensor
from kanlens.data._schema import Schema, default_schema
from kanlens.data._source import Source
from kanlens.data._tables import Table
from kanlens.errors import ShapeError
from kanlens.functions._elementary import Array
from kanlens.model._config import UNTRAINED, KANConfig, NodesConfig, nodes_of
from kanlens.model._held_out import HeldOut
from kanlens.model._kan_linear import LAYER_KINDS, KANLinear
from kanlens.model._losses import Loss, loss_of
from kanlens.model._nodes import Nodes, Width, check_nodes, read_widths
from kanlens.model._statistics import LayerStatistics
from kanlens.model._training_record import EditStep, GrowthRecord, TrainingRecord

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Rows: TypeAlias = "Tensor | Array | pd.DataFrame | Table | Source"
Inputs: TypeAlias = "ArrayLike"  # rows as scikit-learn takes them, also as a DataFrame
Targets: TypeAlias = "ArrayLike"  # numbers or labels, also as a DataFrame
PerRow: TypeAlias = "ArrayLike | None"  # weights or groups of the rows, or the column of them

__all__ = ["KAN", "Inputs", "KANConfig", "PerRow", "Rows", "Targets"]


class KAN(Displayed, nn.Module):
    """A Kolmogorov-Arnold network: every edge is a learned function, every node a sum or product.

    Takes x in the units of the data, clips it to `input_low` and `input_high`, scales it by
    ``(x - input_shift) / input_scale``, runs the layers and returns
    ``output * output_scale + output_shift``. These six are buffers, which change nothing until the
    first `kanlens.fit` sets them. Product nodes [2]_ multiply the last sums of a layer.

    Parameters
    ----------
    widths : sequence of int or pair
        Number of features, of nodes of each hidden layer, and of outputs. The pair ``(3, 2)`` is a
        layer of 3 sums and 2 products of two, ``(3, [2, 3])`` gives the numbers of factors.
    grid_size, spline_order, scale_noise, scale_base, scale_spline, base_activation, grid_eps, \
grid_range, enable_standalone_scale_spline
        As for `KANLinear`.
    extrapolation : {"constant", "linear", "zero"}
        Beyond the range of the training data: clip each feature to its range, continue the splines
        linearly, or let them decay to zero on the outer knots.
    feature_names, output_names : sequence of str, optional
        Default x1, x2, ... and y, or y1, y2, ...
    generator : torch.Generator, optional
        Draws the initial weights; torch's default generator when None.

    Raises
    ------
    InvalidValueError
        If an argument is out of range.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024.
    .. [2] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024.

    Examples
    --------
    >>> model = KAN([4, 5, 1], grid_size=5, spline_order=3)
    >>> model(torch.zeros(10, 4)).shape
    torch.Size([10, 1])
    >>> KAN([2, (3, 2), 1]).widths
    (2, 5, 1)
    """

    input_shift: Tensor
    input_scale: Tensor
    input_low: Tensor
    input_high: Tensor
    output_shift: Tensor
    output_scale: Tensor
    record: TrainingRecord | None
    growth: GrowthRecord | None
    held_out: HeldOut | None
    constraints: dict[str, str]  # shape of the effect of a column
    edits: tuple[EditStep, ...]  # by `kanlens.edit`
    layers: Sequence[KANLinear]  # a torch.nn.ModuleList
    nodes: Sequence[Nodes]  # one per layer

    def __init__(
        self,
        widths: Sequence[Width],
        *,
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        base_activation: str | type[nn.Module] | Callable[..., Any] = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        enable_standalone_scale_spline: bool = True,
        extrapolation: str = "constant",
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_generator("KAN", generator)
        check_choice("KAN", "extrapolation", extrapolation, ["constant", "linear", "zero"])
        width, groups = read_widths(widths)
        inputs = [width, *(group.nodes for group in groups[:-1])]
        layers = [
            KANLinear(
                n_in,
                group.subnodes,
                grid_size=grid_size,
                spline_order=spline_order,
                scale_noise=scale_noise,
                scale_base=scale_base,
                scale_spline=scale_spline,
                enable_standalone_scale_spline=enable_standalone_scale_spline,
                base_activation=base_activation,
                grid_eps=grid_eps,
                grid_range=grid_range,
                extrapolation="zero" if extrapolation == "zero" else "linear",
                generator=generator,
            )
            for n_in, group in zip(inputs, groups, strict=True)
        ]
        schema = default_schema(
            width, groups[-1].nodes, feature_names=feature_names, output_names=output_names
        )
        self._assemble(layers, [Nodes(group) for group in groups], schema)
        self.holds_inputs = extrapolation == "constant"

    def _assemble(
        self, layers: Sequence[nn.Module], nodes: Sequence[Nodes], schema: Schema
    ) -> None:
        self.layers = cast("Sequence[KANLinear]", nn.ModuleList(layers))
        self.nodes = cast("Sequence[Nodes]", nn.ModuleList(nodes))
        self.schema = schema
        self.scaled, self.holds_inputs = False, False
        self.provenance = ""  # of an imported model: its origin, and assumptions
        self.background: Tensor | None = None
        for name, value in UNTRAINED.items():
            setattr(self, name, value)
        n_in, n_out = len(schema.features), len(schema.outputs)
        self.register_buffer("input_shift", torch.zeros(n_in))
        self.register_buffer("input_scale", torch.ones(n_in))
        self.register_buffer("input_low", torch.full((n_in,), -torch.inf))
        self.register_buffer("input_high", torch.full((n_in,), torch.inf))
        self.register_buffer("output_shift", torch.zeros(n_out))
        self.register_buffer("output_scale", torch.ones(n_out))

    @classmethod
    def from_config(cls, config: KANConfig) -> KAN:
        """Build a network from its configuration; weights are zero until a state dict is loaded.

        Raises
        ------
        FileFormatError
            If a layer's kind is unknown, or widths do not fit together.
        """
        nodes = nodes_of(config, LAYER_KINDS)
        layers = [LAYER_KINDS[layer.kind].from_config(layer) for layer in config.layers]
        model = cls.from_layers(layers, config.schema, nodes=nodes)
        model.scaled, model.holds_inputs = config.scaled, config.holds_inputs
        for name in UNTRAINED:
            setattr(model, name, getattr(config, name))
        model.provenance = config.provenance
        return model

    @classmethod
    def from_layers(
        cls, layers: Sequence[nn.Module], schema: Schema, *, nodes: Sequence[Nodes] | None = None
    ) -> KAN:
        """Build a network around existing layers; the scaling is the identity, in their dtype.

        `nodes` group the outputs of each layer; plain sums when None.

        Raises
        ------
        InvalidValueError
            If they do not fit the layers.

        Examples
        --------
        >>> small = KAN.from_layers([KANLinear(2, 1)], KAN([2, 1]).schema)
        >>> small.widths
        (2, 1)
        """
        nodes = check_nodes(layers, nodes, len(schema.outputs))
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._assemble(layers, nodes, schema)
        first = model.layers[0].mask
        return model.to(dtype=first.dtype, device=first.device)

    @property
    def config(self) -> KANConfig:
        """The configuration that rebuilds this network, without its tensors."""
        nodes = tuple(
            NodesConfig(
                arities=nodes.grouping.arities,
                scaled=nodes.scaled,
                normalized=nodes.normalized,
                eps=nodes.eps if nodes.normalized else NodesConfig.eps,
            )
            for nodes in self.nodes
        )
        return KANConfig(
            layers=tuple(layer.config for layer in self.layers),
            schema=self.schema,
            scaled=self.scaled,
            holds_inputs=self.holds_inputs,
            nodes=() if all(level.plain for level in self.nodes) else nodes,
            provenance=self.provenance,
            **{name: getattr(self, name) for name in UNTRAINED},
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features, of nodes of each hidden layer, and of outputs."""
        return (self.layers[0].in_features, *(nodes.grouping.nodes for nodes in self.nodes))

    @property
    def shape(self) -> tuple[Any, ...]:
        """The widths in the form that `KAN` takes, with a pair for a layer that multiplies.

        Examples
        --------
        >>> KAN([2, (3, 2), (0, [3]), 1]).shape
        (2, (3, 2), (0, [3]), 1)
        """
        return (self.layers[0].in_features, *(nodes.grouping.form for nodes in self.nodes))

    def _line(self) -> str:
        total = sum(layer.mask.numel() for layer in self.layers)
        count = sum(parameter.numel() for parameter in self.parameters())
        names = f"{', '.join(self.feature_names)} -> {', '.join(self.output_names)}"
        edges = f"{self.edges_alive:,} of {total:,} edges"
        shape = f"{list(self.shape)}, {edges}, {count:,} parameters, {self.task}"
        return f"{shape}: {names}" + (f"; {self.provenance}" if self.provenance else "")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self.schema.feature_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.schema.output_names

    @property
    def task(self) -> str:
        """Either "regression" or "classification"."""
        return self.schema.task

    @property
    def loss(self) -> Loss:
        """The loss of training, with the link of its response and the scale of outputs."""
        return loss_of(self.schema)

    def output_unit(self, index: int) -> str:
        """Return the scale of an output, such as "log rate", or else its unit."""
        if self.schema.class_labels and (reference := self.reference_class) is not None:
            return f"{self.loss.scale} against class {self.class_labels[reference]}"
        return self.loss.scale or self.schema.outputs[index].unit

    @property
    def reference_class(self) -> int | None:
        """Index of the only class without edges, to which other outputs are relative, or None."""
        constant = (self.layers[-1].mask == 0).all(1).nonzero().flatten().tolist()
        logits = self.task == "classification" and self.nodes[-1].plain
        return constant[0] if logits and len(constant) == 1 < len(self.output_names) else None

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Names of the classes; empty for regression."""
        return self.schema.class_labels

    @property
    def statistics(self) -> tuple[LayerStatistics, ...] | None:
        """Statistics of every layer on the training data, None before the first fit."""
        statistics = [layer.statistics for layer in self.layers if layer.statistics is not None]
        return tuple(statistics) if len(statistics) == len(self.layers) else None

    @property
    def feature_range(self) -> tuple[Tensor, Tensor] | None:
        """Lower and upper ends of each feature's training range, two tensors (in,).

        In the units of the data: the limits that a feature is clipped to, if it has any, else those
        of the statistics. None before the first fit.
        """
        if (seen := self.data_range) is None:
            return None
        held = self.input_low.isfinite() & self.input_high.isfinite()
        low, high = map(torch.where, (held, held), (self.input_low, self.input_high), seen)
        return low, high

    @property
    def data_range(self) -> tuple[Tensor, Tensor] | None:
        """Ends (in,) of each feature's training data, clipped to its limits; None before fit."""
        if (statistics := self.layers[0].statistics) is None:
            return None
        ends = (end.to(self.input_scale) for end in (statistics.input_low, statistics.input_high))
        seen = (end * self.input_scale + self.input_shift for end in ends)
        low, high = (end.clamp(self.input_low, self.input_high) for end in seen)
        return low, high

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights."""
        return self.input_shift.dtype

    @property
    def edges_alive(self) -> int:
        """Number of edges that are not masked."""
        return sum(int((layer.mask != 0).sum()) for layer in self.layers)

    def node_name(self, level: int, index: int) -> str:
        """Return the name of a node: that of a feature or output, or h1_2.

        h1_2 is the second node of the first hidden layer. Nodes before and after a layer
        normalization are named after their sources: raw x1 and normalized x1.

        Examples
        --------
        >>> KAN([2, 3, 1]).node_name(1, 0)
        'h1_1'
        """
        if level == 0:
            return self.feature_names[index]
        if level == len(self.layers):
            return self.output_names[index]
        name, nodes = f"h{level}_{index + 1}", self.nodes[level - 1]
        if nodes.normalized:
            sources = self.layers[level - 1].mask[index].nonzero()[:, 0].tolist()
            if len(sources) == 1 and self.layers[level - 1].base_name == "identity":
                name = self.node_name(level - 1, sources[0])
            return f"raw {name}" if index < nodes.apart else f"normalized {name}"
        return name

    def subnode_name(self, layer: int, index: int) -> str:
        """Return the name of a layer's output: that of its node, or h1_4.2 for a factor.

        Examples
        --------
        >>> KAN([2, (3, 2), 1]).subnode_name(0, 2), KAN([2, (3, 2), 1]).subnode_name(0, 4)
        ('h1_3', 'h1_4.2')
        """
        node, factor = self.nodes[layer].grouping.place(index)
        return self.node_name(layer + 1, node) + ("" if factor is None else f".{factor + 1}")

    def edge_name(self, layer: int, out: int, in_: int) -> str:
        """Return the name of an edge: its input, and its output or factor.

        Examples
        --------
        >>> KAN([2, 3, 1]).edge_name(0, 1, 0), KAN([2, (3, 2), 1]).edge_name(0, 3, 0)
        ('x1 -> h1_2', 'x1 -> h1_4.1')
        """
        return f"{self.node_name(layer, in_)} -> {self.subnode_name(layer, out)}"

    def forward(self, x: Rows) -> Tensor:
        """Evaluate the network.

        Parameters
        ----------
        x : Tensor, ndarray, DataFrame or Table, shape (..., in)
            In the units of the data.

        Returns
        -------
        Tensor, shape (..., out)
            In the units of the data; logits for classification, logs for losses with a log link.

        Raises
        ------
        ShapeError
            If the last axis of `x` is not the number of features.
        DTypeError
            If `x` is a Tensor of another dtype than the model's.
        """
        rows = x if isinstance(x, Tensor) else self._convert(x, "KAN.forward")
        width = self.layers[0].in_features
        names = () if rows.shape[-1:] == (width,) else self.feature_names
        check_columns("KAN.forward", rows, width, self.input_shift.dtype, names)
        rows = (rows.clamp(self.input_low, self.input_high) - self.input_shift) / self.input_scale
        for layer, nodes in zip(self.layers, self.nodes, strict=True):
            rows = layer(rows) if nodes.plain else nodes(layer(rows))
        return rows * self.output_scale + self.output_shift

    def through(self, index: int, x: Tensor) -> Tensor:
        """Return the nodes (..., node) of layer `index` at its inputs (..., in)."""
        sums: Tensor = self.layers[index](x)
        return sums if self.nodes[index].plain else self.nodes[index](sums)

    def run(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the layers from `start` to before `stop` on x, the scaled inputs of `start`."""
        for index in range(start, len(self.layers) if stop is None else stop):
            x = self.through(index, x)
        return x

    def levels(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the nodes (..., node) of all levels, inputs first, and the sums of all layers."""
        levels, sums = [x], list[Tensor]()
        for layer, nodes in zip(self.layers, self.nodes, strict=True):
            sums.append(layer(levels[-1]))
            levels.append(sums[-1] if nodes.plain else nodes(sums[-1]))
        return levels, sums

    def scale_outputs(self, nodes: Tensor) -> Tensor:
        """Return outputs (..., out) of the last layer in the units of the data."""
        return nodes * self.output_scale + self.output_shift

    def scale_inputs(self, x: Tensor) -> Tensor:
        """Return x (..., in), clipped to its range, scaled for the first layer."""
        held = x.clamp(self.input_low, self.input_high)  # NaN stays NaN
        return (held - self.input_shift) / self.input_scale

    def outside(self, x: Tensor) -> Tensor:
        """Return the mask of x (batch, in) outside the clipping range, or without one the grid.

        Examples
        --------
        >>> KAN([2, 1]).outside(torch.tensor([[0.5, 3.0]]))
        tensor([[False,  True]])
        """
        off = self.layers[0].outside((x - self.input_shift) / self.input_scale)
        held = self.input_low.isfinite() & self.input_high.isfinite()
        return torch.where(held, ~((x >= self.input_low) & (x <= self.input_high)), off)

    def prepare(self, x: Rows, *, call: str, finite: bool = True) -> Tensor:
        """Return x as a tensor (batch, in) of the model's dtype and device.

        Tables are read by column name, text and missing cells by the schema. `call` is named
        in errors: a DTypeError for other types, a ShapeError for other columns, a DataError
        for cells that cannot be used, or, if `finite`, are NaN or infinite.
        """
        tensor = self._convert(x, call)
        if tensor.dim() != 2:
            expected = f"x of shape (batch, {len(self.schema.features)})"
            advice = "Pass a table: one row per sample"
            raise ShapeError(call, expected, str(tuple(tensor.shape)), advice)
        names = self.schema.feature_names
        check_columns(call, tensor, len(names), names=names)
        if finite:
            check_finite(call, tensor, self.schema.feature_names)
        return tensor

    def _convert(self, x: Rows, call: str) -> Tensor:
        """Return x of any shape as a tensor of the model's dtype and device."""
        if isinstance(x, Source):
            x = x.table(call=call, numbers=sum(self.widths))
        if isinstance(x, Table):
            x = x.frame
        if hasattr(x, "columns") and hasattr(x, "iloc"):
            x = self.schema.encode(cast("pd.DataFrame", x), call=call)
        return as_tensor(x, call).to(self.input_shift)

    def output_index(self, target: int | str | None, *, call: str) -> int:
        """Return the index of an output, by index or name (None: the only one, or the median)."""
        if target is None and self.loss.levels:
            off = [abs(level - 0.5) for level in self.loss.levels]
            target = off.index(min(off))
        return find_output(self.output_names, self.class_labels, target, call)

    @torch.no_grad()
    def update_grid(self, x: Rows, margin: float = 0.01) -> float:
        """Move every layer's grid to the data that reaches it, and keep the functions.

        Returns
        -------
        float
            Largest change of a layer's output over the rows inside its old grid.
        """
        levels, _ = self.levels(self.scale_inputs(self.prepare(x, call="KAN.update_grid")))
        pairs = zip(self.layers, levels[:-1], strict=True)
        return max(0.0, *(layer.update_grid(values, margin=margin) for layer, values in pairs))

    @torch.no_grad()
    def refine(self, grid_size: int) -> float:
        """Change every layer to `grid_size` intervals and keep the functions.

        Returns
        -------
        float
            Largest change of a layer's output over its old grid.
        """
        return max(layer.refine(grid_size) for layer in self.layers)


def find_output(
    names: Sequence[str], labels: Sequence[str], target: int | str | None, call: str
) -> int:
    """Return the index of an output given by index, name or, with several, class label."""
    if target is None and len(names) == 1:
        return 0
    if isinstance(target, str) and target not in names and len(names) > 1 and target in labels:
        return labels.index(target)
    shown = ", ".join(repr(name) for name in names[:8])
    expected = f"to be one of the {len(names)} outputs ({shown})"
    advice = f"Pass an index below {len(names)} or a name"
    return find_place(call, expected, target, names, advice, argument="target")


def describe(model: KAN) -> dict[str, Any]:
    """Return the facts about a model as plain JSON types."""
    configs = model.config.layers
    named = [name for config in configs for row in config.functions for name in row]
    ranges: list[dict[str, float]] = [{} for _ in model.schema.features]
    if model.data_range is not None:
        low, high = (ends.tolist() for ends in model.data_range)
        ranges = [{"low": a, "high": b} for a, b in zip(low, high, strict=True)]
    return {
        "widths": list(model.widths),
        "shape": repr(list(model.shape)),
        "products": sum(len(nodes.grouping.arities) for nodes in model.nodes),
        "task": model.task,
        "target": model.schema.target,
        "outputs": list(model.output_names),
        "classes": list(model.class_labels),
        "edges": sum(config.in_features * config.out_features for config in configs),
        "edges_alive": model.edges_alive,
        "symbolic_edges": sum(name != "spline" for name in named),
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "grid_size": [config.grid_size for config in configs],
        "spline_order": [config.spline_order for config in configs],
        "base_activation": [config.base_activation for config in configs],
        "extrapolation": [config.extrapolation for config in configs],
        "beyond_range": "held at its end" if model.holds_inputs else "extrapolated by its edges",
        **({"provenance": model.provenance} if model.provenance else {}),
        **({"edits": [step.line for step in model.edits]} if model.edits else {}),
        "features": [
            {"name": feature.name, "kind": feature.kind, "unit": feature.unit, **ends}
            for feature, ends in zip(model.schema.features, ranges, strict=True)
        ],
    }
