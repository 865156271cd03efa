"""Cross-validated ensemble in one network, along a path of penalties.

Each member is a group of hidden nodes, trained on all rows but its fold [1]_ and scored on it; a
small or deep network is one member, with one of six folds. The penalty decreases from one that
leaves nearly straight functions to almost none; the step with the lowest held-out loss is kept. The
mean of the members is one network of all their nodes; its gain over them, the ambiguity [1]_, is
subtracted from their loss. The penalty is on the squared second differences of B-spline
coefficients [2]_, and on the norm of each edge's coefficients, by which edges vanish [3]_. The
choice between no and one hidden layer is in `_fit_default`.

References
----------
.. [1] A. Krogh and J. Vedelsby, Neural network ensembles, cross validation, and active learning,
   1995.
.. [2] P. Eilers and B. Marx, Flexible smoothing with B-splines and penalties, 1996.
.. [3] M. Yuan and Y. Lin, Model selection and estimation in regression with grouped variables,
   2006.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from kanlens.data._groups import deal_groups, row_groups
from kanlens.model._held_out import keep_held_out
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._spline_forward import Average
from kanlens.model._trace import store_statistics
from kanlens.training._objective import score
from kanlens.training._options import FitOptions
from kanlens.training._process_group import Ranks
from kanlens.training._result import FitResult
from kanlens.training._training_loop import Part, TrainingRun, settle_range, settle_scaling

# Chosen on 15 tables, some simulated
MEMBERS, NODES = 6, 8  # members, and hidden nodes of each
STEPS = 30  # at most
UPDATES = (300, 9, 10_000)  # minimum, rows for each further one, maximum
GRIDS = (8, 1000, 20)  # intervals: minimum, rows for each further one, maximum
PATH = (1800.0, 0.002)  # first and last strength of the roughness penalty, times the rows
NORMS = 0.04  # strength of the edge norms, over the root of that of roughness
FLAT, RISE = 0.5, 0.05  # shares of the updates: before the learning rate falls; while it rises
RATE = 0.01
BATCHES = (128, 256, 2000)  # rows of a batch for small and large tables; rows of a large one


def ensemble_size(shape: Sequence[Any]) -> int:
    """Return the number of members of a network: 1 unless it has one hidden layer, of sums."""
    if len(shape) != 3 or not isinstance(shape[1], int):
        return 1
    return max(1, min(shape[1] // NODES, MEMBERS))


def grid_intervals(rows: int) -> int:
    """Return the number of grid intervals for a number of rows."""
    least, per, most = GRIDS
    return max(3, min(least + rows // per, most, rows // 10))


class EnsembleRun(TrainingRun):
    """The training of all members of a network with hidden layers.

    Arguments are as for `TrainingRun`. The network trained, `model`, is in single precision and
    scaled units and has the outputs of all members, one after the other.
    """

    fused = True
    weights: Tensor
    groups: Tensor
    train_weights: Tensor  # (batch, member), 0 for rows in the member's fold
    test_weights: Tensor  # (batch, member), 0 for all other rows

    def __init__(
        self,
        target: KAN,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        generator: torch.Generator | None,
        ranks: Ranks | None = None,
        groups: Tensor | None = None,
    ) -> None:
        settle_range(target, x, beyond=True)
        settle_scaling(target, x, y, None)
        groups = row_groups(x, y, call="fit") if groups is None else groups
        self.target, self.rows = target, x
        self.members, self.parts = ensemble_size(target.shape), min(MEMBERS, int(groups.max()) + 1)
        if self.members > 1:
            self.parts = self.members = min(self.members, self.parts)
        if target.task == "regression":
            y = target.loss.scaled(y, (target.output_shift, target.output_scale)).float()
        scaled = target.scale_inputs(x).float()
        least, per, most = UPDATES
        updates = min(least + len(x) // per, most)
        batch = min(BATCHES[len(x) >= BATCHES[2]], len(x))
        self.batches = -(-len(x) // batch)
        passes = math.ceil(updates / self.batches)
        self.passes = math.ceil(passes / STEPS)  # in one step
        options = FitOptions(
            optimizer="adam",
            steps=math.ceil(passes / self.passes),
            batch_size=batch,
            learning_rate=RATE,
            patience=STEPS // 3,
            grid_updates=4,
            scale=False,
        )
        differences = torch.eye(target.layers[0].spline_weight.shape[2]).diff(n=2, dim=0)
        self.bend = differences.mT @ differences
        weights = torch.ones(len(x)) if weights is None else weights.float()
        members = self._members(generator)
        super().__init__(members, options, scaled, y, generator, weights, ranks, groups)

    def _members(self, generator: torch.Generator | None) -> KAN:
        """Return one network of all members, without edges between them."""
        target, count = self.target, self.members
        outputs = len(target.output_names)
        first = target.layers[0]
        model = KAN(
            [*target.shape[:-1], count * outputs],
            grid_size=first.grid_size,
            spline_order=first.spline_order,
            base_activation=first.base_name,
            extrapolation=first.extrapolation,
            generator=generator,
        )
        with torch.no_grad():
            if count > 1:
                last = model.layers[-1]
                groups = torch.arange(last.in_features) * count // last.in_features
                owners = torch.arange(count).repeat_interleave(outputs)
                last.mask.copy_(owners.unsqueeze(1) == groups)
                last.base_weight.mul_(math.sqrt(count))  # scaled for the nodes of one member
                last.spline_scaler.mul_(math.sqrt(count))
        model.layers[0].grid_eps = first.grid_eps
        own = {name: getattr(target.schema, name) for name in ("task", "loss", "loss_parameter")}
        model.schema = dataclasses.replace(model.schema, **own)
        return model

    def begin(self, saved: dict[str, Any] | None = None, held_out: Tensor | None = None) -> None:
        """Deal the groups of rows to the folds, or go back to a saved state."""
        super().begin(saved, held_out)
        if saved is None and not any(nodes.grouping.arities for nodes in self.model.nodes):
            with torch.no_grad():  # products of untrained factors are nearly 0
                self.model.update_grid(self.train_x)

    def _draw_held_out(self) -> Tensor:
        """Return all rows, sorted by target, ties in random order, as they are dealt to folds."""
        return sorted_by_target(self._permutation(len(self.x)), self.y)

    def _split(self) -> None:
        """Assign to every member the rows that are not in its fold."""
        self.folds = deal_groups(self.held_out, self.groups, self.parts)
        self.judged = self.folds.unsqueeze(1) == torch.arange(self.members)  # (row, member)
        weights = self.weights.unsqueeze(1)
        self.train_weights, self.test_weights = weights * ~self.judged, weights * self.judged
        self.train_x, self.train_y, self.test_x, self.test_y = (self.x, self.y) * 2

    def _by_member(self, outputs: Tensor) -> Tensor:  # (batch, member, out)
        return outputs.view(len(outputs), self.members, -1)

    def _losses(self, outputs: Tensor, y: Tensor) -> Tensor:  # (batch, member)
        loss = self.model.loss
        if not loss.classes:
            return loss.rows(outputs, y.unsqueeze(1)).mean(2)
        codes = y.unsqueeze(1).expand(-1, outputs.shape[1]).reshape(-1)
        return loss.rows(outputs.flatten(0, 1), codes).view(len(y), -1)

    def _batches(self) -> Iterator[Part]:
        orders = (self._permutation(len(self.x)) for _ in range(self.passes))
        batches = (rows for order in orders for rows in order.tensor_split(self.batches))
        return map(self._part, itertools.islice(batches, self.batch, None))

    def _learn(self, x: Tensor, y: Tensor, weights: Tensor | None, average: Average | None) -> None:
        """Take one step on a batch, whose weights are (batch, member)."""
        batches = self.passes * self.batches
        share = (self.step * batches + self.batch) / (self.options.steps * batches)  # of the path
        fall = max(0.0, (share - FLAT) / (1 - FLAT))
        rate = self.options.rate * min(1.0, 0.02 + share / RISE)
        rate *= 0.5 * (1 + math.cos(math.pi * fall))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        start, end = PATH
        strength = start / len(self.x) * (end / start) ** share
        self.optimizer.zero_grad()
        losses = self._losses(self._by_member(self.model(x)), y)
        total = (cast("Tensor", weights) * losses).mean(0).sum()
        total = total if average is None else average(total)
        self.failed = not bool(torch.isfinite(total))
        if not self.failed:
            total.backward()
            if average is not None:
                self.ranks.sum_gradients(self.model.parameters())
            bend = strength * self.bend
            for layer in self.model.layers:
                add_penalties(layer, bend, NORMS * math.sqrt(strength))
            self.optimizer.step()

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        outputs = self._by_member(self._outputs(self.x))
        losses = self._losses(outputs, self.y)
        joint = self._losses(outputs.mean(1, keepdim=True), self.y)[:, 0]
        held = (losses * self.test_weights).sum() - ((losses.mean(1) - joint) * self.weights).sum()
        if self.members > 1:  # not below the loss on rows that most members have seen
            held = torch.maximum(held, (joint * self.weights).sum())
        rows = self.judged.any(1)
        return {
            "step": self.step,
            "loss": float((losses * self.train_weights).sum() / self.train_weights.sum()),
            "penalty": 0.0,
            "validation_loss": float(held / self.test_weights.sum()),
            "metric": score(self.model, outputs[self.judged], self.y[rows], self.weights[rows]),
        }

    def _describe(self, every: int) -> None:
        """Merge the members into the network; store its statistics."""
        layer, members = self.target.layers[-1], self.model.layers[-1]
        parameters = layer.spline_weight, layer.base_weight, layer.bias
        with torch.no_grad():
            edges = members.coefficients(), members.base_weights(), members.bias
            for hidden, trained in zip(
                self.target.layers[:-1], self.model.layers[:-1], strict=True
            ):
                hidden.load_state_dict(trained.state_dict())
            layer.grid.copy_(members.grid)
            layer.spline_scaler.fill_(1.0)
            for parameter, values in zip(parameters, edges, strict=True):
                parameter.copy_(values.double().unflatten(0, (self.members, -1)).mean(0))
        store_statistics(self.target, self.rows[::every])

    @torch.no_grad()
    def _keep_held_out(self) -> None:
        """Store each row's prediction by the member that was trained without it.

        Members have larger errors than their mean, whose loss is known, and errors are scaled to
        it; logits get the level and spread of the mean.
        """
        rows, outputs, y = self.judged.any(1), self._by_member(self._outputs(self.x)), self.y
        losses = float(self._losses(outputs, y)[self.judged].mean())
        if self.target.task == "classification":
            outputs = spread_as_mean(outputs)
        outputs, y, shrink = outputs[self.judged], y[rows], 1.0
        if self.target.task == "regression":
            scaling = self.target.output_shift, self.target.output_scale
            outputs = self.target.scale_outputs(outputs.double())
            y = self.target.loss.unscaled(y.double(), scaling)
            if self.members > 1:
                shrink = math.sqrt(max(self.best["record"]["validation_loss"], 0.0) / losses)
        keep_held_out(self.target, self.rows[rows], outputs, y, shrink=shrink)

    @torch.no_grad()
    def _member(self, index: int) -> KAN:
        """Return a member as a network of its own: a copy of their mean, other nodes masked."""
        network = copy.deepcopy(self.target)
        layer, trained = network.layers[-1], self.model.layers[-1]
        own = slice(index * layer.out_features, (index + 1) * layer.out_features)
        layer.mask.mul_(trained.mask[own])
        network.layers[0].mask.mul_(trained.mask[own][:1].mT)
        layer.spline_weight.copy_(trained.coefficients()[own])
        layer.base_weight.copy_(trained.base_weights()[own])
        layer.bias.copy_(trained.bias[own])
        network.held_out = None
        store_statistics(network, cast("Tensor", network.background))
        return network

    def finish(self, seconds: float) -> FitResult:
        """Return the result with the merged network as its model."""
        result = super().finish(seconds)
        result = dataclasses.replace(result, model=self.target)
        if self.members > 1:
            networks = tuple(map(self._member, range(self.members)))
            return dataclasses.replace(result, folds=self.folds, members=networks)
        return dataclasses.replace(result, held_out=self.judged[:, 0].nonzero()[:, 0])


def spread_as_mean(outputs: Tensor) -> Tensor:
    """Shift and scale outputs (row, member, out) to the level and spread of the members' mean."""
    mean = outputs.mean(1, keepdim=True)
    joint, own = (part - part.mean(0) for part in (mean, outputs))
    wide, info = joint.square().sum().sqrt(), torch.finfo(own.dtype)
    spreads = own.square().sum((0, 2)).sqrt().clamp_min(float(wide * info.eps) + info.tiny)
    return mean.mean(0) + own * (wide / spreads).unsqueeze(1)


def sorted_by_target(order: Tensor, y: Tensor) -> Tensor:
    """Return rows sorted by target; ties are in random `order`."""
    targets = y[order] if y.dim() == 1 else y[order, 0]
    return order[targets.argsort(stable=True)]


@torch.no_grad()
def add_penalties(layer: KANLinear, bend: Tensor, norms: float) -> None:
    """Add gradients of roughness (matrix `bend`) and edge norms; autograd takes twice the time."""
    weights = layer.weights()
    scale = (layer.spline_scaler * weights.mask).unsqueeze(-1)
    coef, base = weights.spline * scale, weights.base_weights()
    size = coef.square().mean(-1).addcmul_(base, base)
    share = norms * (size + 1e-8).rsqrt()  # (out, in)
    slope = coef @ (2 * bend)
    slope.addcmul_(coef, (share / coef.shape[-1]).unsqueeze(-1))
    for parameter, gradient in (
        (weights.spline, slope * scale),
        (layer.spline_scaler, (slope * weights.spline).sum(-1)),
        (weights.base, share * base),
    ):
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
