"""`sparsity_path`: warm-started training over increasing strengths."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_count, check_generator, check_positive
from kanlens._model_inputs import prepare_data
from kanlens._resources import threads_for
from kanlens._runtime import Interruption, progress_bar
from kanlens.data._groups import row_groups
from kanlens.data._tables import Table
from kanlens.errors import InvalidValueError, KanlensError, reworded
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN, PerRow
from kanlens.model._trace import store_statistics, trace
from kanlens.training import _checkpointing as checkpointing
from kanlens.training import _result as results
from kanlens.training._checkpointing import EVERY, Checkpoint
from kanlens.training._fit import labelled
from kanlens.training._objective import Objective, constant_loss, row_losses
from kanlens.training._options import FitOptions
from kanlens.training._proximal import ProximalSteps
from kanlens.training._result import PathStep, SparsityPath
from kanlens.training._training_loop import TrainingRun

COUNT = 10  # strengths by default
WEAKEST = 1e-3  # first strength above 0, relative to that at which no edges are best
GROWTH = 3.0  # ratio of strengths after the planned ones
FURTHER = 5  # strengths after the planned ones, at most
STILL = 1e-3  # relative change of loss and penalty that ends the path
DEAD = 0.05  # relative explained share that ends the path


def sparsity_path(  # noqa: PLR0913 - one keyword per choice
    model: Model,
    data: Table | tuple[Any, Any],
    *,
    penalty: str | Mapping[str, float] = "activation_l2",
    strengths: Sequence[float] | int | None = None,
    threshold: float = 0.01,
    tolerance: float = 0.01,
    groups: PerRow = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = EVERY,
    resume: bool = False,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> SparsityPath:
    """Train with increasing strengths of a penalty, each from the last model [1]_.

    Strengths increase because a network whose edges are all zero has zero gradient and cannot
    recover. By default they are 0 and then evenly spaced in their logarithm, from a thousandth of
    the strength at which removing all edges costs as much as keeping them, until a model explains
    at most a twentieth of the variance that the first one explains (or, a few strengths further,
    training is stuck).

    An interrupt (Ctrl-C) ends the path; the steps so far are returned, with a warning.

    Parameters
    ----------
    model : KAN or fitted estimator
        Start of the path; not changed, as every step has its own model.
    data : Table or tuple (x, y)
        As for `kanlens.fit`.
    penalty : str or dict of str to float
        As for `kanlens.fit`. ``"activation_l2"`` makes edges of splines exactly zero (unless
        ``proximal=False`` is among the options); with all others they become small.
    strengths : sequence of float, or int, optional
        The strengths, increasing; or the number of default ones, 10 when None: at most five more
        follow until nearly all edges are zero.
    threshold : float
        Share of its layer's largest weight L1 norm below which an edge counts as zero.
    tolerance : float
        Share of the best model's improvement over a constant that the chosen model may give up: see
        `SparsityPath.best`.
    groups, checkpoint, checkpoint_every, resume, progress
        As for `kanlens.fit`; a path resumes within a strength.
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
    DataError, FileFormatError, InvalidValueError, ShapeError, TrainingError
        As `kanlens.fit`.

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
    chosen = _check_strengths(strengths, options)
    check_generator("sparsity_path", generator)
    check_positive("sparsity_path", "threshold", threshold, zero=True)
    check_positive("sparsity_path", "tolerance", tolerance, zero=True)
    saved = Checkpoint("sparsity_path", checkpoint, checkpoint_every, resume=resume)
    model = check_model("sparsity_path", model)
    if not isinstance(penalty, str | Mapping):
        fields = "to be a norm or norms with weights", repr(penalty), "Pass 'weight_l1'"
        raise InvalidValueError("sparsity_path", *fields, argument="penalty")
    weights = {penalty: 1.0} if isinstance(penalty, str) else dict(penalty)
    exact = "activation_l2" in weights and options.get("entropy_weight") is None
    exact = exact and all(layer.splines_alone for layer in model.layers)
    first = copy.deepcopy(model)
    try:
        plan = FitOptions(**{"proximal": exact, **options}, penalty=weights)
        data, labels = labelled(data, groups)
        x, y = prepare_data(first, data)
        together = row_groups(x, y, labels, call="sparsity_path") if plan.validation else None
    except KanlensError as error:
        raise reworded("sparsity_path", error) from error
    path = _PathRun(first, plan, x, y, together, threshold, chosen, generator, saved)
    path.restore(saved.begun)
    total = chosen if isinstance(chosen, int) else len(chosen)
    rows = len(x) if plan.optimizer == "lbfgs" else plan.batch_size
    size = rows * max(layer.in_features * layer.degrees_of_freedom for layer in first.layers)
    stop = Interruption()
    with threads_for(size), progress_bar("path", total, shown=progress) as advance:
        reason = path.run(advance, stop)
    stop.warn("sparsity_path")
    return SparsityPath(
        steps=tuple(path.steps),
        penalty=weights,
        threshold=threshold,
        metric_name=first.loss.metric,
        constant_loss=path.constant,
        tolerance=tolerance,
        held_out=path.held_out if path.held_out is not None else torch.empty(0).long(),
        stopped_because=reason,
        seconds=time.perf_counter() - started,
    )


def _check_strengths(strengths: Sequence[float] | int | None, options: Mapping[str, Any]) -> Any:
    """Return the strengths, or their number; refuse unknown options."""
    names = {field.name for field in fields(FitOptions)} - {"penalty", "strength", "scale"}
    for name in options:
        check_choice("sparsity_path", "an option", name, names)
    if strengths is None:
        return COUNT
    if not isinstance(strengths, Iterable) or isinstance(strengths, str):
        check_count("sparsity_path", "the number of strengths", strengths, least=2)
        return int(strengths)
    values = list(strengths)
    for value in values:
        check_positive("sparsity_path", "a strength", value, zero=True)
    if not values:
        raise InvalidValueError("sparsity_path", "some strengths", "[]", "Pass their number")
    if any(b <= a for a, b in itertools.pairwise(values)):
        expected, advice = "strictly increasing strengths", "Sort them and drop duplicates"
        raise InvalidValueError("sparsity_path", expected, repr(values), advice)
    return values


@dataclass(eq=False)
class _PathRun:
    """State of a sparsity path: the last model, rows, and steps so far."""

    model: KAN
    plan: FitOptions
    x: Tensor
    y: Tensor
    groups: Tensor | None
    threshold: float
    strengths: list[float] | int
    generator: torch.Generator | None
    saved: Checkpoint
    steps: list[PathStep] = field(default_factory=list)
    held_out: Tensor | None = None
    constant: float = math.nan
    records: list[dict[str, Any]] = field(default_factory=list)  # of the steps, for a checkpoint
    finished: list[dict[str, Any]] = field(default_factory=list)  # of a checkpoint, to restore
    begun: dict[str, Any] | None = None  # state of the unfinished run in a checkpoint

    def run(self, advance: Callable[..., None], stop: Interruption) -> str:
        """Take every step; return the reason for the end."""
        advance(0)
        strengths = self.strengths
        with stop.kept():
            for strength in self._default(strengths) if isinstance(strengths, int) else strengths:
                self.steps.append(step := self._step(float(strength)))
                loss = f"strength {step.strength:.2e}  loss {step.held_out_loss:.2e}"
                advance(note=f"{loss}  {step.edges_above} edges")
        if stop.happened:
            self.saved.write()
            if not self.steps:
                raise KeyboardInterrupt
        last = f"strength {self.steps[-1].strength:.3g}"
        if stop.happened:
            return f"interrupted after {last}"
        if not isinstance(strengths, int):
            return "all strengths done"
        if self._dead():
            return f"nearly all edges are zero at {last}"
        return f"edges are nonzero at {last}, the last one tried"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The parts of a checkpoint that must not change."""
        shared = checkpointing.identity_of(self.model, self.plan, self.x, self.y)
        shared["options"] |= {"strengths": self.strengths, "threshold": self.threshold}
        return shared

    def _note(self, state: Callable[[], Any], **_: object) -> None:
        """Record the state of a run at one strength, within the state of the path."""
        steps = list(self.records)
        self.saved.note(lambda: {"identity": self.identity, "steps": steps, "run": state()})

    def restore(self, saved: dict[str, Any] | None) -> None:
        """Go back to the state of a checkpoint, if there is one."""
        if saved is None:
            return
        checkpointing.check_identity(saved, self.identity, call="sparsity_path")
        self.finished, self.begun = list(saved["steps"]), saved["run"]
        self.held_out = saved["run"]["held_out"]

    def _default(self, count: int) -> Iterator[float]:
        """Yield 0 and then strengths until nearly all edges are zero."""
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
            before, after = self.steps[-2:]
            pairs = ((before.loss, after.loss), (before.penalty, after.penalty))
            if self._dead() or all(abs(new - old) <= STILL * abs(old) for old, new in pairs):
                return
            yield after.strength * GROWTH

    def _dead(self) -> bool:
        """Return whether the last model explains almost none of the variance."""
        explained = [self.constant - step.held_out_loss for step in (self.steps[0], self.steps[-1])]
        return self.steps[-1].edges_above == 0 or explained[1] <= DEAD * explained[0]

    def _step(self, strength: float) -> PathStep:
        model = copy.deepcopy(self.model)
        if self.finished:
            record = self.finished.pop(0)
            model.load_state_dict(record["model"])
            model.scaled = True
            store_statistics(model, self.x[self._train_mask])
        else:
            record = self._trained(model, strength)
        self.records.append(record)
        self.model = model
        return self._described(model, strength, record)

    def _trained(self, model: KAN, strength: float) -> dict[str, Any]:
        """Train a model, and return its record for a checkpoint."""
        started = time.perf_counter()
        options = replace(self.plan, strength=strength)
        run = TrainingRun(model, options, self.x, self.y, self.generator, groups=self.groups)
        run.begin(self.begun, self.held_out)
        self.begun = None
        self.generator, self.held_out = run.generator, run.held_out
        run.train(lambda *_, **__: None, note=self._note)
        return {
            "model": dict(model.state_dict()),
            "best": run.best["record"],
            "stopped_because": run.stopped_because,
            "seconds": time.perf_counter() - started,
        }

    @property
    def _train_mask(self) -> Tensor:
        held_out = torch.empty(0).long() if self.held_out is None else self.held_out
        return ~torch.isin(torch.arange(len(self.x)), held_out)

    def _described(self, model: KAN, strength: float, record: dict[str, Any]) -> PathStep:
        """Return the step for a trained model, with its scores."""
        mask, best, plan = self._train_mask, record["best"], self.plan
        x, judged = self.x[mask], mask if bool(mask.all()) else ~mask
        unit = Objective(
            model=model, penalty=plan.weights, strength=1.0, entropy_weight=plan.entropy
        )
        if plan.proximal:
            ProximalSteps(unit).begin(x)
        with torch.no_grad():
            penalty = float(unit.evaluated(x)[1])  # at strength 1
            losses = row_losses(model, model(self.x[judged]), self.y[judged])
        held_out_loss, error = results.mean_and_error(losses)
        if not self.steps:
            self.constant = constant_loss(model, self.y[mask], self.y[judged])
        strong = results.weighty_edges(model, trace(model, x).inputs, self.threshold)
        alive = results.active_edges(model, strong)
        return PathStep(
            model=model,
            strength=strength,
            loss=best["loss"],
            held_out_loss=held_out_loss,
            standard_error=error,
            penalty=penalty,
            metric=best["metric"],
            edges_alive=sum(int(layer.nonzero_edges().sum()) for layer in model.layers),
            edges_above=sum(int(mask.sum()) for mask in alive),
            alive=tuple(alive),
            features=results.active_features(model, alive),
            stopped_because=record["stopped_because"],
            seconds=record["seconds"],
        )
