"""What training minimises, and the number people judge it by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kanlens.core.network import KAN
from kanlens.sparsity import penalty_value


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of a model on rows, in the scaled units of its output, and its penalty.

    Attributes
    ----------
    model : KAN
        The model.
    penalty : str or None
        Key into ``kanlens.sparsity.PENALTIES``.
    strength : float
        Factor of the penalty.
    entropy_weight : float
        Factor of the entropy inside the penalty.
    """

    model: KAN
    penalty: str | None = None
    strength: float = 0.0
    entropy_weight: float = 2.0

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss over rows: squared error over the output scale, or cross-entropy."""
        return task_loss(self.model, self.model(x), y)

    def penalty_term(self) -> Tensor:
        """Return `strength` times the penalty; zero without one."""
        if self.penalty is None or self.strength == 0.0:
            return torch.zeros((), dtype=self.model.dtype)
        value = penalty_value(
            tuple(self.model.layers), self.penalty, entropy_weight=self.entropy_weight
        )
        return self.strength * value


def task_loss(model: KAN, output: Tensor, y: Tensor) -> Tensor:
    """Return the loss of outputs against targets, for the model's task.

    Parameters
    ----------
    model : KAN
        Gives task and output scale.
    output : Tensor, shape (batch, out)
        In the units of the data; logits for classification.
    y : Tensor
        (batch, out) in the units of the data, or (batch,) class codes.

    Returns
    -------
    Tensor, shape ()

    Examples
    --------
    >>> task_loss(KAN([1, 1]), torch.ones(4, 1), torch.zeros(4, 1))
    tensor(1.)
    """
    if model.task == "regression":
        return ((output - y) / model.output_scale).square().mean()
    if output.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(output[:, 0], y.to(output.dtype))
    return F.cross_entropy(output, y)


@torch.no_grad()
def score(model: KAN, output: Tensor, y: Tensor) -> float:
    """Return R2 (mean over the outputs whose target varies) or accuracy of outputs against targets.

    R2 is NaN when no target varies.

    Examples
    --------
    >>> y = torch.tensor([[0.0], [1.0]])
    >>> score(KAN([1, 1]), y, y)
    1.0
    """
    if model.task == "classification":
        return float((classes(output) == y).double().mean())
    y = y.double()
    error = (output.double() - y).square().mean(0)
    spread = y.var(0, correction=0)
    varies = spread > (torch.finfo(output.dtype).eps * y.abs().amax(0)).square()
    return float((1 - error / spread)[varies].mean())


def classes(output: Tensor) -> Tensor:  # (batch, out) -> (batch,)
    """Return the class code of the largest logit, or of a single logit's sign."""
    return (output[:, 0] > 0).long() if output.shape[1] == 1 else output.argmax(1)


def metric_name(model: KAN) -> str:
    """Return the name of what `score` returns."""
    return "accuracy" if model.task == "classification" else "R2"
