"""What both regressors share: targets as a table, predictions in the shape of `y`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin  # noqa: TID253

from kanlens.checks import message
from kanlens.errors import InvalidValueError
from kanlens.estimators.inputs import target_names, validated
from kanlens.functions.elementary import Array


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
