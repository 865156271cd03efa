"""Interface of layers for analyses: values, slopes, bounds, norms and exact edges."""

from __future__ import annotations

import itertools
import numbers
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kanlens._checks import check_columns, check_rows
from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import BASES, FUNCTIONS, find_function
from kanlens.functions._sums import FunctionSum
from kanlens.model._edge import Edge
from kanlens.model._layer_enclosures import Enclosure
from kanlens.model._spline_forward import LayerBasis, Weights, basis_means, known_means
from kanlens.model._statistics import LayerStatistics
from kanlens.model._terms import SPLINE, EdgeTerm, FunctionTable, Term, placed, with_kinks
from kanlens.splines import _spline as spline


class EdgeLayer(nn.Module):
    """A layer of edges, each a spline plus elementary functions, or one function.

    Edge arrays end in (out, in). Layers with other edges override the methods that they change.
    """

    kind: str  # key into LAYER_KINDS
    in_features: int
    out_features: int
    grid_size: int
    spline_order: int
    enable_standalone_scale_spline: bool
    extrapolation: spline.Extrapolation
    base_name: str
    base_weight: nn.Parameter
    spline_weight: nn.Parameter
    spline_scaler: nn.Parameter
    bias: nn.Parameter
    grid: Tensor
    mask: Tensor
    series: tuple[str, ...]
    series_weight: nn.Parameter
    series_affine: Tensor
    functions: FunctionTable
    function_edges: Tensor  # (edge, 2), sorted by the names of their functions
    spline_mask: Tensor  # (out, in), 0 for function edges
    affine: nn.Parameter | None
    statistics: LayerStatistics | None
    _names: list[str]

    def weights(self) -> Weights:
        """Return the tensors of the spline edges; the mask is 0 for function edges."""
        own: Any = self._parameters  # faster than through torch's __getattr__
        scaled = self.enable_standalone_scale_spline
        try:
            scale = own["spline_scaler"] if scaled else None
            spline, base, bias = own["spline_weight"], own["base_weight"], own["bias"]
            mask: Any = self._buffers["mask"]
        except KeyError:  # torch's pruning or a parametrization keeps it elsewhere
            scale = self.spline_scaler if scaled else None
            spline, base, bias = self.spline_weight, self.base_weight, self.bias
            mask = self.mask
        if self._names:
            mask = mask * self.spline_mask
        return Weights(spline, scale, base, bias, mask)

    @property
    def spline_basis(self) -> LayerBasis:
        """The B-splines and the base function of the spline edges."""
        return LayerBasis(self.grid, self.spline_order, self.extrapolation, self.base_name)

    def terms(self) -> list[Term]:
        """Return the functions that every edge adds to its spline: the base and the series."""
        ones, weights = torch.ones_like(self.grid[:, 0]), self.series_weights()
        terms = [Term(BASES[self.base_name], ones, 0 * ones, self.weights().base_weights())]
        for k, name in enumerate(self.series):
            a, b = self.series_affine[:, k].unbind(-1)
            terms.append(Term(find_function(name), a, b, weights[..., k]))
        return terms

    def edge_terms(self) -> list[EdgeTerm]:
        """Return the terms of the function edges, sorted by name of the function."""
        if self.affine is None or not self._names:
            return []
        counts, terms = Counter(self._names), []
        parts = self.function_edges.split(list(counts.values()))
        for name, edges in zip(counts, parts, strict=True):
            out, in_ = edges.unbind(1)
            numbers = self.affine[out, in_], self.mask[out, in_]
            terms.append(EdgeTerm(FUNCTIONS[name], out, in_, *numbers))
        return terms

    @property
    def edge_kind(self) -> str:
        """Kind of the edges: "spline", "series", "function" or a subclass's."""
        own = "function" if self._names else "series" if self.series else "spline"
        return own if self.kind == "spline" else self.kind

    @property
    def splines_alone(self) -> bool:
        """True if every edge consists of a spline and a base function only."""
        own = type(self).edge_values is not EdgeLayer.edge_values
        return not (own or self.series or self._names)

    @property
    def base_activation(self) -> Callable[[Tensor], Tensor]:
        """The base function."""
        return BASES[self.base_name].value

    def coefficients(self) -> Tensor:
        """Return the B-spline coefficients (out, in, basis), multiplied by scaler and mask."""
        return self.weights().coefficients()

    def base_weights(self) -> Tensor:
        """Return the weights (out, in) of the base function, 0 for masked edges."""
        weights = self.weights().base_weights()
        return torch.zeros_like(weights) if self.base_name == "zero" else weights

    def series_weights(self) -> Tensor:  # (out, in, n)
        """Return the weights of the series, 0 for masked and function edges."""
        if not self.series:
            return self.base_weight.new_zeros(*self.mask.shape, 0)
        return self.series_weight * self.weights().mask.unsqueeze(-1)

    def series_basis(self, x: Tensor, *, order: int = 0) -> Tensor:
        """Return the series' functions, or their slopes, at x (batch, in): (batch, in, n).

        The functions of one name are evaluated together.
        """
        if not self.series:
            return x.new_zeros(*x.shape, 0)
        a, b = self.series_affine.unbind(-1)
        u, columns, start = x.unsqueeze(-1) * a + b, [], 0
        for name, group in itertools.groupby(self.series):
            stop, g = start + len(list(group)), find_function(name)
            columns.append((g.derivative if order else g.value)(u[..., start:stop]))
            start = stop
        basis = torch.cat(columns, dim=-1)
        return basis * a if order else basis

    def basis(self, x: Tensor) -> Tensor:
        """Return the basis functions of the edges at x, shape (batch, in, n).

        These are the B-splines, the base unless it is zero, and the series.
        """
        columns = [spline.basis(x, self.grid, self.spline_order, extrapolation=self.extrapolation)]
        if self.base_name != "zero":
            columns.append(self.base_activation(x)[..., None])
        return torch.cat([*columns, self.series_basis(x)], dim=2)

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
        return self._nth(x, 0)

    def edge_derivatives(self, x: Tensor) -> Tensor:
        """Return phi_oi'(x_i), shape (batch, out, in), for x (batch, in)."""
        check_columns("KANLinear.edge_derivatives", x, self.in_features)
        return self._nth(x, 1)

    def _nth(self, x: Tensor, order: int) -> Tensor:
        """Return values or slopes of all edges."""
        weights, degree, mode = self.weights(), self.spline_order, self.extrapolation
        coef, base = weights.coefficients(), BASES[self.base_name]
        values = spline.evaluate(x, coef, self.grid, degree, derivative=order, extrapolation=mode)
        form = base.derivative if order else base.value
        values = values + form(x).unsqueeze(1) * weights.base_weights()
        if self.series:
            basis = self.series_basis(x, order=order)
            values = values + torch.einsum("bik,oik->boi", basis, self.series_weights())
        return placed(values, self.edge_terms(), lambda term: term.nth(x[:, term.in_], order))

    def breakpoints(self) -> Tensor:
        """Return the breakpoints (in, n): ends of spline pieces, and kinks."""
        return with_kinks(self.spline_breakpoints(), (*self.terms(), *self.edge_terms()))

    def spline_breakpoints(self) -> Tensor:
        """Return the ends of spline pieces (in, n); with "zero" all knots."""
        inner = spline.breakpoints(self.grid, self.spline_order)
        return self.grid if self.extrapolation == "zero" else inner

    @property
    def piece_degree(self) -> int | None:
        """Degree of the pieces; None with a series, function edges, or a curved base."""
        curved = BASES[self.base_name].line is None and bool(self.base_weights().any())
        return None if self.series or self._names or curved else self.spline_order

    @property
    def degrees_of_freedom(self) -> int:
        """Number of free coefficients of one edge: of its spline, base and series."""
        base = BASES[self.base_name].line is None
        return self.grid_size + self.spline_order + base + len(self.series)

    def nonzero_edges(self) -> Tensor:
        """Return the mask (out, in) of edges neither masked nor identically zero."""
        mask = self.mask != 0
        if type(self).edge_values is not EdgeLayer.edge_values:  # it may have other tensors
            return mask
        nonzero = (self.coefficients() != 0).any(-1) | (self.base_weights() != 0)
        if self.series:
            nonzero = nonzero | (self.series_weights() != 0).any(-1)
        if self._names:
            nonzero = placed(nonzero, self.edge_terms(), lambda term: term.mask != 0)
        return mask & nonzero

    def domain(self) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper end of each input's grid, shapes (in,)."""
        return spline.grid_ends(self.grid, self.spline_order)

    def even_points(self, count: int) -> Tensor:  # (point, in)
        """Return `count` evenly spaced points over the grid of each input, both ends included."""
        low, high = self.domain()
        return low + (high - low) * torch.linspace(0, 1, count).to(low)[:, None]

    def outside(self, x: Tensor) -> Tensor:
        """Return a mask of values of x (batch, in) outside the grid; NaN is outside."""
        low, high = self.domain()
        return ~((x >= low) & (x <= high))

    def unlearned(self, x: Tensor) -> Tensor:
        """Return the mask of values of x (batch, in) outside both grid and training data."""
        off, statistics = self.outside(x), self.statistics
        return off if statistics is None else off & ~statistics.reached(x)

    def edge_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound every edge on an interval of each input.

        Bounds of functions are exact, and widened by the rounding error. They are infinite if a
        function is not defined on the whole interval.

        Parameters
        ----------
        low, high : Tensor, shape (in,) or (box, in)
            Interval of each input, in the scaled units of the layer. The ends of a single box may
            be infinite.

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
        inside = Enclosure(self, low.detach(), high.detach())
        lower, upper = inside.on_line(low.detach(), high.detach())
        pad = 32 * torch.finfo(self.grid.dtype).eps * inside.size(low, high, lower, upper)
        lower, upper = (lower - pad).to(self.grid), (upper + pad).to(self.grid)
        for term in self.edge_terms():
            least, most = term.bounds(low[term.in_], high[term.in_])
            lower = lower.index_put((term.out, term.in_), least)
            upper = upper.index_put((term.out, term.in_), most)
        return lower, upper

    def edge_slope_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound the slope of every edge on an interval of each input, on both sides of kinks.

        Parameters
        ----------
        low, high
            As for `edge_bounds`, whose shapes the bounds have; they are infinite if unknown.
        """
        boxes = low.reshape(-1, self.in_features), high.reshape(-1, self.in_features)
        bounds = self.enclosure(*boxes).slopes(*boxes).bounds()
        shape = (*low.shape[:-1], self.out_features, self.in_features)
        lower, upper = (end.reshape(shape).to(self.grid) for end in bounds)
        return lower, upper

    def enclosure(self, low: Tensor, high: Tensor) -> Enclosure:
        """Return an enclosure of the edges, and of their slopes, on many boxes at once.

        Parameters
        ----------
        low, high : Tensor, shape (in,) or (box, in)
            Boxes that contain all boxes to be bounded, in the scaled units of the layer. Bounds
            are for the current weights, in float64.
        """
        ends = low.reshape(-1, self.in_features).amin(0), high.reshape(-1, self.in_features).amax(0)
        return Enclosure(self, *ends)

    def edge(self, out: int, in_: int) -> Edge:
        """Return the function on the edge from input `in_` to output `out` as an exact object.

        Raises
        ------
        InvalidValueError
            If there is no such edge.
        """
        for name, index, size in (("out", out, self.out_features), ("in_", in_, self.in_features)):
            whole = isinstance(index, numbers.Integral) and not isinstance(index, bool)
            if not whole or not 0 <= index < size:
                expected, advice = f"{name} from 0 to {size - 1}", "Pass a valid index"
                raise InvalidValueError("edge", expected, repr(index), advice)
        with torch.no_grad():
            return self._edge(out, in_)

    def _edge(self, out: int, in_: int) -> Edge:
        name = self.functions[out][in_]
        if name != SPLINE and self.affine is not None:
            low, high = (float(ends[in_]) for ends in self.domain())
            a, b, c, d = self.affine[out, in_].tolist()
            mask = float(self.mask[out, in_])
            return Edge.of(name, a, b, c * mask, d * mask, domain=(low, high))
        terms = [term for term in self.terms() if term.g.line != 0.0]
        numbers = [(term.a[in_], term.b[in_], term.weight[out, in_]) for term in terms]
        a, b, weights = np.array([[float(n) for n in row] for row in numbers]).reshape(-1, 3).T
        return Edge(
            knots=self.grid[in_].double().cpu().numpy(),
            coefficients=self.coefficients()[out, in_].double().cpu().numpy(),
            degree=self.spline_order,
            functions=FunctionSum(functions=tuple(t.g for t in terms), a=a, b=b, weights=weights),
            extrapolation=self.extrapolation,
        )

    def weight_l1(self, x: Tensor | None = None) -> Tensor:
        """Return the L1 norm of each edge's weights, as `kanlens.sparsity.weight_l1` does.

        For edges that are functions, or with a series: the mean absolute deviation (out, in) of the
        edge from its mean over x (batch, in).
        """
        if x is not None:
            check_columns("KANLinear.weight_l1", x, self.in_features)
            check_rows("KANLinear.weight_l1", x)
        if not (self.series or self._names):
            return self._coefficients_l1(x)
        values = self.edge_values(self.places() if x is None else x)
        norms = (values - values.mean(0)).abs().mean(0)
        if self.series:
            return norms
        return torch.where(self.spline_mask != 0, self._coefficients_l1(x), norms)

    def _coefficients_l1(self, x: Tensor | None) -> Tensor:
        """Return the norm (out, in) of each spline's coefficients and base weight."""
        means = known_means(self) if x is None else basis_means(self, x)
        weights, line = self.weights(), BASES[self.base_name].line
        coef, weight = weights.coefficients(), weights.base_weights()
        mean = (coef * means[:, :-1]).sum(-1) + weight * means[:, -1]
        if line is not None:  # splines represent it exactly
            places = spline.greville(self.grid, self.spline_order)
            coef, weight = coef + line * weight.unsqueeze(-1) * places, torch.zeros_like(weight)
        return (coef - mean.unsqueeze(-1)).abs().mean(-1) + weight.abs()

    def places(self) -> Tensor:  # (point, in)
        """Return points to average over: stored quantiles, else an even grid."""
        if self.statistics is not None:
            return self.statistics.quantiles.mT.to(self.grid)
        return self.even_points(65)
