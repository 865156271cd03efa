"""`certify`: statements that hold at every point of a box."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_count, check_positive, nearest
from kanlens._resources import Memory, check_memory, one_thread, within_memory
from kanlens._runtime import Deadline
from kanlens.certificates import _additive_approximation as additive_approximation
from kanlens.certificates import _sampling as sampling
from kanlens.certificates._additive_approximation import QUADS, AdditiveFunction, least_distance
from kanlens.certificates._bound_propagation import BoundPropagation
from kanlens.certificates._branch_and_bound import SearchBudget, refine
from kanlens.certificates._feature_effects import OutputFindings, feature_certificates
from kanlens.certificates._relaxation import EPS, SUM_EPS
from kanlens.certificates._sampling import NORMS, affordable, explore
from kanlens.certificates._statements import (
    Additivity,
    Bound,
    Certificate,
    OutputCertificate,
    Range,
)
from kanlens.data._schema import Feature, Schema
from kanlens.errors import DataError, DTypeError, InvalidValueError, ShapeError
from kanlens.functions._elementary import Array
from kanlens.model import kernels
from kanlens.model._analysis import Model, check_model, float64_copy
from kanlens.model._conversion import expand_normalization
from kanlens.model._network import KAN
from kanlens.training._constraints import proven_shapes

CALL = "certify"
Domain: TypeAlias = "Tensor | Array | Mapping[str, tuple[float, float]]"
Result = TypeVar("Result")
FEWEST_POINTS, MOST_POINTS = 2048, 32768  # for the distance from an additive function
NUMBERS = 2**18  # largest number of features times these points
TABLE = 8 * (6 + 5)  # bytes for the polynomials of an edge, and of its slope, on a piece
EXPLORING = 0.3  # share of a limited time that goes to evaluated points
PASS = 5  # time to bound the output, in passes through the layers


@within_memory
def certify(
    model: Model,
    domain: Domain | None = None,
    *,
    target: int | str | None = None,
    tolerance: float = 0.02,
    max_boxes: int = 16384,
    time_limit: float | None = None,
    max_memory: Memory = None,
    progress: bool | None = None,
) -> Certificate:
    """Prove bounds on the outputs of a model for all inputs inside a box.

    For every output, bounds are proven on its range, its slope by each feature, the change that
    each feature can cause, its Lipschitz constants, and its distance from an additive function. A
    verdict states whether raising a feature can lower the output; `constraints` are the shape
    constraints of training, if proven for all inputs. Bounds hold at every point of the box where
    the output is defined, for the float64 function of the stored weights. Each comes with the
    extreme value at evaluated points, which no correct bound can undercut. If a layer class does
    not implement `enclosure`, bounds are infinite and verdicts rest on evaluated points.

    An interrupt (Ctrl-C) ends the work. The outputs proven so far are returned with a warning, the
    current one with looser bounds.

    Edges are bounded by the control points of their pieces [1]_, later layers by linear
    relaxation of their functions [2]_; the box is cut, at knots where possible, until every
    statement is decided or a limit is reached.

    Parameters
    ----------
    model : KAN or fitted estimator
    domain : Tensor or ndarray, shape (in, 2), or mapping, optional
        Lowest and highest value of every feature in the units of the data, or
        ``{name: (low, high)}``, by default those of the training data; ``low == high`` holds a
        feature fixed. It may reach beyond the training data. A categorical column is one feature
        per category: hold one of them at 1 and the others at 0, or the box includes points between
        categories, which the certificate then reports.
    target : int or str, optional
        Index or name of one output. Default: all of them. Logits for classification.
    tolerance : float
        Refinement stops once bounds are this close to the extremes at evaluated points, relative to
        their size.
    max_boxes : int
        Largest number of boxes for each output; it is lower for models with thousands of edges.
    time_limit : float, optional
        Seconds for the whole call; each output gets an equal share of what is left. The certificate
        names the statements that ran out of time; their bounds are wider or infinite, but still
        hold. Without a limit the same call gives the same certificate.
    max_memory : str or int, optional
        As for `trace`.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Raises
    ------
    InvalidValueError, ShapeError, DTypeError, DataError
        If an argument cannot be used.

    References
    ----------
    .. [1] G. Farin, Curves and Surfaces for CAGD, 2002, chapter 6.
    .. [2] H. Zhang et al., Efficient Neural Network Robustness Certification with General
       Activation Functions, 2018.

    Examples
    --------
    >>> from kanlens.model._network import KAN
    >>> model = KAN([2, 1], generator=torch.Generator().manual_seed(0))
    >>> proven = certify(model, {"x1": (-1, 1), "x2": (0, 1)})
    >>> proven.outputs[0].additivity.distance.bound
    0.0
    >>> bool(model(torch.zeros(1, 2)) <= proven.outputs[0].range.high)
    True
    """
    model = check_model(CALL, model)
    check_positive(CALL, "tolerance", tolerance)
    check_count(CALL, "max_boxes", max_boxes)
    if time_limit is not None:
        check_positive(CALL, "time_limit", time_limit)
    deadline = Deadline.after(time_limit)
    box = _box(model, domain)
    targets = range(len(model.output_names))
    if target is not None:
        index = model.output_index(target, call=CALL)
        targets = targets[index : index + 1]
    budget = SearchBudget(
        tolerance=float(tolerance), max_boxes=max_boxes, deadline=deadline, progress=progress
    )
    written = expand_normalization(float64_copy(model))
    numbers = (layer.out_features * layer.breakpoints().numel() for layer in written.layers)
    check_memory(CALL, TABLE * sum(numbers), "bounds of the edges", "Prune the model first")
    outputs: list[OutputCertificate] = []
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        one_thread(),
        kernels.use_within(deadline.left),
        budget.stop.kept(),
    ):
        whole = BoundPropagation(written, targets.start, box, deadline)
        budget = replace(budget, seconds=_pass_seconds(whole))
        for index in targets:
            if not budget.stop.happened:
                share = deadline.portion(1 / (targets.stop - index))
                work = partial(_certified, whole, index)
                outputs.append(_hurried(work, replace(budget, deadline=share)))
    if not outputs:
        raise KeyboardInterrupt
    budget.stop.warn(CALL, f"Bounds of {len(outputs)} of {len(targets)} outputs are returned")
    return Certificate(
        features=model.feature_names,
        domain=box,
        outputs=tuple(outputs),
        between=between_categories(model.schema, box),
        constraints=proven_shapes(model),
    )


def _box(model: KAN, domain: Domain | None) -> Tensor:
    """Return a domain as intervals (in, 2), by default of the training data."""
    ranges = model.data_range
    if domain is None and ranges is None:
        expected, got = "a domain", "a model without statistics of its training"
        raise InvalidValueError(CALL, expected, got, "Pass the range of every feature as domain")
    if ranges is not None and (domain is None or isinstance(domain, Mapping)):
        ends = torch.stack(ranges, 1).tolist()
        domain = dict(zip(model.feature_names, ends, strict=True)) | dict(domain or {})
    return read_domain(cast("Domain", domain), model.feature_names).to(model.input_shift.device)


def read_domain(domain: Domain, names: tuple[str, ...]) -> Tensor:
    """Return a domain, given as a tensor or as intervals by name, as float64 (in, 2)."""
    ends = _by_name(domain, names) if isinstance(domain, Mapping) else _as_tensor(domain)
    if ends.shape != (len(names), 2):
        expected = f"a domain of shape ({len(names)}, 2)"
        advice = "Give the lowest and the highest value of every feature"
        raise ShapeError(CALL, expected, str(tuple(ends.shape)), advice)
    for name, (low, high) in zip(names, ends.tolist(), strict=True):
        got = f"{low!r} to {high!r}"
        if not math.isfinite(high - low):
            overflows = math.isfinite(low) and math.isfinite(high)
            expected = f"{'a finite width of' if overflows else 'finite ends for'} {name!r}"
            raise DataError(CALL, expected, got, "Pass the range of the data")
        if low > high:
            raise InvalidValueError(CALL, f"the lower end of {name!r} first", got, "Swap the ends")
    return ends


def between_categories(schema: Schema, domain: Tensor) -> tuple[str, ...]:
    """Return the categorical columns that a domain (in, 2) does not fix at one category."""
    columns: dict[str, list[int]] = {}
    for index, feature in enumerate(schema.features):
        if feature.kind not in ("numeric", "date"):
            columns.setdefault(feature.column, []).append(index)
    parts = {c: ([schema.features[k] for k in own], domain[own]) for c, own in columns.items()}
    return tuple(column for column, part in parts.items() if not _held(*part))


def _held(features: list[Feature], ends: Tensor) -> bool:
    """Return whether intervals (in, 2) of a column's features fix one category."""
    low, high = ends.T
    if not bool((low == high).all() & ((low == 0) | (low == 1)).all()):
        return False
    count = int(low.sum())  # 0 stands for a category that has no feature
    return count == 1 or (count == 0 and len(features) < len(features[0].categories or "01"))


def _as_tensor(domain: object) -> Tensor:
    if hasattr(domain, "columns") and hasattr(domain, "iloc"):
        expected = "a domain: a tensor (in, 2), or {name: (low, high)}"
        advice = "Pass dict(zip(x.columns, zip(x.min(), x.max())))"
        raise DTypeError(CALL, expected, "a DataFrame", advice)
    got = type(domain).__name__
    try:
        if isinstance(domain, Tensor):
            got = f"{domain.dtype} ({domain.layout}, {domain.device})"
            if not domain.is_complex() and domain.layout == torch.strided and not domain.is_meta:
                return domain.detach().cpu().to(torch.float64, copy=True)
        elif domain is not None and np.array(domain).dtype.kind not in "USc":
            return torch.from_numpy(np.array(domain, dtype=np.float64))
    except (TypeError, ValueError):
        pass
    expected = "a domain of numbers: a tensor (in, 2), or {name: (low, high)}"
    raise DTypeError(CALL, expected, got, "Give two numbers per feature")


def _by_name(domain: Mapping[str, tuple[float, float]], names: tuple[str, ...]) -> Tensor:
    for name in domain:
        if name not in names:
            hint = nearest(str(name), names)
            advice = f"Did you mean {hint!r}?" if hint else "Use the names of the model's features"
            raise InvalidValueError(CALL, f"features among {', '.join(names)}", repr(name), advice)
    if missing := [name for name in names if name not in domain]:
        expected, got = "an interval for every feature", f"none for {', '.join(missing)}"
        raise InvalidValueError(CALL, expected, got, "Add them; low == high holds a feature fixed")
    rows = []
    for name in names:
        try:
            low, high = (float(end + 0) for end in domain[name])  # text cannot be added
        except (TypeError, ValueError):
            expected = f"two numbers for {name!r}"
            raise DTypeError(CALL, expected, repr(domain[name]), "Write (low, high)") from None
        rows.append([low, high])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)


def _hurried(work: Callable[[SearchBudget], Result], budget: SearchBudget) -> Result:
    """Run a step; after an interrupt, run it again without refinement."""
    if not budget.stop.happened:
        with budget.stop.kept():
            return work(replace(budget, left_out=list(budget.left_out)))
    return work(replace(budget, deadline=Deadline.after(0.0)))


def _pass_seconds(whole: BoundPropagation) -> float:
    """Estimate the seconds of bounding the output on the domain, from one pass."""
    deadline = whole.deadline
    if deadline.left > deadline.elapsed:
        watch = Deadline.after(None)
        whole.passed()
        return PASS * watch.elapsed
    return PASS * deadline.elapsed if whole.in_time else 0.0


def _certified(whole: BoundPropagation, target: int, budget: SearchBudget) -> OutputCertificate:
    """Certify one output."""
    deadline, propagation = budget.deadline, whole.of(target)
    model, domain = propagation.model, propagation.domain
    if not whole.in_time:
        budget.left_out.append("bounds of the edges")
    elif not whole.relaxes:
        budget.left_out.append("relaxation of hidden layers")
    exploring = deadline.portion(EXPLORING, keep=budget.seconds)
    sample = explore(model, target, domain, propagation.breakpoints, deadline=exploring)
    budget = replace(budget, row_seconds=exploring.elapsed / len(sample.x))
    fit = budget.allows("an additive function", 2 * budget.seconds)
    additive = additive_approximation.additive_part(propagation, sample.x, sample.value, fit=fit)
    points = affordable(model, max(FEWEST_POINTS, min(MOST_POINTS, NUMBERS // len(domain))))
    step = -(-len(sample.x) // (points if fit else sampling.MIN_POINTS_LARGE_MODEL))
    thin = additive_approximation.weighted(propagation, sample.x[::step])
    seen = sampling.extremes(sample, sample.value[::step] - thin)
    boxes, count, decided = refine(propagation, seen, budget)
    evaluated = sample, seen, additive
    findings = OutputFindings(propagation, boxes, count, decided, *evaluated, budget)
    return _hurried(lambda budget: output_certificate(replace(findings, budget=budget)), budget)


def output_certificate(findings: OutputFindings) -> OutputCertificate:
    """Assemble the certificate of an output from the bounds on boxes."""
    model, target = findings.propagation.model, findings.propagation.target
    additivity, features = _additivity(findings), feature_certificates(findings)
    left_out = ", ".join(findings.budget.left_out)
    why = "interrupted" if findings.budget.stop.happened else "stopped at the time limit"
    low, high = findings.boxes.value.hull()
    pairs = [pair.value for feature in features for pair in (feature.rise, feature.fall)]
    values = sampling.defined(torch.cat([findings.sample.value, *pairs]), otherwise=torch.nan)
    ends = {"seen_low": float(values.amin()), "seen_high": float(values.amax())}
    norms = findings.boxes.norms().amax(0) * (1 + SUM_EPS)
    seen = findings.seen.norms
    return OutputCertificate(
        target=model.output_names[target],
        unit=model.schema.outputs[target].unit,
        range=Range(low=float(low), high=float(high), **ends),
        features=features,
        lipschitz={
            name: Bound(bound=bound, seen=value)
            for name, bound, value in zip(NORMS, norms.tolist(), seen.tolist(), strict=True)
        },
        additivity=additivity,
        boxes=findings.count,
        decided=findings.decided and all(f.verdict != "unknown" for f in features),
        remark=f"{why}, without {left_out}" if left_out else "",
    )


def _additivity(findings: OutputFindings) -> Additivity:
    """Bound the distance of the output from an additive function."""
    propagation, function = findings.propagation, findings.additive
    if function is not None:
        return Additivity(distance=Bound(bound=0.0, seen=0.0), least=0.0, function=function)
    low, high = (float(end) for end in findings.boxes.apart.hull())
    middle = 0.5 * (low + high) if high - low < float("inf") else 0.0
    weights, target = propagation.additive, propagation.target
    facts: dict[str, Any] = {"model": propagation.model, "target": target, "weights": weights}
    function = AdditiveFunction(**facts, constant=middle)
    seen = max(abs(end - middle) for end in findings.seen.apart)
    if not bool(torch.isfinite(findings.sample.value).any()):
        seen = 0.0
    bound = max(high - middle, middle - low) * (1 + SUM_EPS) + EPS * abs(middle)
    count, least = affordable(propagation.model, QUADS), 0.0
    if findings.budget.allows("the least distance", 4 * count * findings.budget.row_seconds):
        least = least_distance(propagation, count)
    return Additivity(distance=Bound(bound=bound, seen=seen), least=least, function=function)
