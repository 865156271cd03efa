"""Choose a function for each edge, or leave the edge a spline.

The residual of a spline against a function is smooth, so its samples are not independent: the
number that counts is that of the spline's coefficients, not that of the samples. With it the
criterion is ``S = n ln(1 - R2 + eps) + p ln(n) + 2 ln(2) complexity`` (smaller is better), the
Bayesian information criterion plus a price per function. eps is the noise of the edge: 5e-6 plus
twice what the best function leaves unexplained, so that functions are not told apart by how they
follow the spline's own error. A constant edge is recognized before, by not varying; it never
competes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.symbolic.edge_fitting import EdgeFits
from kanlens.symbolic.library import Family

_EPSILON = 5e-6  # noise of every edge, in parts of its variance
_NOISE = 2.0  # further noise, in parts of what the best function leaves
_KEPT = 3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One function for one edge.

    Attributes
    ----------
    function : str
        Name of the elementary function ("constant" for an edge that does not vary).
    parameters : tuple of float
        a, b, c, d of ``c * g(a * x + b) + d`` in the units of the edge.
    r2 : float
        Share of the edge's variance it explains.
    score : float
        Criterion above its least value on this edge: 0 for the best, below 6 is a near tie.
    """

    function: str
    parameters: tuple[float, float, float, float]
    r2: float
    score: float


def information_scores(r2: Tensor, families: Sequence[Family], n_effective: float) -> Tensor:
    """Return the criterion of every fit; smaller is better.

    Parameters
    ----------
    r2 : Tensor, shape (edge, family)
    families : sequence of Family
        Of the second axis.
    n_effective : float
        Number of independent values of an edge: the coefficients of its spline.

    Returns
    -------
    Tensor, shape (edge, family)

    Examples
    --------
    >>> from kanlens.symbolic.library import library
    >>> scores = information_scores(torch.tensor([[0.5, 1.0]]), library(["exp"]), 8.0)
    >>> scores.argmin().item()
    1
    """
    price = torch.tensor(
        [
            family.parameters * math.log(n_effective)
            + 2 * math.log(2.0) * family.function.complexity
            for family in families
        ],
        dtype=r2.dtype,
    )
    unexplained = (1 - r2).clamp(min=0.0)
    least = unexplained.nan_to_num(math.inf).amin(1, keepdim=True)
    return n_effective * torch.log(unexplained + _EPSILON + _NOISE * least) + price


def rank_candidates(
    fits: EdgeFits, n_effective: float, *, kept: int = _KEPT
) -> list[tuple[Candidate, ...]]:
    """Return the best functions of every edge, best first.

    Parameters
    ----------
    fits : EdgeFits
        Every family fitted to every edge.
    n_effective : float
        Number of independent values of an edge.
    kept : int
        Candidates per edge.

    Returns
    -------
    list of tuple of Candidate
        One tuple per edge; a constant edge has the one candidate "constant".
    """
    scores = information_scores(fits.r2, fits.families, n_effective)
    finite = torch.isfinite(fits.parameters).all(-1) & torch.isfinite(fits.r2)
    scores = torch.where(finite, scores, math.inf)
    order = scores.argsort(dim=1, stable=True)[:, : min(kept, scores.shape[1])].tolist()
    table, r2s, values = scores.tolist(), fits.r2.tolist(), fits.parameters.tolist()
    ranked: list[tuple[Candidate, ...]] = []
    for edge, families in enumerate(order):
        if bool(fits.constant[edge]):
            flat = (1.0, 0.0, 0.0, float(fits.mean[edge]))
            ranked.append((Candidate(function="constant", parameters=flat, r2=1.0, score=0.0),))
            continue
        least = table[edge][families[0]]
        ranked.append(
            tuple(
                Candidate(
                    function=fits.families[f].name,
                    parameters=tuple(values[edge][f]),
                    r2=r2s[edge][f],
                    score=table[edge][f] - least,
                )
                for f in families
                if math.isfinite(table[edge][f])
            )
        )
    return ranked


def accepted(candidates: Sequence[Candidate], r2_min: float) -> Candidate | None:
    """Return the best candidate that explains enough, or None: the edge stays a spline.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of one edge, best first.
    r2_min : float
        Least share of the variance.

    Returns
    -------
    Candidate or None

    Examples
    --------
    >>> accepted([Candidate(function="x", parameters=(1, 0, 1, 0), r2=0.9, score=0.0)], 0.99)
    """
    return next((candidate for candidate in candidates if candidate.r2 >= r2_min), None)
