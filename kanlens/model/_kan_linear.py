"""A layer of learned one-dimensional functions: splines plus elementary functions.

``phi_oi(x) = base_weight_oi base(x) + spline_scaler_oi sum_k spline_weight_oik B_ik(x)
+ sum_k series_weight_oik g_k(a_ik x + b_ik)``, or ``c g(a x + b) + d``; y_o is their sum over i,
plus bias_o, by products of matrices.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanlens._checks import (
    check_choice,
    check_columns,
    check_count,
    check_generator,
    check_positive,
)
from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import base_name
from kanlens.model import kernels
from kanlens.model._config import LayerConfig, check_grid, check_layer
from kanlens.model._edge_layer import EdgeLayer
from kanlens.model._spline_forward import CHUNK, edge_sum, mean_absolute_edges, mean_over_edges
from kanlens.model._terms import SPLINE, START, check_series, check_table, placed
from kanlens.splines import _spline as spline

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LAYER_KINDS", "EdgeLayer", "KANLinear", "LayerConfig", "entropy"]

LAYER_KINDS: dict[str, type[KANLinear]] = {}
NEAR = 1e-4  # least distance of an inserted breakpoint from others, in mean intervals


class KANLinear(EdgeLayer):
    """A Kolmogorov-Arnold layer, usable in place of `torch.nn.Linear`.

    The tensors are `base_weight` (out, in), `spline_weight` (out, in, grid_size + spline_order),
    `spline_scaler` (out, in), `bias` (out,), and the buffers `grid`
    (in, grid_size + 2 * spline_order + 1) and `mask` (out, in). Names and initial scales are those
    of efficient-kan, except that `scale_base` and `scale_spline` multiply the initial weights. With
    a series there are `series_weight` (out, in, n), at first zero, and the buffer `series_affine`
    (in, n, 2): a and b; with functions `affine` (out, in, 4): a, b, c, d of
    ``c * g(a * x + b) + d``, without effect on edges that are splines.

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
        Whether each edge has a scale in addition to its coefficients.
    base_activation : str, type or callable
        The function added to the spline: one of ``BASES`` or torch's name for it.
    grid_eps : float
        Weight of even spacing in an updated grid; the rest is the weight of quantiles of the data.
    grid_range : tuple of float
        Ends of the range of the initial grid.
    extrapolation : {"linear", "zero"}
        Outside the grid: continue the splines linearly, or let them decay to zero.
    series : sequence of str
        Functions added to the splines of all edges: elementary functions, rational functions, or
        Chebyshev polynomials of tanh such as ``"T3(tanh)"``. Gaussians make the layer of FastKAN,
        sines that of FourierKAN, Chebyshev polynomials of tanh that of ChebyKAN.
    functions : sequence of sequence of str, shape (out, in)
        The elementary function of each edge, or ``"spline"``. Default: all are splines.
    generator : torch.Generator, optional
        Draws the initial weights; torch's default generator when None.

    Raises
    ------
    InvalidValueError
        If an argument has a value that is not allowed.

    Notes
    -----
    `grid` is the extended knot vector of each input: ``grid_size + 1`` knots over its range and
    `spline_order` more beyond each end. "Inside the grid" means inside the range. `breakpoints` are
    where two polynomial pieces meet: knots in the range, and kinks of functions added to splines.

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
        series: Sequence[str] = (),
        functions: Sequence[Sequence[str]] = (),
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
        self.series = check_series(series)
        if self.series:
            self.series_weight = nn.Parameter(torch.zeros(*shape, len(self.series)))
            affine = torch.tensor(START[:2]).repeat(in_features, len(self.series), 1)
            self.register_buffer("series_affine", affine)
        self.affine = nn.Parameter(torch.tensor(START).repeat(*shape, 1)) if functions else None
        self._set_functions(functions)
        self.reset_parameters(scale_noise, scale_base, scale_spline, generator=generator)

    def reset_parameters(
        self,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw the initial weights: small splines; base weights and scalers up to 1/sqrt(in)."""
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
        options = {key: value for key, value in options.items() if value != ()}  # kinds may lack it
        layer = cls(**options, generator=torch.Generator())  # keeps torch's random state unchanged
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()
        return layer

    @property
    def config(self) -> LayerConfig:
        """The configuration that rebuilds this layer, without its tensors."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(LayerConfig)}
        facts["base_activation"] = self.base_name
        facts["functions"] = () if self.affine is None else self.functions
        return LayerConfig(**facts)

    def assign(self, out: int, in_: int, name: str, parameters: Sequence[float] = START) -> None:
        """Set an edge to the function `name` with a, b, c, d, or back to "spline"."""
        rows = [list(row) for row in self.functions]
        rows[out][in_] = name
        self._set_functions(rows)
        if self.affine is None:
            start = torch.tensor(START).to(self.mask).expand(*self.mask.shape, 4)
            self.affine = nn.Parameter(start.clone(), self.bias.requires_grad)
        with torch.no_grad():
            self.affine[out, in_] = torch.as_tensor(parameters, dtype=torch.float64).to(self.affine)

    def assigned(self, out: int, in_: int) -> tuple[str, tuple[float, ...]]:
        """Return the function of an edge, or "spline", and its a, b, c, d."""
        numbers = START if self.affine is None else self.affine[out, in_].tolist()
        return self.functions[out][in_], tuple(numbers)

    def _set_functions(self, functions: Sequence[Sequence[str]]) -> None:
        """Check and store the functions of edges, () for splines alone; list edges by function."""
        n_out, n_in = self.out_features, self.in_features
        spline = ((SPLINE,) * n_in,) * n_out
        self.functions = check_table(functions, n_out, n_in) if functions else spline
        edges = [(n, o, i) for o, row in enumerate(functions) for i, n in enumerate(row)]
        chosen = sorted(edge for edge in edges if edge[0] != SPLINE)
        self._names = [name for name, _, _ in chosen]
        self._no_splines = len(chosen) == n_out * n_in
        if chosen:
            places = torch.tensor([edge[1:] for edge in chosen], device=self.mask.device)
            spline_mask = torch.ones_like(self.mask)
            spline_mask[places[:, 0], places[:, 1]] = 0.0
            self.register_buffer("function_edges", places, persistent=False)
            self.register_buffer("spline_mask", spline_mask, persistent=False)

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
        if half and torch.is_autocast_enabled(x.device.type):  # from the layer before
            x = x.to(dtype)
        check_columns("KANLinear.forward", x, self.in_features, dtype)
        flat = x if x.dim() == 2 else x.reshape(-1, self.in_features)
        y = None if self._no_splines else kernels.fused(self, flat, grid)
        if y is None:
            y = self.forward_torch(flat)
        elif self.series or self._names:
            y = self._with_terms(y, flat)
        return y if x.dim() == 2 else y.reshape(*x.shape[:-1], self.out_features)

    def forward_torch(self, x: Tensor) -> Tensor:
        """Map x (batch, in) to y (batch, out) in torch operations, differentiable to any order.

        `forward` calls it where its compiled kernels cannot run. Without gradients, rows are
        processed in chunks, so that the bases (batch, in, basis) are never held at once.
        """
        if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):  # where len(x) is known
            at_once = max(CHUNK // (16 * self.in_features), self.out_features)  # 16: bases
            if len(x) > at_once:
                return torch.cat([self.forward_torch(part) for part in x.split(at_once)])
        if self._no_splines:
            y = self.bias.expand(len(x), self.out_features)
        else:
            y = edge_sum(x, self.weights(), self.spline_basis)
        return self._with_terms(y, x) if self.series or self._names else y

    def _with_terms(self, y: Tensor, x: Tensor) -> Tensor:
        """Add series and functions at x (batch, in) to the sums y (batch, out) of splines."""
        if self.series and not self._no_splines:
            y = y + F.linear(self.series_basis(x).flatten(1), self.series_weights().flatten(1))
        total = torch.zeros_like(y)
        for term in self.edge_terms():
            total = total.index_add(1, term.out, term.nth(x[:, term.in_]))
        return y + total if self._names else y

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01) -> float:
        """Move the grid to the data and keep the functions.

        Parameters
        ----------
        x : Tensor, shape (batch, in)
            In the scaled units of the layer. A constant column keeps its breakpoints; NaN and
            infinity are ignored.
        margin : float
            Room beyond the data at either end, as a share of their range.

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

        A finer grid contains every old breakpoint, so the functions do not change inside the grid,
        nor outside where they are linear. With ``extrapolation="zero"`` they decay to zero over the
        new, narrower knots outside.

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

    @torch.no_grad()
    def insert(self, in_: int, places: Sequence[float]) -> float:
        """Add breakpoints to the grid of an input, refine the other grids, keep the functions.

        Places outside the grid or next to a breakpoint are left out. Returns the largest change of
        an output over the old grid.

        Examples
        --------
        >>> layer = KANLinear(2, 1).double()
        >>> layer.insert(0, [0.1, 0.7]) < 1e-12, layer.grid_size
        (True, 7)
        """
        old = spline.breakpoints(self.grid, self.spline_order)
        row, least = old[in_].tolist(), NEAR * float(old[in_, -1] - old[in_, 0]) / self.grid_size
        for place in places:
            if row[0] < place < row[-1] and min(abs(place - cut) for cut in row) > least:
                row = sorted([*row, place])
        cuts = spline.resized_breakpoints(old, len(row) - 1)
        cuts[in_] = torch.tensor(row, dtype=torch.float64).to(old)
        return 0.0 if torch.equal(cuts, old) else self._move(cuts, self.even_points(201))

    def _move(self, cuts: Tensor, x: Tensor) -> float:
        """Set breakpoints (in, G + 1) and refit splines; return the largest change of an output."""
        inside = x[~self.outside(x).any(1)]
        if not len(inside):
            inside = x[torch.isfinite(x).all(1)].clamp(*self.domain())
        before, degree = self(inside), self.spline_order
        knots, old = spline.extend(cuts, degree), spline.breakpoints(self.grid, degree)
        if old.shape == cuts.shape:  # knots beyond an unchanged grid stay
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
        names = [[self.functions[o][i] for i in in_] for o in out] if self._names else ()
        small._set_functions(names)
        small.train(self.training)
        if self.statistics is not None:
            small.statistics = self.statistics.select(rows, columns)
        return small

    def activation_l1(self, x: Tensor) -> Tensor:
        """Return the mean of ``|phi_oi(x_i)|`` over x (batch, in), shape (out, in).

        As `kanlens.sparsity.activation_l1`, which checks its input.
        """
        if self.series:
            return mean_over_edges(self, x, torch.abs).to(x.dtype)
        norms = kernels.fused(self, x, self.grid, norms=True)
        if norms is None:
            norms = mean_absolute_edges(x, self.weights(), self.spline_basis)
        if not self._names:
            return norms
        return placed(norms, self.edge_terms(), lambda term: term.nth(x[:, term.in_]).abs().mean(0))

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
        names = [f"{len(list(group))} {name}" for name, group in itertools.groupby(self.series)]
        edges = self.in_features * self.out_features
        return (
            f"{self.in_features}, {self.out_features}, grid_size={self.grid_size}, "
            f"spline_order={self.spline_order}, base={self.base_name}, "
            f"extrapolation={self.extrapolation}"
            + (f", series={' + '.join(names)}" if names else "")
            + (f", functions={len(self._names)} of {edges} edges" if self._names else "")
        )


LAYER_KINDS[KANLinear.kind] = KANLinear


def entropy(scores: Tensor) -> Tensor:
    """Return the entropy of normalized scores; value and gradient are finite at zero."""
    tiny = torch.finfo(scores.dtype).tiny
    total = scores.sum()
    share = scores / torch.where(total > tiny**0.5, total, 1.0)  # all scores 0
    return -(share * share.clamp_min(tiny).log()).sum()


def _indices(name: str, indices: Sequence[int], size: int) -> Tensor:
    chosen = [int(index) for index in indices]
    if chosen and min(chosen) >= 0 and max(chosen) < size:
        return torch.tensor(chosen)
    expected = f"{name} to list indices from 0 to {size - 1}"
    raise InvalidValueError("select", expected, repr(list(indices)), "Pass valid indices")
