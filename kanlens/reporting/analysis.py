"""Everything a report shows, computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens.attribution.comparison import Comparison, comparable, run_comparison
from kanlens.attribution.dispatch import attribute
from kanlens.attribution.metrics import METRICS
from kanlens.attribution.registry import METHODS
from kanlens.attribution.result import Attribution
from kanlens.checks import check_choice
from kanlens.errors import DTypeError, InvalidValueError, MethodError
from kanlens.long_work import progress_bar
from kanlens.model.recording import Trace, trace
from kanlens.reporting import subject as subjects
from kanlens.reporting.planning import Plan, make_plan
from kanlens.reporting.subject import Subject, measure_performance, spread

if TYPE_CHECKING:
    from kanlens.certificates import Certificate
    from kanlens.model.network import Rows
    from kanlens.pruning import PruneResult
    from kanlens.symbolic.result import SymbolicResult
    from kanlens.training import FitResult

TRACED = 10_000  # rows that are followed through the layers, at most
WORST = 3  # rows explained because they are most wrong
STEPS = 7
SHOWN = ("relative_gap", "shapley_error", "shapley_rank", "infidelity")  # of compared methods
FAR = 1e-3  # of the largest output: an attribution that differs by more is of another model


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What was asked for beyond model and data; results that were passed are not made again."""

    background: Rows | None = None
    methods: Sequence[str] | None = None
    attribution: Attribution | None = None
    comparison: Comparison | None = None
    formula: SymbolicResult | None = None
    symbolize: bool = False  # where no formula was passed
    pruning: PruneResult | None = None
    history: FitResult | None = None
    certificate: Certificate | None = None
    max_rows: int = 200
    generator: torch.Generator
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.methods is not None and not len(self.methods):
            advice = "Leave {methods} out"
            raise InvalidValueError("report", "at least one method", "none", advice, methods=...)
        for name in self.methods or ():
            check_choice("report", "methods", name, comparable())


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """The results a report is written from."""

    subject: Subject
    plan: Plan
    trace: Trace  # of at most 10,000 rows, spread evenly
    performance: dict[str, Any] | None
    attribution: Attribution  # of the planned rows, by the main method
    explained: Attribution  # of single rows that are shown one by one
    picks: tuple[tuple[int, str], ...]  # positions of those rows, and why each was picked
    pairs: Attribution | None  # with the interactions of every two columns of the table
    flows: Attribution | None  # with what flows through every edge, from columns
    comparison: Comparison
    formula: SymbolicResult | None
    formula_refusal: str  # why there is none although it was asked for
    request: Request

    @property
    def background_rows(self) -> int | None:
        """Number of rows that the attribution compares with; None where nobody says which."""
        if self.request.attribution is None:
            return len(self.plan.background)
        return None if self.request.background is None else len(self.request.background)


def by_type(results: Any) -> dict[str, Any]:
    """Return results of analyses by the field of `Request` that holds their type."""
    from kanlens.certificates import Certificate
    from kanlens.pruning import PruneResult
    from kanlens.symbolic.result import SymbolicResult
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
            advice = "Pass what attribute, compare, symbolize, prune, fit or certify returned"
            raise DTypeError("report", expected, got, advice)
        passed[field] = result
    return passed


@torch.no_grad()
def analyze(subject: Subject, request: Request) -> Analysis:
    """Compute all that a report shows and was not passed."""
    with progress_bar("report", STEPS, shown=request.progress) as advance:
        plan = make_plan(subject, request.background, request.methods, request.max_rows)
        plan = _with_passed(subject, plan, request)
        advance(note="tracing")
        record = trace(subject.model, subject.x[spread(subject.rows, TRACED)])
        advance(note="attributing")
        attribution, explained, picks = _attributions(subject, plan, request)
        pairs, flows = _pairs_and_flows(subject, plan, request, attribution)
        advance(2, note="comparing methods")
        comparison = request.comparison or _compare(subject, plan, request)
        advance(2, note="formula")
        formula, refusal = _formula(subject, request)
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
        comparison=comparison,
        formula=formula,
        formula_refusal=refusal,
        request=request,
    )


def _with_passed(subject: Subject, plan: Plan, request: Request) -> Plan:
    """Return the plan with the method and the rows of the attribution that was passed, if any."""
    found = request.attribution
    for what, passed in (("attribution", found), ("comparison", request.comparison)):
        if passed is not None:
            _check_passed(subject, what, passed)
    proven, model = request.certificate, subject.model
    if proven is not None:
        name, outputs = model.output_names[subject.target], [one.target for one in proven.outputs]
        if proven.features != model.feature_names or name not in outputs:
            expected, got = f"certificate of {name!r}", f"{', '.join(outputs)} of other features"
            raise InvalidValueError("report", expected, got, "Certify this model")
    if found is None or found.x is None:
        return plan
    known = {row.tobytes(): place for place, row in reversed([*enumerate(_array(subject.x))])}
    rows = [known.get(row.tobytes()) for row in _array(found.x.to(subject.x))]
    if None in rows:
        got = f"{rows.count(None)} rows that are not in it"
        advice = "Attribute rows of the data that is passed"
        raise InvalidValueError("report", "attribution of rows of the data", got, advice)
    output = subject.output[rows, subject.target]
    far = (found.output.to(output) - output).abs().max()
    if far > FAR * output.abs().max():
        got, advice = f"outputs that differ by {far:.3g}", "Attribute this model"
        raise InvalidValueError("report", "attribution of this model", got, advice)
    return replace(plan, method=found.method, rows=torch.tensor(rows))


def _check_passed(subject: Subject, what: str, passed: Any) -> None:
    """Refuse an attribution or comparison of other features, or of another output."""
    model = subject.model
    one: Attribution = next(iter(getattr(passed, "attributions", {"": passed}).values()))
    advice = "Pass one of this model, of an output that target names"
    if one.features != model.feature_names or one.x is None:
        expected = f"{what} of features {', '.join(model.feature_names)}"
        got = ", ".join(one.features)
        raise InvalidValueError("report", expected, f"one of {got}", advice)
    if one.target != model.output_names[subject.target]:
        expected = f"{what} of output {model.output_names[subject.target]!r}"
        raise InvalidValueError("report", expected, f"one of {one.target!r}", advice)


def _array(x: Tensor) -> np.ndarray[Any, Any]:
    return x.detach().cpu().contiguous().numpy() + 0.0  # -0.0 becomes 0.0


def _attributions(
    subject: Subject, plan: Plan, request: Request
) -> tuple[Attribution, Attribution, tuple[tuple[int, str], ...]]:
    """Return the attribution of the planned rows, and that of single rows, which are picked."""
    if request.attribution is not None:
        picks, known = pick_rows(subject, plan.rows), plan.rows.tolist()
        places = [known.index(row) for row, _ in picks]
        return request.attribution, _of_rows(request.attribution, places), picks
    picks, count = pick_rows(subject), len(plan.rows)
    rows = torch.cat([plan.rows, torch.tensor([row for row, _ in picks])])
    found = explain(subject, plan.method, plan.background, request, rows)
    return _of_rows(found, slice(count)), _of_rows(found, slice(count, None)), picks


def _of_rows(found: Attribution, rows: list[int] | slice) -> Attribution:
    """Return the attribution of some of its rows."""
    known = {field.name: getattr(found, field.name) for field in fields(found)}
    chosen: Any = {name: one[rows] for name, one in known.items() if isinstance(one, Tensor)}
    flows = None if found.paths is None else tuple(flow[rows] for flow in found.paths)
    return replace(found, **chosen, paths=flows)


def explain(
    subject: Subject, method: str, background: Tensor, request: Request, rows: Tensor
) -> Attribution:
    """Attribute some rows by a method for single ones, as all are that a report is asked for."""
    found = attribute(
        subject.model,
        subject.x[rows],
        method=method,
        background=background if METHODS[method].needs_background else None,
        target=subject.target,
        generator=request.generator,
        progress=False,
    )
    return cast("Attribution", found)


def _pairs_and_flows(
    subject: Subject, plan: Plan, request: Request, known: Attribution
) -> tuple[Attribution | None, Attribution | None]:
    """Return interactions of features, and flows through edges; None where they are not shown."""
    pairs, flows = known if known.interactions is not None else None, known
    if pairs is None and plan.pairs is not None:
        rows, background = plan.pairs
        # refused where the function is not finite on all that coalitions reach
        with contextlib.suppress(MethodError):
            pairs = explain(subject, "interactions", background, request, rows)
    if plan.flows and known.paths is None:
        flows = explain(subject, "secant", plan.background, request, plan.rows)
    return pairs and pairs.grouped(), flows.grouped() if plan.flows else None


def _compare(subject: Subject, plan: Plan, request: Request) -> Comparison:
    """Compare methods; of those nobody asked for, leave out what does not fit the model."""
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


def _formula(subject: Subject, request: Request) -> tuple[SymbolicResult | None, str]:
    """Return the formula, if one was asked for, and why there is none of a wide network."""
    if request.formula is not None or not request.symbolize:
        return request.formula, ""
    from kanlens.symbolic.pipeline import symbolize

    y = subject.y if subject.y is None else subject.y.cpu()
    try:
        return symbolize(subject.model, subject.x, y, generator=request.generator), ""
    except MethodError as error:
        return None, error.reason


def pick_rows(subject: Subject, among: Tensor | None = None) -> tuple[tuple[int, str], ...]:
    """Choose rows to explain, each once, and say why: most wrong, typical, highest, lowest."""
    rows = torch.arange(subject.rows) if among is None else among
    found: dict[int, str] = {}
    losses = subjects.subject_losses(subject)
    if losses is not None:
        wrong = subjects.wrong_rows(subject)[rows].numpy()
        right = "among the least certain" if subject.labels else "predicted exactly"
        for place in np.lexsort((-losses[rows], ~wrong))[:WORST]:
            found[int(rows[place])] = "among the largest errors" if wrong[place] else right
    x = subject.x.double().cpu()
    spreads = x.std(0, correction=0)
    scaled = (x - x.median(0).values) / torch.where(spreads > 0, spreads, torch.ones_like(spreads))
    output = subject.output[:, subject.target].double().cpu()[rows].numpy()
    typical = rows[scaled.square().sum(1)[rows].argsort(stable=True)].tolist()
    free = [row for row in typical[: len(found) + 1] if row not in found]
    if free:
        found[free[0]] = "near the medians of the features"
    for reason, place in (("highest", output.argmax()), ("lowest", output.argmin())):
        row = int(rows[place])
        before = f"{found[row]}, " if row in found else ""
        found[row] = f"{before}the {reason} output"
    return tuple(found.items())
