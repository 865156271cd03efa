"""Methods run one after the other on the same samples, and the exact values to compare with."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import time
from typing import Any, cast

import torch
from torch import Tensor

from kanlens._runtime import Interruption, interrupts_pass, progress_bar
from kanlens.attribution._attribute import METHODS, attribute
from kanlens.attribution._problem import Baseline, explained_output
from kanlens.attribution._result import Attribution
from kanlens.attribution.captum_methods._adapter import quiet
from kanlens.attribution.metrics._evaluation import Case, case_for
from kanlens.errors import MethodError, rewording
from kanlens.model._network import KAN, Rows

CERTAIN = 1e-4  # bound relative to the mean |value|, up to which values count as exact
RANDOM = "random"  # values independent of the model


class Runs:
    """Attributions of several methods, their seconds, and the methods that were skipped."""

    def __init__(
        self,
        model: KAN,
        x: Rows,
        *,
        background: Rows | None,
        target: int | str | None,
        generator: torch.Generator | None,
        progress: bool | None,
    ) -> None:
        self.model, self.x, self.progress = model, x, progress
        self.generator = generator
        self.background = model.background if background is None else background
        self.target = explained_output(model, target, x, call="compare")
        self.stop = Interruption()
        self.done: dict[str, Attribution] = {}
        self.seconds: dict[str, float] = {}
        self.skipped: dict[str, str] = {}
        self.refusals: dict[str, MethodError] = {}
        self.exact = functools.cache(self._exact)
        with quiet():
            importlib.import_module("captum.attr")  # so that it is not timed

    def run(self, names: list[str], *, optional: bool) -> None:
        """Run methods in this order, and a random attribution at the end."""
        with progress_bar("compare", len(names), shown=self.progress) as advance, self.stop.kept():
            for name in names:
                with interrupts_pass():
                    self._add(name, optional=optional)
                advance(note=name)
        if self.stop.happened:
            left = [name for name in names if name not in self.done]
            self.skipped = {**dict.fromkeys(left, "an interrupt came first"), **self.skipped}
        if self.done:
            self.done[RANDOM] = self._random()

    def _add(self, name: str, *, optional: bool) -> None:
        """Run one method; when it does not fit the model, skip an optional one."""
        started = time.perf_counter()
        with rewording("compare"):
            try:
                attribution = self._attribute(name, self.x, self.background)
            except MethodError as error:
                if not optional:
                    raise
                self.refusals[name] = error
                self.skipped[name] = str(error)
                return
        self.seconds[name] = time.perf_counter() - started
        first = next(iter(self.done.values()), attribution)  # all share one copy of the samples
        self.done[name] = dataclasses.replace(attribution, x=first.x)

    def _attribute(
        self, name: str, x: Rows, background: Rows | None, model: KAN | None = None
    ) -> Attribution:
        how: dict[str, Any] = {"method": name, "background": background, "progress": False}
        how |= {"target": self.target, "generator": self.generator}
        attribution = attribute(self.model if model is None else model, x, **how)
        return cast(Attribution, attribution)  # only local methods are compared

    def _random(self) -> Attribution:
        """Return normal random values, scaled like the first method whose values are shares."""
        done = list(self.done.values())
        like = next((attribution for attribution in done if attribution.shares), done[0])
        own = torch.Generator().manual_seed(0) if self.generator is None else self.generator
        noise = torch.randn(like.values.shape, generator=own, device=own.device)
        size = like.values.square().mean().sqrt()
        others = ("standard_error", "bound", "interactions", "paths", "owners", "evaluations")
        facts: dict[str, Any] = dict.fromkeys(others) | {"method": RANDOM}
        facts["remark"] = "normal random numbers on the scale of the other methods' values"
        return dataclasses.replace(like, values=noise.to(like.values) * size, **facts)

    def _exact(self, baseline: str) -> Attribution | None:
        """Return exact Shapley values relative to `baseline`; None if they are not known."""
        if baseline == Baseline.MEAN_OUTPUT and "shapley" in self.done:
            shapley = self.done["shapley"]
        else:
            if (rows := self._rows(baseline)) is None:
                return None
            try:
                shapley = self._attribute("shapley", self.x, rows)
            except MethodError:  # too many features
                return None
        size = float(shapley.values.abs().mean())  # scale of the errors
        near = shapley.bound is None or float(shapley.bound.max()) <= CERTAIN * size
        exact = near and shapley.standard_error is None
        return dataclasses.replace(shapley, x=None) if exact else None

    @functools.cached_property
    def rows(self) -> Tensor | None:
        """The background in the dtype of the model, if there is one."""
        rows = self.background
        return None if rows is None else self.model.prepare(rows, call="compare")

    def _rows(self, baseline: str) -> Tensor | None:
        """Return the rows whose mean output is a baseline's reference; None without any."""
        if baseline == Baseline.ZERO:
            return torch.zeros_like(self.model.input_shift)[None]
        rows = self.rows if baseline in (Baseline.MEAN_OUTPUT, Baseline.MEAN_ROW) else None
        if rows is None or baseline == Baseline.MEAN_OUTPUT:
            return rows
        return rows.double().mean(0, keepdim=True).to(rows)

    def case(self, name: str, *, compared: bool) -> Case:
        """Return a method's evaluation context for metrics, with exact values if `compared`."""
        attribution, rows = self.done[name], None if self.rows is None else self.rows.double()

        def again(model: KAN, x: Tensor) -> Tensor:
            return self._attribute(name, x, rows, model).values.double()

        parts: dict[str, Any] = {"target": self.target, "generator": self.generator}
        parts["exact"] = self.exact(attribution.baseline) if compared else None
        parts["method_on"] = again if name in METHODS else None
        return case_for(self.model, attribution, background=rows, **parts)
