"""Networks of growing size, scored by cross-validation of the whole growth.

Each fold grows networks of its own, terms and all: scores of terms chosen on all rows would be too
good. The score of a size is that of the networks of at most that many edges in all folds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_count, check_generator, check_positive
from kanlens._display import Displayed
from kanlens._model_inputs import needed_widths, prepare_data
from kanlens._plain_json import to_plain
from kanlens._resources import threads_for, within_memory
from kanlens._runtime import Deadline, Interruption, progress_bar
from kanlens.data._groups import deal_groups, row_groups
from kanlens.data._tables import Table
from kanlens.errors import InvalidValueError, rewording
from kanlens.model._network import KAN, PerRow
from kanlens.training._closed_form import (
    column_names,
)
from kanlens.training._default_ensemble import sorted_by_target
from kanlens.training._fit import labelled, row_weights
from kanlens.training._growth import read_interactions
from kanlens.training._growth_paths import Growth
from kanlens.training._objective import metric_name, row_losses, score
from kanlens.training._result import mean_and_error

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
MIN_EDGES = 30  # to grow to, or two for each column


@dataclass(frozen=True, kw_only=True)
class FrontierStep:
    """Networks of one size.

    Attributes
    ----------
    edges : int
        Number of edges as the network grew, of which those of the levels of a category count as
        one. The last fit, to all rows, may give an edge to columns that had none, within the limit.
    score : float
        R2 or accuracy on held-out rows.
    loss, standard_error : float
        Mean loss on held-out rows, in scaled units of the target, and its standard error.
    added : str
        The last term: "curves alone", columns of a product, or "link".
    """

    edges: int
    score: float
    loss: float
    standard_error: float
    added: str


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Frontier(Displayed):
    """Networks of growing size and their cross-validated scores.

    Attributes
    ----------
    steps : tuple of FrontierStep
        The sizes, increasing.
    metric_name : str
        "R2" or "accuracy".
    rows, folds : int
        Numbers of rows that networks grew on, and of folds.
    seconds : float
        Time taken.
    interrupted : bool
        Whether growth ended by an interrupt or by the time limit.
    """

    steps: tuple[FrontierStep, ...]
    metric_name: str
    rows: int
    folds: int
    seconds: float
    interrupted: bool
    _growth: Growth
    _losses: Tensor

    def _line(self) -> str:
        step = self.steps[self.index()]
        words = f"{len(self.steps)} sizes; simplest of {step.edges} edges"
        return f"{words}, {self.metric_name} {step.score:.4g} on {self.rows:,} held-out rows"

    def index(self, edges: int | None = None) -> int:
        """Return the place of the smallest network within one standard error of the best [1]_.

        The error is that of the difference of their losses over the rows; only networks of at most
        `edges` edges count.

        References
        ----------
        .. [1] L. Breiman et al., Classification and Regression Trees, 1984, section 3.4.3.
        """
        sizes = [step.edges for step in self.steps]
        last = len(sizes) if edges is None else int(np.searchsorted(sizes, edges, side="right"))
        if not last:
            expected, got = f"edges of at least {sizes[0]}", repr(edges)
            raise InvalidValueError("Frontier", expected, got, "Allow more edges")
        best = min(range(last), key=lambda place: self.steps[place].loss)
        for place in range(best):
            rise, error = mean_and_error(self._losses[place] - self._losses[best])
            if rise <= error:
                return place
        return best

    @property
    def simplest(self) -> KAN:
        """The smallest network within one standard error of the best."""
        return self.model()

    def model(self, edges: int | None = None) -> KAN:
        """Return the network of `index`, fitted to all rows with all parts of its curves."""
        return self._growth.finished(self.index(edges), edges)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per size."""
        import pandas as pd

        return pd.DataFrame([vars(step) for step in self.steps])

    def to_json(self) -> str:
        """Return the sizes and scores as JSON."""
        fields = {name: value for name, value in vars(self).items() if name[0] != "_"}
        return json.dumps(to_plain({**fields, "steps": [vars(step) for step in self.steps]}))


@within_memory
def frontier(
    data: Table | tuple[Any, Any],
    *,
    max_edges: int | None = None,
    interactions: int | Sequence[tuple[str, str]] | None = None,
    build: Callable[[list[int], int], KAN] | None = None,
    sample_weight: PerRow | None = None,
    groups: PerRow | str | None = None,
    seconds: float | None = None,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
) -> Frontier:
    """Grow networks from curves alone, term by term, and score each size by cross-validation.

    A network is ``H(sum_i f_i(x_i) + sum_k u_k v_k)``: a curve for each column, products of two
    sums of curves, and an increasing link. Terms are added by marginal likelihood, per edge.

    Parameters
    ----------
    data : Table or tuple (x, y)
        As for `kanlens.fit`. Networks grow on at most 10,000 evenly spread rows.
    max_edges : int, optional
        Largest number of edges; levels of a category count once. Default: 30, or 2 for each column
        if there are more than 15.
    interactions : int or sequence of pairs of column names, optional
        Largest number of products, or the pairs of columns that may be in one. With either there is
        no link, because by a link all columns interact. Default: no limit.
    build : callable, optional
        As for `kanlens.fit_default`.
    sample_weight, groups
        As for `kanlens.fit`.
    seconds : float, optional
        Time after which no more terms are added.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    generator : torch.Generator, optional
        Draws the five folds. Default: one seeded by torch's default generator.

    Returns
    -------
    Frontier

    Raises
    ------
    DataError, ShapeError, InvalidValueError
        As `kanlens.fit`.

    Examples
    --------
    >>> x = torch.rand(300, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> front = frontier((x, 5 * x[:, 0] * x[:, 1] + x[:, 2] ** 2), progress=False)
    >>> front.steps[-1].score > front.steps[0].score
    True
    """
    check_generator("frontier", generator)
    if seconds is not None:
        check_positive("frontier", "seconds", seconds, zero=True)
    with rewording("frontier"):
        data, labels = labelled(data, groups)
        features, outputs = needed_widths(data)
        model = KAN([features, outputs]).double() if build is None else build([], 3)
        x, y = prepare_data(model, data, constant=False)
        weights = None if sample_weight is None else row_weights(sample_weight, x)
        codes = row_groups(x, y, labels, call="fit")
        order = sorted_by_target(torch.randperm(len(x), generator=generator), y)
        folds = deal_groups(order, codes, min(FOLDS, int(codes.max()) + 1))
        most = default_edges(column_names(model)) if max_edges is None else max_edges
        check_count("frontier", "max_edges", most, least=len(model.output_names))
        own = read_interactions(interactions, column_names(model))
        copies = codes if labels is None else row_groups(x, y, call="fit")
        growth, stop = Growth(model, x, y, weights, copies, most, own), Interruption()
        with threads_for(0), progress_bar("growing", most, shown=progress) as advance:
            front = trace_frontier(growth, folds, seconds=seconds, advance=advance, stop=stop)
        stop.warn("frontier", "The sizes so far are returned")
        return front


def default_edges(names: Sequence[str]) -> int:
    """Return the number of edges to grow to, by the names of columns."""
    return max(MIN_EDGES, 2 * len(set(names)))


def trace_frontier(
    growth: Growth,
    folds: Tensor,
    *,
    seconds: float | None = None,
    advance: Callable[..., None] = lambda *_, **__: None,
    stop: Interruption | None = None,
) -> Frontier:
    """Grow networks on all rows and without each fold; return their scores."""
    started, stop, deadline = time.perf_counter(), stop or Interruption(), Deadline.after(seconds)
    growth.start(folds.numpy()[growth.rows])
    with stop.kept():
        growth.grow(deadline, advance)
    growth.growing.clear()
    return _scored(growth, time.perf_counter() - started, stop.happened or deadline.passed)


def _scored(growth: Growth, seconds: float, cut: bool) -> Frontier:
    """Return the frontier of networks grown."""
    model, paths, steps, losses = growth.model, growth.paths, list[FrontierStep](), list[Tensor]()
    order = growth.rows[np.concatenate(growth.held)]
    y = growth.y[torch.from_numpy(order)]
    weights = torch.from_numpy(growth.weights[order]).to(growth.x)
    firsts = [path for path, *_ in paths]
    for size in sorted({len(paths) * edges for path in firsts for edges in path.edges}):
        share = size // len(paths)
        places = tuple(path.at(share) for path in firsts)
        if growth.places and places == growth.places[-1]:
            continue
        growth.places.append(places)
        outputs = [
            np.stack([own[1 + fold].outputs[own[1 + fold].at(share)][rows] for own in paths], 1)
            for fold, rows in enumerate(growth.held)
        ]
        held_out = model.scale_outputs(torch.from_numpy(np.concatenate(outputs)).to(growth.x))
        losses.append(row_losses(model, held_out, y) * weights)
        mean, error = mean_and_error(losses[-1])
        added = [path.added[place] for path, place in zip(firsts, places, strict=True)]
        step = FrontierStep(
            edges=sum(path.edges[place] for path, place in zip(firsts, places, strict=True)),
            score=score(model, held_out, y),
            loss=mean,
            standard_error=error,
            added="; ".join(dict.fromkeys(added)),
        )
        steps.append(step)
    return Frontier(
        steps=tuple(steps),
        metric_name=metric_name(model),
        rows=len(order),
        folds=len(growth.held),
        seconds=seconds,
        interrupted=cut,
        _growth=growth,
        _losses=torch.stack(losses),
    )
