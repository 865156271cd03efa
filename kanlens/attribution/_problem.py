"""Attribution problem, and registration of the methods that solve it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_finite, check_rows
from kanlens.errors import MethodError, rewording
from kanlens.model import _analysis as analysis
from kanlens.model._network import KAN, Rows

Function = TypeVar("Function", bound=Callable[..., Any])
Scope = Literal["local", "global"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """An attribution method and its properties.

    Attributes
    ----------
    name : str
        Key into ``METHODS``; captum's methods begin with ``captum_``.
    function : callable
        Takes a Problem and options; returns LocalValues or GlobalScores.
    scope : {"local", "global"}
        One row per sample (`Attribution`), or one number per feature (`Importance`).
    exact : bool
        Whether values are those of the definition up to rounding: no sampling, no quadrature.
    complete : bool
        Whether the values of a sample add up to output - reference by design.
    needs_background : bool
        Whether it compares with background rows.
    random : bool
        Whether it always draws random numbers; "shapley" does so only for the largest games.
    together : bool
        Whether the tolerance, solver or remark of a sample may depend on the other samples.
    gauge_invariant : bool
        Whether values do not change when constants move between the edges of a sum.
    reference : str
        Publication.
    summary : str
        Description in one line.
    """

    name: str
    function: Callable[..., Any]
    scope: Scope = "local"
    exact: bool
    complete: bool
    needs_background: bool = True
    random: bool = False
    together: bool = False
    gauge_invariant: bool = True
    reference: str
    summary: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the keyword options that the method takes."""
        return tuple(inspect.signature(self.function).parameters)[1:]

    @property
    def by_row(self) -> bool:
        """True if the samples can be explained in parts with the same result."""
        return self.scope == "local" and not (self.random or self.together)

    @property
    def of_nodes(self) -> bool:
        """True if values belong to the nodes of a level, which the option `layer` selects."""
        return "layer" in self.options


_REGISTERED: dict[Callable[..., Any], Method] = {}


def method(*, reference: str = "", **facts: Any) -> Callable[[Function], Function]:
    """Register a function; its docstring has the summary and the reference."""

    def register(function: Function) -> Function:
        _REGISTERED[function] = Method(
            name=function.__name__,
            function=function,
            reference=reference or cited(function),
            summary=headline(function),
            **facts,
        )
        return function

    return register


def methods_of(*items: Callable[..., Any] | Method) -> dict[str, Method]:
    """Return methods by name, given as methods or registered functions."""
    methods = [item if isinstance(item, Method) else _REGISTERED[item] for item in items]
    return {method.name: method for method in methods}


def headline(function: Callable[..., Any]) -> str:
    """Return the first line of a docstring without its period."""
    return (inspect.getdoc(function) or "").partition("\n")[0].removesuffix(".")


def cited(function: Callable[..., Any]) -> str:
    """Return the numbered references of a docstring, on one line."""
    _, _, section = (inspect.getdoc(function) or "").partition("References\n----------\n")
    entries = re.split(r"\.\. \[\d+\] ", section.partition("\n\n")[0])[1:]
    return "; ".join(" ".join(entry.split()).removesuffix(".") for entry in entries)


PART = 8192  # rows taken through the model at once
NO_BACKGROUND = "Pass {background}, rows like those the model was trained on"  # advice


class Baseline(str, Enum):
    """Reference that values are relative to, in words; slopes and squares have none."""

    MEAN_OUTPUT = "mean output over the background"
    MEAN_ROW = "output at the mean of the background"
    ZERO = "output at zero"
    OTHER_ROWS = "mean output over the samples, whose values replace each other"
    SLOPES = "nothing: values are slopes, not shares"
    SQUARES = "nothing: values are squares or variances, not shares"
    ACTIVATIONS = "nothing: values are activations, not shares"

    __str__ = str.__str__


NOTHING = (Baseline.SLOPES, Baseline.SQUARES, Baseline.ACTIVATIONS)


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalValues:
    """Result of a local method, in float64; the attributes are those of `Attribution`."""

    values: Tensor
    reference: float  # NaN where values are not shares of a change
    baseline: Baseline
    features: tuple[str, ...] | None = None  # None: those of the model
    standard_error: Tensor | None = None
    bound: Tensor | None = None
    interactions: Tensor | None = None
    paths: tuple[Tensor, ...] | None = None
    evaluations: float | None = None
    remark: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class GlobalScores:
    """Result of a global method, in float64; the attributes are those of `Importance`."""

    values: Tensor
    low: Tensor | None = None
    high: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One call of `attribute`, checked, in float64 and the units of the data."""

    model: KAN  # a copy without hooks, parameters frozen
    x: Tensor  # (batch, in)
    rows: Tensor | None  # (rows, in), the background; never None for methods that need it
    target: int  # index of the output
    generator: torch.Generator | None = None  # for methods that sample
    progress: bool | None = False  # show a bar; None: if stderr is a terminal
    first: int = 0  # index of the first sample in the x of the call

    @property
    def background(self) -> Tensor:
        """The background rows, for methods that are registered as needing them."""
        return cast("Tensor", self.rows)

    @property
    def mean_row(self) -> Tensor:
        """The mean of the background, shape (1, in)."""
        return self.background.mean(0, keepdim=True)

    def output(self, x: Tensor) -> Tensor:
        """Return the output at x (batch, in), shape (batch,)."""
        y: Tensor = self.model(x)[:, self.target]
        return y

    def output_in_parts(self, x: Tensor) -> Tensor:
        """Return `output` within the memory budget."""
        return torch.cat([self.output(part) for part in x.split(self.rows_at_once)])

    def counted_from(self, baseline: Baseline) -> float:
        """Return the output at a baseline; NaN for values that do not add up to a change."""
        if baseline == Baseline.MEAN_OUTPUT:
            return float(self.output_in_parts(self.background).mean())
        if baseline == Baseline.MEAN_ROW:
            return float(self.output(self.mean_row))
        if baseline == Baseline.ZERO:
            return float(self.output(torch.zeros_like(self.x[:1])))
        return math.nan

    def local(self, values: Tensor, baseline: Baseline, **others: Any) -> LocalValues:
        """Return values relative to a baseline as the result of a local method."""
        reference = self.counted_from(baseline)
        return LocalValues(values=values, reference=reference, baseline=baseline, **others)

    @property
    def size(self) -> int:
        """Approximate number of elements of the largest array that a method needs at once."""
        pairs = len(self.x) * (1 if self.rows is None else len(self.rows))
        return min(analysis.BUDGET, 16 * analysis.widest(self.model) * pairs)

    @property
    def rows_at_once(self) -> int:
        """Number of rows the model can take at once within the budget."""
        return analysis.rows_at_once(self.model)

    @property
    def additive(self) -> bool:
        """True if the output is, by structure, a sum of functions of single features."""
        return is_additive(self.model, self.target)

    @property
    def pairs_at_once(self) -> int:
        """Number of rows whose edge values fit the budget."""
        edges = max(layer.mask.numel() for layer in self.model.layers)
        return max(1, min(self.rows_at_once, analysis.BUDGET // edges))


@torch.no_grad()
def explained_output(model: KAN, target: int | str | None, x: Rows, *, call: str) -> int:
    """Return the index of `target`, by default the only output or the most frequent class.

    A reference class, whose output is constant, is not chosen.
    """
    classes = len(model.output_names)
    if target is not None or classes == 1 or model.task != "classification":
        return model.output_index(target, call=call)
    rows = model.prepare(x, call=call)
    predicted = torch.cat([model(part).argmax(1) for part in rows.split(PART)])
    counts = predicted.bincount(minlength=classes)
    if model.reference_class is not None:
        counts[model.reference_class] = -1
    return int(counts.argmax())


def data_rows(model: KAN, rows: Rows | None, *, call: str, what: str, needs: str) -> Tensor:
    """Return checked rows, by default the background rows of the model."""
    rows = model.background if rows is None else rows
    if rows is None:
        named: dict[str, Any] = {what: ...}
        raise MethodError(call, needs, "None", NO_BACKGROUND.replace("background", what), **named)
    with rewording(call, part=what):
        x = model.prepare(rows, call=what, finite=False)
        check_rows(what, x)
        check_finite(what, x, model.feature_names)
    return x


def check_outputs(call: str, outputs: Tensor) -> None:
    """Refuse NaN and infinity in outputs of a model."""
    if not bool(torch.isfinite(outputs).all()):
        expected, advice = "a model with finite outputs", "Check its parameters, and the units of x"
        raise MethodError(call, expected, "NaN or infinity", advice)


def is_additive(model: KAN, target: int) -> bool:
    """Return whether an output is, by structure, a sum of functions of single features."""
    return len(model.layers) == 1 and target < model.nodes[0].grouping.sums


def pairs(n_rows: int, n_background: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of at most `at_once` pairs of a row and a background row."""
    wide = min(n_background, max(1, at_once))
    tall = max(1, at_once // wide)
    for row in range(0, n_rows, tall):
        for other in range(0, n_background, wide):
            yield slice(row, row + tall), slice(other, other + wide)


@contextmanager
def borrowed_randomness(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch and NumPy in the block; then restore their states."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    before = np.random.get_state()  # noqa: NPY002 - captum draws from it
    with torch.random.fork_rng(devices=cuda):
        try:
            own = torch.default_generator if generator is None else generator
            drawn = int(torch.randint(2**62, (), generator=own, device=own.device))
            torch.default_generator.manual_seed(drawn)
            for index in cuda:
                torch.cuda.default_generators[index].manual_seed(drawn)
            fresh = np.random.RandomState(drawn % 2**32)
            np.random.set_state(fresh.get_state())  # noqa: NPY002
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
