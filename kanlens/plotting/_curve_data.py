"""Data for the picture of an edge: curve, names, units and density."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kanlens._checks import check_count
from kanlens.errors import DataError, MethodError
from kanlens.functions._sums import FunctionSum
from kanlens.model._analysis import edge_units, find_node
from kanlens.model._edge import Edge
from kanlens.model._network import KAN, Rows
from kanlens.model._trace import Trace, traced
from kanlens.plotting._style import Array

POINTS = 201  # of a curve
BINS = 40  # of the density of the data
MARGIN = 0.04  # drawn beyond both ends, as a share of the range
REACH = 0.5  # most that is drawn of the grid beyond the data, as a share of the data's range


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """The curve of an edge in the units of the axes."""

    x: Array  # (point,)
    y: Array
    parts: dict[str, Array]  # summands of y by name; empty if they are not drawn
    mean: float  # of y over the data; over x without data
    grid: tuple[float, float]
    knots: Array
    data: tuple[float, float] | None  # range
    density: tuple[Array, Array] | None  # edges of bins and the share of the data in each
    input_name: str = ""
    input_unit: str = ""
    output_name: str = ""
    output_unit: str = ""
    levels: tuple[str, ...] = ()  # names of the values 0 and 1 of a binary input
    band: Array | None = None  # (2, point), ends of its confidence band


def model_curves(
    model: KAN,
    layer: int,
    edges: Sequence[tuple[int, int]],
    *,
    data: Rows | Trace | None,
    parts: bool,
    call: str,
) -> list[Curve]:
    """Return the curves of edges (out, in) of a layer, in the units of `edge_units`."""
    record = traced(call, model, data)
    columns = None if record is None else record.inputs[layer].double().cpu().numpy()
    return [_model_curve(model, layer, edge, columns, parts, call) for edge in edges]


def _model_curve(
    model: KAN, layer: int, edge: tuple[int, int], columns: Array | None, parts: bool, call: str
) -> Curve:
    (out, in_), inner = edge, model.layers[layer]
    shift, scale, factor = edge_units(model, layer, out, in_)
    names: dict[str, Any] = {
        "input_name": model.node_name(layer, in_),
        "output_name": model.subnode_name(layer, out),
    }
    if layer == 0:
        feature = model.schema.features[in_]
        names["input_unit"] = feature.unit
        levels = ("known", "missing") if feature.kind == "missing" else feature.levels
        if levels:
            names |= {"levels": levels, "data": None, "grid": (-0.4, 1.4)}
    if layer == len(model.layers) - 1 and out < model.nodes[layer].grouping.sums:
        names["output_unit"] = model.output_unit(out)
    values: Array | None = None
    if columns is not None:
        values = columns[:, in_]
    elif inner.statistics is not None:
        ends = inner.statistics.quantiles[in_].double().numpy()
        shares, count = np.linspace(0, 1, len(ends)), 32 * (len(ends) - 1)
        inside = np.interp((np.arange(count) + 0.5) / count, shares, ends)
        values = np.concatenate([ends[:1], inside, ends[-1:]])
    values = None if values is None else shift + scale * values
    phi = inner.edge(out, in_).scaled(factor).in_units(shift, scale)
    return dataclasses.replace(_curve(phi, values, parts, call), **names)


def function_curve(phi: Edge, *, data: Any, parts: bool, call: str) -> Curve:
    """Return an Edge as a curve; `data` are values of its input, or None."""
    values = None
    if data is not None:
        values = np.asarray(torch.as_tensor(data).detach().cpu(), dtype=np.float64).ravel()
        if not len(values) or not np.isfinite(values).all():
            got = "none" if not len(values) else "NaN or infinity"
            raise DataError(call, "finite values in data", got, "Drop the non-finite values")
    curve = _curve(phi, values, parts, call)
    return dataclasses.replace(curve, input_name="x", input_unit=phi.unit, output_name=phi.name)


def _curve(phi: Edge, values: Array | None, parts: bool, call: str) -> Curve:
    """Return the curve of an Edge over the data and the nearby part of the grid."""
    grid = low, high = (float(phi.domain[0]), float(phi.domain[1]))
    data = None if values is None else (float(values.min()), float(values.max()))
    if data is not None:
        reach = REACH * (data[1] - data[0] or 1.0)
        low = min(data[0], max(low, data[0] - reach))
        high = max(data[1], min(high, data[1] + reach))
    room = MARGIN * (high - low or 1.0)
    low, high = low - room, high + room
    knots = np.asarray(phi.breakpoints, dtype=np.float64)
    inside = knots[(knots > low) & (knots < high)]  # kinks and jumps are drawn where they are
    x = np.unique(np.concatenate([np.linspace(low, high, POINTS), inside]))
    y = _finite(phi(x))
    mean = float(np.mean(_finite(phi(values))) if values is not None else np.nanmean(y))
    return Curve(
        x=x,
        y=y,
        parts=_parts(phi, x, y, call) if parts else {},
        mean=mean if np.isfinite(mean) else 0.0,
        grid=grid,
        knots=knots,
        data=data,
        density=None if values is None else binned(values, low, high),
    )


def binned(values: Array, low: float, high: float) -> tuple[Array, Array]:
    """Return edges of bins from low to high, and shares of the values."""
    counts, edges = np.histogram(values, bins=BINS, range=(low, high))
    return edges, counts / len(values)


def _finite(y: Any) -> Array:
    values = np.asarray(y, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _parts(phi: Edge, x: Array, y: Array, call: str) -> dict[str, Array]:
    if phi.single is not None:
        expected, got = "an edge made of a spline and a base", "an elementary function"
        raise MethodError(call, expected, got, "Leave parts out")
    only_spline = dataclasses.replace(phi, functions=FunctionSum())(x)
    return {"spline": only_spline, f"base ({phi.functions.names or 'zero'})": y - only_spline}


def chosen_edges(
    model: KAN, layer: int, out: int | str | None, in_: int | str | None, *, most: int, call: str
) -> tuple[list[tuple[int, int]], int]:
    """Return the `most` strongest nonzero edges (out, in), and the number of nonzero edges."""
    check_count(call, "top", most)
    inner = model.layers[layer]
    shown = (inner.mask != 0).cpu().numpy()
    if out is not None:
        row = find_node(model, layer, "out", out, call=call)
        shown[np.arange(len(shown)) != row] = False
    if in_ is not None:
        column = find_node(model, layer, "in_", in_, call=call)
        shown[:, np.arange(shown.shape[1]) != column] = False
    edges = np.argwhere(shown)
    picks = np.arange(len(edges))
    if len(edges) > most:
        with torch.no_grad():
            statistics = inner.statistics
            strength = inner.weight_l1().cpu() if statistics is None else statistics.edge_std
        picks = np.sort(np.argsort(-strength.numpy()[shown], kind="stable")[:most])
    return [(int(out), int(in_)) for out, in_ in edges[picks]], len(edges)
