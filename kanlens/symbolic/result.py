"""The result of symbolic regression on a network: formulas, the model they come from, a receipt."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy
import torch
from torch import Tensor

from kanlens.checks import check_columns, message
from kanlens.core.network import KAN
from kanlens.errors import InvalidValueError
from kanlens.symbolic.composition import Array, Expr, evaluator
from kanlens.symbolic.receipt import Receipt
from kanlens.symbolic.simplification import complexity

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.core.network import Rows

_TINY = 1e-30


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """The formula at one stage of its making.

    Attributes
    ----------
    name : str
        What was done last: "fitted", "refined" or "snapped".
    expressions : tuple of sympy.Expr
        One per output, in symbols that carry the feature names.
    losses : tuple of float
        Mean squared error of each over the variance of its target.
    """

    name: str
    expressions: tuple[Expr, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class SymbolicResult:
    """Formulas of a network, one per output, with all that is known of their worth.

    Attributes
    ----------
    stages : tuple of Stage
        In the order made; the last is the chosen one. The first is exactly `model`.
    model : KAN
        The network with functions on its edges, in the dtype of the network it was made from.
    receipt : Receipt
        How far the chosen formula can be trusted.
    feature_names, output_names : tuple of str
        Names in the formulas.
    """

    stages: tuple[Stage, ...]
    model: KAN
    receipt: Receipt
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @property
    def equations_(self) -> pd.DataFrame:
        """One row per output and stage.

        Columns: output, stage, complexity (nodes of the expression tree), loss (mean squared
        error over the variance of the target), score (fall of the log loss per node of
        complexity, against the next simpler row), equation (text, rounded), sympy_format
        (Expr). The index is the stage, as `sympy` and the others take it.
        """
        import pandas as pd

        frames = [self._rows(output) for output in range(len(self.output_names))]
        table = [row for rows in frames for row in rows]
        index = [stage for _ in frames for stage in range(len(self.stages))]
        return pd.DataFrame(table, index=pd.Index(index, name="index"))

    def sympy(self, index: int | None = None, output: int | str = 0) -> Expr:
        """Return one formula as a sympy expression.

        Parameters
        ----------
        index : int, optional
            Stage; default the chosen one.
        output : int or str
            Index or name of the output.

        Returns
        -------
        sympy.Expr
            Its Symbols carry the feature names.

        Raises
        ------
        InvalidValueError
            If there is no such stage or output.
        """
        stage = self._stage(index, "SymbolicResult.sympy")
        return stage.expressions[self.model.output_index(output, call="SymbolicResult.sympy")]

    def latex(self, index: int | None = None, output: int | str = 0, *, digits: int = 4) -> str:
        """Return one formula in LaTeX, numbers rounded to `digits` significant digits."""
        return str(sympy.latex(rounded(self.sympy(index, output), digits)))

    def latex_table(self, *, digits: int = 4) -> str:
        """Return all formulas as a LaTeX table; it needs the package booktabs."""
        lines = [r"\begin{tabular}{@{}llrr@{}}", r"\toprule"]
        lines += [r"Output & Equation & Complexity & Loss \\", r"\midrule"]
        for position, name in enumerate(self.output_names):
            for index, row in enumerate(self._rows(position)):
                formula = self.latex(index, position, digits=digits)
                label = str(sympy.latex(sympy.Symbol(name)))
                cells = (f"${label}$", f"${formula}$", str(row["complexity"]), f"{row['loss']:.3g}")
                lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])

    def predict(self, x: Rows, index: int | None = None) -> Array:
        """Evaluate the formulas.

        Parameters
        ----------
        x : Tensor, ndarray or DataFrame, shape (batch, in)
            In the units of the data.
        index : int, optional
            Stage; default the chosen one.

        Returns
        -------
        ndarray, shape (batch, out)
            float64; NaN or infinite where a formula is not defined.

        Raises
        ------
        ShapeError
            If `x` has another number of columns.
        InvalidValueError
            If there is no such stage.
        """
        stage = self._stage(index, "SymbolicResult.predict")
        symbols = tuple(sympy.Symbol(name) for name in self.feature_names)
        return np.asarray(evaluator(stage.expressions, symbols)(self._columns(x)))

    def to_frame(self) -> pd.DataFrame:
        """Return `equations_`."""
        return self.equations_

    def to_json(self) -> str:
        """Return formulas and receipt as JSON; the expressions as text in full precision."""
        outputs = {
            name: [
                {**row, "sympy_format": str(row["sympy_format"]), "loss": _plain(row["loss"])}
                for row in self._rows(position)
            ]
            for position, name in enumerate(self.output_names)
        }
        receipt = {key: _plain(v) for key, v in dataclasses.asdict(self.receipt).items()}
        data = {
            "feature_names": self.feature_names,
            "equations": outputs,
            "receipt": {**receipt, "summary": self.receipt.summary()},
        }
        return json.dumps(data, sort_keys=True)

    def _stage(self, index: int | None, call: str) -> Stage:
        if index is None:
            return self.stages[-1]
        if isinstance(index, int) and 0 <= index < len(self.stages):
            return self.stages[index]
        expected = f"index from 0 to {len(self.stages) - 1}"
        raise InvalidValueError(message(call, expected, repr(index), "See equations_ for them"))

    def _columns(self, x: Rows) -> Array:
        if hasattr(x, "columns") and hasattr(x, "iloc"):
            return self.model.schema.encode(x, call="SymbolicResult.predict")
        if isinstance(x, Tensor):
            x = x.numpy(force=True)
        columns = np.asarray(x, dtype=np.float64)
        check_columns("SymbolicResult.predict", torch.empty(columns.shape), len(self.feature_names))
        return columns

    def _rows(self, output: int) -> list[dict[str, Any]]:
        """Return the rows of `equations_` of one output."""
        rows: list[dict[str, Any]] = [
            {
                "output": self.output_names[output],
                "stage": stage.name,
                "complexity": complexity(stage.expressions[output]),
                "loss": stage.losses[output],
                "score": 0.0,
                "equation": str(rounded(stage.expressions[output], 4)),
                "sympy_format": stage.expressions[output],
            }
            for stage in self.stages
        ]
        ordered = sorted(rows, key=lambda row: (row["complexity"], row["loss"]))
        for simpler, row in pairwise(ordered):
            gap = row["complexity"] - simpler["complexity"]
            if gap and math.isfinite(row["loss"]) and math.isfinite(simpler["loss"]):
                fall = math.log(max(row["loss"], _TINY)) - math.log(max(simpler["loss"], _TINY))
                row["score"] = max(0.0, -fall / gap)
        return rows


def rounded(expression: Expr, digits: int) -> Expr:
    """Round the numbers of an expression for display; keep exact constants.

    Examples
    --------
    >>> rounded(sympy.Float(3.14159265) * sympy.Symbol("x"), 4)
    3.142*x
    """
    numbers = expression.atoms(sympy.Float)
    return expression.xreplace({number: sympy.Float(number, digits) for number in numbers})


def _plain(value: Any) -> Any:
    """Return a number as JSON knows it; what is not finite becomes text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
