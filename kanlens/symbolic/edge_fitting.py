"""Fit every family to every edge at once by variable projection.

For given a and b the best c and d of ``c * g(a * u + b) + d`` are a least-squares solution, so
only a and b are searched [1]_. First a scan: the starting points are the same for every edge,
so one matrix product per family scores all of them on all edges. Then the best starts are
polished together by Levenberg-Marquardt on the projected residual with Kaufman's Jacobian [2]_.

References
----------
.. [1] G. H. Golub, V. Pereyra, The differentiation of pseudo-inverses and nonlinear least
   squares problems whose variables separate, SIAM J. Numer. Anal. 10, 1973.
.. [2] L. Kaufman, A variable projection method for solving separable nonlinear least squares
   problems, BIT 15, 1975.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kanlens.symbolic.library import Family, constrain
from kanlens.threads import one_thread

_STARTS_KEPT = 3
_FIRST_STEPS = 6  # with all kept starts
_LAST_STEPS = 24  # with the best one
_HOPELESS = 0.5  # a best start with less R2 is not polished
_CHUNK = 64  # edges at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeSamples:
    """Points of the edges that functions are fitted to.

    Attributes
    ----------
    x, y : Tensor, shape (edge, sample)
        float64; inputs and values of each edge, in its own units.
    low, high : Tensor, shape (edge,)
        Range of the inputs.
    uniform : int
        The first so many samples of every edge are equally spaced from `low` to `high`.
    """

    x: Tensor
    y: Tensor
    low: Tensor
    high: Tensor
    uniform: int


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeFits:
    """The best fit of every family to every edge.

    Attributes
    ----------
    families : tuple of Family
        The families, in the order of the second axis below.
    parameters : Tensor, shape (edge, family, 4)
        a, b, c, d of ``c * g(a * x + b) + d``, canonical, in the units of the edge.
    r2 : Tensor, shape (edge, family)
        One minus the residual over the variance of the edge.
    sse : Tensor, shape (edge, family)
        Sum of squared residuals over the samples, in the units of the edge squared.
    mean, spread : Tensor, shape (edge,)
        Mean and standard deviation of the edge over its samples.
    constant : Tensor of bool, shape (edge,)
        Edges that do not vary beyond rounding, or whose input does not.
    """

    families: tuple[Family, ...]
    parameters: Tensor
    r2: Tensor
    sse: Tensor
    mean: Tensor
    spread: Tensor
    constant: Tensor


def fit_edges(samples: EdgeSamples, families: Sequence[Family]) -> EdgeFits:
    """Fit each family to each edge.

    Parameters
    ----------
    samples : EdgeSamples
        Points of all edges.
    families : sequence of Family
        What to fit.

    Returns
    -------
    EdgeFits

    Examples
    --------
    >>> from kanlens.symbolic.library import library
    >>> x = torch.linspace(0.0, 3.0, 64, dtype=torch.float64)[None]
    >>> ends = (torch.zeros(1).double(), 3 * torch.ones(1).double())
    >>> points = EdgeSamples(x=x, y=2 * torch.exp(x), low=ends[0], high=ends[1], uniform=64)
    >>> fits = fit_edges(points, library(["exp"]))
    >>> fits.r2[0].round(decimals=3).tolist()
    [0.873, 1.0]
    """
    middle, half = (samples.low + samples.high) / 2, (samples.high - samples.low) / 2
    mean, spread = samples.y.mean(1), samples.y.std(1, unbiased=False)
    constant = (spread <= 1e-12 * (1e-300 + samples.y.abs().amax(1))) | (half <= 0)
    half, scale = torch.where(half > 0, half, 1.0), torch.where(constant, 1.0, spread)
    x = (samples.x - middle[:, None]) / half[:, None]
    y = (samples.y - mean[:, None]) / scale[:, None]
    chunks = zip(x.split(_CHUNK), y.split(_CHUNK), strict=True)
    with one_thread():
        found = [_fit_scaled(families, xs, ys, samples.uniform) for xs, ys in chunks]
    fitted = torch.cat(found)  # (edge, family, 5): a, b, c, d, sse
    parameters = _own_units(fitted[..., :4], middle, half, mean, scale)
    canonical = [family.canonical(parameters[:, f]) for f, family in enumerate(families)]
    sse = fitted[..., 4]
    r2 = torch.where(
        constant[:, None], 0.0, 1 - sse / y.square().sum(1, keepdim=True).clamp(1e-300)
    )
    return EdgeFits(
        families=tuple(families),
        parameters=torch.stack(canonical, dim=1),
        r2=r2,
        sse=sse * scale[:, None] ** 2,
        mean=mean,
        spread=spread,
        constant=constant,
    )


def _own_units(fitted: Tensor, middle: Tensor, half: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Undo the scaling of x and y in parameters of shape (edge, family, 4)."""
    a, b, c, d = fitted.unbind(-1)
    a = a / half[:, None]
    b = b - a * middle[:, None]
    return torch.stack((a, b, c * scale[:, None], mean[:, None] + d * scale[:, None]), dim=-1)


def _fit_scaled(families: Sequence[Family], x: Tensor, y: Tensor, uniform: int) -> Tensor:
    """Return a, b, c, d and the residual of every family on scaled edges, (edge, family, 5)."""
    scans = [_scan(family, y[:, :uniform]) for family in families]
    edges = len(y)
    starts = [_Fits.of_scan(f, *scan) for f, scan in enumerate(scans)]
    tries = _polish(families, x, y, _Fits.join(starts), _FIRST_STEPS)
    polished = _polish(families, x, y, tries.best_of_each(edges), _LAST_STEPS)
    a = torch.stack([scan[0][:, 0] for scan in scans], dim=1)  # (edge, family)
    b = torch.stack([scan[1][:, 0] for scan in scans], dim=1)
    a[polished.edge, polished.family] = polished.a
    b[polished.edge, polished.family] = polished.b
    every = _Fits.all_of(a, b)
    state = _Projection(families, x[every.edge], y[every.edge], every)
    columns = torch.stack((every.a, every.b, state.c, state.offset, state.sse), dim=1)
    return columns.reshape(len(families), edges, 5).transpose(0, 1)


@lru_cache(maxsize=128)
def _scan_basis(family: Family, uniform: int) -> Tensor:
    """Return unit vectors whose projections score the starts, (column, start, sample).

    The sine has two columns per start, so that its phase needs no search.
    """
    x = torch.linspace(-1.0, 1.0, uniform, dtype=torch.float64)
    a, b = family.flat_starts
    u = a[:, None] * x + b[:, None]  # (start, sample)
    columns = [torch.sin(u), torch.cos(u)] if family.name == "sin" else [family.function.value(u)]
    basis: list[Tensor] = []
    for column in columns:
        rest = column - column.mean(1, keepdim=True)
        for other in basis:
            rest = rest - (rest * other).sum(1, keepdim=True) * other
        size = rest.norm(dim=1, keepdim=True)
        basis.append(torch.where(size > 1e-12, rest / size, 0.0))
    return torch.stack(basis)


def _scan(family: Family, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a, b and R2 of the best separate starts of each edge, each (edge, kept)."""
    centered = y - y.mean(1, keepdim=True)
    basis = _scan_basis(family, y.shape[1])
    shares = torch.matmul(centered, basis.transpose(1, 2))  # (column, edge, start)
    gain = shares.square().sum(0) / centered.square().sum(1, keepdim=True).clamp(min=1e-300)
    rows, columns, _ = family.starts.shape
    table = gain.reshape(-1, rows, columns)
    peaks = _peaks(table).reshape(len(y), -1)
    kept = min(_STARTS_KEPT, rows * columns)
    best = torch.where(peaks, gain, gain - 2.0).topk(kept, dim=1).indices
    a, b = (values[best] for values in family.flat_starts)
    if family.name == "sin":
        b = _phase(centered, a)
    return a.clone(), b.clone(), gain.gather(1, best)


def _peaks(table: Tensor) -> Tensor:
    """Mark the entries of each (row, column) table that no direct neighbour exceeds."""
    padded = torch.nn.functional.pad(table, (1, 1, 1, 1), value=-1.0)
    inner = padded[:, 1:-1, 1:-1]
    beside = torch.maximum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    above = torch.maximum(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1])
    return inner >= torch.maximum(beside, above)


def _phase(y: Tensor, frequency: Tensor) -> Tensor:
    """Return the best phase of a sine of each frequency, both (edge, kept)."""
    x = torch.linspace(-1.0, 1.0, y.shape[1], dtype=y.dtype)
    u = frequency[..., None] * x
    columns = torch.stack((torch.sin(u), torch.cos(u)), dim=-1)  # (edge, kept, sample, 2)
    columns = columns - columns.mean(2, keepdim=True)
    gram = columns.transpose(2, 3) @ columns + 1e-12 * torch.eye(2, dtype=y.dtype)
    right = columns.transpose(2, 3) @ y[:, None, :, None]
    solution = torch.linalg.solve(gram, right)[..., 0]
    return torch.atan2(solution[..., 1], solution[..., 0])


@dataclass(frozen=True, eq=False)
class _Fits:
    """Parameters of many fits, ordered by family; every attribute has shape (fit,)."""

    family: Tensor
    edge: Tensor
    a: Tensor
    b: Tensor
    sse: Tensor

    @classmethod
    def of_scan(cls, family: int, a: Tensor, b: Tensor, gain: Tensor) -> _Fits:
        """Take the starts (edge, kept) of the edges on which the best one is no lost case."""
        rows = (gain[:, 0] > _HOPELESS).nonzero()[:, 0]
        edge = rows.repeat_interleave(a.shape[1])
        number = torch.full_like(edge, family)
        a, b = a[rows].reshape(-1), b[rows].reshape(-1)
        return cls(number, edge, a, b, torch.full_like(a, float("inf")))

    @classmethod
    def all_of(cls, a: Tensor, b: Tensor) -> _Fits:
        """Take one fit per family and edge from tables (edge, family)."""
        edges, families = a.shape
        family = torch.arange(families).repeat_interleave(edges)
        edge = torch.arange(edges).repeat(families)
        a, b = a.T.reshape(-1), b.T.reshape(-1)
        return cls(family, edge, a, b, torch.full_like(a, float("inf")))

    @classmethod
    def join(cls, parts: Sequence[_Fits]) -> _Fits:
        """Put fits one after the other; the parts are in the order of their families."""
        names = ("family", "edge", "a", "b", "sse")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def pick(self, index: Tensor) -> _Fits:
        """Keep the fits at `index`."""
        return _Fits(*(t[index] for t in (self.family, self.edge, self.a, self.b, self.sse)))

    def improved(self, other: _Fits, better: Tensor) -> _Fits:
        """Take the parameters of `other` where they are better."""
        names = ("a", "b", "sse")
        pairs = {n: torch.where(better, getattr(other, n), getattr(self, n)) for n in names}
        return dataclasses.replace(self, **pairs)

    def best_of_each(self, edges: int) -> _Fits:
        """Keep the best fit of every pair of family and edge."""
        by_sse = self.sse.argsort(stable=True)
        key = (self.family * edges + self.edge)[by_sse]
        order = key.argsort(stable=True)
        first = torch.ones(len(key), dtype=torch.bool)
        first[1:] = key[order][1:] != key[order][:-1]
        return self.pick(by_sse[order[first]])


class _Projection:
    """The least-squares c and d of many fits, with the residual and its size."""

    def __init__(self, families: Sequence[Family], x: Tensor, y: Tensor, fits: _Fits) -> None:
        self.u = torch.addcmul(fits.b[:, None], fits.a[:, None], x)  # (fit, sample)
        self.counts = torch.bincount(fits.family, minlength=len(families)).tolist()
        parts = zip(families, self.u.split(self.counts), strict=True)
        value = torch.cat([family.function.value(u) for family, u in parts if len(u)])
        mean, y_mean = value.mean(1, keepdim=True), y.mean(1, keepdim=True)
        self.centered = value - mean
        self.size = self.centered.square().sum(1).clamp(min=1e-30)
        target = y - y_mean
        self.c = (self.centered * target).sum(1) / self.size
        self.residual = torch.addcmul(target, self.c[:, None], self.centered, value=-1.0)
        self.sse = torch.nan_to_num(self.residual.square().sum(1), nan=float("inf"))
        self.offset = y_mean[:, 0] - self.c * mean[:, 0]

    def step(self, families: Sequence[Family], x: Tensor, rules: Tensor, damping: Tensor) -> Tensor:
        """Return the damped step of a and b, (2, fit)."""
        parts = zip(families, self.u.split(self.counts), strict=True)
        slope = torch.cat([family.function.derivative(u) for family, u in parts if len(u)])
        slope = torch.nan_to_num(slope, nan=0.0, posinf=1e6, neginf=-1e6) * self.c[:, None]
        one = self._project(slope * x) * rules[0][:, None]
        two = self._project(slope) * rules[1][:, None]
        p, q, s = one.square().sum(1), (one * two).sum(1), two.square().sum(1)
        p, s = p * (1 + damping) + 1e-30, s * (1 + damping) + 1e-30
        left, right = (one * self.residual).sum(1), (two * self.residual).sum(1)
        determinant = (p * s - q * q).clamp(min=1e-60)
        return torch.stack((s * left - q * right, p * right - q * left)) / determinant

    def _project(self, column: Tensor) -> Tensor:
        """Remove the parts of a Jacobian column that c and d can make."""
        column = column - column.mean(1, keepdim=True)
        share = (column * self.centered).sum(1) / self.size
        return torch.addcmul(column, share[:, None], self.centered, value=-1.0)


def _polish(families: Sequence[Family], x: Tensor, y: Tensor, fits: _Fits, steps: int) -> _Fits:
    """Run Levenberg-Marquardt on all fits at once and return the improved ones."""
    if len(fits.a) == 0:
        return fits
    table = torch.stack([family.rules for family in families])  # (family, 7)
    a, b = constrain(fits.a, fits.b, table[fits.family].T)
    now = dataclasses.replace(fits, a=a, b=b)
    start = _Projection(families, x[now.edge], y[now.edge], now).sse
    now = dataclasses.replace(now, sse=start)
    done = [a.clone(), b.clone(), start.clone()]
    active, damping = torch.arange(len(a)), torch.full_like(a, 1e-2)
    for _ in range(steps):
        rows = x[now.edge], y[now.edge]
        trial = _stepped(families, rows, now, table[now.family].T, damping)
        better, gain = trial.sse < now.sse, now.sse - trial.sse
        finished = (better & (gain < 1e-7 * now.sse)) | (damping > 1e6) | (trial.sse < 1e-22)
        damping = torch.where(better, damping * 0.2, damping * 6.0)
        now = now.improved(trial, better)
        for out, value in zip(done, (now.a, now.b, now.sse), strict=True):
            out[active] = value
        keep = (~finished).nonzero()[:, 0]
        if len(keep) == 0:
            break
        if len(keep) < 0.8 * len(active):
            active, damping, now = active[keep], damping[keep], now.pick(keep)
    return _Fits(fits.family, fits.edge, *done)


def _stepped(
    families: Sequence[Family],
    rows: tuple[Tensor, Tensor],
    now: _Fits,
    rules: Tensor,
    damping: Tensor,
) -> _Fits:
    """Return the fits one damped step further, with their residuals."""
    x, y = rows
    moved = _Projection(families, x, y, now).step(families, x, rules, damping)
    a, b = constrain(now.a + moved[0], now.b + moved[1], rules)
    trial = dataclasses.replace(now, a=a, b=b)
    return dataclasses.replace(trial, sse=_Projection(families, x, y, trial).sse)
