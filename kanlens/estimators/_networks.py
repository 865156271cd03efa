"""Networks for regression and classification."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin  # noqa: TID253
from sklearn.utils.multiclass import check_classification_targets  # noqa: TID253

from kanlens.data._schema import class_schema
from kanlens.errors import InvalidValueError
from kanlens.estimators._inputs import Regression, checked, target_names
from kanlens.estimators._network_estimator import NetworkEstimator
from kanlens.functions._elementary import Array
from kanlens.model._held_out import probabilities
from kanlens.model._network import Inputs, PerRow, Targets
from kanlens.training._objective import predict


class KANRegressor(Regression, NetworkEstimator):
    """A Kolmogorov-Arnold network for regression.

    Parameters
    ----------
    hidden : sequence of int, optional
        Nodes of the hidden layers, trained as by `kanlens.fit_default`; ``()`` is fitted in closed
        form. Default: one layer of 5 nodes if `grid_size`, `steps` or `penalty` is set. If none of
        them is set, held-out rows decide between no hidden layer and one of 48 nodes; the network
        is then the mean of six, each trained on five sixths of the rows.
    grid_size : int, optional
        Intervals of every grid. Default: chosen for the number of rows, or 5 if `steps` or
        `penalty` is set. If it is set without hidden nodes, `kanlens.fit` trains the network.
    steps : int, optional
        Steps of LBFGS. Default: 50 if `penalty` is set, or `grid_size` without `hidden`.
    penalty : str, optional
        As for `kanlens.fit`.
    strength : float
        Factor of the penalty.
    validation : float
        Share of rows held out for early stopping by `kanlens.fit`, which is used if `steps` or
        `penalty` is set, or `grid_size` without `hidden`. None of fewer than 20 rows is held out.
    extrapolation : {"constant", "linear", "zero"}
        Treatment of features outside the training data, as for `KAN`.
    max_edges : int or "few", optional
        Largest number of edges of a small network, which is grown by `kanlens.frontier`.
    interactions : int or sequence of pairs of column names, optional
        Products of the small network, as for `kanlens.frontier`.
    random_state : int, RandomState or None
        Draws weights and held-out rows.

    Attributes
    ----------
    model_ : KAN
        The network; `kanlens.plot`, `prune`, `symbolize` and the others also take the estimator.
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
        self, X: Inputs, y: Targets, sample_weight: PerRow = None, groups: PerRow = None
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

        Returns
        -------
        KANRegressor
            Itself.
        """
        rows, outputs, names = self._tables(X, y)
        self._train(rows, outputs, outputs.shape[1], (sample_weight, groups), names=names)
        return self

    def partial_fit(self, X: Inputs, y: Targets, sample_weight: PerRow = None) -> KANRegressor:
        """Continue training with more rows; the first call is `fit`."""
        if not hasattr(self, "model_"):
            return self.fit(X, y, sample_weight)
        rows, outputs, _ = self._tables(X, y, reset=False)
        self._train_on(rows, outputs, sample_weight)
        return self

    def predict(self, X: Inputs, interval: float | None = None, by: str | None = None) -> Array:
        """Return the outputs, or with `interval` their intervals too.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
        interval, by
            As for `kanlens.predict`.

        Returns
        -------
        ndarray, shape (batch,) or (batch, out)
            With `interval`, a last axis has the output and the ends of its interval.
        """
        frame = predict(self.network_, self._rows(X), interval=interval, by=by)
        values = frame.to_numpy().reshape(len(frame), len(self.network_.output_names), -1)
        return self._shaped(values if interval is not None else values[:, :, 0])


class KANClassifier(ClassifierMixin, NetworkEstimator):  # type: ignore[misc]  # untyped
    """A Kolmogorov-Arnold network for classification.

    Attributes
    ----------
    classes_ : ndarray, shape (class,)
        The labels.
    model_ : KAN
        The network; its outputs are logits, one for two classes, else one per class.
    result_ : FitResult
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Names of the features, if all columns of `X` have names that are strings.

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
        """Train the network.

        Parameters
        ----------
        X, sample_weight, groups
            As for `KANRegressor.fit`.
        y : array-like, shape (batch,)
            Labels of at least two classes.

        Returns
        -------
        KANClassifier
            Itself.

        Raises
        ------
        ValueError
            If there is only one class, or `y` does not hold labels.
        """
        return self._begin(X, y, None, (sample_weight, groups))

    def partial_fit(
        self, X: Inputs, y: Targets, classes: Targets | None = None, sample_weight: PerRow = None
    ) -> KANClassifier:
        """Continue training with more rows; the first call needs all classes.

        By default, the classes are the labels in the first `y`.
        """
        if not hasattr(self, "model_"):
            return self._begin(X, y, classes, (sample_weight, None))
        rows, target = self._labelled(X, y, reset=False)
        self._train_on(rows, self._codes(target), sample_weight)
        return self

    def _labelled(self, X: Inputs, y: Targets, *, reset: bool) -> tuple[Array, Any]:
        """Return checked rows (batch, in) and labels (batch,)."""
        rows, target = checked(self, X, y, reset=reset)
        missing = [row for row, label in enumerate(target) if label is None]
        if missing:
            got = f"none in row {missing[0]}"
            raise InvalidValueError("KANClassifier", "labels", got, "Leave it out")
        check_classification_targets(target)
        return rows, target

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
        """Train a new network, for the labels in `y` where no classes are given."""
        rows, target = self._labelled(X, y, reset=True)
        self.classes_ = np.unique(target if classes is None else classes)
        if len(self.classes_) < 2:
            advice = "Classification needs more than one class"
            raise InvalidValueError("KANClassifier", "at least two classes", "one class", advice)
        names = target_names(y)
        labels = tuple(str(label) for label in self.classes_)
        schema = class_schema(names[0] if names and len(names) == 1 else "y", labels)
        codes, outputs = self._codes(target), len(schema.outputs)
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

    def predict(self, X: Inputs) -> Any:
        """Return the most probable label of every row, shape (batch,)."""
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]
