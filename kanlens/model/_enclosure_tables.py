"""Edges of a layer as polynomials on pieces: their control points, and bounds on the errors.

Control points of several edges of one input can be added before their hull is taken.

Functions other than splines are replaced by the polynomial through their values at Chebyshev nodes,
whose error the sixth derivative bounds; intervals on which an argument varies by more than 0.75 are
cut, so that errors stay near 1e-9 of a weight.

Rounding is below 1e-13 of the sum of the absolute values of the terms; margins are `PAD` =
1e-12 of it. Bounds of a slope keep the sign of its B-spline coefficients, exact differences of
stored numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanlens.functions._catalog import BASES
from kanlens.functions._elementary import ElementaryFunction
from kanlens.model._terms import Term
from kanlens.splines import _spline as spline

if TYPE_CHECKING:
    from kanlens.model._layer_enclosures import Enclosure

PAD = 1e-12
MAX_PIECE_WIDTH = 0.75  # width in u = a * x + b of a piece where g(u) is curved
SETTLED = 32.0  # distance from 0 beyond which bases are straight
MAX_PARTS = 1024  # most parts into which a piece is cut
STRAIGHT = 2e-12  # error of a polynomial there: bases differ from lines by 33 exp(-32) at most
VALUE, SLOPE = 6, 5  # numbers of coefficients, of values and of slopes: degrees are at most 5


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlPoints:
    """Every edge of a layer on boxes of its inputs, piece by piece.

    On a piece, an edge is the polynomial with these Bernstein control points, plus a number between
    `below` and `above`; `lower` and `upper` are further bounds on the box.
    """

    points: Tensor  # (box, out, in, piece, point)
    below: Tensor  # (box, out, in, piece)
    above: Tensor  # (box, out, in, piece)
    start: Tensor  # (box, in, piece)
    end: Tensor  # (box, in, piece)
    lower: Tensor  # (box, out, in)
    upper: Tensor  # (box, out, in)

    def bounds(self) -> tuple[Tensor, Tensor]:  # (box, out, in) twice
        """Bound every edge on its box by the hull of its control points."""
        low = (self.points.amin(-1) + self.below).amin(-1)
        high = (self.points.amax(-1) + self.above).amax(-1)
        return torch.maximum(low, self.lower), torch.minimum(high, self.upper)


@functools.cache
def chebyshev(count: int) -> Tensor:  # (count,)
    """Return the Chebyshev nodes in (-1, 1), where polynomials are sampled."""
    places = torch.arange(count, dtype=torch.float64)
    return torch.cos((2 * places + 1) * math.pi / (2 * count))


@functools.cache
def from_nodes(count: int) -> Tensor:  # (power, node)
    """Return the matrix from values at the Chebyshev nodes to coefficients of powers."""
    powers = torch.arange(count, dtype=torch.float64)
    inverse: Tensor = torch.linalg.inv(chebyshev(count)[:, None] ** powers)
    return inverse


@functools.cache
def to_bernstein(count: int) -> Tensor:  # (point, power)
    """Return the matrix from coefficients of powers on [-1, 1] to Bernstein control points."""
    degree = count - 1
    rows = [[0.0] * count for _ in range(count)]
    for power in range(count):  # s**power with s = 2 t - 1, in powers of t, then to Bernstein
        for k in range(power + 1):
            term = math.comb(power, k) * 2.0**k * (-1.0) ** (power - k)
            for point in range(k, count):
                rows[point][power] += term * math.comb(point, k) / math.comb(degree, k)
    return torch.tensor(rows, dtype=torch.float64)


def restrict(middle: Tensor, half: Tensor, count: int) -> Tensor:  # (..., point, power)
    """Return the matrices from `count` coefficients on [-1, 1] to control points on subintervals.

    Subintervals are given by their middles and half their widths, of shape (...).
    """
    exponents = torch.arange(count, dtype=torch.float64, device=middle.device)
    shifts = middle[..., None] ** exponents  # 0**0 is 1
    widths = half[..., None] ** exponents
    shifted = middle.new_zeros(*middle.shape, count, count)  # (..., new power, old power)
    for new in range(count):
        for old in range(new, count):
            shifted[..., new, old] = math.comb(old, new) * shifts[..., old - new] * widths[..., new]
    return to_bernstein(count).to(middle) @ shifted


@dataclass(frozen=True, eq=False)
class PieceTable:
    """Polynomials of every edge on every piece, in s from -1 to 1 on the piece."""

    cuts: Tensor  # (in, piece + 1)
    powers: Tensor  # (out, in, piece, power)
    margin: Tensor  # (out, in, piece): bounds on their errors


def slope_range(base: ElementaryFunction, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bound the derivative of a base function on intervals, including rounding."""
    lower, upper = base.extremes(low, high, 1)
    near = torch.zeros_like(lower, dtype=torch.bool)  # where terms cancel
    for zero in base.zeros_of_derivative(1):
        near |= (low <= zero + 0.1) & (high >= zero - 0.1)
    room = 4e-16 * near
    return lower - 1e-15 * lower.abs() - room, upper + 1e-15 * upper.abs() + room


def cuts_of(own: Enclosure) -> Tensor:  # (in, cut)
    """Return the ends of pieces: knots, kinks, and cuts where functions are curved."""
    knots = own.knots if own.mode == "zero" else spline.breakpoints(own.knots, own.degree)
    rows = []
    inputs = zip(knots.cpu().numpy(), own.low.tolist(), own.high.tolist(), strict=True)
    for i, (row, low, high) in enumerate(inputs):
        active = [term for term in own.terms if term.weight[:, i].any() and term.a[i] != 0]
        curved = [term for term in active if term.g.line is None]
        kinks = [x for term in curved for x in term.places((*term.g.kinks, *term.g.jumps), i)]
        after = _outward(float(row[-1]), high, bool(curved))
        before = [-end for end in _outward(-float(row[0]), -low, bool(curved))]
        ends = [*before, *row.tolist(), *after]
        cuts = sorted({*ends, *(kink for kink in kinks if min(ends) < kink < max(ends))})
        rows.append(_refined(cuts, curved, i) if curved else cuts)
    longest = max(len(row) for row in rows)
    padded = [row + [row[-1]] * (longest - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.float64, device=own.knots.device)


def _outward(start: float, end: float, curved: bool) -> list[float]:
    """Return cuts from an end of the grid to beyond `end`."""
    cuts, at = [], start
    while at <= end:
        at = at + 1.0 + abs(at) if curved else end + 1.0
        cuts.append(at)
    return cuts


def _refined(cuts: list[float], curved: list[Term], i: int) -> list[float]:
    """Cut pieces that are too wide to approximate the functions of input i by a polynomial."""
    width = MAX_PIECE_WIDTH / max(float(term.a[i].abs()) for term in curved)
    ends = [end for term in curved for end in term.places((-settled(term.g), settled(term.g)), i)]
    first, last = min(ends), max(ends)
    refined = cuts[:1]
    for left, right in itertools.pairwise(cuts):
        near = min(max(left, first), right), max(min(right, last), left)
        parts = min(max(1, math.ceil((near[1] - near[0]) / width - 1e-9)), MAX_PARTS)
        inner = [near[0] + (near[1] - near[0]) * k / parts for k in range(parts + 1)]
        refined += [cut for cut in inner if left < cut < right] + [right]
    return refined


@functools.cache
def settled(g: ElementaryFunction) -> float:
    """Return the distance from 0 beyond which the sixth derivative is negligible."""
    for far in (4.0, 8.0, 16.0):
        left, right = torch.tensor([[-40.0, far], [-far, 40.0]], dtype=torch.float64)
        if float(torch.stack(g.extremes(left, right, VALUE)).abs().max()) <= 1e-12:
            return far
    return SETTLED if g.period is None else math.inf


def table_of(own: Enclosure, cuts: Tensor, derivative: int) -> PieceTable:
    """Return polynomials that approximate the edges, or their slopes, between the cuts."""
    count = SLOPE if derivative else VALUE
    nodes = chebyshev(count).to(cuts)
    middle, half = 0.5 * (cuts[:, 1:] + cuts[:, :-1]), 0.5 * cuts.diff(dim=1)
    places = (middle[..., None] + half[..., None] * nodes).flatten(1).mT  # (point, in)
    values = spline.evaluate(
        places, own.coef, own.knots, own.degree, derivative=derivative, extrapolation=own.mode
    )
    for term in own.terms:
        values = values + term.nth(places, derivative)[:, None] * term.weight
    shaped = values.permute(1, 2, 0).reshape(*own.dead.shape, -1, count)
    powers = shaped @ from_nodes(count).to(cuts).mT
    sizes = powers.abs()
    size = sizes.sum(-1) + shaped.abs().amax(-1) + _terms(own, derivative)[..., None]
    moved = cuts.abs()[:, 1:].maximum(cuts.abs()[:, :-1]) / half.clamp_min(1e-300)
    bend = (sizes * torch.arange(count).to(cuts)).sum(-1)
    margin = PAD * size + (1e-14 * moved).masked_fill(half == 0, 0.0) * bend
    for term in own.terms:
        margin = margin + term.weight.abs()[..., None] * _error(term, cuts, count)
    return PieceTable(cuts, powers, margin)


def _terms(own: Enclosure, derivative: int) -> Tensor:  # (out, in)
    """Estimate the sum of the absolute values of the terms of each edge, or of its slope."""
    size = own.coef.abs().amax(-1)
    if derivative:
        narrowest = (own.knots[:, own.degree :] - own.knots[:, : -own.degree]).amin(1)
        size = 2 * own.degree * size / narrowest
    for term in own.terms:
        size = size + term.weight.abs() * term.a.abs() ** derivative
    return size


def _error(term: Term, cuts: Tensor, count: int) -> Tensor:  # (in, piece)
    """Bound the error of the polynomial through a function's, or its slope's, values at nodes.

    The sixth derivative bounds both: it is the fifth derivative of the slope. The polynomial
    through six nodes differs from a function by at most 4 times its largest value.
    """
    left, right = term.inner(cuts[:, :-1], cuts[:, 1:], pieces=True)
    half = 0.5 * (right - left)
    bend = torch.stack(term.g.extremes(left, right, VALUE)).abs().amax(0)
    error = (bend * 1.000001 + 1e-14) * half**count / math.factorial(count) / 2 ** (count - 1)
    settles = term.g.closed_form is not None and term.g.period is None  # built in and aperiodic
    if settles and any(term.g is base for base in BASES.values()):
        straight = (torch.minimum(left.abs(), right.abs()) >= SETTLED) & (left * right > 0)
        error = torch.where(straight, error.clamp(max=STRAIGHT), error)
    largest = torch.stack(term.g.extremes(left, right, VALUE - count)).abs().amax(0)
    error = torch.minimum(error, 4 * largest + 1e-14)
    return error * term.a.abs()[:, None] ** (VALUE - count)


def slope_hulls(own: Enclosure, cuts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and greatest B-spline coefficients of slopes on pieces, (out, in, piece)."""
    knots, k = own.knots, own.degree
    zero = torch.zeros_like(own.coef[..., :1])
    rises = torch.cat([zero, own.coef, zero], -1).diff(dim=-1)
    steps = k * rises / (knots[:, k:] - knots[:, :-k])  # (out, in, basis + 1)
    padded = torch.nn.functional.pad(steps, (k, k))
    windows = padded.unfold(-1, k, 1)  # window j + 1 acts on the interval from knot j
    least, most = windows.amin(-1), windows.amax(-1)
    middle = 0.5 * (cuts[:, 1:] + cuts[:, :-1])
    interval = torch.searchsorted(knots.contiguous(), middle.contiguous(), right=True) - 1
    if own.mode == "linear":
        interval = interval.clamp(k, knots.shape[1] - k - 2)
    index = (interval + 1).clamp(0, least.shape[-1] - 1).expand(len(least), -1, -1)
    low, high = least.gather(-1, index), most.gather(-1, index)
    return low - 1e-15 * low.abs(), high + 1e-15 * high.abs()
