"""A KAN as captum's DeepLift can read it: every edge an elementwise activation.

Captum replaces the gradient of modules it knows by their slope between sample and baseline, and
knows no KAN layer: on a KAN its DeepLift is gradient x (x - baseline), without a word. Here each
layer is expand -> elementwise activation of shape (batch, out, in) -> sum, which captum's own rule
for elementwise activations fits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kanlens.attribution.problem import Problem
from kanlens.core.layers import KANLinear

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

    def forward(self, x: Tensor) -> Tensor:
        """Return the output at x (batch, in), in the units of the data, shape (batch,)."""
        model, target = self._problem.model, self._problem.target
        hidden = model.scale_inputs(x)
        for layer, edges in zip(model.layers, self.edges, strict=True):
            spread = hidden[:, None, :].expand(-1, layer.out_features, -1)  # (batch, out, in)
            hidden = edges(spread).sum(-1) + layer.bias
        return hidden[:, target] * model.output_scale[target] + model.output_shift[target]


@contextmanager
def known_to_captum() -> Iterator[None]:
    """Let captum's DeepLift treat `EdgeActivation` as an elementwise activation, in the block."""
    from captum.attr._core import deep_lift

    with _TABLE_LOCK:
        deep_lift.SUPPORTED_NON_LINEAR[EdgeActivation] = deep_lift.nonlinear
        try:
            yield
        finally:
            del deep_lift.SUPPORTED_NON_LINEAR[EdgeActivation]
