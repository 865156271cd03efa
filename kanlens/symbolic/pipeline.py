"""From a trained network to a formula: `symbolize`, and what each edge looks like: `suggest`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch import Tensor

from kanlens.checks import check_rows, message
from kanlens.core.acceptance import check_model
from kanlens.core.function_edge import FunctionEdge
from kanlens.core.function_layer import SPLINE, FunctionLinear
from kanlens.core.network import KAN
from kanlens.errors import InvalidValueError
from kanlens.progress import progress_bar
from kanlens.symbolic.assignment import (
    EdgeChoice,
    Goal,
    assign_functions,
    back_off,
    name_dead,
    rank_layer,
    settle_ties,
)
from kanlens.symbolic.composition import (
    Expr,
    compose,
    evaluator,
    feature_symbols,
    plain,
)
from kanlens.symbolic.constants import can_refine, refine, snap
from kanlens.symbolic.joint_refit import relative_loss
from kanlens.symbolic.library import library
from kanlens.symbolic.receipt import examine
from kanlens.symbolic.result import Stage, SymbolicResult, rounded
from kanlens.symbolic.simplification import shorten
from kanlens.threads import one_thread
from kanlens.training.preparation import prepare_target

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.core.network import Rows

_DRIFT = 2.0  # factor by which a step may raise a loss that is slight
_WORSE = 1.05  # factor by which it may raise any other
_SLIGHT = 1e-4  # of the variance
_MOST_ROWS = 2000  # that fits are made on
_CHECK_POINTS = 200  # where rewriting is checked
_SHOWN = 3  # candidates per edge in a table
_INDEPENDENT = 60  # values of a network's output that count as independent


@torch.no_grad()
def symbolize(
    model: KAN,
    x: Rows,
    y: Any = None,
    *,
    r2_min: float = 0.99,
    functions: Sequence[str] | None = None,
    refine: bool = True,
    snap: bool = True,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> SymbolicResult:
    """Turn a trained network into a formula that says how far it can be trusted.

    Every edge is compared with a library of functions and becomes the simplest that explains it;
    edges that none explains, or whose function would raise the loss of the whole network too
    much, stay splines. The formula is then composed, all its numbers are refitted together, and
    replaced by exact constants where the data allow it.

    Parameters
    ----------
    model : KAN
        Left as it is.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        In the units of the data.
    y : array-like, optional
        Targets. For regression the formula is refitted to them, else to the model's outputs; for
        classification the formula is that of the logits, and y only enters the receipt.
    r2_min : float
        Least share of an edge's variance a function must explain; and by how much less than the
        model the formula may explain of the target is ``1 - r2_min``.
    functions : sequence of str, optional
        Names of functions to choose from; default all.
    refine : bool
        Whether to refit the numbers.
    snap : bool
        Whether to replace numbers by exact constants.
    generator : torch.Generator, optional
        Chooses the rows when there are more than 2000; else they are spread evenly.
    progress : bool
        Whether to show a bar where stderr is a terminal.

    Returns
    -------
    SymbolicResult

    Raises
    ------
    InvalidValueError
        If `r2_min` is not in (0, 1], or a function is unknown.
    ShapeError, DTypeError, DataError
        If `x` or `y` does not fit the model.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.
    .. [2] S.-M. Udrescu, M. Tegmark, AI Feynman, Science Advances 6, 2020.

    Examples
    --------
    >>> from kanlens.core.function_layer import FunctionLinear
    >>> layer = FunctionLinear(1, 1, [["x^2"]])
    >>> parabola = KAN.from_layers([layer], KAN([1, 1]).schema)
    >>> symbolize(parabola, torch.linspace(-1, 1, 50)[:, None]).sympy()
    x1**2
    """
    check_model("symbolize", model)
    families = library(functions, call="symbolize")
    _check_share(r2_min)
    exact = _exact(model)
    rows, targets = _prepared(exact, x, y)
    regression = targets is not None and model.task == "regression"
    goal = _goal(exact, rows, targets if regression else None, r2_min, generator)
    work = copy.deepcopy(exact)
    shown = None if progress else False
    bar = progress_bar("symbolize", len(model.layers) + 2, shown=shown)
    with one_thread(), bar as advance:
        choices = assign_functions(work, goal.x, families, r2_min, advance=advance)
        if refine:
            work = settle_ties(work, choices, r2_min, goal)
        work, _ = back_off(work, goal, refine=refine)
        advance()
        stages, snapped = _stages(work, goal, refine, snap)
        advance()
    real = tuple(_assumed(expression, work) for expression in stages[-1].expressions)
    return SymbolicResult(
        stages=stages,
        model=_finished(work, model),
        receipt=examine(real, exact, rows, targets, snapped=snapped),
        feature_names=model.feature_names,
        output_names=model.output_names,
    )


@torch.no_grad()
def suggest(model: KAN, x: Rows, *, functions: Sequence[str] | None = None) -> pd.DataFrame:
    """List the functions that explain each live edge best.

    Parameters
    ----------
    model : KAN
        Left as it is.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        In the units of the data.
    functions : sequence of str, optional
        Names of functions to choose from; default all.

    Returns
    -------
    DataFrame
        One row per edge and rank: layer, out, in, rank (1 is best), function, r2, score (how
        much worse than the best, below 6 is a near tie), formula (of the feature, or of
        ``h<layer>_<n>`` for the nth hidden unit, counted from 1).

    Examples
    --------
    >>> suggest(KAN([1, 1]), torch.linspace(-1, 1, 50)[:, None]).columns.tolist()
    ['layer', 'out', 'in', 'rank', 'function', 'r2', 'score', 'formula']
    """
    import pandas as pd

    families = library(functions, call="suggest")
    work = _exact(model)
    rows, _ = _prepared(work, x, None, call="suggest")
    hidden, table = work.scale_inputs(_pick(rows, None)), []
    with one_thread():
        for index in range(len(work.layers)):
            for choice in rank_layer(work, index, hidden, families):
                table += _suggestions(work, choice)
            hidden = work.through(index, hidden)
    columns = ["layer", "out", "in", "rank", "function", "r2", "score", "formula"]
    return pd.DataFrame(table, columns=columns)


def _suggestions(model: KAN, choice: EdgeChoice) -> list[tuple[Any, ...]]:
    """Return the rows of one edge."""
    found: list[tuple[Any, ...]] = []
    for rank, candidate in enumerate(choice.candidates[:_SHOWN], start=1):
        a, b, c, d = candidate.parameters
        edge = FunctionEdge(function=candidate.function, a=a, b=b, c=c, d=d)
        symbol = sympy.Symbol(f"h{choice.layer}_{choice.in_ + 1}")
        if choice.layer == 0:
            shift, scale = model.input_shift[choice.in_], model.input_scale[choice.in_]
            edge = edge.in_units(float(shift), float(scale))
            symbol = sympy.Symbol(model.feature_names[choice.in_])
        formula = str(rounded(edge.to_sympy(symbol), 4))
        place = (choice.layer, choice.out, choice.in_, rank)
        found.append((*place, candidate.function, candidate.r2, candidate.score, formula))
    return found


def _check_share(r2_min: float) -> None:
    if not 0 < r2_min <= 1:
        expected = "r2_min above 0 and at most 1"
        raise InvalidValueError(message("symbolize", expected, repr(r2_min), "0.99 is usual"))


def _prepared(
    model: KAN, x: Rows, y: Any, *, call: str = "symbolize"
) -> tuple[Tensor, Tensor | None]:
    """Return x and y as a model in float64 takes them."""
    rows = model.prepare(x, call=call).detach()
    check_rows(call, rows, least=2)
    return rows, None if y is None else prepare_target(model, y, len(rows), call=call).cpu()


def _exact(model: KAN) -> KAN:
    """Return a copy of a model in float64 on the CPU."""
    return copy.deepcopy(model).cpu().double().eval()


def _finished(work: KAN, model: KAN) -> KAN:
    """Return the worked-on network in dtype, device and mode of the model it was made from."""
    for layer in work.layers:
        if isinstance(layer, FunctionLinear):
            name_dead(layer, SPLINE)
    work.to(dtype=model.dtype, device=model.input_shift.device)
    return work.train(model.training)


def _goal(
    model: KAN, x: Tensor, y: Tensor | None, r2_min: float, generator: torch.Generator | None
) -> Goal:
    """Return what the formula is fitted to and the loss it may have."""
    output = model(x)
    target = output if y is None else y
    limit = relative_loss(output, target) + (1 - r2_min)
    pick = _places(x, generator)
    return Goal(
        x=x[pick],
        target=target[pick],
        limit=max(limit, 1e-10),
        independent=_INDEPENDENT if y is None else None,
    )


def _pick(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return x[_places(x, generator)]


def _places(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Choose rows: all when they are few, else some, with the ends of every feature among them."""
    rows = len(x)
    if rows <= _MOST_ROWS:
        return torch.arange(rows)
    if generator is not None:
        some = torch.randperm(rows, generator=generator)[:_MOST_ROWS]
    else:
        some = torch.linspace(0, rows - 1, _MOST_ROWS).round().long()
    places: Tensor = torch.cat((x.argmin(0), x.argmax(0), some)).unique()
    return places


def _stages(
    model: KAN, goal: Goal, refined: bool, snapped: bool
) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """Return the formula as fitted, refined and snapped, and the constants put in."""
    first = compose(model)
    symbols = feature_symbols(model)
    names = ["fitted", *(["refined"] if refined else []), *(["snapped"] if snapped else [])]
    columns: list[list[Expr]] = []
    constants: list[str] = []
    for output, expression in enumerate(first):
        column, found = _improved(expression, symbols, goal, output, names)
        columns.append(column)
        constants += found
    stages = []
    for k, name in enumerate(names):
        expressions = tuple(column[k] for column in columns)
        losses = _losses(expressions, symbols, goal)
        shown = tuple(plain(expression) for expression in expressions)
        stages.append(Stage(name=name, expressions=shown, losses=losses))
    return tuple(stages), tuple(constants)


def _improved(
    expression: Expr, symbols: tuple[Expr, ...], goal: Goal, output: int, names: list[str]
) -> tuple[list[Expr], tuple[str, ...]]:
    """Return one output's expression at every stage; a step that does harm is not taken."""
    x, y = goal.x.numpy(force=True), goal.target[:, output].numpy(force=True)
    points = x[:: max(1, len(x) // _CHECK_POINTS)]
    column: list[Expr] = [expression]
    constants: tuple[str, ...] = ()
    for name in names[1:]:
        now = shorten(column[-1], symbols, points)
        if not can_refine(now):
            column.append(now)
            continue
        if name == "refined":
            found = refine(now, symbols, x, y)
        else:
            found = snap(now, symbols, x, y, independent=goal.independent)
        before = _loss(now, symbols, x, y)
        trial = shorten(found.expression, symbols, points)
        after = _loss(trial, symbols, x, y)
        good = after <= max(_WORSE * before, min(_DRIFT * before, _SLIGHT), 1e-10)
        column.append(trial if good else now)
        if good and name == "snapped":
            constants = found.snapped
    return column, constants


def _loss(expression: Expr, symbols: tuple[Expr, ...], x: Any, y: Any) -> float:
    values = torch.from_numpy(evaluator((expression,), symbols)(x))
    return relative_loss(values, torch.from_numpy(y)[:, None])


def _losses(
    expressions: tuple[Expr, ...], symbols: tuple[Expr, ...], goal: Goal
) -> tuple[float, ...]:
    x, target = goal.x.numpy(force=True), goal.target.numpy(force=True)
    pairs = enumerate(expressions)
    return tuple(_loss(expression, symbols, x, target[:, k]) for k, expression in pairs)


def _assumed(expression: Expr, model: KAN) -> Expr:
    """Give the symbols of an expression the assumptions they are computed with."""
    return expression.xreplace(
        {sympy.Symbol(symbol.name): symbol for symbol in feature_symbols(model)}
    )
