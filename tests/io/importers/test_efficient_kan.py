"""Models of efficient-kan: the same outputs, whatever the prefix; clear refusals otherwise."""

import itertools
import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kanlens.errors import DTypeError, InvalidValueError, ShapeError
from kanlens.io.importers import import_model
from kanlens.model._network import KAN


def reference_basis(x, grid, order):  # (batch, in), (in, knot) -> (batch, in, basis)
    """Cox-de Boor on half-open intervals, one function at a time, as the definition has it."""

    def value(i, k, degree):
        knots, point = grid[i], x[:, i]
        if degree == 0:
            return ((knots[k] <= point) & (point < knots[k + 1])).to(x)
        rise = (point - knots[k]) / (knots[k + degree] - knots[k])
        fall = (knots[k + degree + 1] - point) / (knots[k + degree + 1] - knots[k + 1])
        return rise * value(i, k, degree - 1) + fall * value(i, k + 1, degree - 1)

    n_basis = grid.shape[1] - order - 1
    rows = [torch.stack([value(i, k, order) for k in range(n_basis)], 1) for i in range(len(grid))]
    return torch.stack(rows, 1)


def reference_layer(x, state, order, base=F.silu):
    """efficient-kan's formula: base_weight base(x) + (spline_weight * spline_scaler) B(x)."""
    weight = state["spline_weight"]
    if "spline_scaler" in state:
        weight = weight * state["spline_scaler"][..., None]
    values = reference_basis(x, state["grid"], order)
    return F.linear(base(x), state["base_weight"]) + F.linear(values.flatten(1), weight.flatten(1))


def layer_state(n_in, n_out, *, size=5, order=3, scaler=True, uneven=False, seed=0, dtype=None):
    """Tensors of one layer of efficient-kan."""
    dtype = dtype or torch.float64
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    steps = torch.ones(n_in, size + 2 * order + 1, dtype=torch.float64)
    if uneven:
        steps = 0.2 + torch.rand(steps.shape, generator=generator, dtype=torch.float64)
    steps[:, 0] = 0
    knots = steps.cumsum(1)
    low, high = knots[:, order : order + 1], knots[:, size + order : size + order + 1]
    grid = -1 + 2 * (knots - low) / (high - low)
    if uneven:  # another range for each input
        grid = grid * torch.linspace(0.5, 1.5, n_in, dtype=torch.float64)[:, None] + 0.3
    state = {
        "base_weight": draw(n_out, n_in) / n_in,
        "spline_weight": draw(n_out, n_in, size + order) / n_in,
        "grid": grid.to(dtype),
    }
    if scaler:
        state["spline_scaler"] = draw(n_out, n_in)
    return state


def network_state(widths=(3, 4, 2), prefix="", **options):
    layers = [
        layer_state(n_in, n_out, seed=index, **options)
        for index, (n_in, n_out) in enumerate(itertools.pairwise(widths))
    ]
    state = {
        f"{prefix}layers.{index}.{name}": tensor
        for index, layer in enumerate(layers)
        for name, tensor in layer.items()
    }
    return state, layers


def reference_network(x, layers, order, base=F.silu):
    for layer in layers:
        x = reference_layer(x, layer, order, base)
    return x


def points(layer, rows=12, seed=3):
    """Random rows in [-4, 4], every knot exactly, and its two neighbors."""
    grid = layer["grid"]
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, len(grid), generator=generator, dtype=torch.float64) * 8 - 4
    infinity = torch.full_like(grid, math.inf)
    near = [grid, torch.nextafter(grid, infinity), torch.nextafter(grid, -infinity)]
    return torch.cat([x.to(grid.dtype), *(knots.T for knots in near)])


class EfficientKANLinear(nn.Module):
    """A module with the tensors and attributes of efficient-kan's layer."""

    def __init__(self, state, activation=nn.SiLU, grid_eps=0.02):
        super().__init__()
        for name, tensor in state.items():
            if name == "grid":
                self.register_buffer("grid", tensor)
            else:
                self.register_parameter(name, nn.Parameter(tensor))
        self.base_activation = activation()
        self.grid_eps = grid_eps


class EfficientKAN(nn.Module):
    def __init__(self, layers, activation=nn.SiLU):
        super().__init__()
        self.layers = nn.ModuleList(EfficientKANLinear(layer, activation) for layer in layers)


# --- equal outputs -----------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("scaler", [False, True])
def test_layer_equals_the_formula_everywhere(order, uneven, scaler):
    state = layer_state(2, 2, size=3, order=order, uneven=uneven, scaler=scaler)
    x = points(state)
    model = import_model(state)
    expected = reference_layer(x, state, order)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert model.layers[0].spline_order == order
    assert model.layers[0].grid_size == 3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("uneven", [False, True])
def test_network_equals_the_formula_everywhere(dtype, tolerance, uneven):
    state, layers = network_state(size=4, uneven=uneven, dtype=dtype)
    x = points(layers[0], rows=40)
    model = import_model(state)
    assert model.dtype == dtype
    expected = reference_network(x.double(), [_double(layer) for layer in layers], 3)
    torch.testing.assert_close(model(x).double(), expected, rtol=10 * tolerance, atol=tolerance)


def _double(layer):
    return {name: tensor.double() for name, tensor in layer.items()}


@given(
    widths=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    size=st.integers(1, 4),
    order=st.integers(1, 3),
    scaler=st.booleans(),
    prefix=st.sampled_from(["", "module.", "model.kan.", "_orig_mod.module.", "layers.0."]),
)
@settings(max_examples=15, deadline=None)
def test_any_shape_and_prefix(widths, size, order, scaler, prefix):
    state, layers = network_state(
        widths, prefix, size=size, order=order, scaler=scaler, uneven=True
    )
    x = points(layers[0], rows=3)
    model = import_model(state)
    assert model.widths == tuple(widths)
    expected = reference_network(x, layers, order)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_eleven_layers_keep_their_order():
    widths = (2,) * 12
    state, layers = network_state(widths, size=2, order=1)
    shuffled = dict(sorted(state.items(), reverse=True))
    x = torch.rand(5, 2, dtype=torch.float64)
    expected = reference_network(x, layers, 1)
    torch.testing.assert_close(import_model(shuffled)(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scaler", [True, False])
@pytest.mark.parametrize("order", [1, 5])
def test_drop_in_state_dict_loads_into_kanlens(order, scaler):
    state, layers = network_state(order=order, uneven=True, scaler=scaler)
    options = {"extrapolation": "zero", "enable_standalone_scale_spline": scaler}
    model = KAN([3, 4, 2], spline_order=order, **options).double()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert {name.rpartition(".")[2] for name in missing} == {
        *("bias", "mask", "input_shift", "input_scale", "input_low", "input_high"),
        *("output_shift", "output_scale"),
    }
    x = points(layers[0], rows=4)
    expected = reference_network(x, layers, order)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


# --- what a module knows, and what the caller does ---------------------------------------------


def test_base_activation_of_the_module():
    _, layers = network_state()
    module = EfficientKAN(layers, nn.Tanh)
    module.layers[1].grid_eps = 0.5
    model = import_model(module)
    x = points(layers[0], rows=4)
    expected = reference_network(x, layers, 3, torch.tanh)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert [layer.base_name for layer in model.layers] == ["tanh", "tanh"]
    assert [layer.grid_eps for layer in model.layers] == [0.02, 0.5]
    state = network_state(dtype=torch.float32)[0]
    state["layers.0.grid"] = state["layers.0.grid"].double()
    assert import_model(state).dtype == torch.float64  # the widest
    inner = nn.ModuleDict({"kan": module})
    assert [layer.base_name for layer in import_model(inner).layers] == ["tanh", "tanh"]


@pytest.mark.parametrize("given", ["gelu", nn.GELU, nn.GELU(), F.gelu])
def test_base_activation_given_by_the_caller(given):
    state, layers = network_state()
    x = points(layers[0], rows=4)
    expected = reference_network(x, layers, 3, F.gelu)
    model = import_model(state, base_activation=given)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    model = import_model(EfficientKAN(layers, nn.Tanh), base_activation=given)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_unknown_base_activation():
    _, layers = network_state()
    text = (
        "import_model: expected base_activation to be one of cos, elu, gelu, hardsigmoid, "
        "hardswish, identity, leaky_relu, logsigmoid, mish, relu, relu6, sigmoid, silu, sin, "
        "softplus, softsign, tanh, zero, got Hardshrink(0.5). "
        "Register it first, with kanlens.register_function."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        import_model(EfficientKAN(layers, nn.Hardshrink))
    found = import_model(EfficientKAN(layers, nn.Hardshrink), base_activation="silu")
    assert found.widths == (3, 4, 2)


def test_names():
    state, _ = network_state()
    model = import_model(state, feature_names=["a", "b", "größe"], output_names=["u", "v"])
    assert model.feature_names == ("a", "b", "größe")
    assert model.output_names == ("u", "v")
    assert import_model(state).feature_names == ("x1", "x2", "x3")
    assert model.scaled  # so that a later fit keeps its function
    text = "import_model: expected 3 feature_names, got 2. Name each one once."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        import_model(state, feature_names=["a", "b"])


def test_result_is_a_copy_and_the_source_stays():
    _, layers = network_state()
    module = EfficientKAN(layers).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random = torch.get_rng_state()
    model = import_model(module)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(7)
    assert torch.equal(torch.get_rng_state(), random)
    assert not module.training
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(not buffer.requires_grad for buffer in model.buffers())


# --- kanlens' own layers -----------------------------------------------------------------------


def own_model(extrapolation="linear"):
    generator = torch.Generator().manual_seed(0)
    model = KAN([3, 4, 2], extrapolation=extrapolation, generator=generator).double()
    with torch.no_grad():
        model.layers[0].mask[1, 2] = 0
        model.layers[1].bias.fill_(0.5)
        model.input_shift.fill_(0.3)
        model.input_scale.fill_(2)
        model.output_scale.fill_(3)
        model.output_shift.fill_(-1)
    return model


@pytest.mark.parametrize("prefix", ["", "module.", "model.kan."])
def test_state_dict_of_kanlens(prefix):
    model = own_model()
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    x = torch.linspace(-4, 4, 30, dtype=torch.float64).reshape(10, 3)
    torch.testing.assert_close(import_model(state)(x), model(x), rtol=1e-12, atol=1e-12)
    assert import_model(state).layers[0].mask[1, 2] == 0
    state[f"{prefix}output_scale"] = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ShapeError, match=re.escape("output_scale of shape (2,), got (3,)")):
        import_model(state)


@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_modules_of_kanlens(extrapolation):
    model = own_model(extrapolation)
    x = torch.linspace(-4, 4, 30, dtype=torch.float64).reshape(10, 3)
    layer = model.layers[0]
    torch.testing.assert_close(import_model(layer)(x), layer(x), rtol=1e-12, atol=1e-12)
    wrapped = import_model(nn.ModuleDict({"kan": model}))
    torch.testing.assert_close(wrapped(x), model(x), rtol=1e-12, atol=1e-12)


# --- refusals ----------------------------------------------------------------------------------


def refused(error, text, source, **options):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        import_model(source, **options)


def changed(**changes):
    state, _ = network_state()
    for name, change in changes.items():
        key = "layers." + name.replace("__", ".")
        value = change(state[key]) if key in state else change(None)
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


def test_missing_grid():
    refused(
        ShapeError,
        "import_model: expected a tensor layers.1.grid in the state dict, got none. "
        "Save the whole state dict, buffers included.",
        changed(**{"1__grid": lambda _: None}),
    )


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("0__grid", lambda t: t[0], "layers.0.grid of shape (3, any), got (12,)"),
        ("0__grid", lambda t: t[:2], "layers.0.grid of shape (3, any), got (2, 12)"),
        ("0__base_weight", lambda t: t.T, "layers.0.base_weight of shape (4, 3), got (3, 4)"),
        ("1__spline_scaler", lambda t: t[:1], "layers.1.spline_scaler of shape (2, 4), got (1, 4)"),
        ("1__bias", lambda _: torch.ones(3), "layers.1.bias of shape (2,), got (3,)"),
    ],
)
def test_wrong_ranks_and_shapes(name, change, text):
    advice = "The tensors are not those of one layer; save the model again."
    refused(ShapeError, f"import_model: expected {text}. {advice}", changed(**{name: change}))


def test_mismatched_widths():
    state = {f"layers.0.{k}": v for k, v in layer_state(3, 4).items()}
    state |= {f"layers.1.{k}": v for k, v in layer_state(5, 2).items()}
    refused(
        ShapeError,
        "import_model: expected layers.1 to take the 4 outputs of layers.0, got 5 inputs. "
        "The layers are not of one network; pass one at a time.",
        state,
    )


@pytest.mark.parametrize(
    ("n_out", "order", "size"), [(2, 0, 8), (2, 6, 2), (2, -1, 9), (2, 3, 0), (0, 3, 5)]
)
def test_splines_that_kanlens_lacks(n_out, order, size):
    state = layer_state(3, n_out)
    state["spline_weight"] = state["spline_weight"][..., : size + order]
    state["grid"] = torch.arange(size + 2 * order + 1.0).expand(3, -1).double()
    refused(
        ShapeError,
        "import_model: expected splines of degree 1 to 5, "
        f"got {n_out} x 3 splines of degree {order} on {size} intervals. "
        "Train it with another spline_order.",
        state,
    )


def test_masked_edges_are_kept_and_nan_behind_a_mask_is_refused():
    state, layers = network_state()
    mask = torch.ones(4, 3, dtype=torch.float64)
    mask[2, 1] = 0
    state["layers.0.mask"] = mask
    model = import_model(state, extrapolation="zero")
    assert model.edges_alive == 4 * 3 + 4 * 2 - 1
    layers[0]["base_weight"] = layers[0]["base_weight"] * mask
    layers[0]["spline_scaler"] = layers[0]["spline_scaler"] * mask
    x = points(layers[0], rows=4)
    expected = reference_network(x, layers, 3)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    state["layers.0.spline_weight"][2, 1] = math.nan
    with pytest.raises(InvalidValueError, match=r"got 8 of 96 that are NaN or infinite"):
        import_model(state)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda t: t.long(), "torch.int64"),
        (lambda t: t.to("meta"), "no data"),
        (lambda t: t.to_sparse(), "torch.sparse_coo"),
        (lambda t: t.to(torch.complex64), "torch.complex64"),
    ],
)
def test_tensors_of_other_kinds(change, got):
    refused(
        DTypeError,
        "import_model: expected layers.0.base_weight to be a dense tensor of floating dtype, "
        f"got {got}. Save dense tensors in float32 or float64.",
        changed(**{"0__base_weight": change}),
    )


def test_other_tensors_beside_the_kan():
    state, _ = network_state()
    state["norm.weight"] = torch.ones(3)
    text = (
        "import_model: expected only layers of a KAN in the state dict, got 1 other tensor "
        "('norm.weight'). Pass the part of the model that is the KAN."
    )
    refused(InvalidValueError, text, state)
    state |= {f"norm.{i}": torch.ones(1) for i in range(4)}
    text = text.replace("1 other tensor ", "5 other tensors ")
    text = text.replace("weight')", "weight', 'norm.0', 'norm.1', ...)")
    refused(InvalidValueError, text, state)


def test_several_networks():
    state, _ = network_state(prefix="encoder.")
    state |= network_state(prefix="decoder.")[0]
    refused(
        InvalidValueError,
        "import_model: expected one KAN in the state dict, got layers 'decoder.layers.0', "
        "'decoder.layers.1', 'encoder.layers.0', 'encoder.layers.1'. "
        "Pass the part that is one KAN, or its layers in order in an nn.Sequential.",
        state,
    )
    named = {f"fc{i}.{k}": v for i in (1, 2) for k, v in layer_state(3, 3).items()}
    with pytest.raises(InvalidValueError, match=r"got layers 'fc1', 'fc2'\."):
        import_model(named)
