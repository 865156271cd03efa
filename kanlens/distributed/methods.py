"""`compare` with its methods as tasks."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from kanlens.attribution.comparison import Comparison, compare_runs
from kanlens.attribution.dispatch import attribute
from kanlens.attribution.registry import METHODS
from kanlens.attribution.result import Attribution, Importance
from kanlens.attribution.runs import RANDOM, Runs
from kanlens.checks import reworded
from kanlens.distributed.jobs import decoded, encoded, seeded
from kanlens.distributed.manifest import new_seed
from kanlens.distributed.tasks import Workers, completed, workers_for
from kanlens.errors import MethodError
from kanlens.model.acceptance import Model
from kanlens.progress import progress_bar

if TYPE_CHECKING:
    from kanlens.model.network import Rows


def compare(
    model: Model,
    x: Rows,
    *,
    background: Rows | None = None,
    target: int | str | None = None,
    methods: Sequence[str] | str | None = None,
    metrics: Sequence[str] | str | None = None,
    generator: torch.Generator | None = None,
    workers: Workers = None,
    progress: bool | None = None,
) -> Comparison:
    """Compare methods that are run by several processes; their metrics follow in this one.

    Parameters
    ----------
    model, x, background, target, methods, metrics, progress
        As for `kanlens.compare`.
    generator : torch.Generator, optional
        Draws a seed, from which every method has a generator of its own, so that the numbers do
        not depend on the workers, nor on the other methods. Default: one of the system's choice.
    workers : int or str, optional
        As for `attribute` in this module.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidValueError, DTypeError, MethodError
        As `kanlens.compare`; the last also if no scheduler or worker answers.

    Examples
    --------
    >>> from kanlens import KAN
    >>> x = torch.rand(5, 2)
    >>> found = compare(KAN([2, 1]), x, background=x, methods=["shapley", "secant"])
    >>> list(found.attributions)
    ['shapley', 'secant', 'random']
    """
    runs_of = functools.partial(SharedRuns, workers)
    how = {"background": background, "target": target, "progress": progress}
    return compare_runs(runs_of, model, x, methods, metrics, generator=generator, **how)


class SharedRuns(Runs):
    """Runs of methods as tasks, each with a generator of its own."""

    def __init__(self, workers: Workers, *given: Any, **how: Any) -> None:
        super().__init__(*given, **how)
        self.workers = workers

    def run(self, names: list[str], *, optional: bool) -> None:
        """Run methods, and a random attribution at the end."""
        x = self.model.prepare(self.x, call="compare")
        how = {"background": self.rows, "target": self.target}
        job = (encoded(self.model), x, how, new_seed(self.generator))
        bar = progress_bar("compare", len(names), shown=self.progress)
        with workers_for("compare", self.workers) as client, bar as advance:
            found = {}
            for name, one in completed(client, "compare", attribute_by, job, names):
                found[name] = one
                advance(note=name)
        for name in names:
            one, seconds = found[name]
            if isinstance(one, MethodError):
                if not optional:
                    raise one
                self.skipped[name] = str(one)
            else:
                self.done[name], self.seconds[name] = one, seconds
        if self.done:
            self.done[RANDOM] = self._random()


def attribute_by(
    job: tuple[bytes, torch.Tensor, dict[str, Any], int], name: str
) -> tuple[Attribution | Importance | MethodError, float]:
    """Run one method; return what it found, or why it does not fit, and the seconds it took."""
    content, x, how, seed = job
    model, generator = decoded(content), seeded(seed, list(METHODS).index(name))
    started = time.perf_counter()
    try:
        found = attribute(model, x, method=name, generator=generator, progress=False, **how)
    except MethodError as error:
        return MethodError(str(reworded("compare", error))), 0.0
    return found, time.perf_counter() - started
