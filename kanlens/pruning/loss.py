"""What the output of a network costs while it is being pruned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kanlens.checks import message, warn_of_distant
from kanlens.encoding import prepare_target
from kanlens.errors import MethodError
from kanlens.model.network import KAN
from kanlens.training.objective import constant_loss, task_loss

__all__ = ["FLOOR", "Judge"]

FLOOR = 1e-6  # smallest rise of the loss a budget allows, in parts of that of the best constant


class Judge:
    """The loss of outputs on some rows: against y, else against what the model said at first.

    Parameters
    ----------
    model : KAN
        Gives task and output scale.
    first : Tensor, shape (batch, out)
        Its output before anything is removed.
    y : optional
        Targets, as for `fit`. Without, the loss is the mean square of the output's change over its
        variance.
    rows : Tensor of int, optional
        The rows that count; all when None.
    call : str
        The public call, for error messages.

    Attributes
    ----------
    first_loss : float
        Loss of `first`.
    floor : float
        Rise of the loss that a budget other than 0 always allows: 1e-6 of the loss of the best
        constant, which is the variance of y, or the entropy of its classes in nats.
    target : Tensor
        What training would be told to reach, for all rows.

    Examples
    --------
    >>> Judge(KAN([1, 1]), torch.ones(4, 1), torch.zeros(4, 1), call="prune").first_loss
    1.0
    """

    @torch.no_grad()
    def __init__(
        self, model: KAN, first: Tensor, y: Any = None, *, rows: Tensor | None = None, call: str
    ) -> None:
        if not bool(torch.isfinite(first).all()):
            advice = "Leave out the rows where it is not"
            raise MethodError(message(call, "finite outputs on x", "NaN or infinity", advice))
        self.against_targets, self.rows, self.floor = y is not None, rows, FLOOR
        self._model = model
        if y is None:
            self.target = first
            self._scale = _variance(first if rows is None else first[rows])
        else:
            self.target = prepare_target(model, y, len(first), call=call)
            if model.task == "regression":
                warn_of_distant(call, model.output_names, self.target, range(len(first)))
        self._wanted = self._judged(self.target)
        if y is not None:
            self.floor *= constant_loss(model, self._wanted, self._wanted)
        self.first_loss = self.loss(first)

    def _judged(self, values: Tensor) -> Tensor:
        return values if self.rows is None else values[self.rows]

    def loss(self, output: Tensor) -> float:
        """Return the loss of an output (batch, out), given for all rows."""
        judged = self._judged(output)
        if self.against_targets:
            return float(task_loss(self._model, judged, self._wanted))
        return float(((judged - self._wanted).square() / self._scale).mean())

    def allowed(self, budget: float) -> float:
        """Return the largest loss within a budget."""
        if budget == 0:
            return self.first_loss
        rise = budget * (self.first_loss if self.against_targets else 1.0)
        return self.first_loss + max(rise, self.floor)


def _variance(output: Tensor) -> Tensor:  # (out,)
    """Return the variance of every output; of a constant one its square, or 1."""
    spread, size = output.var(0, correction=0), output.abs().amax(0)
    varies = spread > (10 * torch.finfo(output.dtype).eps * size).square()
    return torch.where(varies, spread, torch.where(size > 0, size.square(), 1.0))
