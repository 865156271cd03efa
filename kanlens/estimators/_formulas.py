"""A regressor whose result is a formula."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator  # noqa: TID253
from torch import Tensor

from kanlens._checks import check_count
from kanlens._lazy import pd
from kanlens._runtime import Interruption, interrupts_pass, progress_bar
from kanlens.data._columns import as_names
from kanlens.data._groups import row_groups
from kanlens.data._schema import Schema, default_schema
from kanlens.estimators._inputs import (
    Regression,
    checked_inputs,
    feature_names,
    fitted,
    generator_from,
)
from kanlens.functions._elementary import Array
from kanlens.model._network import KAN, Inputs, Targets
from kanlens.pruning import prune
from kanlens.symbolic._joint_refit import relative_losses
from kanlens.symbolic._partition import Partition, partition
from kanlens.symbolic._result import SymbolicResult
from kanlens.symbolic._simplification import complexity
from kanlens.symbolic._symbolize import Reading, read
from kanlens.training import fit, fit_default

_EXACT = 1e-16  # loss on the rows that choose at which nothing is left to explain
_MAX_HIDDEN = 11  # hidden nodes
_PRODUCTS = 2  # hidden nodes that multiply two sums, in every other start
_STEPS = (5, 15, 20)  # of training: before, between and after pruning
_ROUNDS = 6  # of training and pruning
_IDLE = 2  # rounds without anything to remove, after which it ends
_STRENGTH = 0.02  # of the penalty
_BUDGET = 0.5  # by which the loss may rise when edges are removed; training makes up for it
_CLEAN = 1e-3  # loss over the variance beyond which training will not make up for it
_NODE_BITS = 4.0  # description length of a node of a formula
_EDGE_NODES = 10  # nodes of a formula that an edge is worth


class KANSymbolicRegressor(Regression, BaseEstimator):  # type: ignore[misc]  # untyped
    """Find a formula by symbolizing small networks.

    The first network is grown as by `kanlens.frontier`; others are trained with a penalty on the L1
    norm of their edges, pruned, and trained on a finer grid. All are symbolized. A fifth of the
    rows is held out from these fits. The result is the formula with the shortest description length
    on the held-out rows, or the first formula that explains them up to rounding. Methods are named
    as in PySR.

    Parameters
    ----------
    starts : int
        Largest number of networks; the first is grown.
    hidden : int, optional
        Nodes of the hidden layer at the start. Default: twice the number of features plus one, at
        most 11.
    grid_size : int
        Intervals of the finer grid, on which the network is symbolized.
    r2_min : float
        Smallest share of an edge's variance that a function must explain.
    functions : str or sequence of str, optional
        Names of functions to choose from. Default: all.
    model_selection : {"best", "accuracy", "score"}
        Criterion that chooses a row of `equations_`, as for `kanlens.symbolize`.
    random_state : int, RandomState or None
        Draws the weights and the held-out rows.
    verbose : bool
        Whether to show a bar where stderr is a terminal.

    Attributes
    ----------
    result_ : SymbolicResult
        Formulas, network and receipt. The receipt is computed on the rows used to choose the
        formula. With 1000 rows or more it is computed on a separate tenth of the rows, with fewer
        than 20 on the rows of the fit.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Names of the features, if all columns of `X` have names that are strings.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-1.0, 1.0, 60)[:, None]
    >>> KANSymbolicRegressor(starts=1, random_state=0).fit(x, 2 * x[:, 0] ** 2 + 1).sympy()
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
        random_state: int | np.random.RandomState | None = None,
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

    def fit(self, X: Inputs, y: Targets) -> KANSymbolicRegressor:
        """Find the formula.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
            Finite numbers, at least two rows; text and categories of a DataFrame are encoded as in
            `kanlens.read_table`.
        y : array-like, shape (batch,) or (batch, out)
            Finite target values.

        Returns
        -------
        KANSymbolicRegressor
            Itself.

        Raises
        ------
        ValueError
            If the data or a parameter is invalid.
        """
        for name in ("starts", "grid_size", "hidden"):
            if getattr(self, name) is not None:
                check_count("KANSymbolicRegressor", name, getattr(self, name))
        rows, outputs, names = self._tables(X, y)
        widths = rows.shape[1], outputs.shape[1]
        schema = default_schema(*widths, feature_names=feature_names(self), output_names=names)
        self.result_ = self._search(schema, torch.tensor(rows), torch.tensor(outputs))
        return self

    def _search(self, schema: Schema, x: Tensor, y: Tensor) -> SymbolicResult:
        """Return the formula with the shortest description among the starts, until an interrupt."""
        generator, stop, call = generator_from(self), Interruption(), type(self).__name__
        parts = partition(len(x), generator, groups=row_groups(x, y, call=call))
        rows = parts.fitted
        tests = parts.choosing if len(parts.choosing) else rows
        best: tuple[float, SymbolicResult] | None = None
        shown = None if self.verbose else False
        with progress_bar("starts", self.starts, shown=shown) as advance:
            for start in range(self.starts):
                result = None
                with stop.kept():
                    with interrupts_pass():
                        network = self._trained(schema, x[rows], y[rows], generator, start)
                    result = self._read(network, schema, (x, y), parts, stop)
                if result is None:
                    break
                values = torch.from_numpy(result.predict(x[tests]))
                loss = float(relative_losses(values, y[tests]).max())
                nodes = sum(complexity(s.expressions[k]) for k, s in enumerate(result.picked()))
                bits = _NODE_BITS * nodes + 0.5 * len(tests) * math.log2(max(loss, _EXACT))
                if best is None or bits < best[0]:
                    best = bits, result
                advance(note=f"{best[1].get_best()['equation'][:60]}")
                if loss <= _EXACT or stop.happened:
                    break
        if best is None:  # the first start was interrupted
            raise KeyboardInterrupt
        stop.warn(call)
        return best[1]

    def _trained(
        self, schema: Schema, x: Tensor, y: Tensor, generator: torch.Generator, start: int
    ) -> KAN:
        """Return a grown network, or one trained, pruned and fitted on the finer grid."""

        def build(hidden: list[Any], grid_size: int) -> KAN:
            widths = [x.shape[1], *hidden, y.shape[1]]
            options: dict[str, Any] = {"extrapolation": "linear", "generator": generator}
            work = KAN(widths, grid_size=grid_size, **options).to(x)
            work.schema = schema
            return work

        train = partial(fit, generator=generator, progress=False)
        if start == 0:
            grow = partial(fit_default, max_edges="few", generator=generator, progress=False)
            return grow((x, y), build=build).model
        work = build(_hidden(x.shape[1], self.hidden, start), 3)
        train(work, (x, y), steps=_STEPS[0])
        sparsely = partial(train, steps=_STEPS[1], penalty="weight_l1", strength=_STRENGTH)
        columns, idle = x, 0
        for _ in range(_ROUNDS):
            sparsely(work, (columns, y), grid_updates=2)
            before = work.edges_alive
            work = prune(work, columns, y, budget=_budget(work, columns, y), progress=False).model
            columns = _columns_of(work, schema, x)
            idle = idle + 1 if work.edges_alive == before else 0
            if idle == _IDLE:
                break
        work.refine(self.grid_size)
        train(work, (columns, y), steps=_STEPS[2])
        return work

    def _read(
        self,
        network: KAN,
        schema: Schema,
        data: tuple[Tensor, Tensor],
        parts: Partition,
        stop: Interruption,
    ) -> SymbolicResult:
        """Symbolize a trained network; return the formula as a function of all features."""
        x, y = data
        rows, choosing, judging = parts.of(_columns_of(network, schema, x), y)
        how = Reading(
            r2_min=self.r2_min,
            functions=None if self.functions is None else tuple(as_names(self.functions)),
            model_selection=self.model_selection,
        )
        tests = judging or (None, None)
        result = read(network, rows, tests, how, stop, choosing=choosing, progress=False)
        return dataclasses.replace(result, feature_names=schema.feature_names)

    def predict(self, X: Inputs, index: int | Sequence[int] | None = None) -> Array:
        """Evaluate the formula.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
        index : int or sequence of int, optional
            Row of `equations_`, one for all outputs or one for each; default the picked ones.

        Returns
        -------
        ndarray, shape (batch,) or (batch, out)
            NaN or infinite where the formula is undefined.
        """
        return self._shaped(self._result.predict(checked_inputs(self, X), index))

    @property
    def network_(self) -> KAN:
        """The network of the formula, for functions that take a model.

        Its features are those of the formula; a DataFrame may have more columns, an array may not.
        """
        network: KAN = self._result.model
        return network

    @property
    def equations_(self) -> pd.DataFrame:
        """The Pareto front of every output; see `SymbolicResult.equations_`."""
        return self._result.equations_

    @property
    def receipt_(self) -> Any:
        """Accuracy and domain of the formula, on the rows of `result_`."""
        return self._result.receipt

    def get_best(self, output: int | str = 0) -> pd.Series:
        """Return the picked row of `equations_` of one output."""
        return self._result.get_best(output)

    def sympy(self, index: int | None = None, output: int | str = 0) -> Any:
        """Return one formula as a sympy expression."""
        return self._result.sympy(index, output)

    def text(self, index: int | None = None, output: int | str = 0) -> str:
        """Return one formula as text; see `SymbolicResult.text`."""
        return self._result.text(index, output)

    def latex(self, index: int | None = None, output: int | str = 0, *, digits: int = 4) -> str:
        """Return one formula in LaTeX."""
        return self._result.latex(index, output, digits=digits)

    def latex_table(self, indices: Sequence[int] | None = None, **options: Any) -> str:
        """Return a LaTeX table; options as for `SymbolicResult.latex_table`."""
        return self._result.latex_table(indices, **options)

    @property
    def _result(self) -> SymbolicResult:
        result: SymbolicResult = fitted(self, "result_")
        return result


def _hidden(features: int, hidden: int | None, start: int) -> list[Any]:
    """Return the hidden layer of a start: sums alone, or also products."""
    width = hidden or min(2 * features + 1, _MAX_HIDDEN)
    return [width if start % 2 else ((width + 1) // 2, _PRODUCTS)]


def _columns_of(network: KAN, schema: Schema, x: Tensor) -> Tensor:
    """Return the columns of the features that a network has left."""
    return x[:, [schema.feature_names.index(name) for name in network.feature_names]]


def _budget(network: KAN, x: Tensor, y: Tensor) -> float:
    """Return the allowed rise of the loss by pruning; it is small if there is noise."""
    with torch.no_grad():
        gap = (network(x) - y).square().mean(0) / y.var(0, unbiased=False).clamp(min=1e-300)
    if float(gap.max()) < _CLEAN:
        return _BUDGET
    return float(min(_BUDGET, 2.0 ** (2 * _NODE_BITS * _EDGE_NODES / len(x)) - 1))
