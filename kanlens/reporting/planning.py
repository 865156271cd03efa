"""How much work a report does: which rows, which background, which methods.

Exact Shapley values cost rows x background x 2^features, integrated gradients rows x background x
200; the limits below keep a report of a usual model within seconds on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kanlens.attribution.problem import is_additive, live_edges, reaching
from kanlens.attribution.registry import METHODS
from kanlens.checks import check_rows, reworded
from kanlens.core.network import KAN
from kanlens.errors import KanlensError
from kanlens.reporting.subject import Subject, spread

if TYPE_CHECKING:
    from kanlens.core.network import Rows

BACKGROUND = 100  # rows that samples are compared with, at most
FEWEST_ROWS, FEWEST_BACKGROUND = 50, 20  # for exact Shapley values
SHAPLEY_WORK = 3.2e6  # coalitions x rows x background x edges after the first layer
COMPARED_ROWS, COMPARED_BACKGROUND = 20, 10
LEAST_COMPARED = 3  # background rows, on large models
GRADIENT_WORK = 2e6  # rows x background x 200 steps x edges, for integrated gradients
SAMPLING_WORK = 4e7  # rows x evaluations x edges, for methods that sample
MOST_PLAYERS = 10

DEFAULT_METHODS = (
    "shapley",
    "secant",
    "captum_integrated_gradients",
    "captum_deep_lift",
    "captum_shapley_value_sampling",
    "captum_kernel_shap",
    "captum_feature_ablation",
    "captum_input_x_gradient",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a report computes.

    Attributes
    ----------
    method : str
        The method that importance and rows are explained with.
    rows : Tensor, shape (n,)
        Positions of the rows it is applied to.
    background : Tensor, shape (b, in)
        Rows that it compares with.
    compared_rows : Tensor, shape (m,)
        Positions of the rows that all methods are applied to.
    compared_background : Tensor, shape (c, in)
        Rows that they compare with.
    methods : tuple of str
        The methods that are compared.
    left_out : dict of str to str
        Methods that are not, and why.
    origin : str
        Where the background comes from, in words.
    """

    method: str
    rows: Tensor
    background: Tensor
    compared_rows: Tensor
    compared_background: Tensor
    methods: tuple[str, ...]
    left_out: dict[str, str]
    origin: str


def make_plan(
    subject: Subject, background: Rows | None, methods: Sequence[str] | None, max_rows: int
) -> Plan:
    """Choose rows, background and methods so that a report is made in seconds.

    Parameters
    ----------
    subject : Subject
        Model and data.
    background : optional
        Rows to compare with; those the model kept from training, else rows of the data.
    methods : sequence of str, optional
        Local methods to compare, whatever they cost; a choice that fits the model when None.
    max_rows : int
        Most rows that are attributed.

    Returns
    -------
    Plan
    """
    model = subject.model
    given, origin = _background(subject, background)
    players, tail, edges = _sizes(subject)
    sizes = min(max_rows, subject.rows), min(BACKGROUND, len(given))
    additive = is_additive(model, subject.target)
    unit = 0.0 if additive or players > MOST_PLAYERS else float(2**players * tail)
    small = _shrunk(sizes, unit)
    cheap = additive or (players <= MOST_PLAYERS and small is not None)
    few = _compared_sizes(sizes, edges)
    left_out: dict[str, str] = {}
    if methods is None:
        left_out = _too_costly(subject, few, edges, exact=cheap)
        methods = [name for name in DEFAULT_METHODS if name not in left_out]
    main = next((name for name in ("shapley", "secant") if name in methods), methods[0])
    if main == "shapley" and small is not None:
        sizes = small
    return Plan(
        method=main,
        rows=spread(subject.rows, sizes[0]),
        background=given[spread(len(given), sizes[1])],
        compared_rows=spread(subject.rows, few[0]),
        compared_background=given[spread(len(given), few[1])],
        methods=tuple(dict.fromkeys(methods)),
        left_out=left_out,
        origin=origin,
    )


def _background(subject: Subject, background: Any) -> tuple[Tensor, str]:
    model = subject.model
    if background is not None:
        try:
            rows = model.prepare(background, call="background")
            check_rows("background", rows)
        except KanlensError as error:
            raise reworded("report: background", error) from error
        return rows, "rows that were passed as background"
    if model.background is not None:
        return model.background.to(subject.x), "rows that the model kept from its training"
    return subject.x, "rows of this data, since the model kept none from its training"


def _sizes(subject: Subject) -> tuple[int, int, int]:
    """Return the number of features with an effect, of steps after the first sums, and of edges."""
    model: KAN = subject.model
    with torch.no_grad():
        leads_on = reaching(model, subject.target)[0]
        players = int((live_edges(model.layers[0]) & leads_on[:, None]).any(0).sum())
    counts = [layer.in_features * layer.out_features for layer in model.layers]
    factors = sum(model.nodes[0].grouping.arities)
    return players, sum(counts[1:]) + factors, sum(counts)


def _shrunk(sizes: tuple[int, int], unit: float) -> tuple[int, int] | None:
    """Return fewer rows and background rows that keep the work in bounds; None if none do.

    Examples
    --------
    >>> _shrunk((200, 100), 10.0), _shrunk((200, 100), 3200.0), _shrunk((200, 100), 1e5)
    ((200, 100), (50, 20), None)
    """
    rows, background = sizes
    least_rows, least_background = min(rows, FEWEST_ROWS), min(background, FEWEST_BACKGROUND)
    while rows * background * unit > SHAPLEY_WORK:
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
    affordable = int(GRADIENT_WORK / (rows * 200 * edges))
    return rows, min(max(LEAST_COMPARED, min(affordable, COMPARED_BACKGROUND)), sizes[1])


def _too_costly(
    subject: Subject, few: tuple[int, int], edges: int, *, exact: bool
) -> dict[str, str]:
    """Return the default methods that would take long on this model, and why."""
    rows, background = few
    n_features = len(subject.model.feature_names)
    why = "it would take long on a model of this size; name it in methods to run it"
    found: dict[str, str] = {}
    if not exact:
        found["shapley"] = (
            "exact Shapley values take 2^features evaluations; name it in methods to try"
        )
    work = {
        "captum_integrated_gradients": (rows * background * 200 * edges, 2 * GRADIENT_WORK),
        "captum_shapley_value_sampling": (rows * 100 * n_features * edges, SAMPLING_WORK),
        "captum_kernel_shap": (rows * 200 * edges, SAMPLING_WORK / 20),
        "captum_feature_ablation": (rows * n_features * edges, SAMPLING_WORK),
    }
    found |= {name: why for name, (cost, most) in work.items() if cost > most}
    return {name: reason for name, reason in found.items() if name in METHODS}
