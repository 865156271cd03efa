"""Edge scores for pruning, and the loss that removing edges costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kanlens._checks import check_rows, warn_of_distant
from kanlens._lazy import pd
from kanlens._model_inputs import prepare_target
from kanlens._resources import Memory, threads_for, within_memory
from kanlens._runtime import progress_bar
from kanlens.errors import MethodError
from kanlens.model._analysis import Model, check_model, newton_steps
from kanlens.model._network import KAN, Rows, Targets
from kanlens.pruning._propagation import Propagation
from kanlens.sparsity import activation_l2, raw_l1, weight_l1
from kanlens.training._objective import constant_loss, task_loss

FLOOR = 1e-6  # smallest rise of the loss that a budget allows, over that of the best constant

Matrices = list[Tensor]  # one per layer, each of shape (out, in)


class LossEvaluator:
    """Loss during pruning: against targets, or the original outputs."""

    @torch.no_grad()
    def __init__(
        self,
        model: KAN,
        first: Tensor,
        y: Targets | None = None,
        *,
        rows: Tensor | None = None,
        budget: float | None = None,
        call: str,
    ) -> None:
        if not bool(torch.isfinite(first).all()):
            advice = "Leave out those rows"
            raise MethodError(call, "finite outputs on x", "NaN or infinity", advice)
        self.against_targets, self._model = y is not None, model
        self._rows = slice(None) if rows is None else rows
        if y is None:
            self.target = first  # to train on, for all rows
            selected = first[self._rows]
            variance, size = selected.var(0, correction=0), selected.abs().amax(0)
            varies = variance > (10 * torch.finfo(selected.dtype).eps * size).square()
            constant = torch.where(size > 0, size.square(), 1.0)
            self._scale = torch.where(varies, variance, constant)
        else:
            self.target = prepare_target(model, y, len(first), call=call)
            if model.loss.linear:
                warn_of_distant(call, model.output_names, self.target, range(len(first)))
        self._selected = self.target[self._rows]
        self.first_loss = self.loss(first)
        self.allowed = None if budget is None else self.first_loss
        if budget:
            unit = 1.0 if y is None else constant_loss(model, self._selected, self._selected)
            rise = budget * (1.0 if y is None else self.first_loss)
            self.allowed = self.first_loss + max(rise, FLOOR * unit)

    def newton_step(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Newton step (batch, out) of every row's loss, and the curvature (batch,)."""
        if not self.against_targets or self._model.loss.linear:
            step = self.target - output if self.against_targets else torch.zeros_like(output)
            return step, torch.ones_like(output[:, 0])
        if not self._model.loss.classes:
            steps, weights = newton_steps(self._model, output, self.target)
            return steps, weights.mean(1)
        single, codes = output.shape[1] == 1, self.target
        shares = output.sigmoid() if single else output.softmax(1)
        truth = codes.unsqueeze(1) if single else F.one_hot(codes, output.shape[1])
        curvature = (shares * (1 - shares)).mean(1).clamp_min(FLOOR)
        return (truth - shares) / curvature.unsqueeze(1), curvature

    def loss(self, output: Tensor) -> float:
        """Return the loss of an output (batch, out) of all rows."""
        output = output[self._rows]
        if self.against_targets:
            return float(task_loss(self._model, output, self._selected))
        return float(((output - self._selected).square() / self._scale).mean())


@dataclass(frozen=True)
class EdgeScore:
    """A score of edges, computed from a layer and its inputs or from the whole network."""

    name: str  # for `prune`
    column: str  # of `edge_scores`
    function: Callable[..., Any]  # of a layer and its inputs, returns a matrix; else see below
    of_network: bool = False  # of a propagation and its evaluator, returns all matrices


@dataclass(eq=False)
class Scorer:
    """Scores of a changing network, updated incrementally."""

    score: EdgeScore
    state: Propagation
    evaluator: LossEvaluator
    _last: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)  # x, scores

    @torch.no_grad()
    def matrices(self) -> Matrices:
        """Return the scores of all edges (0 if masked), reused for layers with unchanged inputs."""
        if self.score.of_network:
            matrices = self.score.function(self.state, self.evaluator)
        else:
            for index, layer in enumerate(self.state.model.layers):
                x = self.state.values[index]
                before, scores = self._last.get(index) or (x, self.score.function(layer, x))
                moved = [] if before is x else (before != x).any(0).nonzero()[:, 0].tolist()
                if moved:
                    part = layer.select(range(layer.out_features), moved)
                    scores = scores.clone()
                    scores[:, moved] = self.score.function(part, x[:, moved])
                self._last[index] = (x, scores)
            matrices = [scores for _, scores in self._last.values()]
        pairs = zip(self.state.model.layers, matrices, strict=True)
        return [torch.where(layer.mask != 0, scores, 0.0) for layer, scores in pairs]


@within_memory
def edge_scores(
    model: Model,
    x: Rows,
    y: Targets | None = None,
    *,
    max_memory: Memory = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return every score of every unmasked edge.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left unchanged.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Rows to compute the scores on.
    y : optional
        Targets, as for `fit`; without them damage is the mean square of the output's change over
        its variance.
    max_memory : str or int, optional
        As for `trace`.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    DataFrame
        One row per edge: layer, out, in, name, and

        - weight_l1: `kanlens.sparsity.weight_l1` over the layer's inputs;
        - raw_l1: efficient-kan's norm of the weights, `kanlens.sparsity.raw_l1`;
        - std: standard deviation of the function over the rows;
        - damage: the rise of the loss when this edge alone is replaced by its mean over the rows;
          negative where the loss falls;
        - backward: the score of KAN 2.0 [1]_: 1 for an output, for a factor the score of its
          product, for an edge that of its sum times its standard deviation over the sum's, and for
          a node the sum over its edges; the mean over the outputs.

    Raises
    ------
    MethodError
        If the model's output is not finite.
    InvalidValueError
        If the values of all nodes on the rows take more than `max_memory`.

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 3.

    Examples
    --------
    >>> import kanlens
    >>> edge_scores(kanlens.KAN([2, 1]), torch.rand(9, 2))["name"].tolist()
    ['x1 -> y', 'x2 -> y']
    """
    model = check_model("edge_scores", model)
    rows = model.prepare(x, call="edge_scores")
    check_rows("edge_scores", rows)
    widest = max(layer.in_features * layer.out_features for layer in model.layers)
    with threads_for(len(rows) * widest):
        state = Propagation(model, rows, call="edge_scores")
        evaluator = LossEvaluator(model, state.output, y, call="edge_scores")
        columns = {}
        with progress_bar("edge_scores", len(SCORES), shown=progress) as advance:
            for score in SCORES.values():
                columns[score.column] = Scorer(score, state, evaluator).matrices()
                advance(note=score.column)
    edges = [
        (index, out, in_)
        for index, layer in enumerate(model.layers)
        for out, in_ in (layer.mask != 0).nonzero().tolist()
    ]
    frame = pd.DataFrame(edges, columns=["layer", "out", "in"])
    frame["name"] = [model.edge_name(*edge) for edge in edges]
    for column, matrices in columns.items():
        frame[column] = [float(matrices[index][out, in_]) for index, out, in_ in edges]
    return frame


def _damage(state: Propagation, evaluator: LossEvaluator) -> Matrices:
    """Return the rise of the loss when one edge alone is replaced by its mean."""
    before, matrices = evaluator.loss(state.output), []
    for index, layer in enumerate(state.model.layers):
        rises = torch.zeros_like(layer.mask)
        for out, in_ in (layer.mask != 0).nonzero().tolist():
            loss = evaluator.loss(state.without((index, out, in_)))
            rises[out, in_] = loss - before if math.isfinite(loss) else math.inf
        matrices.append(rises)
    return matrices


def _backward(state: Propagation, _: LossEvaluator) -> Matrices:
    """Return the backward score of KAN 2.0."""
    model = state.model
    node = torch.full_like(state.values[-1][0], 1 / model.widths[-1])
    scores: Matrices = []
    for index in range(len(model.layers) - 1, -1, -1):
        layer, sums = model.layers[index], state.sums[index]
        edges = activation_l2(layer, state.values[index]) * (layer.mask != 0)
        sums = sums.std(0, correction=0)[:, None]
        shares = torch.where(sums > 0, edges / torch.where(sums > 0, sums, 1.0), 0.0)
        scores.append(node[model.nodes[index].owner][:, None] * shares)
        node = scores[-1].sum(0)
    return scores[::-1]


_ALL = (
    EdgeScore("l1", "weight_l1", weight_l1),
    EdgeScore("raw_l1", "raw_l1", lambda layer, _: raw_l1(layer)),
    EdgeScore("std", "std", activation_l2),
    EdgeScore("damage", "damage", _damage, of_network=True),
    EdgeScore("backward", "backward", _backward, of_network=True),
)
SCORES = {score.name: score for score in _ALL}
