"""Predictions of rows held out of training, kept with a model, and conformal sets from them.

The width of an interval is a quantile of the errors on held-out rows [1]_ [2]_; a set of classes
has those more probable than a quantile of the true classes' probabilities on held-out rows [3]_.
With `by`, quantiles are computed for each category of a column [4]_. For a model of several
quantiles, the two nearest to the interval ends are widened by a quantile of how far targets lie
outside of them [5]_.

References
----------
.. [1] V. Vovk et al., Algorithmic Learning in a Random World, 2005.
.. [2] R. Barber et al., Predictive inference with the jackknife+, 2021.
.. [3] M. Sadinle et al., Least ambiguous set-valued classifiers with bounded error levels, 2019.
.. [4] V. Vovk, Conditional validity of inductive conformal predictors, 2012.
.. [5] Y. Romano, E. Patterson, E. Candes, Conformalized quantile regression, 2019.
"""

from __future__ import annotations

import base64
import math
import numbers
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice
from kanlens.data._cell_parsing import Array
from kanlens.data._schema import Schema
from kanlens.errors import InvalidValueError, KanlensWarning, MethodError
from kanlens.model._losses import PLAIN, Loss, Scaling
from kanlens.model._survival import cumulative_hazard
from kanlens.model._training_record import fingerprint

if TYPE_CHECKING:
    from kanlens.model._network import KAN

MAX_ROWS = 2000  # rows kept, drawn at random; the coverage of 0.9 then varies by 0.007
MAX_RATIO = 1e6  # of the hazards of two rows


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Outputs and targets of rows held out, in scaled units, and their categories.

    Numbers are in base64: float32 (row, out) outputs and targets, or class codes (row,); uint16
    (row,) codes of the categories of each categorical column, from 1.
    """

    rows: int
    outputs: str
    targets: str
    levels: dict[str, str] = field(default_factory=dict)
    shrink: float = 1.0  # factor of errors, below 1 if the network is the mean of several
    weights: str = ""  # fingerprint of the network

    @classmethod
    def from_dict(cls, data: dict[str, Any], schema: Schema) -> HeldOut:
        """Rebuild the rows from their JSON; a ValueError or TypeError describes a fault."""
        held = cls(**data)
        sizes = [len(values) for values in (*held.arrays, *held.codes.values())]
        (outputs, targets), count = held.arrays, len(schema.outputs)
        sound = bool(np.isfinite(outputs).all() and np.isfinite(targets).all())
        sound &= outputs.shape[1] == count
        if schema.task == "classification":
            classes = set(np.unique(targets).tolist())
            sound &= targets.shape[1] == 1 and classes <= set(range(max(count, 2)))
        else:
            sound &= targets.shape == outputs.shape
        if not (held.rows > 0 and set(sizes) == {held.rows} and sound and 0 < held.shrink <= 1):
            raise ValueError(f"rows held out are {held.rows} with {sizes}")
        return held

    @cached_property
    def arrays(self) -> tuple[Array, Array]:
        """Outputs (row, out), and targets (row, out) or class codes (row, 1)."""
        return tuple(  # type: ignore[return-value]
            _decoded(text, "<f4").astype(float).reshape(self.rows, -1)
            for text in (self.outputs, self.targets)
        )

    @cached_property
    def codes(self) -> dict[str, Array]:
        """Codes (row,) of the categories of each categorical column."""
        return {name: _decoded(text, "<u2") for name, text in self.levels.items()}

    def scores(self, loss: Loss, scaling: Scaling = PLAIN, level: float = 0.9) -> Array:
        """Return how far targets lie beyond the interval ends, in the units of the data.

        Shape (row, interval); for classes, 1 minus the probability of the true one (row, 1).
        """
        outputs, targets = map(torch.from_numpy, self.arrays)
        if loss.classes:
            return 1 - probabilities(outputs).gather(1, targets.long()).numpy()
        values = loss.response(outputs * scaling[1] + scaling[0])
        low, high = interval_ends(loss, values.shape[1], level)
        targets = loss.unscaled(targets, scaling)
        beyond = torch.maximum((values - targets)[:, low], (targets - values)[:, high])
        return np.asarray(beyond.numpy() * self.shrink)


def keep_held_out(
    model: KAN, x: Tensor, outputs: Tensor, y: Tensor, *, shrink: float = 1.0
) -> None:
    """Store outputs and targets of rows x (row, in) that training did not see.

    Outputs are (row, out) in the units of the data; `shrink` scales their errors.
    """
    model.held_out = None
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(x))[:MAX_ROWS])
    x, outputs, y = x[chosen], outputs[chosen], y[chosen]
    parts = [part.detach().double().cpu() for part in (outputs, y)]
    if model.task == "regression":
        shift, scale = model.output_shift.double().cpu(), model.output_scale.double().cpu()
        parts = [(parts[0] - shift) / scale, model.loss.scaled(parts[1], (shift, scale))]
    finite = all(bool(part.isfinite().all()) for part in parts)
    if not (len(x) and finite):
        return
    if not model.loss.separable and float(parts[0].max() - parts[0].min()) > math.log(MAX_RATIO):
        expected, got = f"hazards whose ratios are below {MAX_RATIO:g}", "larger ones"
        advice = "Columns may separate the few events: add rows with events, or leave columns out"
        warnings.warn(KanlensWarning("fit", expected, got, advice), stacklevel=4)
    codes = {name: encoded(own, "<u2") for name, own in category_codes(model.schema, x).items()}
    model.held_out = HeldOut(
        rows=len(x),
        outputs=encoded(parts[0].numpy(), "<f4"),
        targets=encoded(parts[1].numpy(), "<f4"),
        levels=codes,
        shrink=min(shrink, 1.0),
        weights=fingerprint(model.state_dict().values()),
    )


def conformal_widths(model: KAN, x: Tensor, level: float, by: str | None, *, call: str) -> Tensor:
    """Return the distances from outputs to interval ends; for classes, 1 minus a threshold.

    Shape (row, interval) for rows x, in the units of the data, or (row, 1) for classes.

    Raises
    ------
    InvalidValueError
        If `level` is not between 0 and 1, or `by` is not a categorical column.
    MethodError
        If no rows were held out, too few for `level`, or the model has changed.
    """
    real = isinstance(level, numbers.Real) and not isinstance(level, bool)
    if not (real and 0 < level < 1):
        advice = "0.9 covers nine of ten new rows"
        raise InvalidValueError(call, "between 0 and 1", repr(level), advice, argument="interval")
    if not model.loss.separable:
        advice = "Leave {interval} out; predict(times=) returns survival probabilities"
        raise MethodError(call, "a loss with intervals", "the loss 'cox'", advice, interval=None)
    held, loss = current_held_out(model, call), model.loss
    scaling = model.output_shift.double().cpu(), model.output_scale.double().cpu()
    scores, own = held.scores(loss, scaling, level), None
    if by is not None:
        check_choice(call, "by", by, held.codes)
        own = category_codes(model.schema, x)[by]
    widths = np.broadcast_to(_quantiles(scores, level, call), (len(x), scores.shape[1])).copy()
    for code in () if own is None else np.unique(own):
        group = scores[held.codes[cast("str", by)] == code]
        if _place(len(group), level) <= len(group):  # else the width for all rows
            widths[own == code] = _quantiles(group, level, call)
    return torch.from_numpy(widths).to(model.output_scale)


def interval_ends(loss: Loss, outputs: int, level: float) -> tuple[list[int], list[int]]:
    """Return the indices of the outputs for the low and the high ends of intervals."""
    if not loss.levels:
        return (own := [*range(outputs)]), own
    gaps = np.subtract.outer([(1 - level) / 2, (1 + level) / 2], loss.levels)
    low, high = np.abs(gaps).argmin(1).tolist()
    return [low], [high]


def prediction_columns(model: KAN, level: float | None) -> tuple[Sequence[Any], ...]:
    """Return the names, output and width indices, and signs of a regression's prediction columns.

    A column is an output plus sign times a width; the sign is 0 without an interval.
    """
    names, ends = model.output_names, [("", 0), (" low", -1), (" high", 1)]
    if level is not None and not model.loss.levels:
        columns = [(name + end, k, k, s) for k, name in enumerate(names) for end, s in ends]
    else:
        columns = [(name, k, 0, 0) for k, name in enumerate(names)]
    if level is not None and model.loss.levels:
        (low,), (high,) = interval_ends(model.loss, len(names), level)
        columns += [("low", low, 0, -1), ("high", high, 0, 1)]
    return tuple(zip(*columns, strict=True))


def survival(model: KAN, output: Tensor, times: float | Sequence[float], *, call: str) -> Tensor:
    """Return survival probabilities (row, time) at `times`, for log hazards `output` (row, 1).

    The baseline hazard is Breslow's, of the rows held out of training.
    """
    if model.loss.separable:
        raise MethodError(call, "times only with loss='cox'", model.loss.name, "Leave times out")
    places = np.ravel(times)
    if places.dtype.kind not in "iuf" or not (places >= 0).all():
        fields = "to be numbers of at least 0", repr(times), "For example [1.0, 2.5]"
        raise InvalidValueError(call, *fields, argument="times")
    sums, targets = (part[:, 0] for part in current_held_out(model, call).arrays)
    hazard = cumulative_hazard(sums - sums.max(), targets, np.ones(len(sums)))(places)
    logs = torch.from_numpy(hazard).log() - sums.max()
    return torch.exp(-(output + logs.to(output)).exp())


def category_codes(schema: Schema, x: Tensor) -> dict[str, Array]:
    """Return the category codes (row,) of each categorical column; 0 if no feature is 1."""
    features, rows = schema.features, x.detach().cpu().numpy()
    return {
        column: np.where((own := rows[:, levels] > 0.5).any(1), own.argmax(1) + 1, 0)
        for column, places in schema.places.items()
        if (levels := [k for k in places if features[k].kind in ("categorical", "binary")])
    }


def probabilities(logits: Tensor) -> Tensor:
    """Return the probability (row, class) of every class for logits (row, out)."""
    if logits.shape[1] > 1:
        return logits.softmax(1)
    high = torch.sigmoid(logits)
    return torch.cat([1 - high, high], dim=1)


def current_held_out(model: KAN, call: str) -> HeldOut:
    """Return the held-out rows of a model; refuse a model that has changed since training."""
    held = model.held_out
    if held is None:
        expected, advice = (
            "a model with rows held out of training",
            "Use calibrate, with such rows",
        )
        raise MethodError(call, expected, "one without", advice)
    if held.weights != fingerprint(model.state_dict().values()):
        expected = "the model as it was trained"
        advice = "Use calibrate, with rows that it has not seen"
        raise MethodError(call, expected, "a model that has changed", advice)
    return held


def _place(rows: int, level: float) -> int:
    """Return the rank of the score that bounds a share `level` of new scores."""
    return math.ceil((rows + 1) * level - 1e-9)


def _quantiles(scores: Array, level: float, call: str) -> Array:
    place = _place(len(scores), level)
    if place > len(scores):
        expected = f"at least {math.ceil(level / (1 - level) - 1e-9)} rows held out"
        advice = "Lower the level, or train on more rows"
        raise MethodError(call, expected, str(len(scores)), advice)
    return np.asarray(np.sort(scores, axis=0)[place - 1])


def encoded(values: Array, dtype: str) -> str:
    """Return the bytes of an array, converted to a dtype, in base64."""
    return base64.b64encode(np.ascontiguousarray(values.astype(dtype)).tobytes()).decode()


def _decoded(text: str, dtype: str) -> Array:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=dtype)
