"""How much every edge bends: the integral of its squared second derivative over the grid."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import MethodError
from kanlens.functions.catalog import BASES
from kanlens.model.layers import EdgeLayer, KANLinear
from kanlens.sparsity.banded import Bands, added_by_cell, pair_products
from kanlens.sparsity.functions import made_of_splines
from kanlens.sparsity.live import Cells
from kanlens.splines import spline

__all__ = ["curvature"]

NODES = 12  # of Gauss-Legendre on a piece no wider than WIDEST
WIDEST = 1.0  # every base is analytic within pi / 2 of the real line, or farther
FAR = 60.0  # beyond it the second derivative of every base is below 1e-20


def curvature(layer: EdgeLayer) -> Tensor:  # (out, in)
    """Return the integral over the grid of phi_oi''(x)^2, in the scaled units of the layer.

    The second derivative of a spline is a spline two degrees lower [1]_; the integral is a
    quadratic form of its coefficients in the Gram matrix of that lower basis, exact by
    Gauss-Legendre on every interval. The base and its products with the spline are integrated on
    the same points, to 1e-12 of the whole. A spline of order 1 has straight pieces: its curvature
    is zero, and its corners do not count.

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
        If some edges of the layer are no splines.

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
    if not made_of_splines(layer):
        got, advice = type(layer).__name__, "Choose another penalty"
        raise MethodError(message("curvature", "a layer of splines", got, advice))
    total = _integrals(layer).form(_bends(layer), layer.base_weights().double())
    return total.to(layer.grid.dtype)


def _bends(layer: KANLinear) -> Tensor:  # (out, in, basis - 2)
    """Return the coefficients of the splines' second derivatives."""
    coef, knots, degree = layer.coefficients().double(), layer.grid.double(), layer.spline_order
    if degree < 2:
        return coef.new_zeros(*coef.shape[:2], layer.grid_size)
    first, inner = spline.differentiate(coef, knots, degree)
    return spline.differentiate(first, inner, degree - 1)[0]


@torch.no_grad()
def _integrals(layer: KANLinear) -> Bands:
    """Return the integrals of products of the lower basis functions and the base'' over the grid.

    A spline of order 1 has no lower basis; a constant with a coefficient of zero stands for it.
    """
    knots, degree = layer.grid.double(), max(2, layer.spline_order)
    dropped = min(2, layer.spline_order)
    inner = knots[:, dropped : knots.shape[1] - dropped]
    cells = Cells(knots=inner, degree=degree - 2, padding=0, slopes=None)
    x, weights = _quadrature(_refined(cells.cuts), NODES)
    cell, values = cells.evaluate(x)
    values.append(torch.from_numpy(BASES[layer.base_name].nth(x.cpu().numpy(), 2)).to(x))
    weighted = [value * weights for value in values]
    return Bands.of(added_by_cell(pair_products(values, weighted), cell, cells), cells)


def _quadrature(cuts: Tensor, count: int) -> tuple[Tensor, Tensor]:  # (in, point) twice
    """Return the points and weights of Gauss-Legendre on every interval of each input."""
    places, weights = (torch.as_tensor(a).to(cuts) for a in np.polynomial.legendre.leggauss(count))
    half = cuts.diff(dim=1).unsqueeze(-1) / 2
    middle = cuts[:, :-1, None] + half
    return (middle + half * places).flatten(1), (half * weights).flatten(1)


def _refined(cuts: Tensor) -> Tensor:
    """Add evenly spaced cuts, so that no interval is wide where the bases bend."""
    low, high = (end.clamp(-FAR, FAR) for end in (cuts[:, :1], cuts[:, -1:]))
    count = max(1, math.ceil(float((high - low).max()) / WIDEST))
    steps = torch.linspace(0, 1, count + 1).to(cuts)
    return torch.cat([cuts, low + (high - low) * steps], dim=1).sort(dim=1).values
