"""Calibration of intervals, probabilities and a threshold on held-out rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from kanlens._model_inputs import prepare_data
from kanlens.data._tables import Table
from kanlens.errors import DataError, InvalidValueError, MethodError, rewording
from kanlens.functions._elementary import Array
from kanlens.model._analysis import Model, check_model
from kanlens.model._held_out import HeldOut, current_held_out, encoded, keep_held_out
from kanlens.model._losses import LogLoss
from kanlens.model._network import KAN
from kanlens.model._training_record import fingerprint


@torch.no_grad()
def calibrate(
    model: Model, data: Table | tuple[Any, Any] | None = None, *, probabilities: bool = False
) -> KAN:
    """Calibrate intervals, sets of classes and probabilities on held-out rows.

    Training stores predictions of its held-out rows. `data` is needed only for a model that was
    imported or changed since, or if future rows differ from those of training.

    Parameters
    ----------
    model : KAN or fitted estimator
        Changed in place.
    data : Table or tuple (x, y), optional
        Rows with targets that training did not see. Default: those held out of training.
    probabilities : bool
        Whether logits are scaled and shifted to minimize the log loss on these rows: by Platt's
        method [1]_, for more than two classes with one scale and a shift per class [2]_. Both
        become part of the model's output scaling.

    Returns
    -------
    KAN
        The network.

    Raises
    ------
    MethodError
        If there are no rows held out, the model has changed since training, or `probabilities` are
        to be calibrated for a regression.
    DataError, ShapeError, DTypeError
        If `data` does not fit the model, or has no target.

    References
    ----------
    .. [1] J. Platt, Probabilistic outputs for support vector machines, 1999.
    .. [2] C. Guo et al., On calibration of modern neural networks, 2017.

    Examples
    --------
    >>> from kanlens import predict
    >>> model = KAN([2, 1], generator=torch.Generator().manual_seed(0))
    >>> x = torch.rand(99, 2, generator=torch.Generator().manual_seed(1))
    >>> model = calibrate(model, (x, model(x).detach() + 0.5))
    >>> predict(model, x[:1], interval=0.9).round(2).diff(axis=1).iloc[0, 1:].tolist()
    [-0.5, 1.0]
    """
    network = check_model("calibrate", model)
    with rewording("calibrate"):
        if data is not None:
            x, y = prepare_data(network, data, trained=True)
            if y is None:
                raise DataError("calibrate", "rows with targets", "none", "Pass y too")
            keep_held_out(network, x, network(x), y)
        held = current_held_out(network, "calibrate")
    if probabilities and network.task == "regression":
        advice = "Leave probabilities out; regression has intervals"
        raise MethodError("calibrate", "a classifier", "a regression", advice)
    if probabilities:
        _calibrate_logits(network, held)
    return network


def cheapest_threshold(model: KAN, cost: Sequence[float]) -> float:
    """Return the threshold on the probability of the second class with the least total cost.

    `cost` holds those of a false positive and of a false negative among the rows held out.
    """
    call = "KANClassifier.find_threshold"
    pair = np.asarray(cost)
    numeric = pair.shape == (2,) and pair.dtype.kind in "iuf"
    if not numeric or not (np.isfinite(pair) & (pair > 0)).all():
        expected, advice = "costs of a false positive and a false negative", "For example (1, 5)"
        raise InvalidValueError(call, expected, repr(cost), advice)
    outputs, codes = current_held_out(model, call).arrays
    if outputs.shape[1] > 1:
        advice = "Take the most probable class"
        raise MethodError(call, "two classes", f"{outputs.shape[1]}", advice)
    chances = np.concatenate(([0.0], expit(outputs[:, 0]), [1.0]))
    order = np.argsort(chances, kind="stable")
    chances, codes = chances[order], np.concatenate(([0.0], codes[:, 0], [1.0]))[order]
    missed = pair[1] * np.cumsum(codes)[:-1] - pair[0] * np.cumsum(1 - codes)[:-1]
    best = np.where(np.diff(chances) > 0, missed, np.inf).argmin()
    return float(chances[best : best + 2].mean())


def _calibrate_logits(model: KAN, held: HeldOut) -> None:
    """Scale and shift the logits of a model and of its stored held-out rows."""
    outputs, targets = (torch.from_numpy(values) for values in held.arrays)
    scale, shift = _least_log_loss(outputs, targets[:, 0].long())
    model.output_scale.mul_(scale)
    model.output_shift.mul_(scale).add_(shift.to(model.output_shift))
    moved = encoded((outputs * scale + shift).numpy(), "<f4")
    weights = fingerprint(model.state_dict().values())
    model.held_out = dataclasses.replace(held, outputs=moved, weights=weights)


def _least_log_loss(logits: Tensor, codes: Tensor) -> tuple[float, Tensor]:
    """Return the scale, and shifts (out,), of logits (row, out) with the least log loss.

    As in Platt's method, a row of each class is added, so that separable classes stay finite.
    """
    from scipy.optimize import minimize

    classes = max(logits.shape[1], 2)
    logits = torch.cat([logits, logits.mean(0).expand(classes, -1)])
    codes = torch.cat([codes, torch.arange(classes)])

    def loss(point: Array) -> tuple[float, Array]:
        own = torch.from_numpy(point).requires_grad_()
        with torch.enable_grad():
            value = LogLoss().rows(logits * own[0].exp() + own[1:], codes).mean()
            value.backward()
        return float(value), own.grad.numpy()  # type: ignore[union-attr]

    best = minimize(loss, np.zeros(1 + logits.shape[1]), jac=True, method="BFGS").x
    return float(np.exp(best[0])), torch.from_numpy(best[1:])
