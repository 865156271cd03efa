"""Captum's methods, each run so that its known traps cannot spring.

The model is one output of one number per row, in float64; baselines are given; random methods
borrow torch's random state and give it back; warnings about what is handled here are not shown.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.edge_view import EdgeView, known_to_captum
from kanlens.attribution.problem import (
    MEAN_OUTPUT,
    MEAN_ROW,
    ZERO,
    Parts,
    Problem,
    live_features,
    pairs,
)
from kanlens.attribution.slopes import SAME, tangent_output
from kanlens.checks import check_count
from kanlens.progress import progress_bar

REPEATS = 5  # runs of a sampling method whose spread is its standard error


@contextmanager
def borrowed_randomness(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Let code that draws from torch's own state draw from `generator`; put the state back.

    Parameters
    ----------
    generator : torch.Generator or None
        One number is drawn from it, as the seed of the block. When None, the block sees torch's
        state as it is, so that two calls in a row draw the same numbers.
    device : torch.device
        Whose state is borrowed beside the CPU's.
    """
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        if generator is not None:
            drawn = torch.randint(2**62, (), generator=generator, device=generator.device)
            torch.default_generator.manual_seed(int(drawn))
            for index in cuda:
                torch.cuda.default_generators[index].manual_seed(int(drawn))
        yield


def captum_integrated_gradients(problem: Problem, *, n_steps: int = 200) -> Parts:
    """Return integrated gradients from every background row, averaged.

    Gauss-Legendre nodes on the straight line; the knots of a KAN limit the accuracy, and the
    completeness gap shows it. Work is samples x background x steps.

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

    method = IntegratedGradients(partial(tangent_output, problem))

    def run(x: Tensor, baselines: Tensor) -> Tensor:
        found: Tensor = method.attribute(
            x, baselines, n_steps=n_steps, method="gausslegendre", internal_batch_size=None
        )
        return found

    at_once = min(problem.rows_at_once, problem.pairs_at_once) // n_steps
    return _over_background(problem, run, at_once=at_once)


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
        return _over_background(problem, run, at_once=problem.pairs_at_once // 2)


def _over_background(
    problem: Problem, run: Callable[[Tensor, Tensor], Tensor], *, at_once: int
) -> Parts:
    """Average `run` of (x, baselines), row by row, over all background rows."""
    x, rows = problem.x, problem.background
    values = torch.zeros_like(x)
    with (
        progress_bar("captum", len(x) * len(rows), shown=problem.progress) as advance,
        torch.enable_grad(),
        _known_warnings(),
    ):
        for here, there in pairs(len(x), len(rows), at_once):
            left, right = x[here], rows[there]
            ours = left.repeat_interleave(len(right), 0).requires_grad_()
            found = run(ours, right.repeat(len(left), 1)).detach()
            values[here] += found.reshape(len(left), len(right), -1).sum(1) / len(rows)
            advance(len(found))
    return Parts(values=values, reference=problem.expected_output(), baseline=MEAN_OUTPUT)


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

    method = InputXGradient(partial(tangent_output, problem))
    found = []
    with torch.enable_grad():
        for part in problem.x.split(problem.pairs_at_once):
            found.append(method.attribute(part.clone().requires_grad_()).detach())
    zero = torch.zeros_like(problem.x[:1])
    reference = float(problem.output(zero))
    return Parts(values=torch.cat(found), reference=reference, baseline=ZERO)


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
    values = _in_parts(problem, FeatureAblation(problem.output), baselines=row)
    return Parts(values=values, reference=float(problem.output(row)), baseline=MEAN_ROW)


def captum_shapley_value_sampling(problem: Problem, *, n_samples: int = 100) -> Parts:
    """Return Shapley values against the background's mean, from random orders of the features.

    The orders are drawn in five runs, whose spread gives the standard error. Captum adds up in
    float32.

    Parameters
    ----------
    problem : Problem
        With a background.
    n_samples : int
        Number of orders, at least 5.

    Returns
    -------
    Parts
        Counted from the output at the mean of the background.

    References
    ----------
    .. [1] J. Castro, D. Gomez, J. Tejada, Polynomial calculation of the Shapley value based on
       sampling, 2009.
    """
    check_count("attribute", "n_samples", n_samples, least=REPEATS)
    from captum.attr import ShapleyValueSampling

    row = problem.mean_row
    method = ShapleyValueSampling(problem.output)
    sizes = [len(part) for part in torch.arange(n_samples).tensor_split(REPEATS)]
    runs = []
    with (
        borrowed_randomness(problem.generator, problem.x.device),
        progress_bar("captum", REPEATS, shown=problem.progress) as advance,
    ):
        state = torch.get_rng_state()
        for size in sizes:
            runs.append(_in_parts(problem, method, state=state, baselines=row, n_samples=size))
            state = torch.get_rng_state()
            advance(1)
    found = torch.stack(runs)  # (run, batch, in)
    weights = found.new_tensor(sizes)[:, None, None] / n_samples
    mean = (weights * found).sum(0)
    spread = (weights * (found - mean).square()).sum(0) / (REPEATS - 1)
    return Parts(
        values=mean,
        reference=float(problem.output(row)),
        baseline=MEAN_ROW,
        standard_error=spread.sqrt(),
    )


def captum_kernel_shap(problem: Problem, *, n_samples: int = 200) -> Parts:
    """Return Shapley values against the background's mean, from a weighted linear fit.

    Each sample has coalitions and a fit of its own. Captum fits in float32; the output is
    centered and scaled first, so that this costs no digits of a large output.

    Parameters
    ----------
    problem : Problem
        With a background.
    n_samples : int
        Number of coalitions for each sample, at least 3: the first two are all and none.

    Returns
    -------
    Parts
        Counted from the output at the mean of the background.

    References
    ----------
    .. [1] S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017.
    """
    check_count("attribute", "n_samples", n_samples, least=3)
    row = problem.mean_row
    reference = float(problem.output(row))
    changes = problem.output_in_parts(problem.x) - reference
    live = live_features(problem.model, problem.target)
    if int(live.sum()) < 2:  # nothing to share; captum cannot draw coalitions of one
        return Parts(values=changes[:, None] * live, reference=reference, baseline=MEAN_ROW)
    scale = float(changes.abs().max()) or 1.0
    found = []
    with (
        borrowed_randomness(problem.generator, problem.x.device),
        progress_bar("captum", len(problem.x), shown=problem.progress) as advance,
    ):
        for x in problem.x.split(1):
            found.append(_kernel_shap(problem, x, (reference, scale), n_samples))
            advance(1)
    return Parts(values=torch.cat(found) * scale, reference=reference, baseline=MEAN_ROW)


def _kernel_shap(problem: Problem, x: Tensor, units: tuple[float, float], n: int) -> Tensor:
    """Return captum's fit for one sample x (1, in), of (output - units[0]) / units[1].

    Features without a path to the output move with the first that has one, so that the fit gives
    them no share.
    """
    from captum.attr import KernelShap

    method = KernelShap(lambda z: (problem.output(z) - units[0]) / units[1])
    live = live_features(problem.model, problem.target)
    group = torch.where(live, live.cumsum(0) - 1, 0)
    at_once = max(1, min(n, problem.rows_at_once))
    found: Tensor = method.attribute(
        x,
        problem.mean_row,
        feature_mask=group[None],
        n_samples=n,
        perturbations_per_eval=at_once,
    )
    return found.to(x.dtype) * live


def _in_parts(
    problem: Problem, method: Any, *, state: Tensor | None = None, **options: Any
) -> Tensor:
    """Run one of captum's perturbation methods on parts of the samples, each from one `state`."""
    width, found = problem.x.shape[1], []
    for part in problem.x.split(max(1, problem.rows_at_once // width)):
        if state is not None:
            torch.set_rng_state(state)  # the same draws for every part
        found.append(method.attribute(part, perturbations_per_eval=width, **options))
    values: Tensor = torch.cat(found).to(problem.x.dtype)
    return values * live_features(problem.model, problem.target)  # not even rounding


@contextmanager
def _known_warnings() -> Iterator[None]:
    """Keep from the user captum's warnings about what this module sees to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        yield
