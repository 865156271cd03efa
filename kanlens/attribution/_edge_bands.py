"""Pointwise confidence bands of edges, by least squares in their coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_rows
from kanlens._lazy import pd
from kanlens._model_inputs import prepare_target
from kanlens.attribution._problem import check_outputs
from kanlens.errors import DataError, MethodError
from kanlens.functions._elementary import Array
from kanlens.model._analysis import (
    Model,
    check_layer,
    check_model,
    edge_units,
    find_node,
    float64_copy,
    newton_steps,
)
from kanlens.model._network import KAN, Rows, Targets
from kanlens.model._terms import SPLINE

NORMAL = 1.959964  # standard errors to either side, for 95 percent
MAX_COEFFICIENTS = 2500  # coefficients of all edges into a node
# least singular value, relative to the largest, of a direction that the rows determine
MIN_SINGULAR_RATIO = 1e-10
SHARE = 1e-5  # of a function in undetermined directions, above which its band is NaN


def edge_band(
    model: Model, layer: int, out: int | str, in_: int | str, x: Rows, y: Targets, *, at: Any = None
) -> pd.DataFrame:
    """Return a pointwise 95% confidence band of a centered edge function.

    The function is centered: its mean over the rows is subtracted. The band shows how an
    unpenalized fit varies with the rows, not how far the trained model is from such a fit. Only the
    edges into the same node (or factor of a product) are varied, so bands below the last layer are
    too narrow; of a symbolic edge, only the multiplier is varied.

    The covariance of the coefficients is ``(B'KB)^-1 B'RB (B'KB)^-1``. B are the basis functions of
    all edges into the node, K is the second derivative of the loss by the sum of the node
    (``p (1 - p)`` for classes), and R the squared first derivatives, divided by
    ``(1 - leverage)^2`` (HC3 [1]_).

    Parameters
    ----------
    model, layer, out, in_
        As for `kanlens.plot.edge`.
    x, y : array-like, shape (batch, in) and (batch,) or (batch, out)
        Training rows and their targets, in the units of the data, or classes.
    at : array-like, shape (point,), optional
        Values of the input; 201 over the range of the rows when None.

    Returns
    -------
    DataFrame
        Columns x, effect, low, high: in the units of the data for inputs of the first layer and
        outputs that are sums. Ends are NaN where no row determines the function.

    Raises
    ------
    InvalidValueError, MethodError, DataError
        If there is no such edge, or its node has too many coefficients, or too few rows.

    References
    ----------
    .. [1] J. MacKinnon, H. White, Some heteroskedasticity-consistent covariance matrix estimators
       with improved finite sample properties, 1985.

    Examples
    --------
    >>> rows = torch.rand(80, 2)
    >>> list(edge_band(KAN([2, 1]), 0, "y", "x2", rows, rows.sum(1)))
    ['x', 'effect', 'low', 'high']
    """
    call = "edge_band"
    model = check_model(call, model)
    layer = check_layer(model, layer, call=call)
    row = find_node(model, layer, "out", out, call=call)
    column = find_node(model, layer, "in_", in_, call=call)
    fit = _NodeFit(model, layer, row, model.prepare(x, call=call), y, call=call)
    values, (shift, scale, factor) = fit.inputs[:, column], edge_units(model, layer, row, column)
    u = np.linspace(values.min(), values.max(), 201)
    u = u if at is None else (np.asarray(at, dtype=np.float64) - shift) / scale
    phi = model.layers[layer].edge(row, column)
    effect = factor * (phi(u) - phi(values).mean())
    low, high = effect + np.sort(factor * fit.deviations(column, u), axis=0)
    return pd.DataFrame({"x": shift + scale * u, "effect": effect, "low": low, "high": high})


class _NodeFit:
    """Least-squares problem of the edges into a sum, in coordinates z with identity Hessian."""

    def __init__(self, model: KAN, layer: int, out: int, x: Tensor, y: Any, *, call: str) -> None:
        check_rows(call, x)
        double = float64_copy(model)
        self.layer, self.out, self.classes = double.layers[layer], out, model.task != "regression"
        targets = prepare_target(double, y, len(x), call=call)
        local_loss = quadratic_loss(double, layer, out, x.double(), targets, call=call)
        self.inputs, self.curvature, self.slopes = local_loss
        basis = self._basis(self.inputs)
        self.means = basis.mean(0)
        live = (self.layer.mask[out] != 0).cpu().numpy().repeat(basis.shape[2])
        self.columns = np.r_[True, live]  # the first is the bias
        design = np.c_[np.ones(len(x)), basis.reshape(len(x), -1)][:, self.columns]
        if design.shape[1] > MAX_COEFFICIENTS:
            got, advice = f"{design.shape[1]:,} at {model.subnode_name(layer, out)}", "Prune edges"
            raise MethodError(call, f"at most {MAX_COEFFICIENTS:,} coefficients", got, advice)
        scaled = np.sqrt(self.curvature)[:, None] * design
        _, sizes, turn = np.linalg.svd(scaled, full_matrices=False)
        determined = sizes > MIN_SINGULAR_RATIO * sizes[0]
        rank = determined.sum()
        if rank >= len(x):
            expected = f"more rows than coefficients ({design.shape[1]})"
            raise DataError(call, expected, str(len(x)), "Pass more rows, or prune the model")
        self.turn = (turn[determined] / sizes[determined, None]).T  # (coefficient, z)
        self.rows = design @ self.turn  # (batch, z)

    def _basis(self, u: Array) -> Array:  # (point, in, n)
        """Return the basis functions of the edges at u (point, in)."""
        basis = self.layer.basis(torch.as_tensor(u).to(self.layer.grid)).cpu().numpy()
        for in_ in range(self.layer.in_features):
            if self.layer.functions[self.out][in_] != SPLINE:
                phi = self.layer.edge(self.out, in_)
                basis[:, in_], basis[:, in_, -1] = 0.0, phi(u[:, in_])
        return np.asarray(basis)

    def deviations(self, in_: int, u: Array) -> Array:
        """Return the ends of the band minus the edge at points u (point,), shape (2, point)."""
        moves = np.zeros((len(u), *self.means.shape))
        points = np.repeat(u[:, None], len(self.means), 1)
        moves[:, in_] = self._basis(points)[:, in_] - self.means[in_]
        moves = np.pad(moves.reshape(len(u), -1), ((0, 0), (1, 0)))[:, self.columns]
        z = moves @ self.turn  # (point, z)
        rest = moves - (z / (self.turn**2).sum(0)) @ self.turn.T  # not determined by the rows
        unknown = np.linalg.norm(rest, axis=1) > SHARE * np.linalg.norm(moves, axis=1)
        leverage = self.curvature * (self.rows**2).sum(1)
        left = self.slopes - self.curvature * (self.rows @ (self.rows.T @ self.slopes))
        squares = left**2 / np.where(self.curvature > 0, self.curvature, np.inf)
        spread = 1.0 if self.classes else squares.sum() / (len(left) - leverage.sum())
        alone = leverage > 1 - 1e-6  # a row that alone determines a coefficient has residual 0
        room = np.where(alone, 1.0, 1 - leverage)
        meat = np.where(alone, spread * self.curvature, (left / room) ** 2)
        covariance = (self.rows.T * meat) @ self.rows  # (z, z)
        errors = NORMAL * np.sqrt((z @ covariance * z).sum(1))
        return np.asarray(np.where(unknown, np.nan, np.stack([-errors, errors])))


def quadratic_loss(
    model: KAN, layer: int, out: int, x: Tensor, y: Tensor, *, call: str
) -> tuple[Array, ...]:
    """Return a layer's inputs, and second and negative first derivatives of the loss by a sum."""
    with torch.enable_grad():
        inputs = model.run(model.scale_inputs(x), stop=layer)
        sums = model.layers[layer](inputs).detach().requires_grad_()
        outputs = model.scale_outputs(model.run(model.nodes[layer](sums), start=layer + 1))
        columns = [torch.autograd.grad(y.sum(), sums, retain_graph=True)[0] for y in outputs.T]
    rates, outputs = torch.stack([slopes[:, out] for slopes in columns], 1), outputs.detach()
    check_outputs(call, torch.cat([rates, outputs]))
    if not (model.loss.linear or model.loss.classes):
        left, weights = newton_steps(model, outputs, y)
        weights = weights / model.output_scale.square()
        curvature = (rates.square() * weights).sum(1)
        slopes = (rates * weights * left).sum(1)
    elif model.loss.linear:
        left = y - outputs
        size = left.square().mean(0).clamp_min(torch.finfo(left.dtype).tiny)
        curvature, slopes = (rates.square() / size).sum(1), (rates * left / size).sum(1)
    elif outputs.shape[1] == 1:
        p, rate = outputs[:, 0].sigmoid(), rates[:, 0]
        curvature, slopes = rate.square() * p * (1 - p), rate * (y - p)
    else:
        p, mean = outputs.softmax(1), (outputs.softmax(1) * rates).sum(1)
        curvature = (p * rates.square()).sum(1) - mean.square()
        slopes = rates.gather(1, y[:, None])[:, 0] - mean
    return inputs.detach().cpu().numpy(), curvature.clamp_min(0).cpu().numpy(), slopes.cpu().numpy()
