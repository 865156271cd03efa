"""`attribute`, with the table of all methods; `importance`: which features matter, per output."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_generator, check_rows
from kanlens._lazy import pd
from kanlens._resources import Memory, threads_for, within_memory
from kanlens._runtime import Interruption, interrupts_pass, progress_bar
from kanlens.attribution._direct_methods import (
    additive,
    edge_std,
    gradient,
    gradient_x_input,
    pykan,
    secant,
    sobol_first,
    sobol_total,
    weight_l1,
)
from kanlens.attribution._problem import (
    NOTHING,
    GlobalScores,
    LocalValues,
    Method,
    Problem,
    check_outputs,
    data_rows,
    explained_output,
    methods_of,
)
from kanlens.attribution._result import Attribution, Importance
from kanlens.attribution.captum_methods._table import CAPTUM_METHODS
from kanlens.attribution.integration._integrated_gradients import integrated_gradients
from kanlens.attribution.shapley._values import interactions, shapley
from kanlens.errors import InvalidValueError, MethodError, rewording
from kanlens.model._analysis import Model, check_model, float64_copy, over_rows
from kanlens.model._network import KAN, Rows

METHODS: dict[str, Method] = {
    **methods_of(shapley, interactions, additive, integrated_gradients),
    **methods_of(secant, gradient, gradient_x_input),
    **CAPTUM_METHODS,
    **methods_of(sobol_first, sobol_total, pykan, weight_l1, edge_std),
}

# Captum's methods that reduce to a plain gradient on a KAN, or need layers or images.
_REFUSED = {
    "captum": "guided_backprop deconvolution lrp layer_lrp layer_grad_cam guided_grad_cam",
    "captum_neuron": "guided_backprop deconvolution deep_lift deep_lift_shap conductance gradient "
    "integrated_gradients gradient_shap feature_ablation",
}
REFUSED = frozenset(f"{kind}_{name}" for kind, names in _REFUSED.items() for name in names.split())


PER_SAMPLE = ("values", "standard_error", "bound", "interactions")  # fields with one row per sample


@within_memory
def attribute(
    model: Model,
    x: Rows,
    *,
    method: str = "shapley",
    background: Rows | None = None,
    target: int | str | None = None,
    max_memory: Memory = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Attribution | Importance:
    """Attribute an output to the features, sample by sample or over all samples.

    Runs in float64 on a private copy: the model and torch's random state do not change.

    Parameters
    ----------
    model : KAN or fitted estimator
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Samples, in the units of the data.
    method : str
        Key into ``METHODS``.
    background : Tensor, ndarray or DataFrame, shape (rows, in), optional
        Background rows that samples are compared with; `baseline` of the result describes how.
        Default: the background rows stored in the model.
    target : int or str, optional
        Index or name of the output; logits for classification. Default: the only output, or the
        class predicted for most samples. Required for regression with several outputs.
    max_memory : str or int, optional
        As for `trace`.
    generator : torch.Generator, optional
        Source of all random numbers of methods that sample, including Captum's. Default: torch's
        default generator, whose state is restored.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    **options
        Options of the method, listed in ``METHODS[method].options``.

    Returns
    -------
    Attribution or Importance
        `Attribution` for local methods, `Importance` for global ones; in the dtype of the model.

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
    chosen = _checked_method(method, options)
    with torch.inference_mode(False), torch.no_grad():
        how = {"generator": generator, "progress": progress}
        problem = _problem(model, x, background, chosen, target, how)
        with threads_for(problem.size):
            result = _run(chosen, problem, options, model.dtype)
        if isinstance(result, LocalValues):
            return _attribution(model, problem, method, result)
        _check_numbers(method, model.dtype, result.values)
        facts: dict[str, Any] = {"meaning": chosen.summary, "method": method}
        facts |= {"features": model.feature_names, "target": model.output_names[problem.target]}
        for name, part in vars(result).items():
            facts[name] = None if part is None else part.to(model.dtype)
        return Importance(**facts)


@within_memory
def importance(  # noqa: PLR0913 - one keyword per choice
    model: Model,
    x: Rows,
    *,
    method: str = "shapley",
    background: Rows | None = None,
    target: int | str | None = None,
    grouped: bool = True,
    max_memory: Memory = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Return the importance of each feature over all samples, output by output.

    Local methods are averaged: the mean ``|value|``, with a 95% interval as in
    `Attribution.to_importance`. A classifier has one output for each class (or, of two classes, for
    the second only), explained on the scale of its logits.

    An interrupt (Ctrl-C) ends the work; the outputs that are done are returned, with a warning.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Samples, in the units of the data.
    method, background, max_memory, generator, progress, **options
        As for `attribute`.
    target : int or str, optional
        One output. Default: all of them, one after the other.
    grouped : bool
        Whether to sum the values of a column's one-hot features; only for local methods.

    Returns
    -------
    DataFrame
        One row per output and feature: output, feature, importance, low, high, unit; within each
        output, the most important feature comes first.

    Raises
    ------
    InvalidValueError, MethodError, ShapeError, DTypeError, DataError
        As `attribute`.

    Examples
    --------
    >>> from kanlens import KAN
    >>> x = torch.rand(6, 2)
    >>> importance(KAN([2, 3, 2]), x, background=x)["output"].tolist()
    ['y1', 'y1', 'y2', 'y2']
    """
    model = check_model("importance", model)
    outputs = range(len(model.output_names)) if target is None else [target]
    options |= {"method": method, "background": background, "generator": generator}
    frames: list[pd.DataFrame] = []
    stop, whole = Interruption(), interrupts_pass if len(outputs) > 1 else nullcontext
    with stop.kept():
        for output in outputs:
            with rewording("importance"), whole():
                result = attribute(model, x, target=output, progress=progress, **options)
            frames.append(importance_table(result, grouped=grouped))
    if not frames:
        raise KeyboardInterrupt
    stop.warn("importance", f"Results of {len(frames)} of {len(outputs)} outputs are returned")
    return pd.concat(frames, ignore_index=True)


def _checked_method(name: str, options: dict[str, Any]) -> Method:
    """Return the method called `name`; refuse unknown ones and unknown options."""
    if isinstance(name, str) and name in REFUSED:
        expected = "a method that is valid for a KAN"
        advice = "Captum made it for ReLUs, images or neurons; use {method} or 'captum_deep_lift'"
        raise MethodError("attribute", expected, repr(name), advice, method="secant")
    check_choice("attribute", "method", name, METHODS)
    method = METHODS[name]
    for option in options:
        if option not in method.options:
            expected = f"options of method {name!r} ({', '.join(method.options) or 'it has none'})"
            raise InvalidValueError("attribute", expected, repr(option), "Drop it")
    return method


def _problem(
    model: KAN,
    x: Rows,
    background: Rows | None,
    chosen: Method,
    target: int | str | None,
    how: dict[str, Any],
) -> Problem:
    """Check the arguments and convert them to float64."""
    samples = model.prepare(x, call="attribute")
    check_rows("attribute", samples)
    rows = None
    if chosen.needs_background:
        needs = f"background rows for method {chosen.name!r}"
        options = {"call": "attribute", "what": "background", "needs": needs}
        rows = data_rows(model, background, **options).detach().clone().double()
    problem = Problem(
        model=float64_copy(model),
        x=samples.detach().clone().double(),
        rows=rows,
        target=explained_output(model, target, samples, call="attribute"),
        **how,
    )
    check_outputs("attribute", problem.output_in_parts(problem.x))
    return problem


def _run(
    chosen: Method, problem: Problem, options: dict[str, Any], dtype: torch.dtype
) -> LocalValues | GlobalScores:
    """Run a method; if samples are independent, block by block to save memory."""
    at_once = max(problem.rows_at_once, 0 if problem.rows is None else len(problem.rows))
    if not chosen.by_row or len(problem.x) <= at_once:
        return cast("LocalValues | GlobalScores", chosen.function(problem, **options))
    last: dict[str, Any] = {}

    def run(places: Tensor) -> list[Tensor]:
        here = replace(problem, x=problem.x[places], first=int(places[0]), progress=False)
        last.update(vars(chosen.function(here, **options)))
        advance(len(places))
        parts = (*(last[name] for name in PER_SAMPLE), *(last["paths"] or ()))
        return [part.to(dtype) for part in parts if part is not None]

    with progress_bar(chosen.name, len(problem.x), shown=problem.progress) as advance:
        whole = iter(over_rows(run, torch.arange(len(problem.x)), at_once))
    last |= {name: next(whole) for name in PER_SAMPLE if last[name] is not None}
    return LocalValues(**{**last, "paths": tuple(whole) or None})


def _attribution(model: KAN, problem: Problem, method: str, parts: LocalValues) -> Attribution:
    """Return the result of a local method, in the dtype of the model."""
    output, own = problem.output_in_parts(problem.x), parts.features is None
    reference = torch.full_like(output, parts.reference)
    counted = [] if parts.baseline in NOTHING else [reference[:1]]
    _check_numbers(method, model.dtype, parts.values, output, *counted)
    facts = {**vars(parts), "output": output, "reference": reference}
    facts["x"] = problem.x if own else None
    for name, value in facts.items():
        facts[name] = value.to(model.dtype) if isinstance(value, Tensor) else value
    facts["paths"] = parts.paths and tuple(flow.to(model.dtype) for flow in parts.paths)
    facts["features"] = parts.features or model.feature_names
    facts["unit"] = model.output_unit(problem.target)
    facts["groups"] = model.schema.groups if own else {}
    coded = [one for one in model.schema.features if own and one.kind != "numeric"]
    facts["levels"] = {one.name: one.levels for one in coded}
    if parts.paths:
        facts["owners"] = tuple(tuple(nodes.owner.tolist()) for nodes in model.nodes)
    return Attribution(**facts, method=method, target=model.output_names[problem.target])


def _check_numbers(method: str, dtype: torch.dtype, *parts: Tensor) -> None:
    """Refuse values that are NaN or infinite after conversion to the dtype of the model."""
    for part in parts:
        if not bool(torch.isfinite(part.to(dtype)).all()):
            expected = f"finite numbers from method {method!r}"
            advice = "A function has a pole or is undefined at an evaluated point, or numbers "
            advice += "are too large for the dtype of the model; use other rows, another method "
            advice += "or float64"
            raise MethodError("attribute", expected, "NaN or infinity", advice)


def importance_table(result: Attribution | Importance, *, grouped: bool = False) -> pd.DataFrame:
    """Return one row of `importance` per feature, the most important one first."""
    if isinstance(result, Attribution):
        result = (result.grouped() if grouped else result).to_importance()
    frame = result.to_frame().sort_values("importance", ascending=False, kind="stable")
    frame.insert(0, "output", result.target)
    frame["unit"] = result.unit
    return frame
