"""Libraries whose edges are polynomials of tanh, as series of Chebyshev's polynomials of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kanlens.functions.elementary import Array
from kanlens.io.importers.layouts import Group, Layout, join
from kanlens.io.importers.series import series_edges
from kanlens.io.importers.stages import Edges, Norm, Stage, elementwise, uniform


def _recurrence(
    second: Array,
    t: Array,
    count: int,
    step: Callable[[int, Array, Array], Array],
    first: float = 1.0,
) -> list[Array]:
    """Return polynomials at t from the first two and what follows two neighbors."""
    found = [np.full_like(t, first), second]
    for n in range(2, count):
        found.append(step(n, found[-1], found[-2]))
    return found[:count]


def _other_jacobi(t: Array, count: int, a: float, b: float) -> list[Array]:
    """Return what OrthogPolyKANs calls Jacobi polynomials, which are others."""

    def step(n: int, last: Array, before: Array) -> Array:
        s = 2 * n + a + b
        lead = (s - 1) * (s * (s - 2) * t - (a**2 - b**2)) * last
        tail = (n + a + b - 1) * (n + a - 1) * (n + b - 1) * s * before
        return np.asarray((lead - tail) / (2 * n * (n + a + b) * (s - 2)))

    return _recurrence(0.5 * (a - b) + (a + b + 2) * t / 2, t, count, step)


def _basis(group: Group, key: str, t: Array, count: int) -> list[Array]:
    """Return the polynomials of a library at places t."""
    from scipy import special

    plain = {"legendre": special.eval_legendre, "cheby2": special.eval_chebyu}
    plain |= {"hermite": special.eval_hermite, "cheby": special.eval_chebyt}
    if key in plain:
        return [plain[key](n, t) for n in range(count)]
    if key == "lucas":
        return _recurrence(t, t, count, lambda n, last, before: t * last + before, 2.0)
    if key == "fib":
        return _recurrence(0 * t + 1, t, count, lambda n, last, before: t * last + before, 0.0)
    if key == "bessel":
        return _recurrence(t + 1, t, count, lambda n, last, before: (2 * n - 1) * t * last + before)
    if key in ("gegenbauer", "laguerre"):
        function = special.eval_gegenbauer if key == "gegenbauer" else special.eval_genlaguerre
        alpha = float(group.setting("alpha"))
        return [function(n, alpha, t) for n in range(count)]
    said = "JacobiKAN" if group.known("a") is not None else None
    said = "OrthogPolyKANs" if group.known("alpha") is not None else said
    if group.options.setting("polynomials", group.layout.library, said) == "JacobiKAN":
        a, b = float(group.setting("a")), float(group.setting("b"))
        return [special.eval_jacobi(n, a, b, t) for n in range(count)]
    return _other_jacobi(t, count, float(group.setting("alpha")), float(group.setting("beta")))


def _in_chebyshev(group: Group, key: str, weight: Tensor) -> Edges:
    """Return edges sum_d c_d P_d(tanh x), weights (in, out, d), as series of Chebyshev's T_d."""
    count = weight.shape[2]
    change = _change(np.stack(_basis(group, key, _zeros(count), count)))
    found = weight.double() @ torch.from_numpy(change).to(weight.device)
    found = found.transpose(0, 1).to(weight.dtype)
    names = tuple(f"T{degree}(tanh)" for degree in range(1, count))
    knots = uniform(-2.0, 2.0, 1, 1, weight, len(weight))
    return series_edges(
        group, names, found[..., 1:], 1.0, 0.0, bias=found[..., 0].sum(1), knots=knots
    )


def _change(values: Array) -> Array:
    """Return the Chebyshev series (d, power) of polynomials with `values` (d, place) at zeros."""
    count = values.shape[1]
    change = (
        np.cos(np.pi * np.outer((np.arange(count) + 0.5) / count, np.arange(count))) * 2 / count
    )
    change[:, 0] /= 2
    return np.asarray(values @ change)


def _zeros(count: int) -> Array:
    """Return the zeros of the Chebyshev polynomial of that degree."""
    return np.asarray(np.cos(np.pi * (np.arange(count) + 0.5) / count))


def _gram(group: Group) -> list[Stage]:
    """Return two layers: the Gram polynomials of tanh as nodes, and SiLU of these and of x."""
    weight = group.get("grams_basis_weights", None, None, None)
    n_in, n_out, count = weight.shape
    factors = group.get("beta_weights", count).double().cpu().numpy()
    base = group.get("base_weights", n_out, n_in)

    def step(n: int, last: Array, before: Array) -> Array:
        m = n - 1
        beta = (n + m) * (n - m) * m**2 / (n**2 / (4 * m**2 - 1)) * factors[m]
        return np.asarray(t * last - beta * before)

    t = _zeros(count)
    change = torch.from_numpy(_change(np.stack(_recurrence(t, t, count, step)))).to(weight)
    each = torch.eye(n_in, dtype=weight.dtype, device=weight.device)
    nodes = torch.einsum("ij,dk->idjk", each, change[:, 1:]).flatten(0, 1)  # (node, in, T_k)
    nodes = torch.cat([nodes, nodes.new_zeros(n_in, *nodes.shape[1:])])
    straight = torch.cat([nodes.new_zeros(n_in * count, n_in), each])
    names = tuple(f"T{degree}(tanh)" for degree in range(1, count))
    bias = torch.cat([change[:, 0].repeat(n_in), nodes.new_zeros(n_in)])
    first = series_edges(
        group, names, nodes, 1.0, 0.0, base=straight, activation="identity", bias=bias
    )
    both = torch.cat([weight.transpose(0, 1).flatten(1), base], 1)
    second = Edges(name=group.name, base=both, activation=group.base(), extrapolation="linear")
    return [first, second, *_after(group, "norm", n_out, base)]


def _after(group: Group, name: str, width: int, like: Tensor) -> list[Stage]:
    """Return torch-conv-kan's normalization of the sums, and the base function of these."""
    weight, bias = (group.get(f"{name}.{part}", width) for part in ("weight", "bias"))
    after = elementwise(join(group.name, "base_activation"), group.base(), width, like)
    return [Norm(weight=weight, bias=bias), after]


def _polynomials(key: str) -> Callable[[Group], list[Stage]]:
    def read(group: Group) -> list[Stage]:
        edges = _in_chebyshev(group, key, group.get(f"{key}_coeffs", None, None, None))
        n_out, n_in = edges.base.shape
        base = group.find("base_weights", n_out, n_in)
        if base is None:
            return [edges]
        edges = replace(edges, base=base, activation=group.base())
        return [edges, *_after(group, "norm", n_out, base)]

    return read


_TORCH_CONV_KAN = "base_weights norm.weight norm.bias"
_FAMILIES = "cheby legendre cheby2 hermite laguerre gegenbauer lucas fib bessel jacobi"
_LIBRARIES = {"cheby": "ChebyKAN", "jacobi": "JacobiKAN, OrthogPolyKANs"}
LAYOUTS = (
    Layout("torch-conv-kan KAGN", _gram, "grams_basis_weights beta_weights", _TORCH_CONV_KAN),
    *[
        Layout(
            _LIBRARIES.get(key, f"OrthogPolyKANs {key}"),
            _polynomials(key),
            f"{key}_coeffs",
            f"arange {_TORCH_CONV_KAN}",
        )
        for key in _FAMILIES.split()
    ],
)
