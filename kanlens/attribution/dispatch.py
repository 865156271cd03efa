"""`attribute`: one signature for every method."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kanlens.attribution.problem import NOTHING, Parts, Problem, Scores, explained_output
from kanlens.attribution.registry import METHODS, REFUSED, Method
from kanlens.attribution.result import Attribution, Importance
from kanlens.checks import (
    check_choice,
    check_finite,
    check_generator,
    check_rows,
    message,
    reworded,
)
from kanlens.errors import InvalidValueError, KanlensError, MethodError
from kanlens.model.acceptance import Model, check_model
from kanlens.model.analysis import private_copy
from kanlens.model.network import KAN
from kanlens.threads import threads_for

if TYPE_CHECKING:
    from kanlens.model.network import Rows


def attribute(
    model: Model,
    x: Rows,
    *,
    method: str = "shapley",
    background: Rows | None = None,
    target: int | str | None = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Attribution | Importance:
    """Say how much each feature adds to an output, sample by sample or over all samples.

    Runs in float64 on a private copy, so the model is left as it is: parameters, mode, hooks,
    gradients, and torch's random state.

    Parameters
    ----------
    model : KAN or fitted estimator
        The model.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Samples, in the units of the data.
    method : str
        Key into ``METHODS``.
    background : Tensor, ndarray or DataFrame, shape (rows, in), optional
        What samples are compared with. Default: the rows the model kept from its training.
        The result's `baseline` says how the method uses it.
    target : int or str, optional
        Index or name of the output. Default: the only one, or of several classes the one that is
        predicted for most samples; of several numbers one must be named. The result's `target`
        says which it was. Logits for classification.
    generator : torch.Generator, optional
        For methods that sample; the same generator state gives the same numbers. Without one they
        start from torch's own state, and put it back.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    **options
        Options of the method: ``METHODS[method].options`` names them.

    Returns
    -------
    Attribution or Importance
        As the method's scope is "local" or "global"; in the dtype of the model.

    Raises
    ------
    InvalidValueError
        If there is no such method, option or output.
    MethodError
        If the method does not fit the model, or has no background to compare with.
    ShapeError, DTypeError, DataError
        If `x` or `background` cannot be used.

    Examples
    --------
    >>> model = KAN([2, 1]).double()
    >>> x = torch.tensor([[0.5, -0.5], [0.1, 0.2]], dtype=torch.float64)
    >>> result = attribute(model, x, background=x)
    >>> result.completeness_gap.abs().max() < 1e-12
    tensor(True)
    """
    model = check_model("attribute", model)
    check_generator("attribute", generator)
    chosen = _chosen(method, options)
    with torch.inference_mode(False), torch.no_grad():
        problem = _problem(model, x, background, chosen, target)
        problem = dataclasses.replace(problem, generator=generator, progress=progress)
        with threads_for(problem.size):
            answer = chosen.function(problem, **options)
        if isinstance(answer, Parts):
            return _attribution(model, problem, method, answer)
        _check_numbers(method, answer.values.to(model.dtype))
        return _importance(model, problem, chosen, answer)


def _chosen(name: str, options: dict[str, Any]) -> Method:
    """Return the method called `name`; refuse unknown ones and unknown options."""
    if isinstance(name, str) and name in REFUSED:
        expected = "a method that says something about a KAN"
        advice = f"{REFUSED[name]}; use method='secant' or method='captum_deep_lift'"
        raise MethodError(message("attribute", expected, repr(name), advice))
    check_choice("attribute", "method", name, METHODS)
    chosen = METHODS[name]
    for option in options:
        if option not in chosen.options:
            known = f"options of method {name!r} ({', '.join(chosen.options) or 'it has none'})"
            raise InvalidValueError(message("attribute", known, repr(option), "Drop it"))
    return chosen


def _problem(
    model: KAN, x: Rows, background: Rows | None, chosen: Method, target: int | str | None
) -> Problem:
    """Check the arguments and bring them to float64."""
    samples = model.prepare(x, call="attribute")
    check_rows("attribute", samples)
    rows = _background(model, background, chosen)
    problem = Problem(
        model=private_copy(model),
        x=samples.detach().clone().double(),
        rows=rows if rows is None else rows.detach().clone().double(),
        target=explained_output(model, target, samples, call="attribute"),
    )
    if not bool(torch.isfinite(problem.output_in_parts(problem.x)).all()):
        expected, advice = "a model with finite outputs", "Check its parameters, and the units of x"
        raise MethodError(message("attribute", expected, "NaN or infinity", advice))
    return problem


def _background(model: KAN, background: Rows | None, chosen: Method) -> Tensor | None:
    """Return the background rows that the method needs: those given, else those of the model."""
    if not chosen.needs_background:
        return None
    given = model.background if background is None else background
    if given is None:
        expected = f"background rows for method {chosen.name!r}"
        advice = "Pass background=..., rows like those the model was trained on"
        raise MethodError(message("attribute", expected, "None", advice))
    try:
        rows = model.prepare(given, call="background", finite=False)
        check_rows("background", rows)
        check_finite("background", rows, model.feature_names)
    except KanlensError as error:
        raise reworded("attribute: background", error) from error
    return rows


def _attribution(model: KAN, problem: Problem, method: str, parts: Parts) -> Attribution:
    """Put the parts into a result, in the dtype of the model."""
    output = problem.output_in_parts(problem.x)
    own, flows = parts.features is None, parts.paths
    counted = [] if parts.baseline.startswith(NOTHING) else [output.new_tensor(parts.reference)]
    _check_numbers(method, *(part.to(model.dtype) for part in (parts.values, output, *counted)))

    def typed(found: Tensor | None) -> Tensor | None:
        return None if found is None else found.to(model.dtype)

    return Attribution(
        values=parts.values.to(model.dtype),
        output=output.to(model.dtype),
        reference=torch.full_like(output, parts.reference).to(model.dtype),
        baseline=parts.baseline,
        method=method,
        features=parts.features or model.feature_names,
        target=model.output_names[problem.target],
        unit=_unit(model, problem.target),
        x=problem.x.to(model.dtype) if own else None,
        groups=model.schema.groups if own else {},
        standard_error=typed(parts.standard_error),
        bound=typed(parts.bound),
        interactions=typed(parts.interactions),
        paths=None if flows is None else tuple(flow.to(model.dtype) for flow in flows),
        owners=None if flows is None else tuple(tuple(n.owner.tolist()) for n in model.nodes),
        evaluations=parts.evaluations,
        remark=parts.remark,
    )


def _check_numbers(method: str, *found: Tensor) -> None:
    """Refuse NaN and infinity in what a method found."""
    if all(bool(torch.isfinite(part).all()) for part in found):
        return
    expected = f"finite numbers from method {method!r}"
    advice = "A function has a pole or is undefined where the method looked, or numbers are too "
    advice += "large for the dtype of the model; take other rows, another method or float64"
    raise MethodError(message("attribute", expected, "NaN or infinity", advice))


def _unit(model: KAN, target: int) -> str:
    """Return the unit of an output; classifiers are explained on the scale of their logits."""
    return "logit" if model.task == "classification" else model.schema.outputs[target].unit


def _importance(model: KAN, problem: Problem, chosen: Method, scores: Scores) -> Importance:
    low, high = scores.low, scores.high
    return Importance(
        values=scores.values.to(model.dtype),
        low=None if low is None else low.to(model.dtype),
        high=None if high is None else high.to(model.dtype),
        meaning=chosen.summary,
        method=chosen.name,
        features=model.feature_names,
        target=model.output_names[problem.target],
    )
