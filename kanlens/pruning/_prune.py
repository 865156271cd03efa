"""`prune`: remove edges by score, add their means to the biases, and report each cost."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_count, check_generator, check_positive, check_rows
from kanlens._resources import Memory, threads_for, within_memory
from kanlens.data._groups import row_groups, split_groups
from kanlens.errors import InvalidValueError
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN, Rows, Targets
from kanlens.pruning._history import PruneResult
from kanlens.pruning._propagation import Propagation, reached
from kanlens.pruning._removal import EdgeRemover
from kanlens.pruning._scores import SCORES, LossEvaluator

HELD_OUT = 0.2  # share of the rows that judge fine-tuning
MIN_ROWS = 5  # for fine-tuning


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
        Within a budget, remove whole hidden nodes before edges, the cheapest first. The edges that
        leave the other nodes of its level are fitted by least squares to their sums before (those
        of outputs, to the mean of output and target), so that nodes that do the same become one.
        They are fitted again, if the loss falls, when no more edge can be removed. Most useful for
        wide networks, as of `kanlens.fit_default`. Layers with functions as edges stay.
    finetune : int
        When no more edge can be removed, train for this many steps (of `fit`'s LBFGS), keep the
        result if the loss falls, and within a budget go on removing. A fifth of the rows is held
        out of training; the loss and the budget are then of these rows.
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
    """Return random rows, sorted, for fine-tuning; no group is split."""
    device = "cpu" if generator is None else generator.device
    order = torch.randperm(rows, generator=generator, device=device).cpu()
    groups = torch.arange(rows) if groups is None else groups
    return split_groups(order, groups, [max(1, round(HELD_OUT * rows))])[0].sort().values
