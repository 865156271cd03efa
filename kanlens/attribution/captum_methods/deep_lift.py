"""Captum's DeepLift and DeepLiftShap, on the view of the model that they read rightly."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from kanlens.attribution.captum_methods.adapter import finite, over_background, quiet
from kanlens.attribution.deeplift_gradients import SAME
from kanlens.attribution.edge_view import EdgeView, known_to_captum
from kanlens.attribution.problem import MEAN_OUTPUT, Parts, Problem, pairs
from kanlens.progress import progress_bar


def captum_deep_lift(problem: Problem) -> Parts:
    """Return DeepLift (Rescale) from every background row, averaged.

    Runs on the edge view of the model, where captum's rule is right; on the plain model it would
    be the gradient times x - b.

    Parameters
    ----------
    problem : Problem
        With a background.

    Returns
    -------
    Parts
        Counted from the mean output over the background.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating
       Activation Differences, 2017.
    """
    from captum.attr import DeepLift

    method = DeepLift(EdgeView(problem), eps=SAME)

    def run(x: Tensor, baselines: Tensor) -> Tensor:
        found: Tensor = method.attribute(x, baselines)
        return found

    with known_to_captum():
        values = over_background(_held(problem), run, at_once=problem.pairs_at_once // 2)
    return _counted(problem, values)


def captum_deep_lift_shap(problem: Problem) -> Parts:
    """Return DeepLift averaged by captum over the background, its distribution of baselines.

    The same numbers as ``captum_deep_lift``, which averages itself; captum asks for at least two
    baselines, so a single background row is given twice.

    Parameters
    ----------
    problem : Problem
        With a background.

    Returns
    -------
    Parts
        Counted from the mean output over the background.

    References
    ----------
    .. [1] S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017.
    """
    from captum.attr import DeepLiftShap

    problem = _held(problem)
    x, rows = problem.x, problem.background
    method, values = DeepLiftShap(EdgeView(problem)), torch.zeros_like(x)
    at_once = problem.pairs_at_once // 2
    with (
        progress_bar("captum", len(x) * len(rows), shown=problem.progress) as advance,
        torch.enable_grad(),
        quiet(),
        known_to_captum(),
    ):
        for here, there in pairs(len(x), len(rows), at_once):
            baselines = rows[there]
            share = len(baselines) / len(rows)
            twice = baselines.repeat(2, 1) if len(baselines) == 1 else baselines
            found = method.attribute(x[here].clone().requires_grad_(), twice).detach()
            values[here] += found * share
            advance(len(found) * len(baselines))
    return _counted(problem, finite(values))


def _held(problem: Problem) -> Problem:
    """Return the problem with features held in their range: captum has no rule for that step."""
    ends = problem.model.input_low, problem.model.input_high
    return dataclasses.replace(
        problem, x=problem.x.clamp(*ends), rows=problem.background.clamp(*ends)
    )


def _counted(problem: Problem, values: Tensor) -> Parts:
    return Parts(
        values=values,
        reference=problem.expected_output(),
        baseline=MEAN_OUTPUT,
        evaluations=2.0 * len(problem.background),
    )
