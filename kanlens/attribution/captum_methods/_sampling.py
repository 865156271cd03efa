"""Captum's gradients under noise, and its linear surrogates (KernelShap and Lime)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_count, check_positive
from kanlens._runtime import progress_bar
from kanlens.attribution._problem import Baseline, LocalValues, Problem, borrowed_randomness, method
from kanlens.attribution.captum_methods import _adapter as adapter
from kanlens.errors import InvalidValueError
from kanlens.model._analysis import live_features

SHAP = "S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017"
TUNNELED = {
    "saliency": Baseline.SLOPES,
    "input_x_gradient": Baseline.ZERO,
    "integrated_gradients": Baseline.MEAN_ROW,
}
KINDS = ("smoothgrad", "smoothgrad_sq", "vargrad")
MAX_KERNEL_EXPONENT = 60.0  # a coalition of half the features weighs at least exp(-60)
# largest kernel width (coalitions then weigh the same) and penalty (values are then 0)
MAX_KERNEL_WIDTH = 1e6


@method(exact=False, complete=False, random=True, reference=SHAP)
def captum_gradient_shap(
    problem: Problem, *, n_samples: int = 200, noise: float = 0.0
) -> LocalValues:
    """Gradients at random points between sample and background; complete on average.

    Each draw is one background row and one point on the line to it; five runs give the standard
    error. `noise` is the standard deviation of normal noise on the samples, relative to that of
    each feature in the background.
    """
    check_count("attribute", "n_samples", n_samples, least=adapter.REPEATS)
    check_positive("attribute", "noise", noise, zero=True)
    from captum.attr import GradientShap

    field = _NoisyField(problem)
    rows = problem.background / field.unit
    shap = GradientShap(field)

    def draw(z: Tensor, size: int) -> Any:
        return shap.attribute(z, baselines=rows, n_samples=size, stdevs=float(noise))

    values, error = field.drawn(draw, n_samples, 1)
    return problem.local(
        values,
        Baseline.MEAN_OUTPUT,
        standard_error=error,
        evaluations=float(n_samples),
        remark=field.remark(noise) if noise else "",
    )


@method(exact=False, complete=False, random=True)
def captum_noise_tunnel(
    problem: Problem,
    *,
    of: str = "saliency",
    kind: str = "smoothgrad",
    n_samples: int = 100,
    noise: float = 0.1,
    n_steps: int = 50,
) -> LocalValues:
    """Saliency, or the method of option `of`, averaged over noisy samples.

    `kind` "smoothgrad" averages values, "smoothgrad_sq" their squares; "vargrad" is their unbiased
    variance. Five runs give the standard error. The noise has `noise` times each feature's standard
    deviation in the background. The remark has the share of noisy inputs outside the grid.
    Integrated gradients start at the mean of the background.

    References
    ----------
    .. [1] D. Smilkov et al., SmoothGrad: removing noise by adding noise, 2017.
    """
    check_choice("attribute", "of", of, TUNNELED)
    check_choice("attribute", "kind", kind, KINDS)
    check_count("attribute", "n_samples", n_samples, least=2 * adapter.REPEATS)
    check_positive("attribute", "noise", noise)
    check_count("attribute", "n_steps", n_steps)
    from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Saliency

    field, options, steps = _NoisyField(problem), dict[str, Any](), 1
    if of == "integrated_gradients":
        options = {"baselines": problem.mean_row / field.unit, "n_steps": n_steps}
        options, steps = options | {"method": "gausslegendre"}, n_steps
    kinds = {"saliency": Saliency, "input_x_gradient": InputXGradient}
    tunnel = NoiseTunnel(kinds.get(of, IntegratedGradients)(field))

    def draw(z: Tensor, size: int) -> Any:
        how = {"nt_type": kind, "nt_samples": size, "stdevs": float(noise)}
        mean = tunnel.attribute(z, **how, **options)
        return mean * (size / (size - 1)) if kind == "vargrad" else mean

    values, error = field.drawn(draw, n_samples, steps)
    if of == "saliency":  # slopes per unit of the field
        unit = field.unit if kind == "smoothgrad" else field.unit.square()
        values, error = values.div_(unit), error.div_(unit)
    return problem.local(
        values,
        TUNNELED[of] if kind == "smoothgrad" else Baseline.SQUARES,
        standard_error=error,
        evaluations=float(n_samples * steps),
        remark=f"{kind} of {of}, {field.remark(noise)}",
    )


class _NoisyField:
    """The output as a function of standardized features: captum adds equal noise to all."""

    def __init__(self, problem: Problem) -> None:
        rows = problem.background
        least = 1e-9 * rows.abs().amax(0).clamp_min(1.0)
        self.unit = rows.std(0, correction=0).maximum(least)  # (in,)
        self._problem, self._outside, self._seen = problem, 0, 0

    def __call__(self, z: Tensor) -> Tensor:
        """Return the sum of the outputs at z (batch, in), and count inputs outside the grid."""
        model, x = self._problem.model, z * self.unit
        with torch.no_grad():
            self._outside += int(model.outside(x).sum())
        self._seen += x.numel()
        return adapter.total_output(self._problem, x)

    def drawn(
        self, draw: Callable[[Tensor, int], Tensor], n_samples: int, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Return the mean and standard error of `draw` at the samples, from five runs."""

        def run(size: int) -> Tensor:
            def values(x: Tensor) -> Tensor:
                return draw(x.detach() / self.unit, size)

            at_once = self._problem.rows_at_once // (size * steps)
            return adapter.over_parts(self._problem, values, at_once=at_once)

        return adapter.five_runs(self._problem, run, n_samples)

    def remark(self, noise: float) -> str:
        share = self._outside / max(1, self._seen)
        return (
            f"noise of {noise:g} standard deviations of the background; {share:.1%} of the "
            "evaluated inputs lie outside the training range"
        )


@method(exact=False, complete=True, random=True, reference=SHAP)
def captum_kernel_shap(problem: Problem, *, n_samples: int = 200) -> LocalValues:
    """Shapley values from a weighted linear fit to random coalitions.

    Counted from the output at the background's mean. The first two of the `n_samples` coalitions of
    each sample are the full and the empty one.
    """
    check_count("attribute", "n_samples", n_samples, least=3)
    from captum.attr import KernelShap

    return _fitted(problem, KernelShap, n_samples)


@method(exact=False, complete=False, random=True)
def captum_lime(
    problem: Problem,
    *,
    n_samples: int = 200,
    kernel_width: float | None = None,
    penalty: float = 0.0,
) -> LocalValues:
    """Local linear model of the output as features are kept or replaced.

    Replaced features get the background's mean. A coalition that replaces d^2 features weighs
    exp(-d^2 / (2 width^2)); the default width is 3/4 of the root of the number of features, as in
    the authors' package. `penalty` is that of the lasso, for output changes scaled to 1; 0 is
    least squares.

    References
    ----------
    .. [1] M. Ribeiro, S. Singh, C. Guestrin, Why Should I Trust You? Explaining the Predictions of
       Any Classifier, 2016.
    """
    players = int(live_features(problem.model, problem.target).sum())
    check_count("attribute", "n_samples", n_samples, least=players + 2)
    check_positive("attribute", "penalty", penalty, zero=True)
    width = 0.75 * math.sqrt(max(1, players)) if kernel_width is None else kernel_width
    check_positive("attribute", "kernel_width", width)
    least = math.sqrt(max(1, players) / (4 * MAX_KERNEL_EXPONENT))
    if not least <= width <= MAX_KERNEL_WIDTH:  # most coalitions have no weight in float32
        expected = f"from {least:.2g} to {MAX_KERNEL_WIDTH:.0e} for {players} features"
        got, advice = f"{width:g}", "Leave it out for the default"
        raise InvalidValueError("attribute", expected, got, advice, argument="kernel_width")
    if penalty > MAX_KERNEL_WIDTH:
        expected, advice = f"of at most {MAX_KERNEL_WIDTH:.0e}", "Lower it; changes are scaled to 1"
        raise InvalidValueError("attribute", expected, f"{penalty:g}", advice, argument="penalty")
    from captum._utils.models.linear_model import SkLearnLasso, SkLearnLinearRegression
    from captum.attr import Lime
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    def lime(game: Callable[[Tensor], Tensor]) -> Any:
        fit = SkLearnLasso(alpha=penalty) if penalty else SkLearnLinearRegression()
        near = get_exp_kernel_similarity_function("euclidean", kernel_width=width)
        return Lime(game, interpretable_model=fit, similarity_func=near)

    return _fitted(problem, lime, n_samples)


def _fitted(problem: Problem, maker: Callable[..., Any], n_samples: int) -> LocalValues:
    """Run KernelShap or Lime of captum on every sample."""
    reference = problem.counted_from(Baseline.MEAN_ROW)
    changes = adapter.finite(problem.output_in_parts(problem.x) - reference)
    live = live_features(problem.model, problem.target)
    values = torch.zeros_like(problem.x)
    if int(live.sum()) < 2:  # nothing to share; captum cannot draw coalitions of one
        return problem.local(changes[:, None] * live, Baseline.MEAN_ROW, evaluations=1.0)
    everyone = changes.new_ones(1, int(live.sum()))
    nobody, at_once = torch.zeros_like(everyone), max(1, min(n_samples, problem.rows_at_once))
    how = {"n_samples": n_samples, "perturbations_per_eval": at_once}
    with (
        borrowed_randomness(problem.generator, problem.x.device),
        progress_bar("captum", len(problem.x), shown=problem.progress) as advance,
    ):
        state = torch.get_rng_state()
        for index, change in enumerate(changes.tolist()):
            torch.set_rng_state(state)
            units = reference, abs(change) or 1.0
            fit = maker(partial(_worth, problem, problem.x[index], live, units))
            values[index, live] = fit.attribute(everyone, nobody, **how)[0].to(values) * units[1]
            advance(1)
    return problem.local(values, Baseline.MEAN_ROW, evaluations=float(n_samples))


def _worth(
    problem: Problem, x: Tensor, live: Tensor, units: tuple[float, float], members: Tensor
) -> Tensor:
    """Return scaled changes for coalitions (coalition, player) of `live` features of x (in,)."""
    reference, scale = units
    mixed = problem.mean_row.repeat(len(members), 1)
    mixed[:, live] = torch.where(members != 0, x[live], mixed[:, live])
    return adapter.finite(problem.output(mixed) - reference) / scale
