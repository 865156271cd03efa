"""Straight lines from background rows to samples, and the network seen along them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.model import analysis
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.splines import spline

SMOOTH = 3  # degree that pieces count as when they are no polynomials


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """Lines from `start` to `end`, in the scaled units of the first layer; inputs may be held."""

    model: KAN
    target: int
    start: Tensor  # (line, in)
    end: Tensor  # (line, in)
    at_once: int  # points that the model takes

    def points(self, owner: Tensor, t: Tensor) -> Tensor:  # (point,), (point,) -> (point, in)
        """Return the points at `t` from 0 to 1 of the lines `owner`, held in range; ends exact."""
        return self._held(torch.lerp(self.start[owner], self.end[owner], t[:, None]))

    def _held(self, x: Tensor) -> Tensor:
        return x.clamp(*range_ends(self.model))

    @functools.cached_property
    def degrees(self) -> list[int]:
        """Degree along a line of what comes out of each layer, as far as it is a polynomial."""
        found, degree = [], 1
        for layer, nodes in zip(self.model.layers, self.model.nodes, strict=True):
            order = int(getattr(layer, "spline_order", SMOOTH))
            degree *= layer.piece_degree or max(order, SMOOTH * bool(getattr(layer, "series", ())))
            degree *= max((1, *nodes.grouping.arities, SMOOTH * bool(nodes.normalized)))
            found.append(degree)
        return found

    def noise(self, owner: Tensor, t: Tensor) -> Tensor:  # (point,), (point,) -> (point,)
        """Return about how many roundings of 1 the output is wrong by at points of the lines.

        Every layer adds the sizes of all terms that it sums up to what its slopes make of the
        errors that it is given. The output may be far smaller than these.
        """
        sizes = [layer.in_features * layer.out_features for layer in self.model.layers]
        at_once = max(1, min(self.at_once, analysis.BUDGET // max(sizes)))
        parts = zip(owner.split(at_once), t.split(at_once), strict=True)
        found = torch.cat([self._noise(self.points(*part)) for part in parts])
        return found.nan_to_num(0.0, 0.0, 0.0)  # what is not known excuses nothing

    def _noise(self, x: Tensor) -> Tensor:  # (point, in) -> (point,)
        error = x.abs()
        for layer, nodes in zip(self.model.layers, self.model.nodes, strict=True):
            slopes = layer.edge_derivatives(x).abs()  # (point, out, in)
            error = torch.einsum("boi,bi->bo", slopes, error).nan_to_num(0.0, 0.0, 0.0)
            error = error + _terms(layer, x).sum(2) + layer.bias.abs()
            sums = layer(x)
            x = nodes(sums)
            error = x.abs() + nodes.errors(sums, error)
        return error[:, self.target] * self.model.output_scale[self.target].abs()

    def hidden(self, level: int, owner: Tensor, t: Tensor) -> Tensor:  # (point, node)
        """Return what layer `level` receives at points of the lines."""
        parts = [self.points(*part) for part in self._parts(owner, t)]
        return torch.cat([self.model.run(part, stop=level) for part in parts])

    def levels(self, owner: Tensor, t: Tensor) -> list[Tensor]:
        """Return what every layer receives (point, in), and last the output without its shift."""
        found = [self.model.levels(self.points(*part))[0] for part in self._parts(owner, t)]
        *inputs, nodes = (torch.cat(one) for one in zip(*found, strict=True))
        return [*inputs, nodes[:, self.target] * self.model.output_scale[self.target]]

    def rates(self, owner: Tensor, t: Tensor) -> Tensor:  # (point, in)
        """Return the gradient of the output times the step of the line, feature by feature.

        Their sum over the features is the derivative of the output by t. Autograd goes through
        the fused kernels, several times faster than products of edge derivatives.
        """
        return torch.cat([self._rates(*part) for part in self._parts(owner, t)])

    def _rates(self, owner: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = torch.lerp(self.start[owner], self.end[owner], t[:, None]).requires_grad_()
            output = self.model.run(self._held(x))[:, self.target]
            (gradient,) = torch.autograd.grad(output.sum(), x)
        step = self.end[owner] - self.start[owner]
        rates = gradient * step * self.model.output_scale[self.target]
        return torch.where(step == 0, 0.0, rates)  # also where the gradient is infinite

    def _parts(self, owner: Tensor, t: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(owner.split(self.at_once), t.split(self.at_once), strict=True)


def range_ends(model: KAN) -> tuple[Tensor, Tensor]:  # (in,) twice
    """Return between what the first layer's inputs are held, infinite where they are not."""
    low, high = (
        (end - model.input_shift) / model.input_scale for end in (model.input_low, model.input_high)
    )
    return low, high


def _terms(layer: KANLinear, x: Tensor) -> Tensor:  # (point, out, in)
    """Return the sizes of what the edges of a layer are summed from."""
    found = layer.edge_values(x).abs()
    if isinstance(layer, KANLinear):
        values = spline.basis(x, layer.grid, layer.spline_order, extrapolation=layer.extrapolation)
        parts = torch.einsum("bik,oik->boi", values.abs(), layer.coefficients().abs())
        for g, a, b, weight in layer.terms()[1:]:
            parts = parts + g.value(a * x + b).abs()[:, None] * weight.abs()
        found = torch.maximum(found, parts)
    return found
