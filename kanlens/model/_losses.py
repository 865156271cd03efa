"""Losses of a network's outputs, with their links, best constants, and working responses.

The output of a network is the linear predictor of its loss: the log of the mean, of the hazard, or
the log-odds. Closed-form fits step to a working response, as in iteratively reweighted least
squares [1]_; those of the check loss are smoothed by a logistic kernel [2]_, and Cox's partial
likelihood is that of counts whose means are cumulative hazards [3]_. Several quantiles are put in
order [4]_.

References
----------
.. [1] P. McCullagh and J. Nelder, Generalized Linear Models, 1989.
.. [2] X. He et al., Smoothed quantile regression with large-scale inference, 2023.
.. [3] J. Whitehead, Fitting Cox's regression model to survival data using GLIM, 1980.
.. [4] V. Chernozhukov et al., Quantile and probability curves without crossing, 2010.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kanlens.data._cell_parsing import Array
from kanlens.data._schema import Schema
from kanlens.errors import DataError, InvalidValueError
from kanlens.model._statistics import deviations
from kanlens.model._survival import cumulative_hazard

Scaling: TypeAlias = tuple[Tensor, Tensor]  # shift and scale (out,)
V = TypeVar("V", Tensor, Array)
PLAIN = torch.zeros(()), torch.ones(())
MIN_SHARE, MIN_WEIGHT = 1e-6, 1e-5  # of a class at the start; of a row in working responses
BANDWIDTH = 0.2  # of the kernel that smooths the check loss, over the median absolute residual
FEW, LUMPED = 1e-3, 0.2  # least density of residuals at 0, scaled; spread over their 90 % quantile
OUTLIERS = 0.9  # quantile of a linear fit's absolute residuals from which Huber's loss is linear
NORMAL_IQR = 1.349  # interquartile range of a normal distribution, in standard deviations
MOST, LARGEST = 30.0, 88.0  # largest log of a scaled mean in working responses; of a response


class Loss:
    """The squared error, and the base of the other losses.

    Methods take scaled targets and outputs, except for `adjusted`, `best`, `check`, `response`,
    `rows`, `scaled` and `settle`, which take them in the units of the data. A `linear` loss is
    fitted in one step and allows a link that is learned.
    """

    name, metric, scale = "squared_error", "R2", ""
    measure = "variance"  # of which the metric is an explained share
    linear, classes, separable, log, known = True, False, True, False, False  # known: a noise of 1

    usual = 0.0  # default parameter: power of the mean in the variance, or share of targets below

    def __init__(self, parameter: float | tuple[float, ...] | None = None) -> None:
        self.levels = parameter if isinstance(parameter, tuple) else ()  # of several quantiles
        own = self.usual if parameter is None or isinstance(parameter, tuple) else parameter
        self.parameter = float(own)

    def of_output(self, place: int) -> Loss:
        """Return the loss of one output."""
        return type(self)(self.levels[place]) if self.levels else self

    def check(self, y: Array) -> str:
        """Describe valid targets if some of y (batch, out) are invalid, else return ""."""
        return ""

    def settle(self, x: Tensor, y: Tensor) -> Scaling:
        """Return shift and scale (out,) of the output for rows x and targets y (batch, out)."""
        spread = deviations(y)
        return y.mean(0), torch.where(spread > 0, spread, 1.0)

    def scaled(self, y: Tensor, scaling: Scaling) -> Tensor:
        """Return scaled targets; with a log link, targets over the mean."""
        return y / self.unit(scaling) if self.log else (y - scaling[0]) / scaling[1]

    def unscaled(self, y: Tensor, scaling: Scaling) -> Tensor:
        """Return targets in the units of the data."""
        return y * self.unit(scaling) if self.log else y * scaling[1] + scaling[0]

    def response(self, output: V) -> V:
        """Return the mean, quantile or relative hazard for outputs, a tensor or an array."""
        exp = torch.exp if isinstance(output, Tensor) else np.exp
        return exp(output.clip(max=LARGEST)) if self.log else output

    def unit(self, scaling: Scaling) -> Tensor:
        """Return the size (out,) of a scaled response of 1."""
        return scaling[0].exp() if self.log else scaling[1]

    def adjusted(self, name: str, y: Tensor, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return targets (batch, out), and weights (batch, 1) or None, that account for values.

        `values` (batch, 1) are of the kind `name`: "exposure", "offset" or "event".
        """
        if name == "offset" and self.separable and not self.classes:
            return y - values, None
        raise _refused(name, self.name)

    def rows(
        self, output: Tensor, y: Tensor, scaling: Scaling = PLAIN, weights: Tensor | None = None
    ) -> Tensor:
        """Return the losses (batch, ..., out) of outputs and targets in the units of the data."""
        return self.of_errors((y - output) / scaling[1])

    def of_errors(self, left: Tensor) -> Tensor:
        """Return the losses of scaled errors."""
        return left.square()

    def best(self, y: Array, weights: Array | None = None) -> Array:
        """Return the best constant output (out,) for targets (batch, out)."""
        return np.asarray(np.average(y, 0, weights))

    def constant(self, targets: Array, weights: Array) -> float:
        """Return the best constant for scaled targets (batch,)."""
        return float(weights @ targets / weights.sum())

    def losses(self, sums: Array, targets: Array, weights: Array) -> Array:
        """Return the losses (batch,), with slope -2 times the weight times the working error."""
        return np.asarray((targets - sums) ** 2)

    def working(self, sums: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Return weights (batch,) of the working response, and its errors: response less sums."""
        return weights, targets - sums


class LogLoss(Loss):
    """The cross-entropy of classes; of one class against the others in closed-form fits."""

    name, metric, scale = "log_loss", "accuracy", "log-odds"
    linear, classes, known = False, True, True

    def constant(self, targets: Array, weights: Array) -> float:
        """Return the log-odds of the class."""
        from scipy.special import logit

        share = super().constant(targets, weights)
        return float(logit(np.clip(share, MIN_SHARE, 1 - MIN_SHARE)))

    def rows(
        self, output: Tensor, y: Tensor, scaling: Scaling = PLAIN, weights: Tensor | None = None
    ) -> Tensor:
        """Return the cross-entropy (batch, 1) of logits and codes (batch,)."""
        if output.shape[1] == 1:
            target = y.to(output.dtype)[:, None]
            return F.binary_cross_entropy_with_logits(output, target, reduction="none")
        return F.cross_entropy(output, y, reduction="none")[:, None]

    def losses(self, sums: Array, targets: Array, weights: Array) -> Array:
        """Return minus twice the log likelihood (batch,)."""
        return np.asarray(2 * (np.logaddexp(0, sums) - targets * sums))

    def working(self, sums: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Return the weights and errors (batch,) of the working response."""
        from scipy.special import expit

        share = expit(sums)
        slope = np.maximum(share * (1 - share), MIN_WEIGHT)
        return weights * slope, (targets - share) / slope


class _ByRows(Loss):
    """A loss whose closed-form fits take the losses of `rows`, times `factor`."""

    metric, linear, factor = "D2", False, 1.0

    def constant(self, targets: Array, weights: Array) -> float:
        """Return the best constant for scaled targets (batch,)."""
        return float(self.best(targets[:, None], weights)[0])

    def losses(self, sums: Array, targets: Array, weights: Array) -> Array:
        """Return the losses (batch,)."""
        output, y = (torch.from_numpy(part)[:, None] for part in (sums, targets))
        own = self.rows(output, y, weights=torch.from_numpy(weights))
        return np.asarray(self.factor * own[:, 0].numpy())


class Tweedie(_ByRows):
    """The deviance of a Tweedie distribution: 1 is Poisson's, 2 that of gamma; log link."""

    name, scale, log, measure = "tweedie", "log mean", True, "Tweedie deviance"
    usual = 1.5

    def check(self, y: Array) -> str:
        """Describe valid targets if some of y (batch, out) are invalid, else return ""."""
        sign, sound = ("above", y > 0) if self.parameter >= 2 else ("of at least", y >= 0)
        return "" if sound.all() and (y.sum(0) > 0).all() else f"numbers {sign} 0, not all 0,"

    def settle(self, x: Tensor, y: Tensor) -> Scaling:
        """Return the log of the mean, and 1."""
        return y.mean(0).log(), torch.ones_like(y[0])

    def adjusted(self, name: str, y: Tensor, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return targets over their exposures, and weights that give the same likelihood."""
        if name == "event":
            raise _refused(name, self.name)
        exposure = values if name == "exposure" else values.exp()
        return y / exposure, exposure.pow(2 - self.parameter)

    def rows(
        self, output: Tensor, y: Tensor, scaling: Scaling = PLAIN, weights: Tensor | None = None
    ) -> Tensor:
        """Return unit deviances (batch, ..., out)."""
        p, logs, y = self.parameter, output - scaling[0], self.scaled(y, scaling)
        if p == 1:
            return 2 * (torch.xlogy(y, y) - y * logs - y + logs.exp())
        if p == 2:
            return 2 * (logs - y.log() + y * (-logs).exp() - 1)
        first = y.pow(2 - p) / ((1 - p) * (2 - p)) - y * ((1 - p) * logs).exp() / (1 - p)
        return 2 * (first + ((2 - p) * logs).exp() / (2 - p))

    def best(self, y: Array, weights: Array | None = None) -> Array:
        """Return the log of the mean (out,)."""
        return np.asarray(np.log(np.maximum(np.average(y, 0, weights), 1e-300)))

    def working(self, sums: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Return the weights and errors (batch,) of the working response."""
        logs = np.clip(sums, -MOST, MOST)
        slope = np.maximum(np.exp((2 - self.parameter) * logs), MIN_WEIGHT)
        score = (targets - np.exp(logs)) * np.exp((1 - self.parameter) * logs)
        return weights * slope, score / slope


class Poisson(Tweedie):
    """The deviance of counts, or of rates; log link."""

    name, scale, usual, measure = "poisson", "log rate", 1.0, "Poisson deviance"


class Gamma(Tweedie):
    """The deviance of positive amounts; log link."""

    name, usual, measure = "gamma", 2.0, "gamma deviance"


class Quantile(_ByRows):
    """The pinball loss of one quantile or several."""

    name, factor, usual, measure = "quantile", 2.0, 0.5, "pinball loss"

    def settle(self, x: Tensor, y: Tensor) -> Scaling:
        """Return the quantile, and the standard deviation estimated by the interquartile range."""
        spread = np.ptp(np.quantile(y.cpu().double().numpy(), [0.25, 0.75], 0), axis=0)
        spread, usual = torch.from_numpy(spread / NORMAL_IQR).to(y), super().settle(x, y)[1]
        middle = torch.from_numpy(self.best(y.cpu().double().numpy())).to(y)
        return middle, torch.where(spread > 0, spread, usual)

    def of_errors(self, left: Tensor) -> Tensor:
        """Return the check losses of scaled errors."""
        level = left.new_tensor(self.levels or [self.parameter])
        return torch.maximum(level * left, (level - 1) * left)

    def response(self, output: V) -> V:
        """Return the quantiles; several in order, so that they do not cross."""
        if not self.levels:
            return output
        return output.sort(-1).values if isinstance(output, Tensor) else np.sort(output, -1)

    def best(self, y: Array, weights: Array | None = None) -> Array:
        """Return the quantile (out,)."""
        if self.levels:
            parts = zip(self.levels, y.T, strict=True)
            return np.array([type(self)(q).best(own[:, None], weights)[0] for q, own in parts])
        if weights is None or np.ptp(weights) == 0:
            return np.asarray(np.quantile(y, self.parameter, 0))
        order = y.argsort(0)
        share = weights[order].cumsum(0) / weights.sum()
        places = (share < self.parameter).sum(0)[None]
        return np.asarray(np.take_along_axis(np.take_along_axis(y, order, 0), places, 0)[0])

    def working(self, sums: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Return working weights and errors (batch,), from the density of residuals at zero."""
        left = targets - sums
        sizes = np.abs(left - np.median(left[weights > 0]))[weights > 0]
        middle, far = np.quantile(sizes, [0.5, 0.9])
        spread = max(float(middle), LUMPED * float(far), 1e-12)
        below = torch.sigmoid(torch.from_numpy(-left / (BANDWIDTH * spread))).numpy()
        density = float(weights @ (below * (1 - below)) / weights.sum()) / BANDWIDTH
        slope = max(density, FEW) / spread
        return weights * slope, (self.parameter - below) / slope


class AbsoluteError(Quantile):
    """The absolute error, whose best constant is the median."""

    name, factor, measure = "absolute_error", 1.0, "absolute error"

    def of_errors(self, left: Tensor) -> Tensor:
        """Return absolute scaled errors."""
        return left.abs()


class Huber(Quantile):
    """Huber's loss: squared up to a residual, the scale of the output, and then linear."""

    name, factor, measure = "huber", 2.0, "Huber loss"

    def settle(self, x: Tensor, y: Tensor) -> Scaling:
        """Return the median, and the residual of a linear fit from which the loss is linear."""
        middle, usual = super().settle(x, y)
        rows, targets = (part.cpu().double().numpy() for part in (x, y))
        design = np.column_stack((rows - rows.mean(0), np.ones(len(rows))))
        usual_targets = targets.clip(*np.quantile(targets, [1 - OUTLIERS, OUTLIERS], 0))
        line = design @ np.linalg.lstsq(design, usual_targets, rcond=None)[0]
        limit = torch.from_numpy(np.quantile(abs(targets - line), OUTLIERS, 0)).to(y)
        return middle, torch.where(limit > 1e-6 * usual, limit, usual)

    def of_errors(self, left: Tensor) -> Tensor:
        """Return Huber's losses of scaled errors."""
        left = left.abs()
        return torch.where(left < 1, left.square() / 2, left - 0.5)

    def working(self, sums: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Return the weights and errors (batch,) of the working response."""
        left = targets - sums
        slope = max(float(weights @ (np.abs(left) < 1) / weights.sum()), 0.05)
        return weights * slope, np.clip(left, -1, 1) / slope


class Cox(_ByRows):
    """Negative log partial likelihood plus a constant (Breslow); censored times are negative."""

    name, scale, metric, log = "cox", "log hazard", "concordance", True
    separable, known, factor, measure = False, True, 2.0, ""

    def check(self, y: Array) -> str:
        """Describe valid targets if some of y (batch, out) are invalid, else return ""."""
        sound = y.shape[1] == 1 and (y != 0).all() and (y > 0).any()
        return "" if sound else "times (not 0, negative where censored) with an event"

    def settle(self, x: Tensor, y: Tensor) -> Scaling:
        """Return 0 and 1: only differences of log hazards matter."""
        return torch.zeros_like(y[0]), torch.ones_like(y[0])

    def adjusted(self, name: str, y: Tensor, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return signed times."""
        if name == "event":
            return torch.where(values != 0, y.abs(), -y.abs()), None
        raise _refused(name, self.name)

    def best(self, y: Array, weights: Array | None = None) -> Array:
        """Return 0."""
        return np.zeros(y.shape[1])

    def rows(
        self, output: Tensor, y: Tensor, scaling: Scaling = PLAIN, weights: Tensor | None = None
    ) -> Tensor:
        """Return the losses (batch, 1): log of the mean hazard at risk over the row's, plus 1.

        They are 0 without an event. Rows of weight 0 are only in their own risk sets.
        """
        times, logs = y[:, 0].abs(), output[:, 0]
        weights = torch.ones_like(logs) if weights is None else weights.to(logs)
        order = times.argsort(descending=True)
        last = torch.searchsorted(-times[order], -times, right=True) - 1  # of the risk set
        own = weights.clamp_min(torch.finfo(logs.dtype).tiny).log()
        sizes = torch.stack([own, own + logs])  # (count or hazard, row)
        alone = torch.where(weights > 0, -torch.inf, torch.stack([0 * logs, logs]))
        count, hazard = torch.logaddexp(sizes[:, order].logcumsumexp(1)[:, last], alone)
        return torch.where(y[:, 0] > 0, 1 + hazard - count - logs, 0.0)[:, None]

    def working(self, sums: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Return working weights and errors (batch,), as of Poisson counts of events."""
        logs = np.clip(sums - max(sums.max() - MOST, 0.0), -MOST, MOST)  # only differences matter
        means = np.exp(logs) * cumulative_hazard(logs, targets, weights)(np.abs(targets))
        slope = np.maximum(means, MIN_WEIGHT)
        return weights * slope, ((targets > 0) - means) / slope


LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (Loss, AbsoluteError, Huber, Quantile, Poisson, Gamma, Tweedie, LogLoss, Cox)
}


def loss_of(schema: Schema) -> Loss:
    """Return the loss that a network of a schema is trained with."""
    name = "log_loss" if schema.task == "classification" else schema.loss
    return LOSSES[name](schema.loss_parameter)


def check_targets(schema: Schema, y: Tensor, *, call: str) -> None:
    """Refuse targets that the loss of a schema does not take."""
    if schema.task == "classification":
        fits = schema.loss in ("squared_error", "log_loss")
        expected = "" if fits else "numbers, read with task='regression',"
    elif schema.loss == "log_loss":
        expected = "classes"
    else:
        expected = loss_of(schema).check(y.double().cpu().numpy())
    if expected:
        advice = "Correct them, or choose another loss"
        raise DataError(call, f"{expected} for loss={schema.loss!r}", "other values", advice)


def _refused(name: str, loss: str) -> InvalidValueError:
    losses = {"event": "cox", "exposure": "poisson, gamma or tweedie"}
    expected = f"{name} only with loss {losses.get(name, 'of a regression, not cox')}"
    return InvalidValueError("fit", expected, repr(loss), f"Leave {name} out")
