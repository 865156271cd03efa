"""Norms of edges: of their functions on data, of their weights, and of their curvature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_columns, check_rows
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions._catalog import BASES
from kanlens.model import _spline_forward as spline_forward
from kanlens.model._kan_linear import EdgeLayer, KANLinear
from kanlens.model._spline_forward import Average, Bands
from kanlens.splines import _spline as spline
from kanlens.splines._local_basis import local_basis

NODES = 12  # of Gauss-Legendre on an interval of at most MAX_PANEL_WIDTH
MAX_PANEL_WIDTH = 1.0  # every base is analytic within pi / 2 of the real line, or farther
FLAT_BEYOND = 60.0  # beyond it the second derivative of every base is below 1e-20


def activation_l1(layer: KANLinear, x: Tensor) -> Tensor:  # (out, in)
    """Return the mean of ``|phi_oi(x_i)|`` over the rows, the L1 norm of an edge in [1]_.

    Memory does not grow with the batch.

    Parameters
    ----------
    layer : KANLinear
    x : Tensor, shape (batch, in)
        Inputs of the layer, in its scaled units.

    Returns
    -------
    Tensor, shape (out, in)
        Differentiable in the weights and in `x`.

    Raises
    ------
    ShapeError
        If `x` has no rows, or another number of columns.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1.

    Examples
    --------
    >>> activation_l1(KANLinear(3, 2), torch.rand(10, 3)).shape
    torch.Size([2, 3])
    """
    _check_rows("activation_l1", layer, x)
    return layer.activation_l1(x)


def activation_l2(
    layer: EdgeLayer, x: Tensor, centered: bool = True, average: Average | None = None
) -> Tensor:  # (out, in)
    """Return the L2 norm of every edge over the rows: the standard deviation of phi_oi(x_i).

    For splines its square is a quadratic form in the weights, of the covariances of the basis: no
    (batch, out, in) tensor is needed. The norm is also exact for an edge whose variation is tiny
    relative to its mean.

    Parameters
    ----------
    layer, x
        As for `activation_l1`, which raises the same errors.
    centered : bool
        Whether the mean of the edge is subtracted; if not, the norm is sqrt(mean(phi^2)).
    average : callable, optional
        Maps the mean (out, in) over `x`, if `x` is a part of the rows, to the mean over all rows.

    Returns
    -------
    Tensor, shape (out, in)
        Differentiable in the weights and in `x`; the gradient of an edge that is zero is zero.

    Examples
    --------
    >>> layer, x = KANLinear(3, 2), torch.rand(50, 3)
    >>> torch.allclose(activation_l2(layer, x), layer.edge_values(x).std(0, correction=0))
    True
    """
    _check_rows("activation_l2", layer, x)
    return spline_forward.means_and_norms(layer, x, centered, average)[1].to(x.dtype)


def weight_l1(layer: EdgeLayer, x: Tensor | None = None) -> Tensor:  # (out, in)
    """Return the gauge-invariant L1 norm of each edge's weights.

    For a spline edge it is ``mean_k |coefficient_k - c| + |base_weight|``, with the scaler
    multiplied into the coefficients and c the mean of the edge; a linear base is added to the
    coefficients. Splitting a function differently between weight, scaler and a linear base, or
    moving a constant from one edge of a node to another, does not change it, unlike `raw_l1`.

    Parameters
    ----------
    layer : EdgeLayer
    x : Tensor, shape (batch, in), optional
        Points over which the mean c is taken, in the scaled units of the layer. Default: the stored
        quantiles of the training data, else evenly over the grid.

    Examples
    --------
    >>> weight_l1(KANLinear(3, 2)).shape
    torch.Size([2, 3])
    """
    _check_layer("weight_l1", layer, "weight_l1")
    return layer.weight_l1(x)


def raw_l1(layer: KANLinear) -> Tensor:  # (out, in)
    """Return efficient-kan's norm, ``mean_k |spline_weight_k|``, without base and scaler.

    The penalty of efficient-kan is the sum of these norms plus their `entropy`.

    Examples
    --------
    >>> raw_l1(KANLinear(3, 2)).shape
    torch.Size([2, 3])
    """
    _check_layer("raw_l1", layer, "spline_weight")
    return layer.spline_weight.abs().mean(-1) * layer.mask


def curvature(layer: EdgeLayer) -> Tensor:  # (out, in)
    """Return the integral over the grid of phi_oi''(x)^2, in the scaled units of the layer.

    The second derivative of a spline is a spline two degrees lower [1]_, whose integral is exact by
    Gauss-Legendre on every interval; that of the base is exact to 1e-12. A spline of order 1
    has a curvature of zero: its kinks are ignored.

    Parameters
    ----------
    layer : EdgeLayer
        A layer of splines.

    Returns
    -------
    Tensor, shape (out, in)
        Differentiable in the weights.

    Raises
    ------
    MethodError
        If some edges of the layer are not splines.

    References
    ----------
    .. [1] C. Reinsch, Smoothing by spline functions, 1967.

    Examples
    --------
    >>> layer = KANLinear(1, 1, base_activation="zero")
    >>> with torch.no_grad():
    ...     _ = layer.spline_weight.copy_(torch.arange(8.0))  # a straight line
    >>> round(curvature(layer).item(), 6)
    0.0
    """
    if not layer.splines_alone:
        got, advice = f"one of kind {layer.edge_kind!r}", "Choose another penalty"
        raise MethodError("curvature", "a layer of splines", got, advice)
    coef, knots, degree = layer.coefficients().double(), layer.grid.double(), layer.spline_order
    bends = coef.new_zeros(*coef.shape[:2], layer.grid_size)  # of second derivatives
    if degree >= 2:
        first, inner = spline.differentiate(coef, knots, degree)
        bends = spline.differentiate(first, inner, degree - 1)[0]
    total = _integrals(layer).form(bends, layer.base_weights().double())
    return total.to(layer.grid.dtype)


@torch.no_grad()
def _integrals(layer: EdgeLayer) -> Bands:
    """Integrate products of B-splines two degrees lower and the base's second derivative."""
    knots, degree = layer.grid.double(), max(2, layer.spline_order)
    dropped = min(2, layer.spline_order)
    inner = knots[:, dropped : knots.shape[1] - dropped]
    basis = local_basis(inner, degree - 2, extrapolation="zero")
    cuts = _refined(spline.breakpoints(inner, degree - 2), BASES[layer.base_name].kinks)
    points, shares = (torch.as_tensor(a).to(cuts) for a in np.polynomial.legendre.leggauss(NODES))
    half = cuts.diff(dim=1).unsqueeze(-1) / 2
    x = (cuts[:, :-1, None] + half + half * points).flatten(1)  # (in, point)
    weights = (half * shares).flatten(1)
    cell, values = basis.evaluate(x)
    values.append(torch.from_numpy(BASES[layer.base_name].nth(x.cpu().numpy(), 2)).to(x))
    products = spline_forward.pair_products(values, [value * weights for value in values])
    return Bands.of(spline_forward.added_by_cell(products, cell, layer.grid_size), degree - 2)


def _refined(cuts: Tensor, kinks: Sequence[float]) -> Tensor:
    """Add kinks and evenly spaced cuts, so that intervals are short where bases are curved."""
    low, high = (end.clamp(-FLAT_BEYOND, FLAT_BEYOND) for end in (cuts[:, :1], cuts[:, -1:]))
    count = max(1, math.ceil(float((high - low).max()) / MAX_PANEL_WIDTH))
    steps = torch.linspace(0, 1, count + 1).to(cuts)
    ends = cuts[:, :1], cuts[:, -1:]
    inner = torch.tensor(kinks, dtype=torch.float64).to(cuts).clamp(*ends)
    return torch.cat([cuts, low + (high - low) * steps, inner], dim=1).sort(dim=1).values


def _check_layer(call: str, layer: object, needed: str = "edge_values") -> None:
    """Refuse objects that are not layers of edges, or lack a method that a norm needs."""
    if hasattr(layer, "mask") and hasattr(layer, needed):
        return
    advice = "Pass one of model.layers" if hasattr(layer, "layers") else "Pass a KANLinear"
    kind = type(layer).__name__
    got = kind if not hasattr(layer, "mask") else f"{kind}, which has no {needed}"
    raise InvalidValueError(call, "a layer of edges", got, advice)


def _check_rows(call: str, layer: Any, x: object) -> None:
    """Refuse objects that are not layers, and x that are not rows of its inputs."""
    _check_layer(call, layer)
    if not isinstance(x, Tensor):
        advice = "Convert it with torch.as_tensor"
        raise InvalidValueError(call, "to be a Tensor", type(x).__name__, advice, argument="x")
    check_columns(call, x, layer.in_features)
    check_rows(call, x)
