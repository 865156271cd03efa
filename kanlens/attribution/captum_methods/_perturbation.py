"""Captum's perturbation methods: ablation, permutation, and sampled Shapley values."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_count
from kanlens._runtime import progress_bar
from kanlens.attribution._problem import Baseline, LocalValues, Problem, method
from kanlens.attribution.captum_methods._adapter import REPEATS, finite, five_runs
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model._analysis import BUDGET, live_features

ZEILER = "M. Zeiler, R. Fergus, Visualizing and Understanding Convolutional Networks, 2014"
MAX_PLAYERS = 8  # 40320 permutations
COARSE_BITS = 36  # per output: float64 then adds up all orders exactly


class Unrounded(Tensor):
    """Outputs whose sum with captum's float32 totals is float64."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.add_:
            return torch.add(*(term.as_subclass(Tensor) for term in args))
        base: Any = super()
        return base.__torch_function__(function, types, args, kwargs)


def perturbed(problem: Problem, ablation: Any, **options: Any) -> Tensor:
    """Run one of captum's ablations on the samples, part by part, with the same random draws."""
    width, parts = problem.x.shape[1], []
    state = torch.get_rng_state()
    for x in problem.x.split(max(1, problem.rows_at_once // width)):
        torch.set_rng_state(state)
        parts.append(ablation.attribute(x, perturbations_per_eval=width, **options))
    return finite(torch.cat(parts)) * live_features(problem.model, problem.target)


@method(exact=True, complete=False, reference=ZEILER)
def captum_feature_ablation(problem: Problem) -> LocalValues:
    """Drop of the output when a feature is set to the background's mean.

    Incomplete where features interact.
    """
    from captum.attr import FeatureAblation

    values = perturbed(problem, FeatureAblation(problem.output), baselines=problem.mean_row)
    return problem.local(values, Baseline.MEAN_ROW, evaluations=1.0 + problem.x.shape[1])


@method(exact=True, complete=False, reference=ZEILER)
def captum_occlusion(problem: Problem, *, window: int = 1) -> LocalValues:
    """Drop of the output when neighboring features are set to the background's mean.

    A feature gets the mean over all windows of neighbors that contain it. For features with a
    meaningful order, such as time steps; a window of 1 is feature ablation.
    """
    check_count("attribute", "window", window)
    width = problem.x.shape[1]
    if window > width:
        expected, advice = f"to be at most {width}, the number of features", "Use a smaller window"
        raise InvalidValueError("attribute", expected, str(window), advice, argument="window")
    from captum.attr import Occlusion

    occlusion = Occlusion(problem.output)
    occlusion.use_weights = False  # its division is in float32
    options = {"sliding_window_shapes": (int(window),), "baselines": problem.mean_row}
    sums = perturbed(problem, occlusion, **options)
    windows = torch.arange(width).unfold(0, int(window), 1)  # (window, place)
    times = windows.flatten().bincount().to(sums)  # windows that contain each feature
    return problem.local(sums / times, Baseline.MEAN_ROW, evaluations=2.0 + width - window)


@method(exact=False, complete=False, needs_background=False, random=True)
def captum_feature_permutation(problem: Problem, *, n_samples: int = 25) -> LocalValues:
    """Drop of the output when a feature is shuffled among the samples.

    The mean over `n_samples` random shuffles, in five runs for the standard error. Values of a
    sample depend on the other samples.

    References
    ----------
    .. [1] L. Breiman, Random Forests, 2001.
    .. [2] A. Fisher, C. Rudin, F. Dominici, All Models are Wrong, but Many are Useful, 2019.
    """
    check_count("attribute", "n_samples", n_samples, least=REPEATS)
    x = problem.x
    if len(x) < 2:
        expected = "at least 2 rows of x for method 'captum_feature_permutation'"
        advice, other = ("Pass more rows", "use {method}"), "captum_feature_ablation"
        raise MethodError("attribute", expected, str(len(x)), *advice, method=other)
    from captum.attr import FeaturePermutation

    permutation = FeaturePermutation(problem.output_in_parts)
    live = live_features(problem.model, problem.target)
    at_once = max(1, min(x.shape[1], problem.rows_at_once // len(x)))

    def run(size: int) -> Tensor:
        total = torch.zeros_like(x)
        for _ in range(size):
            total += permutation.attribute(x, perturbations_per_eval=at_once)
        return finite(total).mul_(live).div_(size)

    values, error = five_runs(problem, run, n_samples)
    return LocalValues(
        values=values,
        reference=float(problem.output_in_parts(x).mean()),
        baseline=Baseline.OTHER_ROWS,
        standard_error=error,
        evaluations=float(n_samples * (1 + x.shape[1])),
    )


@method(exact=True, complete=True)
def captum_shapley_values(problem: Problem) -> LocalValues:
    """Shapley values from all orders of the features with a path to the output, at most 8.

    The baseline is the output at the background's mean. Captum goes through all orders; here, the
    output of every coalition is computed once.

    References
    ----------
    .. [1] L. Shapley, A value for n-person games, 1953.
    """
    live = live_features(problem.model, problem.target).nonzero().flatten()
    players = len(live)
    if players > MAX_PLAYERS:
        expected = f"at most {MAX_PLAYERS} features with a path to the output for method "
        expected += "'captum_shapley_values', which evaluates all their orders"
        advice = "Use {method}, which is exact for more features too"
        raise MethodError("attribute", expected, str(players), advice, method="shapley")
    values = torch.zeros_like(problem.x)
    at_once = max(1, BUDGET // (2**players * 16))
    codes = torch.arange(2**players, device=values.device)
    inside = torch.zeros(len(codes), values.shape[1], dtype=torch.bool, device=values.device)
    inside[:, live] = codes[:, None] >> torch.arange(players, device=values.device) & 1 == 1
    with progress_bar("captum", len(values), shown=problem.progress) as advance:
        for start in range(0, len(values), at_once):
            here = slice(start, start + at_once)
            mixed = torch.where(inside, problem.x[here, None], problem.mean_row)
            worth = finite(problem.output_in_parts(mixed.flatten(0, 1))).reshape(-1, len(codes))
            values[here, live] = _all_orders(worth)
            advance(len(values[here]))
    remark = f"all {math.factorial(players)} orders of the features with a path to the output"
    return problem.local(values, Baseline.MEAN_ROW, evaluations=float(2**players), remark=remark)


def _all_orders(worth: Tensor) -> Tensor:
    """Return captum's Shapley values of games (batch, 2^player), shape (batch, player)."""
    from captum.attr import ShapleyValues

    batch, players = len(worth), worth.shape[1].bit_length() - 1
    gains = worth - worth[:, :1]
    if players < 2:
        return gains[:, 1:]
    unit = 2.0 ** (math.frexp(float(gains.abs().max()))[1] - COARSE_BITS)
    coarse = (gains / unit).round() * unit
    table = torch.stack([coarse, gains - coarse], -1)  # (batch, 2^player, 2)
    powers = 2 ** torch.arange(players).to(worth)
    rows, calls = torch.arange(batch, device=worth.device).repeat(players), itertools.count()

    def output(members: Tensor) -> Tensor:
        codes = (members @ powers).long()
        outputs = table[rows[: len(codes)], codes]
        return outputs.as_subclass(Unrounded) if next(calls) == 1 else outputs  # the first term

    everyone = worth.new_ones(batch, players)
    values: Tensor = ShapleyValues(output).attribute(
        everyone, torch.zeros_like(everyone), perturbations_per_eval=players
    )
    return values.sum(1)  # (batch, 2, player)


@method(exact=False, complete=True, random=True)
def captum_shapley_value_sampling(problem: Problem, *, n_samples: int = 100) -> LocalValues:
    """Shapley values from random orders of the features.

    Counted from the output at the background's mean; drawn in five runs, whose spread gives the
    standard error.

    References
    ----------
    .. [1] J. Castro, D. Gomez, J. Tejada, Polynomial calculation of the Shapley value based on
       sampling, 2009.
    """
    check_count("attribute", "n_samples", n_samples, least=REPEATS)
    from captum.attr import ShapleyValueSampling

    finite(problem.output_in_parts(problem.x))
    orders = ShapleyValueSampling(lambda x: finite(problem.output(x)).as_subclass(Unrounded))

    def run(size: int) -> Tensor:
        return perturbed(problem, orders, baselines=problem.mean_row, n_samples=size)

    values, error = five_runs(problem, run, n_samples)
    evaluations = float(n_samples * problem.x.shape[1])
    return problem.local(values, Baseline.MEAN_ROW, standard_error=error, evaluations=evaluations)
