"""Networks trained under penalties of rising strength, each from the one before."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.sparsity.problems import Pair, RowCounts
from kanlens.model.network import KAN
from kanlens.model.recording import trace
from kanlens.sparsity import PENALTIES, activation_l2, penalty_value
from kanlens.training import fit, sparsity_path

__all__ = ["ARMS", "Arm", "Effort", "Stage", "deviations", "norms", "path"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to make edges small.

    Attributes
    ----------
    penalty : str or None
        Key into ``kanlens.sparsity.PENALTIES``; None trains without.
    entropy : float
        Weight of the norms' entropy beside their sum.
    proximal : bool
        Whether small edges are made exactly zero.
    """

    penalty: str | None
    entropy: float = 0.0
    proximal: bool = False


ARMS = {
    "none": Arm(penalty=None),
    "weight_l1": Arm(penalty="weight_l1"),
    "raw_l1": Arm(penalty="raw_l1"),
    "activation_l1": Arm(penalty="activation_l1"),
    "activation_l2": Arm(penalty="activation_l2"),
    "activation_l1 + entropy": Arm(penalty="activation_l1", entropy=2.0),
}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much work goes into one path: the same for every arm.

    Attributes
    ----------
    rows : RowCounts
        To train, choose and test on.
    first, steps : int
        Training steps without penalty at the start, and for each strength.
    shares : tuple of float
        Strengths, each the penalty of the network before any penalty as a share of the variance of
        the target: at 1 the whole penalty costs as much as predicting nothing.
    finalists, tuning : int
        How many networks of every size, cut at different strengths, are tuned, and for how many
        steps at most: those with the least validation error once their output is rescaled.
    sizes : tuple of int
        Numbers of edges to cut to.
    """

    rows: RowCounts = field(default_factory=RowCounts)
    first: int = 10
    steps: int = 10
    shares: tuple[float, ...] = (0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    finalists: int = 2
    tuning: int = 10
    sizes: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 13, 18, 25)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A network on a path.

    Attributes
    ----------
    index : int
        Its place on the path.
    share, strength : float
        As `Effort.shares`, and the factor of the penalty.
    model : KAN
        A copy.
    loss, penalty : float
        Mean squared error on the training rows in variances of the target, and strength times
        penalty.
    seconds : float
        Training time of this strength.
    """

    index: int
    share: float
    strength: float
    model: KAN
    loss: float
    penalty: float
    seconds: float


def path(model: KAN, rows: Pair, arm: Arm, effort: Effort) -> Iterator[Stage]:
    """Train a model in place without a penalty, then under each strength, weakest first.

    Without a penalty it is trained as many steps.

    Parameters
    ----------
    model : KAN
        Untrained.
    rows : (Tensor, Tensor)
        x (rows, in) and y (rows, 1).
    arm : Arm
        The penalty.
    effort : Effort
        Steps and strengths.

    Yields
    ------
    Stage

    Examples
    --------
    >>> rows = (x := torch.rand(40, 2), x[:, :1])
    >>> effort = Effort(first=1, steps=1, shares=(0.1, 1.0))
    >>> len(list(path(KAN([2, 1]), rows, ARMS["weight_l1"], effort)))
    2
    """
    options: dict[str, Any] = {"validation": 0.0, "progress": False}
    fit(model, rows, steps=effort.first, grid_updates=3, **options)
    options |= {"steps": effort.steps, "grid_updates": 1}
    if arm.penalty is None:
        yield from _unpenalised(model, rows, effort, options)
        return
    size = _penalty(model, rows[0], arm)
    found = sparsity_path(
        model,
        rows,
        penalty=arm.penalty,
        strengths=[share / size for share in effort.shares],
        entropy_weight=arm.entropy,
        proximal=arm.proximal,
        **options,
    )
    for index, step in enumerate(found.steps):
        yield Stage(
            index=index,
            share=effort.shares[index],
            strength=step.strength,
            model=step.model,
            loss=step.loss,
            penalty=step.strength * step.penalty,
            seconds=step.seconds,
        )


def _unpenalised(
    model: KAN, rows: Pair, effort: Effort, options: Mapping[str, Any]
) -> Iterator[Stage]:
    """Go on training as often and as long as under the strengths of a path."""
    for index in range(len(effort.shares)):
        result = fit(model, rows, **options)
        yield Stage(
            index=index,
            share=0.0,
            strength=0.0,
            model=copy.deepcopy(model),
            loss=result.loss,
            penalty=0.0,
            seconds=result.seconds,
        )


@torch.no_grad()
def _penalty(model: KAN, x: Tensor, arm: Arm) -> float:
    """Return the sum of the norms, without their entropy: what strengths are counted in."""
    inputs = trace(model, x).inputs
    layers = tuple(model.layers)
    penalty = arm.penalty or "weight_l1"
    return float(penalty_value(layers, penalty, entropy_weight=0.0, inputs=inputs)) or 1.0


@torch.no_grad()
def norms(model: KAN, x: Tensor, arm: Arm) -> list[Tensor]:
    """Return the norms of all edges that the penalty of an arm adds up; deviations without one.

    Parameters
    ----------
    model : KAN
        The network.
    x : Tensor, shape (batch, in)
        RowCounts that norms of functions are taken over.
    arm : Arm
        The penalty.

    Returns
    -------
    list of Tensor, each of shape (out, in)

    Examples
    --------
    >>> [tuple(norm.shape) for norm in norms(KAN([3, 2, 1]), torch.rand(9, 3), ARMS["raw_l1"])]
    [(2, 3), (1, 2)]
    """
    if arm.penalty is None:
        return deviations(model, x)
    norm = PENALTIES[arm.penalty].norm
    return [
        norm(layer, inputs)
        for layer, inputs in zip(model.layers, trace(model, x).inputs, strict=True)
    ]


@torch.no_grad()
def deviations(model: KAN, x: Tensor) -> list[Tensor]:
    """Return the standard deviation of every edge over the rows, one matrix (out, in) per layer.

    Examples
    --------
    >>> deviations(KAN([3, 1]), torch.rand(9, 3))[0].shape
    torch.Size([1, 3])
    """
    pairs = zip(model.layers, trace(model, x).inputs, strict=True)
    return [activation_l2(layer, inputs) for layer, inputs in pairs]
