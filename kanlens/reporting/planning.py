"""Cost limits of a report: which rows, which background, which methods.

Estimates are as measured on one core of a laptop; a factor of three does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.comparison import DEFAULT_METHODS
from kanlens.attribution.problem import Problem, is_additive
from kanlens.attribution.shapley.fourier import expand
from kanlens.attribution.shapley.games import LIMIT, Game, games, players
from kanlens.attribution.shapley.values import BOUND
from kanlens.checks import check_rows
from kanlens.errors import MethodError
from kanlens.model.analysis import float64_copy
from kanlens.model.network import KAN, Rows
from kanlens.reporting.subject import Subject, spread

BACKGROUND = 100  # rows that samples are compared with, at most
FEWEST_ROWS, FEWEST_BACKGROUND = 50, 20  # for exact Shapley values and interactions
SHAPLEY_SECONDS = 4.0  # for exact Shapley values of all rows
PAIR_SECONDS = 2.0  # for interactions, which take
PAIRS = 2.0  # times as long as values
FLOW_SECONDS = 1.0
COMPARED_ROWS, COMPARED_BACKGROUND = 40, 20
LEAST_COMPARED = 3  # background rows, on large models
COMPARED_SECONDS = 4.0  # for each of the methods that are compared
STEP = 1e-8  # seconds of one edge behind the first layer, in one coalition
DEEPER = 2.5  # as much more where there are layers between the first and the last
FLOW = 4e-8  # of one edge's share of a secant
SUM = 1e-6  # of one value of a model whose Shapley values have a closed form
LARGE = "it would take long on a model of this size; name it in methods to run it"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a report computes."""

    method: str  # that importance and rows are explained with
    rows: Tensor  # (n,): positions of the rows it is applied to
    background: Tensor  # (b, in): rows that it compares with
    pairs: tuple[Tensor, Tensor] | None  # positions and background for interactions
    flows: bool  # whether it is shown what flows through the edges
    exact: bool  # whether methods can be compared with exact Shapley values in seconds
    compared_rows: Tensor  # (m,): positions of the rows that all methods are applied to
    compared_background: Tensor  # (c, in)
    methods: tuple[str, ...]  # that are compared
    left_out: dict[str, str]  # methods that are not, and why
    origin: str  # where the background comes from, in words


def make_plan(
    subject: Subject, background: Rows | None, methods: Sequence[str] | None, max_rows: int
) -> Plan:
    """Choose what makes a report in seconds; `methods` that are given run whatever they cost."""
    given, origin = _background(subject, background)
    edges = sum(layer.mask.numel() for layer in subject.model.layers)
    sizes = min(max_rows, subject.rows), min(BACKGROUND, len(given))

    def chosen(numbers: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return spread(subject.rows, numbers[0]), given[spread(len(given), numbers[1])]

    rows, against = chosen(sizes)
    unit = shapley_seconds(subject.model, subject.x[rows], against, subject.target)
    small = _shrunk(sizes, unit, SHAPLEY_SECONDS)
    few = _compared_sizes(sizes, edges)
    left_out: dict[str, str] = {}
    if methods is None:
        costs = compared_seconds(*few, len(subject.model.feature_names), edges)
        slow = [name for name, seconds in costs.items() if seconds > 2 * COMPARED_SECONDS]
        left_out = dict.fromkeys(slow if small is not None else ["shapley", *slow], LARGE)
        methods = [name for name in DEFAULT_METHODS if name not in left_out]
    main = next((name for name in ("shapley", "secant") if name in methods), methods[0])
    if main == "shapley" and small is not None:
        sizes = small
    elif main == "secant":
        fewest = min(sizes[0], FEWEST_ROWS), min(sizes[1], FEWEST_BACKGROUND)
        sizes = _shrunk(sizes, FLOW * edges, SHAPLEY_SECONDS) or fewest
    deep = not is_additive(subject.model, subject.target)
    paired = _shrunk(sizes, PAIRS * unit, PAIR_SECONDS) if deep else None
    rows, against = chosen(sizes)
    compared_rows, compared_background = chosen(few)
    return Plan(
        method=main,
        rows=rows,
        background=against,
        pairs=None if paired is None else chosen(paired),
        flows=deep and FLOW * math.prod(sizes) * edges <= FLOW_SECONDS,
        exact=small is not None,
        compared_rows=compared_rows,
        compared_background=compared_background,
        methods=tuple(dict.fromkeys(methods)),
        left_out=left_out,
        origin=origin,
    )


def _background(subject: Subject, background: Any) -> tuple[Tensor, str]:
    model = subject.model
    if background is not None:
        rows = model.prepare(background, call="report: background")
        check_rows("report: background", rows)
        return rows, "rows that were passed as background"
    if model.background is not None:
        return model.background.to(subject.x), "rows that the model kept from its training"
    return subject.x, "rows of this data, since the model kept none from its training"


def _shrunk(sizes: tuple[int, int], unit: float, most: float) -> tuple[int, int] | None:
    """Return fewer rows and background rows, whose pairs take at most `most`; None if too many."""
    rows, background = sizes
    least_rows, least_background = min(rows, FEWEST_ROWS), min(background, FEWEST_BACKGROUND)
    while rows * background * unit > most:
        if rows > least_rows and (rows >= 2 * background or background == least_background):
            rows = max(least_rows, int(0.9 * rows))
        elif background > least_background:
            background = max(least_background, int(0.9 * background))
        else:
            return None
    return rows, background


def _compared_sizes(sizes: tuple[int, int], edges: int) -> tuple[int, int]:
    """Return the numbers of rows and background rows that all methods are run on."""
    rows = min(COMPARED_ROWS, sizes[0])
    line = compared_seconds(1, 1, 1, edges)["integrated_gradients"]
    affordable = int(COMPARED_SECONDS / (rows * line))
    return rows, min(max(LEAST_COMPARED, min(affordable, COMPARED_BACKGROUND)), sizes[1])


def shapley_seconds(model: KAN, x: Tensor, background: Tensor, target: int) -> float:
    """Estimate seconds of Shapley values of two rows; infinite if they must be sampled."""
    with torch.no_grad():
        problem = Problem(
            model=float64_copy(model), x=x.double(), rows=background.double(), target=target
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
    """Estimate the seconds that the slower of the compared methods take, by name."""
    pairs = rows * background
    return {
        "integrated_gradients": pairs * (5e-4 + 8e-6 * edges),
        "captum_integrated_gradients": pairs * (1e-3 + 1e-6 * edges),
        "captum_deep_lift": pairs * (1e-4 + 2e-7 * edges),
        "captum_shapley_value_sampling": rows * 100 * features * (1e-5 + 5e-10 * edges),
        "captum_kernel_shap": rows * (5e-2 + 1e-6 * edges),
        "captum_feature_ablation": rows * features * (1e-5 + 1e-9 * edges),
    }
