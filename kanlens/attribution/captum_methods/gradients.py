"""Captum's methods that take gradients: at the sample, along lines, and under noise."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.captum_methods.adapter import (
    REPEATS,
    five_runs,
    over_background,
    over_parts,
    steps_at_once,
    total_output,
)
from kanlens.attribution.problem import MEAN_OUTPUT, MEAN_ROW, SLOPES, ZERO, Parts, Problem
from kanlens.checks import check_choice, check_count, check_positive

SQUARES = "nothing: values are squares or variances, no shares"
TUNNELED = ("saliency", "input_x_gradient", "integrated_gradients")
KINDS = ("smoothgrad", "smoothgrad_sq", "vargrad")


def captum_integrated_gradients(problem: Problem, *, n_steps: int = 200) -> Parts:
    """Return integrated gradients from every background row, averaged.

    Gauss-Legendre nodes on the straight line; the knots of a KAN limit the accuracy, and the
    completeness gap shows it. Captum's weights are in float32, which alone costs a gap of 1e-8.
    Work is samples x background x steps.

    Parameters
    ----------
    problem : Problem
        With a background.
    n_steps : int
        Nodes on each line.

    Returns
    -------
    Parts
        Counted from the mean output over the background.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017.
    .. [2] G. Erion et al., Improving performance of deep learning models with axiomatic
       attribution priors and expected gradients, 2021.
    """
    check_count("attribute", "n_steps", n_steps)
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(partial(total_output, problem))
    options: dict[str, Any] = {"n_steps": n_steps, "method": "gausslegendre"}
    options["internal_batch_size"] = steps_at_once(problem, n_steps)

    def run(x: Tensor, baselines: Tensor) -> Tensor:
        found: Tensor = method.attribute(x, baselines, **options)
        return found

    at_once = problem.rows_at_once // n_steps
    return Parts(
        values=over_background(problem, run, at_once=at_once),
        reference=problem.expected_output(),
        baseline=MEAN_OUTPUT,
        evaluations=float(n_steps * len(problem.background)),
    )


def captum_input_x_gradient(problem: Problem) -> Parts:
    """Return input times gradient.

    Parameters
    ----------
    problem : Problem
        A background is not used.

    Returns
    -------
    Parts
        Counted from the output at zero, which may lie far from the data.

    References
    ----------
    .. [1] A. Shrikumar et al., Not Just a Black Box: Learning Important Features Through
       Propagating Activation Differences, 2016.
    """
    from captum.attr import InputXGradient

    method = InputXGradient(partial(total_output, problem))
    zero = torch.zeros_like(problem.x[:1])
    return Parts(
        values=over_parts(problem, method.attribute, at_once=problem.rows_at_once),
        reference=float(problem.output(zero)),
        baseline=ZERO,
        evaluations=1.0,
    )


def captum_saliency(problem: Problem) -> Parts:
    """Return the size of the gradient: slopes without sign, which share out nothing.

    Parameters
    ----------
    problem : Problem
        A background is not used.

    Returns
    -------
    Parts
        In units of the output per unit of each feature; counted from nothing, so that there is no
        completeness gap.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks: Visualising
       Image Classification Models and Saliency Maps, 2014.
    """
    from captum.attr import Saliency

    method = Saliency(partial(total_output, problem))
    return Parts(
        values=over_parts(problem, method.attribute, at_once=problem.rows_at_once),
        reference=math.nan,
        baseline=SLOPES,
        evaluations=1.0,
    )


def captum_gradient_shap(problem: Problem, *, n_samples: int = 200, noise: float = 0.0) -> Parts:
    """Return gradients at random points between the sample and random background rows.

    Each draw is one background row and one place on the line to it; five runs of them give the
    standard error. The values add up on average only: the completeness gap shows how far this run
    is from it.

    Parameters
    ----------
    problem : Problem
        With a background.
    n_samples : int
        Number of draws for each sample, at least 5.
    noise : float
        Deviation of the normal noise added to the samples, in deviations of each feature in the
        background.

    Returns
    -------
    Parts
        Counted from the mean output over the background.

    References
    ----------
    .. [1] S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017.
    .. [2] G. Erion et al., Improving performance of deep learning models with axiomatic
       attribution priors and expected gradients, 2021.
    """
    check_count("attribute", "n_samples", n_samples, least=REPEATS)
    check_positive("attribute", "noise", noise, zero=True)
    from captum.attr import GradientShap

    field = _NoisyField(problem)
    rows = problem.background / field.unit
    method = GradientShap(field)

    def run(size: int) -> Tensor:
        def part(x: Tensor) -> Tensor:
            found: Tensor = method.attribute(
                x.detach() / field.unit, baselines=rows, n_samples=size, stdevs=float(noise)
            )
            return found

        return over_parts(problem, part, at_once=problem.rows_at_once // size)

    values, error = five_runs(problem, run, n_samples, generator=problem.generator)
    return Parts(
        values=values,
        reference=problem.expected_output(),
        baseline=MEAN_OUTPUT,
        standard_error=error,
        evaluations=float(n_samples),
        remark=field.remark(noise) if noise else "",
    )


def captum_noise_tunnel(
    problem: Problem,
    *,
    of: str = "saliency",
    kind: str = "smoothgrad",
    n_samples: int = 100,
    noise: float = 0.1,
    n_steps: int = 50,
) -> Parts:
    """Return another method's values under noise: their mean, mean square or variance.

    The noise of a feature has `noise` times the deviation that the feature has in the background;
    a feature that is constant there gets none. The result's remark says which share of the noisy
    inputs lies outside the grid. Five runs give the standard error.

    Parameters
    ----------
    problem : Problem
        With a background.
    of : {"saliency", "input_x_gradient", "integrated_gradients"}
        Whose values; integrated gradients from the mean of the background.
    kind : {"smoothgrad", "smoothgrad_sq", "vargrad"}
        The mean of the values, the mean of their squares, or their variance. Captum's variance is
        that of the sample; here it is made unbiased.
    n_samples : int
        Noisy copies of each sample, at least 10.
    noise : float
        In deviations.
    n_steps : int
        Nodes on the line of integrated gradients.

    Returns
    -------
    Parts
        Counted from where `of` counts for ``"smoothgrad"``, from nothing for the others.

    References
    ----------
    .. [1] D. Smilkov et al., SmoothGrad: removing noise by adding noise, 2017.
    .. [2] J. Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity
       to Parameter Values, 2018.
    """
    check_choice("attribute", "of", of, TUNNELED)
    check_choice("attribute", "kind", kind, KINDS)
    check_count("attribute", "n_samples", n_samples, least=2 * REPEATS)
    check_positive("attribute", "noise", noise)
    check_count("attribute", "n_steps", n_steps)
    from captum.attr import NoiseTunnel

    field = _NoisyField(problem)
    inner, options, steps = _tunneled(problem, field, of, n_steps)
    tunnel = NoiseTunnel(inner)

    def run(size: int) -> Tensor:
        def part(x: Tensor) -> Tensor:
            found: Tensor = tunnel.attribute(
                x.detach() / field.unit,
                nt_type=kind,
                nt_samples=size,
                stdevs=float(noise),
                **options,
            )
            return found * (size / (size - 1)) if kind == "vargrad" else found

        return over_parts(problem, part, at_once=problem.rows_at_once // (size * steps))

    values, error = five_runs(problem, run, n_samples, generator=problem.generator)
    if of == "saliency":  # slopes per unit of the field
        unit = field.unit if kind == "smoothgrad" else field.unit.square()
        values, error = values / unit, error / unit
    reference, baseline = _counted_from(problem, of, kind)
    return Parts(
        values=values,
        reference=reference,
        baseline=baseline,
        standard_error=error,
        evaluations=float(n_samples * steps),
        remark=f"{kind} of {of}, {field.remark(noise)}",
    )


class _NoisyField:
    """The output in units in which every feature has the deviation 1 in the background.

    Captum adds noise of one deviation to all features. A feature that is constant has a unit so
    small that its noise is none.
    """

    def __init__(self, problem: Problem) -> None:
        rows = problem.background
        least = 1e-9 * rows.abs().amax(0).clamp_min(1.0)
        self.unit = rows.std(0, correction=0).maximum(least)  # (in,)
        self._problem, self._outside, self._seen = problem, 0, 0

    def __call__(self, z: Tensor) -> Tensor:
        """Return the outputs at z (batch, in) added up, and count what is outside the grid."""
        model, x = self._problem.model, z * self.unit
        with torch.no_grad():
            self._outside += int(model.outside(x).sum())
        self._seen += x.numel()
        return total_output(self._problem, x)

    def remark(self, noise: float) -> str:
        share = self._outside / max(1, self._seen)
        return (
            f"noise of {noise:g} deviations of the background; {share:.1%} of the inputs it read "
            "lie outside the training range"
        )


def _tunneled(
    problem: Problem, field: _NoisyField, of: str, n_steps: int
) -> tuple[Any, dict[str, Any], int]:
    """Return captum's object for the method under noise, its options, and its evaluations."""
    from captum.attr import InputXGradient, IntegratedGradients, Saliency

    if of == "integrated_gradients":
        options = {"baselines": problem.mean_row / field.unit, "n_steps": n_steps}
        return IntegratedGradients(field), {**options, "method": "gausslegendre"}, n_steps
    return (Saliency if of == "saliency" else InputXGradient)(field), {}, 1


def _counted_from(problem: Problem, of: str, kind: str) -> tuple[float, str]:
    """Return the reference of the values under noise, and what it is."""
    if kind != "smoothgrad":
        return math.nan, SQUARES
    if of == "saliency":
        return math.nan, SLOPES
    if of == "input_x_gradient":
        return float(problem.output(torch.zeros_like(problem.x[:1]))), ZERO
    return float(problem.output(problem.mean_row)), MEAN_ROW
