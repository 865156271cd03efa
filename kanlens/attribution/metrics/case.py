"""Metrics: their definition, evaluation context (`Case`) and value (`Score`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from kanlens.attribution.method import cited, headline
from kanlens.attribution.metrics.points import (
    BASES,
    Outside,
    copied_generator,
    evaluated,
    inside_rows,
    slices,
    some_rows,
)
from kanlens.attribution.problem import Baseline
from kanlens.attribution.result import Attribution
from kanlens.model.analysis import float64_copy
from kanlens.model.network import KAN

NOISE = 1e-12  # of the largest |output|: a smaller deviation is rounding
PART = 65_536  # samples that are looked at together where all of them count
ROWS = 128  # background rows that removed features are replaced from, at most
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}

MethodOn = Callable[[KAN, Tensor], Tensor]
Direction = Literal["higher", "lower", "none"]
Need = Literal["exact", "model", "method"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """What a metric says about one attribution."""

    rows: Tensor  # (batch,), NaN where it is not defined
    value: float  # one number for all samples where it is
    aggregate: str = "mean"  # how it comes from the samples
    offgrid: float = math.nan  # share of inputs and hidden values outside grids, where evaluated

    @classmethod
    def of(cls, rows: Tensor, aggregate: str = "mean", *, offgrid: float = math.nan) -> Score:
        """Return the score of per-sample numbers; `aggregate` is mean or maximum."""
        defined = rows[~rows.isnan()]
        size = defined.max if aggregate == "maximum" else defined.mean
        value = float(size()) if len(defined) else math.nan
        return cls(rows=rows, value=value, aggregate=aggregate, offgrid=offgrid)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number about an attribution, NaN where what it needs is missing."""

    name: str
    function: Callable[[Case], Score]
    direction: Direction
    cost: str = "none"
    needs: frozenset[Need] = frozenset()
    reference: str = ""
    summary: str

    @property
    def needs_exact(self) -> bool:
        """Whether it compares with exact Shapley values."""
        return "exact" in self.needs

    @property
    def arrow(self) -> str:
        """An arrow to where it is better, empty when neither way is."""
        return ARROWS[self.direction]


_REGISTERED: list[Metric] = []
Asked = Callable[["Case"], Score]
Part = TypeVar("Part")


class MissingPartError(RuntimeError):
    """A metric asked for what its case does not hold."""


def given(part: Part | None) -> Part:
    """Return a part of a case that a metric cannot do without: where it is None, that is NaN."""
    if part is None:
        raise MissingPartError("a metric that needs a part must be marked so")
    return part


def metric(
    direction: Direction,
    *needs: Need,
    cost: str = "none",
    of: Callable[..., Any] | None = None,
    reference: str = "",
) -> Callable[[Asked], Asked]:
    """Register a function as a metric, with its name and the first line of its docstring.

    A leading underscore sets it apart from the published function of tensors of the same name,
    `of`, whose references are the metric's. It is NaN for a case that lacks a part.
    """

    def register(function: Asked) -> Asked:
        @functools.wraps(function)
        def asked(case: Case) -> Score:
            try:
                return function(case)
            except MissingPartError:
                return Score.of(torch.full_like(case.values[:, 0], math.nan))

        _REGISTERED.append(
            Metric(
                name=function.__name__.lstrip("_"),
                function=asked,
                direction=direction,
                cost=cost,
                needs=frozenset(needs),
                reference=reference if of is None else cited(of),
                summary=headline(function),
            )
        )
        return asked

    return register


def metrics_in(*modules: ModuleType) -> dict[str, Metric]:
    """Return the metrics that modules register, by name, module after module."""
    homes = [module.__name__ for module in modules]
    ordered = sorted(_REGISTERED, key=lambda one: homes.index(one.function.__module__))
    return {one.name: one for one in ordered}


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """Evaluation context of a metric: an attribution and its model; what is missing is None.

    What would follow from what is missing raises `MissingPartError`. Every metric draws from a copy
    of `generator`, by default of one with seed 0.
    """

    attribution: Attribution
    exact: Attribution | None = None  # of the same samples and baseline
    model: KAN | None = None  # in float64
    target: int = 0
    background: Tensor | None = None  # (rows, in)
    method_on: MethodOn | None = None  # a model and (batch, in) to values (batch, in)
    generator: torch.Generator | None = None

    def each(self, run: Callable[[Case], Tensor], numbers: int = BASES) -> Tensor:
        """Apply a function of a case (..., batch) to its samples, some at a time, and join.

        `numbers` are what a value of a sample takes at most. A part has the values, the exact ones
        and x of its samples; what follows from all samples is to be asked of the whole case.
        """

        def cut(found: Attribution, part: slice) -> Attribution:
            x = None if found.x is None else found.x[part]
            return replace(found, values=found.values[part], x=x)

        def at(part: slice) -> Tensor:
            exact = None if self.exact is None else cut(self.exact, part)
            return run(replace(self, attribution=cut(self.attribution, part), exact=exact))

        n, n_in = self.attribution.values.shape
        found = torch.empty(0)
        for part in slices(n, numbers * n_in):
            one = at(part)
            found = found if part.start else one.new_empty(*one.shape[:-1], n)
            found[..., part] = one
        return found

    def score(
        self,
        run: Callable[[Case], Tensor],
        numbers: int = BASES,
        *,
        aggregate: str = "mean",
        output: GridMonitor | None = None,
    ) -> Score:
        """Return the score of what `each` finds, with what `output` has seen by then."""
        rows = self.each(run, numbers)
        return Score.of(rows, aggregate, offgrid=math.nan if output is None else output.share)

    @property
    def values(self) -> Tensor:
        """The attribution's values in float64, shape (batch, in)."""
        return self.attribution.values.detach().double()

    @property
    def exact_values(self) -> Tensor:
        """The exact values in float64, of the same columns."""
        exact = given(self.exact)
        if exact.features != self.attribution.features:
            raise MissingPartError("exact values of other columns")
        return exact.values.detach().double()

    @property
    def x(self) -> Tensor:
        """The samples in float64; there are none when the columns of the values are no features."""
        return given(self.attribution.x).detach().double()

    @property
    def rows(self) -> Tensor:
        """The background in float64."""
        return given(self.background).detach().double()

    def method(self, x: Tensor) -> Tensor:
        """Return the values of the method at other samples (batch, in)."""
        return given(self.method_on)(given(self.model), x)

    @property
    def slopes(self) -> bool:
        """Whether the values are slopes instead of shares of a change."""
        return self.attribution.baseline == Baseline.SLOPES

    @property
    def outside(self) -> Outside | None:
        """Function that masks values of samples (batch, in) outside the first layer's grid."""
        return None if self.model is None else self.model.outside

    def draws(self) -> torch.Generator:
        """Return a copy of the generator; the same one every time."""
        return copied_generator(self.generator)

    @cached_property
    def references(self) -> Tensor:
        """Rows (rows, in) that removed features are replaced from.

        The row that the attribution is counted from, where it names one, else at most 128 rows of
        the background. Rows outside the grid are left out; where all are, they are brought to it.
        """
        baseline = self.attribution.baseline
        if baseline not in (Baseline.ZERO, Baseline.MEAN_ROW):
            return self.replacements
        zero = baseline == Baseline.ZERO
        row = torch.zeros_like(self.x[:1]) if zero else self.rows.mean(0, keepdim=True)
        return inside_rows(row, self.x, self.outside)

    @cached_property
    def replacements(self) -> Tensor:
        """At most 128 background rows inside the grid, chosen as in `references`."""
        return some_rows(inside_rows(self.rows, self.x, self.outside), ROWS, self.draws())

    def known(self) -> Iterator[Tensor]:
        """Yield `replacements` and samples, some at a time: their spread is the unit of moves."""
        if self.background is not None:
            yield self.replacements
        yield from (part.double() for part in given(self.attribution.x).detach().split(PART))

    @cached_property
    def variance(self) -> float:
        """Variance of the output over what is `known`; NaN where it does not vary."""
        output = self.watched()
        found = torch.cat([evaluated(output, part) for part in self.known()])
        size = float(found.var(correction=0))
        return size if size > (NOISE * float(found.abs().max())) ** 2 else math.nan

    def watched(self) -> GridMonitor:
        """Return the output as a function that counts the values outside their grids."""
        given(self.attribution.x)
        return GridMonitor(given(self.model), self.target)


class GridMonitor:
    """An output of a model that counts values outside the grids wherever it is evaluated."""

    def __init__(self, model: KAN, target: int) -> None:
        self.model, self.target = model, target
        self.seen, self.off = 0, 0

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the output at x (batch, in), shape (batch,); count what reaches each layer."""
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
