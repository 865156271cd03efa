"""Captum's methods that replace features and look at what the output loses."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.captum_methods.adapter import REPEATS, finite, five_runs, perturbed
from kanlens.attribution.problem import MEAN_ROW, Parts, Problem
from kanlens.checks import check_count, message
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model.analysis import live_features

OTHER_ROWS = "mean output over the samples, whose values replace each other"


def captum_feature_ablation(problem: Problem) -> Parts:
    """Return what the output loses when one feature is set to the background's mean.

    Incomplete where features interact.

    Parameters
    ----------
    problem : Problem
        With a background.

    Returns
    -------
    Parts
        Counted from the output at the mean of the background.

    References
    ----------
    .. [1] M. Zeiler, R. Fergus, Visualizing and Understanding Convolutional Networks, 2014.
    """
    from captum.attr import FeatureAblation

    row = problem.mean_row
    return Parts(
        values=perturbed(problem, FeatureAblation(problem.output), baselines=row),
        reference=float(problem.output(row)),
        baseline=MEAN_ROW,
        evaluations=1.0 + problem.x.shape[1],
    )


def captum_occlusion(problem: Problem, *, window: int = 1) -> Parts:
    """Return what the output loses when neighboring features are set to the background's mean.

    Windows slide over the features in their order, one feature at a time, and a feature gets the
    mean over the windows that contain it. This says something where the order means something, as
    with time steps; a window of 1 is feature ablation.

    Parameters
    ----------
    problem : Problem
        With a background.
    window : int
        Features in a window.

    Returns
    -------
    Parts
        Counted from the output at the mean of the background.

    References
    ----------
    .. [1] M. Zeiler, R. Fergus, Visualizing and Understanding Convolutional Networks, 2014.
    """
    check_count("attribute", "window", window)
    width = problem.x.shape[1]
    if window > width:
        expected = f"window to be at most {width}, the number of features"
        raise InvalidValueError(message("attribute", expected, str(window), "Change it"))
    from captum.attr import Occlusion

    row, method = problem.mean_row, Occlusion(problem.output)
    method.use_weights = False  # its division is in float32
    options = {"sliding_window_shapes": (int(window),), "baselines": row}
    sums = perturbed(problem, method, **options)
    starts = torch.arange(width - window + 1)[:, None]
    here = torch.arange(width)
    times = ((here >= starts) & (here < starts + window)).sum(0)  # (in,)
    return Parts(
        values=sums / times.to(sums),
        reference=float(problem.output(row)),
        baseline=MEAN_ROW,
        evaluations=2.0 + width - window,
    )


def captum_feature_permutation(problem: Problem, *, n_samples: int = 25) -> Parts:
    """Return what the output loses when a feature's values are shuffled among the samples.

    The samples themselves are the baseline: each value is what one sample loses when it is given
    the feature of another, on average over random shuffles, five runs of which give the standard
    error. So a value depends on which samples are asked about, and one sample alone has none.

    Parameters
    ----------
    problem : Problem
        A background is not used.
    n_samples : int
        Number of shuffles of each feature, at least 5.

    Returns
    -------
    Parts
        Counted from the mean output over the samples.

    Raises
    ------
    MethodError
        If there is a single sample.

    References
    ----------
    .. [1] L. Breiman, Random Forests, 2001.
    .. [2] A. Fisher, C. Rudin, F. Dominici, All Models are Wrong, but Many are Useful, 2019.
    """
    check_count("attribute", "n_samples", n_samples, least=REPEATS)
    x = problem.x
    if len(x) < 2:
        expected = "at least 2 rows of x for method 'captum_feature_permutation'"
        advice = "Pass more rows, or use method='captum_feature_ablation'"
        raise MethodError(message("attribute", expected, str(len(x)), advice))
    from captum.attr import FeaturePermutation

    method = FeaturePermutation(problem.output_in_parts)
    live = live_features(problem.model, problem.target)
    at_once = max(1, min(x.shape[1], problem.rows_at_once // len(x)))

    def run(size: int) -> Tensor:
        total = torch.zeros_like(x)
        for _ in range(size):
            total += method.attribute(x, perturbations_per_eval=at_once)
        return finite(total) * live / size

    values, error = five_runs(problem, run, n_samples, generator=problem.generator)
    return Parts(
        values=values,
        reference=float(problem.output_in_parts(x).mean()),
        baseline=OTHER_ROWS,
        standard_error=error,
        evaluations=float(n_samples * (1 + x.shape[1])),
    )
