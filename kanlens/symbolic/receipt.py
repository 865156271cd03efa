"""Validation record of a formula: fidelity to the model, accuracy on held-out data.

With p numbers fitted to n rows, the share s of the variance of y is left by chance with a
probability of about s ** ((n - 1 - p) / 2); each operator, function and name costs the bits of its
choice [1]_. Rows that had no part in fitting and choosing pay neither.

References
----------
.. [1] J. Rissanen, Modeling by shortest data description, Automatica 14, 1978.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from kanlens.model.network import KAN
from kanlens.symbolic.composition import Array, Expr, evaluator
from kanlens.symbolic.error_budget import BudgetLine
from kanlens.symbolic.simplification import complexity
from kanlens.symbolic.validity import broken_parts, poles, valid_ranges
from kanlens.training.objective import classes, row_losses

_FAR = 0.1  # RMSE over the model's deviation at which a formula is another function
_LESS = 0.02  # accuracy below that of a model, at which classes are told about as well
EXPLAINED = 0.999  # R2 from which a formula explains y
_ROUNDING = 1e-9  # relative distance from a constant target that counts as none
_ULPS = 4  # of the largest target: distance from any other that counts as none
_CHANCE = 10.0  # bits by which rows must speak for a formula: one chance in 1000
_NODE = 4.0  # bits of each of its nodes that is no number
_FINEST = 1e-10  # share of the variance below which a row tells no more


@dataclass(frozen=True, kw_only=True, eq=False)
class Receipt:
    """Validation record of a formula.

    Attributes
    ----------
    rows : int
        Rows it was compared on.
    held_out : bool
        Whether these rows had no part in it: it was neither fitted to nor chosen on them.
    chosen_on : bool
        Whether these rows, which it was not fitted to, chose it among others; that flatters it.
    fitted_rows : int
        Rows it was fitted to that differ in the features it holds.
    numbers : int
        Numbers in the formulas, exact ones and coefficients of splines among them.
    max_deviation, mean_deviation : float or None
        Largest and mean absolute difference from the model, in the units of the output (over
        all outputs; of logits for classification). None: the formula was not read from a model.
    relative_rmse : float or None
        RMSE against the model over the deviation of the model's output; the worst output.
    loss : float or None
        Against y: mean squared error over the variance of y, mean over the outputs; for
        classification the mean cross-entropy.
    rmse, r2 : float or None
        Against y, for regression: of all outputs together, and the mean over the outputs.
    model_r2 : float or None
        R2 of the model against y.
    explains : bool
        Whether R2 of every output is at least 0.999 and no less than that of the model; what
        rounding of y leaves open counts as explained. It need not be the law behind y.
    enough_rows : bool
        Whether so close a fit to y by chance is out of the question: rows beyond the numbers
        in the formula, times what each tells, outweigh the nodes that were chosen. Rows held
        out had no part in either, so that a few are enough.
    approximate : bool
        Whether the search for it ended without a formula that leaves nothing, or only noise.
    accuracy, model_accuracy : float or None
        Against y, for classification.
    spline_edges : tuple of str
        Names of the edges in the formula that stayed splines.
    outside_share : float
        Share of rows with a feature outside the range the model was trained on.
    snapped : tuple of str
        The exact constants put in.
    snap_costs : tuple of float
        By how much each raised the loss, in shares of the variance, after the other numbers had
        been refitted; negative where the refit found better ones.
    undefined_rows : int
        Rows on which the formula is not finite.
    unfollowed_rows : int
        Other rows, far off from all that the formula follows: it was not fitted to them, and the
        figures are without them.
    poles : tuple of str
        The parts that go to infinity on the rows or between them.
    defined_beyond : bool
        Whether it is finite on points that fill ranges 5 % wider than those of the data, and no
        denominator changes its sign between them or comes down to zero near them.
    broken_parts : tuple of str
        The parts of the formula that are not.
    valid_ranges : dict of str to tuple of float
        How far each feature can be moved alone, up to one width of its range to either side,
        before the formula is undefined; the others as they are in some rows, those where it comes
        closest to that among them.
    budget : tuple of BudgetLine
        What each edge that became a function, the refit and the rewriting added to the difference
        from the model.
    mean_difference : tuple of float
        Mean of formula minus model of each output; the means of the budget add up to it. Both are
        over at most 5000 rows, those that are finite after every step.
    """

    rows: int
    held_out: bool = False
    chosen_on: bool = False
    fitted_rows: int = 0
    numbers: int = 0
    max_deviation: float | None = None
    mean_deviation: float | None = None
    relative_rmse: float | None = None
    loss: float | None = None
    rmse: float | None = None
    r2: float | None = None
    model_r2: float | None = None
    explains: bool = False
    enough_rows: bool = False
    approximate: bool = False
    accuracy: float | None = None
    model_accuracy: float | None = None
    spline_edges: tuple[str, ...] = ()
    outside_share: float = 0.0
    snapped: tuple[str, ...] = ()
    snap_costs: tuple[float, ...] = ()
    undefined_rows: int = 0
    unfollowed_rows: int = 0
    poles: tuple[str, ...] = ()
    defined_beyond: bool = True
    broken_parts: tuple[str, ...] = ()
    valid_ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    budget: tuple[BudgetLine, ...] = ()
    mean_difference: tuple[float, ...] = ()

    @property
    def trustworthy(self) -> bool:
        """Whether it is defined on the data, and follows the model or explains enough rows."""
        defined = not (self.undefined_rows or self.poles)
        return defined and (self._follows or (self.explains and self.enough_rows))

    @property
    def _follows(self) -> bool:
        return self.relative_rmse is not None and self.relative_rmse <= _FAR

    def summary(self) -> str:
        """Say in words how good the formula is and what to beware of."""
        lines, model = [f"Checked on {self._rows()}."], ""
        if self.mean_deviation is not None:
            lines = [
                f"Over {self._rows()} the formula differs from the model by "
                f"{self.mean_deviation:.3g} on average and by {self.max_deviation:.3g} at most "
                f"(RMSE {self.relative_rmse:.2%} of the output's deviation)."
            ]
        if self.r2 is not None:
            model = "" if self.model_r2 is None else f" (model {self.model_r2:.6f})"
            lines.append(f"Against the targets: RMSE {self.rmse:.3g}, R2 {self.r2:.6f}{model}.")
        if self.accuracy is not None:
            model = f"(model {self.model_accuracy:.4f})"
            lines.append(f"Against the targets: accuracy {self.accuracy:.4f} {model}.")
        if self.snapped:
            cost = f"; the dearest cost {max(self.snap_costs):.1e}" if self.snap_costs else ""
            counts = Counter(self.snapped).items()
            each = ", ".join(text if n == 1 else f"{text} ({n} times)" for text, n in counts)
            lines.append(f"Exact constants: {each}{cost}.")
        if self.spline_edges:
            lines.append(f"Still splines: {', '.join(self.spline_edges)}.")
        edges = [line for line in self.budget if line.step.startswith(("edge", "layer"))]
        if edges:
            worst = max(edges, key=lambda line: line.mean_absolute)
            lines.append(
                f"Of the edges, {worst.step} moved the output most: by {worst.mean_absolute:.3g} "
                f"on average and by {worst.max_absolute:.3g} at most."
            )
        return "\n".join([*lines, *self.warnings()])

    __str__ = summary

    def _rows(self) -> str:
        """Return which rows these are."""
        if self.chosen_on:
            return f"the {self.rows} rows that chose it"
        of_model = "" if self.mean_deviation is None else " (not of the model's)"
        return f"{self.rows} rows" + (f" kept out of its fit{of_model}" if self.held_out else "")

    def warnings(self) -> list[str]:
        """Return the lines of the summary that warn, or note what a reader may overlook."""
        lines: list[str] = []
        part = "" if self.loss is None else f", which leaves {self.loss:.1e} of the variance of y"
        if self.undefined_rows:
            lines.append(f"WARNING: the formula is not finite on {self.undefined_rows} rows.")
        elif self.poles:
            pole = self.poles[0]
            lines.append(f"WARNING: the formula goes to infinity between the rows: {pole}.")
        elif self.approximate:
            lines.append(f"NOTE: the formula is an approximation{part}; no exact one was found.")
        elif not self.trustworthy:
            lines.append(self._distrust())
        elif self.relative_rmse is not None and not self._follows:
            lines.append("NOTE: the formula follows y, and not the model, which is further from y.")
        if self.unfollowed_rows:
            rows, them = ("row lies", "it") if self.unfollowed_rows == 1 else ("rows lie", "them")
            lines.append(
                f"WARNING: {self.unfollowed_rows} more {rows} far from the formula; it was not "
                f"fitted to {them}, and the figures are without {them}."
            )
        if 0 < self.fitted_rows <= self.numbers:
            lines.append(
                f"WARNING: the formula holds {self.numbers} numbers and was fitted to "
                f"{self.fitted_rows} different rows; others would fit as well."
            )
        if not self.defined_beyond:
            lines.append(
                "WARNING: the formula is not finite everywhere within 5 % beyond the data's ranges."
            )
            lines += [f"Not defined there: {part}." for part in self.broken_parts[:3]]
        if self.outside_share > 0:
            lines.append(
                f"WARNING: {round(self.outside_share * self.rows)} of {self.rows} rows lie outside "
                "the training ranges."
            )
        return lines

    def _distrust(self) -> str:
        if self.accuracy is not None and self.accuracy >= (self.model_accuracy or 0.0) - _LESS:
            return "NOTE: the formula tells the classes about as well as the model, not their odds."
        if self.relative_rmse is not None:
            return "WARNING: the formula does not follow the model; do not use it for it."
        if self.rmse is None:
            return "WARNING: there was nothing to check the formula against."
        if self.explains:
            return "NOTE: the formula explains y, but others may: there are too few different rows."
        return "NOTE: the formula leaves a part of y unexplained, noise or structure."


@torch.no_grad()
def examine(
    expressions: tuple[Expr, ...],
    model: KAN | None,
    x: Tensor,
    y: Tensor | None = None,
    *,
    feature_names: Sequence[str] | None = None,
    fitted_to: Tensor | None = None,
    chosen_on: bool = False,
    **known: Any,
) -> Receipt:
    """Compare a formula with a model, and with targets when there are any.

    Without a model `feature_names` are needed. When `x` are other rows than the formula was
    `fitted_to`, its domain of validity is that of both, and `chosen_on` says whether they chose it.
    `known` are other attributes of the receipt.
    """
    names = (feature_names or ()) if model is None else model.feature_names
    symbols = tuple(sympy.Symbol(name, real=True) for name in names)
    rows = x.numpy(force=True)
    values = evaluator(expressions, symbols)(rows)
    good = np.isfinite(values).all(axis=1)
    fitted = rows if fitted_to is None else fitted_to.numpy(force=True)
    span = rows if fitted_to is None else np.concatenate((fitted, rows))
    broken = broken_parts(expressions, symbols, span)
    functions = {type(node) for e in expressions for node in e.atoms(sympy.Function)}
    held = np.flatnonzero(np.isin(names, [str(s) for e in expressions for s in e.free_symbols]))
    facts: dict[str, Any] = {
        "rows": len(values),
        "held_out": fitted_to is not None and not chosen_on,
        "chosen_on": chosen_on,
        "fitted_rows": _different(fitted, held),
        "numbers": count_all_numbers(expressions),
        "spline_edges": tuple(sorted(f.__name__ for f in functions if hasattr(f, "spline"))),
        "undefined_rows": int((~good).sum()),
        "poles": poles(expressions, symbols, span),
        "defined_beyond": not broken,
        "broken_parts": broken,
        "valid_ranges": valid_ranges(expressions, symbols, span),
    }
    output = None
    if model is not None:
        output = model(x).numpy(force=True)
        facts |= {**_distances(values, output, good), "outside_share": _outside(model, x)}
    if y is not None:
        facts |= against(model, values, output, y.numpy(force=True))
        shares = facts.pop("shares", None)
        n_rows = _different(span if chosen_on else rows, held)
        facts["enough_rows"] = shares is not None and enough(
            expressions, shares, n_rows, held_out=facts["held_out"]
        )
    return Receipt(**{**facts, **known})


def _different(rows: Array, held: Any) -> int:
    """Count the rows that differ in some features; all where there are none."""
    return len({row.tobytes() for row in rows[:, held] + 0.0}) if len(held) else len(rows)


def _distances(values: Array, output: Array, good: Array) -> dict[str, float]:
    """Return how far a formula is from a model on the rows where it is finite."""
    if not good.any():
        return dict.fromkeys(("max_deviation", "mean_deviation", "relative_rmse"), np.inf)
    gap, deviation = np.abs(values - output)[good], output.std(axis=0)
    deviation = np.where(deviation > 1e-12 * np.abs(output).max(axis=0), deviation, 1.0)
    relative = float((np.sqrt(np.square(gap).mean(axis=0)) / deviation).max())
    return {
        "max_deviation": float(gap.max()),
        "mean_deviation": float(gap.mean()),
        "relative_rmse": relative,
    }


def _outside(model: KAN, x: Tensor) -> float:
    """Return the share of rows with a feature outside the training range."""
    if model.feature_range is None:
        return float(model.outside(x).any(1).double().mean())
    low, high = model.feature_range
    slack = 1e-6 * (high - low)
    return float(((x < low - slack) | (x > high + slack)).any(1).double().mean())


def against(model: KAN | None, values: Array, output: Array | None, y: Array) -> dict[str, Any]:
    """Return the scores of formula and model, (batch, out) each, against y, as in the receipt.

    `shares` (out,) is what is left of the variance of each output. y may be class codes (batch,).
    """
    if model is not None and model.task == "classification":
        logits, truth = torch.from_numpy(values), torch.from_numpy(y)
        return {
            "accuracy": float((classes(logits) == truth).double().mean()),
            "model_accuracy": float((classes(torch.from_numpy(output)) == truth).double().mean()),
            "loss": float(row_losses(model, logits, truth).mean()),
        }
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
    expressions: tuple[Expr, ...], shares: Array, rows: int, *, held_out: bool = False
) -> bool:
    """Return whether there are enough rows to rule out that a formula fits by chance."""
    for expression, share in zip(expressions, shares, strict=True):
        numbers = count_all_numbers((expression,))
        spent, nodes = (0, 0) if held_out else (numbers, complexity(expression) - numbers)
        saved_bits = (rows - 1 - spent) / 2 * -np.log2(np.clip(share, _FINEST, 1.0))
        if not saved_bits >= _CHANCE + _NODE * nodes:
            return False
    return True


def count_all_numbers(expressions: tuple[Expr, ...]) -> int:
    """Return how many numbers formulas hold, exact ones too: each may have been fitted."""
    nodes = [node for e in expressions for node in sympy.preorder_traversal(e)]
    plain = sum(1 for node in nodes if node.is_number and not node.args)
    return plain + sum(getattr(type(node), "numbers", 0) for node in nodes)
