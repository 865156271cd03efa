"""Integrated gradients, exact to rounding: quadrature between the knots that a line crosses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.additive import contributions
from kanlens.attribution.integration.crossings import meeting_points
from kanlens.attribution.integration.lines import Lines
from kanlens.attribution.integration.quadrature import Integrals, integrate
from kanlens.attribution.problem import MEAN_OUTPUT, MEAN_ROW, Parts, Problem, pairs
from kanlens.checks import check_choice, check_positive, message
from kanlens.errors import MethodError
from kanlens.model import analysis
from kanlens.progress import progress_bar

BASELINES = ("each", "mean")


def integrated_gradients(
    problem: Problem, *, baseline: str = "each", tolerance: float = 1e-12
) -> Parts:
    """Return the integral of the gradient along straight lines from the background.

    A feature's value is x_i - b_i times the mean of the output's derivative by it on the way from
    a background row b to the sample x. The way is cut where it crosses breakpoints, of the first
    layer and of hidden ones; between cuts the integrand is smooth and few nodes are exact up to
    rounding. Each segment has to add up to the output's change over it, and each feature's value
    has to agree between two rules; what does not is cut further. Sums of functions of single
    features need no quadrature.

    Parameters
    ----------
    problem : Problem
        With a background.
    baseline : {"each", "mean"}
        Start at every background row, and average; or at the mean of the background.
    tolerance : float
        Of the change of the output over a line.

    Returns
    -------
    Parts
        Counted from the mean output over the background, or from the output at its mean.
        `evaluations` are gradients for one sample, on the lines from all background rows.

    Raises
    ------
    InvalidValueError
        If `baseline` is none of these, or `tolerance` is not positive.
    MethodError
        If the output or its gradient is NaN or infinite on a line.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017.

    Examples
    --------
    >>> from kanlens.model.network import KAN
    >>> model = analysis.private_copy(KAN([2, 3, 1]))
    >>> x = torch.tensor([[0.5, -0.5]], dtype=torch.float64)
    >>> parts = integrated_gradients(Problem(model=model, x=x, rows=0 * x, target=0))
    >>> change = model(x)[0, 0] - parts.reference
    >>> bool((parts.values.sum() - change).abs() < 1e-14)
    True
    """
    check_choice("attribute", "baseline", baseline, BASELINES)
    check_positive("attribute", "tolerance", tolerance)
    rows = problem.background if baseline == "each" else problem.mean_row
    each = baseline == "each"
    reference = problem.expected_output() if each else float(problem.output(rows))
    found = _closed_form(problem, rows) if problem.additive else _averaged(problem, rows, tolerance)
    bad = ~torch.isfinite(found.values).all(1)
    if bool(bad.any()):
        expected = "finite outputs and gradients all the way from the background to the sample"
        got = f"NaN or infinity on the way to sample {int(bad.nonzero()[0])}"
        advice = "Choose background rows from which no function leaves its domain on the way"
        raise MethodError(message("attribute", expected, got, advice))
    return Parts(
        values=found.values,
        reference=reference,
        baseline=MEAN_OUTPUT if each else MEAN_ROW,
        evaluations=found.evaluations,
        remark=found.remark,
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """Values (batch, in), gradients evaluated for a sample, and how it was done."""

    values: Tensor
    evaluations: float
    remark: str


def _closed_form(problem: Problem, rows: Tensor) -> _Found:
    """Return differences of single functions: a one-layer sum has nothing else."""
    values = contributions(problem, problem.x) - contributions(problem, rows).mean(0)
    return _Found(values, 0.0, "closed form")


def _averaged(problem: Problem, rows: Tensor, tolerance: float) -> _Found:
    """Return the mean of the integrals over all lines that end at a sample."""
    x, knots = problem.x, meeting_points(problem.model, problem.target)
    values = torch.zeros_like(x)
    counts = torch.zeros(3, dtype=torch.long, device=x.device)
    crossed = sum(int(torch.isfinite(places).sum()) for places in knots)
    at_once = max(1, analysis.BUDGET // (2 * max(1, crossed) * x.shape[1]))
    with progress_bar(
        "integrated gradients", len(x) * len(rows), shown=problem.progress
    ) as advance:
        for here, there in pairs(len(x), len(rows), at_once):
            ours, theirs = x[here], rows[there]
            found = integrate(_between(problem, ours, theirs), knots, tolerance=tolerance)
            shape = (len(ours), len(theirs), -1)
            values[here] += found.values.reshape(shape).sum(1) / len(rows)
            counts += _totals(found)
            advance(len(ours) * len(theirs))
    lines = len(x) * len(rows)
    evaluations, segments, unsettled = (counts.double() / lines).tolist()
    remark = f"{evaluations:.0f} gradients and {segments:.1f} segments a line"
    if unsettled:
        remark += f"; a jump or a pole, not certified, on {int(counts[2])} of {lines} lines"
    return _Found(values, evaluations * len(rows), remark)


def _totals(found: Integrals) -> Tensor:
    """Return the number of gradients, of segments, and of lines that were not settled."""
    unsettled = found.unsettled > 0
    return torch.stack((found.evaluations.sum(), found.segments.sum(), unsettled.sum()))


def _between(problem: Problem, x: Tensor, rows: Tensor) -> Lines:
    """Return the lines from all background rows to all samples, sample by sample."""
    model = problem.model
    start, end = ((part - model.input_shift) / model.input_scale for part in (rows, x))
    return Lines(
        model=model,
        target=problem.target,
        start=start.repeat(len(x), 1),
        end=end.repeat_interleave(len(rows), 0),
        at_once=problem.rows_at_once,
    )
