"""A regressor whose result is a formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import BaseEstimator  # noqa: TID253

from kanlens.checks import check_count
from kanlens.data.columns import as_names
from kanlens.estimators.inputs import Regression, asked, feature_names, fitted, generator_from
from kanlens.functions.elementary import Array
from kanlens.model.network import KAN
from kanlens.symbolic.multi_start import Recipe, find_formula
from kanlens.symbolic.result import SymbolicResult

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.symbolic.torch_formula import TorchFormula


class KANSymbolicRegressor(Regression, BaseEstimator):  # type: ignore[misc]  # untyped
    """Find a formula for numbers by training, pruning and reading small networks.

    The whole recipe in one call: several networks are trained with a penalty on the L1 norm of
    their edges, pruned, trained on a finer grid and read; the formula that describes a fifth of the
    rows, to which nothing was fitted, in the fewest bits is kept. It ends with the first formula
    that explains them but for rounding. The names of its methods are those of PySR.

    Parameters
    ----------
    starts : int
        Most networks that are trained; the first has no hidden layer.
    hidden : int, optional
        Nodes of the hidden layer at the start. Default: twice the features and one, at most 11.
    grid_size : int
        Intervals of the grid on which a formula is read.
    r2_min : float
        Least share of an edge's variance a function must explain.
    functions : str or sequence of str, optional
        Names of functions to choose from. Default: all.
    model_selection : {"best", "accuracy", "score"}
        Which row of `equations_` is the formula, as for `kanlens.symbolize`.
    random_state : int, RandomState or None
        Draws weights, and the rows that choose and judge.
    verbose : bool
        Whether to show a bar where stderr is a terminal.

    Attributes
    ----------
    result_ : SymbolicResult
        Formulas, network and receipt. The receipt is made on the fifth of the rows that chose the
        formula, from 1000 rows on instead on a tenth that chose nothing; fewer than 20 rows are
        all fitted to.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when `X` had names, all of them texts.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-1.0, 1.0, 60)[:, None]
    >>> found = KANSymbolicRegressor(starts=1, random_state=0).fit(x, 2 * x[:, 0] ** 2 + 1)
    >>> found.sympy()
    2*x1**2 + 1
    """

    def __init__(
        self,
        *,
        starts: int = 8,
        hidden: int | None = None,
        grid_size: int = 10,
        r2_min: float = 0.99,
        functions: str | Sequence[str] | None = None,
        model_selection: str = "best",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.starts = starts
        self.hidden = hidden
        self.grid_size = grid_size
        self.r2_min = r2_min
        self.functions = functions
        self.model_selection = model_selection
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> KANSymbolicRegressor:
        """Find the formula.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
            Finite numbers, at least two rows.
        y : array-like, shape (batch,) or (batch, out)

        Returns
        -------
        KANSymbolicRegressor
            Itself.

        Raises
        ------
        ValueError
            If the data or a parameter cannot be used.
        """
        for name in ("starts", "grid_size", "hidden"):
            if getattr(self, name) is not None:
                check_count("KANSymbolicRegressor", name, getattr(self, name))
        rows, outputs, names = self._tables(X, y)
        recipe = Recipe(
            starts=self.starts,
            hidden=self.hidden,
            grid_size=self.grid_size,
            r2_min=self.r2_min,
            functions=None if self.functions is None else tuple(as_names(self.functions)),
            model_selection=self.model_selection,
        )
        model = KAN(
            [rows.shape[1], outputs.shape[1]],
            feature_names=feature_names(self),
            output_names=names,
        ).double()
        data = torch.tensor(rows), torch.tensor(outputs)
        generator = generator_from(self)
        self.result_ = find_formula(
            model, *data, recipe, generator, progress=None if self.verbose else False
        )
        return self

    def predict(self, X: Any, index: int | Sequence[int] | None = None) -> Array:
        """Evaluate the formula.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
        index : int or sequence of int, optional
            Row of `equations_`, one for all outputs or one for each; default the picked ones.

        Returns
        -------
        ndarray, shape (batch,) or (batch, out)
            NaN or infinite where the formula is not defined.
        """
        found = self._found()
        return self._shaped(found.predict(asked(self, X), index))

    @property
    def network_(self) -> KAN:
        """The network the formula was read from, which functions that take a model find here.

        Its features are those of the formula: a DataFrame may hold more columns, an array not.
        """
        network: KAN = self._found().model
        return network

    @property
    def equations_(self) -> pd.DataFrame:
        """The front of complexity and loss of every output; see `SymbolicResult.equations_`."""
        return self._found().equations_

    @property
    def receipt_(self) -> Any:
        """How far the formula can be trusted, on the rows of `result_`."""
        return self._found().receipt

    def get_best(self, output: int | str = 0) -> pd.Series:
        """Return the picked row of `equations_` of one output."""
        return self._found().get_best(output)

    def sympy(self, index: int | None = None, output: int | str = 0) -> Any:
        """Return one formula as a sympy expression."""
        return self._found().sympy(index, output)

    def text(self, index: int | None = None, output: int | str = 0) -> str:
        """Return one formula as text; see `SymbolicResult.text`."""
        return self._found().text(index, output)

    def latex(self, index: int | None = None, output: int | str = 0, *, digits: int = 4) -> str:
        """Return one formula in LaTeX."""
        return self._found().latex(index, output, digits=digits)

    def latex_table(self, indices: Sequence[int] | None = None, **options: Any) -> str:
        """Return the formulas as a LaTeX table; options as for `SymbolicResult.latex_table`."""
        return self._found().latex_table(indices, **options)

    def pytorch(self, index: int | Sequence[int] | None = None) -> TorchFormula:
        """Return the formulas as a module of torch that can be trained on."""
        return self._found().pytorch(index)

    def _found(self) -> SymbolicResult:
        result: SymbolicResult = fitted(self, "result_")
        return result
