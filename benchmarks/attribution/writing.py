"""KANs that equal a formula, written down from the functions of their edges, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from kanlens.data._schema import default_schema
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes
from kanlens.splines import _spline as spline

Curve: TypeAlias = Callable[[Tensor], Tensor]  # of one variable, number by number
UNIT, EVEN = (0.0, 1.0), (-1.0, 1.0)
Formula: TypeAlias = Callable[[Tensor], Tensor]  # (batch, in) -> (batch,)
Kink: TypeAlias = tuple[dict[int, float], float]  # sum of weight * feature, and its value there
CHECKED = 2**12  # rows that model and formula are compared on


_EXTRA = 3  # points per interval, beyond the order of the splines, that a spline is fitted to


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """One layer as it is written down.

    Edges (out, in) without a function are masked away. `cuts` are breakpoints of each input, as
    many for each, on which bends of its functions lie; the spaces between them are divided into
    `pieces`. Splines of an `order` meet polynomials up to that degree exactly. `products` are the
    numbers of factors of the products that the last sums are grouped into.
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
    """Return the network of these layers, from the features to the outputs, in float64."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A formula and the network it is written down as.

    Attributes
    ----------
    formula : callable
        From x (batch, in) to (batch,), written without kanlens.
    sheets : tuple of Sheet
        The layers of the network; features are spread evenly between their first and last cuts.
    ties : dict of int to (int, float)
        Features that follow another one, with the correlation of the Gaussian copula of the two;
        1 makes them equal. The others are independent.
    kinks : tuple of (dict of int to float, float)
        Where the formula is not smooth: weighted sums of features, and their values there.
    null : tuple of int
        Features that change nothing.
    """

    formula: Formula
    sheets: tuple[Sheet, ...]
    ties: dict[int, tuple[int, float]] = field(default_factory=dict)
    kinks: tuple[Kink, ...] = ()
    null: tuple[int, ...] = ()

    @cached_property
    def domain(self) -> Tensor:  # (2, in)
        """The lowest and the highest value of every feature."""
        ends = [(cuts[0], cuts[-1]) for cuts in self.sheets[0].cuts]
        return torch.tensor(ends, dtype=torch.float64).T

    @property
    def inputs(self) -> int:
        """Number of features."""
        return len(self.sheets[0].cuts)

    @cached_property
    def model(self) -> KAN:
        """The network, in float64; nothing of it is trained or drawn."""
        return write(self.sheets)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:  # (rows, in)
        """Draw rows so that each feature has one value in every ``1 / rows`` of its range.

        Every feature is a Latin square of its own, or follows the one it is tied to. The means
        over few rows are thereby near those of the law.
        """
        columns: list[Tensor] = []
        for feature in range(self.inputs):
            place = torch.randperm(rows, generator=generator)
            share = torch.rand(rows, generator=generator, dtype=torch.float64)
            own = (place + share) / rows
            if feature in self.ties:
                leader, together = self.ties[feature]
                rest = (1 - together**2) ** 0.5
                normal = together * torch.special.ndtri(columns[leader])
                own = torch.special.ndtr(normal + rest * torch.special.ndtri(own))
                own = columns[leader] if together == 1 else own
            columns.append(own)
        low, high = self.domain
        return torch.lerp(low, high, torch.stack(columns, 1))

    def spline_error(self, generator: torch.Generator) -> float:
        """Return the largest |network - formula| over rows of the domain, corners among them.

        Features are independent here even where the law ties them.
        """
        shares = torch.rand(2, CHECKED, self.inputs, generator=generator, dtype=torch.float64)
        low, high = self.domain
        x = torch.lerp(low, high, torch.cat([shares[0], shares[1].round()]))
        with torch.no_grad():
            return float((self.model(x)[:, 0] - self.formula(x)).abs().max())
