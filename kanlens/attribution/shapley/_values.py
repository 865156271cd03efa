"""Shapley values and interactions of an output: the algorithm for each game, and their sum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_positive
from kanlens._runtime import NEVER, Deadline, Interruption, progress_bar
from kanlens.attribution._direct_methods import contributions
from kanlens.attribution._problem import Baseline, LocalValues, Problem, method
from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley._cosines import MIN_COSINES
from kanlens.attribution.shapley._fourier import Expansion, seconds
from kanlens.attribution.shapley._games import LIMIT, Game, Solution, games, players
from kanlens.attribution.shapley._permutation_sampling import sampled
from kanlens.errors import MethodError

Groups = Literal["features", "columns"]
Algorithm = Literal["auto", "enumeration", "fourier", "sampling"]
Solved: TypeAlias = tuple[Game, Solution, str]  # with the algorithm's name
ALGORITHMS = get_args(Algorithm)
BOUND, STANDARD_ERROR = 1e-6, 1e-2  # default tolerances, in ranges of the output
MAX_EXACT_SECONDS = 300.0  # seconds of work for one game, beyond which "auto" samples it


@dataclass(frozen=True, kw_only=True)
class SolverOptions:
    """The options of `shapley`, and whether interactions are wanted."""

    algorithm: Algorithm
    tolerance: float | None = None
    deadline: Deadline = NEVER
    interactions: bool = False


@method(exact=True, complete=True, together=True)  # tolerance and time limit cover all samples
def shapley(
    problem: Problem,
    *,
    groups: Groups = "features",
    algorithm: Algorithm = "auto",
    tolerance: float | None = None,
    time_limit: float | None = None,
) -> LocalValues:
    """Exact Shapley values, node by node: closed forms, coalitions, cosine series.

    They are interventional [1]_ [2]_ [3]_: absent features come from background rows. One layer:
    f_i(x_i) - mean of f_i over the background. Deeper networks are a sum over the nodes of the last
    hidden layer, each a game (a function of sets of features) of the features that affect it.

    Parameters
    ----------
    groups : {"features", "columns"}
        Players: features, or table columns with all their one-hot features.
    algorithm : {"auto", "enumeration", "fourier", "sampling"}
        How games of several players are solved. "enumeration" of all coalitions of at most 14
        players is exact. "fourier" expands the second of two layers in cosines, whose values are
        known, and bounds the error. "sampling" draws permutations and estimates the error. "auto":
        the first of these that applies and would keep the time limit, or five minutes for
        "fourier".
    tolerance : float, optional
        In units of the output: wanted bound of the values for "fourier", wanted standard error for
        "sampling". Default: 1e-6 and 1e-2 of the range of the output over samples and background.
    time_limit : float, optional
        In seconds, for "sampling" and "auto". Where it is too short for all pairs of samples and
        background rows, each sample is compared with some rows only, at least eight, and the
        standard errors include that. Compiling kernels, some seconds on the first call on a
        machine, is not limited.

    Returns
    -------
    LocalValues
        Counted from the mean output over the background; `remark` names the algorithm.

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
    return _solved(problem, groups, solver)


@method(exact=True, complete=True)
def interactions(
    problem: Problem,
    *,
    groups: Groups = "features",
    algorithm: Algorithm = "auto",
    tolerance: float | None = None,
) -> LocalValues:
    """Exact Shapley values, with the interaction of every pair of features.

    The Shapley interaction index [1]_ of i and j is the mean, over coalitions S of the others with
    Shapley weights, of v(S with i and j) - v(S with i) - v(S with j) + v(S); v(S) is the mean
    output with S from the sample and the rest from the background. It is exactly 0 for features
    that affect no node in common.

    Parameters
    ----------
    groups, algorithm, tolerance
        As for `shapley`; interactions are not sampled, and with `algorithm` "fourier" they have
        twice the bound of the values.

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
    return _solved(problem, groups, solver)


def _solved(problem: Problem, groups: Groups, solver: SolverOptions) -> LocalValues:
    """Solve every game, and add up the values of the players."""
    check_choice("attribute", "groups", groups, ["columns", "features"])
    check_choice("attribute", "algorithm", solver.algorithm, ALGORITHMS)
    if solver.tolerance is not None:
        check_positive("attribute", "tolerance", solver.tolerance)
    names, member = players(problem, by_column=groups == "columns")
    if problem.additive:
        mean = contributions(problem, problem.background).mean(0)
        values = (contributions(problem, problem.x) - mean) @ member
        total = Solution(values=values, evaluations=1.0)
        remark = "closed form: a sum of functions"
    else:
        solved = solve(problem, games(problem, member), solver)
        total, remark = _sum(problem, member, solved), _remark(solved, groups)
    both = None  # pairs, and on the diagonal values less half of the pairs
    if solver.interactions:
        pairs = 0.0 if total.pairs is None else total.pairs
        own = total.values if total.pairs is None else total.values - total.pairs.sum(2) / 2
        both = pairs + own.diag_embed()
    result = problem.local(
        total.values,
        Baseline.MEAN_OUTPUT,
        features=names if groups == "columns" else None,
        standard_error=total.standard_error,
        bound=total.bound,
        interactions=both,
        evaluations=total.evaluations,
        remark=remark,
    )
    _check_finite(result, problem.first)
    return result


def _check_finite(result: LocalValues, first: int) -> None:
    """Refuse a game in which a coalition is worth NaN or infinity."""
    bad = ~torch.isfinite(result.values).all(1)
    if math.isfinite(result.reference) and not bool(bad.any()):
        return
    expected = "finite outputs where samples and background rows are mixed"
    where = "in the background"
    if math.isfinite(result.reference):
        where = f"for sample {first + int(bad.nonzero()[0])}"
    advice = "Choose background rows that keep every function in its domain"
    raise MethodError("attribute", expected, f"NaN or infinity {where}", advice)


def _sum(problem: Problem, member: Tensor, solved: Sequence[Solved]) -> Solution:
    """Return the sum over games of the values of players; players without a game get exactly 0."""
    totals: dict[str, Any] = {"values": member.new_zeros(len(problem.x), member.shape[1])}
    for game, part, _ in solved:
        who = game.players
        for name in ("values", "bound", "pairs", "standard_error"):
            values = getattr(part, name)
            if values is None:
                continue
            shape = (len(values), *member.shape[1:] * (values.dim() - 1))
            total = totals.setdefault(name, member.new_zeros(shape))
            place = (slice(None), who[:, None], who) if values.dim() == 3 else (slice(None), who)
            total[place] += values**2 if name == "standard_error" else values
    if "standard_error" in totals:  # variances add up
        totals["standard_error"].sqrt_()
    return Solution(**totals, evaluations=sum(part.evaluations for _, part, _ in solved))


def _remark(solved: Sequence[Solved], groups: Groups) -> str:
    """Return the number, size and algorithm of the games, in words."""
    counts = Counter((how, game.size) for game, _, how in solved)
    parts = [
        f"{count} game{'s' * (count > 1)} of {size} {groups if size > 1 else groups[:-1]} {how}"
        for (how, size), count in counts.items()
    ]
    return ", ".join(parts) or f"no {groups[:-1]} can change the output"


def solve(problem: Problem, cut: Sequence[Game], solver: SolverOptions) -> list[Solved]:
    """Solve all games of an output; those that are sampled come last."""
    unit, solved, plans = _range(problem), list[Solved](), plan_games(problem, cut, solver)
    drawn = [game for game, plan in plans if plan == "sampling"]
    others = [(game, plan) for game, plan in plans if plan != "sampling"]
    shown = problem.progress if others else False  # sampling shows its own
    with progress_bar("shapley", len(others) * len(problem.x), shown=shown) as advance:
        options: dict[str, Any] = {"interactions": solver.interactions, "advance": advance}
        for game, plan in others:
            if isinstance(plan, Expansion):
                solved.append((game, plan.solve(**options), "in cosines"))
            else:
                solved.append((game, enumeration.enumerated(game, **options), "enumerated"))
    stop = Interruption()
    for left, game in zip(range(len(drawn), 0, -1), drawn, strict=True):
        deadline = solver.deadline.portion(1 / left)
        tolerance = STANDARD_ERROR * unit if solver.tolerance is None else solver.tolerance
        tolerance /= math.sqrt(len(drawn))  # the squares of their errors add up
        how: dict[str, Any] = {"tolerance": tolerance, "deadline": deadline, "stop": stop}
        part = sampled(game, generator=problem.generator, progress=problem.progress, **how)
        why = "" if part.stopped == "tolerance" else f", stopped by {part.stopped}"
        solved.append((game, part, f"sampled in {part.permutations} orders{why}"))
    stop.warn("attribute", "Values and standard errors are those of the samples so far")
    return solved


def plan_games(
    problem: Problem, cut: Sequence[Game], solver: SolverOptions
) -> list[tuple[Game, str | Expansion]]:
    """Return the games of an output with "enumeration", "sampling" or a cosine expansion each."""
    unit = _range(problem)
    return [(game, _plan(game, solver, unit, share=len(cut))) for game in cut]


def _range(problem: Problem) -> float:
    """Return the range of the output over samples and background, 1 where it is constant."""
    y = problem.output_in_parts(torch.cat([problem.x, problem.background]))
    width = float(y.amax() - y.amin())
    return width if width > 0 else 1.0


def _plan(game: Game, solver: SolverOptions, unit: float, *, share: int) -> str | Expansion:
    """Choose the algorithm for one of `share` games."""
    algorithm, time_left = solver.algorithm, solver.deadline.left / share
    if algorithm == "enumeration" and game.size > LIMIT:
        expected = f"at most {LIMIT} features in a game for algorithm 'enumeration'"
        got = str(game.size)
        raise MethodError("attribute", expected, got, "Use {algorithm}", algorithm="auto")
    few = algorithm == "auto" and game.size <= LIMIT
    in_time = few and (time_left == math.inf or enumeration.seconds(game) <= time_left)
    if game.size == 1 or algorithm == "enumeration" or in_time:
        return "enumeration"
    if algorithm == "fourier" and not game.additive_nodes:
        layers = len(game.model.layers)
        got = "products" if layers == 2 else f"{layers} layer{'s' * (layers > 1)}"
        expected = "a game of two layers without products for algorithm 'fourier'"
        raise MethodError("attribute", expected, got, "Use {algorithm}", algorithm="auto")
    if algorithm != "sampling" and game.additive_nodes:
        expansion = _expanded(game, solver, unit, share)
        if expansion is not None:
            return expansion
    if solver.interactions:
        expected = f"games of at most {LIMIT} features, or of two layers without products"
        got, advice = f"one of {game.size} features", "Use {algorithm} on a smaller model"
        if algorithm == "sampling":
            expected, got = "another algorithm for interactions", "'sampling'"
        ways = {"algorithm": "auto", "method": "shapley"}
        raise MethodError("attribute", expected, got, advice, "{method}", **ways)
    return "sampling"


def _expanded(game: Game, solver: SolverOptions, unit: float, share: int) -> Expansion | None:
    """Return the cosine expansion of a game; None where sampling is better, as at poles."""
    tolerance = BOUND * unit if solver.tolerance is None else solver.tolerance
    left = solver.deadline.left
    limit = MAX_EXACT_SECONDS if left == math.inf else left / share
    free = solver.algorithm == "auto" and not solver.interactions
    if free and seconds(game, MIN_COSINES * game.model.layers[1].in_features) > limit:
        return None
    try:
        expansion = Expansion(game, tolerance=tolerance / share)
    except MethodError:
        if free:
            return None
        raise
    poor = expansion.bound > max(tolerance, STANDARD_ERROR * unit) / share
    return None if free and (poor or expansion.seconds > limit) else expansion
