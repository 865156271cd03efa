"""A network for classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin  # noqa: TID253
from sklearn.utils.class_weight import compute_sample_weight  # noqa: TID253

from kanlens.data._schema import class_schema
from kanlens.errors import InvalidValueError
from kanlens.estimators import _inputs as inputs
from kanlens.estimators._networks import NetworkEstimator
from kanlens.functions._elementary import Array
from kanlens.model._held_out import probabilities
from kanlens.model._network import Inputs, PerRow, Targets
from kanlens.training._calibration import cheapest_threshold
from kanlens.training._objective import predict


class KANClassifier(ClassifierMixin, NetworkEstimator):  # type: ignore[misc]  # untyped
    """A Kolmogorov-Arnold network for classification; parameters as for `KANRegressor`.

    Attributes
    ----------
    classes_ : ndarray, shape (class,)
        The labels, sorted.
    model_ : KAN
        The network; its outputs are logits, one for two classes, else one per class.
    result_, n_features_in_, feature_names_in_
        As for `KANRegressor`.

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 50)[:, None]
    >>> labels = np.where(x[:, 0] > 0.2, "high", "low")
    >>> KANClassifier(hidden=(), steps=10, random_state=0).fit(x, labels).score(x, labels)
    1.0
    """

    def fit(
        self, X: Inputs, y: Targets, sample_weight: PerRow = None, groups: PerRow = None
    ) -> KANClassifier:
        """Train the network on labels (batch,); other arguments as for `KANRegressor.fit`.

        Raises
        ------
        ValueError
            If there is only one class, or `y` does not hold labels.
        """
        return self._begin(X, y, None, (sample_weight, groups))

    def partial_fit(
        self, X: Inputs, y: Targets, classes: Targets | None = None, sample_weight: PerRow = None
    ) -> KANClassifier:
        """Continue training with more rows.

        The first call takes all `classes`; by default, they are the labels in its `y`.
        """
        if not hasattr(self, "model_"):
            return self._begin(X, y, classes, (sample_weight, None))
        rows, target = inputs.labelled(self, X, y, reset=False)
        self._train_on(rows, self._codes(target), sample_weight)
        return self

    def _codes(self, target: Array) -> Any:
        """Return the codes (batch,) of labels, refusing new ones."""
        new = target[~np.isin(target, self.classes_)]
        if len(new):
            expected, got = "labels among those of the first call", repr(new.tolist()[0])
            advice = "Pass all classes to the first call"
            raise InvalidValueError("KANClassifier", expected, got, advice)
        return np.searchsorted(self.classes_, target)

    def _begin(
        self, X: Inputs, y: Targets, classes: Targets | None, of_rows: tuple[PerRow, PerRow]
    ) -> KANClassifier:
        """Train a new network for `classes`, by default the labels in `y`."""
        rows, target = inputs.labelled(self, X, y, reset=True)
        self.classes_ = np.unique(target if classes is None else classes)
        if len(self.classes_) < 2:
            advice = "Pass targets of two or more classes"
            raise InvalidValueError("KANClassifier", "at least two classes", "one class", advice)
        names = inputs.target_names(y)
        labels = tuple(str(label) for label in self.classes_)
        schema = class_schema(names[0] if names and len(names) == 1 else "y", labels)
        codes, outputs = self._codes(target), len(schema.outputs)
        if self.class_weight is not None:
            factors = compute_sample_weight(self.class_weight, target)
            usual = 1.0 if of_rows[0] is None else np.asarray(of_rows[0], dtype=float)
            of_rows = factors * usual, of_rows[1]
        self._train(rows, codes, outputs, of_rows, schema=schema)
        return self

    def predict_proba(self, X: Inputs) -> Array:
        """Return the probability of every class, shape (batch, class)."""
        with torch.no_grad():
            return np.asarray(probabilities(self.network_(self._rows(X))).numpy())

    def predict_set(self, X: Inputs, interval: float = 0.9, by: str | None = None) -> Array:
        """Return the mask (batch, class) of sets of classes; options as for `kanlens.predict`."""
        frame = predict(self.network_, self._rows(X), interval=interval, by=by)
        return np.asarray(frame.iloc[:, -len(self.classes_) :].to_numpy())

    def find_threshold(self, cost: Sequence[float] = (1.0, 1.0)) -> float:
        """Return the least probability at which to predict the second class.

        It costs least on held-out rows; `cost` is that of a false positive and a false negative.
        """
        return cheapest_threshold(self.network_, cost)

    def predict(self, X: Inputs) -> Any:
        """Return the most probable label of every row, shape (batch,)."""
        codes = self.predict_proba(X).argmax(axis=1)  # refuses an estimator without classes
        return self.classes_[codes]
