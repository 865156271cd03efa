"""Shapley values and interactions of an output: the algorithm for each game, and their sum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from kanlens.attribution.additive import contributions
from kanlens.attribution.method import method
from kanlens.attribution.problem import Baseline, LocalValues, Problem
from kanlens.attribution.shapley import enumeration
from kanlens.attribution.shapley.cosines import LEAST
from kanlens.attribution.shapley.fourier import Expansion, expand, seconds
from kanlens.attribution.shapley.games import LIMIT, Game, Solution, games, players
from kanlens.attribution.shapley.sampling import sampled
from kanlens.checks import check_choice, check_positive
from kanlens.errors import MethodError
from kanlens.long_work import NEVER, Deadline, Interruption, progress_bar
from kanlens.model.analysis import over_rows

Groups = Literal["features", "columns"]
Algorithm = Literal["auto", "enumeration", "fourier", "sampling"]
Solved: TypeAlias = tuple[Game, Solution, str]  # and how, in a few words
ALGORITHMS = ("auto", "enumeration", "fourier", "sampling")
BOUND, STANDARD_ERROR = 1e-6, 1e-2  # of the range of the output, unless others are asked for
PATIENCE = 300.0  # seconds of work for one game, beyond which "auto" samples it


@dataclass(frozen=True, kw_only=True)
class SolverOptions:
    """How games are to be solved: the options of `shapley`, and whether pairs are wanted."""

    algorithm: Algorithm
    tolerance: float | None = None
    deadline: Deadline = NEVER
    interactions: bool = False


@method(exact=True, complete=True, together=True)  # tolerance and time limit are those of all
def shapley(
    problem: Problem,
    *,
    groups: Groups = "features",
    algorithm: Algorithm = "auto",
    tolerance: float | None = None,
    time_limit: float | None = None,
) -> LocalValues:
    """Exact Shapley values, node by node: closed forms, coalitions, cosine series.

    They are interventional [1]_ [2]_ [3]_: each coalition meets each background row. One layer:
    f_i(x_i) - mean of f_i over the background. Deeper, the last layer adds up functions of nodes,
    each of which is a game of the features that can move it alone.

    Parameters
    ----------
    problem : Problem
        With a background.
    groups : {"features", "columns"}
        Who plays: each feature, or each table column (the one-hot features of a column come and
        go together).
    algorithm : {"auto", "enumeration", "fourier", "sampling"}
        How games of several players are solved. "enumeration" goes through all coalitions of at
        most 14 players and is exact. "fourier" writes what comes after the first of two layers in
        cosines, whose values are known, and bounds the error. "sampling" draws permutations
        of players and estimates the error. "auto": the first of these that can, except those that
        would take more than the time limit, and "fourier" where it would take five minutes.
    tolerance : float, optional
        In units of the output: wanted bound of the values for "fourier", wanted standard error for
        "sampling". Default: 1e-6 and 1e-2 of the range of the output over samples and background.
    time_limit : float, optional
        In seconds, for "sampling" and "auto". Where it is short for the samples and background
        rows that there are, the samples meet some of these rows only, at least eight each; the
        standard errors count what that leaves open. The first call on a machine may compile
        kernels for some seconds, which no limit cuts short.

    Returns
    -------
    LocalValues
        Counted from the mean output over the background; `remark` tells how games were solved.

    Raises
    ------
    MethodError
        If a game cannot be solved by the algorithm, or a coalition is worth NaN or infinity.

    References
    ----------
    .. [1] L. Shapley, A value for n-person games, 1953.
    .. [2] S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017.
    .. [3] D. Janzing et al., Feature relevance quantification in explainable AI, 2020.
    """
    deadline = NEVER
    if time_limit is not None:
        check_positive("attribute", "time_limit", time_limit)
        deadline = Deadline.after(time_limit)
    solver = SolverOptions(algorithm=algorithm, tolerance=tolerance, deadline=deadline)
    return _parts(problem, groups, solver)


@method(exact=True, complete=True)
def interactions(
    problem: Problem,
    *,
    groups: Groups = "features",
    algorithm: Algorithm = "auto",
    tolerance: float | None = None,
) -> LocalValues:
    """Exact Shapley values, with the interaction of every pair of features.

    The Shapley interaction index [1]_ is the mean, over coalitions S of the others, weighted as in
    the Shapley value, of v(S with both) - v(S with the one) - v(S with the other) + v(S). It is
    exactly 0 for features that move no node together.

    Parameters
    ----------
    problem : Problem
        With a background.
    groups, algorithm, tolerance
        As for `shapley`; interactions are not sampled, and those in cosines have twice the bound of
        the values.

    Returns
    -------
    LocalValues
        With `interactions`: pairs off the diagonal, main effects on it.

    Raises
    ------
    MethodError
        As for `shapley`.

    References
    ----------
    .. [1] M. Grabisch, M. Roubens, An axiomatic approach to the concept of interaction among
       players in cooperative games, 1999.
    """
    solver = SolverOptions(algorithm=algorithm, tolerance=tolerance, interactions=True)
    return _parts(problem, groups, solver)


def _parts(problem: Problem, groups: Groups, solver: SolverOptions) -> LocalValues:
    """Solve every game, and add up what the players get."""
    check_choice("attribute", "groups", groups, ["columns", "features"])
    check_choice("attribute", "algorithm", solver.algorithm, ALGORITHMS)
    if solver.tolerance is not None:
        check_positive("attribute", "tolerance", solver.tolerance)
    names, member = players(problem, by_column=groups == "columns")
    if problem.additive:
        mean = contributions(problem, problem.background).mean(0)

        def run(part: Tensor) -> list[Tensor]:
            return [(contributions(problem, part) - mean) @ member]

        (values,) = over_rows(run, problem.x, problem.rows_at_once)
        total = Solution(values=values, evaluations=1.0)
        remark = "closed form: a sum of functions"
    else:
        solved = solve(problem, games(problem, member), solver)
        total, remark = _sum(problem, member, solved), _remark(solved, groups)
    found = problem.local(
        total.values,
        Baseline.MEAN_OUTPUT,
        features=names if groups == "columns" else None,
        standard_error=total.standard_error,
        bound=total.bound,
        interactions=_with_main_effects(total) if solver.interactions else None,
        evaluations=total.evaluations,
        remark=remark,
    )
    bad = ~torch.isfinite(found.values).all(1)
    if bool(bad.any()) or not math.isfinite(found.reference):
        raise _not_finite(bad, found.reference, problem.first)
    return found


def _not_finite(bad: Tensor, reference: float, first: int) -> MethodError:
    """Refuse a game in which a coalition is worth NaN or infinity."""
    expected = "finite outputs where samples and background rows are mixed"
    got = "NaN or infinity in the background"
    if math.isfinite(reference):
        got = f"NaN or infinity for sample {first + int(bad.nonzero()[0])}"
    advice = "Choose background rows that keep every function in its domain"
    return MethodError("attribute", expected, got, advice)


def _sum(problem: Problem, member: Tensor, solved: Sequence[Solved]) -> Solution:
    """Return what all players get in all games; those in no game get exactly 0."""
    found: dict[str, Tensor] = {"values": member.new_zeros(len(problem.x), member.shape[1])}
    for game, part, _ in solved:
        who = game.players
        parts = {"values": part.values, "bound": part.bound, "pairs": part.pairs}
        parts["variance"] = None if part.standard_error is None else part.standard_error**2
        for name, values in parts.items():
            if values is None:
                continue
            shape = (len(values), *member.shape[1:] * (values.dim() - 1))
            total = found.setdefault(name, member.new_zeros(shape))
            place = (slice(None), who[:, None], who) if values.dim() == 3 else (slice(None), who)
            total[place] += values
    variance = found.get("variance")
    return Solution(
        values=found["values"],
        pairs=found.get("pairs"),
        bound=found.get("bound"),
        standard_error=None if variance is None else variance.sqrt(),
        evaluations=sum(part.evaluations for _, part, _ in solved),
    )


def _with_main_effects(total: Solution) -> Tensor:
    """Return pairs and, on the diagonal, values less half of the pairs: (batch, player, player)."""
    if total.pairs is None:
        return total.values.diag_embed()
    return total.pairs + (total.values - total.pairs.sum(2) / 2).diag_embed()


def _remark(solved: Sequence[Solved], groups: Groups) -> str:
    """Say which games were solved, and how."""
    counts = Counter((how, game.size) for game, _, how in solved)
    said = [
        f"{count} game{'s' * (count > 1)} of {size} {groups if size > 1 else groups[:-1]} {how}"
        for (how, size), count in counts.items()
    ]
    return ", ".join(said) or f"no {groups[:-1]} can change the output"


def solve(problem: Problem, cut: Sequence[Game], solver: SolverOptions) -> list[Solved]:
    """Solve all games of an output; those that are sampled come last."""
    unit, plans = _range(problem), plan_games(problem, cut, solver)
    drawn = [game for game, plan in plans if plan == "sampling"]
    others = [(game, plan) for game, plan in plans if plan != "sampling"]
    shown = problem.progress if others else False  # sampling shows its own
    with progress_bar("shapley", len(others) * len(problem.x), shown=shown) as advance:
        found = [_exact(game, plan, solver, advance) for game, plan in others]
    stop = Interruption()
    for left, game in zip(range(len(drawn), 0, -1), drawn, strict=True):
        mine = solver.deadline.portion(1 / left)
        tolerance = STANDARD_ERROR * unit if solver.tolerance is None else solver.tolerance
        tolerance /= math.sqrt(len(drawn))  # the squares of their errors add up
        found.append(_sampled(problem, game, tolerance, mine, stop))
    stop.warn("attribute", "The standard errors of the values are those of the orders so far")
    return found


def plan_games(
    problem: Problem, cut: Sequence[Game], solver: SolverOptions
) -> list[tuple[Game, str | Expansion]]:
    """Return every game of an output with "enumeration", "sampling" or its expansion in cosines."""
    unit = _range(problem)
    return [(game, _plan(game, solver, unit, share=len(cut))) for game in cut]


def _range(problem: Problem) -> float:
    """Return the range of the output over samples and background, 1 where that is nothing."""
    y = problem.output_in_parts(torch.cat([problem.x, problem.background]))
    width = float(y.amax() - y.amin())
    return width if width > 0 else 1.0


def _plan(game: Game, solver: SolverOptions, unit: float, *, share: int) -> str | Expansion:
    """Choose the algorithm for one of `share` games."""
    asked = solver.algorithm
    time_left = solver.deadline.left / share
    if asked == "enumeration" and game.size > LIMIT:
        expected = f"at most {LIMIT} features in a game for algorithm 'enumeration'"
        advice, got = "Use {algorithm}", str(game.size)
        raise MethodError("attribute", expected, got, advice, algorithm="auto")
    few = asked == "auto" and game.size <= LIMIT
    in_time = few and (time_left == math.inf or enumeration.seconds(game) <= time_left)
    if game.size == 1 or asked == "enumeration" or in_time:
        return "enumeration"
    if asked == "fourier" or (asked == "auto" and game.additive_nodes):
        _check_nodes(game)
        expansion = _expanded(game, solver, unit, share)
        if expansion is not None:
            return expansion
    _check_values_only(game, solver)
    return "sampling"


def _expanded(game: Game, solver: SolverOptions, unit: float, share: int) -> Expansion | None:
    """Return a game in cosines; None where sampling is allowed and does better, as at poles."""
    tolerance = BOUND * unit if solver.tolerance is None else solver.tolerance
    left = solver.deadline.left
    limit = PATIENCE if left == math.inf else left / share
    free = solver.algorithm == "auto" and not solver.interactions
    if free and seconds(game, LEAST * game.model.layers[1].in_features) > limit:
        return None
    try:
        expansion = expand(game, tolerance=tolerance / share)
    except MethodError:
        if free:
            return None
        raise
    poor = expansion.bound > max(tolerance, STANDARD_ERROR * unit) / share
    return None if free and (poor or expansion.seconds > limit) else expansion


def _exact(
    game: Game, plan: str | Expansion, solver: SolverOptions, advance: Callable[[int], None]
) -> Solved:
    """Solve a game without drawing anything."""
    options: dict[str, Any] = {"interactions": solver.interactions, "advance": advance}
    if isinstance(plan, Expansion):
        return game, plan.solve(**options), "in cosines"
    return game, enumeration.enumerated(game, **options), "enumerated"


def _sampled(
    problem: Problem, game: Game, tolerance: float, deadline: Deadline, stop: Interruption
) -> Solved:
    drawn = sampled(
        game,
        tolerance=tolerance,
        deadline=deadline,
        generator=problem.generator,
        progress=problem.progress,
        stop=stop,
    )
    why = "" if drawn.stopped == "tolerance" else f", stopped by {drawn.stopped}"
    return game, drawn, f"sampled in {drawn.permutations} orders{why}"


def _check_nodes(game: Game) -> None:
    """Refuse to write a game in cosines that is no sum of functions of sums."""
    if not game.additive_nodes:
        layers = len(game.model.layers)
        got = "products" if layers == 2 else f"{layers} layer{'s' * (layers > 1)}"
        expected = "a game of two layers without products for algorithm 'fourier'"
        raise MethodError("attribute", expected, got, "Use {algorithm}", algorithm="auto")


def _check_values_only(game: Game, solver: SolverOptions) -> None:
    """Refuse to sample interactions."""
    if solver.interactions:
        expected = f"games of at most {LIMIT} features, or of two layers without products"
        got = f"one of {game.size} features"
        if solver.algorithm == "sampling":
            expected, got = "another algorithm for interactions", "'sampling'"
        advice = "Use {algorithm} on a smaller model", "{method}"
        raise MethodError("attribute", expected, got, *advice, algorithm="auto", method="shapley")
