"""Rewriting of layer normalization as edges and products.

References
----------
.. [1] J. Ba, J. Kiros and G. Hinton, Layer normalization, 2016.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kanlens.model._config import LayerConfig
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes


def expand_normalization(model: KAN) -> KAN:
    """Return the same function with layer normalizations written out as edges and products.

    One layer has the distances from the mean, the next also their mean square plus eps, the last
    each distance times its inverse root. A model without normalization is returned unchanged.
    """
    if not any(nodes.normalized for nodes in model.nodes):
        return model
    layers: list[KANLinear] = []
    ends: list[Nodes] = []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        layers.append(layer)
        if nodes.normalized:
            stages = _expanded(nodes, layer.mask)
            layers += stages
            ends += [Nodes(Grouping(stage.in_features)) for stage in stages]
            ends.append(Nodes(Grouping(nodes.apart, (2,) * nodes.normalized), scaled=nodes.scaled))
            if nodes.scaled:
                ends[-1].scale, ends[-1].shift = nodes.scale, nodes.shift
        else:
            ends.append(nodes)
    expanded = KAN.from_layers(layers, model.schema, nodes=ends)
    for name, tensor in model.named_buffers(recurse=False):
        setattr(expanded, name, tensor)
    expanded.scaled, expanded.holds_inputs = model.scaled, model.holds_inputs
    expanded.provenance, expanded.background = model.provenance, model.background
    return expanded.requires_grad_(next(model.parameters()).requires_grad).train(model.training)


def _expanded(nodes: Nodes, like: Tensor) -> list[KANLinear]:
    """Return layers that compute the factors of normalized nodes from sums."""
    n, raw = nodes.normalized, nodes.apart
    distances = torch.eye(raw + n, dtype=torch.float64)
    distances[raw:, raw:] -= 1 / n
    passed = torch.eye(raw + n + 1, raw + n)
    bias = torch.zeros(raw + n + 1, dtype=torch.float64)
    bias[-1] = nodes.eps
    factors = torch.eye(raw + 2 * n, raw + n + 1)
    factors[raw:] = 0.0
    factors[range(raw, raw + 2 * n, 2), range(raw, raw + n)] = 1.0
    squares = {(raw + n, raw + i): ("x^2", 1 / n) for i in range(n)}
    roots = {(raw + 2 * i + 1, raw + n): ("1/sqrt", 1.0) for i in range(n)}
    stages = [(distances, {}, None), (passed, squares, bias), (factors, roots, None)]
    return [_layer(*stage).to(like) for stage in stages]


def _layer(
    lines: Tensor, curved: Mapping[tuple[int, int], tuple[str, float]], bias: Tensor | None
) -> KANLinear:
    """Return a layer of linear edges with slopes (out, in), and of some elementary functions."""
    (n_out, n_in), mask = lines.shape, lines != 0
    table = [["spline"] * n_in for _ in range(n_out)]
    affine = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64).repeat(n_out, n_in, 1)
    for (out, in_), (name, factor) in curved.items():
        table[out][in_], mask[out, in_] = name, True
        affine[out, in_, 2] = factor
    config = LayerConfig(
        kind=KANLinear.kind,
        in_features=n_in,
        out_features=n_out,
        grid_size=1,
        spline_order=1,
        base_activation="identity",
        enable_standalone_scale_spline=False,
        functions=tuple(map(tuple, table)) if curved else (),
    )
    layer = KANLinear.from_config(config).double()
    state = {**layer.state_dict(), "base_weight": lines, "mask": mask}
    if bias is not None:
        state["bias"] = bias
    if curved:
        state["affine"] = affine
    layer.load_state_dict(state)
    return layer
