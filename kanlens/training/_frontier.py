"""`frontier`: networks of growing size and their scores, with those of other models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice, check_generator, check_positive, optional_module
from kanlens._resources import within_memory
from kanlens._runtime import Deadline, Interruption, interrupts_pass
from kanlens.data._schema import default_schema
from kanlens.data._source import Source
from kanlens.data._tables import Table
from kanlens.errors import rewording
from kanlens.model._losses import loss_of
from kanlens.model._network import KAN, PerRow
from kanlens.training._baselines import MACHINES, baseline_scores
from kanlens.training._checkpointing import EVERY, Checkpoint
from kanlens.training._closed_form import count_edges
from kanlens.training._exposures import adjusted
from kanlens.training._fit import labelled, warn_interrupted
from kanlens.training._fit_default import default_build, fit_default, grow_networks, losing
from kanlens.training._frontier_result import Frontier, Growth
from kanlens.training._options import choose_loss
from kanlens.training._process_group import Ranks

REFERENCES = {"default": "default network", "boosting": "gradient boosting", "ebm": "EBM"}


@within_memory
def frontier(
    data: Table | Source | tuple[Any, Any],
    *,
    max_edges: int | None = None,
    interactions: int | Sequence[tuple[str, str]] | None = None,
    constraints: Mapping[str, str] | None = None,
    build: Callable[[list[int], int], KAN] | None = None,
    loss: str | None = None,
    quantile: float | Sequence[float] | None = None,
    power: float | None = None,
    exposure: PerRow = None,
    offset: PerRow = None,
    event: PerRow = None,
    sample_weight: PerRow | None = None,
    groups: PerRow | str | None = None,
    references: Collection[str] = (),
    time_limit: float | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = EVERY,
    resume: bool = False,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
) -> Frontier:
    """Grow networks term by term and cross-validate each size.

    A network is ``H(sum_i f_i(x_i) + sum_k u_k v_k)``, with a curve f_i for each column, sums of
    curves u_k and v_k, and an increasing function H of the sum, called its link (the inverse link
    of a generalized linear model). At each step, the term with the largest gain in log marginal
    likelihood per added edge is added.

    Parameters
    ----------
    data : Table, Source or tuple (x, y)
        As for `kanlens.fit`. Networks grow on at most 10,000 evenly spread rows. Of a source larger
        than memory, they are fitted to a sample.
    max_edges : int, optional
        Largest number of edges; the levels of a categorical column count as one edge. Default: 30,
        or 2 for each column if there are more than 15 columns.
    interactions : int or sequence of pairs of column names, optional
        Largest number of products, or the pairs of columns that a product may contain. If given, no
        link is added, because it would make all columns interact. Default: no limit.
    constraints : mapping of column names, optional
        Shapes of the effects of columns, as for `kanlens.fit_default`.
    build : callable, optional
        As for `kanlens.fit_default`.
    loss, quantile, power, exposure, offset, event, sample_weight, groups
        As for `kanlens.fit`. A link is added to networks of "squared_error" only.
    references : collection of {"default", "boosting", "ebm"}
        Other models to score on the same folds, if growth was not cut short: the default network
        and gradient boosting, which take about as long as growth, and an explainable boosting
        machine of the package interpret-core, which takes minutes. Default: none.
    time_limit : float, optional
        Seconds after which no more terms are added and no references are scored.
    checkpoint, checkpoint_every, resume
        As for `kanlens.fit`; the folds are those of the checkpoint.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    generator : torch.Generator, optional
        Draws the five folds. Default: one seeded by torch's default generator.

    Returns
    -------
    Frontier

    Raises
    ------
    DataError, ShapeError, FileFormatError, InvalidValueError
        As `kanlens.fit`.

    Examples
    --------
    >>> x = torch.rand(300, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> front = frontier((x, 5 * x[:, 0] * x[:, 1] + x[:, 2] ** 2), progress=False)
    >>> front.steps[-1].score > front.steps[0].score
    True
    """
    check_generator("frontier", generator)
    saved = Checkpoint("frontier", checkpoint, checkpoint_every, resume=resume)
    for name in [str(references)] if isinstance(references, str | bool) else references:
        check_choice("frontier", "references", name, REFERENCES)
    if "ebm" in references:
        optional_module(MACHINES, call="frontier", extra="bench")
    if time_limit is not None:
        check_positive("frontier", "time_limit", time_limit, zero=True)
    with rewording("frontier"):
        data, labels = labelled(data, groups)
        chosen = choose_loss(default_schema(1, 1), loss, quantile, power, call="fit")
        per_row = {"exposure": exposure, "offset": offset, "event": event}
        data, sample_weight = adjusted(data, sample_weight, loss_of(chosen), per_row)
        stop, build = Interruption(), build or default_build(data, generator)
        build = losing(build, chosen)
        rows, limits = (data, sample_weight, labels), (max_edges, interactions)
        way: dict[str, Any] = {"deadline": Deadline.after(time_limit), "stop": stop}
        way |= {"ranks": Ranks(), "progress": progress, "generator": generator}
        way["constraints"] = constraints
        front = grow_networks(build, rows, limits, saved, **way)
        if references and not front.interrupted:
            with stop.kept(), interrupts_pass(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the data, for the second time
                _add_references(front, references, progress, generator)
        cut: dict[str, Any] = {"time_limit": time_limit if front.interrupted else None}
        warn_interrupted(stop, saved, "The sizes so far are returned", call="frontier", **cut)
        return replace(front, interrupted=front.interrupted or stop.happened)


def _add_references(
    front: Frontier,
    names: Collection[str],
    progress: bool | None,
    generator: torch.Generator | None,
) -> None:
    """Add the scores of other models on the rows and folds of growth."""
    growth = front._growth
    model, rows = growth.model, _judged(growth)

    def build(hidden: list[Any], grid_size: int) -> KAN:
        widths = [model.widths[0], *hidden, model.widths[-1]]
        network = KAN(widths, grid_size=grid_size, generator=generator)
        network.schema = model.schema
        return network.to(model.dtype)

    weights = None if growth.sample_weight is None else growth.sample_weight[rows]
    way: dict[str, Any] = {"progress": progress, "generator": generator}
    way |= {"groups": growth.folds[rows], "sample_weight": weights}
    for key in (key for key in REFERENCES if key in names):
        if key == "default":
            result = fit_default((growth.x[rows], growth.y[rows]), build=build, **way)
            name = f"the default network of {count_edges(result.model):,} edges"
            front.references[name] = result.metric
        else:
            for score in simple_scores(front, [key]).values():
                front.references[REFERENCES[key]] = score


def simple_scores(front: Frontier, names: Sequence[str]) -> dict[str, float]:
    """Return the scores of baseline models on the rows and folds of growth."""
    growth, rows = front._growth, _judged(front._growth)
    folds = growth.folds[rows]
    splits = [(rows[folds != fold], rows[folds == fold]) for fold in folds.unique()]
    return baseline_scores(growth.model, growth.x, growth.y, splits, names)


def _judged(growth: Growth) -> Tensor:
    """Return the indices of rows that some fold held out, in order."""
    return torch.from_numpy(np.sort(growth.rows[np.concatenate(growth.held)]))
