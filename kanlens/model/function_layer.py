"""A layer in which some edges are elementary functions and the others stay splines or series."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from kanlens.checks import check_columns
from kanlens.errors import ShapeError
from kanlens.functions.catalog import FUNCTIONS, check_functions
from kanlens.model.edge_sum import Weights, with_kinks
from kanlens.model.enclosures import Enclosure, SplineEnclosure
from kanlens.model.function_edge import FunctionEdge
from kanlens.model.function_enclosures import FunctionEdges, FunctionEnclosure
from kanlens.model.layers import LAYER_KINDS, KANLinear, LayerConfig
from kanlens.model.series_layer import SeriesLinear
from kanlens.model.spline_edge import EdgeFunction

if TYPE_CHECKING:
    from typing_extensions import Self

SPLINE = "spline"
_START = (1.0, 0.0, 1.0, 0.0)  # a, b, c, d

FunctionTable = tuple[tuple[str, ...], ...]


class FunctionLinear(SeriesLinear):
    """A `SeriesLinear` with elementary functions in place of some of its edges.

    The table `functions` (out, in) names each edge's function, or "spline"; options are those of
    `SeriesLinear`. Beside its tensors it has `affine` (out, in, 4): a, b, c, d of
    ``c * g(a * x + b) + d``, of no effect on edges that are splines.
    """

    kind = "function"
    functions: FunctionTable
    spline_mask: Tensor
    function_edges: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        functions: Sequence[Sequence[str]],
        **options: Any,
    ) -> None:
        super().__init__(in_features, out_features, **options)
        self.affine = nn.Parameter(torch.tensor(_START).repeat(out_features, in_features, 1))
        self._set_functions(functions)

    @classmethod
    def from_layer(cls, layer: KANLinear) -> FunctionLinear:
        """Return a layer of this kind that computes what `layer` does, sharing no tensors."""
        if isinstance(layer, cls):
            return copy.deepcopy(layer)
        table = ((SPLINE,) * layer.in_features,) * layer.out_features
        new = cls.from_config(replace(layer.config, kind=cls.kind, functions=table))
        new.to(dtype=layer.mask.dtype, device=layer.mask.device)
        affine = torch.tensor(_START).expand_as(new.affine)
        new.load_state_dict({**layer.state_dict(), "affine": affine})
        new.statistics = layer.statistics
        return new.train(layer.training)

    @property
    def config(self) -> LayerConfig:
        """The configuration that rebuilds this layer, tensors aside."""
        return replace(super().config, functions=self.functions)

    def assign(self, out: int, in_: int, name: str, parameters: Sequence[float]) -> None:
        """Make an edge the function `name` with a, b, c, d, or "spline" again."""
        rows = [list(row) for row in self.functions]
        rows[out][in_] = name
        self._set_functions(rows)
        with torch.no_grad():
            self.affine[out, in_] = torch.as_tensor(parameters, dtype=torch.float64).to(self.affine)

    def _set_functions(self, functions: Sequence[Sequence[str]]) -> None:
        """Check and store the table; list its function edges name by name."""
        table = tuple(tuple(str(name) for name in row) for row in functions)
        lengths = {len(row) for row in table}
        if len(table) != self.out_features or lengths != {self.in_features}:
            expected = f"functions of shape ({self.out_features}, {self.in_features})"
            got = f"{len(table)} rows of {' or '.join(str(n) for n in sorted(lengths)) or '0'}"
            raise ShapeError("FunctionLinear", expected, got, "Name each edge once")
        flat = [(n, o, i) for o, row in enumerate(table) for i, n in enumerate(row)]
        check_functions("FunctionLinear", [name for name, _, _ in flat if name != SPLINE])
        chosen = sorted(edge for edge in flat if edge[0] != SPLINE)
        self.functions = table
        self._names = [name for name, _, _ in chosen]
        edges = torch.tensor([[o, i] for _, o, i in chosen], dtype=torch.long).reshape(-1, 2)
        spline = torch.tensor([[float(name == SPLINE) for name in row] for row in table])
        self.register_buffer("function_edges", edges.to(self.mask.device), persistent=False)
        self.register_buffer("spline_mask", spline.to(self.mask), persistent=False)

    def select(self, out: Sequence[int], in_: Sequence[int]) -> Self:
        """Return a smaller layer that keeps only outputs `out` and inputs `in_`, in that order."""
        small = super().select(out, in_)
        small._set_functions([[self.functions[o][i] for i in in_] for o in out])
        return small

    def weights(self) -> Weights:
        """Return the tensors of the spline edges; the mask is zero where a function stands."""
        return super().weights()._replace(mask=self.mask * self.spline_mask)

    def _function_edges(self) -> Iterator[FunctionEdges]:
        """Yield the edges of every function in use."""
        start = 0
        for name, count in Counter(self._names).items():
            out, in_ = self.function_edges[start : start + count].unbind(1)
            numbers = self.affine[out, in_], self.mask[out, in_]
            yield FunctionEdges(FUNCTIONS[name], out, in_, *numbers)
            start += count

    def _placed(self, found: Tensor, of: Callable[[FunctionEdges], Tensor]) -> Tensor:
        """Put what function edges give into an array (out, in) or (batch, out, in)."""
        rows = [torch.arange(len(found), device=found.device)[:, None]] * (found.dim() - 2)
        for edges in self._function_edges():
            found = found.index_put((*rows, edges.out, edges.in_), of(edges))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to y (..., out), as `KANLinear.forward` does."""
        if any(SPLINE in row for row in self.functions):
            y = super().forward(x)
        else:
            check_columns("FunctionLinear.forward", x, self.in_features, self.mask.dtype)
            y = self.bias.expand(*x.shape[:-1], self.out_features)
        flat = x.reshape(-1, self.in_features)
        total = torch.zeros_like(y).reshape(-1, self.out_features)
        for edges in self._function_edges():
            total = total.index_add(1, edges.out, edges.at(flat[:, edges.in_]))
        return y + total.reshape(y.shape)

    def edge_values(self, x: Tensor) -> Tensor:
        """Return phi_oi(x_i), shape (batch, out, in), with the mask and without the bias."""
        return self._placed(super().edge_values(x), lambda edges: edges.at(x[:, edges.in_]))

    def activation_l1(self, x: Tensor) -> Tensor:
        """Return the mean of |phi_oi(x_i)| over x (batch, in), shape (out, in)."""
        return self._placed(
            super().activation_l1(x), lambda edges: edges.at(x[:, edges.in_]).abs().mean(0)
        )

    def edge_derivatives(self, x: Tensor) -> Tensor:
        """Return phi_oi'(x_i), shape (batch, out, in), for x (batch, in)."""
        slopes = super().edge_derivatives(x)
        return self._placed(slopes, lambda edges: edges.slopes_at(x[:, edges.in_]))

    def affine_derivatives(self, x: Tensor) -> Tensor:
        """Return derivatives by a, b, c, d at x, zero for splines: (batch, out, in, 4)."""
        found = x.new_zeros(len(x), self.out_features, self.in_features, 4)
        for edges in self._function_edges():
            at = x[:, edges.in_]
            u, c = edges.inner(at), edges.affine[:, 2]
            slope, value = c * edges.g.derivative(u), edges.g.value(u)
            columns = torch.stack((slope * at, slope, value, torch.ones_like(u)), dim=-1)
            found[:, edges.out, edges.in_] = columns * edges.mask.unsqueeze(-1)
        return found

    def breakpoints(self) -> Tensor:
        """Return where pieces meet (in, n), the kinks of functions among them."""
        return with_kinks(super().breakpoints(), self._kinks())

    def _kinks(self) -> Iterator[tuple[int, float]]:
        """Yield inputs and places where functions are not smooth."""
        for edges in self._function_edges():
            a, b, _, _ = edges.affine.detach().unbind(-1)
            for kink in (*edges.g.kinks, *edges.g.jumps):
                for i, place in zip(edges.in_.tolist(), ((kink - b) / a).tolist(), strict=True):
                    if math.isfinite(place):  # a constant edge has none
                        yield i, place

    @property
    def piece_degree(self) -> int | None:
        """Degree of the pieces; None as soon as one edge is a function."""
        return None if self._names else super().piece_degree

    def edge_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound every edge on an interval of each input, as `KANLinear.edge_bounds` does.

        Functions are monotone between known turning points, so their bounds are exact up to
        rounding, which they are widened by; infinite where a function is not defined throughout.
        """
        lower, upper = super().edge_bounds(low, high)
        if low.dim() == 2:
            return lower, upper
        for edges in self._function_edges():
            least, most = edges.value_bounds(low[edges.in_], high[edges.in_])
            lower = lower.index_put((edges.out, edges.in_), least)
            upper = upper.index_put((edges.out, edges.in_), most)
        return lower, upper

    def enclosure(self, low: Tensor, high: Tensor) -> Enclosure:
        """Return what bounds the edges, and their slopes, on many boxes at once."""
        splines = cast("SplineEnclosure", super().enclosure(low, high))
        exact = [
            replace(edges, affine=edges.affine.detach().double(), mask=edges.mask.double())
            for edges in self._function_edges()
        ]
        return FunctionEnclosure(splines, exact)

    def _edge(self, out: int, in_: int) -> EdgeFunction | FunctionEdge:
        name = self.functions[out][in_]
        if name == SPLINE:
            return super()._edge(out, in_)
        low, high = (float(ends[in_]) for ends in self.domain())
        a, b, c, d = self.affine[out, in_].tolist()
        mask = float(self.mask[out, in_])
        return FunctionEdge(function=name, a=a, b=b, c=c * mask, d=d * mask, domain=(low, high))

    def weight_l1(self, x: Tensor | None = None) -> Tensor:
        """Return the L1 norm of each edge's weights.

        A function has no coefficients; its norm is the mean distance from its mean at `x`.
        """
        where = self.places() if x is None else x

        def size(edges: FunctionEdges) -> Tensor:
            values = edges.at(where[:, edges.in_])
            return (values - values.mean(0)).abs().mean(0)

        return self._placed(super().weight_l1(x), size)

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        count = len(self._names)
        edges = self.in_features * self.out_features
        return f"{super().extra_repr()}, functions={count} of {edges} edges"


LAYER_KINDS[FunctionLinear.kind] = FunctionLinear
