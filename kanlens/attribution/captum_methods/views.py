"""A KAN as captum's hooks can read it: edge by edge, or from the nodes of a level on.

On a plain KAN captum's DeepLift is gradient x (x - baseline). In the edge view each layer is
expand -> activation (batch, out, in) -> sum; products are split by their exact Shapley values.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kanlens.attribution.problem import Problem
from kanlens.checks import check_count, message
from kanlens.errors import InvalidValueError
from kanlens.model.analysis import nonzero_edges, reaching
from kanlens.model.layers import KANLinear
from kanlens.model.products import Nodes

_TABLE_LOCK = threading.Lock()


class EdgeActivation(nn.Module):
    """All edge functions of a layer as one elementwise activation."""

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self._layers = (layer,)  # not a submodule

    def forward(self, u: Tensor) -> Tensor:
        """Return phi_oi(u_oi) for u (batch, out, in) that is equal along out.

        The values are computed once per input, and the slope of each element is that of its own
        edge, so that no gradient runs from one element to another.
        """
        (layer,) = self._layers
        with torch.no_grad():
            values = layer.edge_values(u[:, 0])
            slopes = layer.edge_derivatives(u[:, 0])
        return values + slopes * (u - u.detach())


def share_products(
    module: Nodes,
    inputs: Tensor,  # (2 * batch, sub): the samples' subnodes, then those of their baselines
    outputs: Tensor,
    grad_input: Tensor,
    grad_output: Tensor,  # (2 * batch, node): multipliers of the nodes
    eps: float = 0.0,
) -> Tensor:  # (2 * batch, sub)
    """Return captum's multipliers of a module of nodes: its rule for DeepLift."""
    ours, theirs = inputs.chunk(2)
    return module.pull(grad_output, ours.repeat(2, 1), theirs.repeat(2, 1))


class EdgeView(nn.Module):
    """One output of a KAN, computed edge by edge."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem = problem
        self.edges = nn.ModuleList(EdgeActivation(layer) for layer in problem.model.layers)
        self.nodes = nn.ModuleList(
            nn.Identity() if nodes.plain else nodes for nodes in problem.model.nodes
        )
        self.levels = nn.ModuleList(nn.Identity() for _ in problem.model.nodes)  # for hooks

    def forward(self, x: Tensor) -> Tensor:
        """Return the output at x (batch, in), in the units of the data, shape (batch,)."""
        model, target = self._problem.model, self._problem.target
        hidden = model.scale_inputs(x)
        for index, layer in enumerate(model.layers):
            spread = hidden[:, None, :].expand(-1, layer.out_features, -1)  # (batch, out, in)
            sums = self.edges[index](spread).sum(-1) + layer.bias
            hidden = self.levels[index](self.nodes[index](sums))
        return hidden[:, target] * model.output_scale[target] + model.output_shift[target]


class NodeView(nn.Module):
    """One output of a KAN as a function of the nodes of a level: 1 is the first hidden one."""

    def __init__(self, problem: Problem, layer: int) -> None:
        super().__init__()
        self.nodes = nn.Identity()
        self._problem, self._layer = problem, layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at x (batch, in) added up, in the units of the data, shape (1,)."""
        with torch.no_grad():
            hidden = self._below(x)
        return self.above(self.nodes(hidden.requires_grad_())).sum()[None]

    def _below(self, x: Tensor) -> Tensor:
        model = self._problem.model
        hidden = model.run(model.scale_inputs(x), stop=self._layer)
        return model.scale_outputs(hidden) if self._layer == len(model.layers) else hidden

    def above(self, hidden: Tensor) -> Tensor:
        """Return the output at nodes (batch, node) of the level, shape (batch,)."""
        model, target = self._problem.model, self._problem.target
        if self._layer < len(model.layers):
            hidden = model.scale_outputs(model.run(hidden, start=self._layer))
        return hidden[:, target]

    @torch.no_grad()
    def output_at_zero(self) -> float:
        """Return the output with all nodes of the level at zero."""
        problem = self._problem
        return float(self.above(problem.x.new_zeros(1, problem.model.widths[self._layer])))


def check_level(problem: Problem, layer: int) -> None:
    """Refuse what is no level of nodes."""
    check_count("attribute", "layer", layer)
    most = len(problem.model.layers)
    if layer > most:
        expected = f"layer to be from 1, the first level of nodes, to {most}, the outputs"
        raise InvalidValueError(message("attribute", expected, str(layer), "Change it"))


def live_nodes(problem: Problem, level: int) -> Tensor:
    """Tell which nodes of a level have a live path to the output, shape (node,)."""
    model, target = problem.model, problem.target
    if level == len(model.layers):
        return torch.arange(model.widths[level], device=problem.x.device) == target
    wanted = reaching(model, target)[level]
    return (nonzero_edges(model.layers[level]) & wanted[:, None]).any(0)


@contextmanager
def known_to_captum() -> Iterator[None]:
    """Give captum's DeepLift a rule for `EdgeActivation` and `Nodes`, in the block."""
    from captum.attr._core import deep_lift

    rules = {EdgeActivation: deep_lift.nonlinear, Nodes: share_products}
    with _TABLE_LOCK:
        deep_lift.SUPPORTED_NON_LINEAR.update(rules)
        try:
            yield
        finally:
            for module in rules:
                deep_lift.SUPPORTED_NON_LINEAR.pop(module, None)
