"""How much work a report does: which rows, which background, which methods.

The limits below keep a report of a usual model within seconds on two cores; what methods take is
estimated beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kanlens.attribution.comparison import DEFAULT_METHODS
from kanlens.attribution.problem import is_additive
from kanlens.checks import check_rows, reworded
from kanlens.errors import KanlensError
from kanlens.reporting.costs import compared_seconds, flow_seconds, shapley_seconds
from kanlens.reporting.subject import Subject, spread

if TYPE_CHECKING:
    from kanlens.model.network import Rows

BACKGROUND = 100  # rows that samples are compared with, at most
FEWEST_ROWS, FEWEST_BACKGROUND = 50, 20  # for exact Shapley values and interactions
SHAPLEY_SECONDS = 4.0  # for exact Shapley values of all rows
PAIR_SECONDS = 2.0  # for interactions, which take
PAIRS = 2.0  # times as long as values
FLOW_SECONDS = 1.0
COMPARED_ROWS, COMPARED_BACKGROUND = 40, 20
LEAST_COMPARED = 3  # background rows, on large models
COMPARED_SECONDS = 4.0  # for each of the methods that are compared
LARGE = "it would take long on a model of this size; name it in methods to run it"


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
    pairs : tuple of Tensor, shapes (p,) and (q, in), or None
        Positions of the rows whose interactions are shown, and the rows they are compared with.
    flows : bool
        Whether it is shown what flows through the edges, in all of `rows`.
    exact : bool
        Whether methods can be compared with exact Shapley values in seconds.
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
    pairs: tuple[Tensor, Tensor] | None
    flows: bool
    exact: bool
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
        left_out = _too_costly(subject, few, edges, exact=small is not None)
        methods = [name for name in DEFAULT_METHODS if name not in left_out]
    main = next((name for name in ("shapley", "secant") if name in methods), methods[0])
    if main == "shapley" and small is not None:
        sizes = small
    deep = not is_additive(subject.model, subject.target)
    paired = _shrunk(sizes, PAIRS * unit, PAIR_SECONDS) if deep else None
    rows, against = chosen(sizes)
    compared_rows, compared_background = chosen(few)
    return Plan(
        method=main,
        rows=rows,
        background=against,
        pairs=None if paired is None else chosen(paired),
        flows=deep and flow_seconds(*sizes, edges) <= FLOW_SECONDS,
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
        try:
            rows = model.prepare(background, call="background")
            check_rows("background", rows)
        except KanlensError as error:
            raise reworded("report: background", error) from error
        return rows, "rows that were passed as background"
    if model.background is not None:
        return model.background.to(subject.x), "rows that the model kept from its training"
    return subject.x, "rows of this data, since the model kept none from its training"


def _shrunk(sizes: tuple[int, int], unit: float, most: float) -> tuple[int, int] | None:
    """Return fewer rows and background rows, whose pairs of one `unit` each take at most `most`.

    None where even the fewest would take longer.

    Examples
    --------
    >>> _shrunk((200, 100), 1e-5, 4), _shrunk((200, 100), 3e-3, 4), _shrunk((200, 100), 1.0, 4)
    ((200, 100), (50, 25), None)
    """
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


def _too_costly(
    subject: Subject, few: tuple[int, int], edges: int, *, exact: bool
) -> dict[str, str]:
    """Return the default methods that would take long on this model, and why."""
    costs = compared_seconds(*few, len(subject.model.feature_names), edges)
    slow = [name for name, seconds in costs.items() if seconds > 2 * COMPARED_SECONDS]
    return dict.fromkeys(slow if exact else ["shapley", *slow], LARGE)
