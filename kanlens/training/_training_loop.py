"""Training loop: steps, grid updates, early stopping, checkpoints, memory check."""

from __future__ import annotations

import copy
import importlib
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanlens._resources import check_memory
from kanlens._runtime import Interruption, interrupts_wait
from kanlens.data._groups import all_single, row_groups, split_groups
from kanlens.errors import InvalidValueError, TrainingError
from kanlens.model import kernels
from kanlens.model._analysis import levels_of
from kanlens.model._config import UNTRAINED
from kanlens.model._held_out import keep_held_out
from kanlens.model._network import KAN
from kanlens.model._spline_forward import Average
from kanlens.model._trace import store_statistics
from kanlens.training._checkpointing import check_identity, identity_of
from kanlens.training._constraints import MonotonePaths, check_proven
from kanlens.training._objective import Objective, row_losses, score, task_loss
from kanlens.training._options import FitOptions
from kanlens.training._process_group import Ranks, add_up
from kanlens.training._proximal import ProximalSteps
from kanlens.training._result import FitResult

if TYPE_CHECKING:
    from kanlens.training._streaming import RowStream

IMPROVEMENT = 1e-4  # relative, below which a step counts as none for early stopping
OUTSIDE = 0.01  # tolerated share of a layer's inputs outside their grids
POLISH = 50  # proximal steps at the end, at most
COST = 1e-3  # relative rise of the loss allowed for a last grid update
BLOCKS = 16  # blocks of rows, which are divided among the processes
LBFGS_ITERATIONS = 10  # of the optimizer, in one step
UNSEEN = (
    "which is unchanged: pass more steps, or another learning_rate",
    "which may have been trained on the held-out rows and is unchanged: hold none out, or pass "
    "rows that it has not seen",
)
QUANTILES = (0.05, 0.95)
FENCE = 10.0  # largest distance from these quantiles, over that between them
SPARE = (5, 30)  # outermost values by which a range grows: maximum, and rows for each
HISTORY = 20  # steps and slopes that LBFGS keeps
REFIT = 3000  # numbers that moving the grid of one input takes; measured: 3900
VALUES = 5  # numbers kept for one input of a layer and one row; measured: 6 to 12
QUICK = 2_000_000  # numbers in a basis whose statistics take a moment
SAVED = ("held_out", "history", "best", "step", "stale", "stopped_because", "batch", "grid_error")

# x, y and weights of the rows of one process, and the function from its means to those of all rows
Part = tuple[Tensor, Tensor, Tensor | None, Average | None]


class TrainingRun:
    """The state of one training run; call `begin`, `train` and `finish` in this order.

    Takes all rows x (batch, in) in the units of the data, and targets as `prepare_target` returns
    them; weights (batch,) of rows have mean 1. Rows are held out by `groups` (batch,), as
    `row_groups` returns them. The generator draws held-out rows and batches; None is one seeded by
    torch's default generator. With a `stream`, batches are of the rows of a source, and x is a
    sample for range, scaling, grids and early stopping.
    """

    optimizer: torch.optim.Optimizer
    fused: bool | None = None  # an option of Adam
    stream: RowStream | None = None
    advance: Callable[..., None]  # moves the progress bar
    note: Callable[..., None] | None = None  # writes checkpoints

    def __init__(
        self,
        model: KAN,
        options: FitOptions,
        x: Tensor,
        y: Tensor,
        generator: torch.Generator | None = None,
        weights: Tensor | None = None,
        ranks: Ranks | None = None,
        groups: Tensor | None = None,
    ) -> None:
        self.model, self.options, self.x, self.y = model, options, x, y
        self.weights, self.ranks = weights, Ranks() if ranks is None else ranks
        self.groups, self.generator = groups, generator
        self.objective = Objective(
            model=model,
            penalty=options.weights,
            strength=options.strength,
            entropy_weight=options.entropy,
        )
        self.widest = max(lay.in_features * lay.degrees_of_freedom for lay in model.layers)
        self.held_out = torch.empty(0, dtype=torch.long)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        self.step, self.stale = 0, 0
        self.interrupted = False
        self.failed = False  # a batch had a loss that was not finite
        self.stopped_because = ""
        self.proximal: ProximalSteps | None = None
        self.batch = 0  # batches done of the current epoch
        self.grid_error = 0.0  # of the current step

    def begin(self, saved: dict[str, Any] | None = None, held_out: Tensor | None = None) -> None:
        """Hold out rows and set the scaling, or restore a saved state."""
        if self.ranks.count > 1:
            self._agree(saved)
        if saved is not None:
            self._restore(saved)
            return
        self.held_out = self._draw_held_out() if held_out is None else held_out
        self._seeded()
        self._split()
        settle_range(self.model, self.x)
        settle_scaling(self.model, self.train_x, self.train_y, self.options.scale)
        self._start()
        record = self._evaluate()
        if not math.isfinite(record["loss"] + record["penalty"]):
            what = "loss" if not math.isfinite(record["loss"]) else "penalty"
            got = f"a {what} of {record[what]}"
            advice = "Correct huge numbers or start from another model", "pass {scale}"
            raise TrainingError("fit", "a finite loss to start from", got, *advice, scale=True)
        self._keep(record)
        if self.options.steps == 0:
            self.stopped_because = "the number of steps was 0"

    def _agree(self, saved: dict[str, Any] | None) -> None:
        """Copy weights and random state to all processes; refuse different data."""
        place = None if saved is None else (saved["step"], saved.get("batch"))
        device = self.model.input_shift.device
        self.ranks.check_same(repr((self.identity, place)), device)
        source = self._seeded()
        state = source.get_state()
        self.ranks.copy([*self.model.state_dict().values(), state], device)
        source.set_state(state)

    def _seeded(self) -> torch.Generator:
        if self.generator is None:
            self.generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
        return self.generator

    def _permutation(self, n: int) -> Tensor:
        source = self.generator
        device = "cpu" if source is None else source.device
        return torch.randperm(n, generator=source, device=device).cpu()

    def _draw_held_out(self) -> Tensor:
        """Draw about the share `validation` of the rows, without splitting groups."""
        self._seeded()
        count = round(self.options.validation * len(self.x))
        if not count:
            return torch.arange(0)
        order, groups = self._permutation(len(self.x)), self.groups
        groups = row_groups(self.x, self.y, call="fit") if groups is None else groups
        return split_groups(order, groups, [count])[0].sort().values

    def _split(self) -> None:
        mask = ~torch.isin(torch.arange(len(self.x)), self.held_out)
        if not bool(mask.any()):
            got = f"{len(self.held_out)} of {len(self.x)} rows held out"
            raise InvalidValueError("fit", "rows left to train on", got, "Pass more rows")
        self.train_x, self.train_y = self.x[mask], self.y[mask]
        self.test_x, self.test_y = self.x[self.held_out], self.y[self.held_out]
        weights = self.weights
        self.train_weights = None if weights is None else weights[mask]
        self.test_weights = None if weights is None else weights[self.held_out]
        if self.stream is not None:
            self.stream.without = self.stream.sampled[self.held_out.numpy()]
        check_footprint(self.model, self.options, self.train_x)

    def _start(self) -> None:
        """Delete statistics of earlier data; create the optimizers."""
        for layer in self.model.layers:
            layer.statistics = None
        for name, value in {"background": None, **UNTRAINED}.items():
            setattr(self.model, name, value)
        self.paths = MonotonePaths(self.model, self.options.constraints)
        if "torch._dynamo" not in sys.modules:  # the first optimizer imports it
            with interrupts_wait():
                importlib.import_module("torch._dynamo")
        parameters, options = list(self.model.parameters()), self.options
        if options.optimizer == "lbfgs":
            self.optimizer = torch.optim.LBFGS(
                parameters,
                lr=options.rate,
                max_iter=LBFGS_ITERATIONS,
                history_size=HISTORY,
                tolerance_grad=1e-14,
                tolerance_change=1e-16,
                line_search_fn="strong_wolfe",
            )
        else:
            adamw = partial(torch.optim.AdamW, weight_decay=options.weight_decay)
            kind = torch.optim.Adam if options.optimizer == "adam" else adamw
            self.optimizer = kind(parameters, lr=options.rate, fused=self.fused)
        if options.proximal and options.strength:
            self.proximal = ProximalSteps(self.objective)
            self.proximal.begin(self.train_x)

    def train(
        self,
        advance: Callable[..., None],
        *,
        note: Callable[..., None] | None = None,
        stop: Interruption | None = None,
    ) -> None:
        """Train until a stopping criterion; then restore the best state.

        `advance` moves a progress bar; `note` is called after every step, like `Checkpoint.note`.
        Without `stop`, an interrupt is raised once the best state is restored.
        """
        completed = False
        self.advance, self.note = advance, note
        try:
            with nullcontext() if stop is None else stop.kept():
                self._take_steps()
                self._refine_best()
                self._describe(1)
                completed = True
        finally:
            if not completed:
                self._load_best()
                every = max(1, len(self.train_x) * self.widest // QUICK)
                with kernels.use("torch"):  # a kernel might have to be compiled
                    self._describe(every)
        self.interrupted = stop is not None and stop.happened
        if self.interrupted:
            self.stopped_because = f"interrupted after step {len(self.history)}"

    def _take_steps(self) -> None:
        options, grid_steps = self.options, self.options.grid_steps()
        if any(nodes.grouping.arities for nodes in self.model.nodes):
            # not before the first step: products of untrained factors are nearly 0
            grid_steps = {step or max(1, options.steps // 10) for step in grid_steps}
        self.advance(self.step)
        if self.note is not None:
            self.note(self.state)
        while not self.stopped_because:
            self._one_step(self.step in grid_steps)
            record = self.history[-1]
            metric = f"{self.model.loss.metric} {record['metric']:.4f}"
            self.advance(0 if self.stream else 1, note=f"loss {record['loss']:.3e}  {metric}")
            monitor = self._monitor(record)
            if self.failed or not math.isfinite(record["loss"] + monitor):
                self.stopped_because = (
                    f"the loss was not finite at step {self.step}; the model has the state of step "
                    f"{self.best['record']['step']}, the best finite one"
                )
            else:
                improved = monitor < self.best["monitor"] * (1 - IMPROVEMENT)
                self.stale = 0 if improved else self.stale + 1
                if monitor < self.best["monitor"]:
                    self._keep(record)
                if self.step >= options.steps:
                    self.stopped_because = f"all {options.steps} steps done"
                elif self.stale >= options.patience and self.step > max(grid_steps, default=-1):
                    self.stopped_because = f"no improvement in {self.stale} steps"
            if self.note is not None:
                self.note(self.state, last=bool(self.stopped_because))

    @torch.no_grad()
    def _refine_best(self) -> None:
        """Take the last proximal steps, and update grids that hidden values have left."""
        self._load_best()
        if self.history and self.proximal is not None:
            self.proximal.begin(self.train_x)
            self.proximal.iterate(self.train_x, self.train_y, POLISH, gain=1e-6)
            self._keep_if_as_good()
        if self.history and self.options.grid_updates:
            hidden = levels_of(self.model, self.train_x)[0][1:-1]
            outside = [
                layer.outside(values).sum(0).double() / len(values)
                for layer, values in zip(self.model.layers[1:], hidden, strict=True)
            ]
            if any(float(share.mean()) > OUTSIDE for share in outside):
                self.model.update_grid(self.train_x)
                self._keep_if_as_good()

    def _load_best(self) -> None:
        self.model.load_state_dict(self.best["state"])
        self.model.zero_grad()

    def _keep_if_as_good(self) -> None:
        """Keep the current state as the best if its loss is within `COST`; load the best state."""
        best = self.best["record"]
        record = {**self._evaluate(), "step": best["step"]}
        if self._monitor(record) <= self._monitor(best) * (1 + COST):
            self._keep(record)
        self._load_best()

    def _describe(self, every: int) -> None:
        """Store the statistics of every `every`-th row in the model."""
        store_statistics(self.model, self.train_x[::every])

    @torch.enable_grad()
    def _one_step(self, move_grids: bool) -> None:
        if self.batch == 0:  # else a resumed run is within an epoch
            self.grid_error = self.model.update_grid(self.train_x) if move_grids else 0.0
        if self.options.optimizer == "lbfgs":
            if move_grids:
                self.optimizer.state.clear()  # its curvature belongs to the old grid
            self.optimizer.step(self._closure)
        else:
            self._one_pass()
        if self.proximal is not None and not self.failed:
            changed = self.proximal.iterate(self.train_x, self.train_y, 3)
            if changed and self.options.optimizer == "lbfgs":
                self.optimizer.state.clear()  # its curvature belongs to other edges
        self.optimizer.zero_grad()
        self.step += 1
        self.history.append({**self._evaluate(), "grid_error": self.grid_error})

    def _closure(self) -> Any:
        self.optimizer.zero_grad()
        if self.ranks.shared and self.objective.of_weights:
            value = self._by_blocks()
        else:
            x, y, weights, average = self._part()
            value = self.objective.total(x, y, weights, average)
            if bool(torch.isfinite(value)):
                value.backward()
                if average is not None:
                    self.ranks.sum_gradients(self.model.parameters())
        if bool(torch.isfinite(value)):
            if self.proximal is not None:
                self.proximal.mask_gradients()
            return value.detach()
        # an infinite value without a slope makes the line search halve its bracket
        for parameter in self.model.parameters():
            parameter.grad = torch.full_like(parameter, math.nan)
        return torch.full_like(value, math.inf)

    def _by_blocks(self) -> Tensor:
        """Return the objective and set gradients, bit for bit equal for any number of processes."""
        n, parameters = len(self.train_x), list(self.model.parameters())
        sums = self.train_x.new_zeros(BLOCKS, 1 + sum(map(Tensor.numel, parameters)))
        for block in range(BLOCKS)[self.ranks.share(BLOCKS)[0]]:
            rows = slice(n * block // BLOCKS, n * (block + 1) // BLOCKS)
            weights = None if self.train_weights is None else self.train_weights[rows]
            parts = self.model(self.train_x[rows]), self.train_y[rows]
            losses = row_losses(self.model, *parts, weights)
            loss = (losses if weights is None else losses * weights).sum() / n
            slopes = torch.autograd.grad(
                loss, parameters, allow_unused=True, materialize_grads=True
            )
            sums[block] = torch.cat([loss.detach()[None], *map(torch.flatten, slopes)])
        total = (add_up(sums) if self.ranks.count > 1 else sums).sum(0)
        parts = total[1:].split([*map(Tensor.numel, parameters)])
        for parameter, slope in zip(parameters, parts, strict=True):
            parameter.grad = slope.view_as(parameter).clone()
        penalty = self.objective.penalty_term([])
        if penalty.requires_grad:
            penalty.backward()
        return total[0] + penalty.detach()

    def _one_pass(self) -> None:
        self._set_rate(self.step)
        self.drawn = self._seeded().get_state()  # before the epoch, part of which may be done
        for part in self._batches():
            self._learn(*part)
            if self.failed:
                break
            self.batch += 1
            if self.note is not None:
                self.note(self.state)
        self.batch = 0

    def _set_rate(self, steps: float) -> None:
        """Set the learning rate of the cosine schedule after a number of steps."""
        fraction = steps / self.options.steps
        rate = self.options.rate * 0.5 * (1 + math.cos(math.pi * fraction))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _batches(self) -> Iterator[Part]:
        """Yield this process's part of each remaining batch of the epoch."""
        if self.stream is None:
            batches = self._permutation(len(self.train_x)).split(self.options.batch_size)
            yield from map(self._part, batches[self.batch :])
            return
        source, total = self._seeded(), self.stream.rows
        seed = int(torch.randint(2**62, (), generator=source, device=source.device))
        for x, y, rows in self.stream.batches(seed, self.batch):
            done = self.batch * self.options.batch_size / total  # also in a resumed run
            self._set_rate(self.step + min(1.0, done))
            self.advance(rows / total)
            if len(x):
                yield x, y, None, self.ranks.average(len(x) / rows)
            else:
                yield self.train_x[:1], self.train_y[:1], None, self.ranks.average(0.0)

    def _part(self, rows: Tensor | None = None) -> Part:
        """Return this process's part of some rows, by default of all training rows."""
        own, average = slice(None) if rows is None else rows, None
        if self.ranks.count > 1:
            place, share = self.ranks.share(len(self.train_x) if rows is None else len(rows))
            own, average = place if rows is None else rows[place], self.ranks.average(share)
        weights = None if self.train_weights is None else self.train_weights[own]
        return self.train_x[own], self.train_y[own], weights, average

    def _learn(self, x: Tensor, y: Tensor, weights: Tensor | None, average: Average | None) -> None:
        """Take one step of the optimizer down the objective on a batch."""
        self.optimizer.zero_grad()
        value = self.objective.total(x, y, weights, average)
        self.failed = not bool(torch.isfinite(value))
        if self.failed:
            return
        value.backward()
        if average is not None:
            self.ranks.sum_gradients(self.model.parameters())
        self.optimizer.step()
        self.paths.keep()
        if self.proximal is not None:
            self.proximal.mask_gradients(weights=True)

    def _outputs(self, x: Tensor) -> Tensor:
        """Return the outputs of the model for x (batch, in), computed by all processes."""
        own = x if self.ranks.count == 1 else x[self.ranks.share(len(x))[0]]
        outputs: Tensor = self.model(own)
        return outputs if self.ranks.count == 1 else self.ranks.gather(outputs, len(x))

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        self.paths.keep()
        y, validation_loss = self.train_y, math.nan
        x, _, _, average = self._part()
        output, penalty = self.objective.evaluated(x, average)
        if average is not None:
            output = self.ranks.gather(output, len(y))
        weights = self.train_weights
        loss = task_loss(self.model, output, y, weights)
        if len(self.test_x):
            output, y, weights = self._outputs(self.test_x), self.test_y, self.test_weights
            validation_loss = float(task_loss(self.model, output, y, weights))
        return {
            "step": self.step,
            "loss": float(loss),
            "penalty": float(penalty),
            "validation_loss": validation_loss,
            "metric": score(self.model, output, y, weights),
        }

    def _keep(self, record: dict[str, float]) -> None:
        state = {key: value.clone() for key, value in self.model.state_dict().items()}
        monitor = self._monitor(record)
        monitor = monitor if math.isfinite(monitor) else math.inf
        self.best = {"record": record, "monitor": monitor, "state": state}

    def _monitor(self, record: dict[str, float]) -> float:
        loss = record["validation_loss"] if len(self.test_x) else record["loss"]
        return loss + record["penalty"]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Data, model and options of the run; those of a checkpoint must be the same."""
        groups = self.groups
        groups = None if groups is None or all_single(groups) else groups
        return identity_of(self.model, self.options, self.x, self.y, self.weights, groups)

    def state(self) -> dict[str, Any]:
        """Return a copy of the state from which `begin` can continue."""
        return {
            "identity": self.identity,
            "scaled": self.model.scaled,
            **{name: copy.copy(getattr(self, name)) for name in SAVED},
            "proximal_size": self.proximal.size if self.proximal is not None else None,
            "node_weights": self.objective.node_weights,
            "zeros": self.proximal.zeros if self.proximal is not None else None,
            "model": copy.deepcopy(dict(self.model.state_dict())),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self.drawn if self.batch else self._seeded().get_state(),
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        """Restore a saved state; refuse that of another run."""
        check_identity(saved, self.identity, call="fit")
        for name in SAVED:
            setattr(self, name, copy.copy(saved[name]))
        self.drawn = saved["generator"]
        self._split()
        self.model.load_state_dict(saved["model"])
        self.model.scaled = saved["scaled"]
        self._start()
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.proximal is not None:
            self.proximal.size, self.proximal.zeros = saved["proximal_size"], saved["zeros"]
            self.objective.node_weights = saved["node_weights"]
        self.generator = torch.Generator() if self.generator is None else self.generator
        self.generator.set_state(saved["generator"])

    def finish(self, seconds: float) -> FitResult:
        """Return the result."""
        best, reason, held_out = self.best["record"], self.stopped_because, self.held_out
        if self.model.provenance and self.history and best["step"] == 0:
            unseen = UNSEEN[len(self.test_x) > 0]
            reason += f"; none was better than the model as imported, {unseen}"
        if self.stream is not None:
            held_out = torch.from_numpy(self.stream.sampled)[held_out]
        self._keep_held_out()
        check_proven(self.model)
        return FitResult(
            model=self.model,
            history=tuple(self.history),
            stopped_because=reason,
            best_step=int(best["step"]),
            loss=best["loss"],
            validation_loss=best["validation_loss"],
            metric_name=self.model.loss.metric,
            metric=best["metric"],
            held_out=held_out,
            seconds=seconds,
            interrupted=self.interrupted,
        )

    @torch.no_grad()
    def _keep_held_out(self) -> None:
        """Keep the predictions of held-out rows in the model."""
        keep_held_out(self.model, self.test_x, self._outputs(self.test_x), self.test_y)


def settle_scaling(model: KAN, x: Tensor, y: Tensor, scale: bool | None) -> None:
    """Set the scaling from data: features span the grid, targets have spread 1."""
    settled, model.scaled = model.scaled, True
    if scale is False or (scale is None and settled):
        return
    x = x.clamp(model.input_low, model.input_high)
    low, high = x.amin(0), x.amax(0)
    grid_low, grid_high = model.layers[0].domain()
    ratio = (high - low) / (grid_high - grid_low)
    tiny = torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs())
    ratio = torch.where(high - low > tiny, ratio, torch.ones_like(ratio))
    middle, grid_middle = (low + high) / 2, (grid_low + grid_high) / 2
    model.input_scale.copy_(ratio)
    model.input_shift.copy_(middle - grid_middle * ratio)
    if model.schema.task == "regression":
        scaling = model.loss.settle(x, y)
        model.output_shift.copy_(scaling[0])
        model.output_scale.copy_(scaling[1])


def settle_range(model: KAN, x: Tensor, *, beyond: bool = False) -> None:
    """Extend the range of features to x (batch, in), cut off at `FENCE`.

    The limit is relative to `QUANTILES`, of the distinct values if most values are equal. A model
    that does not clip features is unchanged. With `beyond`, a range is also extended by the
    distance between its `SPARE` outermost values, to include likely new values.
    """
    if not model.holds_inputs:
        return
    ends = np.quantile(x.cpu().double().numpy(), QUANTILES, axis=0)  # (2, in)
    for i in np.flatnonzero(ends[0] == ends[1]):
        ends[:, i] = np.quantile(x[:, i].unique().cpu().double().numpy(), QUANTILES)
    room = FENCE * (ends[1] - ends[0])
    least, most = (torch.as_tensor(end).to(x) for end in (ends[0] - room, ends[1] + room))
    few = 1 + min(SPARE[0], len(x) // SPARE[1]) * beyond
    last, first = x.topk(few, dim=0).values, x.topk(few, dim=0, largest=False).values
    free = least == most  # constant columns
    low, high = first[0] - (first[-1] - first[0]), last[0] + (last[0] - last[-1])
    low = low.where(free, low.maximum(least))
    high = high.where(free, high.minimum(most))
    ranged = model.input_low.isfinite() & model.input_high.isfinite()
    model.input_low.copy_(torch.where(ranged, low.minimum(model.input_low), low))
    model.input_high.copy_(torch.where(ranged, high.maximum(model.input_high), high))


def check_footprint(model: KAN, options: FitOptions, x: Tensor) -> None:
    """Refuse to train on x (batch, in) where memory does not suffice.

    The estimate is a lower bound: training was measured to take 1.2 to 1.5 times that. Memory of
    other devices is not checked.
    """
    if x.device.type != "cpu":
        return
    weights = sum(parameter.numel() for parameter in model.parameters())
    copies = 3 + 2 * (HISTORY if options.optimizer == "lbfgs" else 1)
    widest = max(layer.in_features for layer in model.layers)
    points = (REFIT if options.grid_updates else 0) + VALUES * len(x)
    needed = x.element_size() * (copies * weights + points * widest)
    widths = [*(layer.in_features for layer in model.layers), len(model.schema.outputs)]
    what = f"training of {widths} on {len(x):,} rows"
    check_memory("fit", needed, what, "Take fewer nodes or rows")
