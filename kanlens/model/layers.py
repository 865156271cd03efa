"""A layer of learned one-dimensional functions made of B-splines.

`KANLinear` computes y_o = bias_o + sum_i phi_oi(x_i) with
phi_oi(x) = base_weight_oi * base(x) + spline_scaler_oi * sum_k spline_weight_oik * B_ik(x),
as products of matrices: the (batch, out, in) tensor of edge values is built only when an analysis
asks for it.
"""

from __future__ import annotations

import math
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
)
from kanlens.functions.activations import base_activation as base_of
from kanlens.model import grids, kernels, selection
from kanlens.model.arguments import check_grid, check_layer
from kanlens.model.config import LayerConfig
from kanlens.model.norms import entropy
from kanlens.model.protocol import EdgeLayer
from kanlens.model.spline_edges import SplineEdges
from kanlens.splines import spline

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LAYER_KINDS", "EdgeLayer", "KANLinear", "LayerConfig", "entropy"]

LAYER_KINDS: dict[str, type[KANLinear]] = {}


class KANLinear(SplineEdges):
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
        self.base_name = base_of(base_activation).name
        self.grid_eps = float(grid_eps)
        self.extrapolation = extrapolation
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
        """Draw the initial weights: small random splines, and uniform scales of 1/sqrt(in).

        Examples
        --------
        >>> KANLinear(2, 1).reset_parameters(generator=torch.Generator().manual_seed(0))
        """
        check_generator("KANLinear", generator)
        check_positive("KANLinear", "scale_noise", scale_noise, zero=True)
        check_positive("KANLinear", "scale_base", scale_base, zero=True)
        check_positive("KANLinear", "scale_spline", scale_spline, zero=True)
        size = 1 / math.sqrt(self.in_features)
        with torch.no_grad():
            self.base_weight.uniform_(-scale_base * size, scale_base * size, generator=generator)
            low, high = spline.grid_ends(self.grid, self.spline_order)
            places = torch.linspace(0, 1, self.grid_size + 1).to(self.grid)
            x = low + (high - low) * places[:, None]  # (point, in)
            noise = x.new_empty(len(x), self.out_features, self.in_features)
            noise.uniform_(-0.5, 0.5, generator=generator)
            noise *= scale_noise / self.grid_size
            coef = spline.fit(x, noise, self.grid, self.spline_order)
            standalone = self.enable_standalone_scale_spline
            self.spline_weight.copy_(coef * (1 if standalone else scale_spline))
            if standalone:
                end = scale_spline * size
                self.spline_scaler.uniform_(-end, end, generator=generator)
            self.bias.zero_()

    @classmethod
    def from_config(cls, config: LayerConfig) -> Self:
        """Build a layer of this kind; its weights are zero until a state dict is loaded."""
        layer = cls(
            config.in_features,
            config.out_features,
            grid_size=config.grid_size,
            spline_order=config.spline_order,
            base_activation=config.base_activation,
            extrapolation=config.extrapolation,
            grid_eps=config.grid_eps,
            enable_standalone_scale_spline=config.enable_standalone_scale_spline,
            generator=torch.Generator(),  # so that torch's own is left alone
        )
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
        check_columns("KANLinear.forward", x, self.in_features, self.grid.dtype)
        flat = x if x.dim() == 2 else x.reshape(-1, self.in_features)
        y = kernels.layer_sum(self, flat)
        if y is None:
            y = self.forward_torch(flat)
        return y if x.dim() == 2 else y.reshape(*x.shape[:-1], self.out_features)

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
        cuts = grids.adapted(flat, old, eps=self.grid_eps, margin=margin)
        return grids.move(self, cuts, flat)

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
        steps = torch.linspace(0, 1, 201).to(self.grid)
        x = old[:, 0] + (old[:, -1] - old[:, 0]) * steps[:, None]
        return grids.move(self, grids.resized(old, grid_size), x)

    def select(self, out: Sequence[int], in_: Sequence[int]) -> Self:
        """Return a smaller layer that keeps only outputs `out` and inputs `in_`, in that order.

        Examples
        --------
        >>> KANLinear(3, 2).select([1], [0, 2]).mask.shape
        torch.Size([1, 2])
        """
        return selection.select(self, out, in_)

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        return (
            f"{self.in_features}, {self.out_features}, grid_size={self.grid_size}, "
            f"spline_order={self.spline_order}, base={self.base_name}, "
            f"extrapolation={self.extrapolation}"
        )


LAYER_KINDS[KANLinear.kind] = KANLinear
