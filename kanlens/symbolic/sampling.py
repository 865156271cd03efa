"""Take the points of a layer's edges that functions are fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.model.layers import KANLinear
from kanlens.splines import spline
from kanlens.symbolic.edge_fitting import EdgeSamples

_UNIFORM = 64  # points evenly over the range
_QUANTILES = 64  # points where the data are
_FAINT = 1e-3  # directions this small beside the largest are none
_TAIL = 0.001  # share of the data beyond the range at either end


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerEdges:
    """The live edges of one layer with their points.

    Attributes
    ----------
    out, in_ : Tensor of int, shape (edge,)
        Which edges these are.
    samples : EdgeSamples
        Their points, in the scaled units of the layer.
    importance : Tensor, shape (edge,)
        Standard deviation of the edge over the data, divided by that of the sum it enters.
    """

    out: Tensor
    in_: Tensor
    samples: EdgeSamples
    importance: Tensor


@torch.no_grad()
def sample_edges(layer: KANLinear, inputs: Tensor) -> LayerEdges:
    """Evaluate every live edge on its range: half evenly, half at quantiles of the data.

    An input with at most two distinct values says nothing about the curve between them; its
    edges are sampled along the straight line.

    Parameters
    ----------
    layer : KANLinear
        In float64.
    inputs : Tensor, shape (batch, in)
        What reaches the layer, in its scaled units.

    Returns
    -------
    LayerEdges

    Examples
    --------
    >>> layer = KANLinear(2, 3).double()
    >>> sample_edges(layer, torch.rand(50, 2).double()).samples.x.shape
    torch.Size([6, 128])
    """
    levels = torch.linspace(_TAIL, 1 - _TAIL, _QUANTILES, dtype=inputs.dtype)
    ordered = inputs.sort(dim=0).values  # (batch, in)
    spots = _interpolate(ordered, levels)  # (quantile, in)
    low, high = spots[0], spots[-1]
    two_valued = (((ordered == ordered[0]) | (ordered == ordered[-1])).all(0)).nonzero()[:, 0]
    low[two_valued], high[two_valued] = ordered[0, two_valued], ordered[-1, two_valued]
    places = torch.linspace(0.0, 1.0, _UNIFORM, dtype=inputs.dtype)[:, None]
    x = torch.cat((low + (high - low) * places, spots.clamp(low, high)))  # (sample, in)
    y = layer.edge_values(x)  # (sample, out, in)
    y[:, :, two_valued] = _chords(layer, x, low, high)[:, :, two_valued]
    out, in_ = (layer.mask != 0).nonzero().unbind(1)
    samples = EdgeSamples(
        x=x[:, in_].T.contiguous(),
        y=y[:, out, in_].T.contiguous(),
        low=low[in_],
        high=high[in_],
        uniform=_UNIFORM,
        space=_spline_space(layer, x),
        place=in_,
    )
    values = layer.edge_values(inputs)
    total = values.sum(2).std(0, unbiased=False).clamp(min=1e-300)
    importance = values.std(0, unbiased=False) / total[:, None]
    return LayerEdges(out=out, in_=in_, samples=samples, importance=importance[out, in_])


def _interpolate(ordered: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles of sorted columns (batch, in) at some levels: (level, in)."""
    position = levels * (len(ordered) - 1)
    left = position.floor().long()
    right = (left + 1).clamp(max=len(ordered) - 1)
    part = (position - left)[:, None]
    return ordered[left] + part * (ordered[right] - ordered[left])


def _spline_space(layer: KANLinear, x: Tensor) -> Tensor:
    """Return what the edges of each input can be at x (sample, in), apart from a constant.

    Returns
    -------
    Tensor, shape (in, sample, direction)
        Orthonormal directions; those that hardly reach the samples are zero, and last.
    """
    columns = [spline.basis(x, layer.grid, layer.spline_order, extrapolation=layer.mode)]
    if layer.base_name != "zero":
        columns.append(layer.base_activation(x)[..., None])
    span = torch.cat(columns, dim=2).transpose(0, 1)  # (in, sample, column)
    left, size, _ = torch.linalg.svd(span - span.mean(1, keepdim=True), full_matrices=False)
    reached = size > _FAINT * size[:, :1].clamp(min=1e-300)
    found: Tensor = left * reached[:, None]
    return found[..., : int(reached.sum(1).max())].contiguous()


def _chords(layer: KANLinear, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the straight lines between the ends of every edge, (sample, out, in)."""
    first, last = layer.edge_values(torch.stack((low, high))).unbind(0)  # (out, in) each
    width = torch.where(high > low, high - low, 1.0)
    share = ((x - low) / width)[:, None, :]
    return first + share * (last - first)
