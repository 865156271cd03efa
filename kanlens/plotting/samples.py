"""The points that curves of edges are drawn through, and how strong each edge is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.recording import edge_moments, trace
from kanlens.model.statistics import summarize

if TYPE_CHECKING:
    from kanlens.model.network import Rows

Array = np.ndarray[Any, np.dtype[Any]]
POINTS = 65  # per curve
CHUNK = 2**22  # edge values held at once
FLAT = 0.03  # a curve of less than this share of the layer's largest range is not blown up


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCurves:
    """What a diagram shows of one layer.

    Attributes
    ----------
    index : int
        Which layer.
    strength : ndarray, shape (out, in)
        Of every edge; 0 where it is dead.
    symbolic : ndarray of bool, shape (out, in)
        Whether the edge is a named function.
    out, in_ : ndarray of int, shape (box,)
        Edges drawn with their curve, strongest first.
    rest_out, rest_in : ndarray of int, shape (line,)
        Live edges drawn as lines only.
    x, y : ndarray, shape (box, point)
        The curves, in the scaled units of the layer.
    """

    index: int
    strength: Array
    symbolic: Array
    out: Array
    in_: Array
    rest_out: Array
    rest_in: Array
    x: Array
    y: Array

    @property
    def relative(self) -> Array:
        """Strength relative to the strongest edge of the layer, shape (out, in)."""
        largest = self.strength.max(initial=0)
        return self.strength / largest if largest > 0 else np.zeros_like(self.strength)

    def unit_curves(self) -> Array:
        """Return the curves scaled into the unit square, shape (box, point, 2)."""
        if not self.y.size:
            return np.zeros((*self.y.shape, 2))
        y = np.where(np.isfinite(self.y), self.y, np.nan)
        low, high = (
            np.nan_to_num(np.fmin.reduce(y, axis=1)),
            np.nan_to_num(np.fmax.reduce(y, axis=1)),
        )
        reach = np.maximum(high - low, FLAT * (high - low).max())
        scale = np.where(reach > 0, reach, 1.0)
        y = 0.5 + (y - ((low + high) / 2)[:, None]) / scale[:, None]
        x = np.broadcast_to(np.linspace(0, 1, self.y.shape[1]), y.shape)
        return np.stack([x, y], axis=2)


@torch.no_grad()
def layer_curves(
    model: KAN, *, x: Rows | None, scores: list[Array] | None, most: list[int], call: str
) -> list[LayerCurves]:
    """Evaluate the edges that a diagram shows, for every layer.

    Parameters
    ----------
    model : KAN
        Left as it is.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Data to take ranges and strengths from; the stored statistics when None.
    scores : list of ndarray, each of shape (out, in), optional
        Strengths to use instead of standard deviations.
    most : list of int
        How many edges of each layer get a curve.
    call : str
        The public call, for error messages.

    Returns
    -------
    list of LayerCurves
    """
    inputs = None if x is None else trace(model, model.prepare(x, call=call)).inputs
    found = []
    for index, layer in enumerate(model.layers):
        values = None if inputs is None else inputs[index]
        low, high, strength = _ranges(layer, values, None if scores is None else scores[index])
        alive = (layer.mask != 0).cpu().numpy()
        strength = np.where(alive, strength, 0.0)
        order = np.argsort(np.where(alive, -strength, np.inf), axis=None, kind="stable")
        out, in_ = np.unravel_index(order[: int(alive.sum())], alive.shape)
        count = most[index]
        steps = torch.linspace(0, 1, POINTS).to(low)
        points = low + (high - low) * steps[:, None]  # (point, in)
        found.append(
            LayerCurves(
                index=index,
                strength=strength,
                symbolic=_symbolic(layer),
                out=out[:count],
                in_=in_[:count],
                rest_out=out[count:],
                rest_in=in_[count:],
                x=points.double().cpu().numpy().T[in_[:count]],
                y=_picked_values(layer, points, out[:count], in_[:count]),
            )
        )
    return found


def _symbolic(layer: KANLinear) -> Array:
    functions = getattr(layer, "functions", None)
    if not functions:
        return np.zeros((layer.out_features, layer.in_features), dtype=bool)
    return np.array([[name != "spline" for name in row] for row in functions])


def _ranges(
    layer: KANLinear, values: Tensor | None, score: Array | None
) -> tuple[Tensor, Tensor, Array]:
    """Return the range of every input of a layer, and the strength of every edge."""
    statistics = layer.statistics
    if values is not None:
        statistics = summarize(values, edge_moments(layer, values))
    low, high = layer.domain()
    if statistics is not None:
        low, high = statistics.input_low.to(low), statistics.input_high.to(high)
        width = torch.where(high > low, high - low, torch.ones_like(low))
        middle = (low + high) / 2
        low, high = middle - width / 2, middle + width / 2
    if score is not None:
        return low, high, score
    if statistics is None:
        steps = torch.linspace(0, 1, POINTS).to(low)
        std = edge_moments(layer, low + (high - low) * steps[:, None]).std
    else:
        std = statistics.edge_std
    return low, high, std.double().cpu().numpy()


def _picked_values(layer: KANLinear, points: Tensor, out: Array, in_: Array) -> Array:
    """Return phi at `points` (point, in) for some edges, shape (edge, point)."""
    size = max(1, CHUNK // (layer.in_features * layer.out_features))
    rows, columns = torch.as_tensor(out), torch.as_tensor(in_)
    parts = [layer.edge_values(part)[:, rows, columns] for part in points.split(size)]
    return torch.cat(parts).double().cpu().numpy().T
