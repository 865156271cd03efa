"""Networks written down from the functions of their edges, without training; and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from kanlens.data.schema import default_schema
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.products import Grouping, Nodes
from kanlens.splines import spline

Curve: TypeAlias = Callable[[Tensor], Tensor]  # of one variable, number by number
UNIT, EVEN = (0.0, 1.0), (-1.0, 1.0)
CURVED: dict[str, Any] = {"order": 5, "pieces": 48}  # for functions that are no polynomials
STEP = 0.05  # half the width of the step of the threshold
SIGN = 0.1  # half the width of the slope that stands for a sign
_EXTRA = 3  # points per interval, beyond the order of the splines, that a spline is fitted to


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """One layer as it is written down.

    Attributes
    ----------
    edges : dict of (out, in) to callable
        The function of each edge; edges that are not here are masked away.
    cuts : sequence of sequence of float
        Breakpoints of each input, as many for each; bends of its functions lie on them.
    pieces : int
        Into how many intervals each space between two cuts is divided.
    order : int
        Degree of the splines. Polynomials up to it are met exactly.
    products : tuple of int
        Numbers of factors of the products that the last sums are grouped into.
    """

    edges: Mapping[tuple[int, int], Curve]
    cuts: Sequence[Sequence[float]]
    pieces: int = 1
    order: int = 3
    products: tuple[int, ...] = ()

    @property
    def outs(self) -> int:
        """Number of sums."""
        return 1 + max(out for out, _ in self.edges)

    @property
    def nodes(self) -> Nodes:
        """What the sums become: sums first, then products."""
        return Nodes(Grouping(self.outs - sum(self.products), self.products))

    def breakpoints(self) -> Tensor:  # (in, interval + 1)
        """Return the cuts with the points that divide the spaces between them."""
        steps = np.arange(self.pieces) / self.pieces
        rows = []
        for cuts in self.cuts:
            spaces = [low + (high - low) * steps for low, high in pairwise(cuts)]
            rows.append(np.concatenate([*spaces, [cuts[-1]]]))
        return torch.as_tensor(np.stack(rows), dtype=torch.float64)

    def layer(self) -> KANLinear:
        """Return the layer in float64; beyond its grid the splines go on straight."""
        layer = KANLinear(
            len(self.cuts),
            self.outs,
            grid_size=self.pieces * (len(self.cuts[0]) - 1),
            spline_order=self.order,
            base_activation="zero",
            enable_standalone_scale_spline=False,
            generator=torch.Generator(),  # so that torch's own is left alone
        ).double()
        places = self.breakpoints()
        with torch.no_grad():
            layer.grid = spline.extend(places, self.order)
            for parameter in layer.parameters():
                parameter.zero_()
            layer.mask.zero_()
            for (out, in_), curve in self.edges.items():
                layer.mask[out, in_] = 1.0
                knots = layer.grid[in_].numpy()
                layer.spline_weight[out, in_] = _fitted(curve, places[in_], knots, self.order)
        return layer


def write(sheets: Sequence[Sheet]) -> KAN:
    """Return the network of these layers, in float64.

    Parameters
    ----------
    sheets : sequence of Sheet
        From the features to the outputs.

    Returns
    -------
    KAN

    Examples
    --------
    >>> model = write([Sheet(edges={(0, 0): torch.square}, cuts=[(-1.0, 1.0)])])
    >>> x = torch.tensor([[0.5]], dtype=torch.float64)
    >>> bool((model(x) - 0.25).abs() < 1e-14)
    True
    """
    nodes = [sheet.nodes for sheet in sheets]
    schema = default_schema(len(sheets[0].cuts), nodes[-1].grouping.nodes)
    return KAN.from_layers([sheet.layer() for sheet in sheets], schema, nodes=nodes)


def _fitted(curve: Curve, places: Tensor, knots: np.ndarray, order: int) -> Tensor:  # (basis,)
    """Return the coefficients that meet a function best at points in every interval."""
    count = order + 1 + _EXTRA
    inside = 0.5 - 0.5 * torch.cos((torch.arange(count) + 0.5).double() * torch.pi / count)
    x = (places[:-1, None] + places.diff()[:, None] * inside).flatten()
    bases = BSpline.design_matrix(x.numpy(), knots, order).toarray()
    found, *_ = np.linalg.lstsq(bases, curve(x).numpy(), rcond=None)
    return torch.as_tensor(found)


def wave(x: Tensor) -> Tensor:
    """Return sin(pi x)."""
    return torch.sin(torch.pi * x)


def same(x: Tensor) -> Tensor:
    """Return x."""
    return x


def opposite(x: Tensor) -> Tensor:
    """Return -x."""
    return -x


def step(u: Tensor) -> Tensor:
    """Rise from 0 to 1 around 1, as two parabolas.

    Examples
    --------
    >>> step(torch.tensor([0.0, 0.95, 1.0, 1.05, 2.0]))
    tensor([0.0000, 0.0000, 0.5000, 1.0000, 1.0000])
    """
    t = ((u - 1 + STEP) / (2 * STEP)).clamp(0, 1)
    return torch.where(t < 0.5, 2 * t**2, 1 - 2 * (1 - t) ** 2)


def sign(x: Tensor) -> Tensor:
    """Return the sign of x, with a slope around 0.

    Examples
    --------
    >>> sign(torch.tensor([-1.0, 0.05, 1.0]))
    tensor([-1.0000,  0.5000,  1.0000])
    """
    return (x / SIGN).clamp(-1, 1)
