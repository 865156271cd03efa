"""The result of symbolic regression."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from kanlens._checks import check_choice, check_columns, check_count
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens.data._cell_parsing import as_tensor
from kanlens.data._schema import default_schema
from kanlens.data._tables import Table
from kanlens.errors import InvalidValueError, ShapeError
from kanlens.model._network import Rows, find_output
from kanlens.symbolic._composition import Array, Expr, evaluator, rounded
from kanlens.symbolic._notation import (
    formula_text,
    latex,
    latex_table,
    legend,
    parse_formula,
    text_table,
)
from kanlens.symbolic._pareto_front import READABLE, RULES, choose, front_and_beyond, scores
from kanlens.symbolic._receipt import Receipt
from kanlens.symbolic._simplification import complexity

__all__ = ["Stage", "SymbolicResult", "rounded"]

_DIGITS = 4  # of numbers in the text of an equation
_COLUMNS = ("output", "stage", "equation", "complexity", "loss", "score")  # of a LaTeX table


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SymbolicResult(Displayed):
    """Formulas, one per output, with a record of their accuracy.

    Printed, it lists the formulas and marks the picked one with ``>>>>``.

    Attributes
    ----------
    stages : tuple of Stage
        In any order; `sympy`, `predict` and other methods take an index into them.
    receipt : Receipt
        Accuracy and domain of the picked formulas.
    feature_names, output_names : tuple of str
        Names in the formulas.
    model : KAN or None
        The network with functions on its edges, after the refit, in the dtype of the original;
        None when the formulas were not read from a network. It may lack features that the
        formulas do not need.
    model_selection : {"best", "accuracy", "score"}
        Criterion that picks the formula when no index is given. "best": the highest score among the
        rows with at most 1.5 times the lowest loss; "accuracy": the lowest loss; "score": the
        highest score. A row is picked only if its loss is smaller than that of every shorter
        formula, including the mean. Partial rows, with splines where functions were accepted, are
        picked only if all other rows exceed the limit.
    negligible : tuple of float
        For "best": loss of each output below which rows count as equally accurate; empty for none.
    limit : float or tuple of float
        For "best": largest accepted loss, of all outputs or of each. Among the rows within it,
        those of at most 60 nodes are preferred, and of these, those within 3/4 of it.

    Raises
    ------
    InvalidValueError
        If `model_selection` is unknown.

    Examples
    --------
    >>> x = sympy.Symbol("x")
    >>> rows = [(sympy.Float(0.5), 1.0), (2 * x, 0.01), (2 * x + x**9 / 99, 0.009)]
    >>> stages = tuple(
    ...     Stage(name=str(k), expressions=(formula,), losses=(loss,))
    ...     for k, (formula, loss) in enumerate(rows)
    ... )
    >>> result = SymbolicResult(
    ...     stages=stages, receipt=Receipt(rows=9), feature_names=("x",), output_names=("y",)
    ... )
    >>> result.equations_["equation"].tolist(), result.sympy()
    (['0.5000', '2*x', 'x**9/99 + 2*x'], 2*x)
    """

    stages: tuple[Stage, ...]
    receipt: Receipt
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    model: Any = None
    model_selection: str = "best"
    negligible: tuple[float, ...] = ()
    limit: float | tuple[float, ...] = math.inf

    def __post_init__(self) -> None:
        check_choice("SymbolicResult", "model_selection", self.model_selection, RULES)

    @property
    def equations_(self) -> pd.DataFrame:
        """The Pareto front of complexity and loss of every output, simplest first.

        Partial stages, with splines where functions were accepted, follow at the end where they
        have a smaller loss than all others. The index is that of the stages.

        Columns: output, stage, complexity (nodes of the expression tree, a spline with its
        coefficients), loss (mean squared error over the variance of the target, on rows not fitted
        to, if any), score (fall of the log loss per node, against the row before), equation
        (rounded text; the number of nodes if over 60), sympy_format (Expr).
        """
        fronts = [self._rows(output) for output in range(len(self.output_names))]
        table = [row for rows in fronts for row in rows.values()]
        index = [stage for rows in fronts for stage in rows]
        return pd.DataFrame(table, index=pd.Index(index, name="index"))

    def get_best(self, output: int | str = 0) -> pd.Series:
        """Return the picked row of `equations_` of one output.

        Raises
        ------
        InvalidValueError
            If there is no such output.
        """
        place = self._output(output, "SymbolicResult.get_best")
        chosen = self._picked(place)
        return pd.Series(self._rows(place)[chosen], name=chosen)

    def picked(self) -> tuple[Stage, ...]:
        """Return the stage that is picked for every output."""
        return tuple(self.stages[self._picked(k)] for k in range(len(self.output_names)))

    def sympy(self, index: int | None = None, output: int | str = 0) -> Expr:
        """Return one formula as a sympy expression.

        Parameters
        ----------
        index : int, optional
            Stage, as in the index of `equations_`; default the picked one.
        output : int or str
            Index or name of the output.

        Returns
        -------
        sympy.Expr
            Its Symbols carry the feature names; unlike sympy's own printing, `text` distinguishes a
            column called pi from the number.

        Raises
        ------
        InvalidValueError
            If there is no such stage or output.
        """
        return self._expression(index, output, "SymbolicResult.sympy")

    def text(self, index: int | None = None, output: int | str = 0) -> str:
        """Return one formula as text in full precision, which `parse` reads back."""
        return formula_text(self._expression(index, output, "SymbolicResult.text"), exact=True)

    def parse(self, text: str, index: int | None = None) -> Expr:
        """Parse a formula, resolving the splines of one row of `equations_`.

        Raises
        ------
        InvalidValueError
            If there is no such row.
        DataError
            If the text is not a formula.
        """
        expressions = self._expressions(index, "SymbolicResult.parse")
        kinds = {node.func for e in expressions for node in e.atoms(sympy.Function)}
        return parse_formula(text, {k.__name__: k for k in kinds if hasattr(k, "_imp_")})

    def latex(
        self, index: int | None = None, output: int | str = 0, *, digits: int = _DIGITS
    ) -> str:
        """Return one formula in LaTeX with `digits` significant digits.

        Raises
        ------
        InvalidValueError
            If there is no such stage or output, or `digits` is less than 1.
        """
        check_count("SymbolicResult.latex", "digits", digits)
        return latex(rounded(self._expression(index, output, "SymbolicResult.latex"), digits))

    def latex_table(
        self,
        indices: Sequence[int] | None = None,
        *,
        digits: int = _DIGITS,
        columns: Sequence[str] = ("output", "equation", "complexity", "loss"),
    ) -> str:
        """Return formulas as a LaTeX table for the package booktabs.

        Parameters
        ----------
        indices : sequence of int, optional
            Rows of `equations_`; default all, with the number of nodes if it is over 60.
        digits : int
            Significant digits of numbers in the formulas.
        columns : sequence of str
            Any of output, stage, equation, complexity, loss, score.

        Returns
        -------
        str

        Raises
        ------
        InvalidValueError
            If a row or a column is unknown.
        """
        call = "SymbolicResult.latex_table"
        fronts = [self._rows(place) for place in range(len(self.output_names))]
        for index in indices or ():
            if not any(index in rows for rows in fronts):
                fields = call, "to be rows of equations_", repr(index), "See its index"
                raise InvalidValueError(*fields, argument="indices")
        for column in columns:
            check_choice(call, "columns", column, _COLUMNS)
        cells = [
            {**row, "equation": rf"\mbox{{{row['equation']}}}"}
            if indices is None and row["complexity"] > READABLE
            else {**row, "equation": self.latex(index, place, digits=digits)}
            for place, rows in enumerate(fronts)
            for index, row in rows.items()
            if indices is None or index in indices
        ]
        return latex_table(cells, columns)

    def predict(self, x: Rows, index: int | Sequence[int] | None = None) -> Array:
        """Evaluate the formulas.

        Parameters
        ----------
        x : Tensor, ndarray or DataFrame, shape (batch, in)
            In the units of the data.
        index : int or sequence of int, optional
            Stage, one for all outputs or one for each; default the picked ones.

        Returns
        -------
        ndarray, shape (batch, out)
            float64; NaN or infinite where a formula is undefined.

        Raises
        ------
        ShapeError, DTypeError, DataError
            If `x` is not a table of numbers, or has other columns.
        InvalidValueError
            If there is no such stage.
        """
        expressions = self._expressions(index, "SymbolicResult.predict")
        symbols = tuple(sympy.Symbol(name) for name in self.feature_names)
        rows = self._columns(x)  # each on its own: splines of one name differ between stages
        return np.concatenate([evaluator((e,), symbols)(rows) for e in expressions], axis=1)

    def to_frame(self) -> pd.DataFrame:
        """Return `equations_`."""
        return self.equations_

    def to_json(self) -> str:
        """Return formulas, as from `text`, and receipt as JSON."""
        names = list(enumerate(self.output_names))
        data = {
            "feature_names": self.feature_names,
            "names": legend(self.feature_names),
            "equations": {
                name: [
                    {**row, "sympy_format": self.text(index, place), "index": index}
                    for index, row in self._rows(place).items()
                ]
                for place, name in names
            },
            "picked": {name: self._picked(place) for place, name in names},
            "receipt": {**dataclasses.asdict(self.receipt), "summary": self.receipt.summary()},
        }
        return json.dumps(_plain(data), sort_keys=True)

    def _line(self) -> str:
        names = enumerate(self.output_names)
        return "; ".join(f"{name} = {self.get_best(place)['equation']}" for place, name in names)

    def __str__(self) -> str:
        lines = [f"{type(self).__name__}, model_selection={self.model_selection!r}"]
        lines += filter(None, [legend(self.feature_names)])
        names = enumerate(self.output_names)
        lines += text_table((name, self._picked(k), self._rows(k)) for k, name in names)
        return "\n".join(lines)

    def _output(self, output: int | str, call: str) -> int:
        labels = () if self.model is None else self.model.class_labels
        return find_output(self.output_names, labels, output, call)

    def _expression(self, index: int | None, output: int | str, call: str) -> Expr:
        place = self._output(output, call)
        return self._expressions(index, call)[place]

    def _expressions(self, index: int | Sequence[int] | None, call: str) -> tuple[Expr, ...]:
        """Return one expression per output, picked or of given stages."""
        count = len(self.output_names)
        several = isinstance(index, Sequence) and len(index) == count
        chosen: Any = index if several else [index] * count
        if index is None:
            chosen = [self._picked(place) for place in range(count)]
        for k in chosen:
            whole = isinstance(k, numbers.Integral) and not isinstance(k, bool)
            if not whole or not 0 <= k < len(self.stages):
                expected = f"index from 0 to {len(self.stages) - 1}"
                raise InvalidValueError(call, expected, repr(k), "See the index of equations_")
        return tuple(self.stages[int(k)].expressions[o] for o, k in enumerate(chosen))

    def _columns(self, x: Rows) -> Array:
        call, names = "SymbolicResult.predict", self.feature_names
        width = len(names)
        x = x.frame if isinstance(x, Table) else x
        if hasattr(x, "columns") and hasattr(x, "iloc"):
            same = self.model is not None and self.model.feature_names == names
            plain = default_schema(width, 1, feature_names=names)
            schema: Any = self.model.schema if same else plain
            return np.asarray(schema.encode(x, call=call))
        rows = as_tensor(x, call)
        rows = rows[:, None] if rows.dim() == width == 1 else rows
        if rows.dim() != 2:
            expected, advice = f"x of shape (batch, {width})", "Pass a table: one row per sample"
            raise ShapeError(call, expected, str(tuple(rows.shape)), advice)
        check_columns(call, rows, width, names=names)
        return np.asarray(rows.numpy(force=True), dtype=np.float64)

    def _rows(self, output: int) -> dict[int, dict[str, Any]]:
        """Return the rows of `equations_` of one output by their stage."""
        sizes = [complexity(stage.expressions[output]) for stage in self.stages]
        losses = [stage.losses[output] for stage in self.stages]
        chosen = front_and_beyond(sizes, losses, [stage.partial for stage in self.stages])
        falls = scores([sizes[k] for k in chosen], [losses[k] for k in chosen])
        return {
            k: {
                "output": self.output_names[output],
                "stage": self.stages[k].name,
                "complexity": sizes[k],
                "loss": losses[k],
                "score": score,
                "equation": self._shown(k, output, sizes[k]),
                "sympy_format": self.stages[k].expressions[output],
            }
            for k, score in zip(chosen, falls, strict=True)
        }

    def _shown(self, index: int, output: int, size: int) -> str:
        """Return the rounded text of a formula, or its size if too long."""
        if size > READABLE:
            advice = "see text" if self.model is None else "prune the network, or see text"
            return f"(a formula of {size:,} nodes, too long to read; {advice})"
        return formula_text(rounded(self.stages[index].expressions[output], _DIGITS))

    def _picked(self, output: int) -> int:
        """Return the stage that the rule picks for one output."""
        limit = self.limit[output] if isinstance(self.limit, tuple) else self.limit
        rows = [k for k, stage in enumerate(self.stages) if not stage.partial]
        if not any(self.stages[k].losses[output] <= limit for k in rows):
            rows = list(range(len(self.stages)))
        sizes = [complexity(self.stages[k].expressions[output]) for k in rows]
        losses = [self.stages[k].losses[output] for k in rows]
        negligible = self.negligible[output] if self.negligible else 0.0
        rule = {"negligible": negligible, "limit": limit}
        return rows[choose(sizes, losses, self.model_selection, **rule)]


def _plain(value: object) -> Any:
    """Return values for JSON, with text for infinite numbers and NaN."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """The formulas of all outputs after one step of the search."""

    name: str  # the last step, e.g. "fitted", "refined", "snapped", "2 cuts"
    expressions: tuple[Expr, ...]  # one per output, in symbols that carry the feature names
    losses: tuple[float, ...]  # mean squared error of each over the variance of its target
    partial: bool = False  # whether it has splines where functions were accepted
    snapped: tuple[tuple[str, ...], ...] = ()  # the exact constants put into each
    snap_costs: tuple[tuple[float, ...], ...] = ()  # increase of the loss by each of them
