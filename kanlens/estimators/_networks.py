"""Networks for regression and classification."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator  # noqa: TID253

from kanlens.attribution import Attribution, Importance, attribute, importance
from kanlens.data._groups import row_groups
from kanlens.data._schema import Schema, default_schema
from kanlens.errors import InvalidValueError, RangeWarning
from kanlens.estimators import _inputs as inputs
from kanlens.estimators._inputs import (
    Regression,
    feature_names,
    generator_from,
    shapes_of,
    widths_of,
)
from kanlens.functions._elementary import Array
from kanlens.model._losses import loss_of
from kanlens.model._network import KAN, Inputs, PerRow, Rows, Targets
from kanlens.model._survival import concordance
from kanlens.symbolic import symbolize
from kanlens.training import FitResult, fit, fit_default
from kanlens.training._exposures import adjusted
from kanlens.training._objective import outside_words, predict
from kanlens.training._options import choose_loss

_MIN_HOLDOUT_ROWS = 20  # rows below which none are held out
_PASSES = 5  # over the rows of one call of partial_fit

Build: TypeAlias = Callable[[list[Any], int], KAN]
Data: TypeAlias = tuple[torch.Tensor, torch.Tensor]


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]  # untyped
    """Base class of the regressor and the classifier: parameters, training, outputs."""

    _formula: Any

    def __init__(
        self,
        *,
        hidden: Sequence[int] | None = None,
        grid_size: int | None = None,
        steps: int | None = None,
        penalty: str | None = None,
        strength: float = 0.0,
        validation: float = 0.2,
        extrapolation: str = "constant",
        max_edges: int | Literal["few"] | None = None,
        interactions: int | Sequence[tuple[str, str]] | None = None,
        constraints: Mapping[str, str] | None = None,
        monotonic_cst: Mapping[str, int] | Sequence[int] | None = None,
        loss: str | None = None,
        quantile: float | Sequence[float] | None = None,
        power: float | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.grid_size = grid_size
        self.steps = steps
        self.penalty = penalty
        self.strength = strength
        self.validation = validation
        self.extrapolation = extrapolation
        self.max_edges = max_edges
        self.interactions = interactions
        self.constraints = constraints
        self.monotonic_cst = monotonic_cst
        self.loss = loss
        self.quantile = quantile
        self.power = power
        self.class_weight = class_weight
        self.random_state = random_state

    def _train(
        self,
        rows: Array,
        y: Array,
        outputs: int,
        of_rows: tuple[PerRow, PerRow],  # weights and groups
        *,
        names: Sequence[str] | None = None,
        schema: Schema | None = None,
    ) -> None:
        """Train a network and keep it with the result of training."""
        generator, (sample_weight, groups) = generator_from(self), of_rows
        if groups is not None:  # rows of several groups join these, also where they become one row
            tables = torch.tensor(rows), torch.tensor(y)
            groups = row_groups(*tables, groups, call=type(self).__name__)
        rows, y, weights, places = inputs.distinct(rows, y, sample_weight)

        def build(hidden: list[int], grid_size: int) -> KAN:
            model = KAN(
                [rows.shape[1], *hidden, outputs],
                grid_size=grid_size,
                extrapolation=self.extrapolation,
                feature_names=feature_names(self),
                output_names=names,
                generator=generator,
            ).double()
            table = self._table or model.schema
            model.schema = dataclasses.replace(
                schema or model.schema, features=table.features, format=table.format
            )
            return model

        data = torch.tensor(rows), torch.tensor(y)
        common: dict[str, Any] = {
            "sample_weight": weights if (weights != weights[0]).any() else None,
            "groups": None if groups is None else groups[places],
            "generator": generator,
            "progress": False,
            **{name: getattr(self, name) for name in ("loss", "quantile", "power")},
        }
        self._keep(self._trained(build, data, common), places)

    def _trained(self, build: Build, data: Data, common: dict[str, Any]) -> FitResult:
        """Train a network with the settings of `fit`, or by `fit_default`."""
        size, common["constraints"] = self.grid_size, shapes_of(self) or None
        of_grid = size is not None and not self.hidden  # which no default network has
        if of_grid or self.steps is not None or self.penalty is not None or self.strength != 0:
            return fit(
                build(widths_of(self), 5 if size is None else size),
                data,
                optimizer="adam" if common["constraints"] else "lbfgs",
                steps=50 if self.steps is None else self.steps,
                penalty=self.penalty,
                strength=self.strength,
                validation=self.validation if len(data[0]) >= _MIN_HOLDOUT_ROWS else 0.0,
                **common,
            )
        return fit_default(
            data,
            hidden=None if self.hidden is None else widths_of(self),
            max_edges=self.max_edges,
            interactions=self.interactions,
            build=lambda hidden, default: build(hidden, size or default),
            **common,
        )

    def _keep(self, result: FitResult, places: Array) -> None:
        """Store a result of training; `places` are the indices of its rows in the data."""
        self.model_, self._formula = result.model, None
        self.result_ = dataclasses.replace(result, held_out=torch.tensor(places)[result.held_out])

    def _train_on(self, rows: Array, y: Array, sample_weight: PerRow) -> None:
        """Train for a few passes over more rows, with small steps."""
        rows, y, weights, places = inputs.distinct(rows, y, sample_weight)
        result = fit(
            self.model_,
            (torch.tensor(rows), torch.tensor(y)),
            optimizer="adam",
            learning_rate=1e-3,
            steps=_PASSES,
            validation=0.0,
            grid_updates=0,
            sample_weight=weights,
            progress=False,
            generator=generator_from(self),
        )
        self._keep(result, places)

    @property
    def feature_importances_(self) -> Array:
        """Share of each column in the importance of all.

        Shape (in,), in the order of the columns, with sum 1: mean absolute attributions (method
        "secant") on the background rows of `model_`, over the scales of the outputs.
        """
        model = self.network_
        x: Any = model.background
        frame = importance(model, x, method="secant", background=x.mean(0, keepdim=True))
        scale = dict(zip(model.output_names, model.output_scale.tolist(), strict=True))
        sizes = frame["importance"] / frame["output"].map(scale)
        columns = list(dict.fromkeys(feature.column for feature in model.schema.features))
        if self._table is not None:  # some may be left out
            columns = [str(label) for label in self._labels]
        totals = sizes.groupby(frame["feature"]).sum().reindex(columns, fill_value=0.0).to_numpy()
        return np.asarray(totals / totals.sum() if totals.sum() > 0 else totals)

    @property
    def formula_(self) -> Any:
        """The formula of the network by `symbolize`, a list for several."""
        model = self.network_
        if self._formula is None:
            result = symbolize(model, cast(torch.Tensor, model.background), progress=False)
            formulas = [result.sympy(output=name) for name in model.output_names]
            self._formula = formulas[0] if len(formulas) == 1 else formulas
        return self._formula

    def explain(self, X: Rows, **options: Any) -> Attribution | Importance:
        """Attribute predictions to features; options as for `kanlens.attribute`."""
        return attribute(self.network_, X, **options)

    @property
    def network_(self) -> KAN:
        """The network, for functions that take a model."""
        network: KAN = inputs.fitted(self, "model_")
        return network

    def _rows(self, X: Inputs) -> torch.Tensor:
        """Return checked rows (batch, in) of the network's features."""
        model = self.network_
        rows = torch.tensor(inputs.checked_inputs(self, X))
        names = feature_names(self) or default_schema(rows.shape[1], 1).feature_names
        rows = rows[:, [names.index(name) for name in model.feature_names]]
        if words := outside_words(model, rows):
            warnings.warn(f"{type(self).__name__}: {words}.", RangeWarning, stacklevel=3)
        return rows


class KANRegressor(Regression, NetworkEstimator):
    """A Kolmogorov-Arnold network for regression.

    Parameters
    ----------
    hidden : sequence of int, optional
        Nodes of the hidden layers, trained as by `kanlens.fit_default`; ``()`` is fitted in closed
        form unless `steps` or `penalty` is set. Default: one layer of 5 nodes if `grid_size`,
        `steps` or `penalty` is set. If none of them is set, held-out rows decide between no hidden
        layer and one of 48 nodes; the latter is the mean of six networks, each trained on five
        sixths of the rows.
    grid_size : int, optional
        Intervals of every grid. Default: chosen for the number of rows, or 5 if `steps` or
        `penalty` is set. If it is set without hidden nodes, `kanlens.fit` trains the network.
    steps : int, optional
        Steps of LBFGS, or of Adam with constraints. Default: 50 if `penalty` is set, or
        `grid_size` without `hidden`.
    penalty : str, optional
        As for `kanlens.fit`.
    strength : float
        Factor of the penalty.
    validation : float
        Share of rows held out for early stopping by `kanlens.fit`, which is used if `steps` or
        `penalty` is set, or `grid_size` without `hidden`. With fewer than 20
        rows, none is held out.
    extrapolation : {"constant", "linear", "zero"}
        Treatment of features outside the training data, as for `KAN`.
    max_edges : int or "few", optional
        Largest number of edges of a small network, which is grown by `kanlens.frontier`.
    interactions : int or sequence of pairs of column names, optional
        Products of the small network, as for `kanlens.frontier`.
    constraints : mapping of column names, optional
        Shapes of the effects of columns, as for `kanlens.fit_default`.
    monotonic_cst : mapping of column names or sequence of int, optional
        As in scikit-learn: 1 for each column to be increasing, -1 for decreasing, 0 for neither.
    loss, quantile, power
        As for `kanlens.fit`.
    class_weight : "balanced" or mapping of labels to weights, optional
        For `KANClassifier` only: factors of the weights of rows.
    random_state : int, RandomState or None
        Draws weights and held-out rows.

    Attributes
    ----------
    model_ : KAN
        The network; functions such as `kanlens.prune` and `symbolize` also take the estimator.
    result_ : FitResult
        Result of the training.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Names of the features, if all columns of `X` have names that are strings.

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 50)[:, None]
    >>> KANRegressor(hidden=(), steps=10, random_state=0).fit(x, x[:, 0] ** 2).score(x, x**2) > 0.99
    True
    """

    def fit(
        self,
        X: Inputs,
        y: Targets,
        sample_weight: PerRow = None,
        groups: PerRow = None,
        *,
        exposure: PerRow = None,
        offset: PerRow = None,
        event: PerRow = None,
    ) -> KANRegressor:
        """Train the network.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
            Columns of text, booleans or categories of a DataFrame are encoded as in
            `kanlens.read_table`.
        y : array-like, shape (batch,) or (batch, out)
        sample_weight : array-like, shape (batch,), optional
            A row of weight 2 counts as two rows.
        groups : array-like, shape (batch,), optional
            Rows of one label, such as those of one person, are held out together.
        exposure, offset, event : array-like, shape (batch,), optional
            As for `kanlens.fit`.

        Returns
        -------
        KANRegressor
            Itself.
        """
        if self.class_weight is not None:
            got, advice = repr(self.class_weight), "Pass sample_weight to fit"
            raise InvalidValueError("KANRegressor", "no class_weight", got, advice)
        rows, outputs, names = self._tables(X, y)
        way = self.loss, self.quantile, self.power
        loss = loss_of(choose_loss(default_schema(1, 1), *way, call="KANRegressor"))
        per_row = {"exposure": exposure, "offset": offset, "event": event}
        (_, y), sample_weight = adjusted((rows, outputs), sample_weight, loss, per_row)
        outputs = np.asarray(y)
        names = names if names and len(names) == outputs.shape[1] else None
        self._train(rows, outputs, outputs.shape[1], (sample_weight, groups), names=names)
        return self

    def partial_fit(self, X: Inputs, y: Targets, sample_weight: PerRow = None) -> KANRegressor:
        """Continue training with more rows; the first call is `fit`."""
        if not hasattr(self, "model_"):
            return self.fit(X, y, sample_weight)
        rows, outputs, _ = self._tables(X, y, reset=False)
        self._train_on(rows, outputs, sample_weight)
        return self

    def score(self, X: Inputs, y: Targets, sample_weight: PerRow = None) -> float:
        """Return R2, or the concordance of the loss "cox" with signed times."""
        if self.network_.loss.separable:
            levels = self.network_.loss.levels  # of several quantiles of one target
            targets = np.tile(np.reshape(y, (-1, 1)), len(levels)) if np.ndim(y) == 1 else y
            return float(super().score(X, targets if levels else y, sample_weight))
        return concordance(np.asarray(self.predict(X)).ravel(), np.asarray(y, dtype=float).ravel())

    def predict(self, X: Inputs, interval: float | None = None, by: str | None = None) -> Array:
        """Return the means, quantiles or hazards, shape (batch,) or (batch, out).

        With `interval` and `by`, as for `kanlens.predict`, a last axis has the output and the ends
        of its interval; of several quantiles, these and the ends of one interval.
        """
        frame = predict(self.network_, self._rows(X), interval=interval, by=by)
        if self.network_.loss.levels:
            return frame.to_numpy()
        values = frame.to_numpy().reshape(len(frame), len(self.network_.output_names), -1)
        return self._shaped(values if interval is not None else values[:, :, 0])
