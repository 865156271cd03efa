"""Numbers of rows and methods of a report, from counts of evaluated edges, not clocks.

1e8 evaluations took a second on one core of a laptop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens._checks import check_rows
from kanlens.attribution._compare import DEFAULT_METHODS
from kanlens.attribution._problem import Problem, is_additive
from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley._games import games, players
from kanlens.attribution.shapley._values import SolverOptions, plan_games
from kanlens.errors import rewording
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN, Rows
from kanlens.reporting._report_data import Subject, spread

BACKGROUND = 100  # rows that samples are compared with, at most
MIN_ROWS, MIN_BACKGROUND = 50, 20  # for exact Shapley values and interactions
SHAPLEY = 4e8  # evaluations for the values of all rows
INTERACTIONS = SHAPLEY / 4  # for interactions, which cost twice as much each
SECANT = 1e8  # for "secant", where each costs four times as much
FLOWS = SECANT / 4
RATE = 1e8  # evaluations in a second
COMPARED_ROWS = 40
COMPARED_BACKGROUND = (3, 20)  # at least and at most
COMPARED = 12_000  # edges times background rows of the methods that are compared
MAX_EDGES = {  # of models that a default method is compared on
    "integrated_gradients": 8_000,
    "captum_integrated_gradients": 60_000,
    "captum_kernel_shap": 150_000,
    "captum_feature_ablation": 250_000,
    "captum_deep_lift": 300_000,
}
MAX_BREAKPOINTS = 50  # of a feature; integrated gradients are cut at each
MAX_FEATURES = {"captum_shapley_value_sampling": 150}
FROM_DATA = "of this data, since the model stores none"
LARGE = "it would take long on a model of this size; name it in methods to run it"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Rows, background and methods of a report."""

    method: str  # of importance and single rows
    rows: Tensor  # (n,): positions of the rows it is applied to
    background: Tensor  # (b, in): rows that it compares with
    pairs: tuple[Tensor, Tensor] | None  # positions and background for interactions
    flows: bool  # whether flows through the edges are shown
    exact: bool  # whether methods can be compared with exact Shapley values in seconds
    compared_rows: Tensor  # (m,): positions of the rows of the comparison
    compared_background: Tensor  # (c, in)
    methods: tuple[str, ...]  # that are compared
    left_out: dict[str, str]  # methods that are not, and why
    origin: str  # where the background comes from, in words


def make_plan(
    subject: Subject,
    background: Rows | None,
    methods: Sequence[str] | None,
    max_rows: int,
    *,
    with_shapley: bool = True,
) -> Plan:
    """Choose sizes that take seconds; passed `methods` always run.

    Exact Shapley values are planned only if `with_shapley` is set.
    """
    model = subject.model
    reference, origin = _background(subject, background)
    edges = sum(layer.mask.numel() for layer in model.layers)
    deep = not is_additive(model, subject.target)
    sizes = min(max_rows, subject.rows), min(BACKGROUND, len(reference))

    def chosen(rows: int, background: int) -> tuple[Tensor, Tensor]:
        return spread(subject.rows, rows), reference[spread(len(reference), background)]

    rows, against = chosen(*sizes)
    unit = math.inf
    if with_shapley:
        unit = shapley_evaluations(model, subject.x[rows], against, subject.target)
    small = _shrunk(sizes, SHAPLEY / unit)
    left_out: dict[str, str] = {}
    if methods is None:
        slow = too_slow(edges, len(model.feature_names))
        if deep and model.layers[0].breakpoints().shape[1] > MAX_BREAKPOINTS:
            slow = ["integrated_gradients", *slow]
        left_out = dict.fromkeys(slow if small is not None else ["shapley", *slow], LARGE)
        methods = [name for name in DEFAULT_METHODS if name not in left_out]
    main = next((name for name in ("shapley", "secant") if name in methods), methods[0])
    if main == "shapley" and small is not None:
        sizes = small
    elif main == "secant":
        fewest = min(sizes[0], MIN_ROWS), min(sizes[1], MIN_BACKGROUND)
        sizes = _shrunk(sizes, SECANT / edges) or fewest
    paired = _shrunk(sizes, INTERACTIONS / unit) if deep else None
    rows, against = chosen(*sizes)
    few = min(max(COMPARED // edges, COMPARED_BACKGROUND[0]), COMPARED_BACKGROUND[1])
    compared = chosen(min(COMPARED_ROWS, sizes[0]), min(few, sizes[1]))
    return Plan(
        method=main,
        rows=rows,
        background=against,
        pairs=None if paired is None else chosen(*paired),
        flows=deep and math.prod(sizes) * edges <= FLOWS,
        exact=small is not None,
        compared_rows=compared[0],
        compared_background=compared[1],
        methods=tuple(dict.fromkeys(methods)),
        left_out=left_out,
        origin=origin,
    )


def too_slow(edges: int, features: int) -> list[str]:
    """Return the default methods that take long on a model of that size."""
    slow = [name for name, most in MAX_EDGES.items() if edges > most]
    return slow + [name for name, most in MAX_FEATURES.items() if features > most]


def _background(subject: Subject, background: Rows | None) -> tuple[Tensor, str]:
    model = subject.model
    if background is not None:
        with rewording("report", part="background"):
            rows = model.prepare(background, call="report")
            check_rows("report", rows)
        return rows, "passed as background"
    if model.background is not None:
        return model.background.to(subject.x), "stored in the model at training"
    return subject.x, FROM_DATA


def _shrunk(sizes: tuple[int, int], pairs: float) -> tuple[int, int] | None:
    """Return numbers of rows and background rows with at most `pairs` pairs; None if few."""
    fewest, share = min(sizes[0], MIN_ROWS), math.sqrt(min(1.0, pairs / math.prod(sizes)))
    background = max(min(sizes[1], MIN_BACKGROUND), int(min(share * sizes[1], pairs / fewest)))
    rows = int(min(sizes[0], pairs / background))
    return (rows, background) if rows >= fewest else None


def shapley_evaluations(model: KAN, x: Tensor, background: Tensor, target: int) -> float:
    """Count the evaluations of exact Shapley values of a row against a background row."""
    with torch.no_grad():
        problem = Problem(
            model=float64_copy(model), x=x.double(), rows=background.double(), target=target
        )
        if problem.additive:
            return x.shape[1]
        cut, total = games(problem, players(problem, by_column=False)[1]), 1.0
        for game, plan in plan_games(problem, cut, SolverOptions(algorithm="auto")):
            if plan == "sampling":
                return math.inf
            if isinstance(plan, str):
                total += enumeration.functions(game)
            else:
                total += RATE * plan.seconds / (len(x) * len(background))
        return total
