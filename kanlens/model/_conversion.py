"""Conversion of networks to splines alone, or to layers without layer normalization."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_positive, check_rows
from kanlens.errors import MethodError
from kanlens.model._analysis import Model, check_model, float64_copy
from kanlens.model._config import LayerConfig
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN, Rows
from kanlens.model._nodes import Grouping, Nodes
from kanlens.model._trace import trace
from kanlens.splines import _spline as spline


def expand_normalization(model: KAN) -> KAN:
    """Return the same function with layer normalizations written out as edges and products.

    Layers compute deviations from the mean, then also the variance plus eps, then its inverse root,
    by which products multiply each deviation. A model without normalization is returned unchanged.
    """
    if not any(nodes.normalized for nodes in model.nodes):
        return model
    layers: list[KANLinear] = []
    ends: list[Nodes] = []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        layers.append(layer)
        if nodes.normalized:
            stages = _expanded(nodes, layer.mask)
            layers += stages
            ends += [Nodes(Grouping(stage.in_features)) for stage in stages]
            ends.append(Nodes(Grouping(nodes.apart, (2,) * nodes.normalized), scaled=nodes.scaled))
            if nodes.scaled:
                ends[-1].scale, ends[-1].shift = nodes.scale, nodes.shift
        else:
            ends.append(nodes)
    expanded = KAN.from_layers(layers, model.schema, nodes=ends)
    for name, tensor in model.named_buffers(recurse=False):
        setattr(expanded, name, tensor)
    expanded.scaled, expanded.holds_inputs = model.scaled, model.holds_inputs
    expanded.provenance, expanded.background = model.provenance, model.background
    return expanded.requires_grad_(next(model.parameters()).requires_grad).train(model.training)


def _expanded(nodes: Nodes, like: Tensor) -> list[KANLinear]:
    """Return layers that compute the factors of normalized nodes from sums."""
    n, raw = nodes.normalized, nodes.apart
    distances = torch.eye(raw + n, dtype=torch.float64)
    distances[raw:, raw:] -= 1 / n
    passed = torch.eye(raw + n + 1, raw + n)
    bias = torch.zeros(raw + n + 1, dtype=torch.float64)
    bias[-1] = nodes.eps
    factors = torch.eye(raw + 2 * n, raw + n + 1)
    factors[raw:] = 0.0
    factors[range(raw, raw + 2 * n, 2), range(raw, raw + n)] = 1.0
    squares = {(raw + n, raw + i): ("x^2", 1 / n) for i in range(n)}
    roots = {(raw + 2 * i + 1, raw + n): ("1/sqrt", 1.0) for i in range(n)}
    stages = [(distances, {}, None), (passed, squares, bias), (factors, roots, None)]
    return [_layer(*stage).to(like) for stage in stages]


def _layer(
    lines: Tensor, curved: Mapping[tuple[int, int], tuple[str, float]], bias: Tensor | None
) -> KANLinear:
    """Return a layer of edges with slopes `lines` (out, in), or functions c * g(x) in `curved`."""
    (n_out, n_in), mask = lines.shape, lines != 0
    table = [["spline"] * n_in for _ in range(n_out)]
    affine = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64).repeat(n_out, n_in, 1)
    for (out, in_), (name, factor) in curved.items():
        table[out][in_], mask[out, in_] = name, True
        affine[out, in_, 2] = factor
    config = LayerConfig(
        kind=KANLinear.kind,
        in_features=n_in,
        out_features=n_out,
        grid_size=1,
        spline_order=1,
        base_activation="identity",
        enable_standalone_scale_spline=False,
        functions=tuple(map(tuple, table)) if curved else (),
    )
    layer = KANLinear.from_config(config).double()
    state = {**layer.state_dict(), "base_weight": lines, "mask": mask}
    if bias is not None:
        state["bias"] = bias
    if curved:
        state["affine"] = affine
    layer.load_state_dict(state)
    return layer


CALL = "to_splines"
MAX_INTERVALS = 1024  # intervals of a grid
ROWS = 1024  # rows drawn if x is None
ROOM = 0.1  # margin on either side of an input's range, as a share of it
POINTS = 8  # per interval, at which splines are fitted


@dataclass(frozen=True, kw_only=True, eq=False)
class SplineConversion:
    """A network whose edges are all splines, and its distance from the original.

    Attributes
    ----------
    model : KAN
        In float64; layers that were splines before are unchanged.
    error : float
        Largest difference of an output over the rows, as a share of its range (of its size, if it
        is constant).
    grid_size : int
        Intervals of the new splines' grids.
    """

    model: KAN
    error: float
    grid_size: int


@torch.no_grad()
def to_splines(
    model: Model, x: Rows | None = None, *, tolerance: float = 1e-4, spline_order: int = 3
) -> SplineConversion:
    """Replace all edges that are not splines by splines.

    Edges are fitted on the range of each input over the rows, widened by a tenth on either side.
    The grid, which includes the kinks of functions, is refined by a factor of two until the outputs
    agree to `tolerance`. Outside, the splines are linear.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Default: drawn evenly from the range of the training data, else of the first layer's grid.
    tolerance : float
        Largest difference of an output, as a share of its range over the rows.
    spline_order : int
        Degree of the pieces; 5 takes far fewer intervals for a smooth edge.

    Raises
    ------
    MethodError
        If an edge is not finite on its range, or 1024 intervals are not enough.

    Examples
    --------
    >>> waves = KANLinear(1, 1, series=["sin"])
    >>> with torch.no_grad():
    ...     _ = waves.series_weight.fill_(1.0)
    >>> found = to_splines(KAN.from_layers([waves], KAN([1, 1]).schema))
    >>> found.model.layers[0].splines_alone, found.error < 1e-4
    (True, True)
    """
    check_positive(CALL, "tolerance", tolerance)
    source = float64_copy(check_model(CALL, model))
    rows = _rows(source) if x is None else source.prepare(x, call=CALL)
    check_rows(CALL, rows, least=2)
    record = trace(source, rows)
    splines = [layer.splines_alone for layer in source.layers]
    span = record.output.amax(0) - record.output.amin(0)
    span = torch.where(span > 0, span, record.output.abs().amax(0).clamp_min(1.0))
    size = 8
    while True:
        converted = copy.deepcopy(source).requires_grad_(True)
        layers: Any = converted.layers
        for index, inputs in enumerate(record.inputs):
            if not splines[index]:
                layers[index] = _fitted(source, index, inputs, size, spline_order)
        error = float(((converted(rows) - record.output).abs() / span).max())
        if error <= tolerance or all(splines):
            return SplineConversion(model=converted, error=error, grid_size=size)
        if size >= MAX_INTERVALS:
            expected = (
                f"splines within {tolerance:g} of the outputs' ranges on {MAX_INTERVALS} intervals"
            )
            advice = "Allow a larger tolerance, or pass rows x of a narrower range"
            raise MethodError(CALL, expected, f"{error:.2g}", advice)
        size *= 2


def _rows(model: KAN) -> Tensor:
    """Draw rows evenly from the range of the training data, or of the first layer's grid."""
    low, high = model.feature_range or (
        end * model.input_scale + model.input_shift for end in model.layers[0].domain()
    )
    sobol = torch.quasirandom.SobolEngine(len(low), scramble=True, seed=0)
    return low + (high - low) * sobol.draw(ROWS, dtype=torch.float64)


def _fitted(model: KAN, index: int, inputs: Tensor, size: int, order: int) -> KANLinear:
    """Return a layer of splines fitted to any layer on the range of its inputs."""
    old = model.layers[index]
    low, high = inputs.amin(0), inputs.amax(0)
    room = ROOM * torch.where(high > low, high - low, 1.0)
    ends = torch.stack([low - room, high + room])
    finite = old.edge_values(ends).isfinite().all(1)  # (end, in): no margin where undefined
    low, high = torch.where(finite, ends, torch.stack([low, high]))
    cuts = _cuts(low, high, size, old.breakpoints().tolist())
    new = KANLinear(
        old.in_features,
        old.out_features,
        grid_size=size,
        spline_order=order,
        base_activation=old.base_name,
        enable_standalone_scale_spline=False,
        generator=torch.Generator(),
    ).double()
    new.grid = spline.extend(cuts, order)
    share = torch.linspace(0, 1, POINTS + 1, dtype=torch.float64)
    points = torch.lerp(cuts[:, :-1, None], cuts[:, 1:, None], share).flatten(1).mT
    base = old.weights().base_weights()
    values = old.edge_values(points) - old.base_activation(points).unsqueeze(1) * base
    if not bool(values.isfinite().all()):
        _, out, in_ = (~values.isfinite()).nonzero()[0].tolist()
        got = f"{model.edge_name(index, out, in_)}, which is infinite or undefined there"
        advice = "Pass rows x on which it is defined"
        raise MethodError(CALL, "edges that are finite on their ranges", got, advice)
    new.spline_weight.copy_(spline.fit(points, values, new.grid, order))
    for name, tensor in (("base_weight", base), ("bias", old.bias), ("mask", old.mask)):
        getattr(new, name).copy_(tensor)
    new.statistics = old.statistics
    return new.train(old.training)


def _cuts(low: Tensor, high: Tensor, size: int, fixed: Sequence[Sequence[float]]) -> Tensor:
    """Return even breakpoints (in, size + 1); inner ones move to nearby `fixed` points."""
    steps = torch.linspace(0, 1, size + 1, dtype=torch.float64)
    cuts = low[:, None] + (high - low)[:, None] * steps
    width = (high - low) / size
    for i, places in enumerate(fixed):
        for place in places:
            k = round(float((place - low[i]) / width[i])) if low[i] < place < high[i] else 0
            if 0 < k < size and abs(float(cuts[i, k] - place)) < 0.45 * float(width[i]):
                cuts[i, k] = place
    return cuts
