"""Methods run one after the other on the same samples, and what they are measured against."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import time
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.captum_methods.adapter import quiet
from kanlens.attribution.dispatch import attribute
from kanlens.attribution.metrics.case import Case, case_for
from kanlens.attribution.problem import Baseline, explained_output
from kanlens.attribution.registry import METHODS
from kanlens.attribution.result import Attribution
from kanlens.errors import MethodError, rewording
from kanlens.long_work import Interruption, interrupts_pass, progress_bar
from kanlens.model.network import KAN, Rows

CERTAIN = 1e-4  # bound next to the mean |value| up to which values count as exact
RANDOM = "random"  # the floor: values that know nothing


class Runs:
    """The attributions made so far, what they took, and those that could not be made."""

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
        self.refusals: list[MethodError] = []
        self.exact = functools.cache(self._exact)
        with quiet():
            importlib.import_module("captum.attr")  # now, so that no method's seconds contain it

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
                found = self._attribute(name, self.x, self.background)
            except MethodError as error:
                if not optional:
                    raise
                self.refusals.append(error)
                self.skipped[name] = str(error)
                return
        self.seconds[name] = time.perf_counter() - started
        first = next(iter(self.done.values()), found)  # all share one copy of the samples
        self.done[name] = dataclasses.replace(found, x=first.x)

    def _attribute(
        self, name: str, x: Rows, background: Rows | None, model: KAN | None = None
    ) -> Attribution:
        found = attribute(
            self.model if model is None else model,
            x,
            method=name,
            background=background,
            target=self.target,
            generator=self.generator,
            progress=False,
        )
        if not isinstance(found, Attribution):
            raise RuntimeError("only local methods are compared")
        return found

    def _random(self) -> Attribution:
        """Return normal values as large as those of the first method that shares out a change."""
        shares = [one for one in self.done.values() if one.shares]
        like = shares[0] if shares else next(iter(self.done.values()))
        own = torch.Generator().manual_seed(0) if self.generator is None else self.generator
        noise = torch.randn(like.values.shape, generator=own, device=own.device)
        size = like.values.square().mean().sqrt()
        others = ("standard_error", "bound", "interactions", "paths", "owners", "evaluations")
        facts: dict[str, Any] = dict.fromkeys(others) | {"method": RANDOM}
        facts["remark"] = "normal numbers of the size of the others' values"
        return dataclasses.replace(like, values=noise.to(like.values) * size, **facts)

    def _exact(self, baseline: str) -> Attribution | None:
        """Return exact Shapley values counted from `baseline`; None when they cannot be had."""
        if baseline == Baseline.MEAN_OUTPUT and "shapley" in self.done:
            found = self.done["shapley"]
        else:
            if (rows := self._rows(baseline)) is None:
                return None
            try:
                found = self._attribute("shapley", self.x, rows)
            except MethodError:  # too many features
                return None
        size = float(found.values.abs().mean())  # next to which the errors of others are large
        near = found.bound is None or float(found.bound.max()) <= CERTAIN * size
        kept = near and found.standard_error is None
        return dataclasses.replace(found, x=None) if kept else None

    @functools.cached_property
    def rows(self) -> Tensor | None:
        """The background in the dtype of the model, if there is one."""
        given = self.background
        return None if given is None else self.model.prepare(given, call="compare")

    def _rows(self, baseline: str) -> Tensor | None:
        """Return the rows that values are counted from; None where they are shares of nothing."""
        if baseline == Baseline.ZERO:
            return torch.zeros_like(self.model.input_shift)[None]
        rows = self.rows if baseline in (Baseline.MEAN_OUTPUT, Baseline.MEAN_ROW) else None
        if rows is None or baseline == Baseline.MEAN_OUTPUT:
            return rows
        return rows.double().mean(0, keepdim=True).to(rows)

    def case(self, name: str, *, compared: bool) -> Case:
        """Return what metrics ask of a method's attribution; exact values when `compared`."""
        found, rows = self.done[name], None if self.rows is None else self.rows.double()

        def again(model: KAN, x: Tensor) -> Tensor:
            return self._attribute(name, x, rows, model).values.double()

        return case_for(
            self.model,
            found,
            exact=self.exact(found.baseline) if compared else None,
            background=rows,
            target=self.target,
            method_on=again if name in METHODS else None,
            generator=self.generator,
        )
