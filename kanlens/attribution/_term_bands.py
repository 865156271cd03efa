"""Bands of the curves of a sum, by a mixed model of all curves at some rows.

Products and a link are held as they are. Curves are those of `kanlens.frontier`, with variances of
maximal restricted likelihood. Their posterior bands cover the intended share of the points of a
curve, on average [1]_.

References
----------
.. [1] D. Nychka, Bayesian confidence intervals for smoothing splines, 1988.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from kanlens.attribution._edge_bands import NORMAL, quadratic_loss
from kanlens.training._closed_form import make_columns
from kanlens.training._small_network import SmallNetwork

if TYPE_CHECKING:
    from kanlens.attribution._sum_form import SumForm
    from kanlens.attribution._terms import Summand
    from kanlens.training._curve_design import CurveDesign

MIN_CURVATURE = 1e-5  # of the loss of a row, over the largest


class CurveBands:
    """A mixed model of the curves of a form at rows x and prepared targets y.

    ``used`` are features that sums read, ``fit`` has the posterior of the coefficients of `design`.
    """

    def __init__(self, form: SumForm, x: Tensor, y: Tensor) -> None:
        self.model, layer = form.model, form.model.layers[0]
        subs, weights = map(list, zip(*form.sums, strict=True))
        self.used = set(layer.nonzero_edges()[subs].any(0).nonzero()[:, 0].tolist())
        inputs = self.model.scale_inputs(x)
        curves = (layer(inputs) - layer.bias)[:, subs] @ torch.tensor(weights, dtype=x.dtype)
        _, curvature, slopes = quadratic_loss(self.model, 0, subs[0], x, y, call="terms")
        curvature = np.maximum(curvature, MIN_CURVATURE * curvature.max())
        response = curves.numpy() + weights[0] * slopes / curvature
        self.x, self.inputs = x, inputs.numpy()
        self.spread = float(response.std()) or 1.0
        columns = [
            column
            for column in make_columns(self.model, self.inputs)
            if self.used.intersection(curve.feature for curve in column.design.curves)
        ]
        shares = curvature * (len(x) / curvature.sum())
        network = SmallNetwork(columns, response / self.spread, shares, fine=True)
        design, _, _, variances = network.linear()
        self.fit, _ = network.solve(design, shares, response / self.spread, variances, 0)
        self.design = cast("CurveDesign", design)

    def add(self, term: Summand) -> Summand:
        """Return a term with its 95% band, if it is a curve of sums."""
        effect = term.factors[0][0]
        own = effect.settings[0]
        if term.kind != "curve" or not self.used.intersection(own.columns):
            return term
        points = self.x[:1].repeat(len(own.x), 1)
        points[:, own.columns] = own.codes
        at, design = self.model.scale_inputs(points).numpy(), self.design
        moves = np.zeros((len(at), len(self.fit.coefficients)))
        for curve, modes, places in zip(design.curves, design.modes, design.slices, strict=True):
            if (k := curve.feature) in own.columns:
                rows, there = (curve.basis(x[:, k]) @ modes for x in (self.inputs, at))
                moves[:, places] = there - rows.mean(0)
        moves = moves[:, self.fit.live]
        errors = self.spread * np.sqrt(((moves @ self.fit.covariance) * moves).sum(1))
        ends = NORMAL * torch.from_numpy(np.stack([-errors, errors]))
        return replace(term, factors=((replace(effect, band=effect.values + ends),),))
