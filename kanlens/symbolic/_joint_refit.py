"""Levenberg-Marquardt on one least-squares problem or many, and the joint refit of a network by it.

The damping is that of H. B. Nielsen, Damping parameter in Marquardt's method, 1999. Redundant
parameters of a network are not fixed: damping handles them, and fixed ones led away from the
minimum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._runtime import check_time
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._terms import SPLINE
from kanlens.symbolic._library import library

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Function = Callable[[Array], Array]

_REDUNDANT = 1e-14  # relative eigenvalue of the normal matrix that counts as 0
_SHARED = 1e-6  # squared component in such a direction that makes a parameter redundant
_MIN_DAMPING = 1e-13
_TOLERANCE = 1e-10  # relative fall of the loss that ends the descent
_CROWDED = 0.8  # share of unfinished problems below which finished ones are removed
_MAX_NUMBERS = 400  # most free parameters
_MAX_RESIDUALS = 6000  # rows times outputs in the Jacobian
_FREE = {"none": (2,), "shift": (1, 2), "scale": (0, 2), "both": (0, 1, 2)}  # of a, b and c


class Residuals(ABC):
    """Least-squares problems in theta of shape (problem, parameter)."""

    def allowed(self, theta: Array) -> Array:
        """Return the nearest allowed parameters."""
        return theta

    @abstractmethod
    def losses(self, theta: Array) -> Array:
        """Return the sums of squared residuals, infinite where undefined."""

    @abstractmethod
    def equations(self) -> tuple[Array, Array]:
        """Return ``J^T J`` and ``J^T r`` after the last call of `losses`."""

    def pick(self, mask: Mask) -> Residuals:
        """Return the problems selected by a mask."""
        return self


@dataclass(frozen=True, kw_only=True)
class Damping:
    """Initial and largest damping, and how it changes."""

    first: float = 1e-3
    most: float = 1e10
    factors: tuple[float, float] | None = None  # accepted and rejected steps; None: Nielsen's

    def updated(
        self, damped: Array, rise: Array, better: Mask, gain: Array, predicted: Array
    ) -> tuple[Array, Array]:
        """Return the damping after a step, and the factor of its next increase."""
        if self.factors:
            return np.maximum(damped * np.where(better, *self.factors), _MIN_DAMPING), rise
        with np.errstate(all="ignore"):
            ratio = np.where(predicted > 0, np.clip(gain / predicted, 0.0, 1.0), 1.0)
        lower = np.maximum(damped * np.maximum(0.1, 1 - (2 * ratio - 1) ** 3), _MIN_DAMPING)
        return np.where(better, lower, damped * rise), np.where(better, 2.0, 2 * rise)


NIELSEN = Damping()


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """Result of Levenberg-Marquardt."""

    parameters: Array  # (parameter,)
    loss: float  # mean squared residual; infinite if the start already was
    standard_errors: Array  # (parameter,): infinite for redundant ones


def minimize(residuals: Function, jacobian: Function, start: Array, *, steps: int = 50) -> Minimum:
    """Minimize the mean square of residuals with their Jacobian."""
    theta = np.array(start, dtype=np.float64)[None]
    problem = _OneProblem(residuals, jacobian)
    [theta], [total], [normal] = descend(problem, theta, steps=steps, tolerance=_TOLERANCE)
    loss = float(total) / max(problem.rows, 1)
    errors = _standard_errors(normal, loss, problem.rows)
    return Minimum(parameters=theta, loss=loss, standard_errors=errors)


def descend(
    problems: Residuals,
    start: Array,
    *,
    steps: int,
    tolerance: float,
    damping: Damping = NIELSEN,
    exact: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Minimize from `start`; return parameters, losses and normal matrices of all problems."""
    theta = problems.allowed(start)
    state = [theta, problems.losses(theta), *problems.equations()]
    best, active = [value.copy() for value in state[:3]], np.arange(len(theta))
    damped, rise = np.full(len(theta), damping.first), np.full(len(theta), 2.0)
    going = np.isfinite(state[1]) & (state[1] > exact) & (theta.shape[1] > 0)
    for _ in range(steps):
        if not going.any():
            break
        if np.count_nonzero(going) < _CROWDED * len(active):
            active, damped, rise = active[going], damped[going], rise[going]
            problems, state = problems.pick(going), [value[going] for value in state]
        check_time()
        theta, loss, normal, right = state
        trial = problems.allowed(theta - _damped_step(normal, right, damped))
        new = [trial, problems.losses(trial), normal, right]
        better = new[1] < loss
        if better.any():
            new[2:] = problems.equations()
            better &= np.isfinite(new[2]).all(axis=(1, 2)) & np.isfinite(new[3]).all(axis=1)
        step = theta - trial
        with np.errstate(all="ignore"):  # infinite before and after
            gain = loss - new[1]
            curved = np.einsum("np,npq,nq->n", step, normal, step)
            predicted = 2 * (step * right).sum(axis=1) - curved
        damped, rise = damping.updated(damped, rise, better, gain, predicted)
        masks = (better.reshape(-1, *[1] * (value.ndim - 1)) for value in state)
        state = list(map(np.where, masks, new, state))
        for out, value in zip(best, state, strict=False):
            out[active] = value
        converged = better & (gain < tolerance * loss)
        going = ~converged & (damped < damping.most) & (state[1] > exact)
    return best[0], best[1], best[2]


@dataclass(eq=False)
class _OneProblem(Residuals):
    """One problem with residuals and Jacobian (residual, parameter)."""

    residuals: Function
    jacobian: Function

    def losses(self, theta: Array) -> Array:
        self.theta, self.r = theta[0], self.residuals(theta[0])
        self.rows = self.r.size
        with np.errstate(all="ignore"):
            total = float(np.square(self.r).sum())
        return np.array([total if np.isfinite(total) else np.inf])

    def equations(self) -> tuple[Array, Array]:
        slopes = self.jacobian(self.theta)
        with np.errstate(all="ignore"):
            return (slopes.T @ slopes)[None], (slopes.T @ self.r)[None]


def _damped_step(normal: Array, right: Array, damping: Array) -> Array:
    """Solve the damped normal equations, with columns scaled to unit length."""
    size = _lengths(normal)
    scaled = normal / (size[:, :, None] * size[:, None, :])
    scaled = scaled + damping[:, None, None] * np.eye(size.shape[1])
    try:
        step = np.linalg.solve(scaled, (right / size)[..., None])[..., 0]
    except np.linalg.LinAlgError:  # columns equal up to rounding: damp them more
        return np.zeros_like(size)
    return np.asarray(step / size)


def _lengths(normal: Array) -> Array:
    """Return the lengths of the Jacobian's columns; 1 in place of 0."""
    size = np.sqrt(np.diagonal(normal, axis1=-2, axis2=-1))
    return np.where((size > 0) & np.isfinite(size), size, 1.0)


def _standard_errors(normal: Array, loss: float, rows: int) -> Array:
    """Return standard errors; infinite for redundant parameters."""
    size = _lengths(normal)
    unknown = np.full(len(size), np.inf)
    if not np.isfinite(loss) or not np.isfinite(normal).all() or not len(size):
        return unknown
    try:
        values, vectors = np.linalg.eigh(normal / np.outer(size, size))
    except np.linalg.LinAlgError:
        return unknown
    full = values > _REDUNDANT * max(values[-1], np.finfo(float).tiny)
    inverse = (np.square(vectors[:, full]) / values[full]).sum(axis=1)
    redundant = np.square(vectors[:, ~full]).sum(axis=1) > _SHARED
    errors = np.sqrt(loss * rows / max(rows - len(size), 1) * inverse) / size
    return np.where(redundant, np.inf, errors)


@torch.no_grad()
def refit(model: KAN, x: Tensor, target: Tensor, *, steps: int = 60) -> float:
    """Refit the functions of a model in place and return its loss.

    Constants d are first moved into biases. Splines, parameters that a family does not have (the
    scale of a power), and models with more than 400 parameters stay unchanged.
    """
    for layer in model.layers:
        if layer.affine is not None:
            live = (1 - layer.spline_mask) * layer.mask
            layer.bias.add_((layer.affine[..., 3] * live).sum(1))
            layer.affine[..., 3] *= layer.spline_mask
            for o, i, name in live_functions(layer):
                if name == "constant":
                    layer.mask[o, i] = 0.0
    rows = max(50, _MAX_RESIDUALS // target.shape[1])
    pick = torch.linspace(0, len(x) - 1, min(rows, len(x))).round().long()
    problem = _NetworkResiduals(model, x[pick], target[pick])
    start, before = problem.read(), relative_loss(model(x), target)
    if not 0 < len(start) <= _MAX_NUMBERS:
        return before
    problem.write(minimize(problem.residuals, problem.jacobian, start, steps=steps).parameters)
    after = relative_loss(model(x), target)
    if not after <= before:  # the picked rows misled
        problem.write(start)
        return before
    return after


def relative_losses(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared errors over the target variances, (out,)."""
    variance = target.var(0, unbiased=False)
    losses = (output - target).square().mean(0) / torch.where(variance > 0, variance, 1.0)
    return losses.nan_to_num(nan=torch.inf, posinf=torch.inf)


def relative_loss(output: Tensor, target: Tensor) -> float:
    """Return the mean over the outputs of `relative_losses`."""
    return float(relative_losses(output, target).mean())


def live_functions(layer: KANLinear) -> list[tuple[int, int, str]]:
    """Return out, in and function of the unmasked function edges."""
    edges = (layer.mask != 0).nonzero().tolist()
    return [(o, i, layer.functions[o][i]) for o, i in edges if layer.functions[o][i] != SPLINE]


def affine_derivatives(layer: KANLinear, x: Tensor) -> Tensor:
    """Return the derivatives of edges with respect to a, b, c, d: (batch, out, in, 4)."""
    derivatives = x.new_zeros(len(x), layer.out_features, layer.in_features, 4)
    for term in layer.edge_terms():
        inputs = x[:, term.in_]
        u, c = term.inner(inputs), term.affine[:, 2]
        slope, value = c * term.g.derivative(u), term.g.value(u)
        columns = torch.stack((slope * inputs, slope, value, torch.ones_like(u)), dim=-1)
        derivatives[:, term.out, term.in_] = columns * term.mask.unsqueeze(-1)
    return derivatives


def reaches(model: KAN, x: Tensor, unit: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield for each layer, last first, its index, inputs and the outputs' slopes (row, out, sum).

    Rows x are scaled; slopes are derivatives of the outputs, divided by `unit` (out,), by the
    layer's sums.
    """
    inputs, sums = model.levels(x)
    reach = torch.diag(model.output_scale / unit).expand(len(x), -1, -1)  # (row, out, node)
    for index in range(len(sums) - 1, -1, -1):
        reach = model.nodes[index].pull(reach, sums[index][:, None])
        yield index, inputs[index], reach
        if index:
            reach = reach @ model.layers[index].edge_derivatives(inputs[index])


class _NetworkResiduals:
    """Residuals of a network and their Jacobian with respect to its fitted parameters."""

    def __init__(self, model: KAN, x: Tensor, target: Tensor) -> None:
        self.model, self.target, self.start = model, target, model.scale_inputs(x)
        deviation = target.std(0, unbiased=False)
        self.deviation = torch.where(deviation > 0, deviation, 1.0)
        self.free: list[tuple[Tensor, tuple[Tensor, ...]]] = []  # tensors and indices into them
        self.places: list[tuple[Tensor, Tensor]] = []  # of each layer: (3, n) and (sum,)
        numbers = {family.name: _FREE[family.moves] for family in library()}
        for layer in model.layers:
            functions = live_functions(layer)
            entries = [(o, i, k) for o, i, g in functions for k in numbers.get(g, ())]
            affine = torch.tensor(entries, dtype=torch.long).reshape(-1, 3).T
            bias = torch.tensor(sorted({o for o, _, _ in functions}), dtype=torch.long)
            self.places.append((affine, bias))
            if layer.affine is not None:
                self.free.append((layer.affine, tuple(affine)))
            self.free.append((layer.bias, (bias,)))

    def read(self) -> Array:
        """Return the free parameters of all layers."""
        return np.array(torch.cat([numbers[index] for numbers, index in self.free]).numpy())

    def write(self, theta: Array) -> None:
        """Set the free parameters of all layers."""
        values = torch.from_numpy(theta).split([len(index[0]) for _, index in self.free])
        for (numbers, index), part in zip(self.free, values, strict=True):
            numbers[index] = part

    def residuals(self, theta: Array) -> Array:
        """Return the errors of all outputs divided by the standard deviation, (row * out,)."""
        self.write(theta)
        output = self.model.scale_outputs(self.model.run(self.start))
        return np.asarray(((output - self.target) / self.deviation).reshape(-1).numpy())

    def jacobian(self, theta: Array) -> Array:
        """Return the derivatives of the residuals, (row * out, parameter)."""
        self.write(theta)
        blocks: list[Tensor] = []
        for index, inputs, reach in reaches(self.model, self.start, self.deviation):
            layer, (affine, bias) = self.model.layers[index], self.places[index]
            block = [reach[:, :, bias]]
            if layer.affine is not None:
                o, i, k = affine
                slopes = affine_derivatives(layer, inputs)[:, o, i, k]
                block.insert(0, reach[:, :, o] * slopes[:, None, :])
            blocks = [*block, *blocks]
        return np.asarray(torch.cat(blocks, dim=2).reshape(-1, len(theta)).numpy())
