"""Attributions to a sum of functions of single features: one layer, in closed form."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from kanlens.attribution.copula import GaussianCopula
from kanlens.attribution.problem import MEAN_OUTPUT, Parts, Problem
from kanlens.checks import check_choice, message
from kanlens.errors import MethodError
from kanlens.model.analysis import live_edges
from kanlens.progress import progress_bar

LIMIT = 14  # features whose subsets are conditioned on; 2**14 of them
NUMBERS = 2**20  # probabilities held at once


def additive(
    problem: Problem, *, law: Literal["interventional", "observational"] = "interventional"
) -> Parts:
    """Return the exact Shapley values of an output that is a sum of functions of single features.

    Against a background whose features are set one by one ("interventional" [1]_), every order of
    the features gives the same: f_i(x_i) - mean of f_i over the background.

    "observational" asks what the model's output is expected to be when only some features are
    known and the others follow them as they do in the background: v(S) = E[F | x_S]. Features that
    the model does not read then share in the credit of those they go along with; true to the data,
    not to the model [2]_. The law of the features is a Gaussian copula with the background's own
    marginals, so that every conditional expectation is a finite sum.

    Parameters
    ----------
    problem : Problem
        With a background.
    law : {"interventional", "observational"}
        What features that are not known do.

    Returns
    -------
    Parts
        Counted from the mean output over the background.

    Raises
    ------
    MethodError
        If the output is no sum of functions of single features, or, for the observational law,
        there are more than 14 features.

    References
    ----------
    .. [1] S. Bordt, U. von Luxburg, From Shapley Values to Generalized Additive Models and back,
       2023.
    .. [2] H. Chen, J. Janizek, S. Lundberg, S.-I. Lee, True to the Model or True to the Data?,
       2020.
    .. [3] K. Aas, M. Jullum, A. Loland, Explaining individual predictions when features are
       dependent, 2021.
    """
    check_choice("attribute", "law", law, ["interventional", "observational"])
    if not problem.additive:
        layers = len(problem.model.layers)
        got = f"{layers} layers" if layers > 1 else "a product"
        expected = "an output that is a sum of functions of single features for method 'additive'"
        raise MethodError(message("attribute", expected, got, "Use method='shapley'"))
    if law == "observational":
        values = _observational(problem)
    else:
        rows = problem.background
        values = contributions(problem, problem.x) - contributions(problem, rows).mean(0)
    return Parts(values=values, reference=problem.expected_output(), baseline=MEAN_OUTPUT)


def contributions(problem: Problem, x: Tensor) -> Tensor:  # (batch, in)
    """Return f_i(x_i) of an additive output, in its units, shape (batch, in)."""
    model, target = problem.model, problem.target
    parts = model.scale_inputs(x).split(problem.pairs_at_once)
    values = torch.cat([model.layers[0].edge_values(part)[:, target] for part in parts])
    nodes = model.nodes[0]
    return values * model.output_scale[target] * (nodes.scale[target] if nodes.scaled else 1.0)


def _observational(problem: Problem) -> Tensor:
    """Return the Shapley values of v(S) = E[F | x_S] under the copula, shape (batch, in)."""
    x, rows = problem.x, problem.background
    n = x.shape[1]
    if n > LIMIT:
        expected = f"at most {LIMIT} features for the observational law"
        raise MethodError(
            message("attribute", expected, str(n), "Use law='interventional', or fewer features")
        )
    law = GaussianCopula.of(rows)
    ours, theirs = contributions(problem, x), contributions(problem, rows)
    atoms = theirs.gather(0, law.order)  # (row, in): f_i at the sorted values of the background
    live = live_edges(problem.model.layers[0])[problem.target].nonzero().flatten()
    scores = law.scores(x)
    values = torch.zeros_like(x)
    size = max(1, NUMBERS // (len(rows) * max(1, len(live))))
    with progress_bar("additive", 2**n, shown=problem.progress) as advance:
        for code in range(2**n):
            known = [i for i in range(n) if code >> i & 1]
            weights = _weights(n, known).to(x)
            for part in torch.arange(len(x), device=x.device).split(size):
                worth = ours[part][:, known].sum(1)
                for i in [i for i in live.tolist() if i not in known]:
                    chances = law.given(scores[part], known, i)  # (part, row)
                    worth = worth + chances @ atoms[:, i]
                values[part] += worth[:, None] * weights
            advance(1)
    return values


def _weights(n: int, known: list[int]) -> Tensor:  # (player,)
    """Return the weight of a coalition's worth in the Shapley value of each player."""
    size = len(known)
    leaving = -1.0 / (n * math.comb(n - 1, size)) if size < n else 0.0
    weights = torch.full((n,), leaving, dtype=torch.float64)
    if known:
        weights[known] = 1.0 / (n * math.comb(n - 1, size - 1))
    return weights
