"""A KAN as captum's DeepLift can read it: every edge an elementwise activation.

Captum replaces the gradient of modules it knows by their slope between sample and baseline, and
knows no KAN layer: on a KAN its DeepLift is gradient x (x - baseline), without a word. Here each
layer is expand -> elementwise activation of shape (batch, out, in) -> sum, which captum's own rule
for elementwise activations fits. Nodes that multiply get a rule of their own: the exact Shapley
split of the change among the factors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from kanlens.attribution.problem import Problem
from kanlens.model.layers import KANLinear
from kanlens.model.products import Nodes

_TABLE_LOCK = threading.Lock()


class EdgeActivation(nn.Module):
    """All edge functions of a layer as one elementwise activation.

    Parameters
    ----------
    layer : KANLinear
        Asked for its edge values and derivatives; not registered as a submodule.
    """

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self._layers = (layer,)

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


class NodeProducts(nn.Module):
    """The nodes of a layer as a module that captum hooks.

    Parameters
    ----------
    nodes : Nodes
        Not registered as a submodule.
    """

    def __init__(self, nodes: Nodes) -> None:
        super().__init__()
        self.nodes = (nodes,)

    def forward(self, sums: Tensor) -> Tensor:
        """Map subnodes (batch, sub) to nodes (batch, node)."""
        (nodes,) = self.nodes
        return cast("Tensor", nodes(sums))


def share_products(
    module: NodeProducts,
    inputs: Tensor,
    outputs: Tensor,
    grad_input: Tensor,
    grad_output: Tensor,
    eps: float = 0.0,
) -> Tensor:
    """Return captum's multipliers of a module of nodes: its rule for DeepLift.

    Parameters
    ----------
    module : NodeProducts
    inputs : Tensor, shape (2 * batch, sub)
        The samples' subnodes, then those of their baselines.
    outputs, grad_input, eps
        Not used; captum's rules have them.
    grad_output : Tensor, shape (2 * batch, node)
        Multipliers of the nodes.

    Returns
    -------
    Tensor, shape (2 * batch, sub)
    """
    (nodes,) = module.nodes
    ours, theirs = inputs.chunk(2)
    return nodes.pull(grad_output, ours.repeat(2, 1), theirs.repeat(2, 1))


class EdgeView(nn.Module):
    """One output of a KAN, computed edge by edge.

    Parameters
    ----------
    problem : Problem
        Whose model and target are viewed.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem = problem
        self.edges = nn.ModuleList(EdgeActivation(layer) for layer in problem.model.layers)
        self.nodes = nn.ModuleList(
            nn.Identity() if nodes.plain else NodeProducts(nodes) for nodes in problem.model.nodes
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


@contextmanager
def known_to_captum() -> Iterator[None]:
    """Give captum's DeepLift a rule for `EdgeActivation` and `NodeProducts`, in the block."""
    from captum.attr._core import deep_lift

    rules = {EdgeActivation: deep_lift.nonlinear, NodeProducts: share_products}
    with _TABLE_LOCK:
        deep_lift.SUPPORTED_NON_LINEAR.update(rules)
        try:
            yield
        finally:
            for module in rules:
                deep_lift.SUPPORTED_NON_LINEAR.pop(module, None)
