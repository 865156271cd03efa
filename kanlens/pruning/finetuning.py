"""Training between cuts: a network that has lost edges learns to do without them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import InvalidValueError, TrainingError
from kanlens.model.network import KAN
from kanlens.training.options import Options
from kanlens.training.run import TrainingRun

__all__ = ["HELD_OUT", "Tuner", "check_tunable", "hold_out"]

HELD_OUT = 0.2  # share of the rows that tuning never sees, by which it is judged
LEAST_ROWS = 5


def hold_out(rows: int, generator: torch.Generator | None) -> Tensor:
    """Draw the rows by which tuning is judged, sorted; torch's own generator draws when None.

    Examples
    --------
    >>> len(hold_out(50, torch.Generator()))
    10
    """
    device = "cpu" if generator is None else generator.device
    order = torch.randperm(rows, generator=generator, device=device).cpu()
    return order[: max(1, round(HELD_OUT * rows))].sort().values


class Tuner:
    """Some steps of training without a penalty, kept only where held-out rows agree.

    Parameters
    ----------
    rows, target : Tensor
        All rows of x (batch, in), and what training is told to reach.
    held_out : Tensor of int
        Rows that training does not see; it ends in the state that is best on them.
    steps : int
        Of LBFGS, ten iterations each.
    """

    def __init__(self, rows: Tensor, target: Tensor, held_out: Tensor, steps: int) -> None:
        self.rows, self.target, self.held_out, self.steps = rows, target, held_out, steps

    def tuned(self, model: KAN, loss: Callable[[KAN], float]) -> tuple[KAN, float]:
        """Return a trained copy with its loss, or the model itself where that is no better.

        Parameters
        ----------
        model : KAN
            Left as it is.
        loss : callable
            Returns the loss of a model on the held-out rows.
        """
        before, found = loss(model), copy.deepcopy(model)
        options = Options(steps=self.steps, grid_updates=0, scale=False)
        run = TrainingRun(found, options, self.rows, self.target, torch.Generator())
        try:
            run.begin(self.held_out)
        except TrainingError:  # rows that do not count have a loss that is not finite
            return model, before
        run.go(_ignore)
        after = loss(found)
        found.zero_grad(set_to_none=True)
        return (found, after) if math.isfinite(after) and after < before else (model, before)


def check_tunable(model: KAN, rows: Tensor, y: Any) -> None:
    """Refuse to tune on too few rows, a classifier without labels, or a network that is frozen."""
    if len(rows) < LEAST_ROWS:
        expected, got = f"at least {LEAST_ROWS} rows for finetune", str(len(rows))
        raise InvalidValueError(message("prune", expected, got, "Pass more rows, or finetune=0"))
    if y is None and model.task != "regression":
        expected, got = "y for finetune of a classifier", "none"
        raise InvalidValueError(message("prune", expected, got, "Pass targets, or finetune=0"))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        expected, advice = "parameters to train for finetune", "Unfreeze them, or pass finetune=0"
        raise InvalidValueError(message("prune", expected, "frozen ones", advice))


def _ignore(*_: Any, **__: Any) -> None:
    """Show nothing."""
