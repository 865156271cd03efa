"""Everything a report shows, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanlens.attribution.comparison import Comparison, comparable, compare
from kanlens.attribution.dispatch import attribute
from kanlens.attribution.metrics import METRICS
from kanlens.attribution.registry import METHODS
from kanlens.attribution.result import Attribution
from kanlens.checks import check_choice, message, reworded
from kanlens.errors import DTypeError, InvalidValueError, KanlensError, MethodError
from kanlens.model.recording import Trace, edge_moments, trace
from kanlens.progress import progress_bar
from kanlens.reporting.performance import measure_performance, row_losses
from kanlens.reporting.planning import Plan, make_plan
from kanlens.reporting.subject import Subject, spread

if TYPE_CHECKING:
    from kanlens.model.network import Rows
    from kanlens.model.statistics import EdgeMoments
    from kanlens.pruning import PruneResult
    from kanlens.symbolic.result import SymbolicResult
    from kanlens.training import FitResult

TRACED = 10_000  # rows that are followed through the layers, at most
WORST = 3  # rows explained because they are most wrong
STEPS = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What was asked for beyond model and data.

    Attributes
    ----------
    background : rows or None
    methods : sequence of str or None
    formula : SymbolicResult, "auto" or None
    pruning : PruneResult or None
    history : FitResult or None
    max_rows : int
    generator : torch.Generator
    progress : bool or None
    """

    background: Rows | None = None
    methods: Sequence[str] | None = None
    formula: Any = None
    pruning: PruneResult | None = None
    history: FitResult | None = None
    max_rows: int = 200
    generator: torch.Generator
    progress: bool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """The results a report is written from.

    Attributes
    ----------
    subject, plan
        What was looked at, and how.
    trace : Trace
        Of at most 10,000 rows, spread evenly.
    moments : tuple of EdgeMoments
        Of every layer's edges, over the rows of the trace.
    performance : dict or None
    attribution : Attribution
        Of the planned rows, by the main method.
    explained : Attribution
        Of single rows that are shown one by one.
    picks : tuple of (int, str)
        Those rows' positions, and why each was picked.
    pairs : Attribution or None
        With the interactions of every two columns of the table, of the rows planned for them.
    flows : Attribution or None
        With what flows through every edge, from columns, of the same rows as `attribution`.
    comparison : Comparison
    formula, pruning, history
        As they were passed; the formula may have been made here.
    """

    subject: Subject
    plan: Plan
    trace: Trace
    moments: tuple[EdgeMoments, ...]
    performance: dict[str, Any] | None
    attribution: Attribution
    explained: Attribution
    picks: tuple[tuple[int, str], ...]
    pairs: Attribution | None
    flows: Attribution | None
    comparison: Comparison
    formula: SymbolicResult | None
    pruning: PruneResult | None
    history: FitResult | None


def check_request(request: Request) -> None:
    """Refuse what cannot be reported on, before any work is done.

    Raises
    ------
    InvalidValueError
        If a method is unknown or gives no numbers for single rows.
    DTypeError
        If formula, pruning or history is something else than a result.
    """
    if request.methods is not None:
        local = comparable()
        if not len(request.methods):
            text = message("report", "at least one method", "none", "Leave methods=... out")
            raise InvalidValueError(text)
        for name in request.methods:
            check_choice("report", "methods", name, local)
    wanted = {
        "formula": (request.formula, "equations_", "a SymbolicResult, 'auto' or None"),
        "pruning": (request.pruning, "edges_after", "a PruneResult or None"),
        "history": (request.history, "stopped_because", "a FitResult or None"),
    }
    for name, (value, attribute_name, expected) in wanted.items():
        automatic = name == "formula" and isinstance(value, str) and value == "auto"
        if value is not None and not automatic and not hasattr(value, attribute_name):
            got = repr(value) if isinstance(value, str) else type(value).__name__
            advice = "Pass what symbolize, prune or fit returned"
            raise DTypeError(message("report", f"{name} to be {expected}", got, advice))


@torch.no_grad()
def analyze(subject: Subject, request: Request) -> Analysis:
    """Compute all that a report shows.

    Parameters
    ----------
    subject : Subject
        Model and data.
    request : Request
        Options of the report, checked.

    Returns
    -------
    Analysis
    """
    with progress_bar("report", STEPS, shown=request.progress) as advance:
        plan = make_plan(subject, request.background, request.methods, request.max_rows)
        advance(note="tracing")
        record = trace(subject.model, subject.x[spread(subject.rows, TRACED)])
        layers = zip(subject.model.layers, record.inputs, strict=True)
        moments = tuple(edge_moments(layer, values) for layer, values in layers)
        picks = pick_rows(subject)
        advance(note="attributing")
        explain = partial(_explain, subject, plan.method, plan.background, request)
        attribution = explain(subject.x[plan.rows])
        explained = explain(subject.x[[row for row, _ in picks]])
        pairs, flows = _pairs(subject, plan, request), _flows(subject, plan, request)
        advance(2, note="comparing methods")
        comparison = _compare(subject, plan, request)
        advance(2, note="formula")
        formula = _formula(subject, request)
        advance()
    return Analysis(
        subject=subject,
        plan=plan,
        trace=record,
        moments=moments,
        performance=measure_performance(subject),
        attribution=attribution,
        explained=explained,
        picks=picks,
        pairs=pairs,
        flows=flows,
        comparison=comparison,
        formula=formula,
        pruning=request.pruning,
        history=request.history,
    )


def _explain(
    subject: Subject, method: str, background: Tensor, request: Request, x: Tensor
) -> Attribution:
    """Attribute some rows; errors speak of the report."""
    try:
        found = attribute(
            subject.model,
            x,
            method=method,
            background=background if METHODS[method].needs_background else None,
            target=subject.target,
            generator=request.generator,
            progress=False,
        )
    except KanlensError as error:
        raise reworded("report", error) from error
    if not isinstance(found, Attribution):
        raise MethodError(
            message("report", "a method for single rows", repr(method), "Name another")
        )
    return found


def _pairs(subject: Subject, plan: Plan, request: Request) -> Attribution | None:
    """Return the interactions of features; None where nobody planned or can compute them."""
    if plan.pairs is None:
        return None
    rows, background = plan.pairs
    try:
        found = _explain(subject, "interactions", background, request, subject.x[rows])
    except MethodError:  # a function that is not finite on all that coalitions reach
        return None
    return found.grouped()


def _flows(subject: Subject, plan: Plan, request: Request) -> Attribution | None:
    """Return what flows through the edges; None where that is not shown."""
    if not plan.flows:
        return None
    return _explain(subject, "secant", plan.background, request, subject.x[plan.rows]).grouped()


def _compare(subject: Subject, plan: Plan, request: Request) -> Comparison:
    """Compare methods; of those nobody asked for, leave out what does not fit the model."""
    names, refused = list(plan.methods), dict(plan.left_out)
    without_truth = [name for name, metric in METRICS.items() if metric.needs <= {"model"}]
    while True:
        try:
            return compare(
                subject.model,
                subject.x[plan.compared_rows],
                background=plan.compared_background,
                target=subject.target,
                methods=names,
                metrics=None if plan.exact else without_truth,
                generator=request.generator,
                progress=False,
            )
        except MethodError as error:
            wrong = next((name for name in names if repr(name) in str(error)), None)
            if request.methods is not None or wrong is None or len(names) == 1:
                raise reworded("report", error) from error
            names.remove(wrong)
            refused[wrong] = str(error)
            plan.left_out.update(refused)
        except KanlensError as error:
            raise reworded("report", error) from error


def _formula(subject: Subject, request: Request) -> SymbolicResult | None:
    if not isinstance(request.formula, str):
        given: SymbolicResult | None = request.formula
        return given
    from kanlens.symbolic.pipeline import symbolize

    try:
        y = subject.y if subject.y is None else subject.y.cpu()
        return symbolize(subject.model, subject.x, y, generator=request.generator)
    except KanlensError as error:
        raise reworded("report", error) from error


def pick_rows(subject: Subject) -> tuple[tuple[int, str], ...]:
    """Choose the rows that are explained one by one.

    The most wrong ones where targets are known, a typical one (whose features lie closest to
    their medians), and those with the highest and lowest output.

    Returns
    -------
    tuple of (int, str)
        Positions, each once, and why each was picked.
    """
    found: dict[int, str] = {}
    losses = row_losses(subject)
    if losses is not None:
        for row in np.argsort(-losses, kind="stable")[:WORST].tolist():
            found[row] = "among the largest errors"
    x = subject.x.double().cpu()
    spreads = x.std(0, correction=0)
    scaled = (x - x.median(0).values) / torch.where(spreads > 0, spreads, torch.ones_like(spreads))
    output = subject.output[:, subject.target].double().cpu()
    others = {
        "a typical row": scaled.square().sum(1).argsort(stable=True),
        "the highest output": output.argsort(descending=True, stable=True),
        "the lowest output": output.argsort(stable=True),
    }
    for reason, order in others.items():
        best = int(order[0])
        free = [row for row in order[: len(found) + 1].tolist() if row not in found]
        if reason == "a typical row" and free:
            found[int(free[0])] = reason
        elif best in found:
            found[best] += f", {reason}"
        else:
            found[best] = reason
    return tuple(found.items())
