"""A layer whose edges have a series of functions beside their splines: bumps, waves, powers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanlens.checks import check_columns
from kanlens.errors import InvalidValueError
from kanlens.functions.catalog import find_function
from kanlens.functions.elementary import ElementaryFunction
from kanlens.functions.sums import FunctionSum
from kanlens.model.edge_sum import Term, mean_absolute
from kanlens.model.function_edge import FunctionEdge
from kanlens.model.layers import LAYER_KINDS, KANLinear
from kanlens.model.spline_edge import EdgeFunction
from kanlens.splines import spline


class SeriesLinear(KANLinear):
    """A `KANLinear` whose edges have a series of functions beside spline and base.

    ``phi_oi(x) = spline_oi(x) + base_weight_oi * base(x)
    + sum_k series_weight_oik * g_k(a_ik * x + b_ik)``. With Gaussians it is the layer of FastKAN,
    with sines that of FourierKAN and SineKAN, with Chebyshev polynomials of tanh that of ChebyKAN.
    The `series` names the g_k: elementary functions, or ``"T3(tanh)"``, the Chebyshev polynomial of
    that degree of tanh. Beside the tensors of `KANLinear`, whose options it takes, it has
    `series_weight` (out, in, n), at first zero, and the buffer `series_affine` (in, n, 2): a and b.
    """

    kind = "series"
    series_affine: Tensor
    enclosure = KANLinear.enclosure  # which takes all `terms`

    def __init__(
        self, in_features: int, out_features: int, series: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__(in_features, out_features, **options)
        self.series, call = tuple(str(name) for name in series), type(self).__name__
        for name in self.series:
            if find_function(name, call=call).name != name:
                expected, advice = "functions by their own names", "An alias has other phases"
                raise InvalidValueError(call, expected, repr(name), advice)
        if self.series:
            n = len(self.series)
            self.series_weight = nn.Parameter(torch.zeros(out_features, in_features, n))
            affine = torch.tensor([1.0, 0.0]).repeat(in_features, n, 1)
            self.register_buffer("series_affine", affine)

    def terms(self) -> list[Term]:
        """Return the functions beside the splines of every edge: the base and the series."""
        found, weights = super().terms(), self._series_weights()
        for k, g in enumerate(self._functions()):
            a, b = self.series_affine[:, k].unbind(-1)
            found.append(Term(g, a, b, weights[..., k]))
        return found

    def _functions(self) -> list[ElementaryFunction]:
        return [find_function(name) for name in self.series]

    def _series_weights(self) -> Tensor:  # (out, in, n)
        if not self.series:
            return self.base_weight.new_zeros(*self.mask.shape, 0)
        return self.series_weight * self.weights().mask.unsqueeze(-1)

    def series_basis(self, x: Tensor, *, slopes: bool = False) -> Tensor:
        """Return the functions, or their slopes, at x (batch, in), shape (batch, in, n)."""
        if not self.series:
            return x.new_zeros(*x.shape, 0)
        a, b = self.series_affine.unbind(-1)
        u, columns, start = x.unsqueeze(-1) * a + b, [], 0
        for name, group in itertools.groupby(self.series):
            stop, g = start + len(list(group)), find_function(name)
            columns.append((g.derivative if slopes else g.value)(u[..., start:stop]))
            start = stop
        found = torch.cat(columns, dim=-1)
        return found * a if slopes else found

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to y (..., out), as `KANLinear.forward` does."""
        y = super().forward(x)
        if not self.series:
            return y
        basis = self.series_basis(x.reshape(-1, self.in_features))
        total = F.linear(basis.flatten(1), self._series_weights().flatten(1))
        return y + total.reshape(y.shape)

    def edge_values(self, x: Tensor) -> Tensor:
        """Return phi_oi(x_i), shape (batch, out, in), with the mask and without the bias."""
        values = super().edge_values(x)
        if not self.series:
            return values
        return values + _contracted(self.series_basis(x), self._series_weights())

    def edge_derivatives(self, x: Tensor) -> Tensor:
        """Return phi_oi'(x_i), shape (batch, out, in), for x (batch, in)."""
        slopes = super().edge_derivatives(x)
        if not self.series:
            return slopes
        return slopes + _contracted(self.series_basis(x, slopes=True), self._series_weights())

    def activation_l1(self, x: Tensor) -> Tensor:
        """Return the mean of |phi_oi(x_i)| over x (batch, in), shape (out, in)."""
        if not self.series:
            return super().activation_l1(x)
        return mean_absolute(x, self.edge_values, self.series_weight.numel())

    @property
    def piece_degree(self) -> int | None:
        """Degree of the pieces; None as soon as an edge has functions beside its spline."""
        return None if self.series else super().piece_degree

    @property
    def degrees_of_freedom(self) -> int:
        """Number of free coefficients of one edge."""
        return super().degrees_of_freedom + len(self.series)

    def _edge(self, out: int, in_: int) -> EdgeFunction | FunctionEdge:
        found = super()._edge(out, in_)
        if not (self.series and isinstance(found, EdgeFunction)):
            return found
        a, b = self.series_affine[in_].double().cpu().numpy().T
        weights = self._series_weights()[out, in_].double().cpu().numpy()
        series = FunctionSum(functions=tuple(self._functions()), a=a, b=b, weights=weights)
        return dataclasses.replace(found, series=series)

    def weight_l1(self, x: Tensor | None = None) -> Tensor:
        """Return the L1 norm of each edge's weights.

        With a series beside the splines, the mean distance of each edge from its mean at `x`.
        """
        if not self.series:
            return super().weight_l1(x)
        where = self.places() if x is None else x
        check_columns("SeriesLinear.weight_l1", where, self.in_features)
        values = self.edge_values(where)
        return (values - values.mean(0)).abs().mean(0)

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        names = [f"{len(list(group))} {name}" for name, group in itertools.groupby(self.series)]
        return super().extra_repr() + (f", series={' + '.join(names)}" if names else "")


def edge_basis(layer: KANLinear, x: Tensor) -> Tensor:  # (batch, in, n)
    """Return the functions at x (batch, in) that the edges of each input are combinations of.

    B-splines, then the base unless it is zero, then the series.
    """
    columns = [spline.basis(x, layer.grid, layer.spline_order, extrapolation=layer.extrapolation)]
    if layer.base_name != "zero":
        columns.append(layer.base_activation(x)[..., None])
    if isinstance(layer, SeriesLinear):
        columns.append(layer.series_basis(x))
    return torch.cat(columns, dim=2)


def _contracted(basis: Tensor, weights: Tensor) -> Tensor:  # (batch, out, in)
    return torch.einsum("bik,oik->boi", basis, weights)


LAYER_KINDS[SeriesLinear.kind] = SeriesLinear
