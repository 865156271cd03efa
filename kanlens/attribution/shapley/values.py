"""Shapley values and interactions of an output, game by game."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from kanlens.attribution.additive import contributions
from kanlens.attribution.problem import MEAN_OUTPUT, Parts, Problem
from kanlens.attribution.shapley.games import Solution, games, players
from kanlens.attribution.shapley.solver import ALGORITHMS, Algorithm, Solved, Terms, solve
from kanlens.checks import check_choice, check_positive, message
from kanlens.deadlines import Deadline
from kanlens.errors import MethodError

Groups = Literal["features", "columns"]


def shapley(
    problem: Problem,
    *,
    groups: Groups = "features",
    algorithm: Algorithm = "auto",
    tolerance: float | None = None,
    time_limit: float | None = None,
) -> Parts:
    """Return interventional Shapley values [1]_ [2]_ [3]_: each coalition against each row.

    One layer: f_i(x_i) - mean of f_i over the background. Deeper, the last layer adds up functions
    of nodes, each of which is a game of the features that can move it alone.

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
        cosines, whose values are known, and bounds the error. "sampling" draws orders of the
        players and estimates the error. "auto": the first of these that can, except those that
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
    Parts
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
    if time_limit is not None:
        check_positive("attribute", "time_limit", time_limit)
    deadline = Deadline.after(time_limit)
    terms = Terms(algorithm=algorithm, tolerance=tolerance, deadline=deadline)
    return _parts(problem, groups, terms)


def interactions(
    problem: Problem,
    *,
    groups: Groups = "features",
    algorithm: Algorithm = "auto",
    tolerance: float | None = None,
) -> Parts:
    """Return Shapley values and the Shapley interaction index [1]_ of every two features.

    It is the mean, over coalitions S of the others, weighted as in the Shapley value, of
    v(S with both) - v(S with the one) - v(S with the other) + v(S). It is exactly 0 for features
    that move no node together.

    Parameters
    ----------
    problem : Problem
        With a background.
    groups, algorithm, tolerance
        As for `shapley`; interactions are not sampled, and those in cosines have twice the bound of
        the values.

    Returns
    -------
    Parts
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
    terms = Terms(algorithm=algorithm, tolerance=tolerance, interactions=True)
    return _parts(problem, groups, terms)


def _parts(problem: Problem, groups: Groups, terms: Terms) -> Parts:
    """Solve every game, and add up what the players get."""
    check_choice("attribute", "groups", groups, ["columns", "features"])
    check_choice("attribute", "algorithm", terms.algorithm, ALGORITHMS)
    if terms.tolerance is not None:
        check_positive("attribute", "tolerance", terms.tolerance)
    names, member = players(problem, by_column=groups == "columns")
    if problem.additive:
        total, remark = _closed_form(problem, member), "closed form: a sum of functions"
    else:
        solved = solve(problem, games(problem, member), terms)
        total, remark = _sum(problem, member, solved), _remark(solved, groups)
    reference = problem.expected_output()
    _check_finite(total.values, reference)
    return Parts(
        values=total.values,
        reference=reference,
        baseline=MEAN_OUTPUT,
        features=names if groups == "columns" else None,
        standard_error=total.standard_error,
        bound=total.bound,
        interactions=_with_main_effects(total) if terms.interactions else None,
        evaluations=total.evaluations,
        remark=remark,
    )


def _check_finite(values: Tensor, reference: float) -> None:
    """Refuse a game in which a coalition is worth NaN or infinity."""
    bad = ~torch.isfinite(values).all(1)
    if bool(bad.any()) or not math.isfinite(reference):
        expected = "finite outputs where samples and background rows are mixed"
        got = "NaN or infinity in the background"
        if math.isfinite(reference):
            got = f"NaN or infinity for sample {int(bad.nonzero()[0])}"
        advice = "Choose background rows that keep every function in its domain"
        raise MethodError(message("attribute", expected, got, advice))


def _closed_form(problem: Problem, member: Tensor) -> Solution:
    """Solve an output that is a sum of functions of single features."""
    change = contributions(problem, problem.x) - contributions(problem, problem.background).mean(0)
    return Solution(values=change @ member, evaluations=1.0)


def _sum(problem: Problem, member: Tensor, solved: Sequence[Solved]) -> Solution:
    """Return what all players get in all games; those in no game get exactly 0."""
    shape = len(problem.x), member.shape[1]

    def added(found: Callable[[Solution], Tensor | None]) -> Tensor | None:
        parts = [(one.game.players, found(one.solution)) for one in solved]
        return _added(member, shape, [(who, part) for who, part in parts if part is not None])

    values = added(lambda part: part.values)
    variance = added(lambda part: None if part.standard_error is None else part.standard_error**2)
    return Solution(
        values=member.new_zeros(shape) if values is None else values,
        pairs=added(lambda part: part.pairs),
        bound=added(lambda part: part.bound),
        standard_error=None if variance is None else variance.sqrt(),
        evaluations=sum(one.solution.evaluations for one in solved),
    )


def _added(
    like: Tensor, shape: tuple[int, int], parts: Sequence[tuple[Tensor, Tensor]]
) -> Tensor | None:
    """Add up what players of games have (batch, player), or pairs of them; None of nothing."""
    if not parts:
        return None
    if parts[0][1].dim() == 2:
        total = like.new_zeros(shape)
        for who, part in parts:
            total[:, who] += part
        return total
    total = like.new_zeros(*shape, shape[1])
    for who, part in parts:
        total[:, who[:, None], who] += part
    return total


def _with_main_effects(total: Solution) -> Tensor:
    """Return pairs with main effects on the diagonal, shape (batch, player, player).

    A main effect is a value less half of the player's interactions.
    """
    if total.pairs is None:
        return total.values.diag_embed()
    return total.pairs + (total.values - total.pairs.sum(2) / 2).diag_embed()


def _remark(solved: Sequence[Solved], groups: Groups) -> str:
    """Say which games were solved, and how."""
    counts = Counter((one.how, one.game.size) for one in solved)
    said = [
        f"{count} game{'s' * (count > 1)} of {size} {groups if size > 1 else groups[:-1]} {how}"
        for (how, size), count in counts.items()
    ]
    return ", ".join(said) or f"no {groups[:-1]} can change the output"
