"""The estimator that regressors and classifiers share: parameters, training, outputs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator  # noqa: TID253

from kanlens.attribution import Attribution, Importance, attribute, importance
from kanlens.data._groups import row_groups
from kanlens.data._schema import Schema, default_schema
from kanlens.errors import InvalidValueError, RangeWarning
from kanlens.estimators._inputs import (
    checked_inputs,
    distinct,
    feature_names,
    fitted,
    generator_from,
)
from kanlens.functions._elementary import Array
from kanlens.model._network import KAN, Inputs, PerRow, Rows
from kanlens.symbolic import symbolize
from kanlens.training import FitResult, fit, fit_default
from kanlens.training._objective import outside_words

_MIN_HOLDOUT_ROWS = 20  # rows below which none are held out
_PASSES = 5  # over the rows of one call of partial_fit

Build: TypeAlias = Callable[[list[Any], int], KAN]
Data: TypeAlias = tuple[torch.Tensor, torch.Tensor]


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]  # untyped
    """Network estimator of either task: parameters, training, outputs."""

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
        rows, y, weights, places = distinct(rows, y, sample_weight)

        def build(hidden: list[int], grid_size: int) -> KAN:
            model = KAN(
                [rows.shape[1], *hidden, outputs],
                grid_size=grid_size,
                extrapolation=self.extrapolation,
                feature_names=feature_names(self),
                output_names=names,
                generator=generator,
            ).double()
            inputs = self._table or model.schema
            model.schema = dataclasses.replace(
                schema or model.schema, features=inputs.features, format=inputs.format
            )
            return model

        data = torch.tensor(rows), torch.tensor(y)
        common: dict[str, Any] = {
            "sample_weight": weights if (weights != weights[0]).any() else None,
            "groups": None if groups is None else groups[places],
            "generator": generator,
            "progress": False,
        }
        train = self._fit if self._optimized() else self._fit_default
        self._keep(train(build, data, common), places)

    def _fit(self, build: Build, data: Data, common: dict[str, Any]) -> FitResult:
        """Train a network with the settings of `fit`."""
        return fit(
            build(self._hidden(), 5 if self.grid_size is None else self.grid_size),
            data,
            steps=50 if self.steps is None else self.steps,
            penalty=self.penalty,
            strength=self.strength,
            validation=self.validation if len(data[0]) >= _MIN_HOLDOUT_ROWS else 0.0,
            **common,
        )

    def _fit_default(self, build: Build, data: Data, common: dict[str, Any]) -> FitResult:
        """Train the default network, or one of given widths."""
        size = self.grid_size
        return fit_default(
            data,
            hidden=None if self.hidden is None else self._hidden(),
            max_edges=self.max_edges,
            interactions=self.interactions,
            build=lambda hidden, default: build(hidden, size or default),
            **common,
        )

    def _optimized(self) -> bool:
        """Return whether a setting of `fit` is passed, or a grid that no default network has."""
        of_grid = self.grid_size is not None and not self.hidden
        options = self.steps is not None or self.penalty is not None or self.strength != 0
        return of_grid or options

    def _keep(self, result: FitResult, places: Array) -> None:
        """Keep a result of training on the rows at `places` of the data."""
        self.model_, self._formula = result.model, None
        self.result_ = dataclasses.replace(result, held_out=torch.tensor(places)[result.held_out])

    def _hidden(self) -> list[Any]:
        try:
            return [5] if self.hidden is None else list(self.hidden)
        except TypeError as error:
            call, got = type(self).__name__, repr(self.hidden)
            fields = "hidden to be the widths of layers", got, "For example (5,)"
            raise InvalidValueError(call, *fields) from error

    def _train_on(self, rows: Array, y: Array, sample_weight: PerRow) -> None:
        """Take a few passes over more rows, with small steps."""
        rows, y, weights, places = distinct(rows, y, sample_weight)
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
        """Share of each column in the deviations of the outputs.

        Shape (in,), in the order of the columns, with sum 1: mean sizes of the exact "secant"
        values on the background rows of `model_`, over the scales of the outputs.
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
        network: KAN = fitted(self, "model_")
        return network

    def _rows(self, X: Inputs) -> torch.Tensor:
        """Return checked rows (batch, in) of the network's features."""
        model = self.network_
        rows = torch.tensor(checked_inputs(self, X))
        names = feature_names(self) or default_schema(rows.shape[1], 1).feature_names
        rows = rows[:, [names.index(name) for name in model.feature_names]]
        words = outside_words(model, rows)
        if words:
            warnings.warn(f"{type(self).__name__}: {words}.", RangeWarning, stacklevel=3)
        return rows
