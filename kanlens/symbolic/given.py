"""What `symbolize` is given: a model in double precision, rows of each part, and the goal."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from kanlens.checks import check_rows, message, warn_of_distant
from kanlens.encoding import prepare_target
from kanlens.errors import DataError
from kanlens.model.network import KAN
from kanlens.symbolic.assignment import Goal
from kanlens.symbolic.joint_refit import relative_loss
from kanlens.symbolic.partition import places_of

if TYPE_CHECKING:
    from kanlens.model.network import Rows

Given: TypeAlias = tuple[Any, Any]  # x and y as a user passes them
Pair: TypeAlias = tuple[Tensor, Tensor | None]
_INDEPENDENT = 60  # values of a network's output that count as independent


class Parts(NamedTuple):
    """Rows with their targets: fitted to; those that choose, and that only judge, if any."""

    fitted: Pair
    choosing: Pair | None
    judging: Pair | None

    def all_choosing(self) -> Parts:
        """Return these parts when the rows that judge choose too."""
        x, y = zip(*(pair for pair in (self.choosing, self.judging) if pair), strict=True)
        joined = torch.cat(x), None if y[0] is None else torch.cat(y)
        return Parts(fitted=self.fitted, choosing=joined, judging=None)


def parts_of(model: KAN, data: Given, tests: Given, choosing: Pair | None, generator: Any) -> Parts:
    """Return the rows of each part, as a model in float64 takes them."""
    x, y = prepared(model, *data)
    judging = None
    if tests[0] is not None:
        judging = prepared(model, *tests)
    elif tests[1] is not None:
        advice = "Pass the rows that y_test belongs to"
        raise DataError(message("symbolize", "x_test with y_test", "None", advice))
    given = choosing is not None
    fitted, others, rest = places_of(x, generator, split=not given, judging=judging is None)
    pairs = [(x[k], None if y is None else y[k]) if len(k) else None for k in (others, rest)]
    return Parts(
        fitted=(x[fitted], None if y is None else y[fitted]),
        choosing=choosing if given else pairs[0],
        judging=judging or pairs[1],
    )


def prepared(
    model: KAN, x: Rows, y: Any, *, call: str = "symbolize"
) -> tuple[Tensor, Tensor | None]:
    """Return x and y as a model in float64 takes them."""
    rows = model.prepare(x, call=call).detach()
    check_rows(call, rows, least=2)
    if not torch.isfinite(model(rows).square()).all():
        expected, got = "a model with finite outputs", "NaN, or numbers too large to be squared"
        advice = "Train the model again, or leave out the rows on which it overflows"
        raise DataError(message(call, expected, got, advice))
    if y is None:
        return rows, None
    target = prepare_target(model, y, len(rows), call=call).cpu()
    if model.task == "regression":
        names, numbers, left = model.output_names, range(len(rows)), "such rows are left out"
        near = warn_of_distant(call, names, target, numbers, consequence=left)
        rows, target = rows[near], target[near]
    return rows, target


def in_double(model: KAN) -> KAN:
    """Return a copy of a model in float64 on the CPU."""
    return copy.deepcopy(model).cpu().double().eval()


def goal_of(model: KAN, parts: Parts, r2_min: float) -> Goal:
    """Return what the formula is fitted to, what chooses it, and the loss it may have."""
    x, target = target_of(model, parts.fitted)
    follows = parts.fitted[1] is None or model.task != "regression"
    return Goal(
        x=x,
        target=target,
        limit=limit_of(model, x, target, r2_min),
        independent=_INDEPENDENT if follows else None,
        choosing=target_of(model, parts.choosing) if parts.choosing else None,
    )


def target_of(model: KAN, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return x and what a formula should give there: y, or the outputs of the model."""
    x, y = pair
    return x, y if y is not None and model.task == "regression" else model(x)


def limit_of(model: KAN, x: Tensor, target: Tensor, r2_min: float) -> float:
    """Return the largest loss that is accepted of a formula of a model."""
    return max(relative_loss(model(x), target) + (1 - r2_min), 1e-10)
