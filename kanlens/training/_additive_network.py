"""Networks without a hidden layer, fitted in closed form.

Edges are curves of `_curve_design`, with variances of maximal restricted likelihood; for classes,
that of the working responses of iteratively reweighted least squares [1]_. Rows of each fold are
predicted by a fit to the others with variances of its own: those of all rows were measured to
predict 200 rows of noise in 30 columns with an R2 of 0.07.

References
----------
.. [1] N. Breslow and D. Clayton, Approximate inference in generalized linear mixed models, 1993.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from scipy.special import expit, logit, softmax, xlogy
from torch import Tensor

from kanlens.data._cell_parsing import Array
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics
from kanlens.splines import _spline as spline
from kanlens.training._curve_design import CurveBasis, CurveDesign, make_curve
from kanlens.training._objective import metric_name, row_losses, score
from kanlens.training._result import FitResult
from kanlens.training._training_loop import settle_range, settle_scaling
from kanlens.training._variance_components import MAX_STEPS, MixedFit, restricted_fit

NOISE = 0.3  # variance of errors at the start, over that of the targets
# Exponent of the prior, at most, and times blocks over rows: noise in 30 columns of 200 rows was
# predicted with an R2 of -0.03, of -0.22 without the prior. Tables of many rows need none.
PRIOR = 0.25, 1.0
PASSES, SCORING_STEPS = 25, 3  # of reweighting, at most, and in each
MIN_WEIGHT = 1e-5  # of a row in reweighting
CHANGE = 3e-3  # of the outputs, over their deviations, that ends reweighting
SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)  # of a step, until the loss does not rise
MIN_SHARE = 1e-6  # of a class
MAX_CURVES = 3000  # of the features that vary most


@torch.no_grad()
def fit_additive(
    model: KAN, x: Tensor, y: Tensor, weights: Tensor | None, folds: Tensor, copies: Tensor
) -> FitResult:
    """Fit a network without a hidden layer to rows x (batch, in), in place.

    Targets are as `prepare_target` returns them, `weights` (batch,) have mean 1. The metric is of
    predictions of the rows of each of the `folds` (batch,) from the others. Rows of one group of
    `copies` (batch,) count as one.
    """
    settle_range(model, x, beyond=True)
    settle_scaling(model, x, y, None)
    scaled = model.scale_inputs(x).double().cpu().numpy()
    weights = torch.ones(len(x)) if weights is None else weights
    design = CurveDesign(_curves(model, scaled), scaled)
    counts = _counts(weights.double().cpu(), copies).numpy()
    fit = _AdditiveFit(design, _targets(model, y), counts, model.task == "regression")
    fit.run()
    _set_layer(model, fit)
    store_statistics(model, x)
    outputs, held_out = (
        model.scale_outputs(torch.from_numpy(values).to(x))
        for values in (fit.outputs, fit.held_out(folds.numpy()))
    )
    losses = [row_losses(model, values, y) for values in (outputs, held_out)]
    loss, validation_loss = (float((part * weights.to(part)).mean()) for part in losses)
    record = {"step": 1, "loss": loss, "penalty": 0.0, "validation_loss": validation_loss}
    record["metric"] = score(model, held_out, y)
    return FitResult(
        model=model,
        history=(record,),
        stopped_because="fitted in closed form",
        best_step=1,
        loss=loss,
        validation_loss=validation_loss,
        metric_name=metric_name(model),
        metric=record["metric"],
        held_out=torch.arange(len(x)),
        seconds=0.0,
        folds=folds,
    )


def _counts(weights: Tensor, copies: Tensor) -> Tensor:
    """Return weights (batch,) whose sum is the number of different rows of positive weight."""
    return weights * len(copies[weights > 0].unique()) / weights.sum()


def _curves(model: KAN, x: Array) -> list[CurveBasis]:
    """Return curves of the features that vary; levels of a category are in one group."""
    features = model.schema.features
    columns = [feature.column for feature in features]
    varies = np.flatnonzero((x != x[0]).any(0))
    if len(varies) > MAX_CURVES:
        varies = np.sort(np.argsort(-x.var(0), kind="stable")[:MAX_CURVES])
    curves = []
    for index in varies.tolist() or [0]:
        level = features[index].kind == "categorical"
        group = columns.index(columns[index]) if level else len(columns) + index
        curves.append(
            make_curve(index, x[:, index], group, max(len(varies), 1), model.holds_inputs)
        )
    return curves


def _targets(model: KAN, y: Tensor) -> Array:
    """Return scaled targets (batch, out); of classes, their indicators."""
    if model.task == "regression":
        return np.asarray(((y - model.output_shift) / model.output_scale).double().cpu())
    count = len(model.output_names)
    return np.asarray(np.eye(max(count, 2))[y.cpu().numpy()][:, -count:])


class _AdditiveFit:
    """Curves of all outputs, in scaled units, and the outputs (batch, out) themselves."""

    def __init__(
        self, design: CurveDesign, targets: Array, weights: Array, regression: bool
    ) -> None:
        self.design, self.targets, self.weights = design, targets, weights
        self.regression = regression
        start = weights @ targets / weights.sum()
        if not regression:
            share = np.clip(start, MIN_SHARE, 1 - MIN_SHARE)
            start = np.log(share) if len(share) > 1 else logit(share)
        self.outputs = np.tile(start, (len(targets), 1))
        self.coefficients = np.zeros((len(start), len(design.owners)))
        self.fits: dict[int, MixedFit] = {}

    def run(self) -> None:
        """Fit the outputs, one after the other, until they change no more."""
        for _ in range(1 if self.regression else PASSES):
            before = self.outputs.copy()
            for output in range(self.outputs.shape[1]):
                self._update(output)
            if ((self.outputs - before).std(0) <= CHANGE * self.outputs.std(0)).all():
                break

    def _update(self, output: int) -> None:
        """Fit one output, given the others."""
        weights, response = self._working(output)
        self.fits[output] = fit = self._fitted(output, weights, response)
        values = self.design.values(fit.coefficients)
        values += weights @ (response - values) / weights.sum()
        start = self.outputs[:, output].copy(), self.coefficients[output].copy()
        highest = self._penalized(output)
        for share in SHARES:
            self.outputs[:, output] = share * values + (1 - share) * start[0]
            self.coefficients[output] = share * fit.coefficients + (1 - share) * start[1]
            if self.regression or self._penalized(output) <= highest:
                break

    def _fitted(self, output: int, weights: Array, response: Array) -> MixedFit:
        """Return the fit of maximal restricted likelihood to a response (batch,)."""
        design, last = self.design, self.fits.get(output)
        variances = design.start if last is None else last.variances
        places, noise, steps = np.arange(len(design.owners)), 1.0, SCORING_STEPS
        if not self.regression:
            places = design.informed(variances, noise)
        equations, _ = design.equations(weights, response, places)
        if self.regression:
            noise = max(NOISE * equations.square / equations.rows, equations.least_noise)
            steps = MAX_STEPS
        known = not self.regression
        prior = min(PRIOR[0], PRIOR[1] * equations.blocks / equations.rows)
        fit = restricted_fit(equations, variances, noise, known=known, steps=steps, prior=prior)
        return fit.spread(places, len(design.owners))

    def _penalized(self, output: int) -> float:
        """Return minus twice the log likelihood of the classes and an output's coefficients."""
        fit = self.fits[output]
        own = fit.variances[self.design.owners[fit.live]]
        size = (self.coefficients[output, fit.live] ** 2 / own).sum()
        shares = self._expected()
        terms = xlogy(self.targets, shares)
        if terms.shape[1] == 1:
            terms += xlogy(1 - self.targets, 1 - shares)
        return float(size - 2 * self.weights @ terms.sum(1))

    def _expected(self) -> Array:
        """Return the expected targets (batch, out)."""
        if self.regression:
            return self.outputs
        alone = self.outputs.shape[1] == 1
        return np.asarray(expit(self.outputs) if alone else softmax(self.outputs, 1))

    def _working(self, output: int) -> tuple[Array, Array]:
        """Return weights and working responses (batch,) of an output."""
        if self.regression:
            return self.weights, self.targets[:, output]
        expected = self._expected()[:, output]
        slopes = np.maximum(expected * (1 - expected), MIN_WEIGHT)
        errors = (self.targets[:, output] - expected) / slopes
        return self.weights * slopes, self.outputs[:, output] + errors

    def held_out(self, folds: Array) -> Array:
        """Return outputs (batch, out) for rows of each fold from a fit to the others."""
        outputs = np.empty_like(self.outputs)
        for fold in np.unique(folds):
            judged = folds == fold
            weights = np.where(judged, 0.0, self.weights)
            weights = weights if weights.any() else 1.0 - judged
            fit = _AdditiveFit(self.design, self.targets, weights, self.regression)
            fit.run()
            outputs[judged] = fit.outputs[judged]
        return outputs


def _set_layer(model: KAN, fit: _AdditiveFit) -> None:
    """Replace the layer of a network by one of curves; those that are zero become no edges."""
    old, curves = model.layers[0], fit.design.curves
    size = max(len(curve.breakpoints) for curve in curves) - 1
    layer = KANLinear(
        old.in_features,
        old.out_features,
        grid_size=size,
        spline_order=1,
        base_activation="zero",
        grid_eps=old.grid_eps,
        enable_standalone_scale_spline=False,
        extrapolation=old.extrapolation,
        generator=torch.Generator(),
    ).to(old.grid)
    for parameter in (layer.mask, layer.base_weight, layer.spline_weight, layer.bias):
        parameter.zero_()
    for output, coefficients in enumerate(fit.coefficients):
        heights = fit.design.heights(coefficients)
        for curve, height in zip(curves, heights, strict=True):
            knots = _padded(curve.breakpoints, size)
            values = np.interp(knots, curve.breakpoints, height)
            place = (output, curve.feature)
            layer.grid[curve.feature] = spline.extend(torch.from_numpy(knots)[None], 1)[0]
            layer.spline_weight[place] = torch.from_numpy(values)
            layer.mask[place] = float(np.ptp(values) > 0)
        layer.bias[output] = float((fit.outputs[:, output] - fit.design.values(coefficients))[0])
    cast("torch.nn.ModuleList", model.layers)[0] = layer


def _padded(knots: Array, size: int) -> Array:
    """Return breakpoints of `size` intervals; the widest of them are halved."""
    while len(knots) <= size:
        gaps = np.diff(knots)
        widest = np.argsort(-gaps)[: size + 1 - len(knots)]
        knots = np.sort(np.append(knots, knots[widest] + gaps[widest] / 2))
    return knots
