"""What is known of every live edge, in numbers and a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from kanlens.model.network import KAN
    from kanlens.reporting.analysis import Analysis

MOST = 200  # edges of a layer that are listed, the strongest first
FLAT = 0.01  # deviation below this share of the layer's largest: the edge hardly varies
SURE = 0.99  # share of the rows on which a slope must have one sign


def describe_edges(analysis: Analysis) -> list[dict[str, Any]]:
    """List the live edges of every layer, the strongest of each layer first.

    Parameters
    ----------
    analysis : Analysis
        Trace and moments of the edges.

    Returns
    -------
    list of dict
        layer, out, in, name, source, destination (a node, or a factor of a product as y.1), std
        and mean over the rows (in the scaled units of the node), relative (std over the layer's
        largest), function ("spline", or the name of the elementary function), trend, outside
        (share of rows outside the grid).
    """
    model = analysis.subject.model
    records: list[dict[str, Any]] = []
    for index, moments in enumerate(analysis.moments):
        layer = model.layers[index]
        alive = (layer.mask != 0).cpu()
        std = torch.where(alive, moments.std, torch.zeros_like(moments.std))
        largest = float(std.max()) or 1.0
        order = std.flatten().argsort(descending=True, stable=True).tolist()
        edges = [divmod(place, std.shape[1]) for place in order]
        live = [edge for edge in edges if bool(alive[edge])][:MOST]
        trends = _trends(analysis, index, live)
        for (out, in_), trend in zip(live, trends, strict=True):
            records.append(
                {
                    "layer": index,
                    "out": out,
                    "in": in_,
                    "name": model.edge_name(index, out, in_),
                    "source": model.node_name(index, in_),
                    "destination": model.subnode_name(index, out),
                    "std": float(std[out, in_]),
                    "mean": float(moments.mean[out, in_]),
                    "relative": float(std[out, in_]) / largest,
                    "function": function_name(model, index, out, in_),
                    "trend": trend,
                    "outside": float(analysis.trace.outside[index][in_]),
                }
            )
    return records


def function_name(model: KAN, layer: int, out: int, in_: int) -> str:
    """Return the name of an edge's elementary function, or "spline"."""
    table = getattr(model.layers[layer], "functions", None)
    return str(table[out][in_]) if table else "spline"


def _trends(analysis: Analysis, index: int, edges: list[tuple[int, int]]) -> list[str]:
    """Say of each edge whether it rises or falls on the rows; all of them at once."""
    record = analysis.trace
    layer, x = record.layers[index], record.inputs[index]
    size = max(1, 2**22 // (layer.in_features * layer.out_features))
    counts = torch.zeros(2, layer.out_features, layer.in_features)
    for part in x[:: max(1, len(x) // 1000)].split(size):
        slopes: Tensor = layer.edge_derivatives(part)  # (batch, out, in)
        counts += torch.stack([(slopes > 0).sum(0), (slopes < 0).sum(0)]).cpu()
    shares = counts / counts.sum(0).clamp_min(1)
    flat = counts.sum(0) == 0
    return [_trend(float(shares[0, out, in_]), bool(flat[out, in_])) for out, in_ in edges]


def _trend(rising: float, flat: bool) -> str:
    """Word the share of rows on which an edge rises.

    Examples
    --------
    >>> _trend(1.0, False), _trend(0.004, False), _trend(0.25, False), _trend(0.0, True)
    ('rises', 'falls', 'rises on 25% of the rows, falls on the others', 'flat')
    """
    if flat:
        return "flat"
    if rising >= SURE:
        return "rises"
    if rising <= 1 - SURE:
        return "falls"
    return f"rises on {rising:.0%} of the rows, falls on the others"
