"""Norms that belong to functions, not to how they are written, and penalties that stay finite."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from kanlens import sparsity
from kanlens.errors import ShapeError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics
from tests.model.layers_for_tests import EXACT, seeded


def rich(seed: int = 0, **options: object) -> KANLinear:
    layer = KANLinear(3, 2, generator=seeded(seed), **options).double()
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            generator = seeded(seed + 10 + number)
            parameter.copy_(torch.randn(parameter.shape, generator=generator).double())
    return layer


def rows(count: int = 40) -> Tensor:
    return 2 * torch.rand(count, 3, generator=seeded(5), dtype=torch.float64) - 1


def by_loop(layer: KANLinear, x: Tensor) -> Tensor:
    """The definition, edge by edge: mean_k |coefficient - c| + |base weight|, c the mean edge."""
    values = layer.edge_values(x)
    norms = torch.zeros(layer.out_features, layer.in_features, dtype=torch.float64)
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            c = sum(values[b, o, i].item() for b in range(len(x))) / len(x)
            weights = layer.spline_weight[o, i].detach() * layer.mask[o, i]
            if layer.enable_standalone_scale_spline:
                weights = weights * layer.spline_scaler[o, i].detach()
            away = [abs(w - c) for w in weights.tolist()]
            base = abs(layer.base_weight[o, i].item() * layer.mask[o, i].item())
            norms[o, i] = sum(away) / len(away) + base
    return norms


def split_differently(layer: KANLinear, factor: float) -> KANLinear:
    """The same functions with another share of them in the scaler."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.spline_weight *= factor
        other.spline_scaler /= factor
    return other


def moved_constants(layer: KANLinear, amounts: Tensor) -> KANLinear:
    """The same outputs with constants moved from edge to edge and into the bias."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        coefficients = layer.coefficients() + amounts.unsqueeze(-1)
        other.spline_weight.copy_(coefficients / layer.spline_scaler.unsqueeze(-1))
        other.bias -= amounts.sum(1)
    return other


# --- weight L1 --------------------------------------------------------------------------------


@pytest.mark.parametrize("standalone", [True, False])
def test_weight_l1_is_its_definition(standalone):
    layer = rich(enable_standalone_scale_spline=standalone)
    with torch.no_grad():
        layer.mask[0, 1] = 0.0
    x = rows()
    assert_close(sparsity.weight_l1(layer, x), by_loop(layer, x), **EXACT)
    assert sparsity.weight_l1(layer, x)[0, 1] == 0.0


def test_the_mean_is_over_the_grid_without_data():
    layer = rich()
    steps = torch.linspace(0, 1, 65, dtype=torch.float64)[:, None]
    low, high = layer.domain()
    expected = by_loop(layer, low + (high - low) * steps)
    assert_close(sparsity.weight_l1(layer), expected, **EXACT)


def test_the_mean_is_over_the_stored_quantiles_after_a_fit():
    model = KAN([3, 2], generator=seeded()).double()
    store_statistics(model, 0.2 + 0.1 * rows(500))
    layer = model.layers[0]
    quantiles = layer.statistics.quantiles.mT
    assert_close(sparsity.weight_l1(layer), by_loop(layer, quantiles), **EXACT)
    assert (sparsity.weight_l1(layer) - sparsity.weight_l1(layer, rows())).abs().max() > 1e-4


@given(st.integers(0, 1000), st.floats(0.01, 100.0), st.booleans(), st.booleans())
def test_weight_l1_belongs_to_the_function(seed, factor, negative, given_x):
    layer = rich(seed)
    x = rows() if given_x else None
    expected = sparsity.weight_l1(layer, x)
    other = split_differently(layer, -factor if negative else factor)
    assert_close(sparsity.weight_l1(other, x), expected, rtol=1e-10, atol=1e-10)
    amounts = 10 * torch.randn(2, 3, generator=seeded(seed), dtype=torch.float64)
    moved = moved_constants(layer, amounts)
    assert_close(moved(rows()), layer(rows()), rtol=1e-8, atol=1e-8)
    assert_close(sparsity.weight_l1(moved, x), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.slow  # takes a while
@given(
    st.integers(0, 1000),
    st.sampled_from(["identity", "zero"]),
    st.integers(1, 5),
    st.sampled_from(["linear", "zero"]),
    st.booleans(),
)
def test_weight_l1_does_not_see_where_a_straight_line_is_kept(seed, base, order, beyond, given_x):
    layer = rich(seed, base_activation=base, spline_order=order, extrapolation=beyond)
    with torch.no_grad():
        layer.update_grid(rows(), margin=0.01)
    amounts = torch.randn(2, 3, generator=seeded(seed), dtype=torch.float64)
    steps = layer.grid.unfold(1, order + 2, 1)[..., 1:-1].mean(-1)  # x as a B-spline
    moved = copy.deepcopy(layer)
    with torch.no_grad():
        moved.base_weight -= amounts
        if base == "identity":
            coefficients = layer.coefficients() + amounts.unsqueeze(-1) * steps
            moved.spline_weight.copy_(coefficients / layer.spline_scaler.unsqueeze(-1))
    assert_close(moved(rows()), layer(rows()), rtol=1e-10, atol=1e-10)
    x = rows() if given_x else None
    expected = sparsity.weight_l1(layer, x)
    assert_close(sparsity.weight_l1(moved, x), expected, **EXACT)


def test_what_a_zero_base_weighs_makes_no_edge():
    layer = rich(base_activation="zero")
    with torch.no_grad():
        layer.spline_weight[0, 1] = 0.0
    assert (~layer.nonzero_edges()).tolist() == [[False, True, False], [False, False, False]]
    assert layer.weight_l1()[0, 1] == 0.0
    assert layer.edge(0, 1).functions.functions == ()


def test_raw_l1_is_efficient_kans_and_has_neither_invariance():
    layer = rich()
    assert_close(sparsity.raw_l1(layer), layer.spline_weight.abs().mean(-1))
    doubled = sparsity.raw_l1(split_differently(layer, 2.0))
    assert_close(doubled, 2 * sparsity.raw_l1(layer))
    amounts = torch.full((2, 3), 5.0, dtype=torch.float64)
    moved = sparsity.raw_l1(moved_constants(layer, amounts))
    assert (moved - sparsity.raw_l1(layer)).abs().min() > 1e-3
    layer.mask[1, 1] = 0.0
    assert sparsity.raw_l1(layer)[1, 1] == 0.0


def test_weight_l1_is_differentiable_in_the_weights():
    layer = rich()
    parameters = dict(layer.named_parameters())

    def norm(*values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        named = {f"layer.{name}": value for name, value in state.items()}
        return torch.func.functional_call(_Norm(layer), named, ())

    assert gradcheck(norm, [p.detach().clone().requires_grad_() for p in parameters.values()])


class _Norm(torch.nn.Module):
    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        return self.layer.weight_l1(rows())


def test_message_of_other_columns():
    with pytest.raises(ShapeError, match=r"expected x of shape \(batch, 3\), got \(4, 2\)"):
        sparsity.weight_l1(rich(), torch.zeros(4, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"KANLinear\.weight_l1: expected at least 1 row, got 0"):
        sparsity.weight_l1(rich(), torch.zeros(0, 3, dtype=torch.float64))


# --- entropy ----------------------------------------------------------------------------------


def test_entropy_is_that_of_the_shares():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    share = scores / 10
    assert_close(sparsity.entropy(scores), -(share * share.log()).sum(), **EXACT)
    assert_close(sparsity.entropy(7 * scores), sparsity.entropy(scores), **EXACT)
    even = torch.full((8,), 0.3)
    assert sparsity.entropy(even).item() == pytest.approx(2.0794415)
    assert sparsity.entropy(torch.tensor([0.0, 5.0, 0.0])) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "scores",
    [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1e-30, 0.0, 0.0], [0.0], [1e-42, 1.0], [1e30, 0.0]],
)
def test_entropy_and_its_gradient_are_finite(scores, dtype):
    tensor = torch.tensor(scores, dtype=dtype, requires_grad=True)
    value = sparsity.entropy(tensor)
    value.backward()
    assert value.isfinite()
    assert value >= -1e-6
    assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("dead", ["one edge", "every edge", "masked"])
def test_penalties_are_finite_with_their_gradients_when_edges_are_zero(dead):
    layer = rich().float()
    with torch.no_grad():
        if dead == "masked":
            layer.mask.zero_()
        else:
            edges = (0, 0) if dead == "one edge" else slice(None)
            layer.spline_weight[edges] = 0.0
            layer.base_weight[edges] = 0.0
    for penalty in (
        layer.regularization_loss(),
        sparsity.penalty_value([layer, layer], "weight_l1", entropy_weight=2.0),
    ):
        layer.zero_grad()
        penalty.backward()
        assert penalty.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


# --- penalties ----------------------------------------------------------------------------------


def test_regularization_loss_weighs_norms_and_entropy():
    layer = rich()
    norms = layer.weight_l1()
    expected = 2.0 * norms.sum() + 3.0 * sparsity.entropy(norms)
    assert_close(layer.regularization_loss(2.0, 3.0), expected)
    assert_close(layer.regularization_loss(), norms.sum() + sparsity.entropy(norms))
    assert_close(layer.regularization_loss(regularize_entropy=0.0), norms.sum())


def test_penalty_value_sums_over_layers():
    layers = [rich(0), rich(1)]
    expected = sum(n.sum() + 0.5 * sparsity.entropy(n) for n in (x.weight_l1() for x in layers))
    found = sparsity.penalty_value(layers, "weight_l1", entropy_weight=0.5)
    assert_close(found, expected)
    assert set(sparsity.PENALTIES) >= {"weight_l1"}
