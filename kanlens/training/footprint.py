"""What training takes in memory, and training that does not fit refused before it begins."""

from __future__ import annotations

from torch import Tensor

from kanlens.memory import check_memory
from kanlens.model.network import KAN
from kanlens.training.options import Options

HISTORY = 20  # steps and slopes that LBFGS keeps
REFIT = 3000  # numbers that moving the grid of one input takes; measured: 3900
VALUES = 5  # numbers kept for one input of a layer and one row; measured: 6 to 12


def check_footprint(model: KAN, options: Options, x: Tensor) -> None:
    """Refuse to train on x (batch, in) where weights, optimizer and hidden values do not fit.

    Only what is sure to be taken counts: measured from 10 to 2000 rows and up to 200,000 nodes,
    training takes 1.2 to 1.5 times as much. Memory of other devices is not looked at.

    Raises
    ------
    InvalidValueError
        If it is more than there is.

    Examples
    --------
    >>> import torch
    >>> check_footprint(KAN([2, 1]), Options(), torch.zeros(9, 2))
    """
    if x.device.type != "cpu":
        return
    weights = sum(parameter.numel() for parameter in model.parameters())
    copies = 3 + 2 * (HISTORY if options.optimizer == "lbfgs" else 1)
    widest = max(layer.in_features for layer in model.layers)
    points = (REFIT if options.grid_updates else 0) + VALUES * len(x)
    needed = x.element_size() * (copies * weights + points * widest)
    what = f"training of {list(model.widths)} on {len(x):,} rows"
    check_memory("fit", needed, what, "Take fewer nodes or rows")
