"""The optimizer of a training run."""

from __future__ import annotations

import torch
from torch import nn

from kanlens.training.footprint import HISTORY
from kanlens.training.options import Options

LBFGS_ITERATIONS = 10  # of the optimizer, in one step


def new_optimizer(parameters: list[nn.Parameter], options: Options) -> torch.optim.Optimizer:
    """Return the optimizer that was chosen, with nothing in its memory.

    Examples
    --------
    >>> type(new_optimizer([nn.Parameter(torch.zeros(1))], Options())).__name__
    'LBFGS'
    """
    if options.optimizer == "lbfgs":
        return torch.optim.LBFGS(
            parameters,
            lr=options.rate,
            max_iter=LBFGS_ITERATIONS,
            history_size=HISTORY,
            tolerance_grad=1e-14,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )
    if options.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=options.rate)
    return torch.optim.AdamW(parameters, lr=options.rate, weight_decay=options.weight_decay)
