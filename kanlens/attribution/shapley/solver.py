"""Which algorithm solves a game, and the call of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from kanlens.attribution.problem import Problem
from kanlens.attribution.shapley import enumeration
from kanlens.attribution.shapley.cosines import LEAST
from kanlens.attribution.shapley.fourier import Expansion, expand, seconds
from kanlens.attribution.shapley.games import LIMIT, Game, Solution
from kanlens.attribution.shapley.sampling import sampled
from kanlens.checks import message
from kanlens.deadlines import NEVER, Deadline
from kanlens.errors import MethodError
from kanlens.interruption import Interruption
from kanlens.progress import progress_bar

Algorithm = Literal["auto", "enumeration", "fourier", "sampling"]
ALGORITHMS = ("auto", "enumeration", "fourier", "sampling")
BOUND, STANDARD_ERROR = 1e-6, 1e-2  # of the range of the output, unless others are asked for
PATIENCE = 300.0  # seconds of work for one game, beyond which "auto" samples it


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How games are to be solved: the options of `shapley`, and whether pairs are wanted."""

    algorithm: Algorithm
    tolerance: float | None = None
    deadline: Deadline = NEVER
    interactions: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """A game, its solution, and how that was found, in a few words."""

    game: Game
    solution: Solution
    how: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """What is to be done with a game; with its expansion where that is in cosines."""

    game: Game
    algorithm: str
    expansion: Expansion | None = None


def solve(problem: Problem, cut: Sequence[Game], terms: Terms) -> list[Solved]:
    """Solve all games of an output.

    Parameters
    ----------
    problem : Problem
        Whose output was cut.
    cut : sequence of Game
    terms : Terms

    Returns
    -------
    list of Solved
        Games that are sampled last.

    Raises
    ------
    MethodError
        If an algorithm cannot solve a game.
    """
    unit = _range(problem)
    plans = [_plan(game, terms, unit, share=len(cut)) for game in cut]
    drawn = [plan for plan in plans if plan.algorithm == "sampling"]
    others = [plan for plan in plans if plan.algorithm != "sampling"]
    shown = problem.progress if others else False  # sampling shows its own
    with progress_bar("shapley", len(others) * len(problem.x), shown=shown) as advance:
        found = [_exact(plan, terms, advance) for plan in others]
    stop = Interruption()
    for left, plan in zip(range(len(drawn), 0, -1), drawn, strict=True):
        mine = terms.deadline.portion(1 / left)
        tolerance = STANDARD_ERROR * unit if terms.tolerance is None else terms.tolerance
        tolerance /= math.sqrt(len(drawn))  # the squares of their errors add up
        found.append(_sampled(problem, plan, tolerance, mine, stop))
    stop.warn("attribute", "The standard errors of the values are those of the orders so far")
    return found


def _range(problem: Problem) -> float:
    """Return the range of the output over samples and background, 1 where that is nothing."""
    y = problem.output_in_parts(torch.cat([problem.x, problem.background]))
    width = float(y.amax() - y.amin())
    return width if width > 0 else 1.0


def _plan(game: Game, terms: Terms, unit: float, *, share: int) -> _Plan:
    """Choose the algorithm for one of `share` games; a player alone has just two coalitions."""
    asked = terms.algorithm
    time_left = terms.deadline.left / share
    if game.size == 1 or asked == "enumeration" or _enumerates(game, asked, time_left):
        _check_size(game)
        return _Plan(game=game, algorithm="enumeration")
    if asked == "fourier" or (asked == "auto" and game.additive_nodes):
        _check_nodes(game)
        expansion = _expanded(game, terms, unit, share)
        if expansion is not None:
            return _Plan(game=game, algorithm="fourier", expansion=expansion)
    _check_values_only(game, terms)
    return _Plan(game=game, algorithm="sampling")


def _enumerates(game: Game, asked: str, time_left: float) -> bool:
    """Tell whether all coalitions of a game are few enough, and gone through in time."""
    if asked != "auto" or game.size > LIMIT:
        return False
    return time_left == math.inf or enumeration.seconds(game) <= time_left


def _expanded(game: Game, terms: Terms, unit: float, share: int) -> Expansion | None:
    """Return a game in cosines; None where sampling is allowed and does better.

    It does where a function has poles, or jumps that cosines follow slowly, and where players,
    samples and background rows are so many that it takes long.
    """
    tolerance = BOUND * unit if terms.tolerance is None else terms.tolerance
    left = terms.deadline.left
    limit = PATIENCE if left == math.inf else left / share
    free = terms.algorithm == "auto" and not terms.interactions
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


def _exact(plan: _Plan, terms: Terms, advance: Callable[[int], None]) -> Solved:
    """Solve a game without drawing anything."""
    if plan.expansion is not None:
        solution = plan.expansion.solve(interactions=terms.interactions, advance=advance)
        return Solved(game=plan.game, solution=solution, how="in cosines")
    solution = enumeration.enumerated(plan.game, interactions=terms.interactions, advance=advance)
    return Solved(game=plan.game, solution=solution, how="enumerated")


def _sampled(
    problem: Problem, plan: _Plan, tolerance: float, deadline: Deadline, stop: Interruption
) -> Solved:
    """Solve a game by sampling."""
    drawn = sampled(
        plan.game,
        tolerance=tolerance,
        deadline=deadline,
        generator=problem.generator,
        progress=problem.progress,
        stop=stop,
    )
    solution = Solution(
        values=drawn.values,
        standard_error=drawn.standard_error,
        evaluations=drawn.evaluations,
    )
    why = "" if drawn.stopped == "tolerance" else f", stopped by {drawn.stopped}"
    how = f"sampled in {drawn.permutations} orders{why}"
    return Solved(game=plan.game, solution=solution, how=how)


def _check_size(game: Game) -> None:
    """Refuse to enumerate too many coalitions."""
    if game.size > LIMIT:
        expected = f"at most {LIMIT} features in a game for algorithm='enumeration'"
        advice = "Use algorithm='auto'"
        raise MethodError(message("attribute", expected, str(game.size), advice))


def _check_nodes(game: Game) -> None:
    """Refuse to write a game in cosines that is no sum of functions of sums."""
    if not game.additive_nodes:
        layers = len(game.model.layers)
        got = "products" if layers == 2 else f"{layers} layer{'s' * (layers > 1)}"
        expected = "a game of two layers without products for algorithm='fourier'"
        raise MethodError(message("attribute", expected, got, "Use algorithm='auto'"))


def _check_values_only(game: Game, terms: Terms) -> None:
    """Refuse to sample interactions."""
    if terms.interactions:
        expected = f"games of at most {LIMIT} features, or of two layers without products"
        got = f"one of {game.size} features"
        if terms.algorithm == "sampling":
            expected, got = "another algorithm for interactions", "'sampling'"
        advice = "Use algorithm='auto' on a smaller model, or method='shapley'"
        raise MethodError(message("attribute", expected, got, advice))
