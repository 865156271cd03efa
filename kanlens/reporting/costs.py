"""About how many seconds methods take on a model, as measured on one core of a laptop.

Estimates only decide what a report leaves out: wrong by a factor of three they do no harm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanlens.attribution.problem import Problem
from kanlens.attribution.shapley.fourier import expand
from kanlens.attribution.shapley.games import LIMIT, Game, games, players
from kanlens.attribution.shapley.values import BOUND
from kanlens.errors import MethodError
from kanlens.model.analysis import private_copy
from kanlens.model.network import KAN

STEP = 1e-8  # one edge behind the first layer, in one coalition
DEEPER = 2.5  # as much more where there are layers between the first and the last
FLOW = 1e-6  # one edge's share of a secant
SUM = 1e-6  # one value of a model whose Shapley values have a closed form


def shapley_seconds(model: KAN, x: Tensor, background: Tensor, target: int) -> float:
    """Estimate the time that Shapley values of one row against one background row take.

    Parameters
    ----------
    model : KAN
        Left as it is.
    x, background : Tensor, shape (batch, in)
        In the units of the data; features that are the same in all of these rows play no part.
    target : int

    Returns
    -------
    float
        In seconds; infinite where the values would have to be sampled.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 16).reshape(2, 8)
    >>> small, large = KAN([3, 2, 1]), KAN([8, 2, 1])
    >>> shapley_seconds(small, x[:, :3], x[:, :3], 0) < shapley_seconds(large, x, x, 0) < 1e-3
    True
    """
    with torch.no_grad():
        problem = Problem(
            model=private_copy(model), x=x.double(), rows=background.double(), target=target
        )
        if problem.additive:
            return SUM * x.shape[1]
        found = games(problem, players(problem, by_column=False)[1])
        outputs = problem.output_in_parts(torch.cat([problem.x, problem.background]))
        width = float(outputs.amax() - outputs.amin()) or 1.0
        return sum(_game_seconds(game, BOUND * width / len(found)) for game in found)


def _game_seconds(game: Game, tolerance: float) -> float:
    """Estimate the time that one game takes for one row against one background row."""
    if game.size <= LIMIT:
        steps = sum(layer.mask.numel() for layer in game.model.layers[1:])
        steps += sum(sum(nodes.grouping.arities) for nodes in game.model.nodes)
        return STEP * (DEEPER if len(game.model.layers) > 2 else 1.0) * 2.0**game.size * steps
    if not game.additive_nodes:
        return math.inf
    try:
        expansion = expand(game, tolerance=tolerance)
    except MethodError:
        return math.inf
    if expansion.bound > 100 * tolerance:  # functions that cosines do not follow
        return math.inf
    return expansion.seconds / (len(game.x) * len(game.rows))


def compared_seconds(rows: int, background: int, features: int, edges: int) -> dict[str, float]:
    """Estimate what the slower of the compared methods take, by name.

    Examples
    --------
    >>> found = compared_seconds(40, 20, 8, 45)
    >>> max(found, key=found.get)
    'captum_kernel_shap'
    """
    pairs = rows * background
    return {
        "integrated_gradients": pairs * (5e-4 + 8e-6 * edges),
        "captum_integrated_gradients": pairs * (1e-3 + 1e-6 * edges),
        "captum_deep_lift": pairs * (1e-4 + 2e-7 * edges),
        "captum_shapley_value_sampling": rows * 100 * features * (1e-5 + 5e-10 * edges),
        "captum_kernel_shap": rows * (5e-2 + 1e-6 * edges),
        "captum_feature_ablation": rows * features * (1e-5 + 1e-9 * edges),
    }


def flow_seconds(rows: int, background: int, edges: int) -> float:
    """Estimate the time that the flows of secants take.

    Examples
    --------
    >>> flow_seconds(200, 100, 45) < 1
    True
    """
    return FLOW / 25 * rows * background * edges
