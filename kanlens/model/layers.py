"""A layer of learned one-dimensional functions made of B-splines.

`KANLinear` computes y_o = bias_o + sum_i phi_oi(x_i) with
phi_oi(x) = base_weight_oi * base(x) + spline_scaler_oi * sum_k spline_weight_oik * B_ik(x),
as products of matrices: the (batch, out, in) tensor of edge values is built only when an analysis
asks for it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kanlens.checks import (
    check_choice,
    check_columns,
    check_count,
    check_generator,
    check_positive,
    check_rows,
)
from kanlens.errors import InvalidValueError
from kanlens.functions.catalog import BASES, base_name
from kanlens.model import kernels
from kanlens.model.basis_means import basis_means, known_means
from kanlens.model.config import LayerConfig, check_grid, check_layer
from kanlens.model.edge import EdgeLayer
from kanlens.model.edge_sum import Term, Weights, edge_sum, kinked, mean_absolute_edges
from kanlens.model.enclosures import Enclosure, SplineEnclosure
from kanlens.model.function_edge import FunctionEdge
from kanlens.model.spline_edge import EdgeFunction
from kanlens.model.statistics import LayerStatistics
from kanlens.splines import spline

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LAYER_KINDS", "EdgeLayer", "KANLinear", "LayerConfig", "entropy"]

LAYER_KINDS: dict[str, type[KANLinear]] = {}


class KANLinear(nn.Module):
    """A layer of spline edges, in place of efficient-kan's class and of `torch.nn.Linear`.

    The tensors are `base_weight` (out, in), `spline_weight` (out, in, grid_size + spline_order),
    `spline_scaler` (out, in), `bias` (out,), and the buffers `grid`
    (in, grid_size + 2 * spline_order + 1) and `mask` (out, in). Names and initial scales are those
    of efficient-kan, except that `scale_base` and `scale_spline` multiply the initial weights
    (there, larger values made them smaller).

    Parameters
    ----------
    in_features, out_features : int
        Width of the layer.
    grid_size : int
        Intervals of the grid.
    spline_order : int
        Degree of the pieces, 1 to 5; 3 is cubic (the name is efficient-kan's).
    scale_noise : float
        Size of the initial splines.
    scale_base, scale_spline : float
        Factors of the initial base weights and spline scales.
    enable_standalone_scale_spline : bool
        Whether each edge has a scale of its own beside its coefficients.
    base_activation : str, type or callable
        The function beside the spline: one of ``BASES`` or torch's name for it.
    grid_eps : float
        In an updated grid, the share of even spacing against quantiles of the data.
    grid_range : tuple of float
        Ends of the initial grid.
    extrapolation : {"linear", "zero"}
        Outside the grid: continue the splines straight, or let them run out.
    generator : torch.Generator, optional
        Draws the initial weights; torch's own when None.

    Raises
    ------
    InvalidValueError
        If an argument is outside what it may be.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024.

    Examples
    --------
    >>> layer = KANLinear(4, 5)
    >>> layer(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 3, 5])
    """

    kind = "spline"
    series: tuple[str, ...] = ()  # beside all splines
    statistics: LayerStatistics | None
    grid: Tensor
    mask: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        enable_standalone_scale_spline: bool = True,
        base_activation: str | type[nn.Module] | Callable[..., Any] = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        *,
        extrapolation: str = "linear",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_layer(in_features, out_features, grid_size, spline_order, grid_eps)
        check_choice("KANLinear", "extrapolation", extrapolation, ["linear", "zero"])
        self.in_features, self.out_features = int(in_features), int(out_features)
        self.grid_size, self.spline_order = int(grid_size), int(spline_order)
        self.enable_standalone_scale_spline = enable_standalone_scale_spline
        self.base_name = base_name(base_activation)
        self.grid_eps = float(grid_eps)
        self.extrapolation: spline.Extrapolation = "zero" if extrapolation == "zero" else "linear"
        self.statistics = None
        low, high = check_grid(grid_range)
        grid = spline.uniform_knots(in_features, low, high, grid_size, degree=spline_order)
        check_grid(grid_range, grid)
        self.register_buffer("grid", grid)
        self.register_buffer("mask", torch.ones(out_features, in_features))
        shape = (out_features, in_features)
        self.base_weight = nn.Parameter(torch.empty(shape))
        self.spline_weight = nn.Parameter(torch.empty(*shape, grid_size + spline_order))
        if enable_standalone_scale_spline:
            self.spline_scaler = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.reset_parameters(scale_noise, scale_base, scale_spline, generator=generator)

    def reset_parameters(
        self,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw the initial weights: small random splines, and uniform scales of 1/sqrt(in)."""
        check_generator("KANLinear", generator)
        scales = {"noise": scale_noise, "base": scale_base, "spline": scale_spline}
        for name, scale in scales.items():
            check_positive("KANLinear", f"scale_{name}", scale, zero=True)
        size = 1 / math.sqrt(self.in_features)
        with torch.no_grad():
            self.base_weight.uniform_(-scale_base * size, scale_base * size, generator=generator)
            x = self.even_points(self.grid_size + 1)
            noise = x.new_empty(len(x), self.out_features, self.in_features)
            noise.uniform_(-0.5, 0.5, generator=generator)
            noise *= scale_noise / self.grid_size
            coef = spline.fit(x, noise, self.grid, self.spline_order)
            factor = 1 if self.enable_standalone_scale_spline else scale_spline
            self.spline_weight.copy_(coef * factor)
            if self.enable_standalone_scale_spline:
                end = scale_spline * size
                self.spline_scaler.uniform_(-end, end, generator=generator)
            self.bias.zero_()

    @classmethod
    def from_config(cls, config: LayerConfig) -> Self:
        """Build a layer of this kind; its weights are zero until a state dict is loaded."""
        options = dataclasses.asdict(config)
        del options["kind"]
        options = {name: value for name, value in options.items() if value != ()}  # some kinds'
        layer = cls(**options, generator=torch.Generator())  # so that torch's own is left alone
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()
        return layer

    @property
    def config(self) -> LayerConfig:
        """The configuration that rebuilds this layer, tensors aside."""
        return LayerConfig(
            kind=self.kind,
            in_features=self.in_features,
            out_features=self.out_features,
            grid_size=self.grid_size,
            spline_order=self.spline_order,
            base_activation=self.base_name,
            extrapolation=self.extrapolation,
            grid_eps=self.grid_eps,
            enable_standalone_scale_spline=self.enable_standalone_scale_spline,
            series=self.series,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to y (..., out).

        Raises
        ------
        ShapeError
            If the last axis of `x` is not `in_features`.
        DTypeError
            If the dtype of `x` is not the layer's.
        """
        grid = self.grid
        dtype = grid.dtype
        half = x.dtype != dtype and x.dtype in (torch.float16, torch.bfloat16)
        if half and torch.is_autocast_enabled(x.device.type):  # what the layer before made
            x = x.to(dtype)
        check_columns("KANLinear.forward", x, self.in_features, dtype)
        flat = x if x.dim() == 2 else x.reshape(-1, self.in_features)
        y = kernels.fused(self, flat, grid)
        if y is None:
            y = self.forward_torch(flat)
        return y if x.dim() == 2 else y.reshape(*x.shape[:-1], self.out_features)

    def forward_torch(self, x: Tensor) -> Tensor:
        """Map x (batch, in) to y (batch, out) in torch operations, differentiable to any order.

        `forward` does so itself wherever its fused kernels cannot run.
        """
        return self.in_torch(edge_sum, x)

    def in_torch(self, function: Callable[..., Tensor], x: Tensor) -> Tensor:
        """Call a function of x (batch, in) and of all that makes the layer, as `edge_sum` is."""
        return function(
            x,
            self.weights(),
            grid=self.grid,
            degree=self.spline_order,
            extrapolation=self.extrapolation,
            base=self.base_name,
        )

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01) -> float:
        """Move the grid to the data and keep the functions.

        Parameters
        ----------
        x : Tensor, shape (batch, in)
            In the scaled units of the layer. Repeated values, two-valued and constant columns
            are fine; a constant one keeps its breakpoints. NaN and infinity are passed over.
        margin : float
            Room beyond the data at either end, as a share of its range.

        Returns
        -------
        float
            Largest change of an output over the rows inside the old grid.

        Raises
        ------
        ShapeError
            If the last axis of `x` is not `in_features`.
        DTypeError
            If the dtype of `x` is not the layer's.
        InvalidValueError
            If `margin` is negative.
        """
        check_columns("KANLinear.update_grid", x, self.in_features, self.grid.dtype)
        check_positive("KANLinear.update_grid", "margin", margin, zero=True)
        flat = x.reshape(-1, self.in_features)
        old = spline.breakpoints(self.grid, self.spline_order)
        cuts = spline.adapted_breakpoints(flat, old, eps=self.grid_eps, margin=margin)
        return 0.0 if torch.equal(cuts, old) else self._move(cuts, flat)

    @torch.no_grad()
    def refine(self, grid_size: int) -> float:
        """Change the number of intervals and keep the functions.

        A finer grid holds every old breakpoint, so the functions stay exactly what they are inside
        the grid, and beyond it where they go on straight. With ``extrapolation="zero"`` they run
        out over the new, narrower knots beyond the grid.

        Returns
        -------
        float
            Largest change of an output over the old grid.

        Examples
        --------
        >>> KANLinear(1, 1).double().refine(13) < 1e-12
        True
        """
        check_count("KANLinear.refine", "grid_size", grid_size)
        old = spline.breakpoints(self.grid, self.spline_order)
        return self._move(spline.resized_breakpoints(old, grid_size), self.even_points(201))

    def _move(self, cuts: Tensor, x: Tensor) -> float:
        """Take other breakpoints (in, G + 1), refit the splines; return the change on x inside."""
        inside = x[~self.outside(x).any(1)]
        if not len(inside):
            inside = x[torch.isfinite(x).all(1)].clamp(*self.domain())
        before, degree = self(inside), self.spline_order
        knots, old = spline.extend(cuts, degree), spline.breakpoints(self.grid, degree)
        if old.shape == cuts.shape:  # what lies beyond an unchanged grid stays too
            knots = torch.where((cuts == old).all(1, keepdim=True), self.grid, knots)
        coef, mode = self.spline_weight, self.extrapolation
        weight = spline.refit(coef, self.grid, knots, degree, extrapolation=mode)
        self.grid = knots.to(self.grid)
        self.grid_size = cuts.shape[1] - 1
        if weight.shape == self.spline_weight.shape:
            self.spline_weight.copy_(weight)
        else:
            self.spline_weight = nn.Parameter(weight, self.spline_weight.requires_grad)
        moved = self(inside) - before
        return float(moved.abs().max()) if moved.numel() else 0.0

    def select(self, out: Sequence[int], in_: Sequence[int]) -> Self:
        """Return a smaller layer that keeps only outputs `out` and inputs `in_`, in that order.

        Examples
        --------
        >>> KANLinear(3, 2).select([1], [0, 2]).mask.shape
        torch.Size([1, 2])
        """
        rows = _indices("out", out, self.out_features)
        columns = _indices("in_", in_, self.in_features)
        small = copy.copy(self)
        nn.Module.__init__(small)  # so far without tensors and hooks
        small.out_features, small.in_features = len(rows), len(columns)
        cut = {"grid": (columns,), "series_affine": (columns,), "bias": (rows,)}
        for name, tensor in self.state_dict().items():
            part = tensor[cut.get(name, (rows[:, None], columns))]  # others are (out, in, ...)
            if name in self._parameters:
                small.register_parameter(name, nn.Parameter(part))
            else:
                small.register_buffer(name, part)
        small.train(self.training)
        if self.statistics is not None:
            small.statistics = self.statistics.select(rows, columns)
        return small

    @property
    def base_activation(self) -> Callable[[Tensor], Tensor]:
        """The function beside the splines."""
        return BASES[self.base_name].value

    def weights(self) -> Weights:
        """Return the tensors of the spline edges, with the mask that switches them off."""
        own: Any = self._parameters  # asked one by one, torch takes a microsecond longer
        scaled = self.enable_standalone_scale_spline
        try:
            scale = own["spline_scaler"] if scaled else None
            spline, base, bias = own["spline_weight"], own["base_weight"], own["bias"]
            mask: Any = self._buffers["mask"]
        except KeyError:  # torch's pruning or a parametrization keeps it elsewhere
            scale = self.spline_scaler if scaled else None
            spline, base, bias = self.spline_weight, self.base_weight, self.bias
            mask = self.mask
        return Weights(spline, scale, base, bias, mask)

    def terms(self) -> list[Term]:
        """Return the functions beside the splines of every edge: the base."""
        one = torch.ones_like(self.grid[:, 0])
        return [Term(BASES[self.base_name], one, 0 * one, self.weights().base_weights())]

    def coefficients(self) -> Tensor:
        """Return the B-spline coefficients (out, in, basis), scaler and mask multiplied in."""
        return self.weights().coefficients()

    def base_weights(self) -> Tensor:
        """Return the weights (out, in) of the base function, zero where masked or where it is."""
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
        weights, degree, mode = self.weights(), self.spline_order, self.extrapolation
        coef, base = weights.coefficients(), BASES[self.base_name].value(x).unsqueeze(1)
        splines = spline.evaluate(x, coef, self.grid, degree, extrapolation=mode)
        return splines + base * weights.base_weights()

    def edge_derivatives(self, x: Tensor) -> Tensor:
        """Return phi_oi'(x_i), shape (batch, out, in), for x (batch, in)."""
        check_columns("KANLinear.edge_derivatives", x, self.in_features)
        coef, degree, mode = self.coefficients(), self.spline_order, self.extrapolation
        splines = spline.evaluate(x, coef, self.grid, degree, derivative=1, extrapolation=mode)
        base = BASES[self.base_name].derivative(x)
        return splines + base.unsqueeze(1) * self.base_weights()

    def breakpoints(self) -> Tensor:
        """Return where pieces meet (in, n): the grid, knots where splines run out, kinks."""
        inner = spline.breakpoints(self.grid, self.spline_order)
        return kinked(self.grid if self.extrapolation == "zero" else inner, self.terms())

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

    def even_points(self, count: int) -> Tensor:  # (point, in)
        """Return points evenly over the grid of each input, both ends included."""
        low, high = self.domain()
        return low + (high - low) * torch.linspace(0, 1, count).to(low)[:, None]

    def outside(self, x: Tensor) -> Tensor:
        """Tell which values of x (batch, in) lie outside the grid; NaN does."""
        low, high = self.domain()
        return ~((x >= low) & (x <= high))

    def unlearned(self, x: Tensor) -> Tensor:
        """Tell which values of x (batch, in) lie outside the grid and the training data."""
        off, known = self.outside(x), self.statistics
        return off if known is None else off & ~known.reached(x)

    def edge_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound every edge on an interval of each input.

        By the control points of every piece; beyond the grid by the ranges of line and base.

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
        if not bool((low <= high).all()):
            expected, got = "low <= high", "an empty interval"
            raise InvalidValueError("edge_bounds", expected, got, "Swap the ends")
        inside = SplineEnclosure(self, low.detach(), high.detach())
        lower, upper = inside.on_line(low.detach(), high.detach())
        pad = 32 * torch.finfo(self.grid.dtype).eps * inside.size(low, high, lower, upper)
        return (lower - pad).to(self.grid), (upper + pad).to(self.grid)

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

    def edge(self, out: int, in_: int) -> EdgeFunction | FunctionEdge:
        """Return the function on the edge from input `in_` to output `out` as an exact object.

        Raises
        ------
        InvalidValueError
            If there is no such edge.
        """
        for name, index, size in (("out", out, self.out_features), ("in_", in_, self.in_features)):
            whole = isinstance(index, numbers.Integral) and not isinstance(index, bool)
            if not whole or not 0 <= index < size:
                expected, advice = f"{name} from 0 to {size - 1}", "Name an edge it has"
                raise InvalidValueError("edge", expected, repr(index), advice)
        with torch.no_grad():
            return self._edge(out, in_)

    def _edge(self, out: int, in_: int) -> EdgeFunction | FunctionEdge:
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
        if x is not None:
            check_columns("KANLinear.weight_l1", x, self.in_features)
            check_rows("KANLinear.weight_l1", x)
        splines, base = known_means(self) if x is None else basis_means(self, x)
        weights, line = self.weights(), BASES[self.base_name].line
        coef, weight = weights.coefficients(), weights.base_weights()
        mean = (coef * splines).sum(-1) + weight * base
        if line is not None:  # the splines can write it: it counts as theirs
            places = spline.greville(self.grid, self.spline_order)
            coef, weight = coef + line * weight.unsqueeze(-1) * places, torch.zeros_like(weight)
        return (coef - mean.unsqueeze(-1)).abs().mean(-1) + weight.abs()

    def activation_l1(self, x: Tensor) -> Tensor:
        """Return the mean of ``|phi_oi(x_i)|`` over x (batch, in), shape (out, in).

        As `kanlens.sparsity.activation_l1`, which checks its input.
        """
        norms = kernels.fused(self, x, self.grid, norms=True)
        return self.in_torch(mean_absolute_edges, x) if norms is None else norms

    def places(self) -> Tensor:  # (point, in)
        """Return where means are taken: stored quantiles, else evenly over the grid."""
        if self.statistics is not None:
            return self.statistics.quantiles.mT.to(self.grid)
        return self.even_points(65)

    def regularization_loss(
        self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0
    ) -> Tensor:
        """Return the sparsity penalty: weighted sum of weight L1 norms and of their entropy.

        Keeps efficient-kan's name and arguments; the norm is `weight_l1`, and the entropy is
        finite when edges are exactly zero.
        """
        norms = self.weight_l1()
        return regularize_activation * norms.sum() + regularize_entropy * entropy(norms)

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        return (
            f"{self.in_features}, {self.out_features}, grid_size={self.grid_size}, "
            f"spline_order={self.spline_order}, base={self.base_name}, "
            f"extrapolation={self.extrapolation}"
        )


LAYER_KINDS[KANLinear.kind] = KANLinear


def entropy(scores: Tensor) -> Tensor:
    """Return the entropy of scores divided by their sum; finite, with its gradient, at zero."""
    tiny = torch.finfo(scores.dtype).tiny
    total = scores.sum()
    share = scores / torch.where(total > tiny**0.5, total, 1.0)  # scores of zero share nothing
    return -(share * share.clamp_min(tiny).log()).sum()


def _indices(name: str, indices: Sequence[int], size: int) -> Tensor:
    chosen = [int(index) for index in indices]
    if chosen and min(chosen) >= 0 and max(chosen) < size:
        return torch.tensor(chosen)
    expected = f"{name} to list indices from 0 to {size - 1}"
    raise InvalidValueError("select", expected, repr(list(indices)), "Name at least one")
