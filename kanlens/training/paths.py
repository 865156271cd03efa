"""`sparsity_path`: warm-started training over increasing penalty strengths."""

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

from kanlens.checks import check_choice, check_count, check_generator, check_positive
from kanlens.data.groups import row_groups
from kanlens.data.tables import Table
from kanlens.encoding import prepare_data
from kanlens.errors import InvalidValueError, KanlensError, reworded
from kanlens.long_work import Interruption, progress_bar
from kanlens.model.analysis import Model, check_model
from kanlens.model.network import KAN
from kanlens.model.recording import store_statistics, trace
from kanlens.resources import threads_for
from kanlens.training import result as results
from kanlens.training import resumption
from kanlens.training.objective import Objective, constant_loss, metric_name, row_losses
from kanlens.training.options import FitOptions
from kanlens.training.preparation import labelled
from kanlens.training.proximal import ProximalSteps
from kanlens.training.result import PathStep, SparsityPath
from kanlens.training.resumption import EVERY, Checkpoint, checked_checkpoint
from kanlens.training.run import TrainingRun

COUNT = 10  # strengths by default
WEAKEST = 1e-3  # first strength above 0, relative to the one at which killing all edges pays
GROWTH = 3.0  # from one strength to the next, once all planned ones are done
FURTHER = 5  # strengths after the planned ones, at most
STILL = 1e-3  # relative change of loss and penalty below which another strength changes nothing
DEAD = 0.05  # share of what the first model explains that a dead one may still explain
CHOSEN_HERE = ("penalty", "strength", "scale")


def sparsity_path(  # noqa: PLR0913 - one keyword per choice
    model: Model,
    data: Table | tuple[Any, Any],
    *,
    penalty: str | Mapping[str, float] = "activation_l2",
    strengths: Sequence[float] | int | None = None,
    threshold: float = 0.01,
    tolerance: float = 0.01,
    groups: Any = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = EVERY,
    resume: bool = False,
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

    An interrupt (Ctrl-C) ends the path; what was found so far is returned, with a warning.

    Parameters
    ----------
    model : KAN or fitted estimator
        Where the path starts. Left as it is; every step has a model of its own.
    data : Table or tuple (x, y)
        As for `kanlens.fit`.
    penalty : str or dict of str to float
        As for `kanlens.fit`. ``"activation_l2"`` makes edges of splines exactly zero (unless
        ``proximal=False`` is among the options); with all others they become small.
    strengths : sequence of float, or int, optional
        The strengths, increasing; or how many of the default ones there are, 10 when None: at
        most five more follow until nearly all edges are dead.
    threshold : float
        Share of its layer's largest weight L1 norm below which an edge counts as dead.
    tolerance : float
        Share of what is explained that the chosen model may give up: see `SparsityPath.best`.
    groups, checkpoint, checkpoint_every, resume
        As for `kanlens.fit`; the path goes on within a strength.
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
    FileFormatError
        If `checkpoint` is of another path.
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
    check_generator("sparsity_path", generator)
    check_positive("sparsity_path", "threshold", threshold, zero=True)
    check_positive("sparsity_path", "tolerance", tolerance, zero=True)
    saved = checked_checkpoint("sparsity_path", checkpoint, checkpoint_every, resume=resume)
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
    path = _PathRun(first, plan, x, y, together, threshold, given, generator, saved)
    path.restore(saved.begun)
    total = given if isinstance(given, int) else len(given)
    stop = Interruption()
    with threads_for(path.size), progress_bar("path", total, shown=progress) as advance:
        reason = path.run(advance, stop)
    stop.warn("sparsity_path")
    return SparsityPath(
        steps=tuple(path.steps),
        penalty=weights,
        threshold=threshold,
        metric_name=metric_name(first),
        constant_loss=path.constant,
        tolerance=tolerance,
        held_out=path.held_out if path.held_out is not None else torch.empty(0).long(),
        stopped_because=reason,
        seconds=time.perf_counter() - started,
    )


def _checked(strengths: Sequence[float] | int | None, options: Mapping[str, Any]) -> Any:
    """Return the strengths, or their number."""
    known = {field.name for field in fields(FitOptions)} - set(CHOSEN_HERE)
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
        raise InvalidValueError("sparsity_path", "some strengths", "[]", "Pass a number")
    if any(b <= a for a, b in itertools.pairwise(values)):
        raise InvalidValueError("sparsity_path", "strengths to increase", repr(values), "Sort them")
    return values


@dataclass(eq=False)
class _PathRun:
    """State of a sparsity path: the last model, the rows, and the steps so far."""

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
    records: list[dict[str, Any]] = field(default_factory=list)  # what a checkpoint holds of steps
    known: list[dict[str, Any]] = field(default_factory=list)  # of one, not gone through yet
    begun: dict[str, Any] | None = None  # the run that a checkpoint was made in

    @property
    def size(self) -> int:
        """Numbers in the largest array of one operation, about."""
        rows = len(self.x) if self.plan.optimizer == "lbfgs" else self.plan.batch_size
        return rows * max(lay.in_features * lay.degrees_of_freedom for lay in self.model.layers)

    def run(self, advance: Callable[..., None], stop: Interruption) -> str:
        """Take every step, and say why there are no more."""
        advance(0)
        strengths = self.strengths
        with stop.kept():
            for strength in self._chosen(strengths) if isinstance(strengths, int) else strengths:
                self.steps.append(step := self._step(float(strength)))
                loss = f"strength {step.strength:.2e}  loss {step.held_out_loss:.2e}"
                advance(note=f"{loss}  {step.edges_above} edges")
        if stop.happened:
            self.saved.write()
            if not self.steps:
                raise KeyboardInterrupt
            return f"interrupted after strength {self.steps[-1].strength:.3g}"
        if not isinstance(strengths, int):
            return "all strengths done"
        if self._dead():
            return f"nearly all edges are dead at strength {self.steps[-1].strength:.3g}"
        return f"the model is alive at strength {self.steps[-1].strength:.3g}, the last one tried"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the path that resumes from it."""
        # rows held out are restored
        shared = resumption.identity_of(self.model, self.plan, self.x, self.y)
        shared["options"] |= {"strengths": self.strengths, "threshold": self.threshold}
        return shared

    def _note(self, state: Callable[[], Any], **_: Any) -> None:
        """Record the state of the run of one strength, as a part of the path's."""
        known = {"steps": list(self.records)}
        self.saved.note(lambda: {"identity": self.identity, **known, "run": state()})

    def restore(self, saved: dict[str, Any] | None) -> None:
        """Go back to a state that a checkpoint holds, if there is one."""
        if saved is None:
            return
        resumption.check_identity(saved, self.identity, call="sparsity_path")
        self.known, self.begun = list(saved["steps"]), saved["run"]
        self.held_out = saved["run"]["held_out"]

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
            before, after = self.steps[-2:]
            pairs = ((before.loss, after.loss), (before.penalty, after.penalty))
            if self._dead() or all(abs(new - old) <= STILL * abs(old) for old, new in pairs):
                return
            yield after.strength * GROWTH

    def _dead(self) -> bool:
        """Tell whether the last model explains next to nothing of the first one's variance."""
        explained = [self.constant - step.held_out_loss for step in (self.steps[0], self.steps[-1])]
        return self.steps[-1].edges_above == 0 or explained[1] <= DEAD * explained[0]

    def _step(self, strength: float) -> PathStep:
        model = copy.deepcopy(self.model)
        if self.known:
            record = self.known.pop(0)
            model.load_state_dict(record["model"])
            model.scaled = True
            store_statistics(model, self.x[self._kept])
        else:
            record = self._trained(model, strength)
        self.records.append(record)
        self.model = model
        return self._described(model, strength, record)

    def _trained(self, model: KAN, strength: float) -> dict[str, Any]:
        """Train a model, and return what a checkpoint needs to know of that."""
        started = time.perf_counter()
        options = replace(self.plan, strength=strength)
        rows = self.x, self.y
        run = TrainingRun(model, options, *rows, self.generator, groups=self.groups)
        if self.begun is None:
            run.begin(self.held_out)
        else:
            run.restore(self.begun)
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
    def _kept(self) -> Tensor:
        held_out = torch.empty(0).long() if self.held_out is None else self.held_out
        return ~torch.isin(torch.arange(len(self.x)), held_out)

    def _described(self, model: KAN, strength: float, record: dict[str, Any]) -> PathStep:
        """Measure the model of a finished run."""
        kept, best, plan = self._kept, record["best"], self.plan
        x, judged = self.x[kept], kept if bool(kept.all()) else ~kept
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
            self.constant = constant_loss(model, self.y[kept], self.y[judged])
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
