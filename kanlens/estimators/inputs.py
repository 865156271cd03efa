"""scikit-learn's conventions for data, random states and regressors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin  # noqa: TID253
from sklearn.exceptions import NotFittedError as _NotFitted  # noqa: TID253
from sklearn.utils import check_random_state  # noqa: TID253

from kanlens.checks import message
from kanlens.errors import InvalidValueError, KanlensError
from kanlens.functions.elementary import Array


class NotFittedError(KanlensError, _NotFitted):  # type: ignore[misc]  # untyped
    """An estimator is asked for what only fitting gives it; also scikit-learn's error."""


def fitted(estimator: Any, name: str) -> Any:
    """Return what fitting left in an estimator under that name."""
    if name not in vars(estimator):
        call = type(estimator).__name__
        text = message(call, "a fitted estimator", f"{call}, not fitted", "Call fit(X, y) first")
        raise NotFittedError(text)
    return vars(estimator)[name]


def generator_from(estimator: Any) -> torch.Generator:
    """Return a generator seeded from the random state of an estimator, of scikit-learn's kind."""
    try:
        state = check_random_state(estimator.random_state)
    except ValueError as error:
        expected = "random_state to be a whole number from 0 to 4294967295, or a RandomState"
        got, advice = repr(estimator.random_state), "For example random_state=0"
        text = message(type(estimator).__name__, expected, got, advice)
        raise InvalidValueError(text) from error
    generator = torch.Generator()
    generator.manual_seed(int(state.randint(2**31 - 1)))
    return generator


def feature_names(estimator: Any) -> list[str] | None:
    """Return the names of the columns the estimator was fitted to, when they had any.

    scikit-learn keeps them where all are texts; numbers and dates are names as well.
    """
    names = getattr(estimator, "_labels", None)
    return None if names is None else [str(name) for name in names]


def target_names(y: Any) -> list[str] | None:
    """Return the names of targets that have them."""
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    name = getattr(y, "name", None)
    return [str(name)] if isinstance(name, str | int) and name != "" else None


def validated(estimator: Any, *data: Any, **options: Any) -> Any:
    """Check data as scikit-learn does, by the name it has in the version at hand."""
    data = tuple(one.detach().cpu() if isinstance(one, torch.Tensor) else one for one in data)
    if options.get("reset", True):
        estimator._labels = getattr(data[0], "columns", None)
    try:
        from sklearn.utils.validation import validate_data
    except ImportError:  # before 1.6
        return estimator._validate_data(*data, **options)
    return validate_data(estimator, *data, **options)


class Regression(RegressorMixin):  # type: ignore[misc]  # untyped
    """A regressor of one output, given and returned as a vector, or of several."""

    def _tables(self, X: Any, y: Any) -> tuple[Array, Array, list[str] | None]:
        """Return checked rows (batch, in), targets (batch, out) and the names of these."""
        names = target_names(y)
        rows, target = validated(
            self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2
        )
        try:
            outputs = np.asarray(target, dtype=np.float64).reshape(len(rows), -1)
        except (TypeError, ValueError) as error:
            got, advice = repr(np.ravel(target)[0]), "Encode y, or take KANClassifier"
            text = message(type(self).__name__, "numbers in y", got, advice)
            raise InvalidValueError(text) from error
        self._flat = np.ndim(target) == 1
        return rows, outputs, names if names and len(names) == outputs.shape[1] else None

    def _shaped(self, values: Array) -> Array:
        """Return values (batch, out) in the shape that `y` had."""
        return values[:, 0] if self._flat else values

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of the estimator."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
