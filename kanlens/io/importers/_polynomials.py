"""Importers of KAN libraries with polynomials of tanh(x), rewritten as Chebyshev series.

They are ChebyKAN, JacobiKAN, OrthogPolyKANs and the Gram polynomials of torch-conv-kan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._lazy import scipy
from kanlens.functions._elementary import Array
from kanlens.io.importers._intermediate import Edges, Stage, elementwise, linear
from kanlens.io.importers._layout import Group, Layout
from kanlens.io.importers._order import join
from kanlens.io.importers._series import series_edges


def _recurrence(
    second: Array,
    t: Array,
    count: int,
    step: Callable[[int, Array, Array, Array], Array],
    first: float = 1.0,
) -> list[Array]:
    """Return polynomials at t by a three-term recurrence."""
    values = [np.full_like(t, first), second]
    for n in range(2, count):
        values.append(step(n, t, values[-1], values[-2]))
    return values[:count]


def _basis(group: Group, key: str, t: Array, count: int) -> list[Array]:
    """Return the polynomials of degree 0 to `count` - 1 of a library at points t."""
    special: Any = scipy.special  # its type stubs distinguish integer and real orders
    plain = {"legendre": special.eval_legendre, "cheby2": special.eval_chebyu}
    plain |= {"hermite": special.eval_hermite, "cheby": special.eval_chebyt}
    if key in plain:
        return [plain[key](n, t) for n in range(count)]
    if key in ("lucas", "fib"):
        first, second = (2.0, t) if key == "lucas" else (0.0, 0 * t + 1)
        return _recurrence(second, t, count, lambda n, t, last, before: t * last + before, first)
    if key == "bessel":
        return _recurrence(t + 1, t, count, lambda n, t, p, q: (2 * n - 1) * t * p + q)
    if key in ("gegenbauer", "laguerre"):
        function = special.eval_gegenbauer if key == "gegenbauer" else special.eval_genlaguerre
        alpha = float(group.setting("alpha"))
        return [function(n, alpha, t) for n in range(count)]
    kind = "JacobiKAN" if group.known("a") is not None else None
    kind = "OrthogPolyKANs" if group.known("alpha") is not None else kind
    if group.setting("polynomials", kind) == "JacobiKAN":
        a, b = float(group.setting("a")), float(group.setting("b"))
        return [special.eval_jacobi(n, a, b, t) for n in range(count)]
    a, b = float(group.setting("alpha")), float(group.setting("beta"))

    # OrthogPolyKANs' recurrence for Jacobi polynomials
    def step(n: int, t: Array, last: Array, before: Array) -> Array:
        s = 2 * n + a + b
        lead = (s - 1) * (s * (s - 2) * t - (a**2 - b**2)) * last
        tail = (n + a + b - 1) * (n + a - 1) * (n + b - 1) * s * before
        return np.asarray((lead - tail) / (2 * n * (n + a + b) * (s - 2)))

    return _recurrence(0.5 * (a - b) + (a + b + 2) * t / 2, t, count, step)


def in_chebyshev(group: Group, key: str, weight: Tensor, **beside: str) -> Edges:
    """Return edges of Chebyshev series, from weights (out, in, d) of polynomials of tanh."""
    count = weight.shape[2]
    change = _change(lambda t: _basis(group, key, t, count), count).to(weight.device)
    weight = (weight.double() @ change).to(weight.dtype)
    edges = series_edges(group, _tanh(count), weight[..., 1:], 1.0, 0.0, **beside).on(-2.0, 2.0)
    return edges.shifted(weight[..., 0].sum(1))


def _tanh(count: int) -> tuple[str, ...]:
    """Return the names of Chebyshev polynomials of tanh from degree 1."""
    return tuple(f"T{degree}(tanh)" for degree in range(1, count))


def _change(basis: Callable[[Array], list[Array]], count: int) -> Tensor:
    """Return the Chebyshev coefficients (d, term) of `count` polynomials."""
    values: Any = lambda t: np.stack(basis(t), -1)  # noqa: E731
    return torch.from_numpy(np.polynomial.chebyshev.chebinterpolate(values, count - 1).T.copy())


def _gram(group: Group) -> list[Stage]:
    """Return Gram polynomials of tanh plus SiLU, also for bottleneck layers."""
    weight = group.get("grams_basis_weights", None, None, None)
    count = weight.shape[2]
    factors = group.get("beta_weights", count).double().cpu().numpy()
    base = group.get("base_weights", None, None)

    def step(n: int, t: Array, last: Array, before: Array) -> Array:
        m = n - 1
        beta = (n + m) * (n - m) * m**2 / (n**2 / (4 * m**2 - 1)) * factors[m]
        return np.asarray(t * last - beta * before)

    change = _change(lambda t: _recurrence(t, t, count, step), count).to(weight)
    (n_out, n_in), inner, before, bias = base.shape, len(weight), list[Stage](), None
    eye = torch.eye(n_in).to(weight)
    if "inner_proj.weight" in group:
        into, outof = (group.get(f"{name}_proj.weight", None, None) for name in ("inner", "outer"))
        shift = torch.cat([group.get("inner_proj.bias", inner), base.new_zeros(n_in)])
        before = [linear(group.name, torch.cat([into, eye]), shift)]
        weight = torch.einsum("lkd,ok->lod", weight, outof)
        bias, eye = group.get("outer_proj.bias", n_out), torch.eye(inner + n_in).to(weight)
    nodes = torch.einsum("ij,dk->idjk", eye[:inner], change[:, 1:]).flatten(0, 1)  # node, in, T_k
    nodes = torch.cat([nodes, nodes.new_zeros(n_in, *nodes.shape[1:])])
    first = replace(
        series_edges(group, _tanh(count), nodes, 1.0, 0.0),
        base=torch.cat([nodes.new_zeros(inner * count, len(eye)), eye[-n_in:]]),
        activation="identity",
        bias=torch.cat([change[:, 0].repeat(inner), nodes.new_zeros(n_in)]),
    )
    both = torch.cat([weight.transpose(0, 1).flatten(1), base], 1)
    second = Edges(
        name=group.name, base=both, bias=bias, activation=group.base(), extrapolation="linear"
    )
    return [*before, first, second, *_after(group, base)]


def _after(group: Group, like: Tensor) -> list[Stage]:
    """Return torch-conv-kan's normalization of the sums, and its base function."""
    group.get("norm.weight", len(like))  # always present
    after = elementwise(join(group.name, "base_activation"), group.base(), len(like), like)
    return [*group.norm("norm.", len(like)), after]


def _polynomials(key: str) -> Callable[[Group], list[Stage]]:
    def read(group: Group) -> list[Stage]:
        weight = group.get(f"{key}_coeffs", None, None, None).transpose(0, 1)
        edges = in_chebyshev(group, key, weight, base="base_weights")
        return [edges, *(_after(group, edges.base) if "base_weights" in group else ())]

    return read


_FAMILIES = "cheby legendre cheby2 hermite laguerre gegenbauer lucas fib bessel jacobi"
_LIBRARIES = {"cheby": "ChebyKAN", "jacobi": "JacobiKAN, OrthogPolyKANs"}
LAYOUTS = (
    Layout("torch-conv-kan KAGN", _gram, "grams_basis_weights beta_weights"),
    *(
        Layout(_LIBRARIES.get(k, f"OrthogPolyKANs {k}"), _polynomials(k), f"{k}_coeffs", "arange")
        for k in _FAMILIES.split()
    ),
)
