"""Straight lines from background rows to samples, and the network seen along them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.core.network import KAN

SMOOTH = 3  # degree that pieces count as when they are no polynomials


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """Lines from `start` to `end`, in the scaled units of the first layer.

    Attributes
    ----------
    model : KAN
        In float64, with frozen parameters.
    target : int
        Index of the output.
    start, end : Tensor, shape (line, in)
    at_once : int
        Number of points that the model takes at once.
    """

    model: KAN
    target: int
    start: Tensor
    end: Tensor
    at_once: int

    def points(self, owner: Tensor, t: Tensor) -> Tensor:  # (point,), (point,) -> (point, in)
        """Return the points at `t` from 0 to 1 of the lines `owner`; both ends are exact."""
        return torch.lerp(self.start[owner], self.end[owner], t[:, None])

    @functools.cached_property
    def degrees(self) -> list[int]:
        """Degree along a line of what comes out of each layer, as far as it is a polynomial."""
        found, degree = [], 1
        for layer, nodes in zip(self.model.layers, self.model.nodes, strict=True):
            degree *= layer.piece_degree or int(getattr(layer, "spline_order", SMOOTH))
            degree *= max((1, *nodes.grouping.arities))
            found.append(degree)
        return found

    def sizes(self) -> Tensor:  # (line,)
        """Return the sum of what the last layer adds up, at whichever end it is larger.

        The output may be smaller, but is not rounded less.
        """
        every = torch.arange(len(self.start), device=self.start.device)
        zero = self.start.new_zeros(len(self.start))
        layer = self.model.layers[-1]
        scale = self.model.output_scale[self.target].abs()
        owner, t = every.repeat(2), torch.cat((zero, zero + 1))
        found = []
        for part in self._parts(owner, t):
            edges = layer.edge_values(self._to(len(self.model.layers) - 1, *part)).abs().sum(2)
            nodes = self.model.nodes[-1](edges + layer.bias.abs())  # a bound for products, too
            found.append(nodes[:, self.target].abs() * scale)
        return torch.cat(found).reshape(2, -1).amax(0)

    def hidden(self, level: int, owner: Tensor, t: Tensor) -> Tensor:  # (point, node)
        """Return what layer `level` receives at points of the lines."""
        return torch.cat([self._to(level, *part) for part in self._parts(owner, t)])

    def _to(self, level: int, owner: Tensor, t: Tensor) -> Tensor:
        x = self.points(owner, t)
        for index in range(level):
            x = self.model.through(index, x)
        return x

    def levels(self, owner: Tensor, t: Tensor) -> list[Tensor]:
        """Return what every layer receives, and last the output, without its fixed shift.

        Returns
        -------
        list of Tensor, one per layer and one more, shapes (point, in) and (point,)
        """
        found = [self._levels(self.points(*part)) for part in self._parts(owner, t)]
        return [torch.cat(one) for one in zip(*found, strict=True)]

    def _levels(self, x: Tensor) -> list[Tensor]:
        inputs = [x]
        for index in range(len(self.model.layers)):
            inputs.append(self.model.through(index, inputs[-1]))
        inputs[-1] = inputs[-1][:, self.target] * self.model.output_scale[self.target]
        return inputs

    def rates(self, owner: Tensor, t: Tensor) -> Tensor:  # (point, in)
        """Return the gradient of the output times the step of the line, feature by feature.

        Their sum over the features is the derivative of the output by t. Autograd goes through
        the fused kernels, several times faster than products of edge derivatives.
        """
        return torch.cat([self._rates(*part) for part in self._parts(owner, t)])

    def _rates(self, owner: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = self.points(owner, t).requires_grad_()
            output = self.model.run(x)[:, self.target]
            (gradient,) = torch.autograd.grad(output.sum(), x)
        step = self.end[owner] - self.start[owner]
        rates = gradient * step * self.model.output_scale[self.target]
        return torch.where(step == 0, 0.0, rates)  # also where the gradient is infinite

    def _parts(self, owner: Tensor, t: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(owner.split(self.at_once), t.split(self.at_once), strict=True)
