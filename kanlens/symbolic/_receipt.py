"""Validation record of a formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from kanlens.model._network import KAN
from kanlens.symbolic._composition import Array, Expr, evaluator
from kanlens.symbolic._error_budget import BudgetLine, deviations_from
from kanlens.symbolic._simplification import complexity
from kanlens.symbolic._validity import broken_parts, poles, valid_ranges
from kanlens.training._objective import classes, row_losses

RMSE_LIMIT = 0.1  # largest RMSE in standard deviations of the model's output
_ACCURACY_LOSS = 0.02  # largest loss of accuracy
EXPLAINED = 0.999  # least R2 of a formula that explains y
_ROUNDING = 1e-9  # relative error of a constant target that counts as 0
_CONSTANTS = 8  # shown in a summary
_ULPS = 4  # error of an exact fit to targets that vary, in ulps of the largest
# With p numbers fitted to n rows, the share s of the variance of y is left by chance with a
# probability of about s ** ((n - 1 - p) / 2); each operator, function and name costs the bits of
# its choice (J. Rissanen, Modeling by shortest data description, Automatica 14, 1978).
_CHANCE_BITS = 10.0  # by which rows must support a formula: one chance in 1000
_NODE_BITS = 4.0  # of each node that is not a number
_MIN_SHARE = 1e-10  # share of the variance below which a row adds no more bits


@dataclass(frozen=True, kw_only=True, eq=False)
class Receipt:
    """Validation record of a formula.

    Attributes
    ----------
    rows : int
        Rows it was compared on.
    held_out : bool
        Whether it was neither fitted to these rows nor chosen on them.
    chosen_on : bool
        Whether it was chosen on these rows, not fitted to them; the figures are then optimistic.
    fitted_rows : int
        Distinct rows it was fitted to, compared by the features that it contains.
    numbers : int
        Numbers in the formulas, with exact ones and coefficients of splines.
    max_deviation, mean_deviation : float or None
        Largest and mean absolute difference from the model, in the units of the output (over
        all outputs; of logits for classification). None: the formula was not read from a model.
    relative_rmse : float or None
        RMSE against the model over the standard deviation of its output; of the worst output.
    worst_output : str or None
        Name of that output, if there are several.
    loss : float or None
        Against y: mean squared error over the variance of y, mean over the outputs; for
        classification the mean cross-entropy.
    rmse, r2 : float or None
        Against y, for regression: of all outputs together, and the mean over the outputs.
    model_r2 : float or None
        R2 of the model against y.
    explains : bool
        Whether R2 of every output is at least 0.999 and no less than the model's; differences
        within the rounding of y are ignored. The formula need not be the law behind y.
    enough_rows : bool
        Whether a fit to y as close as this is implausible by chance, given the numbers of rows and
        of fitted constants, and the nodes of the formula. Few held-out rows are enough.
    approximate : bool
        Whether no formula was found that explains y up to noise.
    accuracy, model_accuracy : float or None
        Against y, for classification.
    spline_edges : tuple of str
        Names of the edges in the formula that stayed splines.
    outside_share : float
        Share of rows with a feature outside the training range of the model.
    snapped : tuple of str
        The exact constants in place of fitted numbers.
    snap_costs : tuple of float
        Increase of the loss by each, in shares of the variance, after the other numbers were
        refitted; negative where the refit improved them.
    constants : tuple of tuple of float
        The fitted numbers, each with its standard error by the delta method, for errors of equal
        variance; infinite where other numbers can compensate for a change of this one. Empty
        without y, and for classification.
    profiles : tuple of tuple of float
        Ends of the 90% profile interval of each of `constants`, infinite where the data set no
        limit: values at which the formula, with the other numbers refitted, fits nearly as well.
        It also holds if the formula is far from linear; with over 8 numbers it is symmetric.
    undefined_rows : int
        Rows on which the formula is not finite.
    unfollowed_rows : int
        Further rows that are outliers for the formula, left out of its fit and of the figures.
    poles : tuple of str
        Subexpressions that go to infinity on the rows or between them.
    defined_beyond : bool
        Whether it is finite on points within ranges that extend the data's by 5 % each way, and no
        denominator changes its sign between them or comes down to zero near them.
    broken_parts : tuple of str
        Subexpressions that violate `defined_beyond`.
    valid_ranges : dict of str to tuple of float
        Range of each feature in which the formula is defined when only that feature is moved, by
        up to one width of its range, from up to 40 rows and those nearest to undefined ones.
    budget : tuple of BudgetLine
        Contribution of each function edge, the refit and the rewriting to the difference from
        the model.
    mean_difference : tuple of float
        Mean of formula minus model of each output, the sum of the means of the budget. Both are
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
    worst_output: str | None = None
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
    constants: tuple[tuple[float, float], ...] = ()
    profiles: tuple[tuple[float, float], ...] = ()
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
        """True if the formula is defined, and is close to the model or explains y."""
        defined = not (self.undefined_rows or self.poles)
        return defined and (self._follows or (self.explains and self.enough_rows))

    @property
    def _names(self) -> tuple[str, str]:
        """Names of the checked object and of the model that it is compared with."""
        return "formula", "model"

    @property
    def _spread(self) -> str:
        if self.worst_output is None:
            return "output's standard deviation"
        return f"standard deviation of {self.worst_output}, the worst output"

    @property
    def _follows(self) -> bool:
        return self.relative_rmse is not None and self.relative_rmse <= RMSE_LIMIT

    def summary(self) -> str:
        """Return the record as text, warnings last."""
        lines, model = [f"Checked on {self._rows()}."], ""
        name, original = self._names
        if self.mean_deviation is not None:
            lines = [
                f"On {self._rows()}, the {name} differs from the {original} by "
                f"{self.mean_deviation:.3g} on average and by {self.max_deviation:.3g} at most "
                f"(RMSE {self.relative_rmse:.2%} of the {self._spread})."
            ]
        if self.r2 is not None:
            model = "" if self.model_r2 is None else f" (model {self.model_r2:.6f})"
            lines.append(f"Against the targets: RMSE {self.rmse:.3g}, R2 {self.r2:.6f}{model}.")
        if self.accuracy is not None:
            model = f"(model {self.model_accuracy:.4f})"
            lines.append(f"Against the targets: accuracy {self.accuracy:.4f} {model}.")
        if self.snapped:
            cost = ""
            if self.snap_costs:
                cost = f"; the largest increase of the loss is {max(self.snap_costs):.1e}"
            counts = Counter(self.snapped).items()
            texts = (text if n == 1 else f"{text} ({n} times)" for text, n in counts)
            lines.append(f"Exact constants: {', '.join(texts)}{cost}.")
        if numbers := [
            f"{value:.4g} ({error:.2g}; {low:.4g} to {high:.4g})"
            for (value, error), (low, high) in zip(self.constants, self.profiles, strict=True)
        ]:
            more = f" and {len(numbers) - _CONSTANTS} more" * (len(numbers) > _CONSTANTS)
            first = ", ".join(numbers[:_CONSTANTS])
            lines.append(f"Fitted constants (standard errors; 90% intervals): {first}{more}.")
        if self.spline_edges:
            lines.append(f"Edges left as splines: {', '.join(self.spline_edges)}.")
        edges = [line for line in self.budget if line.step.startswith(("edge", "layer"))]
        if edges:
            worst = max(edges, key=lambda line: line.mean_absolute)
            lines.append(
                f"Of the edges, {worst.step} moved the output most: by {worst.mean_absolute:.3g} "
                f"on average and by {worst.max_absolute:.3g} at most."
            )
        return "\n".join([*lines, *self.warnings(), *self._undetermined()])

    __str__ = summary

    def _rows(self) -> str:
        """Return as text the number of rows and their use in the search."""
        if self.chosen_on:
            return f"the {self.rows} rows used to choose it"
        of_model = "" if self.mean_deviation is None else f" (not of the {self._names[1]}'s)"
        return f"{self.rows} rows" + (f" held out of its fit{of_model}" if self.held_out else "")

    def _undetermined(self) -> list[str]:
        sides = {(True, False): " (no lower limit)", (False, True): " (no upper limit)"}
        loose = [
            f"{value:.4g}{sides.get((np.isinf(low), np.isinf(high)), '')}"
            for (value, _), (low, high) in zip(self.constants, self.profiles, strict=True)
            if np.isinf([low, high]).any()
        ]
        count = f"{len(loose)} of {len(self.constants)} constants"
        return [f"NOTE: the data do not determine {count}: {', '.join(loose)}."] if loose else []

    def warnings(self) -> list[str]:
        """Return the warnings and notes of the summary."""
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
            lines.append(
                "NOTE: the formula differs from the model, but is closer to y than the model is."
            )
        if self.unfollowed_rows:
            rows, were = ("row lies", "was") if self.unfollowed_rows == 1 else ("rows lie", "were")
            lines.append(
                f"WARNING: {self.unfollowed_rows} more {rows} far from the formula and {were} left "
                "out of its fit and of these numbers."
            )
        if 0 < self.fitted_rows <= self.numbers:
            lines.append(
                f"WARNING: the formula holds {self.numbers} numbers and was fitted to "
                f"{self.fitted_rows} different rows; other formulas would fit as well."
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
        least = (self.model_accuracy or 0.0) - _ACCURACY_LOSS
        if self.accuracy is not None and self.accuracy >= least:
            return "NOTE: the formula classifies as well as the model, with other probabilities."
        if self.relative_rmse is not None:
            name, model = self._names
            return (
                f"WARNING: the {name} does not follow the {model}; do not use it in place of the "
                f"{model}."
            )
        if self.rmse is None:
            return "WARNING: there was nothing to check the formula against."
        if self.explains:
            return (
                "NOTE: the formula explains y, but other formulas may too: there are too few "
                "different rows."
            )
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
    **attributes: Any,
) -> Receipt:
    """Compare a formula with a model, if any, and with targets, if any.

    The domain of validity includes `x` and, if given, the rows that the formula was `fitted_to`.
    """
    names = (feature_names or ()) if model is None else model.feature_names
    symbols = tuple(sympy.Symbol(name, real=True) for name in names)
    rows = x.numpy(force=True)
    values = evaluator(expressions, symbols)(rows)
    fitted = rows if fitted_to is None else fitted_to.numpy(force=True)
    span = rows if fitted_to is None else np.concatenate((fitted, rows))
    broken = broken_parts(expressions, symbols, span)
    functions = {type(node) for e in expressions for node in e.atoms(sympy.Function)}
    used = np.flatnonzero(np.isin(names, [str(s) for e in expressions for s in e.free_symbols]))
    facts: dict[str, Any] = {
        "rows": len(values),
        "held_out": fitted_to is not None and not chosen_on,
        "chosen_on": chosen_on,
        "fitted_rows": _different(fitted, used),
        "numbers": count_all_numbers(expressions),
        "spline_edges": tuple(sorted(f.__name__ for f in functions if hasattr(f, "spline"))),
        "undefined_rows": int((~np.isfinite(values).all(axis=1)).sum()),
        "poles": poles(expressions, symbols, span),
        "defined_beyond": not broken,
        "broken_parts": broken,
        "valid_ranges": valid_ranges(expressions, symbols, span),
    }
    output: Any = None
    if model is not None:
        output = model(x).numpy(force=True)
        facts |= deviations_from(model, x, values, output)
    if y is not None and model is not None and model.task == "classification":
        facts |= _classification(model, values, output, y)
    elif y is not None and (model is None or model.loss.name not in ("cox", "quantile")):
        if model is not None:
            values, output = map(model.loss.response, (values, output))
        shares, scores = _regression(values, output, y.numpy(force=True))
        different = _different(span if chosen_on else rows, used)
        trusted = enough(expressions, shares, different, held_out=facts["held_out"])
        facts |= {**scores, "enough_rows": trusted}
    return Receipt(**{**facts, **attributes})


def _different(rows: Array, columns: Any) -> int:
    """Return the number of distinct rows in `columns`; of all rows if there are no columns."""
    return len({row.tobytes() for row in rows[:, columns] + 0.0}) if len(columns) else len(rows)


def _classification(model: KAN, values: Array, output: Array, y: Tensor) -> dict[str, float]:
    """Return accuracies and cross-entropy of formula and model."""
    logits, truth = torch.from_numpy(values), y.cpu()
    return {
        "accuracy": float((classes(logits) == truth).double().mean()),
        "model_accuracy": float((classes(torch.from_numpy(output)) == truth).double().mean()),
        "loss": float(row_losses(model, logits, truth).mean()),
    }


@np.errstate(all="ignore")  # where the formula is not finite
def _regression(values: Array, output: Array | None, y: Array) -> tuple[Array, dict[str, Any]]:
    """Return the unexplained shares of variance (out,), and a dict of scores."""
    size = np.abs(y).max(axis=0)
    unit = np.where(size > 0, size, 1.0)  # squares neither overflow nor vanish
    gap, level = (values - y) / unit, y / unit
    distance, largest = np.abs(gap).max(axis=0), float(unit.max())
    scores = {"rmse": float(np.sqrt(np.square(gap * unit / largest).mean())) * largest}
    varies = np.ptp(level, axis=0) > 0  # a constant target has no R2
    constants_met = bool((distance <= _ROUNDING * (size > 0))[~varies].all())
    spread = np.square(level - level.mean(axis=0)).sum(axis=0)
    shares = np.where(varies, np.square(gap).sum(axis=0) / np.where(varies, spread, 1.0), 0.0)
    if not varies.any():
        return shares, {**scores, "explains": constants_met}
    exact = distance <= _ULPS * np.finfo(np.float64).eps
    explains = exact | (1 - shares >= EXPLAINED)
    if output is not None:
        models = np.square(output / unit - level).sum(axis=0) / np.where(varies, spread, 1.0)
        explains &= exact | (shares <= models)
        scores["model_r2"] = float((1 - models)[varies].mean())
    r2 = float((1 - shares)[varies].mean())
    explained = constants_met and bool(explains[varies].all())
    return shares, {**scores, "r2": r2, "loss": 1 - r2, "explains": explained}


def enough(
    expressions: tuple[Expr, ...], shares: Array, rows: int, *, held_out: bool = False
) -> bool:
    """Return whether such a fit by chance is implausible for this number of rows."""
    for expression, share in zip(expressions, shares, strict=True):
        numbers = count_all_numbers((expression,))
        spent, nodes = (0, 0) if held_out else (numbers, complexity(expression) - numbers)
        saved_bits = (rows - 1 - spent) / 2 * -np.log2(np.clip(share, _MIN_SHARE, 1.0))
        if not saved_bits >= _CHANCE_BITS + _NODE_BITS * nodes:
            return False
    return True


def count_all_numbers(expressions: tuple[Expr, ...]) -> int:
    """Return the count of numbers in formulas, exact ones too."""
    nodes = [node for e in expressions for node in sympy.preorder_traversal(e)]
    plain = sum(1 for node in nodes if node.is_number and not node.args)
    return plain + sum(getattr(type(node), "numbers", 0) for node in nodes)
