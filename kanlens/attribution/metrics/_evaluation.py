"""Metrics: their definition, evaluation context (`Case`), value (`Score`), and random points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from kanlens.attribution._problem import Baseline, cited, headline
from kanlens.attribution._result import Attribution
from kanlens.model._analysis import BUDGET, float64_copy
from kanlens.model._network import KAN

Function = Callable[[Tensor], Tensor]
Outside = Callable[[Tensor], Tensor]
Law = Callable[[tuple[int, ...], torch.Generator], Tensor]

REDRAWS = 20  # of values that fell outside the grid
HALVINGS = 50  # of the way from a point inside the grid to one outside
BASES = 16  # numbers that a layer computes per input, about


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw numbers between -1 and 1 in float64."""
    device = generator.device
    return 2 * torch.rand(shape, generator=generator, dtype=torch.float64, device=device) - 1


def subsets(n_in: int, size: int, draws: int, generator: torch.Generator) -> Tensor:
    """Return masks (subset, in) of subsets of one size: all if at most `draws`, else random."""
    if math.comb(n_in, size) <= draws:
        chosen = torch.tensor(list(itertools.combinations(range(n_in), size)), dtype=torch.long)
    else:
        chosen = uniform((draws, n_in), generator).cpu().argsort(1)[:, :size]
    masks = torch.zeros(len(chosen), n_in, dtype=torch.bool)
    return masks.scatter_(1, chosen.reshape(len(chosen), size), True)


def displaced(
    x: Tensor,
    scale: Tensor,
    draws: int,
    generator: torch.Generator,
    *,
    outside: Outside | None = None,
    law: Law = normal,
) -> Tensor:
    """Add noise times `scale` (in,) to x (batch, in), inside the grid: (draws, batch, in)."""
    shape = (draws, *x.shape)
    moved = x + law(shape, generator).to(x) * scale
    if outside is None:
        return moved
    for _ in range(REDRAWS):
        off = outside(moved.flatten(0, 1)).reshape(shape)
        if not bool(off.any()):
            return moved
        moved = torch.where(off, x + law(shape, generator).to(x) * scale, moved)
    return brought_inside(x.expand(shape), moved, outside)


def brought_inside(start: Tensor, end: Tensor, outside: Outside) -> Tensor:
    """Clip `end` to the grid along the segment from `start`; return `start` if it is outside."""
    width = start.shape[-1]

    def off(points: Tensor) -> Tensor:
        return outside(points.reshape(-1, width)).reshape(points.shape)

    beyond = off(end)
    low, high = torch.zeros_like(end), torch.ones_like(end)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        bad = off(start + middle * (end - start))
        low, high = torch.where(bad, low, middle), torch.where(bad, middle, high)
    edge = torch.where(off(start), start, start + low * (end - start))
    return torch.where(beyond, edge, end)


def inside_rows(rows: Tensor, x: Tensor, outside: Outside | None) -> Tensor:
    """Return the rows inside the grid; if there are none, all rows, clipped to it by feature."""
    if outside is None:
        return rows
    whole = ~outside(rows).any(1)
    if bool(whole.any()):
        return rows[whole]
    pool = torch.cat([rows, x])
    first = (~outside(pool)).to(pool).argmax(0)  # of every column, the first value inside
    start = pool.gather(0, first[None]).expand_as(rows)
    possible = (~outside(pool)).any(0)  # else no value inside is known
    return torch.where(possible, brought_inside(start, rows, outside), rows)


def slices(count: int, numbers: int) -> Iterator[slice]:
    """Yield slices of `count` samples that fit the budget, at `numbers` numbers per sample."""
    step = max(1, BUDGET // max(1, numbers))
    for start in range(0, count, step):
        yield slice(start, start + step)


def evaluated(output: Function, points: Tensor) -> Tensor:
    """Return the output at points (..., in), in parts that fit the budget; shape (...)."""
    flat = points.reshape(-1, points.shape[-1])
    at_once = max(1, BUDGET // (BASES * max(1, points.shape[-1])))
    return torch.cat([output(part) for part in flat.split(at_once)]).reshape(points.shape[:-1])


def without(output: Function, x: Tensor, masks: Tensor, references: Tensor) -> Tensor:
    """Return the mean output (batch, mask) with masked features taken from background rows."""
    masks = masks.to(x.device).expand(len(x), *masks.shape[-2:])
    total = x.new_zeros(masks.shape[:2])
    numbers = BASES * masks.shape[1] * x.shape[1]  # for a sample and a reference
    for part in slices(len(x), numbers * len(references)):
        for there in slices(len(references), numbers):
            chosen, rows = masks[part][:, :, None], references[there]
            mixed = torch.where(chosen, rows, x[part][:, None, None])  # (batch, mask, rows, in)
            total[part] += evaluated(output, mixed).sum(-1)
    return total / len(references)


NOISE = 1e-12  # of the largest |output|, or |value| of a sample; less is rounding
PART = 65_536  # samples per chunk
ROWS = 128  # most background rows that replace removed features
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}

MethodOn = Callable[[KAN, Tensor], Tensor]
Direction = Literal["higher", "lower", "none"]
Need = Literal["exact", "model", "method"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """Value of a metric for one attribution."""

    rows: Tensor  # (batch,), NaN where it is not defined
    value: float  # one number for all samples where it is defined
    offgrid: float = math.nan  # share of evaluated inputs and hidden values outside grids

    @classmethod
    def of(cls, rows: Tensor, *, largest: bool = False, offgrid: float = math.nan) -> Score:
        """Return the mean, or the `largest`, of per-sample numbers as a score."""
        defined = rows[~rows.isnan()]
        size = defined.max if largest else defined.mean
        return cls(rows=rows, value=float(size()) if len(defined) else math.nan, offgrid=offgrid)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of attributions; its score is NaN if the case lacks a part that it needs."""

    name: str
    function: Callable[[Case], Score]
    direction: Direction
    needs: frozenset[Need] = frozenset()
    reference: str = ""
    summary: str

    @property
    def needs_exact(self) -> bool:
        """True if it compares with exact Shapley values."""
        return "exact" in self.needs

    @property
    def arrow(self) -> str:
        """Arrow in the direction of better values, or empty."""
        return ARROWS[self.direction]


Part = TypeVar("Part")


class MissingPartError(RuntimeError):
    """A case lacks a part that a metric needs, such as a model."""


def needed(part: Part | None) -> Part:
    """Return a part of a case that a metric needs; refuse None, which makes the metric NaN."""
    if part is None:
        raise MissingPartError("a metric must declare the parts that it needs")
    return part


def metric(
    direction: Direction, *needs: Need, of: Callable[..., Any] | None = None, reference: str = ""
) -> Callable[[Callable[[Case], Score]], Metric]:
    """Make a function a metric, which is NaN for a case that lacks a part it needs."""

    def make(function: Callable[[Case], Score]) -> Metric:
        def score(case: Case) -> Score:
            try:
                return function(case)
            except MissingPartError:
                return Score.of(torch.full_like(case.values[:, 0], math.nan))

        return Metric(
            name=function.__name__.lstrip("_"),
            function=score,
            direction=direction,
            needs=frozenset(needs),
            reference=reference if of is None else cited(of),
            summary=headline(function),
        )

    return make


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """Evaluation context of a metric: an attribution and its model, if any."""

    attribution: Attribution
    exact: Attribution | None = None  # of the same samples and baseline
    model: KAN | None = None  # in float64
    target: int = 0
    background: Tensor | None = None  # (rows, in)
    method_on: MethodOn | None = None  # a model and (batch, in) to values (batch, in)
    generator: torch.Generator | None = None

    def each(self, run: Callable[[Case], Tensor], numbers: int = BASES) -> Tensor:
        """Apply `run`, from a case to (..., batch), to blocks of samples that fit the budget."""

        def cut(attribution: Attribution, part: slice) -> Attribution:
            x = None if attribution.x is None else attribution.x[part]
            return replace(attribution, values=attribution.values[part], x=x)

        n, n_in = self.attribution.values.shape
        parts = []
        for part in slices(n, numbers * n_in):
            exact = None if self.exact is None else cut(self.exact, part)
            parts.append(run(replace(self, attribution=cut(self.attribution, part), exact=exact)))
        return torch.cat(parts, -1)

    def score(
        self,
        run: Callable[[Case], Tensor],
        numbers: int = BASES,
        *,
        largest: bool = False,
        output: GridMonitor | None = None,
    ) -> Score:
        """Return the score of `each`, with the share of inputs of `output` outside the grids."""
        rows = self.each(run, numbers)
        offgrid = math.nan if output is None else output.share
        return Score.of(rows, largest=largest, offgrid=offgrid)

    @property
    def values(self) -> Tensor:
        """The attribution's values in float64, shape (batch, in)."""
        return self.attribution.values.detach().double()

    @property
    def exact_values(self) -> Tensor:
        """The exact values in float64, of the same columns."""
        exact = needed(self.exact)
        if exact.features != self.attribution.features:
            raise MissingPartError("exact values of the same columns")
        return exact.values.detach().double()

    @property
    def x(self) -> Tensor:
        """The samples in float64; missing if the columns of the values are not features."""
        return needed(self.attribution.x).detach().double()

    @property
    def rows(self) -> Tensor:
        """The background in float64."""
        return needed(self.background).detach().double()

    @property
    def outside(self) -> Outside | None:
        """Function that returns the mask of values (batch, in) outside the first layer's grid."""
        return None if self.model is None else self.model.outside

    def draws(self) -> torch.Generator:
        """Return a copy of the generator (default: seed 0), so that every metric draws the same."""
        seeded = torch.Generator().manual_seed(0)
        return seeded if self.generator is None else self.generator.clone_state()

    def mover(self, scale: Tensor, draws: int, law: Law = normal) -> Function:
        """Return a function that adds noise to samples, inside the grid: (draws, batch, in)."""
        if not bool((scale > 0).any()):
            raise MissingPartError("features that vary")
        how: dict[str, Any] = {"generator": self.draws(), "outside": self.outside, "law": law}
        return lambda x: displaced(x, scale, draws, **how)  # new noise in every call

    @cached_property
    def references(self) -> Tensor:
        """Rows inside the grid that replace removed features: the baseline or background."""
        baseline = self.attribution.baseline
        if baseline not in (Baseline.ZERO, Baseline.MEAN_ROW):
            return self.replacements
        zero = baseline == Baseline.ZERO
        row = torch.zeros_like(self.x[:1]) if zero else self.rows.mean(0, keepdim=True)
        return inside_rows(row, self.x, self.outside)

    @cached_property
    def replacements(self) -> Tensor:
        """The background rows inside the grid, by `inside_rows`; if over 128, a random subset."""
        rows, draws = inside_rows(self.rows, self.x, self.outside), self.draws()
        order = torch.randperm(len(rows), generator=draws, device=draws.device)
        return rows if len(rows) <= ROWS else rows[order[:ROWS].to(rows.device)]

    def population(self) -> Iterator[Tensor]:
        """Yield background replacements, then samples, in chunks."""
        if self.background is not None:
            yield self.replacements
        yield from (part.double() for part in needed(self.attribution.x).detach().split(PART))

    @cached_property
    def variance(self) -> float:
        """Variance of the output over the `population`; NaN where it does not vary."""
        output = self.watched()
        outputs = torch.cat([evaluated(output, part) for part in self.population()])
        size = float(outputs.var(correction=0))
        return size if size > (NOISE * float(outputs.abs().max())) ** 2 else math.nan

    def watched(self) -> GridMonitor:
        """Return the output function, which counts inputs outside the grids."""
        needed(self.attribution.x)
        return GridMonitor(needed(self.model), self.target)


def cleaned(values: Tensor) -> Tensor:
    """Return values (batch, in); those within rounding of zero, per sample, become 0."""
    sizes = values.abs()
    return torch.where(sizes > NOISE * sizes.amax(1, keepdim=True), values, 0.0)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole; 0 / 0 is 0."""
    return torch.where((whole == 0) & (part == 0), 0.0, part / whole)


class GridMonitor:
    """An output of a model that counts values outside the grids wherever it is evaluated."""

    def __init__(self, model: KAN, target: int) -> None:
        self.model, self.target = model, target
        self.seen, self.off = 0, 0

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the output at x (batch, in), shape (batch,); count inputs of each layer."""
        model = self.model
        self._count(model.outside(x))
        (_, *hidden, last), _ = model.levels(model.scale_inputs(x))
        for layer, values in zip(model.layers[1:], hidden, strict=True):
            self._count(layer.unlearned(values))
        y: Tensor = model.scale_outputs(last)[:, self.target]
        return y

    def _count(self, outside: Tensor) -> None:
        self.seen += outside.numel()
        self.off += int(outside.sum())

    @property
    def share(self) -> float:
        """Share of all values seen that lay outside."""
        return self.off / self.seen if self.seen else math.nan


def case_for(model: KAN, attribution: Attribution, **parts: Any) -> Case:
    """Return the case of an attribution of a model, on a float64 copy of it."""
    return Case(attribution=attribution, model=float64_copy(model), **parts)
