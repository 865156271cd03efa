"""Integrated gradients, exact to rounding: quadrature between the knots that a line crosses."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.additive import contributions
from kanlens.attribution.integration.lines import Lines, meeting_points
from kanlens.attribution.integration.quadrature import integrate
from kanlens.attribution.method import method
from kanlens.attribution.problem import MEAN_OUTPUT, MEAN_ROW, LocalValues, Problem, pairs
from kanlens.checks import check_choice, check_positive, message
from kanlens.errors import MethodError
from kanlens.model import analysis
from kanlens.progress import progress_bar

BASELINES = ("each", "mean")


@method(exact=True, complete=True, together=True)  # its remark counts all lines
def integrated_gradients(
    problem: Problem, *, baseline: str = "each", tolerance: float = 1e-12
) -> LocalValues:
    """Gradients along the line from each background row, cut at the knots of all layers.

    A feature's value is x_i - b_i times the mean of the output's derivative by it on the way from
    a background row b to the sample x. The way is cut where it crosses breakpoints, of the first
    layer and of hidden ones; between cuts the integrand is smooth and few nodes are exact up to
    rounding. Each segment has to add up to the output's change over it, and each feature's value
    has to agree between two rules; what does not is cut further.

    Parameters
    ----------
    problem : Problem
        With a background.
    baseline : {"each", "mean"}
        Start at every background row, and average; or at the mean of the background.
    tolerance : float
        Of the change of the output over a line.

    The evaluations of the result are gradients for one sample, on the lines from all background
    rows.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017.
    """
    check_choice("attribute", "baseline", baseline, BASELINES)
    check_positive("attribute", "tolerance", tolerance)
    each = baseline == "each"
    rows = problem.background if each else problem.mean_row
    counted = MEAN_OUTPUT if each else MEAN_ROW
    if problem.additive:  # sums of functions of single features need no quadrature
        ours, theirs = contributions(problem, problem.x), contributions(problem, rows)
        values, evaluations, remark = ours - theirs.mean(0), 0.0, "closed form"
    else:
        values, evaluations, remark = _averaged(problem, rows, tolerance)
    bad = ~torch.isfinite(values).all(1)
    if bool(bad.any()):
        expected = "finite outputs and gradients all the way from the background to the sample"
        got = f"NaN or infinity on the way to sample {int(bad.nonzero()[0])}"
        advice = "Choose background rows from which no function leaves its domain on the way"
        raise MethodError(message("attribute", expected, got, advice))
    return problem.local(values, counted, evaluations=evaluations, remark=remark)


def _averaged(problem: Problem, rows: Tensor, tolerance: float) -> tuple[Tensor, float, str]:
    """Return the mean integrals over all lines to a sample, their evaluations, and a remark."""
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
            unsettled = found.unsettled > 0
            counts += torch.stack((found.evaluations.sum(), found.segments.sum(), unsettled.sum()))
            advance(len(ours) * len(theirs))
    lines = len(x) * len(rows)
    evaluations, segments, lost = (counts.double() / lines).tolist()
    remark = f"{evaluations:.0f} gradients and {segments:.1f} segments a line"
    if lost:
        remark += f"; a jump or a pole, not certified, on {int(counts[2])} of {lines} lines"
    return values, evaluations * len(rows), remark


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
