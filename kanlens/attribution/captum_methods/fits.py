"""Captum's methods that fit a linear model to random coalitions of features: KernelShap and Lime.

Captum fits one sample at a time, in float32. Each sample is a game of its own: its players are the
features with a path to the output, and its values are changes of the output, scaled to about 1, so
that a large output costs no digits. All samples are given the same coalitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.captum_methods.adapter import finite
from kanlens.attribution.problem import MEAN_ROW, Parts, Problem, borrowed_randomness
from kanlens.checks import check_count, check_positive, message
from kanlens.errors import InvalidValueError
from kanlens.model.analysis import live_features
from kanlens.progress import progress_bar

FAINT = 60.0  # a coalition of half the features weighs at least exp(-60)
WIDEST = 1e6  # kernel width, where all coalitions weigh the same, or penalty, where nothing is left


def captum_kernel_shap(problem: Problem, *, n_samples: int = 200) -> Parts:
    """Return Shapley values against the background's mean, from a weighted linear fit.

    The first two of the `n_samples` coalitions of each sample are all and none.
    """
    check_count("attribute", "n_samples", n_samples, least=3)
    from captum.attr import KernelShap

    return _fitted(problem, KernelShap, n_samples)


def captum_lime(
    problem: Problem,
    *,
    n_samples: int = 200,
    kernel_width: float | None = None,
    penalty: float = 0.0,
) -> Parts:
    """Return the coefficients of a linear model of which features are kept, near the sample.

    Features that are not kept are set to the background's mean. A coalition weighs
    exp(-d^2 / (2 width^2)), where d^2 is the number of features that it replaces; the width is 3/4
    of the root of the number of features by default, as in the authors' package. `penalty` is that
    of the lasso, for changes scaled to 1: captum's default is 0.01; 0 is least squares.
    """
    players = int(live_features(problem.model, problem.target).sum())
    check_count("attribute", "n_samples", n_samples, least=players + 2)
    check_positive("attribute", "penalty", penalty, zero=True)
    width = 0.75 * math.sqrt(max(1, players)) if kernel_width is None else kernel_width
    check_positive("attribute", "kernel_width", width)
    _check_weights(float(width), float(penalty), players)
    from captum._utils.models.linear_model import SkLearnLasso, SkLearnLinearRegression
    from captum.attr import Lime
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    def lime(game: Callable[[Tensor], Tensor]) -> Any:
        fit = SkLearnLasso(alpha=penalty) if penalty else SkLearnLinearRegression()
        near = get_exp_kernel_similarity_function("euclidean", kernel_width=width)
        return Lime(game, interpretable_model=fit, similarity_func=near)

    return _fitted(problem, lime, n_samples)


def _check_weights(width: float, penalty: float, players: int) -> None:
    """Refuse what leaves most coalitions no weight in float32, or all coefficients at zero."""
    least = math.sqrt(max(1, players) / (4 * FAINT))
    if not least <= width <= WIDEST:
        expected = f"kernel_width from {least:.2g} to {WIDEST:.0e} for {players} features"
        advice = "Leave it out for the authors' choice"
        raise InvalidValueError(message("attribute", expected, f"{width:g}", advice))
    if penalty > WIDEST:
        expected, advice = f"penalty of at most {WIDEST:.0e}", "Lower it; changes are scaled to 1"
        raise InvalidValueError(message("attribute", expected, f"{penalty:g}", advice))


def _fitted(problem: Problem, maker: Callable[..., Any], n_samples: int) -> Parts:
    """Run one of captum's fits on every sample."""
    reference = problem.counted_from(MEAN_ROW)
    changes = finite(problem.output_in_parts(problem.x) - reference)
    live = live_features(problem.model, problem.target)
    values = torch.zeros_like(problem.x)
    if int(live.sum()) < 2:  # nothing to share; captum cannot draw coalitions of one
        values = changes[:, None] * live
        return Parts(values=values, reference=reference, baseline=MEAN_ROW, evaluations=1.0)
    with (
        borrowed_randomness(problem.generator, problem.x.device),
        progress_bar("captum", len(problem.x), shown=problem.progress) as advance,
    ):
        state = torch.get_rng_state()
        for index, change in enumerate(changes.tolist()):
            torch.set_rng_state(state)
            units = reference, abs(change) or 1.0
            values[index, live] = _fit(problem, problem.x[index], units, (maker, n_samples))
            advance(1)
    return Parts(
        values=values, reference=reference, baseline=MEAN_ROW, evaluations=float(n_samples)
    )


def _fit(
    problem: Problem,
    x: Tensor,
    units: tuple[float, float],
    how: tuple[Callable[..., Any], int],
) -> Tensor:
    """Return captum's fit for one sample x (in,), shape (player,)."""
    live = live_features(problem.model, problem.target)
    reference, scale = units
    maker, n_samples = how

    def game(members: Tensor) -> Tensor:
        mixed = problem.mean_row.repeat(len(members), 1)
        mixed[:, live] = torch.where(members != 0, x[live], mixed[:, live])
        return finite(problem.output(mixed) - reference) / scale

    everyone = x.new_ones(1, int(live.sum()))
    found: Tensor = maker(game).attribute(
        everyone,
        torch.zeros_like(everyone),
        n_samples=n_samples,
        perturbations_per_eval=max(1, min(n_samples, problem.rows_at_once)),
    )
    return found[0].to(x.dtype) * scale
