"""Edges whose function is known: members of every family, as splines with noisy coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.splines import _spline as spline
from kanlens.symbolic._edge_fitting import EdgeSamples, fit_edges, sample_edges
from kanlens.symbolic._library import Family

_FIT_POINTS = 400  # that a spline is fitted to
_TELLING = 4.0  # twice the log-likelihood ratio from which noise tells two functions apart
_ORDER = 3

Range = tuple[float, float]
_SHIFTED: dict[str, Range] = {  # the place of u = 0 on inputs in [-1, 1], with either sign
    **dict.fromkeys(("x^2", "x^3", "x^4", "x^5"), (0.0, 0.6)),
    **dict.fromkeys(("abs", "sign", "relu"), (0.0, 0.6)),
}
_SIDED: dict[str, Range] = {  # the distance of u = 0 from the nearer end of [-1, 1]
    **dict.fromkeys(("1/x", "1/x^1.5", "1/x^2", "1/x^3", "1/x^4", "1/sqrt", "log"), (0.15, 0.8)),
    **dict.fromkeys(("sqrt", "x^1.5"), (0.02, 0.3)),
}
_SCALED: dict[str, tuple[Range, Range]] = {  # a, and the place of u = 0 with either sign
    "sin": ((2.0, 5.0), (0.0, 1.0)),
    "tan": ((0.9, 1.3), (0.0, 0.1)),
    "tanh": ((1.5, 4.0), (0.0, 0.5)),
    "arctan": ((2.0, 6.0), (0.0, 0.5)),
    "gaussian": ((1.5, 3.0), (0.0, 0.5)),
    "1/(1+x^2)": ((2.0, 4.0), (0.0, 0.5)),
    "cosh": ((1.5, 3.0), (0.0, 0.5)),
    "sinh": ((2.0, 3.5), (0.0, 0.5)),
    "x^3-x": ((0.9, 1.6), (0.0, 0.3)),
    "x^3+x": ((0.8, 1.6), (0.0, 0.3)),
    "sqrt(1+x^2)": ((3.0, 6.0), (0.0, 0.4)),
    "arcsin": ((0.9, 0.99), (0.0, 0.01)),
    "arctanh": ((0.85, 0.95), (0.0, 0.04)),
    "1/sqrt(1-x^2)": ((0.8, 0.95), (0.0, 0.04)),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """Functions ``c * g(a * x + b) + d`` on [-1, 1]: families, and parameters (edge, 4)."""

    families: tuple[Family, ...]
    parameters: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values at x (sample,), shape (sample, edge)."""
        rows = zip(self.families, self.parameters.tolist(), strict=True)
        return torch.stack([c * f.function.value(a * x + b) + d for f, (a, b, c, d) in rows], 1)


def draw_truth(families: Sequence[Family], count: int, generator: torch.Generator) -> Truth:
    """Draw `count` members of every family; the families are all of the library.

    Examples
    --------
    >>> from kanlens.symbolic._library import library
    >>> truth = draw_truth(library(["exp"]), 2, torch.Generator())
    >>> [family.name for family in truth.families]
    ['x', 'x', 'exp', 'exp']
    """
    chosen = [family for family in families for _ in range(count)]
    rows = []
    for family in chosen:
        draws = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        a, b = _inner(family.name, draws[:3])
        sign = 1.0 if draws[3] < 0.5 else -1.0
        rows.append((a, b, sign * (0.5 + 3 * abs(draws[3] - 0.5)), 2 * draws[4] - 1))
    return Truth(families=tuple(chosen), parameters=torch.tensor(rows, dtype=torch.float64))


def _inner(name: str, draws: Sequence[float]) -> tuple[float, float]:
    """Return a and b of a member."""
    sign = 1.0 if draws[0] < 0.5 else -1.0
    if name in _SHIFTED:
        side = sign if name == "relu" else 1.0
        return side, -side * _between(_SHIFTED[name], draws[1]) * (1.0 if draws[2] < 0.5 else -1.0)
    if name in _SIDED:
        return sign, 1.0 + _between(_SIDED[name], draws[1])
    if name == "exp":
        return sign * _between((0.8, 3.0), draws[1]), 0.0
    if name in _SCALED:
        scale, place = _SCALED[name]
        a = _between(scale, draws[1])
        return a, -a * sign * _between(place, draws[2])
    return 1.0, 0.0


def _between(ends: Range, share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def spline_model(truth: Truth, grid_size: int, noise: float, generator: torch.Generator) -> KAN:
    """Return a float64 network of one input with one cubic spline per function.

    `noise` is the standard deviation of what is added to each coefficient, in parts of that of the
    coefficients of the edge.
    """
    x = torch.linspace(-1.0, 1.0, _FIT_POINTS, dtype=torch.float64)
    layer = fitted_layer(x[:, None], truth(x)[:, :, None], grid_size, noise, generator)
    return as_model([layer], generator)


def as_model(layers: Sequence[KANLinear], generator: torch.Generator) -> KAN:
    """Return the network of layers, in the units they have."""
    ends = [layers[0].in_features, layers[-1].out_features]
    return KAN.from_layers(list(layers), KAN(ends, generator=generator).schema)


def fitted_layer(
    x: Tensor, y: Tensor, grid_size: int, noise: float, generator: torch.Generator
) -> KANLinear:
    """Return a layer of cubic splines without a base, fitted to values of its edges.

    The values y (row, out, in) are those at x (row, in), between whose ends the grids reach.
    `noise` is as for `spline_model`.
    """
    outs, ins = y.shape[1:]
    layer = KANLinear(ins, outs, grid_size=grid_size, base_activation="zero", generator=generator)
    layer = layer.double()
    ends = zip(x.amin(0).tolist(), x.amax(0).tolist(), strict=True)
    grids = [spline.uniform_knots(1, *pair, grid_size, degree=_ORDER).double() for pair in ends]
    grid = torch.cat(grids)
    weight = spline.fit(x, y, grid, _ORDER)
    draw = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        layer.grid = grid
        layer.base_weight.zero_()
        layer.spline_scaler.fill_(1.0)
        layer.spline_weight.copy_(weight + noise * weight.std(2, keepdim=True) * draw)
    return layer


def count_as_one(
    truth: Truth, model: KAN, x: Tensor, families: Sequence[Family]
) -> list[frozenset[str]]:
    """Name the families that count as the true one, for every edge of a `spline_model`.

    The true family does. Another does when the edge cannot tell it from the true one and it is
    no dearer: when its best fit to the true function, free of noise, misses it by a root mean
    square m with ``n m^2 <= 4 s^2``, where s is that of what separates the spline from the true
    function and n the number of the spline's coefficients; and when it has neither more
    parameters nor more complexity than the true family.
    """
    layer = model.layers[0]
    found = sample_edges(layer, x).samples
    exact = truth(found.x[0]).T.contiguous()
    clean = EdgeSamples(x=found.x, y=exact, low=found.low, high=found.high, uniform=found.uniform)
    fits = fit_edges(clean, families)
    n = float(layer.degrees_of_freedom)
    floor = (found.y - exact).square().sum(1, keepdim=True)
    plain = torch.tensor(
        [
            [
                other.parameters <= family.parameters
                and other.function.complexity <= family.function.complexity
                for other in families
            ]
            for family in truth.families
        ]
    )
    near = (n * fits.sse <= _TELLING * floor) & plain
    return [
        frozenset({family.name}) | {families[f].name for f in row.nonzero()[:, 0].tolist()}
        for family, row in zip(truth.families, near, strict=True)
    ]
