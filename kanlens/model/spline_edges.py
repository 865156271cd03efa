"""The edges of a spline layer: their values, slopes, bounds and norms, and each as an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kanlens.checks import check_columns, check_rows
from kanlens.functions.activations import BASES
from kanlens.model import kernels
from kanlens.model.arguments import check_index
from kanlens.model.edge_sum import Weights, edge_sum, mean_absolute_edges
from kanlens.model.enclosures import Enclosure, SplineEnclosure
from kanlens.model.norms import centred_l1, entropy
from kanlens.model.statistics import LayerStatistics
from kanlens.splines import hulls, spline

if TYPE_CHECKING:
    from kanlens.model.edge import EdgeFunction


class SplineEdges(nn.Module):
    """What analyses ask of a layer whose edges are a base function and a spline.

    Holds no tensors of its own: `kanlens.model.layers.KANLinear` makes and changes them.
    """

    in_features: int
    out_features: int
    grid_size: int
    spline_order: int
    base_name: str
    extrapolation: str
    enable_standalone_scale_spline: bool
    statistics: LayerStatistics | None
    grid: Tensor
    mask: Tensor
    base_weight: nn.Parameter
    spline_weight: nn.Parameter
    spline_scaler: nn.Parameter
    bias: nn.Parameter

    @property
    def base_activation(self) -> Callable[[Tensor], Tensor]:
        """The function beside the splines."""
        return BASES[self.base_name].value

    def weights(self) -> Weights:
        """Return the tensors of the spline edges, with the mask that switches them off."""
        return Weights(
            spline=self.spline_weight,
            scale=self.spline_scaler if self.enable_standalone_scale_spline else None,
            base=self.base_weight,
            bias=self.bias,
            mask=self.mask,
        )

    def coefficients(self) -> Tensor:
        """Return the B-spline coefficients of every edge, scaler and mask multiplied in.

        Returns
        -------
        Tensor, shape (out, in, basis)
        """
        return self.weights().coefficients()

    def base_weights(self) -> Tensor:
        """Return the weight of the base function of every edge, mask multiplied in: (out, in).

        Zero where the base function is.
        """
        found = self.weights().base_weights()
        return torch.zeros_like(found) if self.base_name == "zero" else found

    def edge_values(self, x: Tensor) -> Tensor:
        """Return phi_oi(x_i), with the mask and without the bias.

        Parameters
        ----------
        x : Tensor, shape (batch, in)
            In the scaled units of the layer.

        Returns
        -------
        Tensor, shape (batch, out, in)
            Differentiable in `x` and the weights.
        """
        check_columns("KANLinear.edge_values", x, self.in_features)
        values = self._basis(x)
        spline_part = torch.einsum("bik,oik->boi", values, self.coefficients())
        return spline_part + self.base_activation(x).unsqueeze(1) * self.base_weights()

    def edge_derivatives(self, x: Tensor) -> Tensor:
        """Return phi_oi'(x_i), shape (batch, out, in), for x (batch, in)."""
        check_columns("KANLinear.edge_derivatives", x, self.in_features)
        values = self._basis(x, derivative=1)
        spline_part = torch.einsum("bik,oik->boi", values, self.coefficients())
        base = BASES[self.base_name].derivative(x)
        return spline_part + base.unsqueeze(1) * self.base_weights()

    def _basis(self, x: Tensor, *, derivative: int = 0) -> Tensor:
        return spline.basis(
            x, self.grid, self.spline_order, derivative=derivative, extrapolation=self.mode
        )

    @property
    def mode(self) -> spline.Extrapolation:
        """What the splines do outside the grid, as `kanlens.splines.spline` wants it."""
        return "zero" if self.extrapolation == "zero" else "linear"

    def breakpoints(self) -> Tensor:
        """Return where pieces meet: the grid, with the knots beyond it when splines run out."""
        if self.extrapolation == "zero":
            return self.grid
        return spline.breakpoints(self.grid, self.spline_order)

    @property
    def piece_degree(self) -> int | None:
        """Degree of the pieces; None when a base function that is no polynomial is alive."""
        if BASES[self.base_name].line is not None or not bool(self.base_weights().any()):
            return self.spline_order
        return None

    @property
    def degrees_of_freedom(self) -> int:
        """Number of free coefficients of one edge: the splines', and a base weight beside them."""
        return self.grid_size + self.spline_order + (BASES[self.base_name].line is None)

    def domain(self) -> tuple[Tensor, Tensor]:
        """Return both ends of each input's grid, shapes (in,)."""
        return spline.grid_ends(self.grid, self.spline_order)

    def outside(self, x: Tensor) -> Tensor:
        """Tell which values of x (batch, in) lie outside the grid; NaN does."""
        low, high = self.domain()
        return ~((x >= low) & (x <= high))

    def edge_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound every edge on an interval of each input.

        The spline part by its control points on each piece, the base by its exact range; their
        sum is sound, and tight when one of them is zero.

        Parameters
        ----------
        low, high : Tensor, shape (in,) or (box, in)
            Interval of each input, in the scaled units of the layer; of one box, the ends may be
            infinite.

        Returns
        -------
        lower, upper : Tensor, shape (out, in) or (box, out, in)
        """
        if low.dim() == 2:
            lower, upper = self.enclosure(low, high).values(low, high).bounds()
            return lower.to(self.grid), upper.to(self.grid)
        coef, weight = self.coefficients().double(), self.base_weights().double()
        lower, upper = hulls.bounds(
            coef, self.grid.double(), self.spline_order, low, high, extrapolation=self.mode
        )
        interval = (end.detach().double().cpu().numpy() for end in (low, high))
        ends = BASES[self.base_name].range_bounds(*interval)
        base = torch.stack([weight * torch.as_tensor(end).to(weight) for end in ends])
        base = base.masked_fill(weight == 0, 0.0)  # also where the base has no bound
        size = coef.abs().amax(-1) + hulls.finite_size(lower, upper) + hulls.finite_size(*base)
        size = size + weight.abs() * hulls.finite_size(low, high)  # some bases round as x does
        pad = 32 * torch.finfo(self.grid.dtype).eps * size
        lower, upper = lower + base.amin(0) - pad, upper + base.amax(0) + pad
        return lower.to(self.grid), upper.to(self.grid)

    def edge_slope_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound the slope of every edge on an interval of each input; at kinks, of both sides.

        Parameters
        ----------
        low, high : Tensor, shape (in,) or (box, in)
            Interval of each input, in the scaled units of the layer.

        Returns
        -------
        lower, upper : Tensor, shape (out, in) or (box, out, in)
            Infinite where nothing is known.
        """
        boxes = low.reshape(-1, self.in_features), high.reshape(-1, self.in_features)
        bounds = self.enclosure(*boxes).slopes(*boxes).bounds()
        shape = (*low.shape[:-1], self.out_features, self.in_features)
        lower, upper = (end.reshape(shape).to(self.grid) for end in bounds)
        return lower, upper

    def enclosure(self, low: Tensor, high: Tensor) -> Enclosure:
        """Return what bounds the edges, and their slopes, on many boxes at once.

        Parameters
        ----------
        low, high : Tensor, shape (in,) or (box, in)
            The boxes that later ones lie in, in the scaled units of the layer.

        Returns
        -------
        Enclosure
            Of the layer as it is now, in float64.
        """
        ends = low.reshape(-1, self.in_features).amin(0), high.reshape(-1, self.in_features).amax(0)
        return SplineEnclosure(self, *ends)

    def edge(self, out: int, in_: int) -> EdgeFunction:
        """Return the function on the edge from input `in_` to output `out` as an exact object.

        Raises
        ------
        InvalidValueError
            If there is no such edge.
        """
        from kanlens.model.edge import EdgeFunction

        check_index("out", out, self.out_features)
        check_index("in_", in_, self.in_features)
        with torch.no_grad():
            return EdgeFunction(
                knots=self.grid[in_].double().cpu().numpy(),
                coefficients=self.coefficients()[out, in_].double().cpu().numpy(),
                degree=self.spline_order,
                base_weight=float(self.base_weights()[out, in_]),
                base=self.base_name,
                extrapolation=self.extrapolation,
            )

    def weight_l1(self, x: Tensor | None = None) -> Tensor:
        """Return the L1 norm of each edge's weights, as `kanlens.sparsity.weight_l1` does.

        Parameters
        ----------
        x : Tensor, shape (batch, in), optional
            Where the mean of each edge is taken, in the scaled units of the layer.

        Returns
        -------
        Tensor, shape (out, in)
            Differentiable in the weights.
        """
        where = self._places() if x is None else x
        check_columns("KANLinear.weight_l1", where, self.in_features)
        check_rows("KANLinear.weight_l1", where)
        basis, base = self._basis(where).mean(0), self.base_activation(where).mean(0)
        coef, weight, line = self.coefficients(), self.base_weights(), BASES[self.base_name].line
        mean = (coef * basis).sum(-1) + weight * base
        if line is not None:  # the splines can write it: it counts as theirs
            places = spline.greville(self.grid, self.spline_order)
            coef, weight = coef + line * weight.unsqueeze(-1) * places, torch.zeros_like(weight)
        return centred_l1(coef, weight, mean)

    def activation_l1(self, x: Tensor) -> Tensor:
        """Return the mean of |phi_oi(x_i)| over x (batch, in), shape (out, in).

        As `kanlens.sparsity.activation_l1`, which checks its input.
        """
        norms = kernels.edge_norms(self, x)
        return self._in_torch(mean_absolute_edges, x) if norms is None else norms

    def forward_torch(self, x: Tensor) -> Tensor:
        """Map x (batch, in) to y (batch, out) in torch operations, differentiable to any order.

        `forward` does so itself wherever its fused kernels cannot run.
        """
        return self._in_torch(edge_sum, x)

    def _in_torch(self, function: Callable[..., Tensor], x: Tensor) -> Tensor:
        return function(
            x,
            self.weights(),
            grid=self.grid,
            degree=self.spline_order,
            extrapolation=self.mode,
            base=self.base_name,
        )

    def _places(self) -> Tensor:  # (point, in)
        """Return where means are taken: stored quantiles, else evenly over the grid."""
        if self.statistics is not None:
            return self.statistics.quantiles.mT.to(self.grid)
        low, high = self.domain()
        steps = torch.linspace(0, 1, 65).to(self.grid)
        return low + (high - low) * steps[:, None]

    def regularization_loss(
        self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0
    ) -> Tensor:
        """Return the sparsity penalty: weighted sum of weight L1 norms and of their entropy.

        Keeps efficient-kan's name and arguments; the norm is `weight_l1`, and the entropy is
        finite when edges are exactly zero.
        """
        norms = self.weight_l1()
        return regularize_activation * norms.sum() + regularize_entropy * entropy(norms)
