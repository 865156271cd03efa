"""Layers with layer normalization: sums, squares, roots and products compute what they do."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.io.importers import import_model
from kanlens.model._kan_linear import KANLinear
from tests.io.importers import series_doubles
from tests.io.importers.doubles import TORCHKAN, rows, spline_layer, splines
from tests.io.importers.test_efficient_kan import reference_basis


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
    base = d.draw(f"{start}base_weight", n_out, n_in)
    weight = d.draw(f"{start}spline_weight", n_out, n_in * 7)
    grid = d.keep(f"{start}rbf.grid", torch.linspace(-1.5, 1.5, 7).double())

    def forward(x):
        x = z(x)
        basis = reference_basis(x, knots, 3) + torch.exp(-(((x[..., None] - grid) / 0.5) ** 2))
        return basis.flatten(1) @ weight.T + F.silu(x) @ base.T

    return forward


def conv_kan(d, start, n_in, n_out):
    base = d.draw(f"{start}base_weight", n_out, n_in)
    weight = d.draw(f"{start}spline_weight", n_out, n_in, 8)
    z, slope = norm(d, f"{start}layer_norm", n_out), d.draw(f"{start}prelu.weight", 1)
    knots = torch.linspace(-2.2, 2.2, 12, dtype=torch.float64).expand(n_in, -1)
    return lambda x: F.prelu(z(F.gelu(x) @ base.T + splines(x, knots, weight)), slope)


def torchkan(d, start, n_in, n_out):
    i = start.split(".")[1]
    names = [name.format(i) for name in TORCHKAN[:3]]
    inner = spline_layer(d, names, n_in, n_out, act=F.gelu)
    z, slope = norm(d, f"layer_norms.{i}", n_out), d.draw(f"prelus.{i}.weight", 1)
    return lambda x: F.prelu(z(inner(x)), slope)


def gram_basis(x, betas):
    """torch-conv-kan's polynomials of tanh x, (batch, in, degree + 1)."""

    def beta(n, m):
        return (m + n) * (m - n) * n**2 / (m**2 / (4 * n**2 - 1)) * betas[n]

    t = torch.tanh(x)
    basis = [torch.ones_like(t), t]
    for i in range(2, len(betas)):
        basis.append(t * basis[-1] - beta(i - 1, i) * basis[-2])
    return torch.stack(basis, -1)


def gram(d, start, n_in, n_out, degree=4):
    betas = d.draw(f"{start}beta_weights", degree + 1)
    weight = d.draw(f"{start}grams_basis_weights", n_in, n_out, degree + 1)
    base, z = d.draw(f"{start}base_weights", n_out, n_in), norm(d, f"{start}norm", n_out)

    def forward(x):
        y = torch.einsum("bid,iod->bo", F.silu(gram_basis(x, betas)), weight)
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
    "torch-conv-kan KANLayer": (conv_kan, {"spline_order": 3, "grid_range": (-1.0, 1.0)}),
    "TorchKAN with normalization": (torchkan, {}),
    "torch-conv-kan KAGN": (gram, {}),
    "torch-conv-kan Jacobi": (jacobi, {}),
}


def test_a_normalization_is_kept_or_written_out():
    d = series_doubles.network(fast_kan, (2, 1))
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
    d = series_doubles.network(fast_kan, (3, 4, 1))
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
