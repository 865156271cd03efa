"""What captum's methods are run with: no warnings, parts of the work, five runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.problem import Problem, pairs
from kanlens.attribution.rng_scope import borrowed_randomness
from kanlens.checks import message
from kanlens.errors import MethodError
from kanlens.model.analysis import live_features
from kanlens.progress import progress_bar

REPEATS = 5  # runs of a sampling method whose spread is its standard error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the user captum's warnings about what these modules see to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        warnings.filterwarnings("ignore", message="Input Tensor 0 did not already require")
        yield


def finite(found: Tensor) -> Tensor:
    """Return outputs or values as they are; refuse NaN and infinity.

    Raises
    ------
    MethodError
        If the model is undefined somewhere where the method looked.
    """
    if not bool(torch.isfinite(found).all()):
        expected = "a model with finite outputs between the samples and the background"
        advice = "A function has a pole or is undefined there; choose other background rows"
        raise MethodError(message("attribute", expected, "NaN or infinity", advice))
    return found


def total_output(problem: Problem, x: Tensor) -> Tensor:
    """Return the outputs at x (batch, in) added up, shape (1,), for captum to take gradients of.

    The gradient of each row is that of its own output; captum would take apart a row of outputs
    in python, which costs ten times the work on the fused kernels.
    """
    return problem.output(x).sum()[None]


def steps_at_once(problem: Problem, n_steps: int) -> int | None:
    """Return how many steps of a line captum may take at once; None for all of them.

    Lines that do not fit the budget come one by one, and captum takes each apart.
    """
    return None if n_steps <= problem.rows_at_once else max(2, problem.rows_at_once)


def over_background(
    problem: Problem,
    run: Callable[[Tensor, Tensor], Tensor],
    *,
    at_once: int,
    width: int | None = None,
) -> Tensor:
    """Average `run` of (x, baselines), row by row, over all background rows.

    Parameters
    ----------
    problem : Problem
    run : callable
        Takes x and baselines, both (batch, in); returns (batch, width).
    at_once : int
        Pairs of a sample and a background row that fit the budget.
    width : int, optional
        Columns of the values. Default: the number of features.

    Returns
    -------
    Tensor, shape (batch, width)
    """
    x, rows = problem.x, problem.background
    values = x.new_zeros(len(x), width or x.shape[1])
    with (
        progress_bar("captum", len(x) * len(rows), shown=problem.progress) as advance,
        torch.enable_grad(),
        quiet(),
    ):
        for here, there in pairs(len(x), len(rows), at_once):
            left, right = x[here], rows[there]
            ours = left.repeat_interleave(len(right), 0).requires_grad_()
            found = run(ours, right.repeat(len(left), 1)).detach()
            values[here] += found.reshape(len(left), len(right), -1).sum(1) / len(rows)
            advance(len(found))
    return finite(values)


def over_parts(problem: Problem, run: Callable[[Tensor], Tensor], *, at_once: int) -> Tensor:
    """Run a method of captum's that needs gradients on one part of the samples after the other."""
    with torch.enable_grad(), quiet():
        parts = problem.x.split(max(1, at_once))
        return finite(torch.cat([run(part.clone().requires_grad_()).detach() for part in parts]))


def perturbed(problem: Problem, method: Any, **options: Any) -> Tensor:
    """Run one of captum's perturbation methods on parts of the samples.

    Every part is given the same random draws. Features without a path to the output get nothing,
    not even rounding.

    Returns
    -------
    Tensor, shape (batch, ..., in)
    """
    width, found = problem.x.shape[1], []
    state = torch.get_rng_state()
    for part in problem.x.split(max(1, problem.rows_at_once // width)):
        torch.set_rng_state(state)
        found.append(method.attribute(part, perturbations_per_eval=width, **options))
    values = finite(torch.cat(found).to(problem.x.dtype))
    return values * live_features(problem.model, problem.target)


def five_runs(
    problem: Problem,
    run: Callable[[int], Tensor],
    n_samples: int,
    *,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Share `n_samples` draws among five runs; return their mean and its standard error.

    Parameters
    ----------
    problem : Problem
    run : callable
        Takes a number of draws; returns values (batch, in).
    n_samples : int
        At least 5.
    generator : torch.Generator or None
        Decides what the runs draw.

    Returns
    -------
    tuple of Tensor, each of shape (batch, in)
    """
    sizes = [len(part) for part in torch.arange(n_samples).tensor_split(REPEATS)]
    runs = []
    with (
        borrowed_randomness(generator, problem.x.device),
        progress_bar("captum", REPEATS, shown=problem.progress) as advance,
    ):
        for size in sizes:
            runs.append(run(size))
            advance(1)
    found = torch.stack(runs)  # (run, batch, in)
    weights = found.new_tensor(sizes)[:, None, None] / n_samples
    mean = (weights * found).sum(0)
    spread = (weights * (found - mean).square()).sum(0) / (REPEATS - 1)
    return mean, spread.sqrt()
