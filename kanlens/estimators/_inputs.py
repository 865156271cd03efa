"""scikit-learn's conventions for data, random states and regressors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin  # noqa: TID253
from sklearn.exceptions import NotFittedError as _NotFitted  # noqa: TID253
from sklearn.utils import check_random_state, check_X_y  # noqa: TID253
from sklearn.utils.multiclass import check_classification_targets  # noqa: TID253
from sklearn.utils.validation import _check_sample_weight, validate_data  # noqa: TID253

from kanlens.data._columns import ColumnRoles
from kanlens.data._schema import default_schema
from kanlens.data._table_reader import read_columns
from kanlens.errors import DTypeError, InvalidValueError, KanlensError
from kanlens.functions._elementary import Array
from kanlens.model._network import Inputs, PerRow, Targets


class NotFittedError(KanlensError, _NotFitted):  # type: ignore[misc]  # untyped
    """Error of an estimator that is not fitted; a subclass of scikit-learn's."""


def fitted(estimator: BaseEstimator, name: str) -> Any:
    """Return an attribute that fitting sets."""
    if name not in vars(estimator):
        call = type(estimator).__name__
        got = f"{call}, not fitted"
        raise NotFittedError(call, "a fitted estimator", got, "Call fit(X, y) first")
    return vars(estimator)[name]


def generator_from(estimator: BaseEstimator) -> torch.Generator:
    """Return a generator seeded from the random state of an estimator."""
    try:
        state = check_random_state(estimator.random_state)
    except ValueError as error:
        expected = "random_state to be None, an integer from 0 to 4294967295, or a RandomState"
        got, advice = repr(estimator.random_state), "For example random_state=0"
        raise InvalidValueError(type(estimator).__name__, expected, got, advice) from error
    return torch.Generator().manual_seed(int(state.randint(2**31 - 1)))


def feature_names(estimator: BaseEstimator) -> list[str] | None:
    """Return the names of the features, which may be numbers and dates."""
    if estimator._table is not None:
        return list(estimator._table.feature_names)
    names = getattr(estimator, "_labels", None)
    return None if names is None else [str(name) for name in names]


def widths_of(estimator: BaseEstimator) -> list[Any]:
    """Return the nodes of the hidden layers of an estimator."""
    try:
        return [5] if estimator.hidden is None else list(estimator.hidden)
    except TypeError as error:
        call, got = type(estimator).__name__, repr(estimator.hidden)
        fields = "hidden to be a sequence of layer widths", got, "For example (5,)"
        raise InvalidValueError(call, *fields) from error


def shapes_of(estimator: BaseEstimator) -> Any:
    """Return the constraints of an estimator, with those of its `monotonic_cst`."""
    shapes, signs = estimator.constraints, estimator.monotonic_cst
    if signs is None:
        return shapes
    if not isinstance(signs, Mapping):
        labels, count = getattr(estimator, "_labels", None), estimator.n_features_in_
        names = default_schema(count, 1).feature_names if labels is None else map(str, labels)
        signs = dict(zip(names, signs, strict=False)) if len(signs) == count else {"": None}
    if not set(signs.values()) <= {-1, 0, 1}:
        expected, got = "to be -1, 0 or 1 for each column", f"{estimator.monotonic_cst!r:.60}"
        call, advice = type(estimator).__name__, "For example {'age': 1}"
        raise InvalidValueError(call, expected, got, advice, argument="monotonic_cst")
    words = {1: "increasing", -1: "decreasing"}
    return dict(shapes or {}) | {name: words[sign] for name, sign in signs.items() if sign}


def target_names(y: Targets) -> list[str] | None:
    """Return the names of the targets, if they have any."""
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    name = getattr(y, "name", None)
    return [str(name)] if isinstance(name, str | int) and name != "" else None


def validated(estimator: BaseEstimator, *data: Inputs, **options: Any) -> Any:
    """Check data as scikit-learn does."""
    data = tuple(v.detach().cpu() if isinstance(v, torch.Tensor) else v for v in data)
    if options.get("reset", True):
        estimator._labels = getattr(data[0], "columns", None)
    return validate_data(estimator, *data, **options)


def encoded(estimator: BaseEstimator, X: Inputs, *, reset: bool) -> Any:
    """Return the columns of a frame as numbers, as from `read_table`."""
    call = type(estimator).__name__
    if reset:
        estimator._table = None
        if not (hasattr(X, "dtypes") and hasattr(X, "columns")):
            return X
        estimator._table = read_columns(X, ColumnRoles(), call=call).schema
    if estimator._table is None:
        return X
    if not hasattr(X, "columns"):
        raise DTypeError(call, "a DataFrame", type(X).__name__, "Name its columns")
    validated(estimator, X, skip_check_array=True, reset=reset)
    return estimator._table.encode(X, call=call)


def checked(
    estimator: BaseEstimator, X: Inputs, y: Targets, *, reset: bool, **options: Any
) -> tuple[Array, Any]:
    """Return rows (batch, in) and targets, checked as by scikit-learn."""
    rows = encoded(estimator, X, reset=reset)
    options |= {"dtype": np.float64, "ensure_min_samples": 2 if reset else 1}
    if estimator._table is None:
        tables: tuple[Array, Any] = validated(estimator, rows, y, reset=reset, **options)
    else:
        tables = check_X_y(rows, y, estimator=estimator, **options)
    return tables


def checked_inputs(estimator: BaseEstimator, X: Inputs) -> Any:
    """Return rows (batch, in) to predict, checked like the training rows."""
    rows = encoded(estimator, X, reset=False)
    if estimator._table is not None:
        return rows
    return validated(estimator, rows, dtype=np.float64, reset=False)


def distinct(x: Array, y: Array, sample_weight: PerRow) -> tuple[Any, Any, Any, Any]:
    """Return distinct rows of x and y, their total weights and indices."""
    weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    used = np.flatnonzero(weights)
    if not len(used):  # the message of scikit-learn from 1.7 on
        raise ValueError("Sample weights must contain at least one non-zero number.")
    both = np.column_stack((x[used], y[used]))
    _, first, group = np.unique(both, axis=0, return_index=True, return_inverse=True)
    if len(first) < 2:  # training needs two rows
        return x[used], y[used], weights[used], used
    return x[used][first], y[used][first], np.bincount(group.ravel(), weights[used]), used[first]


class Regression(RegressorMixin):  # type: ignore[misc]  # untyped
    """A regressor of one output, as a vector, or of several."""

    def _tables(
        self, X: Inputs, y: Targets, *, reset: bool = True
    ) -> tuple[Array, Array, list[str] | None]:
        """Return checked rows (batch, in), targets (batch, out), and names."""
        names = target_names(y)
        rows, target = checked(self, X, y, reset=reset, multi_output=True, y_numeric=True)
        try:
            outputs = np.asarray(target, dtype=np.float64).reshape(len(rows), -1)
        except (TypeError, ValueError) as error:
            got, advice = repr(np.ravel(target)[0]), "Encode y, or take KANClassifier"
            raise InvalidValueError(type(self).__name__, "numbers in y", got, advice) from error
        self._flat = np.ndim(target) == 1
        return rows, outputs, names if names and len(names) == outputs.shape[1] else None

    def _shaped(self, values: Array) -> Array:
        """Return values (batch, out) in the shape that `y` had."""
        return values[:, 0] if self._flat and values.shape[1] == 1 else values

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of the estimator."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def labelled(estimator: Any, X: Inputs, y: Targets, *, reset: bool) -> tuple[Array, Any]:
    """Return checked rows (batch, in) and labels (batch,)."""
    rows, target = checked(estimator, X, y, reset=reset)
    missing = [row for row, label in enumerate(target) if label is None]
    if missing:
        got = f"None in row {missing[0]}"
        raise InvalidValueError("KANClassifier", "labels", got, "Leave the row out")
    check_classification_targets(target)
    return rows, target
