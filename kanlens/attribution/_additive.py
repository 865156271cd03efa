"""Attributions to a sum of functions of single features: one layer, in closed form."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice
from kanlens._runtime import progress_bar
from kanlens.attribution._method import method
from kanlens.attribution._problem import Baseline, LocalValues, Problem
from kanlens.attribution.shapley._enumeration import value_weights
from kanlens.errors import MethodError
from kanlens.model._analysis import over_rows

LIMIT = 14  # features; 2**14 subsets
NUMBERS = 2**20  # probabilities held at once
MIN_DEVIATION = 1e-9  # a conditional deviation below this is a point


@method(exact=True, complete=True)
def additive(
    problem: Problem, *, law: Literal["interventional", "observational"] = "interventional"
) -> LocalValues:
    """Exact closed form for a sum of functions of single features.

    These are Shapley values. With the "interventional" distribution [1]_ they are f_i(x_i) minus
    the mean of f_i over the background. With the "observational" one the value of a coalition is
    v(S) = E[F | x_S], so that a feature without effect on the model shares the value of features
    that it depends on: "true to the data", not to the model [2]_. The distribution is a Gaussian
    copula [3]_ with the background's marginals, so that every conditional expectation is a finite
    sum.

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
        raise MethodError("attribute", expected, got, "Use {method}", method="shapley")
    if law == "observational":
        values = _observational(problem)
    else:
        rows = problem.background
        values = contributions(problem, problem.x) - contributions(problem, rows).mean(0)
    return problem.local(values, Baseline.MEAN_OUTPUT)


def contributions(problem: Problem, x: Tensor) -> Tensor:  # (batch, in)
    """Return f_i(x_i) of an additive output, in its units, shape (batch, in)."""
    model, target = problem.model, problem.target
    layer = model.layers[0].select([target], range(len(x[0]))).requires_grad_(False)
    nodes = model.nodes[0]
    scale = model.output_scale[target] * (nodes.scale[target] if nodes.scaled else 1.0)

    def run(part: Tensor) -> list[Tensor]:
        return [layer.edge_values(model.scale_inputs(part))[:, 0] * scale]

    return over_rows(run, x, problem.rows_at_once)[0]


class GaussianCopula:
    """Gaussian copula of the features (Sklar, 1959), with the marginals of rows (row, in)."""

    def __init__(self, rows: Tensor) -> None:
        self.sorted, self.order = rows.sort(dim=0, stable=True)  # (row, in)
        scores = self.scores(rows)
        centred = scores - scores.mean(0)
        size = centred.square().sum(0).sqrt()
        unit = torch.where(size > 0, centred / torch.where(size > 0, size, 1.0), 0.0)
        self.correlation = (unit.mT @ unit).fill_diagonal_(1.0)  # (in, in), of the normal scores

    def scores(self, x: Tensor) -> Tensor:
        """Return the normal scores of x (batch, in); equal values get that of their mean rank."""
        n, columns, tables = len(self.sorted), [], (self.sorted, x)
        for rows, points in zip(*(table.mT.numpy(force=True) for table in tables), strict=True):
            values, counts = np.unique(rows, return_counts=True)
            columns.append(np.interp(points, values, (counts.cumsum() - counts / 2) / n))
        scores: Tensor = torch.special.ndtri(torch.from_numpy(np.stack(columns, 1))).to(x)
        return scores

    def conditional(self, scores: Tensor, others: list[int], feature: int) -> Tensor:
        """Return the probabilities (batch, row) of a feature's sorted values given others."""
        n = len(self.sorted)
        if not others:
            return scores.new_full((len(scores), n), 1 / n)
        among = self.correlation[others][:, others]
        toward = self.correlation[others, feature]
        slopes = torch.linalg.pinv(among, hermitian=True) @ toward
        mean = scores[:, others] @ slopes
        deviation = max(0.0, 1 - float(toward @ slopes)) ** 0.5
        ends = torch.arange(n + 1, dtype=scores.dtype, device=scores.device) / n
        places = torch.special.ndtri(ends)  # infinite at both ends
        reduced = (places - mean[:, None]) / max(deviation, MIN_DEVIATION)
        chances: Tensor = torch.special.ndtr(reduced).diff(dim=1)
        return chances


def _observational(problem: Problem) -> Tensor:
    """Return the Shapley values of v(S) = E[F | x_S] under the copula, shape (batch, in)."""
    x, rows = problem.x, problem.background
    n = x.shape[1]
    if n > LIMIT:
        expected = f"at most {LIMIT} features for the observational distribution"
        raise MethodError(
            "attribute", expected, str(n), "Use {law}", "fewer features", law="interventional"
        )
    law = GaussianCopula(rows)
    ours, theirs = contributions(problem, x), contributions(problem, rows)
    atoms = theirs.gather(0, law.order)  # (row, in): f_i at the sorted values of the background
    live = problem.model.layers[0].nonzero_edges()[problem.target].nonzero().flatten()
    scores = law.scores(x)
    values, weight = torch.zeros_like(x), value_weights(n).to(x)
    size = max(1, NUMBERS // (len(rows) * max(1, len(live))))
    with progress_bar("additive", 2**n, shown=problem.progress) as advance:
        for code in range(2**n):
            members = [i for i in range(n) if code >> i & 1]
            for part in torch.arange(len(x), device=x.device).split(size):
                worth = ours[part][:, members].sum(1)
                for i in [i for i in live.tolist() if i not in members]:
                    chances = law.conditional(scores[part], members, i)  # (part, row)
                    worth = worth + chances @ atoms[:, i]
                values[part] += worth[:, None] * weight[code]
            advance(1)
    return values
