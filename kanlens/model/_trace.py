"""Trace: inputs and outputs of every layer in one forward pass."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_rows
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._resources import Memory, within_memory
from kanlens.errors import ShapeError
from kanlens.model._analysis import Model, check_model, levels_of, rows_at_once
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN, Rows
from kanlens.model._nodes import Nodes
from kanlens.model._spline_forward import means_and_norms
from kanlens.model._statistics import LayerStatistics, summarize

CHUNK = 2**22  # edge values held at once
POINTS = 65  # over a grid or a range


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Trace(Displayed):
    """A snapshot of one run of a model; it does not change when the model does.

    Attributes
    ----------
    x : Tensor, shape (batch, in)
        The input, in the units of the data.
    output : Tensor, shape (batch, out)
        The model's output, in the units of the data.
    inputs : tuple of Tensor, each of shape (batch, in)
        Inputs of each layer, in its scaled units.
    pre_activations : tuple of Tensor, each of shape (batch, out)
        Sums of the edges and the bias of each layer: factors where nodes multiply; the nodes are
        the inputs of the next layer.
    outside : tuple of Tensor, each of shape (in,)
        For each layer, the share of rows outside the grid and the training data of each input.
    layers : tuple of KANLinear
        Copies of the layers at the time of the run.
    nodes : tuple of Nodes
        Copies of the nodes of each layer.
    feature_names : tuple of str
        Names of the inputs.
    """

    x: Tensor
    output: Tensor
    inputs: tuple[Tensor, ...]
    pre_activations: tuple[Tensor, ...]
    outside: tuple[Tensor, ...]
    layers: tuple[KANLinear, ...]
    nodes: tuple[Nodes, ...]
    feature_names: tuple[str, ...]

    def _line(self) -> str:
        widths = [*(x.shape[1] for x in self.inputs), self.output.shape[1]]
        outside = f"{self.outside_share:.2%} of inputs outside grids"
        return f"{len(self.x):,} rows through {widths}, {outside}"

    def edge_values(self, layer: int) -> Tensor:
        """Return the value of every edge of a layer, shape (batch, out, in)."""
        with torch.no_grad():
            return self.layers[layer].edge_values(self.inputs[layer])

    def edge_derivatives(self, layer: int) -> Tensor:
        """Return the derivative of every edge of a layer, shape (batch, out, in)."""
        with torch.no_grad():
            return self.layers[layer].edge_derivatives(self.inputs[layer])

    @property
    def outside_share(self) -> float:
        """Mean of `outside` over all features and hidden nodes."""
        return float(torch.cat(self.outside).mean())

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer input: range, mean, share outside the grid.

        Examples
        --------
        >>> trace(KAN([2, 1]), torch.zeros(3, 2)).to_frame()["outside"].tolist()
        [0.0, 0.0]
        """
        rows: list[tuple[Any, ...]] = []
        for index, (values, share) in enumerate(zip(self.inputs, self.outside, strict=True)):
            for i, column in enumerate(values.unbind(1)):
                name = self.feature_names[i] if index == 0 else f"h{index}_{i + 1}"
                numbers = column.min(), column.max(), column.mean(), share[i]
                rows.append((index, i, name, *map(float, numbers)))
        return pd.DataFrame(rows, columns=["layer", "in", "name", "low", "high", "mean", "outside"])


@within_memory
@torch.no_grad()
def trace(model: Model, x: Rows, *, max_memory: Memory = None) -> Trace:
    """Run `model` on `x` and record the inputs and sums of every layer.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        In the units of the data.
    max_memory : str or int, optional
        Memory for the computation in addition to `x` and the result, in bytes or as text such as
        "1GB". Default: a quarter of the free memory.

    Raises
    ------
    ShapeError
        If `x` is empty or has another number of columns.
    DataError
        If it holds NaN or infinity.

    Examples
    --------
    >>> trace(KAN([2, 3, 1]), torch.zeros(4, 2)).edge_values(0).shape
    torch.Size([4, 3, 2])
    """
    model = check_model("trace", model)
    rows = model.prepare(x, call="trace")
    check_rows("trace", rows)
    (*inputs, last), sums = levels_of(model, rows)
    judges = [model.outside, *(layer.unlearned for layer in model.layers[1:])]
    beyond = []
    for judge, values in zip(judges, (rows, *inputs[1:]), strict=True):
        counts = [judge(part).sum(0) for part in values.split(rows_at_once(model))]
        beyond.append(torch.stack(counts).sum(0).double().cpu() / len(rows))
    return Trace(
        x=rows.clone(),
        output=model.scale_outputs(last),
        inputs=tuple(inputs),
        pre_activations=tuple(sums),
        outside=tuple(beyond),
        layers=tuple(copy.deepcopy(layer) for layer in model.layers),
        nodes=tuple(copy.deepcopy(nodes) for nodes in model.nodes),
        feature_names=model.feature_names,
    )


@torch.no_grad()
def edge_moments(layer: KANLinear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every edge (out, in) of a layer over x (batch, in)."""
    mean, std = means_and_norms(layer, x)
    return mean.cpu(), std.cpu()


def traced(call: str, model: KAN, x: Rows | Trace | None) -> Trace | None:
    """Return the trace of some rows; None and a trace of the model are returned unchanged."""
    if x is None:
        return None
    if not isinstance(x, Trace):
        return trace(model, model.prepare(x, call=call))
    seen, taken = [values.shape[1] for values in x.inputs], [n.in_features for n in model.layers]
    if seen != taken:
        expected, got = f"a trace of layers with {taken} inputs", f"one with {seen}"
        raise ShapeError(call, expected, got, "Pass a trace of this model, or rows")
    return x


@torch.no_grad()
def edge_curves(layer: KANLinear, low: Tensor, high: Tensor, out: Tensor, in_: Tensor) -> Tensor:
    """Return edges (`out`, `in_`) at 65 points from `low` to `high` (in,), shape (edge, point)."""
    points = low + (high - low) * torch.linspace(0, 1, POINTS).to(low)[:, None]  # (point, in)
    parts = points.split(max(1, CHUNK // (layer.in_features * layer.out_features)))
    return torch.cat([layer.edge_values(part)[:, out, in_] for part in parts]).double().cpu().mT


def layer_statistics(model: KAN, record: Trace | None = None) -> list[LayerStatistics]:
    """Return the statistics of every layer: over a trace, else as stored, else over its grid."""
    statistics = []
    for index, layer in enumerate(model.layers):
        if record is None and layer.statistics is not None:
            statistics.append(layer.statistics)
            continue
        values = layer.even_points(POINTS) if record is None else record.inputs[index]
        statistics.append(summarize(values, *edge_moments(layer, values)))
    return statistics


@torch.no_grad()
def store_statistics(model: KAN, x: Tensor, *, background: int = 100) -> None:
    """Store every layer's statistics over x (batch, in), and a background, in the model."""
    rows = model.prepare(x, call="fit")
    for layer, values in zip(model.layers, levels_of(model, rows)[0], strict=False):
        layer.statistics = summarize(values, *means_and_norms(layer, values))
    picks = torch.linspace(0, len(x) - 1, min(background, len(x)), dtype=torch.float64)
    model.background = rows[picks.round().long()].detach().cpu()
