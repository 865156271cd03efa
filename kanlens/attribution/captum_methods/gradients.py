"""Captum's gradient methods that draw: GradientShap and NoiseTunnel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.captum_methods.adapter import (
    REPEATS,
    five_runs,
    over_parts,
    total_output,
)
from kanlens.attribution.problem import (
    MEAN_OUTPUT,
    MEAN_ROW,
    SLOPES,
    SQUARES,
    ZERO,
    Parts,
    Problem,
)
from kanlens.checks import check_choice, check_count, check_positive

TUNNELED = {"saliency": SLOPES, "input_x_gradient": ZERO, "integrated_gradients": MEAN_ROW}
KINDS = ("smoothgrad", "smoothgrad_sq", "vargrad")


def captum_gradient_shap(problem: Problem, *, n_samples: int = 200, noise: float = 0.0) -> Parts:
    """Return gradients at random points between the sample and random background rows.

    Each draw is one background row and one place on the line to it; five runs of them give the
    standard error. The values add up on average only: the completeness gap shows how far this run
    is from it.
    `noise` is the deviation of the normal noise added to the samples, in deviations of each feature
    in the background.
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
        reference=problem.counted_from(MEAN_OUTPUT),
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
    Captum's variance is that of the sample; here it is made unbiased. Integrated gradients start at
    the mean of the background.
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
    baseline = TUNNELED[of] if kind == "smoothgrad" else SQUARES
    return Parts(
        values=values,
        reference=problem.counted_from(baseline),
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
