"""Methods of one function each: closed forms, DeepLIFT on edges, gradients, global scores."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice, check_count
from kanlens._lazy import special, stats
from kanlens._runtime import progress_bar
from kanlens.attribution._problem import (
    Baseline,
    GlobalScores,
    LocalValues,
    Problem,
    borrowed_randomness,
    method,
    pairs,
)
from kanlens.attribution.shapley._enumeration import value_weights
from kanlens.errors import MethodError
from kanlens.model._analysis import levels_of, live_features, over_rows, reaching
from kanlens.model._trace import edge_moments

LIMIT = 14  # features; 2**14 subsets
NUMBERS = 2**20  # probabilities held at once
MIN_DEVIATION = 1e-9  # least conditional standard deviation, in place of 0


@method(exact=True, complete=True)
def additive(
    problem: Problem, *, law: Literal["interventional", "observational"] = "interventional"
) -> LocalValues:
    """Exact Shapley values of a sum of functions of single features.

    With ``law="interventional"`` [1]_ they are f_i(x_i) minus the mean of f_i over the background.
    With "observational" (at most 14 features) the value of a coalition is v(S) = E[F | x_S], so
    that a feature without effect on the model shares the value of features that it is correlated
    with: "true to the data", not to the model [2]_. The features then follow a Gaussian copula
    [3]_ with the background's marginals: every conditional expectation is a finite sum.

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
    """Gaussian copula of the features (Sklar, 1959), with the empirical marginals of `rows`."""

    def __init__(self, rows: Tensor) -> None:
        self.sorted, self.order = rows.sort(dim=0, stable=True)  # (row, in)
        scores = self.scores(rows)
        centred = scores - scores.mean(0)
        size = centred.square().sum(0).sqrt()
        unit = torch.where(size > 0, centred / torch.where(size > 0, size, 1.0), 0.0)
        self.correlation = (unit.mT @ unit).fill_diagonal_(1.0)  # (in, in), of the normal scores

    def scores(self, x: Tensor) -> Tensor:
        """Return the normal scores of x (batch, in); ties get the score of their mean rank."""
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
        advice = "Use {law}", "fewer features"
        raise MethodError("attribute", expected, str(n), *advice, law="interventional")
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
                    worth = worth + law.conditional(scores[part], members, i) @ atoms[:, i]
                values[part] += worth[:, None] * weight[code]
            advance(1)
    return values


SAME = 1e-10  # inputs closer than this get a derivative in place of a secant, as in captum


@method(exact=True, complete=True)
def secant(problem: Problem) -> LocalValues:
    """DeepLIFT (Rescale rule) with one secant slope per edge, chained layer by layer.

    Between a sample x and a background row b, an edge has the slope (phi(u) - phi(u')) / (u - u')
    of its inputs u and u'. The product of the layers' slopes, times x - b, sums to F(x) - F(b)
    exactly, for the output F; values are means over b. Products divide their change among the
    factors by exact Shapley values. The flow through an edge is its own
    change times the slopes after it; every node passes on the flow that it receives.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating
       Activation Differences, 2017.
    """
    x, rows = problem.x, problem.background
    flows = [x.new_zeros(len(x), *layer.mask.shape) for layer in problem.model.layers]
    with progress_bar("secant", len(x) * len(rows), shown=problem.progress) as advance:
        for here, there in pairs(len(x), len(rows), problem.pairs_at_once):
            for total, flow in zip(flows, _flows(problem, x[here], rows[there]), strict=True):
                total[here] += flow / len(rows)
            advance(len(x[here]) * len(rows[there]))
    return problem.local(flows[0].sum(1), Baseline.MEAN_OUTPUT, paths=tuple(flows))


def _flows(problem: Problem, x: Tensor, rows: Tensor) -> list[Tensor]:
    """Return the contributions (batch, out, in) of each layer's edges, summed over the rows."""
    model, rises, steps = problem.model, list[Tensor](), list[Tensor]()
    (ours, sums), (theirs, their_sums) = (model.levels(model.scale_inputs(k)) for k in (x, rows))
    for index, layer in enumerate(model.layers):
        mine, other = ours[index], theirs[index]
        plain = index > 0 and model.nodes[index - 1].plain  # a step is a sum of rises, unrounded
        steps.append(rises[-1].sum(-1) if plain else mine[:, None] - other)
        rises.append(layer.edge_values(mine)[:, None] - layer.edge_values(other))
    slopes = model.output_scale.diag()[problem.target].expand(len(x), len(rows), -1)
    flows: list[Tensor] = []
    for index in reversed(range(len(model.layers))):
        slopes = model.nodes[index].pull(slopes, sums[index][:, None], their_sums[index])
        flows.append(torch.einsum("bro,broi->boi", slopes, rises[index]))
        if index:
            same = (steps[index].abs() < SAME)[:, :, None]
            steep = rises[index] / torch.where(same, 1.0, steps[index][:, :, None])
            if bool(same.any()):
                rates = model.layers[index].edge_derivatives(ours[index])
                steep = torch.where(same, rates[:, None], steep)
            slopes = torch.einsum("bro,broi->bri", slopes, steep)
    return flows[::-1]


@method(exact=True, complete=False, needs_background=False)
def gradient(problem: Problem) -> LocalValues:
    """Gradient of the output (saliency); not complete.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks: Visualising
       Image Classification Models and Saliency Maps, 2014.
    """

    def run(x: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            y = problem.output(x).sum()
            return [torch.autograd.grad(y, x)[0] if y.requires_grad else torch.zeros_like(x)]

    (slopes,) = over_rows(run, problem.x, problem.rows_at_once)
    return problem.local(slopes, Baseline.SLOPES, evaluations=1.0)


@method(exact=True, complete=False)
def gradient_x_input(problem: Problem) -> LocalValues:
    """Gradient times the difference from the background's mean.

    A first-order estimate: right for a linear model, incomplete for any other.

    References
    ----------
    .. [1] A. Shrikumar et al., Not Just a Black Box: Learning Important Features Through
       Propagating Activation Differences, 2016.
    """
    values = gradient(problem).values * (problem.x - problem.mean_row)
    return problem.local(values, Baseline.MEAN_ROW, evaluations=1.0)


ROUNDS = 8  # independent designs, whose spread is the uncertainty of Sobol indices


@method(scope="global", exact=False, complete=False, random=True)
def sobol_first(problem: Problem, *, n_samples: int = 4096) -> GlobalScores:
    """Share of the output's variance that a feature explains alone.

    The first-order Sobol index Var(E[F | x_i]) / Var(F); 0 for a constant output. Features are
    drawn independently from the background. Exact for a sum of functions of single features;
    otherwise eight scrambled Sobol designs give the estimate, and their spread its 95% interval.
    `n_samples`, the points of a design, is rounded up to a power of two; each point costs
    features + 2 evaluations.

    References
    ----------
    .. [1] I. Sobol, Sensitivity estimates for nonlinear mathematical models, 1993.
    .. [2] A. Saltelli et al., Variance based sensitivity analysis of model output, 2010.
    """
    return _shares(problem, n_samples, total=False)


@method(scope="global", exact=False, complete=False, random=True)
def sobol_total(problem: Problem, *, n_samples: int = 4096) -> GlobalScores:
    """Share of the output's variance that involves a feature.

    The total Sobol index 1 - Var(E[F | all but x_i]) / Var(F), estimated as `sobol_first`. Its
    excess over the first-order index of a feature is the feature's part in interactions.

    References
    ----------
    .. [1] T. Homma, A. Saltelli, Importance measures in global sensitivity analysis of nonlinear
       models, 1996.
    .. [2] A. Saltelli et al., Variance based sensitivity analysis of model output, 2010.
    """
    return _shares(problem, n_samples, total=True)


def _shares(problem: Problem, n_samples: int, *, total: bool) -> GlobalScores:
    check_count("attribute", "n_samples", n_samples)
    rows = problem.background
    if rows.shape[1] == 1:  # it explains all variance
        varies = float(problem.output_in_parts(rows).std(correction=0)) > 0
        return GlobalScores(values=rows.new_full((1,), float(varies)))
    if problem.additive:
        variance = contributions(problem, rows).var(0, correction=0)
        whole = variance.sum()
        return GlobalScores(values=torch.where(whole > 0, variance / whole, 0.0))
    designs, points = [], 1 << (int(n_samples) - 1).bit_length()  # a power of two
    with (
        borrowed_randomness(problem.generator, rows.device),
        progress_bar("sobol", ROUNDS, shown=problem.progress) as advance,
    ):
        for seed in torch.randint(2**31 - 1, (ROUNDS,)).tolist():
            designs.append(_indices(problem, points, seed, total=total))
            advance(1)
    live = live_features(problem.model, problem.target)
    rounds = torch.where(live, torch.stack(designs), 0.0)  # (round, in)
    mean = rounds.mean(0)
    reach = rounds.std(0) / ROUNDS**0.5 * float(special.stdtrit(ROUNDS - 1, 0.975))  # half width
    low, high = (mean - reach).clamp(0, 1), (mean + reach).clamp(0, 1)
    return GlobalScores(values=mean.clamp(0, 1), low=low, high=high)


def _indices(problem: Problem, n: int, seed: int, *, total: bool) -> Tensor:  # (in,)
    """Return first-order or total indices from one scrambled design of n points."""
    marginals = problem.background.sort(dim=0).values  # (row, in)
    rows, width = marginals.shape
    points = torch.as_tensor(stats.qmc.Sobol(2 * width, rng=np.random.default_rng(seed)).random(n))
    places = (points.to(marginals.device) * rows).long().clamp_max(rows - 1)
    a, b = marginals.gather(0, places[:, :width]), marginals.gather(0, places[:, width:])
    outputs = [problem.output_in_parts(a), problem.output_in_parts(b)]
    if float(outputs[0].std(correction=0)) == 0:
        return torch.zeros_like(marginals[0])
    for i in range(width):
        mixed = a.clone()
        mixed[:, i] = b[:, i]
        outputs.append(problem.output_in_parts(mixed))
    of_a, of_b, *of_mixed = (torch.stack(outputs) - outputs[0].mean()).cpu().numpy()[:, None]
    result = stats.sobol_indices(func={"f_A": of_a, "f_B": of_b, "f_AB": np.stack(of_mixed)}, n=n)
    indices = np.asarray(result.total_order if total else result.first_order)
    return torch.as_tensor(indices).reshape(-1).to(marginals)


@method(scope="global", exact=True, complete=False, needs_background=False)
def pykan(problem: Problem) -> GlobalScores:
    """Backward edge score of KAN 2.0 (pykan), aggregated to features.

    As in [1]_, the output has score 1 and a factor the score of its product. An edge has the score
    of its sum, times the edge's standard deviation over x divided by the sum's; a node has the
    total score of the edges that leave it. A constant sum passes nothing on; pykan adds 1e-4 to its
    standard deviation instead, so that scores depend on the unit of the output.

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 3.
    """
    model, (inputs, sums) = problem.model, levels_of(problem.model, problem.x)
    score = problem.x.new_zeros(model.widths[-1])
    score[problem.target] = 1.0
    leading = reaching(model, problem.target)
    for index in reversed(range(len(model.layers))):
        layer, nodes = model.layers[index], model.nodes[index]
        factor = score[nodes.owner] * leading[index]  # (out,)
        spread = edge_moments(layer, inputs[index])[1].to(score) * layer.nonzero_edges()
        whole = sums[index].std(0, correction=0)
        share = torch.where(whole > 0, factor / torch.where(whole > 0, whole, 1.0), 0.0)
        score = share @ spread
    return GlobalScores(values=score)


@method(scope="global", exact=True, complete=False, needs_background=False)
def weight_l1(problem: Problem) -> GlobalScores:
    """Sum of the L1 norms of a feature's first-layer edges.

    Only edges with a path to the output count. The score depends on the weights, not on the data.
    It is in the scaled units of the layer: a ranking of features, not shares of a prediction.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1.
    """
    norms = problem.model.layers[0].weight_l1()
    return GlobalScores(values=(norms * _leading_on(problem)).sum(0))


@method(scope="global", exact=True, complete=False, needs_background=False)
def edge_std(problem: Problem) -> GlobalScores:
    """Sum of the standard deviations of a feature's first-layer edges.

    Over x, in the scaled units of the layer. Only edges with a path to the output count.

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 4.1.
    """
    layer, x = problem.model.layers[0], problem.model.scale_inputs(problem.x)
    return GlobalScores(values=(edge_moments(layer, x)[1].to(x) * _leading_on(problem)).sum(0))


def _leading_on(problem: Problem) -> Tensor:
    """Return the mask of nonzero first-layer edges with a path to the output, (out, in)."""
    onward = reaching(problem.model, problem.target)[0]
    return problem.model.layers[0].nonzero_edges() & onward[:, None]
