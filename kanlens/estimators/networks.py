"""Networks for regression and classification."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: TID253
from sklearn.utils.multiclass import check_classification_targets  # noqa: TID253

from kanlens.checks import message
from kanlens.data.schema import Feature, Output, Schema
from kanlens.errors import InvalidValueError, RangeWarning
from kanlens.estimators.inputs import (
    Regression,
    feature_names,
    fitted,
    generator_from,
    target_names,
    validated,
)
from kanlens.functions.elementary import Array
from kanlens.model.network import KAN
from kanlens.training import fit
from kanlens.training.prediction import outside_words

_FEW = 20  # rows below which none are held out


class _Network(BaseEstimator):  # type: ignore[misc]  # untyped
    """Network estimator of either task: parameters, training, outputs."""

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (5,),
        grid_size: int = 5,
        steps: int = 50,
        penalty: str | None = None,
        strength: float = 0.0,
        validation: float = 0.2,
        extrapolation: str = "constant",
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.grid_size = grid_size
        self.steps = steps
        self.penalty = penalty
        self.strength = strength
        self.validation = validation
        self.extrapolation = extrapolation
        self.random_state = random_state

    def _train(
        self,
        rows: Array,
        y: torch.Tensor,
        outputs: int,
        *,
        names: Sequence[str] | None = None,
        schema: Schema | None = None,
    ) -> None:
        """Train a network and keep it, with what is known of its training."""
        generator = generator_from(self)
        try:
            hidden: list[Any] = list(self.hidden)
        except TypeError as error:
            call, got = type(self).__name__, repr(self.hidden)
            text = message(call, "hidden to be the widths of layers", got, "For example (5,)")
            raise InvalidValueError(text) from error
        self.model_ = KAN(
            [rows.shape[1], *hidden, outputs],
            grid_size=self.grid_size,
            extrapolation=self.extrapolation,
            feature_names=feature_names(self),
            output_names=names,
            generator=generator,
        ).double()
        if schema is not None:
            names = self.model_.feature_names
            inputs = tuple(Feature(name=name, column=name) for name in names)
            self.model_.schema = dataclasses.replace(schema, features=inputs)
        self.result_ = fit(
            self.model_,
            (torch.tensor(rows), y),
            steps=self.steps,
            penalty=self.penalty,
            strength=self.strength,
            validation=self.validation if len(rows) >= _FEW else 0.0,
            generator=generator,
            progress=False,
        )

    @property
    def network_(self) -> KAN:
        """The network, which functions that take a model find here; refused before fitting."""
        network: KAN = fitted(self, "model_")
        return network

    def _outputs(self, X: Any) -> torch.Tensor:
        """Return the outputs of the network on checked rows, (batch, out)."""
        model = self.network_
        rows = validated(self, X, dtype=np.float64, reset=False)
        words = outside_words(model, torch.tensor(rows))
        if words:
            warnings.warn(f"{type(self).__name__}: {words}.", RangeWarning, stacklevel=3)
        with torch.no_grad():
            values: torch.Tensor = model(torch.tensor(rows))
        return values


class KANRegressor(Regression, _Network):
    """A Kolmogorov-Arnold network for regression.

    Parameters
    ----------
    hidden : sequence of int
        Nodes of the hidden layers.
    grid_size : int
        Intervals of every grid.
    steps : int
        Of LBFGS.
    penalty : str, optional
        As for `kanlens.fit`.
    strength : float
        Factor of the penalty.
    validation : float
        Share of rows held out; none with fewer than 20 rows.
    extrapolation : {"constant", "linear", "zero"}
        What becomes of features outside the training data, as for `KAN`.
    random_state : int, RandomState or None
        Draws weights and held-out rows.

    Attributes
    ----------
    model_ : KAN
        The network; `kanlens.plot`, `prune`, `symbolize` and the others also take the estimator.
    result_ : FitResult
        How training went.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when `X` had names, all of them texts.

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 50)[:, None]
    >>> KANRegressor(hidden=(), steps=10, random_state=0).fit(x, x[:, 0] ** 2).score(x, x**2) > 0.99
    True
    """

    def fit(self, X: Any, y: Any) -> KANRegressor:
        """Train the network.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
        y : array-like, shape (batch,) or (batch, out)

        Returns
        -------
        KANRegressor
            Itself.
        """
        rows, outputs, names = self._tables(X, y)
        self._train(rows, torch.tensor(outputs), outputs.shape[1], names=names)
        return self

    def predict(self, X: Any) -> Array:
        """Return the outputs, shape (batch,) or (batch, out)."""
        return self._shaped(np.asarray(self._outputs(X).numpy()))


class KANClassifier(ClassifierMixin, _Network):  # type: ignore[misc]  # untyped
    """A Kolmogorov-Arnold network for classification; parameters as for `KANRegressor`.

    Attributes
    ----------
    classes_ : ndarray, shape (class,)
        The labels.
    model_ : KAN
        The network; its outputs are logits, one for two classes, else one per class.
    result_ : FitResult
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when `X` had names, all of them texts.

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 50)[:, None]
    >>> labels = np.where(x[:, 0] > 0.2, "high", "low")
    >>> KANClassifier(hidden=(), steps=10, random_state=0).fit(x, labels).score(x, labels)
    1.0
    """

    def fit(self, X: Any, y: Any) -> KANClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like or DataFrame, shape (batch, in)
        y : array-like, shape (batch,)
            Labels of at least two classes.

        Returns
        -------
        KANClassifier
            Itself.

        Raises
        ------
        ValueError
            If there is only one class, or `y` is no labels.
        """
        names = target_names(y)
        rows, target = validated(self, X, y, dtype=np.float64, ensure_min_samples=2)
        missing = [row for row, label in enumerate(target) if label is None]
        if missing:
            text = message("KANClassifier", "labels", f"none in row {missing[0]}", "Leave it out")
            raise InvalidValueError(text)
        check_classification_targets(target)
        self.classes_, codes = np.unique(target, return_inverse=True)
        if len(self.classes_) < 2:
            advice = "Classification needs more than one class"
            text = message("KANClassifier", "at least two classes", "one class", advice)
            raise InvalidValueError(text)
        labels = tuple(str(label) for label in self.classes_)
        shown = labels[1:] if len(labels) == 2 else labels
        column = names[0] if names and len(names) == 1 else "y"
        schema = Schema(
            features=(),
            outputs=tuple(Output(name=f"{column}={label}") for label in shown),
            target=column,
            task="classification",
            class_labels=labels,
        )
        self._train(rows, torch.tensor(codes), len(shown), schema=schema)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of every class, shape (batch, class)."""
        logits = self._outputs(X)
        if logits.shape[1] == 1:
            high = torch.sigmoid(logits)
            return np.asarray(torch.cat((1 - high, high), dim=1).numpy())
        return np.asarray(logits.softmax(dim=1).numpy())

    def predict(self, X: Any) -> Any:
        """Return the likeliest label of every row, shape (batch,)."""
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]
