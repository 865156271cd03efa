"""The result of symbolic regression on a network: formulas, the model they come from, a receipt."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy

from kanlens.checks import check_choice, check_columns, check_count
from kanlens.data.cell_parsing import as_tensor
from kanlens.data.schema import default_schema
from kanlens.display import Displayed
from kanlens.errors import InvalidValueError, ShapeError
from kanlens.model.network import find_output
from kanlens.symbolic.composition import Array, Expr, evaluator, rounded
from kanlens.symbolic.front import READABLE, RULES, choose, front_and_beyond, scores
from kanlens.symbolic.notation import (
    formula_text,
    latex,
    latex_table,
    legend,
    parse_formula,
    text_table,
)
from kanlens.symbolic.receipt import Receipt
from kanlens.symbolic.simplification import complexity

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.model.network import Rows
    from kanlens.symbolic.torch_formula import TorchFormula

__all__ = ["Stage", "SymbolicResult", "rounded"]

_DIGITS = 4  # of numbers in the text of an equation


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SymbolicResult(Displayed):
    """Formulas, one per output, with all that is known of their worth.

    Printed, it lists the formulas and marks the picked one with ``>>>>``.

    Attributes
    ----------
    stages : tuple of Stage
        In any order; an index into them is what `sympy`, `predict` and the others take.
    receipt : Receipt
        How far the picked formulas can be trusted.
    feature_names, output_names : tuple of str
        Names in the formulas.
    model : KAN or None
        The network with functions on its edges, after the refit, in the dtype of the network it
        was made from; None when the formulas were not read from a network. It may have lost
        features that the formulas do not need.
    model_selection : {"best", "accuracy", "score"}
        How the formula is picked when no index is given: the highest score among the rows with at
        most 1.5 times the least loss; the least loss; the highest score. Only rows that have a
        smaller loss than all shorter ones, the mean among them, are picked. Steps on the way, in
        which splines stand where functions were accepted, are picked only where the loss of all
        other rows is above the limit.
    negligible : tuple of float
        For "best": loss of each output up to which rows are equally close; empty for none.
    limit : float or tuple of float
        For "best": rows with a larger loss, of all outputs or of each, are not picked while there
        is another; of those with a smaller loss, rows of at most 60 nodes are preferred.

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
        """The front of complexity and loss of every output, simplest first.

        Steps on the way, with splines where functions were accepted, follow at the end where
        they have a smaller loss than all others.

        Columns: output, stage, complexity (nodes of the expression tree, a spline with its
        coefficients), loss (mean squared error over the variance of the target, on the rows that
        choose: those not fitted to, if any), score (fall of the log loss per node of complexity,
        against the row before), equation (text, rounded; names as `text` writes them; of more
        than 60 nodes only their number),
        sympy_format (Expr). The index is that of the stage, as `sympy` and the others take it.
        """
        import pandas as pd

        fronts = [self._rows(output) for output in range(len(self.output_names))]
        table = [row for rows in fronts for row in rows.values()]
        index = [stage for rows in fronts for stage in rows]
        return pd.DataFrame(table, index=pd.Index(index, name="index"))

    def get_best(self, output: int | str = 0) -> pd.Series:
        """Return the picked row of `equations_` of one output; its name is the index.

        Raises
        ------
        InvalidValueError
            If there is no such output.
        """
        import pandas as pd

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
            Its Symbols carry the feature names, whatever else these mean; `text` tells a column
            called pi from the number, which sympy's own printing does not.

        Raises
        ------
        InvalidValueError
            If there is no such stage or output.
        """
        return self._one(index, output, "SymbolicResult.sympy")

    def text(self, index: int | None = None, output: int | str = 0) -> str:
        """Return one formula as text in full precision, which `parse` reads back.

        Names that are no plain words, or that sympy reads as something else, stand in backticks.
        """
        return formula_text(self._one(index, output, "SymbolicResult.text"), exact=True)

    def parse(self, text: str, index: int | None = None) -> Expr:
        """Read the text of a formula, as `parse_formula` does, with the splines of one stage.

        Raises
        ------
        InvalidValueError
            If there is no such stage.
        DataError
            If it is no formula.
        """
        expressions = self._expressions(index, "SymbolicResult.parse")
        kinds = {node.func for e in expressions for node in e.atoms(sympy.Function)}
        return parse_formula(text, {k.__name__: k for k in kinds if hasattr(k, "_imp_")})

    def latex(
        self, index: int | None = None, output: int | str = 0, *, digits: int = _DIGITS
    ) -> str:
        """Return one formula in LaTeX, numbers rounded to `digits` significant digits.

        Letters, Greek ones too, may have an index; other names stand upright.

        Raises
        ------
        InvalidValueError
            If there is no such stage or output, or `digits` is less than 1.
        """
        check_count("SymbolicResult.latex", "digits", digits)
        return latex(rounded(self._one(index, output, "SymbolicResult.latex"), digits))

    def latex_table(
        self,
        indices: Sequence[int] | None = None,
        *,
        digits: int = _DIGITS,
        columns: Sequence[str] = ("output", "equation", "complexity", "loss"),
    ) -> str:
        """Return formulas as a LaTeX table; it needs the package booktabs.

        Parameters
        ----------
        indices : sequence of int, optional
            Rows of `equations_`; default all, those of more than 60 nodes by their number.
        digits : int
            Significant digits of numbers in the formulas.
        columns : sequence of str
            Of output, stage, equation, complexity, loss, score.

        Returns
        -------
        str

        Raises
        ------
        InvalidValueError
            If a row or a column is unknown.
        """
        rows = [self._rows(place) for place in range(len(self.output_names))]
        for index in indices or ():
            if not any(index in found for found in rows):
                call, expected = "SymbolicResult.latex_table", "to be rows of equations_"
                fields = call, expected, repr(index), "See its index"
                raise InvalidValueError(*fields, argument="indices")
        for column in columns:
            known = ("output", "stage", "equation", "complexity", "loss", "score")
            check_choice("SymbolicResult.latex_table", "columns", column, known)
        cells = [
            {**row, "equation": rf"\mbox{{{row['equation']}}}"}
            if indices is None and row["complexity"] > READABLE
            else {**row, "equation": self.latex(index, place, digits=digits)}
            for place, found in enumerate(rows)
            for index, row in found.items()
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
            float64; NaN or infinite where a formula is not defined.

        Raises
        ------
        ShapeError, DTypeError, DataError
            If `x` is no table of numbers, or has other columns.
        InvalidValueError
            If there is no such stage.
        """
        expressions = self._expressions(index, "SymbolicResult.predict")
        symbols = tuple(sympy.Symbol(name) for name in self.feature_names)
        rows = self._columns(x)  # each on its own: splines of one name differ between stages
        return np.concatenate([evaluator((e,), symbols)(rows) for e in expressions], axis=1)

    def pytorch(self, index: int | Sequence[int] | None = None) -> TorchFormula:
        """Return the formulas as a module that can be trained on.

        Parameters
        ----------
        index : int or sequence of int, optional
            Stage, one for all outputs or one for each; default the picked ones.

        Returns
        -------
        torch.nn.Module
            Maps x (batch, in), in the units of the data, to (batch, out) in float64. Inexact
            numbers are its parameters, exact ones its buffers.

        Raises
        ------
        MethodError
            If a formula holds a function that torch does not have.
        InvalidValueError
            If there is no such stage.
        """
        from kanlens.symbolic.torch_formula import TorchFormula

        expressions = self._expressions(index, "SymbolicResult.pytorch")
        return TorchFormula(expressions, self.feature_names)

    def to_frame(self) -> pd.DataFrame:
        """Return `equations_`."""
        return self.equations_

    def to_json(self) -> str:
        """Return formulas and receipt as JSON; the expressions as `text` writes them."""
        outputs, picked = {}, {}
        for place, name in enumerate(self.output_names):
            rows, picked[name] = self._rows(place), self._picked(place)
            outputs[name] = [
                {**row, "sympy_format": self.text(index, place), "index": index}
                for index, row in rows.items()
            ]
        data = {
            "feature_names": self.feature_names,
            "names": legend(self.feature_names),
            "equations": outputs,
            "picked": picked,
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

    def _one(self, index: int | None, output: int | str, call: str) -> Expr:
        place = self._output(output, call)
        return self._expressions(index, call)[place]

    def _expressions(self, index: int | Sequence[int] | None, call: str) -> tuple[Expr, ...]:
        """Return one expression per output: the picked ones, or those of given stages."""
        count = len(self.output_names)
        several = isinstance(index, Sequence) and len(index) == count
        chosen: Any = index if several else [index] * count
        if index is None:
            chosen = [self._picked(place) for place in range(count)]
        for k in chosen:
            whole = isinstance(k, numbers.Integral) and not isinstance(k, bool)
            if not whole or not 0 <= k < len(self.stages):
                expected = f"index from 0 to {len(self.stages) - 1}"
                raise InvalidValueError(call, expected, repr(k), "See equations_ for them")
        return tuple(self.stages[int(k)].expressions[o] for o, k in enumerate(chosen))

    def _columns(self, x: Rows) -> Array:
        if hasattr(x, "columns") and hasattr(x, "iloc"):
            names = self.feature_names
            same = self.model is not None and self.model.feature_names == names
            plain = default_schema(len(names), 1, feature_names=names)
            schema = self.model.schema if same else plain
            return np.asarray(schema.encode(x, call="SymbolicResult.predict"))
        call, width = "SymbolicResult.predict", len(self.feature_names)
        rows = as_tensor(x, call)
        rows = rows[:, None] if rows.dim() == width == 1 else rows
        if rows.dim() != 2:
            expected, advice = f"x of shape (batch, {width})", "Pass a table: one row per sample"
            raise ShapeError(call, expected, str(tuple(rows.shape)), advice)
        check_columns(call, rows, width)
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
        """Return the text of a formula, rounded, or the number of nodes of one that is too long."""
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


def _plain(value: Any) -> Any:
    """Return values as JSON knows them; numbers that are not finite become text."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """The formulas of all outputs at one step of their making."""

    name: str  # what was done last, e.g. "fitted", "refined", "snapped", "2 cuts"
    expressions: tuple[Expr, ...]  # one per output, in symbols that carry the feature names
    losses: tuple[float, ...]  # mean squared error of each over the variance of its target
    # whether splines stand where functions were accepted: a step on the way, which no rule picks
    partial: bool = False
    snapped: tuple[tuple[str, ...], ...] = ()  # the exact constants put into each
    snap_costs: tuple[tuple[float, ...], ...] = ()  # by how much each of them raised the loss
