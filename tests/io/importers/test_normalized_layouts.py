"""Layers with layer normalization: sums, squares, roots and products compute what they do."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.io.importers import import_model
from kanlens.model.layers import KANLinear
from tests.io.importers import series_doubles
from tests.io.importers.doubles import Double, rows
from tests.io.importers.test_efficient_kan import reference_basis


def evaluated(state, x, settings):
    """Run the imported network."""
    with torch.no_grad():
        return import_model(state, **settings)(x)


def norm(d, start, n):
    weight, bias = d.draw(f"{start}.weight", n), d.draw(f"{start}.bias", n)
    return lambda x: F.layer_norm(x, (n,), weight, bias)


def fast_kan(d, start, n_in, n_out):
    z = norm(d, f"{start}layernorm", n_in)
    inner = series_doubles.fast_kan(d, start, n_in, n_out)
    base, bias = d.state[f"{start}base_linear.weight"], d.state[f"{start}base_linear.bias"]
    raw = lambda x: F.silu(x) @ base.T + bias  # noqa: E731
    return lambda x: inner(z(x)) - raw(z(x)) + raw(x)


def faster_kan(d, start, n_in, n_out):
    z, inner = norm(d, f"{start}layernorm", n_in), series_doubles.faster_kan(d, start, n_in, n_out)
    return lambda x: inner(z(x))


def bsrbf(d, start, n_in, n_out):
    z, knots = norm(d, f"{start}layernorm", n_in), d.grid(f"{start}grid", n_in)
    base, weight = (
        d.draw(f"{start}base_weight", n_out, n_in),
        d.draw(f"{start}spline_weight", n_out, n_in * 7),
    )
    grid = d.keep(f"{start}rbf.grid", torch.linspace(-1.5, 1.5, 7).double())

    def forward(x):
        x = z(x)
        basis = reference_basis(x, knots, 3) + torch.exp(-(((x[..., None] - grid) / 0.5) ** 2))
        return basis.flatten(1) @ weight.T + F.silu(x) @ base.T

    return forward


def conv_kan(d, start, n_in, n_out):
    base, weight = (
        d.draw(f"{start}base_weight", n_out, n_in),
        d.draw(f"{start}spline_weight", n_out, n_in, 8),
    )
    z, slope = norm(d, f"{start}layer_norm", n_out), d.draw(f"{start}prelu.weight", 1)
    knots = torch.linspace(-2.2, 2.2, 12, dtype=torch.float64).expand(n_in, -1)

    def forward(x):
        y = F.gelu(x) @ base.T + torch.einsum("bik,oik->bo", reference_basis(x, knots, 3), weight)
        return F.prelu(z(y), slope)

    return forward


def torchkan(d, start, n_in, n_out):
    i = start.split(".")[1]
    base, weight = (
        d.draw(f"base_weights.{i}", n_out, n_in),
        d.draw(f"spline_weights.{i}", n_out, n_in, 7),
    )
    z, slope, knots = (
        norm(d, f"layer_norms.{i}", n_out),
        d.draw(f"prelus.{i}.weight", 1),
        d.grid(f"grid_{i}", n_in),
    )

    def forward(x):
        y = F.gelu(x) @ base.T + torch.einsum("bik,oik->bo", reference_basis(x, knots, 3), weight)
        return F.prelu(z(y), slope)

    return forward


def gram(d, start, n_in, n_out, degree=4):
    betas, weight = (
        d.draw(f"{start}beta_weights", degree + 1),
        d.draw(f"{start}grams_basis_weights", n_in, n_out, degree + 1),
    )
    base, z = d.draw(f"{start}base_weights", n_out, n_in), norm(d, f"{start}norm", n_out)

    def beta(n, m):
        return (m + n) * (m - n) * n**2 / (m**2 / (4 * n**2 - 1)) * betas[n]

    def forward(x):
        t = torch.tanh(x)
        basis = [torch.ones_like(t), t]
        for i in range(2, degree + 1):
            basis.append(t * basis[-1] - beta(i - 1, i) * basis[-2])
        y = torch.einsum("bid,iod->bo", F.silu(torch.stack(basis, -1)), weight)
        return F.silu(z(y + F.silu(x) @ base.T))

    return forward


def jacobi(d, start, n_in, n_out):
    inner = series_doubles.polynomial(d, start, n_in, n_out, "legendre")
    del d.state[f"{start}arange"]
    base, z = d.draw(f"{start}base_weights", n_out, n_in), norm(d, f"{start}norm", n_out)
    return lambda x: F.silu(z(inner(x) + F.silu(x) @ base.T))


CASES = {
    "FastKAN": (fast_kan, {}),
    "FasterKAN": (faster_kan, {}),
    "BSRBF_KAN": (bsrbf, {}),
    "torch-conv-kan": (conv_kan, {"spline_order": 3, "grid_range": (-1.0, 1.0)}),
    "torchkan": (torchkan, {}),
    "KAGN": (gram, {}),
    "polynomials of torch-conv-kan": (jacobi, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_network_computes_what_the_library_does(name):
    layer, settings = CASES[name]
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise((4, 5, 4))):
        d.steps.append(layer(d, f"layers.{i}.", n_in, n_out))
    x = rows(d, 4)
    expected, got = d(x), evaluated(d.state, x, settings)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * float(expected.abs().max()))
    for key, tensor in d.state.items():
        if (
            "inv_denominator" not in key
            and "rbf.grid" not in key
            and not key.endswith("layers.0.beta_weights")
        ):
            spoiled = evaluated({**d.state, key: tensor * (1 + 1e-5)}, x, settings)
            assert (spoiled - expected).abs().max() > 1e-9, key


def test_a_normalization_is_kept_or_written_out():
    d = Double()
    d.steps.append(fast_kan(d, "layers.0.", 2, 1))
    x = rows(d, 2)
    kept, exact = import_model(d.state), import_model(d.state, layer_norm="exact")
    assert [nodes.normalized for nodes in kept.nodes] == [2, 0]
    assert not any(nodes.normalized for nodes in exact.nodes)
    torch.testing.assert_close(kept(x), d(x), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(exact(x), d(x), rtol=1e-13, atol=1e-13)
    names = [kept.node_name(1, index) for index in range(4)]
    assert names == ["raw x1", "raw x2", "normalized x1", "normalized x2"]
    match = r"^import_model: expected layer_norm to be one of keep, exact, got 'fold'"
    with pytest.raises(InvalidValueError, match=match):
        import_model(d.state, layer_norm="fold")


def shapley_values(f, x, background):  # (batch, in), (background, in) -> (batch, in)
    """The definition: marginal contributions, in the mean over all orders."""
    found = torch.zeros_like(x)
    orders = list(itertools.permutations(range(x.shape[1])))
    for order, row in itertools.product(orders, background):
        mixed = row.repeat(len(x), 1)
        before = f(mixed)
        for feature in order:
            mixed[:, feature] = x[:, feature]
            after = f(mixed)
            found[:, feature] += (after - before) / len(orders) / len(background)
            before = after
    return found


def test_shapley_values_through_a_normalization_are_exact_in_the_raw_features():
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise((3, 4, 1))):
        d.steps.append(fast_kan(d, f"layers.{i}.", n_in, n_out))
    x = rows(d, 3)
    model, background = import_model(d.state), x[4:6]
    values = kanlens.attribute(model, x[:4], background=background).values
    expected = shapley_values(lambda rows: d(rows)[:, 0], x[:4], background)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 3)])
@torch.no_grad()
def test_outputs_that_are_normalized_depend_on_one_another(widths):
    layers = [KANLinear(*ends, scale_noise=2.0) for ends in itertools.pairwise(widths)]
    norm = torch.nn.LayerNorm(widths[-1])
    net = torch.nn.Sequential(*layers, norm).double()
    torch.nn.init.normal_(norm.weight)
    model, x = import_model(net), torch.rand(6, 3, dtype=torch.float64)
    torch.testing.assert_close(model(x), net(x), rtol=1e-12, atol=1e-12)
    for target in range(widths[-1]):
        values = kanlens.attribute(model, x[:3], background=x[3:], target=target).values
        expected = shapley_values(lambda rows, k=target: net(rows)[:, k], x[:3], x[3:])
        torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-11)
