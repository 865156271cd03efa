"""`prune`: remove edges by score, add their means to the biases, and report each cost."""

from __future__ import annotations

import copy
import dataclasses
import json
import numbers
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_count, check_generator, check_positive, check_rows
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens._resources import Memory, threads_for, within_memory
from kanlens.data._groups import row_groups, split_groups
from kanlens.errors import InvalidValueError
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN, Rows, Targets
from kanlens.pruning._propagation import Propagation, reached
from kanlens.pruning._removal import EdgeRemover, RemovalLog
from kanlens.pruning._scores import SCORES, LossEvaluator

HELD_OUT = 0.2  # share of the rows that judge fine-tuning
MIN_ROWS = 5  # for fine-tuning

COLUMNS = (
    *("step", "layer", "out", "in", "name", "score", "relative_score", "reason"),
    *("loss_before", "loss_after", "edges_left", "loss_against"),
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PruneResult(Displayed):
    """A pruned model, the removed edges, and the loss after each removal.

    Attributes
    ----------
    model : KAN
        A new model; the one passed in is unchanged.
    removed : tuple of dict
        One record per removed edge, in the order of removal: step, layer, out, in, name, score,
        relative_score (to the layer's largest), reason ("score", "node" for edges that leave a
        node removed whole, "dead end" and "constant node" for edges that no longer do anything),
        loss_before, loss_after, edges_left. Indices and names are those of the model passed in.
    loss_before, loss_after : float
        Loss of the model before and after pruning. With fine-tuning, on rows not used for it.
    loss_against : {"targets", "outputs"}
        The training loss against y or, without y, the mean squared change of the model's outputs
        divided by their variance.
    loss_allowed : float, optional
        The largest loss that the budget allowed: loss_before plus the budget times loss_before
        (times 1 without y), or plus 1e-6 of the loss of the best constant (the variance of y, or
        the entropy of its classes) if that is more. None with a threshold.
    edges_before, edges_after : int
        Unmasked edges.
    dropped_features : tuple of str
        Features that lost their last edge.
    constant_outputs : tuple of str
        Outputs that no longer depend on any feature.
    score : str
        The score that ordered the edges.
    tuned : tuple of dict
        One record per refit of all edges, or fine-tuning, that lowered the loss: step (removals
        before it), loss_before, loss_after.
    stopped_because : str
        The reason why no more edges were removed, for example an interrupt.
    journal : RemovalLog, optional
        The record that `at` uses; it keeps the rows in memory.
    """

    model: KAN
    removed: tuple[dict[str, Any], ...]
    loss_before: float
    loss_after: float
    loss_against: str
    loss_allowed: float | None = None
    edges_before: int
    edges_after: int
    dropped_features: tuple[str, ...]
    constant_outputs: tuple[str, ...] = ()
    score: str
    tuned: tuple[dict[str, Any], ...] = ()
    stopped_because: str
    journal: RemovalLog | None = None

    @property
    def curve(self) -> pd.DataFrame:
        """Losses and edges left: step (removals so far), edges_left, loss.

        The first row is the model before; a refit, or fine-tuning, adds a row with the number of
        edges of the row above it.
        """
        rows = [(0, self.edges_before, self.loss_before)]
        rows += [(r["step"] + 1, r["edges_left"], r["loss_after"]) for r in self.removed]
        edges = [left for _, left, _ in rows]
        rows += [(r["step"], edges[r["step"]], r["loss_after"]) for r in self.tuned]
        rows.sort(key=lambda row: row[0])
        return pd.DataFrame(rows, columns=["step", "edges_left", "loss"])

    def at(self, step: int) -> KAN:
        """Return the network after `step` removals and their refits and fine-tuning.

        Parameters
        ----------
        step : int
            Number of removals: 0 for the model passed in, ``len(removed)`` for the last network;
            negative numbers count from the end.

        Returns
        -------
        KAN
            A new model with the features, layers and widths of the one passed in; its removed
            edges are masked and their means are in the biases, exactly as they were then.
            `kanlens.pruning.compact` removes nodes without edges.

        Raises
        ------
        InvalidValueError
            If `step` is out of range.

        Examples
        --------
        >>> import torch, kanlens
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = kanlens.KAN([3, 4, 1], generator=generator)
        >>> x = torch.rand(50, 3, generator=generator)
        >>> result = kanlens.prune(model, x, threshold=0.3)
        >>> result.at(2).edges_alive == result.edges_before - 2
        True
        """
        count = len(self.removed)
        whole = isinstance(step, numbers.Integral) and not isinstance(step, bool)
        if self.journal is None or not whole or not -count - 1 <= step <= count:
            expected, got = f"a step from 0 to {count}", repr(step)
            advice = "Count removals; `curve` lists them"
            raise InvalidValueError("PruneResult.at", expected, got, advice)
        return self.journal.at(int(step) if step >= 0 else count + 1 + int(step))

    def to_frame(self) -> pd.DataFrame:
        """Return `removed` as one row per edge, with a column `loss_against`."""
        frame = pd.DataFrame(list(self.removed), columns=list(COLUMNS))
        return frame.assign(loss_against=self.loss_against)

    def to_json(self) -> str:
        """Return all but the model as JSON; NaN and infinity become null."""
        names = [field.name for field in dataclasses.fields(self)]
        names = [name for name in names if name not in ("model", "loss_allowed", "journal")]
        return json.dumps(to_plain({name: getattr(self, name) for name in names}))

    def _line(self) -> str:
        lost = f", without {', '.join(self.dropped_features)}" if self.dropped_features else ""
        return (
            f"edges {self.edges_before} to {self.edges_after}, loss against {self.loss_against} "
            f"{self.loss_before:.4g} to {self.loss_after:.4g}, by {self.score}{lost}"
        )


@within_memory
def prune(  # noqa: PLR0913 - one keyword per choice
    model: Model,
    x: Rows,
    y: Targets | None = None,
    *,
    score: str = "l1",
    threshold: float | None = None,
    budget: float | None = None,
    rescore: bool = True,
    refit: bool = False,
    finetune: int = 0,
    max_memory: Memory = None,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
) -> PruneResult:
    """Remove the edges with the smallest scores.

    Some path from the features to an output always stays. Hidden layers of a model with statistics
    get those of `x`, as their inputs have changed.

    An interrupt (Ctrl-C) ends the search for edges that a budget allows to remove; the model after
    the last removal, within the budget, is returned with a warning.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left unchanged.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Rows for the means of removed edges and for the loss.
    y : optional
        Targets, as for `fit`; without them the loss is against the model's own outputs.
    score : {"l1", "raw_l1", "std", "damage", "backward"}
        Order of removal, see `kanlens.edge_scores` (``"l1"`` is its weight_l1). Damage and
        backward scores of different layers are compared directly, the others relative to the
        largest of their layer.
    threshold : float, optional
        Remove every edge whose score is below this share of its layer's largest.
    budget : float, optional
        Remove edges, smallest score first, while the loss rises by at most this share, or, if
        larger, by 1e-6 of the loss of the best constant prediction (variance of y, or class
        entropy). An edge that would exceed the budget is skipped. 0 changes nothing. Without y the
        output may change by this share of its variance, in the mean square.
    rescore : bool
        Within a budget, score the remaining edges again after every ``max(1, edges // 200)``
        removals.
    refit : bool
        Within a budget, remove whole hidden nodes before edges, the cheapest first. After each
        removal, the next layer is refitted by least squares to its sums before pruning (outputs, to
        the mean of output and target), so that equivalent nodes become one. When no more edges can
        be removed, layers are refitted once more if that lowers the loss. Most useful for wide
        networks, as of `kanlens.fit_default`. Layers with functions as edges are not refitted.
    finetune : int
        When no more edge can be removed, train for this many steps (of `fit`'s LBFGS), keep the
        result if the loss falls, and within a budget go on removing. A fifth of the rows is held
        out of training; the loss and the budget are then computed on these rows.
    max_memory : str or int, optional
        As for `trace`.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    generator : torch.Generator, optional
        Draws the rows held out for `finetune`; torch's default generator when None.

    Raises
    ------
    InvalidValueError
        If not exactly one of `threshold` and `budget` is given, an option is out of range, or the
        values of all nodes on the rows, or a refit, take more than `max_memory`.
    MethodError
        If a threshold would cut every path, the model has no path from a feature to an output, or
        its output is not finite.

    Examples
    --------
    >>> x = torch.rand(50, 3)
    >>> result = prune(KAN([3, 4, 1]), x, threshold=0.3)
    >>> result.edges_after + len(result.removed) == result.edges_before
    True
    """
    check_choice("prune", "score", score, SCORES)
    _check_limits(threshold, budget)
    check_count("prune", "finetune", finetune, least=0)
    check_generator("prune", generator)
    model = check_model("prune", model)
    rows = model.prepare(x, call="prune")
    check_rows("prune", rows)
    held_out = None
    if finetune:
        _check_tunable(model, rows, y)
        held_out = hold_out(len(rows), generator, row_groups(rows, call="prune"))
    widest = max(max(layer.out_features, layer.degrees_of_freedom) for layer in model.layers)
    with threads_for(len(rows) * widest):  # edges are evaluated node by node
        state = Propagation(copy.deepcopy(model), rows)
        evaluator = LossEvaluator(
            state.model, state.output, y, rows=held_out, budget=budget, call="prune"
        )
        options: dict[str, Any] = {"rescore": rescore, "refit": refit, "finetune": finetune}
        remover = EdgeRemover(state, evaluator, SCORES[score], held_out=held_out, **options)
        if threshold is not None:
            remover.cut_below(threshold, progress)
        elif budget and remover.evaluator.allowed is not None:
            remover.cut_within(remover.evaluator.allowed, progress)
        small = remover.model if budget == 0 else remover.finished()
        result = _result(model, small, remover, budget)
    remover.stop.warn("prune", f"The model is pruned so far, to {small.edges_alive} edges")
    return result


@torch.no_grad()
def _result(model: KAN, small: KAN, remover: EdgeRemover, budget: float | None) -> PruneResult:
    names, names_left = model.feature_names, set(small.feature_names)
    columns = [index for index, name in enumerate(names) if name in names_left]
    outputs = zip(small.output_names, reached(small).tolist(), strict=True)
    return PruneResult(
        model=small,
        removed=tuple(remover.removed),
        loss_before=remover.evaluator.first_loss,
        loss_allowed=remover.evaluator.allowed,
        loss_after=remover.evaluator.loss(small(remover.rows[:, columns])),
        loss_against="targets" if remover.evaluator.against_targets else "outputs",
        edges_before=model.edges_alive,
        edges_after=small.edges_alive,
        dropped_features=tuple(name for name in names if name not in names_left),
        constant_outputs=tuple(name for name, varies in outputs if not varies),
        score=remover.score.name,
        tuned=tuple(remover.tuned),
        stopped_because="a budget of 0 allows nothing" if budget == 0 else remover.stopped_because,
        journal=remover.journal,
    )


def _check_limits(threshold: float | None, budget: float | None) -> None:
    if (threshold is None) == (budget is None):
        got = "neither" if threshold is None else "both"
        advice = "Pass {threshold} or {budget}, for example"
        examples: dict[str, Any] = {"threshold": 0.05, "budget": 0.02}
        raise InvalidValueError("prune", "one of threshold and budget", got, advice, **examples)
    for name, value in (("threshold", threshold), ("budget", budget)):
        if value is not None:
            check_positive("prune", name, value, zero=True)
    if threshold is not None and threshold > 1:
        expected = "to be a share of the layer's largest score, from 0 to 1"
        got, advice = repr(threshold), "For example 0.05"
        raise InvalidValueError("prune", expected, got, advice, argument="threshold")


def _check_tunable(model: KAN, rows: Tensor, y: Targets | None) -> None:
    """Refuse too few rows, a classifier without labels, and a frozen network."""
    if len(rows) < MIN_ROWS:
        expected, got = f"at least {MIN_ROWS} rows for finetune", str(len(rows))
        raise InvalidValueError("prune", expected, got, "Pass more rows", "{finetune}", finetune=0)
    if y is None and model.task != "regression":
        expected, got = "y for finetune of a classifier", "none"
        raise InvalidValueError("prune", expected, got, "Pass targets", "{finetune}", finetune=0)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        expected, advice = "parameters to train for finetune", ("Unfreeze them", "pass {finetune}")
        raise InvalidValueError("prune", expected, "frozen ones", *advice, finetune=0)


def hold_out(rows: int, generator: torch.Generator | None, groups: Tensor | None = None) -> Tensor:
    """Return sorted indices of random rows to hold out of fine-tuning; no group is split."""
    device = "cpu" if generator is None else generator.device
    order = torch.randperm(rows, generator=generator, device=device).cpu()
    groups = torch.arange(rows) if groups is None else groups
    return split_groups(order, groups, [max(1, round(HELD_OUT * rows))])[0].sort().values
