"""The results that a report shows, each computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice
from kanlens._runtime import progress_bar
from kanlens.attribution._attribute import METHODS, attribute
from kanlens.attribution._compare import Comparison, comparable, run_comparison
from kanlens.attribution._result import Attribution
from kanlens.attribution._terms import Terms, terms
from kanlens.attribution.metrics import METRICS
from kanlens.errors import DTypeError, InvalidValueError, MethodError
from kanlens.model._network import KAN
from kanlens.model._trace import Trace, trace
from kanlens.model._training_record import fingerprint
from kanlens.reporting._planning import Plan, make_plan
from kanlens.reporting._report_data import (
    Subject,
    measure_performance,
    spread,
    subject_losses,
    wrong_rows,
)

if TYPE_CHECKING:
    from kanlens.certificates import Certificate
    from kanlens.model._network import Rows
    from kanlens.pruning import PruneResult
    from kanlens.symbolic._result import SymbolicResult
    from kanlens.training import FitResult

TRACED = 10_000  # rows that are followed through the layers, at most
WORST = 3  # rows explained because they are most wrong
STEPS = 7
SHOWN = ("relative_gap", "shapley_error", "shapley_rank", "infidelity")  # of compared methods
# of the largest output: an attribution that differs by more is of another model
OUTPUT_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Options and results that were passed to a report."""

    background: Rows | None = None
    methods: Sequence[str] | None = None
    attribution: Attribution | None = None
    comparison: Comparison | None = None
    formula: SymbolicResult | None = None
    symbolize: bool = False  # whether to derive a formula if none was passed
    pruning: PruneResult | None = None
    history: FitResult | None = None
    certificate: Certificate | None = None
    max_rows: int = 200
    generator: torch.Generator
    progress: bool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """The results a report is written from."""

    subject: Subject
    plan: Plan
    trace: Trace  # of at most 10,000 rows, spread evenly
    performance: dict[str, Any] | None
    attribution: Attribution  # of the planned rows, by the main method
    explained: Attribution  # of single rows that are shown one by one
    picks: tuple[tuple[int, str], ...]  # positions of those rows, and the reason for each
    pairs: Attribution | None  # with the interactions of every two columns of the table
    flows: Attribution | None  # with the flow through every edge, grouped by column
    terms: Terms | None  # of a network that grew, and has not changed since
    comparison: Comparison
    formula: SymbolicResult | None
    formula_refusal: str  # why there is none although `symbolize` is set
    request: Request

    @property
    def background_rows(self) -> int | None:
        """Number of background rows of the attribution; None where unknown."""
        if self.request.attribution is None:
            return len(self.plan.background)
        return None if self.request.background is None else len(self.request.background)


def check_methods(methods: Sequence[str] | None) -> None:
    """Refuse unknown methods, and an empty list of them."""
    if methods is not None and not len(methods):
        advice = "Leave {methods} out"
        raise InvalidValueError("report", "at least one method", "none", advice, methods=...)
    for name in methods or ():
        check_choice("report", "methods", name, comparable())


def by_type(results: Any) -> dict[str, Any]:
    """Return results by the field of `Request` that holds their type."""
    from kanlens.certificates import Certificate
    from kanlens.pruning import PruneResult
    from kanlens.symbolic._result import SymbolicResult
    from kanlens.training import FitResult

    fields = {
        Attribution: "attribution",
        Comparison: "comparison",
        SymbolicResult: "formula",
        PruneResult: "pruning",
        FitResult: "history",
        Certificate: "certificate",
    }
    passed: dict[str, Any] = {}
    alone = isinstance(results, tuple(fields)) or not isinstance(results, Iterable)
    for result in (results,) if alone else results:
        field = next((name for kind, name in fields.items() if isinstance(result, kind)), None)
        if field is None or field in passed:
            names = ", ".join(kind.__name__ for kind in fields)
            expected = f"results to be of {names}, at most one of each"
            got = type(result).__name__ if field is None else f"two of {type(result).__name__}"
            advice = "Pass results of attribute (by row), compare, symbolize, prune, fit or certify"
            raise DTypeError("report", expected, got, advice)
        passed[field] = result
    return passed


@torch.no_grad()
def analyze(subject: Subject, request: Request) -> Analysis:
    """Compute the results that a report shows and that were not passed."""
    with progress_bar("report", STEPS, shown=request.progress) as advance:
        passed = request.attribution
        complete = passed is not None and passed.interactions is not None and request.comparison
        options = request.background, request.methods, request.max_rows
        plan = make_plan(subject, *options, with_shapley=not complete)
        plan = _with_passed(subject, plan, request)
        advance(note="tracing")
        record = trace(subject.model, subject.x[spread(subject.rows, TRACED)])
        advance(note="attributing")
        attribution, explained, picks = _attributions(subject, plan, request)
        pairs, flows = _pairs_and_flows(subject, plan, request, attribution)
        advance(2, note="comparing methods")
        comparison = request.comparison or _compare(subject, plan, request)
        advance(2, note="formula")
        formula, refusal = request.formula, ""
        if formula is None and request.symbolize:
            formula, refusal = _symbolized(subject, request)
        advance()
    return Analysis(
        subject=subject,
        plan=plan,
        trace=record,
        performance=measure_performance(subject),
        attribution=attribution,
        explained=explained,
        picks=picks,
        pairs=pairs,
        flows=flows,
        terms=_terms(subject, record.x),
        comparison=comparison,
        formula=formula,
        formula_refusal=refusal,
        request=request,
    )


def _with_passed(subject: Subject, plan: Plan, request: Request) -> Plan:
    """Check passed results; return the plan with the attribution's rows."""
    passed, model = request.attribution, subject.model
    target = model.output_names[subject.target]
    for what, result in (("attribution", passed), ("comparison", request.comparison)):
        if result is not None:
            _check_passed(model, target, what, result)
    if (proven := request.certificate) is not None:
        expected, outputs = f"certificate of {target!r}", [one.target for one in proven.outputs]
        if proven.features != model.feature_names or target not in outputs:
            got = f"one of {', '.join(outputs)} for features {', '.join(proven.features)}"
            raise InvalidValueError("report", expected, got, "Certify this model")
    if passed is None or passed.x is None:
        return plan
    # adding 0.0 turns -0.0 into 0.0
    rows_of = [(x.detach().cpu().numpy() + 0.0) for x in (subject.x, passed.x.to(subject.x))]
    places = {row.tobytes(): place for place, row in reversed([*enumerate(rows_of[0])])}
    rows = [places.get(row.tobytes()) for row in rows_of[1]]
    if None in rows:
        got = f"{rows.count(None)} rows that are not in it"
        advice = "Attribute rows of the data that is passed"
        raise InvalidValueError("report", "attribution of rows of the data", got, advice)
    output = subject.output[rows, subject.target]
    difference = (passed.output.to(output) - output).abs().max()
    if difference > OUTPUT_TOLERANCE * output.abs().max():
        got, advice = f"outputs that differ by {difference:.3g}", "Attribute this model"
        raise InvalidValueError("report", "attribution of this model", got, advice)
    return replace(plan, method=passed.method, rows=torch.tensor(rows))


def _check_passed(model: KAN, target: str, what: str, passed: Attribution | Comparison) -> None:
    """Refuse an attribution or comparison of other features or outputs."""
    first: Attribution = next(iter(getattr(passed, "attributions", {"": passed}).values()))
    if first.features != model.feature_names or first.x is None:
        expected, got = f"features {', '.join(model.feature_names)}", ", ".join(first.features)
    elif first.target != target:
        expected, got = f"output {target!r}", repr(first.target)
    else:
        return
    advice = "Pass a result of this model, for the output of target"
    raise InvalidValueError("report", f"{what} of {expected}", f"one of {got}", advice)


def _attributions(
    subject: Subject, plan: Plan, request: Request
) -> tuple[Attribution, Attribution, tuple[tuple[int, str], ...]]:
    """Return attributions of the planned rows and of picked rows."""
    if request.attribution is not None:
        picks, rows = pick_rows(subject, plan.rows), plan.rows.tolist()
        places = [rows.index(row) for row, _ in picks]
        return request.attribution, _of_rows(request.attribution, places), picks
    picks, count = pick_rows(subject), len(plan.rows)
    both = torch.cat([plan.rows, torch.tensor([row for row, _ in picks])])
    result = explain(subject, plan.method, plan.background, request, both)
    return _of_rows(result, slice(count)), _of_rows(result, slice(count, None)), picks


def _of_rows(result: Attribution, rows: list[int] | slice) -> Attribution:
    """Return an attribution restricted to some of its rows."""
    parts = {field.name: getattr(result, field.name) for field in fields(result)}
    chosen: Any = {name: part[rows] for name, part in parts.items() if isinstance(part, Tensor)}
    flows = None if result.paths is None else tuple(flow[rows] for flow in result.paths)
    return replace(result, **chosen, paths=flows)


def explain(
    subject: Subject, method: str, background: Tensor, request: Request, rows: Tensor
) -> Attribution:
    """Attribute rows by a local method."""
    result = attribute(
        subject.model,
        subject.x[rows],
        method=method,
        background=background if METHODS[method].needs_background else None,
        target=subject.target,
        generator=request.generator,
        progress=False,
    )
    return cast("Attribution", result)


def _pairs_and_flows(
    subject: Subject, plan: Plan, request: Request, attribution: Attribution
) -> tuple[Attribution | None, Attribution | None]:
    """Return an attribution with interactions and one with flows; None for any not shown."""
    pairs, flows = attribution if attribution.interactions is not None else None, attribution
    if pairs is None and plan.pairs is not None:
        rows, background = plan.pairs
        # refused if the model is not finite at every point that coalitions reach
        with contextlib.suppress(MethodError):
            pairs = explain(subject, "interactions", background, request, rows)
    if plan.flows and flows.paths is None:
        flows = explain(subject, "secant", plan.background, request, plan.rows)
    return pairs and pairs.grouped(), flows.grouped() if plan.flows else None


def _terms(subject: Subject, x: Tensor) -> Terms | None:
    """Return the terms of a grown network; None if it has changed since.

    They have bands only on the rows that it was grown on: bands from other rows might
    not contain the curves.
    """
    model, growth = subject.model, subject.model.growth
    if growth is None or growth.weights != fingerprint(model.state_dict().values()):
        return None
    y = subject.y if growth.rows == subject.rows and not subject.held_out else None
    y = y if y is None else y[spread(subject.rows, TRACED)]
    return terms(model, x, y, target=subject.target)


def _compare(subject: Subject, plan: Plan, request: Request) -> Comparison:
    """Compare methods; default ones that do not fit the model are left out."""
    without_truth = [name for name in SHOWN if not METRICS[name].needs_exact]
    return run_comparison(
        subject.model,
        subject.x[plan.compared_rows],
        list(plan.methods),
        list(SHOWN) if plan.exact else without_truth,
        optional=request.methods is None,
        background=plan.compared_background,
        target=subject.target,
        generator=request.generator,
        progress=False,
    )


def _symbolized(subject: Subject, request: Request) -> tuple[SymbolicResult | None, str]:
    """Return the formula of `symbolize(model, x, y)`, or why it is refused."""
    from kanlens.symbolic._symbolize import symbolize

    y = subject.y if subject.y is None else subject.y.cpu()
    try:
        return symbolize(subject.model, subject.x, y, progress=request.progress), ""
    except MethodError as error:
        return None, error.reason


def pick_rows(subject: Subject, among: Tensor | None = None) -> tuple[tuple[int, str], ...]:
    """Return the positions of rows to explain, and the reason for each."""
    rows = torch.arange(subject.rows) if among is None else among
    reasons: dict[int, str] = {}
    losses = subject_losses(subject)
    if losses is not None:
        wrong = wrong_rows(subject)[rows].numpy()
        right = "among the least certain" if subject.labels else "predicted exactly"
        for place in np.lexsort((-losses[rows], ~wrong))[:WORST]:
            reasons[int(rows[place])] = "among the largest errors" if wrong[place] else right
    x = subject.x.double().cpu()
    spreads = x.std(0, correction=0)
    scaled = (x - x.median(0).values) / torch.where(spreads > 0, spreads, torch.ones_like(spreads))
    typical = rows[scaled.square().sum(1)[rows].argsort(stable=True)].tolist()
    free = [row for row in typical[: len(reasons) + 1] if row not in reasons]
    if free:
        reasons[free[0]] = "near the medians of the features"
    output = subject.output[:, subject.target].double().cpu()[rows].numpy()
    for reason, place in (("highest", output.argmax()), ("lowest", output.argmin())):
        row = int(rows[place])
        before = f"{reasons[row]}, " if row in reasons else ""
        reasons[row] = f"{before}the {reason} output"
    return tuple(reasons.items())
