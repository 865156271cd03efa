"""How far a formula can be trusted: its distance from the model and from the data, in numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.core.network import KAN
from kanlens.symbolic.composition import Array, Expr, evaluator, feature_symbols
from kanlens.training.objective import classes

_BEYOND = 0.05  # share of each range by which it is extended
_POINTS = 4000  # where the extension is checked
_ROWS_EACH = 10  # rows for every number of a formula that is said to recover y
_RECOVERED = 0.999  # share of the variance of y from which a formula speaks for itself
_FAR = 0.1  # RMSE over the model's deviation at which a formula is another function


@dataclass(frozen=True, kw_only=True, eq=False)
class Receipt:
    """What a formula is worth.

    Attributes
    ----------
    rows : int
        Rows it was compared on.
    max_deviation, mean_deviation : float
        Largest and mean absolute difference from the model, in the units of the output (over
        all outputs; of logits for classification).
    relative_rmse : float
        RMSE against the model over the deviation of the model's output; the worst output.
    rmse, r2 : float or None
        Against y, for regression: of all outputs together, and the mean over the outputs.
    model_r2 : float or None
        R2 of the model against y.
    recovers : bool
        Whether the formula of every output explains 99.9 % of y and no less than the model, on
        at least ten rows for every number in the formulas.
    accuracy, model_accuracy : float or None
        Against y, for classification.
    spline_edges : tuple of str
        Names of the edges in the formula that stayed splines.
    outside_share : float
        Share of rows with a feature outside the range the model was trained on.
    snapped : tuple of str
        The exact constants put in.
    undefined_rows : int
        Rows on which the formula is not finite.
    defined_beyond : bool
        Whether it is finite on points that fill ranges 5 % wider than those of the data, and no
        denominator changes its sign between them.
    """

    rows: int
    max_deviation: float
    mean_deviation: float
    relative_rmse: float
    rmse: float | None = None
    r2: float | None = None
    model_r2: float | None = None
    recovers: bool = False
    accuracy: float | None = None
    model_accuracy: float | None = None
    spline_edges: tuple[str, ...] = ()
    outside_share: float = 0.0
    snapped: tuple[str, ...] = ()
    undefined_rows: int = 0
    defined_beyond: bool = True

    @property
    def trustworthy(self) -> bool:
        """Whether the formula is defined on the data, and follows the model or recovers y."""
        if self.undefined_rows:
            return False
        return self.relative_rmse <= _FAR or self.recovers

    def summary(self) -> str:
        """Say in words how good the formula is and what to beware of."""
        lines = [
            f"Over {self.rows} rows the formula differs from the model by "
            f"{self.mean_deviation:.3g} on average and by {self.max_deviation:.3g} at most "
            f"(RMSE {self.relative_rmse:.2%} of the output's deviation)."
        ]
        if self.r2 is not None:
            lines.append(
                f"Against y: RMSE {self.rmse:.3g}, R2 {self.r2:.6f} (model {self.model_r2:.6f})."
            )
        if self.accuracy is not None:
            lines.append(
                f"Against y: accuracy {self.accuracy:.4f} (model {self.model_accuracy:.4f})."
            )
        if self.snapped:
            lines.append(f"Exact constants: {', '.join(self.snapped)}.")
        if self.spline_edges:
            lines.append(f"Still splines: {', '.join(self.spline_edges)}.")
        return "\n".join(lines + self._warnings())

    def _warnings(self) -> list[str]:
        lines = []
        if self.undefined_rows:
            lines.append(f"WARNING: the formula is not finite on {self.undefined_rows} rows.")
        elif not self.trustworthy:
            lines.append("WARNING: the formula does not follow the model; do not use it for it.")
        elif self.relative_rmse > _FAR:
            lines.append("NOTE: the formula follows y, and not the model, which is further from y.")
        if not self.defined_beyond:
            lines.append(
                "WARNING: the formula is not finite everywhere within 5 % beyond the data's ranges."
            )
        if self.outside_share > 0:
            lines.append(
                f"WARNING: {round(self.outside_share * self.rows)} of {self.rows} rows lie outside "
                "the training ranges."
            )
        return lines


@torch.no_grad()
def examine(
    expressions: tuple[Expr, ...],
    model: KAN,
    x: Tensor,
    y: Tensor | None = None,
    *,
    snapped: tuple[str, ...] = (),
) -> Receipt:
    """Compare a formula with a model, and with targets when there are any.

    Parameters
    ----------
    expressions : tuple of Expr
        One per output, in the symbols of `feature_symbols`.
    model : KAN
        In float64 on the CPU.
    x : Tensor, shape (batch, in)
        In the units of the data.
    y : Tensor, optional
        (batch, out) for regression, (batch,) class codes for classification.
    snapped : tuple of str
        Exact constants in the formula, for the record.

    Returns
    -------
    Receipt
    """
    formula = evaluator(expressions, feature_symbols(model))
    values = formula(x.numpy(force=True))
    output = model(x).numpy(force=True)
    good = np.isfinite(values).all(axis=1)
    gap = np.abs(values - output)[good]
    deviation = output.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    lost = not good.any()
    receipt = Receipt(
        rows=len(values),
        max_deviation=np.inf if lost else float(gap.max()),
        mean_deviation=np.inf if lost else float(gap.mean()),
        relative_rmse=np.inf if lost else _relative_rmse(gap, deviation),
        spline_edges=_spline_names(expressions),
        outside_share=_outside(model, x),
        snapped=snapped,
        undefined_rows=int((~good).sum()),
        defined_beyond=_defined_beyond(expressions, model, x.numpy(force=True)),
    )
    if y is None:
        return receipt
    scores: dict[str, Any] = _against(model, values, output, y.numpy(force=True))
    numbers = _count_numbers(expressions)
    scores["recovers"] = scores.get("recovers", False) and len(values) >= _ROWS_EACH * numbers
    return dataclasses.replace(receipt, **scores)


def _count_numbers(expressions: tuple[Expr, ...]) -> int:
    """Return how many numbers formulas hold, exact ones too: each may have been fitted."""
    import sympy

    nodes = (node for e in expressions for node in sympy.preorder_traversal(e))
    return sum(1 for node in nodes if node.is_number and not node.args)


def _relative_rmse(gap: Array, deviation: Array) -> float:
    return float((np.sqrt(np.square(gap).mean(axis=0)) / deviation).max())


def _against(model: KAN, values: Array, output: Array, y: Array) -> dict[str, Any]:
    """Return the scores of formula and model against y."""
    if model.task == "classification":
        pairs = {"accuracy": values, "model_accuracy": output}
        return {
            name: float((classes(torch.from_numpy(v)).numpy() == y).mean())
            for name, v in pairs.items()
        }
    rmse = float(np.sqrt(np.square(values - y).mean()))
    spread = np.square(y - y.mean(axis=0)).sum(axis=0)
    varies = spread > 0  # R2 says nothing of a constant target
    if not varies.any():
        return {"rmse": rmse}
    ours, models = (
        1 - np.square(v - y).sum(axis=0)[varies] / spread[varies] for v in (values, output)
    )
    recovers = bool(((ours >= _RECOVERED) & (ours >= models)).all())
    r2, model_r2 = float(ours.mean()), float(models.mean())
    return {"rmse": rmse, "r2": r2, "model_r2": model_r2, "recovers": recovers}


def _spline_names(expressions: tuple[Expr, ...]) -> tuple[str, ...]:
    """Return the names of the implemented functions in expressions."""
    import sympy

    found = {
        type(node).__name__
        for expression in expressions
        for node in expression.atoms(sympy.Function)
        if hasattr(node, "_imp_")
    }
    return tuple(sorted(found))


def _outside(model: KAN, x: Tensor) -> float:
    """Return the share of rows with a feature outside the training range."""
    layer, inputs = model.layers[0], model.scale_inputs(x)
    if layer.statistics is None:
        return float(layer.outside(inputs).any(1).double().mean())
    low, high = layer.statistics.input_low.to(inputs), layer.statistics.input_high.to(inputs)
    slack = 1e-6 * (high - low)
    return float(((inputs < low - slack) | (inputs > high + slack)).any(1).double().mean())


def _defined_beyond(expressions: tuple[Expr, ...], model: KAN, x: Array) -> bool:
    """Say whether a formula is finite on points that fill slightly wider ranges.

    Between two points where a denominator has different signs there is a pole, even when no point
    hits it.
    """
    symbols, points = feature_symbols(model), _wider(x)
    if not np.isfinite(evaluator(expressions, symbols)(points)).all():
        return False
    denominators = _denominators(expressions)
    if not denominators:
        return True
    values = evaluator(denominators, symbols)(points)
    return not bool(((values > 0).any(axis=0) & (values < 0).any(axis=0)).any())


def _denominators(expressions: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Return what a formula divides by: bases of negative powers, and cosines under tangents."""
    import sympy

    found: dict[Expr, None] = {}
    for expression in expressions:
        for node in sympy.preorder_traversal(expression):
            if node.is_Pow and node.exp.is_negative and node.base.free_symbols:
                found[node.base] = None
            elif isinstance(node, sympy.tan):
                found[sympy.cos(node.args[0])] = None
    return tuple(found)


def _wider(x: Array) -> Array:
    """Return points in ranges a little wider than those of the data.

    Rows are moved away from the center of the data, and each feature is swept over its range with
    the others as they are in the data.
    """
    low, high = x.min(axis=0), x.max(axis=0)
    room = _BEYOND * (high - low)
    pick = np.linspace(0, len(x) - 1, min(len(x), _POINTS // (2 * x.shape[1]) + 1))
    rows = x[pick.round().astype(int)]
    center = (low + high) / 2
    points = [center + (1 + 2 * _BEYOND) * (rows - center)]
    for column in range(x.shape[1]):
        ends = low[column] - room[column], high[column] + room[column]
        for places in (ends[0], ends[1], np.linspace(*ends, len(rows))):
            moved = rows.copy()
            moved[:, column] = places
            points.append(moved)
    return np.concatenate(points)
