"""Integrated gradients, exact to rounding: adaptive Gauss-Kronrod rules between crossed knots.

A segment is accepted when its values add up to the change of the output and both rules agree on
every feature; any other is refined.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from kanlens._checks import check_choice, check_positive
from kanlens._runtime import progress_bar
from kanlens.attribution._direct_methods import contributions
from kanlens.attribution._problem import Baseline, LocalValues, Problem, method, pairs
from kanlens.attribution.integration._lines import (
    Lines,
    Segments,
    hidden_cuts,
    meeting_points,
    smooth_segments,
)
from kanlens.errors import MethodError
from kanlens.model import _analysis as analysis

EXTRA_NODES = 2  # nodes for a segment that has too few, before it is cut
MIN_NODES_TO_CUT = 5  # least nodes for parts of a segment with a possible kink
MAX_NODES = 10  # nodes of the smaller rule; a segment that needs more is cut instead
HALVINGS = 40  # of one segment
STALLS = 3  # halvings without progress, as at a jump or a pole
SPENT = 20  # limit of evaluations, relative to a line's first pass, plus SPARE
SPARE = 500
LOST = 8.0  # multiple of the allowed error, below which an error is rounding
PROGRESS = 0.9  # largest ratio of an error to the one before that counts as progress
SLOW_DECAY = 0.5  # rate of decay above which a segment is too long
SHARE = 0.25  # approximate decay rate of a spline's coefficients, per cell
POLE = 2 * math.pi  # twice the distance of the logistic function's poles
NODE_SAFETY = 0.1  # multiple of the tolerance that the number of nodes is chosen for
KINK_RATIO = 100.0  # multiple of the expected decay above which there may be a kink
MAX_FEATURE_ERROR = 10.0  # multiple of the tolerance allowed for a feature's (high) estimate
SEGMENT_SHARE = 0.02  # share of the tolerance that the sum over one segment may use
ROUNDING = 4 * torch.finfo(torch.float64).eps


@method(exact=True, complete=True, together=True)  # its remark counts all lines
def integrated_gradients(
    problem: Problem, *, baseline: str = "each", tolerance: float = 1e-12
) -> LocalValues:
    """Gradients along the line from each background row, cut at the knots of all layers.

    A feature's value is ``(x_i - b_i)`` times the mean of the output's derivative by it on the line
    from a background row b to the sample x. The line is cut where it crosses breakpoints of any
    layer; between cuts the integrand is smooth and few points are exact up to rounding. A segment
    that does not add up to the change of the output, or on which two rules disagree, is refined.

    Parameters
    ----------
    baseline : {"each", "mean"}
        Start at every background row, and average; or at the mean of the background.
    tolerance : float
        Largest error, as a share of the change of the output over a line.

    `evaluations` of the result counts gradients per sample, on all of its lines.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017.
    """
    check_choice("attribute", "baseline", baseline, ("each", "mean"))
    check_positive("attribute", "tolerance", tolerance)
    all_rows = baseline == "each"
    rows = problem.background if all_rows else problem.mean_row
    counted = Baseline.MEAN_OUTPUT if all_rows else Baseline.MEAN_ROW
    if problem.additive:  # sums of functions of single features need no quadrature
        ours, theirs = contributions(problem, problem.x), contributions(problem, rows)
        values, evaluations, remark = ours - theirs.mean(0), 0.0, "closed form"
    else:
        values, evaluations, remark = _averaged(problem, rows, tolerance)
    bad = ~torch.isfinite(values).all(1)
    if bool(bad.any()):
        expected = "finite outputs and gradients between the background and the sample"
        got = f"NaN or infinity on the line to sample {int(bad.nonzero()[0])}"
        advice = (
            "Choose background rows such that the model is finite on the line from each to every "
            "sample"
        )
        raise MethodError("attribute", expected, got, advice)
    return problem.local(values, counted, evaluations=evaluations, remark=remark)


def _averaged(problem: Problem, rows: Tensor, tolerance: float) -> tuple[Tensor, float, str]:
    """Return the mean integrals over all lines to a sample, their evaluations, and a remark."""
    x, knots = problem.x, meeting_points(problem.model, problem.target)
    values = torch.zeros_like(x)
    counts = torch.zeros(3, dtype=torch.long, device=x.device)
    crossed = sum(int(torch.isfinite(places).sum()) for places in knots)
    at_once = max(1, analysis.BUDGET // (2 * max(1, crossed) * x.shape[1]))
    lines = len(x) * len(rows)
    with progress_bar("integrated gradients", lines, shown=problem.progress) as advance:
        for here, there in pairs(len(x), len(rows), at_once):
            ours, theirs = x[here], rows[there]
            part = integrate(_between(problem, ours, theirs), knots, tolerance=tolerance)
            values[here] += part.values.reshape(len(ours), len(theirs), -1).sum(1) / len(rows)
            unsettled = part.unsettled > 0
            counts += torch.stack((part.evaluations.sum(), part.segments.sum(), unsettled.sum()))
            advance(len(ours) * len(theirs))
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


# --- quadrature on lines --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Work:
    """Segments that are still to be integrated; shapes (segment,)."""

    segments: Segments
    least: Tensor  # nodes of the smaller rule, at least
    doubted: Tensor  # whether it, or the segment it was cut from, may have a kink
    stalls: Tensor  # tries in a row without progress
    misses: Tensor  # error at the last try, as in `Integrals.misses`


class Integrals:
    """Integrals of the gradient along lines so far, and the error budget of each line."""

    def __init__(self, lines: Lines, tolerance: float) -> None:
        self.values = torch.zeros_like(lines.start)  # (line, in), times end - start
        self.tolerance = tolerance  # relative to the change of the output
        self._none = self.values.new_zeros(len(lines.start))
        # (line,): numbers of gradients, of segments, and of segments never accepted
        self.evaluations, self.segments, self.unsettled = (self._none.long() for _ in range(3))
        every = torch.arange(len(lines.start), device=lines.start.device)
        at = torch.cat((self._none, self._none + 1))
        self.noise = lines.noise(every.repeat(2), at).reshape(2, -1).amax(0)

    def start(self, trial: _Trial) -> None:
        """Set the scale of errors on every line from the integrals over its segments."""
        owner, change, values = trial.segments.owner, trial.change, trial.values
        total = self._none.index_add(0, owner, change).abs()
        way = self._none.index_add(0, owner, change.abs())
        self._scale = total + 1e-3 * way
        every = torch.zeros_like(self.values).index_add(0, owner, values).abs().sum(1)
        way = self._none.index_add(0, owner, values.abs().sum(1))
        self._spread = torch.maximum(every + 1e-3 * way, self._scale)

    def misses(self, trial: _Trial, doubted: Tensor) -> tuple[Tensor, Tensor]:
        """Return errors over the allowed errors, and the mask of smooth segments."""
        owner = trial.segments.owner
        noise = ROUNDING * (trial.output + self.noise[owner])
        gap = (trial.values.sum(1) - trial.change).abs()
        allowed = SEGMENT_SHARE * self.tolerance * self._scale[owner] + noise
        spread = self._spread[owner]
        size = torch.maximum(trial.size, trial.segments.length * spread)
        smooth = (trial.apart.amax(1) <= KINK_RATIO * trial.expected * size) & ~doubted
        # elsewhere the smaller rule's error counts for the larger one
        error = torch.where(smooth, trial.estimate.amax(1), trial.apart.amax(1))
        single = error / (MAX_FEATURE_ERROR * self.tolerance * spread + noise)
        return torch.maximum(gap / allowed, single), smooth

    def add(self, segments: Segments, change: Tensor, values: Tensor, unsettled: Tensor) -> None:
        """Add finished segments; `unsettled` marks those above the tolerance."""
        owner = segments.owner
        self.values.index_add_(0, owner, values + 0 * change[:, None])  # NaN where it is infinite
        self.segments.index_add_(0, owner, torch.ones_like(owner))
        self.unsettled.index_add_(0, owner, unsettled.long())


def integrate(lines: Lines, knots: list[Tensor], *, tolerance: float = 1e-12) -> Integrals:
    """Integrate the gradient along lines; NaN where it or an output is not finite."""
    integrals, segments = Integrals(lines, tolerance), smooth_segments(lines, knots)
    none, endless = torch.zeros_like(segments.owner), torch.full_like(segments.low, torch.inf)
    work = _Work(segments, none + 1, none > 0, none, endless)
    for depth in range(HALVINGS + 1):
        segments = work.segments
        if not len(segments):
            break
        trial = _Trial(lines, segments, knots, work.least, tolerance)
        integrals.evaluations.index_add_(0, segments.owner, 2 * trial.counts + 1)
        if depth == 0:
            integrals.start(trial)
            most = SPENT * integrals.evaluations + SPARE
        misses, smooth = integrals.misses(trial, work.doubted)
        slow = (trial.decay <= SLOW_DECAY) & (misses > PROGRESS * work.misses)
        stalls = torch.where(slow, work.stalls + 1, 0)
        stuck = (misses > 1) & (stalls > 0)
        if bool(stuck.any()):
            part = segments[stuck]
            noise = lines.noise(part.owner, part.low + 0.5 * part.length)
            integrals.noise = integrals.noise.scatter_reduce(0, part.owner, noise, "amax")
            misses, smooth = integrals.misses(trial, work.doubted)
        spent = (integrals.evaluations > most)[segments.owner]
        given_up = (misses > 1) & ((stalls >= STALLS) | spent | (depth == HALVINGS))
        done = ~(misses > 1) | given_up  # or NaN
        lost = (given_up & (misses > LOST))[done]
        integrals.add(segments[done], trial.change[done], trial.values[done], lost)
        left = _Work(segments, work.least, work.doubted | ~smooth, stalls, misses)
        work = _refined(lines, knots, left, trial.counts, ~done)
    return integrals


def _refined(
    lines: Lines, knots: list[Tensor], work: _Work, counts: Tensor, unfit: Tensor
) -> _Work:
    """Refine the `unfit` segments: more nodes on smooth ones, once; halve the rest."""
    again = unfit & ~work.doubted & (work.least == 1) & (counts < MAX_NODES)
    cut = (unfit & ~again).nonzero()[:, 0]
    segments, every = work.segments[cut], torch.arange(len(cut), device=cut.device)
    halves, parent = segments.cut(every, segments.low + 0.5 * segments.length)
    halves, half = hidden_cuts(lines, halves, knots)
    parent = cut[parent[half]]
    more = (counts[again] + EXTRA_NODES).clamp(max=MAX_NODES)
    least = torch.cat((more, torch.where(work.doubted[parent], MIN_NODES_TO_CUT, 1)))
    origin = torch.cat((again.nonzero()[:, 0], parent))
    segments = work.segments[again].joined(halves)
    return _Work(segments, least, work.doubted[origin], work.stalls[origin], work.misses[origin])


class _Trial:
    """Integrals over segments by two rules; outputs at three points determine their nodes."""

    def __init__(
        self, lines: Lines, segments: Segments, knots: list[Tensor], least: Tensor, tolerance: float
    ) -> None:
        self.segments = segments
        self._survey(lines, knots)
        self.counts = torch.maximum(self._needed(lines, tolerance), least)  # of smaller rules
        self._integrate(lines)

    def _survey(self, lines: Lines, knots: list[Tensor]) -> None:
        """Run the network at both ends and in the middle of every segment."""
        segments = self.segments
        t = torch.stack((segments.low, segments.low + 0.5 * segments.length, segments.high), 1)
        owner = segments.owner[:, None].expand_as(t)
        *inputs, output = lines.levels(owner.reshape(-1), t.reshape(-1))
        output = output.reshape(-1, 3)
        self.change, self.output = output[:, 2] - output[:, 0], output.abs().amax(1)  # (segment,)
        # rates at which the coefficients of the integrand decay: of splines, of base functions
        self.curved, self.smooth = torch.zeros(2, len(segments)).to(output)
        for layer, flat, places in zip(lines.model.layers, inputs, knots, strict=True):
            hidden = flat.reshape(len(segments), 3, -1)
            span = hidden.amax(1) - hidden.amin(1)  # (segment, in)
            above = (hidden[:, 1, :, None] > places).sum(-1)  # (segment, in)
            infinite = places.new_full((len(places), 1), torch.inf)
            widths = torch.cat((-infinite, places, infinite), 1).diff(dim=1)  # NaN: outside
            width = widths.nan_to_num(torch.inf).gather(1, above.T).T
            self.curved = torch.maximum(self.curved, SHARE * (span / width).amax(1))
            if layer.piece_degree is None:
                ratio = POLE / span.amax(1)
                rate = 1 / (ratio + torch.sqrt(ratio * ratio + 1))
                self.smooth = torch.maximum(self.smooth, rate)
        self.decay = torch.maximum(self.curved, self.smooth)

    def _needed(self, lines: Lines, tolerance: float) -> Tensor:
        """Return m, the smaller rule's number of nodes; the larger's error is ~rate**(3 m + 2)."""
        exact = min(MAX_NODES, -(-lines.degrees[-1] // 2))
        allowed = torch.log(NODE_SAFETY * tolerance / self.segments.length)

        def needed(rate: Tensor) -> Tensor:
            steps = allowed / torch.log(rate.nan_to_num(0.99).clamp(1e-30, 0.99))
            return ((steps - 2) / 3).ceil().clamp(1, MAX_NODES).long()

        return torch.maximum(needed(self.curved).clamp(max=exact), needed(self.smooth))

    def _integrate(self, lines: Lines) -> None:
        """Integrate by both rules; their difference gives an error estimate for the larger."""
        self.values = lines.start.new_empty(len(self.segments), lines.start.shape[1])
        # (segment, in): difference of the rules, and error of the larger one on smooth segments
        self.apart, self.estimate = torch.empty_like(self.values), torch.empty_like(self.values)
        self.size = self.output * 0  # (segment,): largest rate times the length
        for m in self.counts.unique().tolist():
            chosen = (self.counts == m).nonzero()[:, 0]
            pair, part = rule(m, self.values.device), self.segments[chosen]
            t = part.places(pair.nodes)
            owner = part.owner[:, None].expand_as(t)
            rates = lines.rates(owner.reshape(-1), t.reshape(-1)).reshape(*t.shape, -1)
            half = 0.5 * part.length[:, None]
            larger = half * torch.einsum("sni,n->si", rates, pair.weights)
            distance = (larger - half * torch.einsum("sni,n->si", rates, pair.coarse)).abs()
            sizes = 2 * half * rates.abs().amax(1)
            share = distance / sizes.clamp_min(torch.finfo(sizes.dtype).tiny)
            self.values[chosen], self.apart[chosen] = larger, distance
            self.estimate[chosen] = sizes * share.pow((3 * m + 2) / (2 * m))
            self.size[chosen] = sizes.amax(1)
        self.expected = self.decay.pow(2 * self.counts)  # distance of the rules over the size


class Rule(NamedTuple):
    """A Gauss-Legendre rule of m nodes inside a Kronrod rule."""

    nodes: Tensor  # (2 m + 1,)
    weights: Tensor  # of the larger rule
    coarse: Tensor  # of the smaller one


@functools.lru_cache(maxsize=64)
def rule(m: int, device: torch.device | None = None) -> Rule:
    """Return the rule of m Gauss nodes inside Kronrod's (1965), exact to degrees 2m - 1 and 3m + 1.

    The added nodes are zeros of a polynomial that, times Gauss's, is orthogonal to lower degrees.
    """
    gauss, weights = legendre.leggauss(m)
    points, measure = legendre.leggauss(2 * m + 2)
    values = legendre.legvander(points, m + 1)  # (point, degree)
    lower = values[:, : m + 1] * (measure * values[:, m])[:, None]
    moments = lower.T @ values  # (degree up to m, degree up to m + 1)
    series = np.append(np.linalg.solve(moments[:, :-1], -moments[:, -1]), 1.0)
    added = np.sort(legendre.legroots(series).real)
    nodes = np.empty(2 * m + 1)
    nodes[::2], nodes[1::2] = added, gauss
    nodes = 0.5 * (nodes - nodes[::-1])
    integral = np.zeros(2 * m + 1)
    integral[0] = 2.0
    larger = np.linalg.solve(legendre.legvander(nodes, 2 * m).T, integral)
    smaller = np.zeros(2 * m + 1)
    smaller[1::2] = weights
    return Rule(*(torch.as_tensor(array, device=device) for array in (nodes, larger, smaller)))
