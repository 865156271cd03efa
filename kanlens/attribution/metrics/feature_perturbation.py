"""PGI and PGU: what the output does when the features that matter move, or all others do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Score, undefined
from kanlens.attribution.metrics.metric import Metric
from kanlens.attribution.metrics.points import Function, displaced, evaluated, slices, some_rows
from kanlens.attribution.metrics.rankings import SHARE, count_of, over_counts, top

MOVES = 100  # of each sample
STRENGTH = 0.1  # standard deviation of a move, in ranges of the feature

Mover = Callable[[Tensor], Tensor]


def prediction_gap(
    output: Function,
    x: Tensor,
    values: Tensor,
    moved: Tensor,
    *,
    share: float = SHARE,
    area: bool = True,
    important: bool = True,
) -> Tensor:
    """Return the mean |change| of the output when the k largest features move, or all others do.

    Parameters
    ----------
    output : callable
        Maps (batch, in) to (batch,).
    x, values : Tensor, shape (batch, in)
        Samples and their attribution.
    moved : Tensor, shape (draws, batch, in)
        Where every feature moves to: noise around x, or rows of the background.
    share : float
        k as a share of the features; at least one feature.
    area : bool
        Mean over 1, ..., k (area under the curve) instead of k alone.
    important : bool
        Whether the k largest move (PGI) or all others (PGU).

    Returns
    -------
    Tensor, shape (batch,)
        In the units of the output.

    References
    ----------
    .. [1] C. Agarwal et al., OpenXAI: Towards a Transparent Evaluation of Model Explanations, 2022.

    Examples
    --------
    >>> x = torch.zeros(1, 2)
    >>> prediction_gap(lambda x: x[:, 0], x, torch.tensor([[1.0, 0.0]]), torch.ones(3, 1, 2))
    tensor([1.])
    """
    before = evaluated(output, x)
    most = count_of(share, x.shape[1])
    parts = []
    for k in range(1 if area else most, most + 1):
        chosen = top(values, k)
        points = torch.where(chosen if important else ~chosen, moved, x)
        parts.append((evaluated(output, points) - before).abs().mean(0))
    return over_counts(parts)


# --- the metrics ---------------------------------------------------------------------------------


def noise(case: Case) -> Mover | None:
    """Return what moves samples (batch, in) by a tenth of each range, to (draws, batch, in).

    None where nothing can move.
    """
    if case.known is None:
        return None
    width = case.known.amax(0) - case.known.amin(0)
    if not bool((width > 0).any()):
        return None
    generator = case.draws()  # one for all parts of the samples
    return lambda x: displaced(x, STRENGTH * width, MOVES, generator, outside=case.leaves)


def _background(case: Case) -> Mover | None:
    """Return what puts background rows in place of samples (batch, in), to (rows, batch, in)."""
    if case.replacements is None:
        return None
    rows = some_rows(case.replacements, MOVES, case.draws())
    return lambda x: rows[:, None].expand(-1, *x.shape)


def pgi(case: Case) -> Score:
    """Mean |change| when noise moves the largest features, in the units of the output."""
    return _gap(case, noise(case), important=True)


def pgu(case: Case) -> Score:
    """Mean |change| when noise moves all but the largest features."""
    return _gap(case, noise(case), important=False)


def pgi_background(case: Case) -> Score:
    """As `pgi`, with values from background rows instead of noise."""
    return _gap(case, _background(case), important=True)


def pgu_background(case: Case) -> Score:
    """As `pgu`, with values from background rows instead of noise."""
    return _gap(case, _background(case), important=False)


def _gap(case: Case, move: Mover | None, *, important: bool) -> Score:
    x, values, output = case.x, case.values, case.watched()
    if move is None or x is None or not case.has_output:
        return undefined(case)
    parts = [
        prediction_gap(output, x[part], values[part], move(x[part]), important=important)
        for part in slices(len(x), MOVES * x.shape[1])
    ]
    return Score.of(torch.cat(parts), offgrid=output.share)


_COST = "100 evaluations for each sample and k"
_OPENXAI = (
    "C. Agarwal et al., OpenXAI: Towards a Transparent Evaluation of Model Explanations, 2022"
)

METRICS = (
    Metric(
        name="pgi",
        function=pgi,
        direction="higher",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_OPENXAI,
        summary="mean |change| when noise moves the largest k, area over k up to a quarter",
    ),
    Metric(
        name="pgu",
        function=pgu,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_OPENXAI,
        summary="mean |change| when noise moves all but the largest k",
    ),
    Metric(
        name="pgi_background",
        function=pgi_background,
        direction="higher",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_OPENXAI,
        summary="mean |change| when the largest k come from background rows",
    ),
    Metric(
        name="pgu_background",
        function=pgu_background,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_OPENXAI,
        summary="mean |change| when all but the largest k come from background rows",
    ),
)
