"""Captum's methods that replace features: ablation, permutation, and sampled Shapley values.

Captum adds up permutations in float32; outputs are handed over as digits that it sums exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.captum_methods.adapter import REPEATS, finite, five_runs
from kanlens.attribution.problem import MEAN_ROW, LocalValues, Problem
from kanlens.checks import check_count, message
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model.analysis import BUDGET, live_features
from kanlens.progress import progress_bar

OTHER_ROWS = "mean output over the samples, whose values replace each other"
MOST_PLAYERS = 8  # 40320 permutations
ORDERS_AT_ONCE = 128
_EXACT = 22  # bits of a sum of digits; float32 holds 24, two of them cover captum's division
_WANTED = 56  # bits of an output next to the largest; float64 holds 53


def perturbed(problem: Problem, method: Any, **options: Any) -> Tensor:
    """Run one of captum's perturbation methods on parts of the samples: (batch, ..., in).

    Every part is given the same random draws. Features without a path to the output get nothing,
    not even rounding.
    """
    width, found = problem.x.shape[1], []
    state = torch.get_rng_state()
    for part in problem.x.split(max(1, problem.rows_at_once // width)):
        torch.set_rng_state(state)
        found.append(method.attribute(part, perturbations_per_eval=width, **options))
    values = finite(torch.cat(found).to(problem.x.dtype))
    return values * live_features(problem.model, problem.target)


def captum_feature_ablation(problem: Problem) -> LocalValues:
    """Return what the output loses when one feature is set to the background's mean.

    Incomplete where features interact.
    """
    from captum.attr import FeatureAblation

    row = problem.mean_row
    return LocalValues(
        values=perturbed(problem, FeatureAblation(problem.output), baselines=row),
        reference=problem.counted_from(MEAN_ROW),
        baseline=MEAN_ROW,
        evaluations=1.0 + problem.x.shape[1],
    )


def captum_occlusion(problem: Problem, *, window: int = 1) -> LocalValues:
    """Return what the output loses when neighboring features are set to the background's mean.

    Windows slide over the features in their order, one feature at a time, and a feature gets the
    mean over the windows that contain it. This says something where the order means something, as
    with time steps; a window of 1 is feature ablation.
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
    return LocalValues(
        values=sums / times.to(sums),
        reference=problem.counted_from(MEAN_ROW),
        baseline=MEAN_ROW,
        evaluations=2.0 + width - window,
    )


def captum_feature_permutation(problem: Problem, *, n_samples: int = 25) -> LocalValues:
    """Return what the output loses when a feature's values are shuffled among the samples.

    The samples themselves are the baseline: each value is what one sample loses when it is given
    the feature of another, on average over random shuffles, five runs of which give the standard
    error. So a value depends on which samples are asked about, and one sample alone has none.
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
    return LocalValues(
        values=values,
        reference=float(problem.output_in_parts(x).mean()),
        baseline=OTHER_ROWS,
        standard_error=error,
        evaluations=float(n_samples * (1 + x.shape[1])),
    )


@dataclass(frozen=True)
class Digits:
    """Numbers of at most `scale` as rows of whole numbers, of which `orders` can be summed.

    `scale` is a power of two; captum adds up `orders` differences of each digit.

    Examples
    --------
    >>> digits = Digits.up_to(3.0, orders=6)
    >>> x = torch.tensor([1.1, -3.0], dtype=torch.float64)
    >>> torch.equal(digits.together(digits.apart(x).float()), x)
    True
    """

    scale: float
    orders: int

    @classmethod
    def up_to(cls, largest: float, orders: int) -> Digits:
        """Return digits for numbers no larger than `largest`."""
        return cls(2.0 ** math.ceil(math.log2(largest)) if largest > 0 else 1.0, orders)

    @property
    def bits(self) -> int:
        """Bits of a digit."""
        return _EXACT - 1 - math.ceil(math.log2(max(2, self.orders)))

    def apart(self, values: Tensor) -> Tensor:  # (...) -> (..., digit)
        """Return the digits of values in float64."""
        rest, found = values / self.scale, []
        for _ in range(math.ceil(_WANTED / self.bits)):
            rest = rest * 2.0**self.bits
            found.append(rest.round())
            rest = rest - found[-1]
        return torch.stack(found, -1)

    def together(self, digits: Tensor) -> Tensor:  # (..., digit) -> (...)
        """Return the values of digits, or of sums of digits."""
        places = torch.arange(1, digits.shape[-1] + 1, dtype=torch.float64, device=digits.device)
        return (digits.double() * 2.0 ** (-self.bits * places)).sum(-1) * self.scale

    def mean(self, found: Tensor) -> Tensor:  # (batch, digit, in) -> (batch, in)
        """Return the mean of differences of outputs from captum's mean of those of the digits."""
        sums = (found.double() * self.orders).round()
        return self.together(sums.movedim(1, -1)) / self.orders


def captum_shapley_values(problem: Problem) -> LocalValues:
    """Return Shapley values against the background's mean, from all permutations.

    The output of every coalition is computed once, and captum goes through all d! orders of the d
    features that have a path to the output.
    """
    live = live_features(problem.model, problem.target).nonzero().flatten()
    players = len(live)
    if players > MOST_PLAYERS:
        expected = f"at most {MOST_PLAYERS} features with a path to the output for method "
        expected += "'captum_shapley_values', which goes through all their orders"
        advice = "Use method='shapley', which is exact without them"
        raise MethodError(message("attribute", expected, str(players), advice))
    values = torch.zeros_like(problem.x)
    at_once = max(1, BUDGET // (2**players * 16))
    with progress_bar("captum", len(values), shown=problem.progress) as advance:
        for start in range(0, len(values), at_once):
            here = slice(start, start + at_once)
            values[here, live] = _all_orders(_coalitions(problem, problem.x[here], live))
            advance(len(values[here]))
    return LocalValues(
        values=values,
        reference=problem.counted_from(MEAN_ROW),
        baseline=MEAN_ROW,
        evaluations=float(2**players),
        remark=f"all {math.factorial(players)} orders of the features with a path to the output",
    )


def _coalitions(problem: Problem, x: Tensor, live: Tensor) -> Tensor:
    """Return the output of every coalition of the live features, shape (batch, 2^player)."""
    codes = torch.arange(2 ** len(live), device=x.device)
    inside = torch.zeros(len(codes), x.shape[1], dtype=torch.bool, device=x.device)
    for bit, feature in enumerate(live.tolist()):
        inside[:, feature] = (codes >> bit) % 2 == 1
    mixed = torch.where(inside, x[:, None], problem.mean_row)  # (batch, 2^player, in)
    return finite(problem.output_in_parts(mixed.flatten(0, 1))).reshape(len(x), -1)


def _all_orders(worth: Tensor) -> Tensor:
    """Return captum's Shapley values of games (batch, 2^player), shape (batch, player)."""
    from captum.attr import ShapleyValues

    batch, players = len(worth), worth.shape[1].bit_length() - 1
    gains = worth - worth[:, :1]
    if players < 2:
        return gains[:, 1:]
    digits = Digits.up_to(float(gains.abs().max()), math.factorial(players))
    table = digits.apart(gains)  # (batch, 2^player, digit)
    powers = 2 ** torch.arange(players, device=worth.device)

    def output(members: Tensor) -> Tensor:
        codes = (members.long() * powers).sum(1)
        rows = torch.arange(len(codes), device=codes.device) % batch
        return table[rows, codes]

    everyone = worth.new_ones(batch, players)
    found = ShapleyValues(output).attribute(
        everyone, torch.zeros_like(everyone), perturbations_per_eval=players
    )
    return digits.mean(found)


def captum_shapley_value_sampling(problem: Problem, *, n_samples: int = 100) -> LocalValues:
    """Return Shapley values against the background's mean, from random permutations.

    They are drawn in five runs, whose spread gives the standard error.
    """
    check_count("attribute", "n_samples", n_samples, least=REPEATS)
    reference = problem.counted_from(MEAN_ROW)
    largest = float(finite(problem.output_in_parts(problem.x) - reference).abs().max())

    def run(size: int) -> Tensor:
        nonlocal largest
        total = torch.zeros_like(problem.x)
        for start in range(0, size, ORDERS_AT_ONCE):
            orders = min(ORDERS_AT_ONCE, size - start)
            found, largest = _some_orders(problem, orders, (reference, largest))
            total += found * orders
        return total / size

    values, error = five_runs(problem, run, n_samples, generator=problem.generator)
    return LocalValues(
        values=values,
        reference=reference,
        baseline=MEAN_ROW,
        standard_error=error,
        evaluations=float(n_samples * problem.x.shape[1]),
    )


def _some_orders(problem: Problem, orders: int, units: tuple[float, float]) -> tuple[Tensor, float]:
    """Return captum's means over random orders, and how far an output was from the reference.

    The digits hold outputs no farther away than `units[1]` from `units[0]`; when one was farther,
    the same orders are run again with larger digits.
    """
    from captum.attr import ShapleyValueSampling

    reference, largest = units
    state = torch.get_rng_state()
    while True:
        digits, farthest = Digits.up_to(largest, orders), 0.0

        def output(x: Tensor, digits: Digits = digits) -> Tensor:
            nonlocal farthest
            gains = finite(problem.output(x) - reference)
            farthest = max(farthest, float(gains.abs().max()))
            return digits.apart(gains)

        method = ShapleyValueSampling(output)
        found = perturbed(problem, method, baselines=problem.mean_row, n_samples=orders)
        if farthest <= digits.scale:
            return digits.mean(found), max(largest, farthest)
        largest = 2 * farthest
        torch.set_rng_state(state)
