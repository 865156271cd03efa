"""`certify`: what holds for every point of a box of the features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from kanlens.certificates import conclusions, sampling, separable
from kanlens.certificates.branching import Budget, refine
from kanlens.certificates.domains import CALL, Domain, between_categories, read_domain
from kanlens.certificates.propagation import Propagation
from kanlens.certificates.sampling import affordable, explore
from kanlens.certificates.statements import Certificate, OutputCertificate
from kanlens.checks import check_count, check_positive
from kanlens.core.acceptance import Model, check_model
from kanlens.core.analysis import private_copy
from kanlens.deadlines import Deadline
from kanlens.memory import check_memory
from kanlens.threads import one_thread

if TYPE_CHECKING:
    from kanlens.core.network import KAN

Result = TypeVar("Result")
FEWEST, MOST_POINTS = 2048, 32768  # at which the distance from an additive function is seen
NUMBERS = 2**18  # of features that they have at most
TABLE = 8 * (6 + 5)  # bytes for the polynomials of an edge, and of its slope, on a piece
EXPLORING = 0.3  # share of the time, when it is limited
PASS = 5  # passes through the layers that bounds take


def certify(
    model: Model,
    domain: Domain,
    *,
    target: int | str | None = None,
    tolerance: float = 0.02,
    max_boxes: int = 16384,
    time_limit: float | None = None,
    progress: bool | None = None,
) -> Certificate:
    """Prove what the model can do when its features stay inside a box.

    For every output: bounds of the output, of its slope by each feature and of how much each
    feature can change it, whether raising a feature can lower the output, Lipschitz constants, and
    how far the output is from an additive function. Bounds hold at every point of the box where
    the output is defined, for the float64 function of the stored weights. Beside each stands what
    was seen at evaluated points, which the bound can not be better than. A layer that does not
    bound its edges (method `enclosure`) leaves bounds infinite and verdicts to what was seen.

    An interrupt (Ctrl-C) ends the work; what is proven by then holds, and is returned with a
    warning: outputs that are done, and the one that was being worked at, with looser bounds.

    Edges are bounded by the control points of their pieces [1]_, later layers by linear
    relaxation of their functions [2]_; the box is cut, at knots where possible, until every
    statement is decided or a limit is reached.

    Parameters
    ----------
    model : KAN or fitted estimator
        The model.
    domain : Tensor or ndarray, shape (in, 2), or mapping
        Lowest and highest value of every feature in the units of the data, or
        ``{name: (low, high)}``; ``low == high`` holds a feature fixed. It may reach beyond the
        training data. A categorical column is one feature per category: hold one of them at 1 and
        the others at 0, or the box includes what is between categories, and the certificate says
        so.
    target : int or str, optional
        Index or name of one output. Default: all of them. Logits for classification.
    tolerance : float
        Bounds within this share of what was seen are good enough.
    max_boxes : int
        Boxes that are bounded for each output at most; models of thousands of edges get fewer.
    time_limit : float, optional
        Seconds for the whole call; each output gets an equal share of what is left. What there
        was no time for is named in the certificate; its bounds are wider then, or infinite, and
        still hold. Without a limit the same call gives the same certificate.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    Certificate

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
    >>> from kanlens.core.network import KAN
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
    box = read_domain(domain, model.feature_names).to(model.input_shift.device)
    if target is None:
        targets = range(len(model.output_names))
    else:
        index = model.output_index(target, call=CALL)
        targets = range(index, index + 1)
    budget = Budget(
        tolerance=float(tolerance), max_boxes=max_boxes, deadline=deadline, progress=progress
    )
    needed = sum(TABLE * one.out_features * one.breakpoints().numel() for one in model.layers)
    check_memory(CALL, needed, "bounds of the edges", "Prune the model first")
    outputs: list[OutputCertificate] = []
    with torch.inference_mode(False), torch.no_grad(), one_thread(), budget.stop.kept():
        whole = Propagation(private_copy(model), targets.start, box, deadline)
        budget = replace(budget, seconds=_pass_seconds(whole))
        for index in targets:
            if not budget.stop.happened:
                mine = replace(budget, deadline=deadline.portion(1 / (targets.stop - index)))
                outputs.append(_hurried(partial(_certified, whole, index), mine))
    if not outputs:
        raise KeyboardInterrupt
    budget.stop.warn(CALL, f"What is proven of {len(outputs)} of {len(targets)} outputs holds")
    return Certificate(
        features=model.feature_names,
        domain=box,
        outputs=tuple(outputs),
        between=between_categories(model.schema, box),
    )


def _hurried(work: Callable[[Budget], Result], budget: Budget) -> Result:
    """Do work, after an interrupt (again) without what takes long."""
    if not budget.stop.happened:
        with budget.stop.kept():
            return work(replace(budget, left_out=list(budget.left_out)))
    return work(replace(budget, deadline=Deadline.after(0.0)))


def _pass_seconds(whole: Propagation) -> float:
    """Return about how long bounding the output on the domain takes."""
    deadline = whole.deadline
    if deadline.left > deadline.elapsed:
        watch = Deadline.after(None)
        whole.passed()
        return PASS * watch.elapsed
    return PASS * deadline.elapsed if whole.in_time else 0.0


def _certified(whole: Propagation, target: int, budget: Budget) -> OutputCertificate:
    """Certify one output."""
    deadline, propagation = budget.deadline, whole.of(target)
    model, domain, knots = propagation.model, propagation.domain, _knots(propagation.model)
    if not whole.in_time:
        budget.left_out.append("bounds of the edges")
    elif not whole.relaxes:
        budget.left_out.append("relaxation of hidden layers")
    exploring = deadline.portion(EXPLORING, keep=budget.seconds)
    sample = explore(model, target, domain, knots, deadline=exploring)
    budget = replace(budget, row_seconds=exploring.elapsed / len(sample.x))
    fit = budget.allows("an additive function", 2 * budget.seconds)
    additive = separable.additive_part(propagation, sample.x, sample.value, fit=fit)
    count = affordable(model, max(FEWEST, min(MOST_POINTS, NUMBERS // len(domain))))
    thin = sample.thinned(count if fit else sampling.FEWEST)
    seen = conclusions.seen(sample, thin.value - separable.weighted(propagation, thin.x))
    label = f"certify {model.output_names[target]}"
    boxes, boxed, decided = refine(propagation, seen, knots, budget, label)
    found = conclusions.Findings(
        propagation=propagation,
        boxes=boxes,
        sample=sample,
        seen=seen,
        knots=knots,
        additive=additive,
        budget=budget,
    )
    return _hurried(
        lambda budget: conclusions.output_certificate(
            replace(found, budget=budget), count=boxed, decided=decided
        ),
        budget,
    )


def _knots(model: KAN) -> Tensor:
    """Return where the pieces of the first layer meet, in units of the data, shape (in, knot)."""
    cuts = model.layers[0].breakpoints().mT
    return (cuts * model.input_scale + model.input_shift).mT.contiguous()
