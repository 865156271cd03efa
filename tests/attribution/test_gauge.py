"""What a network computes does not change when constants move between the edges of a node.

B-splines sum to one, so c may be added to one edge and taken from another: the same function,
written differently. No attribution may tell the two apart, unless its definition does.
"""

import copy

import pytest
import torch
from torch import Tensor

from kanlens.attribution import METHODS, attribute
from kanlens.model._network import KAN
from tests.attribution.conftest import MADE_OF
from tests.attribution.test_attribution_contract import FEW, in_turn, widths

CLOSE = 1e-10  # of the largest value


def moved(model: KAN, seed: int = 5) -> KAN:
    """The same function: constants moved among the edges of every sum, and its bias."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for layer in other.layers:
        for out in range(layer.out_features):
            c = 10 * torch.randn(layer.in_features, generator=generator, dtype=torch.float64)
            for in_ in range(layer.in_features):
                add(layer, out, in_, float(c[in_]))
            layer.bias[out] -= c.sum()
    return other


def add(layer: torch.nn.Module, out: int, in_: int, c: float) -> None:
    """Add a constant to one edge."""
    if layer.functions[out][in_] != "spline":
        layer.affine[out, in_, 3] += c
    else:
        layer.spline_weight[out, in_] += c / layer.spline_scaler[out, in_]


def values(name: str, model: KAN, x: Tensor, rows: Tensor) -> Tensor:
    options = FEW.get(name, {})
    generator = torch.Generator().manual_seed(3)
    return attribute(
        model, x, method=name, background=rows, target=1, generator=generator, **options
    ).values


def check_gauge(name: str, model: KAN, x: Tensor, rows: Tensor) -> None:
    with torch.no_grad():
        other = moved(model)
    torch.testing.assert_close(other(x), model(x), rtol=1e-12, atol=1e-12)
    before, after = values(name, model, x, rows), values(name, other, x, rows)
    scale = float(before.abs().max())
    torch.testing.assert_close(after, before, rtol=0, atol=CLOSE * scale)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of"), in_turn(sorted(METHODS)))
def test_constants_may_move_between_edges(name, of, network, draw):
    model = MADE_OF[of](network(widths(name)))
    if METHODS[name].gauge_invariant:
        check_gauge(name, model, draw(4, 3), draw(3, 3, seed=2))
    else:
        with pytest.raises(AssertionError):
            check_gauge(name, model, draw(4, 3), draw(3, 3, seed=2))


def test_teeth_a_norm_of_weights_as_they_are_is_noticed(network, draw, monkeypatch):
    def raw(layer, x=None):
        return layer.coefficients().abs().mean(-1)

    monkeypatch.setattr("kanlens.model._kan_linear.KANLinear.weight_l1", raw)
    with pytest.raises(AssertionError):
        check_gauge("weight_l1", network([3, 2, 2]), draw(4, 3), draw(3, 3, seed=2))
