"""Choose a function for each edge, or leave the edge a spline.

What a function leaves of an edge is measured in what the spline can say, so the number of
independent values n is that of the spline's coefficients, not that of the samples. How noisy they
are is not known. With a flat prior on its logarithm, and on the function's p parameters, the
marginal likelihood of a function that leaves the part u is ``u ** (-(n - p) / 2)`` but for
constants [1]_: a parameter must pay for the room it takes, and the more so the less noise there
is. The criterion is ``S = (n - p) ln(u + eps + least / 2) + 2 ln(2) complexity``, smaller is
better, with a constant in the logarithm that makes it 0 where nothing is explained. Its last
term, a price per function, is the prior; eps bounds how exact an edge can be; `least` is what the
best function leaves, so that functions are not told apart by how they follow the noise. A
constant edge is recognized before, by not varying; it never competes.

References
----------
.. [1] G. L. Bretthorst, Bayesian Spectrum Analysis and Parameter Estimation, 1988, chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.symbolic.edge_fitting import EdgeFits
from kanlens.symbolic.library import Family

_EPSILON = 1e-7  # noise of every edge, in parts of its variance
_NOISE = 0.5  # further noise, in parts of what the best function leaves
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


def information_scores(
    misfit: Tensor, families: Sequence[Family], coefficients: Tensor | float
) -> Tensor:
    """Return the criterion of every fit; smaller is better.

    Parameters
    ----------
    misfit : Tensor, shape (edge, family)
        Part of each edge that the family leaves.
    families : sequence of Family
        Of the second axis.
    coefficients : Tensor, shape (edge,), or float
        Number of independent values of each edge: the coefficients of its spline.

    Returns
    -------
    Tensor, shape (edge, family)

    Examples
    --------
    >>> from kanlens.symbolic.library import library
    >>> scores = information_scores(torch.tensor([[0.5, 0.0]]), library(["exp"]), 8.0)
    >>> scores.argmin().item()
    1
    """
    price = torch.tensor([2 * math.log(2.0) * family.function.complexity for family in families])
    used = torch.tensor([float(family.parameters) for family in families])
    left = misfit.clamp(min=0.0)
    least = left.nan_to_num(math.inf).amin(1, keepdim=True)
    independent = torch.as_tensor(coefficients, dtype=misfit.dtype).reshape(-1, 1)
    free = (independent - used.to(misfit)).clamp(min=1.0)
    share = (left + _EPSILON + _NOISE * least) / (1 + _EPSILON + _NOISE)  # at most 1
    return free * torch.log(share) + price.to(misfit)


def rank_candidates(
    fits: EdgeFits, n_effective: float, *, kept: int = _KEPT
) -> list[tuple[Candidate, ...]]:
    """Return the best functions of every edge, best first.

    Parameters
    ----------
    fits : EdgeFits
        Every family fitted to every edge.
    n_effective : float
        Number of independent values of an edge where `fits` do not say it.
    kept : int
        Candidates per edge.

    Returns
    -------
    list of tuple of Candidate
        One tuple per edge; a constant edge has the one candidate "constant".
    """
    independent = n_effective if fits.coefficients is None else fits.coefficients
    scores = information_scores(fits.misfit, fits.families, independent)
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
