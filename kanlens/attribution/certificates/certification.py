"""`certify`: what holds for every point of a box of the features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from kanlens.attribution.certificates import conclusions, multipliers, separable
from kanlens.attribution.certificates.branching import Budget, refine
from kanlens.attribution.certificates.domains import CALL, Domain, read_domain
from kanlens.attribution.certificates.propagation import Propagation
from kanlens.attribution.certificates.sampling import explore
from kanlens.attribution.certificates.statements import Certificate, OutputCertificate
from kanlens.attribution.problem import private_copy
from kanlens.checks import check_count, check_positive
from kanlens.core.acceptance import Model, check_model
from kanlens.core.enclosures import encloses
from kanlens.deadlines import Deadline
from kanlens.threads import threads_for

if TYPE_CHECKING:
    from kanlens.core.network import KAN

Result = TypeVar("Result")
FEWEST, MOST_POINTS = 2048, 32768  # at which the distance from an additive function is seen
NUMBERS = 2**18  # of features that they have at most


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
        training data.
    target : int or str, optional
        Index or name of one output. Default: all of them. Logits for classification.
    tolerance : float
        Bounds within this share of what was seen are good enough.
    max_boxes : int
        Boxes that are bounded for each output at most.
    time_limit : float, optional
        Seconds for the whole call; each output gets an equal share of what is left. Without it
        the same call gives the same certificate.
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
    outputs: list[OutputCertificate] = []
    with torch.inference_mode(False), torch.no_grad(), budget.stop.kept():
        for index in targets:
            if not budget.stop.happened:
                mine = replace(budget, deadline=deadline.portion(1 / (targets.stop - index)))
                outputs.append(_hurried(partial(_certified, model, box, index), mine))
    budget.stop.warn(CALL, f"What is proven of {len(outputs)} of {len(targets)} outputs holds")
    return Certificate(features=model.feature_names, domain=box, outputs=tuple(outputs))


def _hurried(work: Callable[[Budget], Result], budget: Budget) -> Result:
    """Do work, after an interrupt (again) without what takes long."""
    if not budget.stop.happened:
        with budget.stop.kept():
            return work(budget)
    return work(replace(budget, deadline=Deadline.after(0.0)))


def _certified(model: KAN, domain: Tensor, target: int, budget: Budget) -> OutputCertificate:
    """Certify one output."""
    clone = private_copy(model)
    propagation = Propagation(clone, target, domain)
    with threads_for(64 * propagation.size):
        knots = _knots(clone)
        sample = explore(clone, target, domain, knots, deadline=budget.deadline)
        additive = separable.additive_part(
            propagation, sample.x, sample.value, hurry=budget.deadline.passed
        )
        count = max(FEWEST, min(MOST_POINTS, NUMBERS // len(domain)))
        thin = sample.thinned(FEWEST if budget.deadline.passed else count)
        left = thin.value - separable.weighted(propagation, thin.x)
        seen = conclusions.seen(sample, left)
        label = f"certify {model.output_names[target]}"
        if not all(encloses(layer) for layer in clone.layers):
            budget = replace(budget, max_boxes=1)  # cutting can not help
        if not budget.deadline.passed:
            with budget.stop.kept():
                propagation.lines = multipliers.best_lines(propagation)
        boxes, count, decided = refine(propagation, seen, knots, budget, label)
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
                replace(found, budget=budget), count=count, decided=decided
            ),
            budget,
        )


def _knots(model: KAN) -> Tensor:
    """Return where the pieces of the first layer meet, in units of the data, shape (in, knot)."""
    cuts = model.layers[0].breakpoints().mT
    return (cuts * model.input_scale + model.input_shift).mT.contiguous()
