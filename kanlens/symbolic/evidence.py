"""How much of y a formula explains, and whether that many rows can tell it from chance.

A formula that leaves the share s of the variance of y on n rows, with p numbers fitted to them,
would do so by chance with a probability of about s ** ((n - 1 - p) / 2). It was found among many:
each operator, function and name in it costs the bits of the choice [1]_. Rows that
had no part in fitting and choosing pay neither.

References
----------
.. [1] J. Rissanen, Modeling by shortest data description, Automatica 14, 1978.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kanlens.model.network import KAN
from kanlens.symbolic.composition import Array, Expr
from kanlens.symbolic.simplification import complexity
from kanlens.training.objective import classes, row_losses

EXPLAINED = 0.999  # R2 from which a formula explains y
_ROUNDING = 1e-9  # relative distance from a constant target that counts as none
_ULPS = 4  # of the largest target: distance from any other that counts as none
_CHANCE = 10.0  # bits by which rows must speak for a formula: one chance in 1000
_NODE = 4.0  # bits of each of its nodes that is no number
_FINEST = 1e-10  # share of the variance below which a row tells no more


def against(model: KAN | None, values: Array, output: Array | None, y: Array) -> dict[str, Any]:
    """Return the scores of formula and model against y.

    Parameters
    ----------
    model : KAN or None
    values : ndarray, shape (batch, out)
        Of the formula.
    output : ndarray, shape (batch, out), or None
        Of the model.
    y : ndarray, shape (batch, out), or (batch,) of class codes

    Returns
    -------
    dict
        Attributes of the receipt, and `shares` (out,), what is left of the variance of each output.
    """
    if model is not None and model.task == "classification":
        pairs = {"accuracy": values, "model_accuracy": output}
        scores: dict[str, Any] = {
            name: float((classes(torch.from_numpy(v)).numpy() == y).mean())
            for name, v in pairs.items()
        }
        entropy = row_losses(model, torch.from_numpy(values), torch.from_numpy(y)).mean()
        return {**scores, "loss": float(entropy)}
    with np.errstate(all="ignore"):  # where the formula is not finite
        return _regression(values, output, y)


def _regression(values: Array, output: Array | None, y: Array) -> dict[str, Any]:
    size = np.abs(y).max(axis=0)
    unit = np.where(size > 0, size, 1.0)  # squares neither overflow nor vanish
    gap, level = (values - y) / unit, y / unit
    far, largest = np.abs(gap).max(axis=0), float(unit.max())
    scores = {"rmse": float(np.sqrt(np.square(gap * unit / largest).mean())) * largest}
    varies = np.ptp(level, axis=0) > 0  # R2 says nothing of a constant target
    met = bool((far <= _ROUNDING * (size > 0))[~varies].all())
    spread = np.square(level - level.mean(axis=0)).sum(axis=0)
    shares = np.where(varies, np.square(gap).sum(axis=0) / np.where(varies, spread, 1.0), 0.0)
    if not varies.any():
        return {**scores, "explains": met, "shares": shares}
    exact = far <= _ULPS * np.finfo(np.float64).eps
    explains = exact | (1 - shares >= EXPLAINED)
    if output is not None:
        models = np.square(output / unit - level).sum(axis=0) / np.where(varies, spread, 1.0)
        explains &= exact | (shares <= models)
        scores["model_r2"] = float((1 - models)[varies].mean())
    r2 = float((1 - shares)[varies].mean())
    return {
        **scores,
        "r2": r2,
        "loss": 1 - r2,
        "explains": met and bool(explains[varies].all()),
        "shares": shares,
    }


def enough(
    expressions: tuple[Expr, ...],
    shares: Array,
    rows: int,
    *,
    fitted: bool = True,
    chosen: bool = True,
) -> bool:
    """Say whether rows tell every formula from those that would fit as well by chance.

    Parameters
    ----------
    expressions : tuple of Expr
        One per output.
    shares : ndarray, shape (out,)
        Of the variance of y that each leaves.
    rows : int
    fitted, chosen : bool
        Whether numbers were fitted to these rows, and formulas chosen on them.

    Returns
    -------
    bool

    Examples
    --------
    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> [enough((2 * x**2 + 1,), np.zeros(1), rows) for rows in (4, 5, 6, 7)]
    [False, False, True, True]
    """
    for expression, share in zip(expressions, shares, strict=True):
        numbers = count_all_numbers((expression,))
        spent, nodes = numbers if fitted else 0, complexity(expression) - numbers
        needed = _CHANCE + (_NODE * nodes if chosen else 0.0)
        told = (rows - 1 - spent) / 2 * -np.log2(np.clip(share, _FINEST, 1.0))
        if not told >= needed:
            return False
    return True


def count_all_numbers(expressions: tuple[Expr, ...]) -> int:
    """Return how many numbers formulas hold, exact ones too: each may have been fitted.

    Examples
    --------
    >>> import sympy
    >>> count_all_numbers((2.5 * sympy.Symbol("x") ** 2 + sympy.pi,))
    3
    """
    import sympy

    nodes = [node for e in expressions for node in sympy.preorder_traversal(e)]
    plain = sum(1 for node in nodes if node.is_number and not node.args)
    return plain + sum(getattr(type(node), "numbers", 0) for node in nodes)
