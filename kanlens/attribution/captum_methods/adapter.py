"""What captum's methods are run with: no warnings, parts of the work, five runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from kanlens.attribution.problem import Problem, borrowed_randomness
from kanlens.checks import message
from kanlens.errors import MethodError
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
    """Return outputs or values as they are; refuse NaN and infinity."""
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


def over_parts(problem: Problem, run: Callable[[Tensor], Tensor], *, at_once: int) -> Tensor:
    """Run a method of captum's that needs gradients on one part of the samples after the other."""
    with torch.enable_grad(), quiet():
        parts = problem.x.split(max(1, at_once))
        return finite(torch.cat([run(part.clone().requires_grad_()).detach() for part in parts]))


def five_runs(
    problem: Problem, run: Callable[[int], Tensor], n_samples: int
) -> tuple[Tensor, Tensor]:
    """Share `n_samples` draws among five runs; return their mean and its standard error.

    `run` takes a number of draws and returns values (batch, in).
    """
    sizes = [len(part) for part in torch.arange(n_samples).tensor_split(REPEATS)]
    runs = []
    with (
        borrowed_randomness(problem.generator, problem.x.device),
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
