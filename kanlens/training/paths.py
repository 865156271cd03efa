"""Training over increasing strengths of a penalty, each from the model before: `sparsity_path`."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kanlens.checks import check_choice, check_count, check_positive, message, reworded
from kanlens.core.acceptance import Model, check_model
from kanlens.core.network import KAN
from kanlens.core.recording import trace
from kanlens.encoding import prepare_data
from kanlens.errors import InvalidValueError, KanlensError
from kanlens.progress import progress_bar
from kanlens.threads import threads_for
from kanlens.training.objective import Objective, constant_loss, metric_name, row_losses
from kanlens.training.options import Options
from kanlens.training.path_result import PathStep, SparsityPath, mean_and_error
from kanlens.training.proximal import ProximalSteps, zero_edges
from kanlens.training.run import TrainingRun
from kanlens.training.structure import active_features, live_edges, weighty_edges

if TYPE_CHECKING:
    from kanlens.tables import Table

__all__ = ["sparsity_path"]

COUNT = 10  # strengths by default
WEAKEST = 1e-3  # first strength above 0, relative to the one at which killing all edges pays
GROWTH = 3.0  # from one strength to the next, once all planned ones are done
FURTHER = 5  # strengths after the planned ones, at most
STILL = 1e-3  # relative change of loss and penalty below which another strength changes nothing
DEAD = 0.05  # share of what the first model explains that a dead one may still explain
CHOSEN_HERE = ("penalty", "strength", "scale")


def sparsity_path(
    model: Model,
    data: Table | tuple[Any, Any],
    *,
    penalty: str | Mapping[str, float] = "activation_l2",
    strengths: Sequence[float] | int | None = None,
    threshold: float = 0.01,
    tolerance: float = 0.01,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> SparsityPath:
    """Train with one strength of a penalty after the other, each time from the model before.

    Strengths increase: a network without edges is a point that no gradient leaves, so that a path
    cannot begin there. By default they are 0 and then evenly spaced in their logarithm, from a
    thousandth of the strength at which to give up all edges costs as much as to keep them, and on
    until a model explains no more than a twentieth of what the first one does (or, a few strengths
    further, training is stuck).

    An interrupt (Ctrl-C) ends the path; what was found so far is returned.

    Parameters
    ----------
    model : KAN or fitted estimator
        Where the path starts. Left as it is; every step has a model of its own.
    data : Table or tuple (x, y)
        As for `kanlens.fit`.
    penalty : str or dict of str to float
        As for `kanlens.fit`. ``"activation_l2"`` makes edges exactly zero (unless
        ``proximal=False`` is among the options); with all others they become small.
    strengths : sequence of float, or int, optional
        The strengths, increasing; or how many of the default ones there are, 10 when None.
    threshold : float
        Share of its layer's largest weight L1 norm below which an edge counts as dead.
    tolerance : float
        Share of what is explained that the chosen model may give up: see `SparsityPath.best`.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    generator : torch.Generator, optional
        Draws held-out rows, once for all steps, and batches.
    **options
        Further options of `kanlens.fit`: optimizer, steps (of each strength), learning_rate,
        batch_size, weight_decay, entropy_weight, proximal, validation, patience, grid_updates.

    Returns
    -------
    SparsityPath

    Raises
    ------
    InvalidValueError
        If an option is outside what it may be.
    DataError, ShapeError
        If the data does not fit the model.
    TrainingError
        If the loss is not finite before the first step.

    References
    ----------
    .. [1] J. Friedman, T. Hastie and R. Tibshirani, Regularization paths for generalized linear
       models via coordinate descent, 2010.

    Examples
    --------
    >>> x = torch.rand(60, 2, dtype=torch.float64)
    >>> path = sparsity_path(KAN([2, 1]).double(), (x, x[:, :1] ** 2), strengths=4, steps=5)
    >>> path.steps[-1].edges_alive < path.steps[0].edges_alive
    True
    """
    started = time.perf_counter()
    given = _checked(strengths, options)
    check_positive("sparsity_path", "threshold", threshold, zero=True)
    check_positive("sparsity_path", "tolerance", tolerance, zero=True)
    model = check_model("sparsity_path", model)
    if not isinstance(penalty, str | Mapping):
        expected, advice = "penalty to be a norm or norms with weights", "Pass 'weight_l1'"
        raise InvalidValueError(message("sparsity_path", expected, repr(penalty), advice))
    weights = {penalty: 1.0} if isinstance(penalty, str) else dict(penalty)
    exact = "activation_l2" in weights and options.get("entropy_weight") is None
    first = copy.deepcopy(model)
    try:
        plan = Options(**{"proximal": exact, **options}, penalty=weights)
        x, y = prepare_data(first, data)
    except KanlensError as error:
        raise reworded("sparsity_path", error) from error
    walk = _Walk(first, plan, x, y, threshold, generator)
    total = given if isinstance(given, int) else len(given)
    with threads_for(walk.size), progress_bar("path", total, shown=progress) as advance:
        reason = walk.go(given, advance)
    return SparsityPath(
        steps=tuple(walk.steps),
        penalty=weights,
        threshold=threshold,
        metric_name=metric_name(first),
        constant_loss=walk.constant,
        tolerance=tolerance,
        held_out=walk.held_out if walk.held_out is not None else torch.empty(0).long(),
        stopped_because=reason,
        seconds=time.perf_counter() - started,
    )


def _checked(strengths: Sequence[float] | int | None, options: Mapping[str, Any]) -> Any:
    """Return the strengths, or their number."""
    known = {field.name for field in dataclasses.fields(Options)} - set(CHOSEN_HERE)
    for name in options:
        check_choice("sparsity_path", "an option", name, known)
    if strengths is None:
        return COUNT
    if not isinstance(strengths, Iterable) or isinstance(strengths, str):
        check_count("sparsity_path", "the number of strengths", strengths, least=2)
        return int(strengths)
    values = list(strengths)
    for value in values:
        check_positive("sparsity_path", "a strength", value, zero=True)
    if not values:
        raise InvalidValueError(message("sparsity_path", "some strengths", "[]", "Pass a number"))
    if any(b <= a for a, b in itertools.pairwise(values)):
        expected, got = "strengths to increase", repr(values)
        raise InvalidValueError(message("sparsity_path", expected, got, "Sort them"))
    return values


class _Walk:
    """A path that is being walked: the last model, the rows, and the steps so far."""

    def __init__(
        self,
        model: KAN,
        plan: Options,
        x: Tensor,
        y: Tensor,
        threshold: float,
        generator: torch.Generator | None,
    ) -> None:
        self.model, self.plan, self.x, self.y = model, plan, x, y
        self.threshold, self.generator = threshold, generator
        self.steps: list[PathStep] = []
        self.held_out: Tensor | None = None
        self.constant = math.nan

    @property
    def size(self) -> int:
        """Numbers in the largest array of one operation, about."""
        rows = len(self.x) if self.plan.optimizer == "lbfgs" else self.plan.batch_size
        return rows * max(lay.in_features * lay.degrees_of_freedom for lay in self.model.layers)

    def go(self, strengths: list[float] | int, advance: Callable[..., None]) -> str:
        """Take every step, and say why there are no more."""
        advance(0)
        found = self._chosen(strengths) if isinstance(strengths, int) else iter(strengths)
        try:
            for strength in found:
                self.steps.append(self._step(float(strength)))
                advance(note=_note(self.steps[-1]))
        except KeyboardInterrupt:
            if not self.steps:
                raise
            return f"interrupted after strength {self.steps[-1].strength:.3g}"
        if not isinstance(strengths, int):
            return "all strengths done"
        if self._dead():
            return f"nearly all edges are dead at strength {self.steps[-1].strength:.3g}"
        return f"the model is alive at strength {self.steps[-1].strength:.3g}, the last one tried"

    def _chosen(self, count: int) -> Iterator[float]:
        """Yield 0 and then strengths until nearly all edges are dead."""
        yield 0.0
        first = self.steps[0]
        gain = max(self.constant - first.loss, 1e-3 * abs(self.constant))
        even = gain / first.penalty if first.penalty > 0 else 1.0
        ratio = WEAKEST ** (-1 / max(1, count - 2))
        for k in range(count - 1):
            yield even * WEAKEST * ratio**k
            if self._dead():
                return
        for _ in range(FURTHER):
            if self._dead() or self._still():
                return
            yield self.steps[-1].strength * GROWTH

    def _still(self) -> bool:
        """Tell whether the last strength changed nothing."""
        before, after = self.steps[-2:]
        pairs = ((before.loss, after.loss), (before.penalty, after.penalty))
        return all(abs(a - b) <= STILL * abs(b) for b, a in pairs)

    def _dead(self) -> bool:
        """Tell whether the last model explains next to nothing of what the first one does."""
        explained = [self.constant - step.held_out_loss for step in (self.steps[0], self.steps[-1])]
        return self.steps[-1].edges_above == 0 or explained[1] <= DEAD * explained[0]

    def _step(self, strength: float) -> PathStep:
        started = time.perf_counter()
        model = copy.deepcopy(self.model)
        options = dataclasses.replace(self.plan, strength=strength)
        run = TrainingRun(model, options, self.x, self.y, self.generator)
        run.begin(self.held_out)
        self.generator, self.held_out = run.generator, run.held_out
        run.go(None, 1, lambda *_, **__: None)
        if not self.steps:
            judged = run.test_y if len(run.test_y) else run.train_y
            self.constant = constant_loss(model, run.train_y, judged)
        self.model = model
        return self._described(run, strength, started)

    def _described(self, run: TrainingRun, strength: float, started: float) -> PathStep:
        """Measure the model of a finished run."""
        model, best = run.model, run.best["record"]
        rows, y = (run.test_x, run.test_y) if len(run.test_x) else (run.train_x, run.train_y)
        with torch.no_grad():
            held_out_loss, error = mean_and_error(row_losses(model, model(rows), y))
        inputs = trace(model, run.train_x).inputs
        alive = live_edges(model, weighty_edges(model, inputs, self.threshold))
        return PathStep(
            model=model,
            strength=strength,
            loss=best["loss"],
            held_out_loss=held_out_loss,
            standard_error=error,
            penalty=self._penalty(model, run.train_x),
            metric=best["metric"],
            edges_alive=sum(int((~zero_edges(layer)).sum()) for layer in model.layers),
            edges_above=sum(int(mask.sum()) for mask in alive),
            alive=tuple(alive),
            features=active_features(model, alive),
            stopped_because=run.stopped_because,
            seconds=time.perf_counter() - started,
        )

    def _penalty(self, model: KAN, x: Tensor) -> float:
        """Return the penalty of a model at strength 1."""
        unit = Objective(
            model=model, penalty=self.plan.weights, strength=1.0, entropy_weight=self.plan.entropy
        )
        if self.plan.proximal:
            ProximalSteps(unit).begin(x)
        with torch.no_grad(), unit.watching() as inputs:
            model(x)
        with torch.no_grad():
            return float(unit.penalty_term(inputs))


def _note(step: PathStep) -> str:
    return f"strength {step.strength:.2e}  loss {step.held_out_loss:.2e}  {step.edges_above} edges"
