"""KANLinear against a loop, efficient-kan's formula and autograd; masks, copies, messages."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from kanlens.errors import DTypeError, InvalidValueError, ShapeError
from kanlens.model._kan_linear import LAYER_KINDS, EdgeLayer, KANLinear
from tests.model import reference
from tests.model.layers_for_tests import (
    EXACT,
    MODES,
    ORDERS,
    everywhere,
    inside,
    normal,
    refused,
    rich,
    seeded,
)


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(item, Tensor):
                self.elements = max(self.elements, item.numel())
        return result


# --- what the layer computes -----------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("standalone", [True, False])
def test_forward_and_edges_are_the_loop(order, mode, standalone):
    layer = rich(spline_order=order, extrapolation=mode, enable_standalone_scale_spline=standalone)
    with torch.no_grad():
        layer.mask[0, 1] = 0.0
        layer.mask[1, 2] = 0.5
    x = everywhere(layer)
    expected = reference.edge_values(layer, x)
    size = expected.abs().max().item()
    tight = {"rtol": 1e-12, "atol": 1e-12 * max(1.0, size)}
    assert_close(layer.edge_values(x), expected, **tight)
    assert_close(layer(x), reference.kan_linear(layer, x), **tight)
    assert_close(layer(x), layer.edge_values(x).sum(2) + layer.bias, **tight)


def test_loop_has_teeth():
    layer = rich()
    x = inside(layer, 4)
    expected = reference.kan_linear(layer, x)
    for name in ("base_weight", "spline_weight", "spline_scaler", "bias", "mask", "grid"):
        broken = copy.deepcopy(layer)
        with torch.no_grad():
            getattr(broken, name).view(-1)[4 if name == "grid" else 0] *= 1.01
        with pytest.raises(AssertionError):
            assert_close(broken(x), expected, **EXACT)


@pytest.mark.parametrize("base", ["silu", "identity", "zero", "tanh", "gelu"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_edge_derivatives_are_those_of_autograd(order, mode, base):
    layer = rich(2, 3, spline_order=order, extrapolation=mode, base_activation=base)
    x = torch.cat([everywhere(layer)[:9], *(end[None] for end in layer.domain())])
    x.requires_grad_()
    values = layer.edge_values(x)
    for o in range(3):
        (slope,) = torch.autograd.grad(values[:, o].sum(), x, retain_graph=True)
        assert_close(layer.edge_derivatives(x)[:, o], slope, rtol=1e-10, atol=1e-10)


# --- shapes, dtypes, odd values --------------------------------------------------------------


def test_outside_says_which_values_lie_beyond_the_grid():
    layer = KANLinear(1, 1)
    x = torch.tensor([[-1.1], [-1.0], [0.0], [1.0], [1.1], [torch.nan], [torch.inf]])
    low, high = layer.domain()
    x[1], x[3] = low, high
    assert layer.outside(x)[:, 0].tolist() == [True, False, False, False, True, True, True]


# --- masks -----------------------------------------------------------------------------------


def test_a_masked_edge_is_gone_from_everything():
    layer = rich()
    with torch.no_grad():
        layer.mask[1, 0] = 0.0
    x = everywhere(layer)
    assert not layer.edge_values(x)[:, 1, 0].any()
    assert not layer.edge_derivatives(x)[:, 1, 0].any()
    assert not layer.coefficients()[1, 0].any()
    assert layer.base_weights()[1, 0] == 0.0
    assert layer.weight_l1()[1, 0] == 0.0
    assert layer.edge_values(x)[:, 0, 0].any()
    layer(x).square().sum().backward()
    assert not layer.spline_weight.grad[1, 0].any()
    assert layer.base_weight.grad[1, 0] == 0.0
    assert layer.spline_scaler.grad[1, 0] == 0.0
    assert layer.spline_weight.grad[0, 0].any()


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_masked_altogether_returns_its_bias(mode):
    layer = rich(extrapolation=mode)
    with torch.no_grad():
        layer.mask.zero_()
    x = everywhere(layer)
    assert_close(layer(x), layer.bias.expand(len(x), 2), rtol=0, atol=0)
    assert layer.piece_degree == 3
    layer.regularization_loss().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


# --- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_forward_and_backward_never_build_batch_out_in(mode):
    batch, n_out, n_in = 64, 60, 30
    layer = KANLinear(n_in, n_out, extrapolation=mode)
    x = normal(batch, n_in, dtype=torch.float32).requires_grad_()
    with Largest() as largest:
        layer(x).sum().backward()
    assert largest.elements <= batch * n_in * layer.grid.shape[1]
    assert largest.elements < batch * n_out * n_in
    with Largest() as largest:
        layer.edge_values(x)
    assert largest.elements >= batch * n_out * n_in  # the check can tell


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("order", ORDERS)
def test_a_fine_grid_is_read_where_splines_are_not_zero(order):
    layer = rich(spline_order=order, grid_size=150)
    x = everywhere(layer).repeat(8, 1).requires_grad_()
    with Largest() as largest:
        y = layer(x)
        y.sum().backward()
    expected = reference.kan_linear(layer, x)
    assert_close(y, expected, rtol=1e-12, atol=1e-12 * expected.abs().max().item())
    assert_close(x.grad, layer.edge_derivatives(x).sum(1), rtol=1e-9, atol=1e-9)
    assert largest.elements < x.numel() * layer.grid_size / 2
    (rows,) = torch.func.vmap(layer)(x.detach()[None])
    assert_close(rows, y, **EXACT)


# --- construction ----------------------------------------------------------------------------


def test_without_a_generator_it_draws_from_torchs():
    before = torch.get_rng_state()
    try:
        torch.manual_seed(3)
        first = KANLinear(3, 2)
        assert not torch.equal(torch.get_rng_state(), seeded(3).get_state())
        torch.manual_seed(3)
        second = KANLinear(3, 2)
    finally:
        torch.set_rng_state(before)
    assert torch.equal(first.spline_weight, second.spline_weight)


def test_initial_values_and_the_scales():
    layer = KANLinear(25, 40, generator=seeded())
    assert not layer.bias.any()
    assert layer.mask.all()
    assert layer.statistics is None
    assert layer.extrapolation == "linear"
    for weight in (layer.base_weight, layer.spline_scaler):
        assert 0.19 < weight.abs().max() <= 0.2
    noise = layer.spline_weight.std()
    big = KANLinear(25, 40, scale_noise=1.0, scale_base=3.0, scale_spline=5.0, generator=seeded())
    assert_close(big.base_weight, 3 * layer.base_weight)
    assert_close(big.spline_scaler, 5 * layer.spline_scaler)
    assert_close(big.spline_weight.std(), 10 * noise, rtol=1e-4, atol=0)
    plain = KANLinear(
        25, 40, scale_spline=5.0, enable_standalone_scale_spline=False, generator=seeded()
    )
    assert_close(plain.spline_weight, 5 * layer.spline_weight)
    assert "spline_scaler" not in plain.state_dict()


def test_sizes_may_be_numpy_integers():
    layer = KANLinear(np.int64(2), np.int64(3), np.int64(4), np.int64(2), grid_eps=np.float32(0.5))
    assert layer.config == KANLinear(2, 3, 4, 2, grid_eps=0.5).config
    assert {type(value) for value in (layer.in_features, layer.grid_size)} == {int}


def test_the_layer_stands_in_for_nn_linear():
    model = nn.Sequential(nn.Linear(3, 4), KANLinear(4, 2), nn.Tanh())
    assert model(torch.zeros(5, 3)).shape == (5, 2)
    assert isinstance(KANLinear(1, 1), EdgeLayer)
    assert LAYER_KINDS["spline"] is KANLinear
    assert repr(KANLinear(4, 5)) == (
        "KANLinear(4, 5, grid_size=5, spline_order=3, base=silu, extrapolation=linear)"
    )


# --- messages --------------------------------------------------------------------------------


WHOLE = "{} to be a whole number of at least 1"
RANGE = "grid_range of two finite numbers, the lower first"
AT_LEAST_0 = "{} to be a number of at least 0"
BASES = "elu, gelu, hardswish, identity, leaky_relu, mish, relu, sigmoid, silu, sin, softplus, tanh"


@pytest.mark.parametrize(
    ("name", "value", "expected", "advice"),
    [
        ("in_features", 0, WHOLE, "Pass a whole number such as 1"),
        ("out_features", 2.0, WHOLE, "Pass a whole number such as 1"),
        ("grid_size", 0, WHOLE, "Pass a whole number such as 1"),
        ("spline_order", 0, "spline_order to be an integer from 1 to 5", "3 is cubic"),
        ("spline_order", 6, "spline_order to be an integer from 1 to 5", "3 is cubic"),
        ("spline_order", 3.0, "spline_order to be an integer from 1 to 5", "3 is cubic"),
        ("spline_order", True, "spline_order to be an integer from 1 to 5", "3 is cubic"),
        ("grid_eps", 1.5, "grid_eps from 0 to 1", "The default is 0.02"),
        ("grid_range", (1, -1), RANGE, "Pass numbers such as (-1, 1)"),
        ("grid_range", (0.0, torch.inf), RANGE, "Pass numbers such as (-1, 1)"),
        ("grid_range", [1.0], RANGE, "Pass numbers such as (-1, 1)"),
        ("grid_range", "ab", RANGE, "Pass numbers such as (-1, 1)"),
        ("grid_range", 5, RANGE, "Pass numbers such as (-1, 1)"),
        (
            "grid_range",
            (1e8, 1e8 + 1),
            "grid_range wide enough for its intervals in torch.float32",
            "Scale the inputs",
        ),
        ("scale_noise", torch.nan, AT_LEAST_0, "Pass 0 or a number above 0"),
        ("scale_base", -1.0, AT_LEAST_0, "Pass 0 or a number above 0"),
        ("scale_spline", "1", AT_LEAST_0, "Pass 0 or a number above 0"),
        ("extrapolation", "lineal", "{} to be one of linear, zero", "Did you mean 'linear'?"),
        ("base_activation", "sulu", f"{{}} to be one of {BASES}, zero", "Did you mean 'silu'?"),
    ],
)
def test_messages_of_the_constructor(name, value, expected, advice):
    call = name if name == "base_activation" else "KANLinear"
    end = "" if advice.endswith("?") else "."
    text = f"{call}: expected {expected.format(name)}, got {value!r}. {advice}{end}"
    with refused(InvalidValueError, text):
        KANLinear(**{"in_features": 2, "out_features": 3, name: value})


def test_messages_of_calls_with_other_shapes_and_dtypes():
    layer = KANLinear(3, 2)
    tail = (
        "expected x of shape (batch, 3), got (2, 4). The model takes 3 features; pass only those."
    )
    x = torch.zeros(2, 4)
    for call in ("edge_values", "edge_derivatives", "update_grid"):
        with refused(ShapeError, f"KANLinear.{call}: {tail}"):
            getattr(layer, call)(x)
    with refused(ShapeError, f"KANLinear.forward: {tail}"):
        layer(x)
    text = (
        "expected x of dtype torch.float32, as the model's, got torch.float64. Convert x with "
        "x.to(dtype), or the model with model.double() or model.float()."
    )
    with refused(DTypeError, f"KANLinear.forward: {text}"):
        layer(torch.zeros(2, 3, dtype=torch.float64))
    with refused(DTypeError, f"KANLinear.update_grid: {text}"):
        layer.update_grid(torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda it: it.edge(2, 0), "edge: expected out from 0 to 1, got 2. Pass a valid index."),
        (lambda it: it.edge(0, -1), "edge: expected in_ from 0 to 2, got -1. Pass a valid index."),
        (
            lambda it: it.edge(True, 0),
            "edge: expected out from 0 to 1, got True. Pass a valid index.",
        ),
        (
            lambda it: it.refine(0),
            "KANLinear.refine: expected grid_size to be a whole number of at least 1, got 0. "
            "Pass a whole number such as 1.",
        ),
        (
            lambda it: it.update_grid(torch.zeros(2, 3), margin=-0.1),
            "KANLinear.update_grid: expected margin to be a number of at least 0, got -0.1. "
            "Pass 0 or a number above 0.",
        ),
        (
            lambda it: it.select([], [0]),
            "select: expected out to list indices from 0 to 1, got []. Pass valid indices.",
        ),
        (
            lambda it: it.select([0], [1, 3]),
            "select: expected in_ to list indices from 0 to 2, got [1, 3]. Pass valid indices.",
        ),
    ],
)
def test_messages_of_edges_grids_and_selections(call, text):
    layer = KANLinear(3, 2)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with refused(InvalidValueError, text):
        call(layer)
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())
