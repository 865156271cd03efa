"""Global feature scores: shares of the output's variance (Sobol indices), and edge norms."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_count
from kanlens._runtime import progress_bar
from kanlens.attribution._additive import contributions
from kanlens.attribution._method import method
from kanlens.attribution._problem import GlobalScores, Problem, borrowed_randomness
from kanlens.model._analysis import live_features, reaching
from kanlens.model._trace import edge_moments

ROUNDS = 8  # independent designs, whose spread is the uncertainty of Sobol indices


@method(scope="global", exact=False, complete=False, random=True)
def sobol_first(problem: Problem, *, n_samples: int = 4096) -> GlobalScores:
    """Share of the output's variance that a feature explains alone.

    The first-order Sobol index Var(E[F | x_i]) / Var(F); 0 for a constant output. Features are
    independent, with the background's own values. Exact for a sum of functions of single features;
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
    from scipy.special import stdtrit

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
    reach = rounds.std(0) / ROUNDS**0.5 * float(stdtrit(ROUNDS - 1, 0.975))  # of a 95% interval
    low, high = (mean - reach).clamp(0, 1), (mean + reach).clamp(0, 1)
    return GlobalScores(values=mean.clamp(0, 1), low=low, high=high)


def _indices(problem: Problem, n: int, seed: int, *, total: bool) -> Tensor:  # (in,)
    """Return first-order or total indices from one scrambled design of n points."""
    from scipy.stats import qmc, sobol_indices

    marginals = problem.background.sort(dim=0).values  # (row, in)
    rows, width = marginals.shape
    points = torch.as_tensor(qmc.Sobol(2 * width, rng=np.random.default_rng(seed)).random(n))
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
    result = sobol_indices(func={"f_A": of_a, "f_B": of_b, "f_AB": np.stack(of_mixed)}, n=n)
    indices = np.asarray(result.total_order if total else result.first_order)
    return torch.as_tensor(indices).reshape(-1).to(marginals)


@method(scope="global", exact=True, complete=False, needs_background=False)
def pykan(problem: Problem) -> GlobalScores:
    """Backward edge score of KAN 2.0 (pykan), aggregated to features.

    As in [1]_, the output has the score 1, a factor that of its product, an edge that of its sum
    times its standard deviation over x divided by the sum's, and a node the sum of its edges'. A
    constant sum passes nothing on; pykan adds 1e-4 to its deviation instead, so that scores depend
    on the unit of the output.

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 3.
    """
    model, parts = problem.model, problem.x.split(problem.rows_at_once)
    levels = zip(*[model.levels(model.scale_inputs(part)) for part in parts], strict=True)
    inputs, sums = ([torch.cat(level) for level in zip(*side, strict=True)] for side in levels)
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
