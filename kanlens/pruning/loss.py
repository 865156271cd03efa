"""Loss of a network during pruning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kanlens.checks import message, warn_of_distant
from kanlens.encoding import prepare_target
from kanlens.errors import MethodError
from kanlens.model.network import KAN
from kanlens.training.objective import constant_loss, task_loss

FLOOR = 1e-6  # smallest rise of the loss a budget allows, in parts of that of the best constant


class LossEvaluator:
    """Loss during pruning: against targets, or the original outputs (distillation).

    Without y it is the mean square of the output's change over its variance. `floor` is the rise
    that a budget other than 0 always allows, `target` what training is told to reach, for all rows.
    """

    @torch.no_grad()
    def __init__(
        self, model: KAN, first: Tensor, y: Any = None, *, rows: Tensor | None = None, call: str
    ) -> None:
        if not bool(torch.isfinite(first).all()):
            advice = "Leave out the rows where it is not"
            raise MethodError(message(call, "finite outputs on x", "NaN or infinity", advice))
        self.against_targets, self.floor, self._model = y is not None, FLOOR, model
        self._rows = slice(None) if rows is None else rows
        if y is None:
            self.target = first
            judged = first[self._rows]
            spread, size = judged.var(0, correction=0), judged.abs().amax(0)
            varies = spread > (10 * torch.finfo(judged.dtype).eps * size).square()
            constant = torch.where(size > 0, size.square(), 1.0)
            self._scale = torch.where(varies, spread, constant)
        else:
            self.target = prepare_target(model, y, len(first), call=call)
            if model.task == "regression":
                warn_of_distant(call, model.output_names, self.target, range(len(first)))
        self._wanted = self.target[self._rows]
        if y is not None:
            self.floor *= constant_loss(model, self._wanted, self._wanted)
        self.first_loss = self.loss(first)

    def loss(self, output: Tensor) -> float:
        """Return the loss of an output (batch, out), given for all rows."""
        judged = output[self._rows]
        if self.against_targets:
            return float(task_loss(self._model, judged, self._wanted))
        return float(((judged - self._wanted).square() / self._scale).mean())

    def allowed(self, budget: float) -> float:
        """Return the largest loss within a budget."""
        if budget == 0:
            return self.first_loss
        rise = budget * (self.first_loss if self.against_targets else 1.0)
        return self.first_loss + max(rise, self.floor)
