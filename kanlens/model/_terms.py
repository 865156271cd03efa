"""Elementary functions of a layer: terms added to all edges, or functions in place of edges.

An `EdgeTerm` is evaluated on its edges only: its function may not be defined elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kanlens.errors import InvalidValueError, ShapeError
from kanlens.functions._catalog import check_functions, find_function
from kanlens.functions._elementary import ElementaryFunction

SPLINE = "spline"
START = (1.0, 0.0, 1.0, 0.0)  # a, b, c, d

FunctionTable = tuple[tuple[str, ...], ...]  # (out, in): the function of each edge, or "spline"


class Term(NamedTuple):
    """One function that all edges of a layer share: ``weight_oi * g(a_i * x_i + b_i)``."""

    g: ElementaryFunction
    a: Tensor  # (in,)
    b: Tensor  # (in,)
    weight: Tensor  # (out, in), mask multiplied in

    def double(self) -> Term:
        """Return a detached copy in float64."""
        return Term(self.g, *(tensor.detach().double() for tensor in self[1:]))

    def inner(self, low: Tensor, high: Tensor, *, pieces: bool = False) -> tuple[Tensor, Tensor]:
        """Return the ends of a * x + b on intervals (..., in), or (..., in, piece), increasing."""
        a, b = (self.a[:, None], self.b[:, None]) if pieces else (self.a, self.b)
        ends = torch.where(a == 0, b, a * low + b), torch.where(a == 0, b, a * high + b)
        return torch.minimum(*ends), torch.maximum(*ends)

    def blur(self, low: Tensor, high: Tensor) -> Tensor:
        """Bound the error of g' due to rounding of its argument a * x + b on intervals of it."""
        if bool((self.a == 1).all() and (self.b == 0).all()):
            return torch.zeros_like(low)
        reach = torch.maximum(low.abs(), high.abs()) + self.b.abs().max()
        slope, bend = (torch.stack(self.g.extremes(low, high, n)).abs().amax(0) for n in (1, 2))
        return 1e-15 * (slope + torch.where(bend == 0, 0.0, reach * bend))

    def nth(self, x: Tensor, order: int) -> Tensor:  # (point, in)
        """Return a derivative of the function at x (point, in), without the weight."""
        inner = (self.a * x + self.b).cpu().numpy()
        return self.a**order * torch.as_tensor(self.g.nth(inner, order)).to(x)

    def places(self, points: Sequence[float], i: int) -> list[float]:
        """Return the x of input `i` at which a * x + b equals each of the points."""
        a, b = float(self.a[i]), float(self.b[i])
        return [(point - b) / a for point in points]

    def kinks(self) -> Iterator[tuple[int, float]]:
        """Yield pairs (input, x) where a function with nonzero weight is not smooth."""
        points = (*self.g.kinks, *self.g.jumps)
        active = (self.weight != 0).any(0) & (self.a != 0) if points else self.a[:0]
        for i in active.nonzero()[:, 0].tolist():
            yield from ((i, place) for place in self.places(points, i))


@dataclass(frozen=True, eq=False)
class EdgeTerm:
    """The edges of a layer that share one function: mask * (c * g(a * x + b) + d)."""

    g: ElementaryFunction
    out: Tensor  # (edge,)
    in_: Tensor  # (edge,)
    affine: Tensor  # (edge, 4): a, b, c, d
    mask: Tensor  # (edge,)

    def double(self) -> EdgeTerm:
        """Return a detached copy in float64."""
        numbers = self.affine.detach().double(), self.mask.detach().double()
        return EdgeTerm(self.g, self.out, self.in_, *numbers)

    def parameters(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return a, b, c, d and the mask, to be combined with (..., edge) or (box, edge, piece)."""
        columns = (*self.affine.unbind(-1), self.mask)
        return tuple(column[:, None] if like.dim() == 3 else column for column in columns)

    def inner(self, x: Tensor) -> Tensor:
        """Return a * x + b; for masked edges, a point where g is smooth."""
        a, b, _, _, mask = self.parameters(x)
        return torch.where(mask != 0, a * x + b, self.g.inert)

    def nth(self, x: Tensor, order: int = 0) -> Tensor:
        """Return values or slopes of the edges at x (..., edge) or (box, edge, piece)."""
        a, _, c, d, mask = self.parameters(x)
        u = self.inner(x)
        return (a * c * self.g.derivative(u) if order else c * self.g.value(u) + d) * mask

    def bounds(self, low: Tensor, high: Tensor, order: int = 0) -> tuple[Tensor, Tensor]:
        """Bound values or slopes of the edges on intervals; infinite where no bound is known."""
        a, _, c, d, mask = self.parameters(low)
        factor, shift = (c * a, torch.zeros_like(d)) if order else (c, d)
        ends = torch.stack([times(factor, end) for end in self._widened(low, high, order)])
        room = 8 * torch.finfo(c.dtype).eps * (ends.abs() + shift.abs())
        room = room.masked_fill(room.isinf(), 0.0)
        sides = (ends + shift - room).amin(0), (ends + shift + room).amax(0)
        edge = times(mask, torch.stack(sides))
        return edge.amin(0), edge.amax(0)

    def _widened(self, low: Tensor, high: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Bound g or g' on intervals widened by rounding, if g is defined there."""
        a, b, _, _, mask = self.parameters(low)
        ends = torch.stack((a * low, a * high))
        slack = 4 * torch.finfo(a.dtype).eps * (ends.abs() + b.abs())
        wide = (ends + b - slack).amin(0), (ends + b + slack).amax(0)
        sides = ends.amin(0) + b, ends.amax(0) + b, *wide
        left, right, below, above = (torch.where(mask != 0, end, self.g.inert) for end in sides)
        tight = self.g.defined(left, right) & ~self.g.defined(below, above)
        inner = torch.where(tight, left, below), torch.where(tight, right, above)
        lower, upper = self.g.extremes(*inner, n)
        return lower.to(a), upper.to(a)

    def kinks(self) -> Iterator[tuple[int, float]]:
        """Yield pairs (input, x) where the function is not smooth."""
        a, b, _, _ = self.affine.detach().unbind(-1)
        for kink in (*self.g.kinks, *self.g.jumps):
            for i, place in zip(self.in_.tolist(), ((kink - b) / a).tolist(), strict=True):
                if math.isfinite(place):  # a constant edge has no kink
                    yield i, place


def times(factor: Tensor, value: Tensor) -> Tensor:
    """Multiply; a factor of 0 gives 0 also where the value is infinite."""
    return torch.where(factor == 0, 0.0, factor * value)


def with_kinks(grid: Tensor, terms: Iterable[Term | EdgeTerm]) -> Tensor:
    """Return a grid (in, knot) with the kinks of terms; rows are padded by their last knot."""
    places: list[list[float]] = [[] for _ in grid]
    for term in terms:
        for i, place in term.kinks():
            places[i].append(place)
    width, last = max(map(len, places)), grid[:, -1].tolist()
    rows = [[*row, *([end] * (width - len(row)))] for row, end in zip(places, last, strict=True)]
    extra = torch.tensor(rows, dtype=torch.float64).reshape(len(grid), width).to(grid)
    return torch.cat((grid, extra), dim=1).sort(dim=1).values if width else grid


def placed(array: Tensor, terms: Iterable[EdgeTerm], of: Callable[[EdgeTerm], Tensor]) -> Tensor:
    """Scatter values of the edges of terms into an array (out, in) or (batch, out, in)."""
    rows = [torch.arange(len(array), device=array.device)[:, None]] * (array.dim() - 2)
    for term in terms:
        array = array.index_put((*rows, term.out, term.in_), of(term))
    return array


def check_series(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a series; refuse aliases, which may differ in phase or scale."""
    series = tuple(str(name) for name in names)
    for name in series:
        if find_function(name, call="KANLinear").name != name:
            expected, advice = "names of functions, not aliases", "For example, 'sin' for 'cos'"
            raise InvalidValueError("KANLinear", expected, repr(name), advice)
    return series


def check_table(functions: Sequence[Sequence[str]], n_out: int, n_in: int) -> FunctionTable:
    """Return the table of each edge's function name; refuse other shapes and unknown names."""
    table = tuple(tuple(str(name) for name in row) for row in functions)
    lengths = {len(row) for row in table}
    if len(table) != n_out or lengths != {n_in}:
        expected = f"functions of shape ({n_out}, {n_in})"
        got = f"{len(table)} rows of {' or '.join(str(n) for n in sorted(lengths)) or '0'}"
        raise ShapeError("KANLinear", expected, got, "Name one function per edge")
    check_functions("KANLinear", [name for row in table for name in row if name != SPLINE])
    return table
