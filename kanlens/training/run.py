"""Training loop: steps, grid updates, early stopping, checkpoints, and the guard."""

from __future__ import annotations

import copy
import importlib
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kanlens.data.groups import all_single, row_groups, split_groups
from kanlens.errors import InvalidValueError, TrainingError
from kanlens.long_work import Interruption, interrupts_wait
from kanlens.model import kernels
from kanlens.model.network import KAN
from kanlens.model.recording import store_statistics, trace
from kanlens.training.objective import Objective, metric_name, row_losses, score, task_loss
from kanlens.training.options import FitOptions
from kanlens.training.preparation import HISTORY, check_footprint, settle_range, settle_scaling
from kanlens.training.proximal import ProximalSteps
from kanlens.training.ranks import Ranks
from kanlens.training.result import FitResult
from kanlens.training.resumption import check_identity, identity_of

IMPROVEMENT = 1e-4  # relative, below which a step counts as none for early stopping
OUTSIDE = 0.01  # share of a layer's inputs outside their grids that is left alone
POLISH = 50  # proximal steps at the end, at most
COST = 1e-3  # relative rise of the loss that a last move of the grids may cost
BLOCKS = 16  # of rows that processes share; more of them than blocks have nothing to do
LBFGS_ITERATIONS = 10  # of the optimizer, in one step
UNSEEN = (
    "which is unchanged: pass more steps, or another learning_rate",
    "which may have been trained on the held-out rows and is unchanged: hold none out, or pass "
    "rows that it has not seen",
)
QUICK = 2_000_000  # numbers in a basis from which statistics are had in a moment
SAVED = ("held_out", "history", "best", "step", "stale", "stopped_because", "batch", "grid_error")

Part = tuple[Tensor, Tensor, Tensor | None, float]  # x, y, weights of rows, and the share of all


class TrainingRun:
    """The state of one training run; `begin` or `restore` it, `train`, then `finish` it.

    Takes all rows x (batch, in) in the units of the data, and targets as
    `kanlens.encoding.prepare_target` returns them; weights (batch,) of rows have mean 1. Rows are
    held out by `groups` (batch,), as `row_groups` returns them. The generator draws held-out rows
    and batches; when None, its seed is drawn from torch's own.
    """

    optimizer: torch.optim.Optimizer
    advance: Callable[..., None]  # moves the bar
    pace = 1  # by which the bar moves at the end of a step

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
        self.groups = groups
        self.objective = Objective(
            model=model,
            penalty=options.weights,
            strength=options.strength,
            entropy_weight=options.entropy,
        )
        self.widest = max(lay.in_features * lay.degrees_of_freedom for lay in model.layers)
        self.generator = generator
        self.held_out = torch.empty(0, dtype=torch.long)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        self.step, self.stale = 0, 0
        self.interrupted = False
        self.failed = False  # a batch had a loss that was not finite
        self.stopped_because = ""
        self.proximal: ProximalSteps | None = None
        self.batch = 0  # of the epoch that has begun, how many are done
        self.grid_error = 0.0  # of the step that has begun
        self.note: Callable[..., None] = lambda state, last=False: None

    def agree(self, begun: Any) -> None:
        """Give all processes the first one's weights and draws; refuse other data or `begun`."""
        if self.ranks.count == 1:
            return
        where = None if begun is None else (begun["step"], begun.get("batch"))
        device = self.model.input_shift.device
        self.ranks.check_same(repr((self.identity, where)), device)
        source = self._seeded()
        drawn = source.get_state()
        self.ranks.copy([*self.model.state_dict().values(), drawn], device)
        source.set_state(drawn)

    def _seeded(self) -> torch.Generator:
        if self.generator is None:
            seed = int(torch.randint(2**63 - 1, ()))
            self.generator = torch.Generator().manual_seed(seed)
        return self.generator

    @property
    def size(self) -> int:
        """Numbers in the largest array of one operation, about: the basis of one layer."""
        rows = len(self.train_x)
        if self.options.optimizer != "lbfgs":
            rows = min(rows, self.options.batch_size)
        return rows * self.widest

    def begin(self, held_out: Tensor | None = None) -> None:
        """Hold rows out (drawn when None), settle the scaling, and note the untrained state."""
        self._seeded()
        if held_out is None:
            count = round(self.options.validation * len(self.x))
            held_out = torch.arange(0)
            if count:  # about so many rows, in order, and with each row all of its group
                order, groups = self._permutation(len(self.x)), self.groups
                groups = row_groups(self.x, self.y, call="fit") if groups is None else groups
                held_out = split_groups(order, groups, [count])[0].sort().values
        self.held_out = held_out
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
            self.stopped_because = "no steps were asked for"

    def _permutation(self, n: int) -> Tensor:
        source = self.generator
        device = "cpu" if source is None else source.device
        return torch.randperm(n, generator=source, device=device).cpu()

    def _split(self) -> None:
        kept = ~torch.isin(torch.arange(len(self.x)), self.held_out)
        if not bool(kept.any()):
            got = f"{len(self.held_out)} of {len(self.x)} rows held out"
            raise InvalidValueError("fit", "rows left to train on", got, "Pass more rows")
        self.train_x, self.train_y = self.x[kept], self.y[kept]
        self.test_x, self.test_y = self.x[self.held_out], self.y[self.held_out]
        weights = self.weights
        self.train_weights = None if weights is None else weights[kept]
        self.test_weights = None if weights is None else weights[self.held_out]
        check_footprint(self.model, self.options, self.train_x)

    def _start(self) -> None:
        """Drop statistics of earlier data, which would enter the penalty; make the optimizers."""
        for layer in self.model.layers:
            layer.statistics = None
        self.model.background = self.model.record = None
        if "torch._dynamo" not in sys.modules:  # which the first optimizer has torch import
            with interrupts_wait():
                importlib.import_module("torch._dynamo")
        self.optimizer = self._new_optimizer()
        if self.options.proximal and self.objective.penalized:
            self.proximal = ProximalSteps(self.objective)
            self.proximal.begin(self.train_x)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        parameters, options = list(self.model.parameters()), self.options
        if options.optimizer == "lbfgs":
            return torch.optim.LBFGS(
                parameters,
                lr=options.rate,
                max_iter=LBFGS_ITERATIONS,
                history_size=HISTORY,
                tolerance_grad=1e-14,
                tolerance_change=1e-16,
                line_search_fn="strong_wolfe",
            )
        if options.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=options.rate)
        return torch.optim.AdamW(parameters, lr=options.rate, weight_decay=options.weight_decay)

    def train(
        self,
        advance: Callable[..., None],
        *,
        note: Callable[..., None] | None = None,
        stop: Interruption | None = None,
    ) -> None:
        """Train until a stopping criterion; then restore the best state.

        `advance` moves a progress bar; `note` takes `state` and ``last=`` after every step, as
        `Checkpoint.note` does. Without `stop` an interrupt passes once the best state is back.
        """
        whole = False
        self.note = self.note if note is None else note
        try:
            with nullcontext() if stop is None else stop.kept():
                self._take_steps(advance)
                self._polish()
                self._back_to_the_best()
                self._follow_hidden_values()
                self._back_to_the_best()
                self._describe(1)
                whole = True
        finally:
            if not whole:
                self._back_to_the_best()
                few = max(1, len(self.train_x) * self.widest // QUICK)
                with kernels.use("torch"):  # a kernel might have to be compiled
                    self._describe(few)
        self.interrupted = stop is not None and stop.happened
        if self.interrupted:
            self.stopped_because = f"interrupted after step {len(self.history)}"

    def _take_steps(self, advance: Callable[..., None]) -> None:
        grid_steps = self.options.grid_steps()
        if any(nodes.grouping.arities for nodes in self.model.nodes):
            # not before the first step: products of untrained factors are next to nothing
            grid_steps = {step or max(1, self.options.steps // 10) for step in grid_steps}
        self.advance = advance
        advance(self.step)
        self.note(self.state)
        while not self.stopped_because:
            self._one_step(self.step in grid_steps)
            last = self.history[-1]
            metric = f"{metric_name(self.model)} {last['metric']:.4f}"
            advance(self.pace, note=f"loss {last['loss']:.3e}  {metric}")
            self._look_for_the_end(max(grid_steps, default=-1))
            self.note(self.state, last=bool(self.stopped_because))

    def _back_to_the_best(self) -> None:
        self.model.load_state_dict(self.best["state"])
        self.model.zero_grad()

    def _describe(self, every: int) -> None:
        """Store the statistics of every so many rows in the model."""
        store_statistics(self.model, self.train_x[::every])

    def _polish(self) -> None:
        """Take final proximal steps from the best state."""
        if self.proximal is not None and self.history:
            self.model.load_state_dict(self.best["state"])
            self.proximal.begin(self.train_x)
            self.proximal.iterate(self.train_x, self.train_y, POLISH, gain=1e-6)
            self._keep_if_as_good()

    @torch.no_grad()
    def _follow_hidden_values(self) -> None:
        """Move the grids once more when hidden values have left them, unless that costs loss."""
        if not self.options.grid_updates or not self.history:
            return
        outside = trace(self.model, self.train_x).outside[1:]
        if any(float(share.mean()) > OUTSIDE for share in outside):
            self.model.update_grid(self.train_x)
            self._keep_if_as_good()

    def _keep_if_as_good(self) -> None:
        """Keep the state made of the best one, unless that costs loss."""
        best = self.best["record"]
        record = {**self._evaluate(), "step": best["step"]}
        if self._monitor(record) <= self._monitor(best) * (1 + COST):
            self._keep(record)

    @torch.enable_grad()
    def _one_step(self, move_grids: bool) -> None:
        if self.batch == 0:  # else a run goes on within an epoch
            self.grid_error = self.model.update_grid(self.train_x) if move_grids else 0.0
        if move_grids and self.options.optimizer == "lbfgs":
            self.optimizer = self._new_optimizer()  # its curvature belongs to the old grid
        if self.options.optimizer == "lbfgs":
            self.optimizer.step(self._closure)
        else:
            self._one_pass()
        if self.proximal is not None and not self.failed:
            changed = self.proximal.iterate(self.train_x, self.train_y, 3)
            if changed and self.options.optimizer == "lbfgs":
                self.optimizer = self._new_optimizer()  # its curvature belongs to other edges
        self.optimizer.zero_grad()
        self.step += 1
        self.history.append({**self._evaluate(), "grid_error": self.grid_error})

    def _closure(self) -> Any:
        self.optimizer.zero_grad()
        if self.ranks.shared and self.objective.of_weights:
            value = self._by_blocks()
        else:
            x, y, weights, share = self._part(slice(None), len(self.train_x))
            value = self.objective.total(x, y, weights, self.ranks.average(share))
            if bool(torch.isfinite(value)):
                value.backward()
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
        """Return the objective on all rows, the same digits for any number of processes."""
        n, parameters = len(self.train_x), list(self.model.parameters())
        sums = self.train_x.new_zeros(BLOCKS, 1 + sum(map(Tensor.numel, parameters)))
        for block in range(BLOCKS)[self.ranks.share(BLOCKS)[0]]:
            rows = slice(n * block // BLOCKS, n * (block + 1) // BLOCKS)
            weights = None if self.train_weights is None else self.train_weights[rows]
            losses = row_losses(self.model, self.model(self.train_x[rows]), self.train_y[rows])
            loss = (losses if weights is None else losses * weights).sum() / n
            slopes = torch.autograd.grad(
                loss, parameters, allow_unused=True, materialize_grads=True
            )
            sums[block] = torch.cat([loss.detach()[None], *map(torch.flatten, slopes)])
        total = self.ranks.add_up(sums).sum(0)
        parts = total[1:].split([*map(Tensor.numel, parameters)])
        for parameter, slope in zip(parameters, parts, strict=True):
            parameter.grad = slope.view_as(parameter).clone()
        penalty = self.objective.penalty_term([])
        if penalty.requires_grad:
            penalty.backward()
        return total[0] + penalty.detach()

    def _one_pass(self) -> None:
        self._set_rate(self.step)
        self.drawn = self._seeded().get_state()  # before the epoch, of which some may be done
        for x, y, weights, share in self._rest():
            self._learn(x, y, weights, self.ranks.average(share))
            if self.failed:
                break
            self.batch += 1
            self.note(self.state)
        self.batch = 0

    def _set_rate(self, steps: float) -> None:
        """Let the learning rate fall along a cosine over the steps, of which so many are done."""
        fraction = steps / self.options.steps
        rate = self.options.rate * 0.5 * (1 + math.cos(math.pi * fraction))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _rest(self) -> Iterator[Part]:
        """Yield what this process takes of the batches of an epoch that are not done."""
        batches = self._permutation(len(self.train_x)).split(self.options.batch_size)
        for rows in batches[self.batch :]:
            yield self._part(rows, len(rows))

    def _part(self, rows: Tensor | slice, count: int) -> Part:
        """Return this process's share of so many rows: x, y, weights, and the part it is of all."""
        place, share = self.ranks.share(count)
        rows = rows[place] if isinstance(rows, Tensor) else place
        weights = None if self.train_weights is None else self.train_weights[rows]
        return self.train_x[rows], self.train_y[rows], weights, share

    def _learn(self, x: Tensor, y: Tensor, weights: Tensor | None, average: Any) -> None:
        """Take one step of the optimizer down the objective on a batch."""
        self.optimizer.zero_grad()
        value = self.objective.total(x, y, weights, average)
        self.failed = not bool(torch.isfinite(value))
        if self.failed:
            return
        value.backward()
        self.ranks.sum_gradients(self.model.parameters())
        self.optimizer.step()
        if self.proximal is not None:
            self.proximal.mask_gradients(weights=True)

    def _outputs(self, x: Tensor) -> Tensor:
        """Return the outputs of the model for all rows x (batch, in), by all processes."""
        return self.ranks.gather(self.model(x[self.ranks.share(len(x))[0]]), len(x))

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        place, share = self.ranks.share(len(self.train_x))
        output, penalty = self.objective.evaluated(self.train_x[place], self.ranks.average(share))
        output = self.ranks.gather(output, len(self.train_x))
        loss = task_loss(self.model, output, self.train_y, self.train_weights)
        y, validation_loss = self.train_y, math.nan
        if len(self.test_x):
            output, y = self._outputs(self.test_x), self.test_y
            validation_loss = float(task_loss(self.model, output, y, self.test_weights))
        return {
            "step": self.step,
            "loss": float(loss),
            "penalty": float(penalty),
            "validation_loss": validation_loss,
            "metric": score(self.model, output, y),
        }

    def _keep(self, record: dict[str, float]) -> None:
        state = {key: value.clone() for key, value in self.model.state_dict().items()}
        monitor = self._monitor(record)
        monitor = monitor if math.isfinite(monitor) else math.inf
        self.best = {"record": record, "monitor": monitor, "state": state}

    def _monitor(self, record: dict[str, float]) -> float:
        loss = record["validation_loss"] if len(self.test_x) else record["loss"]
        return loss + record["penalty"]

    def _look_for_the_end(self, last_grid_step: int) -> None:
        record = self.history[-1]
        monitor = self._monitor(record)
        if self.failed or not math.isfinite(record["loss"] + monitor):
            self.stopped_because = (
                f"the loss was not finite at step {self.step}; the model has the state of step "
                f"{self.best['record']['step']}, the best finite one"
            )
            return
        enough = monitor < self.best["monitor"] * (1 - IMPROVEMENT)
        self.stale = 0 if enough else self.stale + 1
        if monitor < self.best["monitor"]:
            self._keep(record)
        if self.step >= self.options.steps:
            self.stopped_because = f"all {self.options.steps} steps done"
        elif self.stale >= self.options.patience and self.step > last_grid_step:
            self.stopped_because = f"no improvement in {self.stale} steps"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that resumes from it."""
        groups = self.groups
        groups = None if groups is None or all_single(groups) else groups
        return identity_of(self.model, self.options, self.x, self.y, self.weights, groups)

    def state(self) -> dict[str, Any]:
        """Return a copy of what `restore` needs."""
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

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to what `state` has returned; refuse that of another run."""
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
        if self.generator is None:
            self.generator = torch.Generator()
        self.generator.set_state(saved["generator"])

    def finish(self, seconds: float) -> FitResult:
        """Report."""
        best, reason = self.best["record"], self.stopped_because
        if self.model.provenance and self.history and best["step"] == 0:
            unseen = UNSEEN[len(self.test_x) > 0]
            reason += f"; none was better than the model as imported, {unseen}"
        return FitResult(
            model=self.model,
            history=tuple(self.history),
            stopped_because=reason,
            best_step=int(best["step"]),
            loss=best["loss"],
            validation_loss=best["validation_loss"],
            metric_name=metric_name(self.model),
            metric=best["metric"],
            held_out=self.held_out,
            seconds=seconds,
            interrupted=self.interrupted,
        )
