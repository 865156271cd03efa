"""A layer of learned one-dimensional functions made of B-splines.

`KANLinear` computes y_o = bias_o + sum_i phi_oi(x_i) with
phi_oi(x) = base_weight_oi * base(x) + spline_scaler_oi * sum_k spline_weight_oik * B_ik(x),
as products of matrices: the (batch, out, in) tensor of edge values is built only when an analysis
asks for it.
"""

from __future__ import annotations

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
    check_dtype,
    check_generator,
    check_positive,
    message,
)
from kanlens.errors import InvalidValueError
from kanlens.functions.catalog import base_name
from kanlens.memory import check_memory
from kanlens.model import grids, kernels
from kanlens.model.config import LayerConfig
from kanlens.model.edge_sum import edge_sum
from kanlens.model.protocol import EdgeLayer
from kanlens.model.spline_edges import SplineEdges, entropy
from kanlens.splines import spline

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LAYER_KINDS", "EdgeLayer", "KANLinear", "LayerConfig", "entropy"]

LAYER_KINDS: dict[str, type[KANLinear]] = {}

_BYTES = 50  # that drawing the weights of a layer takes for each; measured: 100
_SOLVED = 8  # bytes of a number in the equations that its splines are drawn by


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
        _check_layer(in_features, out_features, grid_size, spline_order, grid_eps)
        check_choice("KANLinear", "extrapolation", extrapolation, ["linear", "zero"])
        self.in_features, self.out_features = int(in_features), int(out_features)
        self.grid_size, self.spline_order = int(grid_size), int(spline_order)
        self.enable_standalone_scale_spline = enable_standalone_scale_spline
        self.base_name = base_name(base_activation)
        self.grid_eps = float(grid_eps)
        self.extrapolation = extrapolation
        self.statistics = None
        low, high = _check_grid(grid_range)
        grid = spline.uniform_knots(in_features, low, high, grid_size, degree=spline_order)
        _check_grid(grid_range, grid)
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
            self.spline_weight.copy_(
                coef * (1 if self.enable_standalone_scale_spline else scale_spline)
            )
            if self.enable_standalone_scale_spline:
                end = scale_spline * size
                self.spline_scaler.uniform_(-end, end, generator=generator)
            self.bias.zero_()

    @classmethod
    def from_config(cls, config: LayerConfig) -> Self:
        """Build a layer of this kind; its weights are zero until a state dict is loaded."""
        options = dataclasses.asdict(config)
        del options["kind"]
        if not options["functions"]:  # which other kinds do not take
            del options["functions"]
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
        check_columns("KANLinear.forward", x, self.in_features)
        check_dtype("KANLinear.forward", x, self.grid.dtype)
        flat = x if x.dim() == 2 else x.reshape(-1, self.in_features)
        y = None if torch.compiler.is_compiling() else kernels.layer_sum(self, flat)
        if y is None:
            y = self.forward_torch(flat)
        return y if x.dim() == 2 else y.reshape(*x.shape[:-1], self.out_features)

    def forward_torch(self, x: Tensor) -> Tensor:
        """Map x (batch, in) to y (batch, out) in torch operations, differentiable to any order.

        `forward` does so itself wherever its fused kernels cannot run.
        """
        return edge_sum(
            x,
            self.weights(),
            grid=self.grid,
            degree=self.spline_order,
            extrapolation=self.mode,
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
        check_columns("KANLinear.update_grid", x, self.in_features)
        check_dtype("KANLinear.update_grid", x, self.grid.dtype)
        check_positive("KANLinear.update_grid", "margin", margin, zero=True)
        flat = x.reshape(-1, self.in_features)
        old = spline.breakpoints(self.grid, self.spline_order)
        cuts = grids.adapted(flat, old, eps=self.grid_eps, margin=margin)
        return self._move(cuts, flat)

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
        return self._move(grids.resized(old, grid_size), x)

    def _move(self, cuts: Tensor, x: Tensor) -> float:
        """Take other breakpoints (in, G + 1), refit the splines, and measure what that changed.

        Over the rows of x (batch, in) inside the old grid; when no row is inside with all its
        values, over the rows with values moved to the grid's nearest end.
        """
        inside = x[~self.outside(x).any(1)]
        if not len(inside):
            inside = x[torch.isfinite(x).all(1)].clamp(*self.domain())
        before, degree = self(inside), self.spline_order
        knots, old = spline.extend(cuts, degree), spline.breakpoints(self.grid, degree)
        if old.shape == cuts.shape:  # what lies beyond an unchanged grid stays too
            knots = torch.where((cuts == old).all(1, keepdim=True), self.grid, knots)
        weight = spline.refit(self.spline_weight, self.grid, knots, degree, extrapolation=self.mode)
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
        functions = self.config.functions
        config = dataclasses.replace(
            self.config,
            out_features=len(rows),
            in_features=len(columns),
            functions=tuple(tuple(functions[o][i] for i in in_) for o in out) if functions else (),
        )
        small = type(self).from_config(config).to(self.grid)
        cut = {"grid": (columns,), "bias": (rows,)}  # others are (out, in, ...)
        state = self.state_dict()
        for name, tensor in state.items():
            state[name] = tensor[cut.get(name, (rows[:, None], columns))]
        small.load_state_dict(state)
        small.train(self.training)
        if self.statistics is not None:
            small.statistics = self.statistics.select(rows, columns)
        return small

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        return (
            f"{self.in_features}, {self.out_features}, grid_size={self.grid_size}, "
            f"spline_order={self.spline_order}, base={self.base_name}, "
            f"extrapolation={self.extrapolation}"
        )


LAYER_KINDS[KANLinear.kind] = KANLinear


def _indices(name: str, indices: Sequence[int], size: int) -> Tensor:
    chosen = [int(index) for index in indices]
    if chosen and min(chosen) >= 0 and max(chosen) < size:
        return torch.tensor(chosen)
    expected = f"{name} to list indices from 0 to {size - 1}"
    raise InvalidValueError(message("select", expected, repr(list(indices)), "Name at least one"))


def _check_layer(
    in_features: int, out_features: int, grid_size: int, spline_order: int, grid_eps: float
) -> None:
    """Refuse a width, grid or order that no layer can have."""
    check_count("KANLinear", "in_features", in_features)
    check_count("KANLinear", "out_features", out_features)
    check_count("KANLinear", "grid_size", grid_size)
    whole = isinstance(spline_order, numbers.Integral) and not isinstance(spline_order, bool)
    if not whole or spline_order not in range(1, 6):
        expected = "spline_order from 1 to 5"
        raise InvalidValueError(message("KANLinear", expected, repr(spline_order), "3 is cubic"))
    weights = in_features * out_features * (grid_size + spline_order + 2)
    equations = in_features * (grid_size + 1) * (grid_size + spline_order)
    layer = f"a layer of {in_features:,} x {out_features:,} edges on {grid_size:,} intervals"
    advice = "Make it narrower, or its grid coarser"
    check_memory("KANLinear", _BYTES * weights + _SOLVED * equations, layer, advice)
    if not (isinstance(grid_eps, numbers.Real) and 0 <= grid_eps <= 1):
        expected = "grid_eps from 0 to 1"
        raise InvalidValueError(message("KANLinear", expected, repr(grid_eps), "Change it"))


def _check_grid(ends: Sequence[float], knots: Tensor | None = None) -> tuple[float, float]:
    """Return the ends of a grid; refuse ends that do not rise, or knots too close for a dtype."""
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        expected = "grid_range of two rising numbers"
        raise InvalidValueError(message("KANLinear", expected, repr(ends), "Swap or correct it"))
    if knots is not None and not bool((knots.diff(dim=1) > 0).all()):
        expected = f"grid_range wide enough for its intervals in {knots.dtype}"
        raise InvalidValueError(message("KANLinear", expected, repr(ends), "Scale the inputs"))
    return low, high
