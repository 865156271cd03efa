"""Roots, extrema and bounds of an edge: complete against dense scans, exact where known."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kanlens.functions._catalog import BASES
from kanlens.functions._sums import FunctionSum
from kanlens.model._edge import Edge

POINTS = 20001


SERIES = ("gaussian", "sech^2", "relu(1-x^2)^2", "sin", "T3(tanh)", "x", "relu", "morlet", "x^2")


def random_series(draw: np.random.Generator) -> list[tuple[str, float, float, float]]:
    """Some bumps, waves, polynomials of tanh or kinks."""
    names = [str(name) for name in draw.choice(SERIES, size=int(draw.integers(1, 7)))]
    numbers = draw.normal(size=(3, len(names)))
    numbers[0] *= draw.choice([1.0, 3.0])
    return list(zip(names, *numbers.tolist(), strict=True))


def random_edge(seed: int) -> tuple[Edge, np.random.Generator]:
    """Any degree, knots, base, extrapolation, size and units."""
    draw = np.random.default_rng(seed)
    degree, grid = int(draw.integers(1, 6)), int(draw.integers(1, 12))
    knots = np.cumsum(draw.uniform(0.02, 1.0, grid + 2 * degree + 1))
    base, weight = BASES[str(draw.choice(sorted(BASES)))].name, draw.normal()
    terms = [(base, 1.0, 0.0, weight * draw.choice([0.0, 1.0, 10.0]))]
    terms += random_series(draw) if draw.random() < 0.5 else []
    edge = Edge(
        knots=knots - knots.mean() * draw.uniform(0, 2),
        coefficients=draw.normal(size=grid + degree) * draw.choice([1e-3, 1.0, 100.0]),
        degree=degree,
        functions=FunctionSum.of(*terms),
        extrapolation=str(draw.choice(["linear", "zero"])),
    )
    if draw.random() < 0.5:
        edge = edge.in_units(draw.normal() * 10.0, draw.uniform(0.1, 5.0))
    return edge, draw


def check_roots(edge: Edge, roots: np.ndarray, x: np.ndarray, level: float) -> None:
    """Refuse a root that is none, a missed sign change, a repeated root."""
    y = edge(x) - level
    scale = np.abs(edge.coefficients).max() + np.abs(y).max() + abs(level)
    assert np.abs(edge(roots) - level).max(initial=0.0) <= 1e-12 * scale, "no root"
    assert (np.diff(roots) > 0).all(), "repeated"
    clear = np.where(np.abs(y) < 1e-13 * scale, 0.0, y)
    for start in np.flatnonzero(clear[:-1] * clear[1:] < 0):
        middle, step = (x[start] + x[start + 1]) / 2, x[start + 1] - x[start]
        assert np.abs(roots - middle).min(initial=np.inf) <= step, "missed"


def check_extrema(edge: Edge, extrema: np.ndarray, x: np.ndarray) -> None:
    """Refuse a missed turn of the scan and a turn that is none."""
    y = edge(x)
    noise = 1e-13 * (np.abs(edge.coefficients).max() + np.abs(y).max())
    rise = np.where(np.abs(np.diff(y)) > noise, np.diff(y), 0.0)
    for turn in np.flatnonzero(rise[:-1] * rise[1:] < 0) + 1:
        distance = np.abs(extrema - x[turn]).min(initial=np.inf)
        assert distance <= 1.5 * (x[1] - x[0]), "missed"
    stops = np.concatenate(([x[0]], extrema, [x[-1]]))
    for i, at in enumerate(extrema):
        near = min(1e-4 * (x[-1] - x[0]), 0.3 * np.diff(stops)[i : i + 2].min())
        before, here, after = edge(np.array([at - near, at, at + near]))
        assert (here - before) * (here - after) > 0 or abs(here - before) <= noise, "no turn"


@pytest.mark.slow  # many layers of every kind
@given(st.integers(0, 10**9))
@settings(max_examples=12, deadline=None)
def test_roots_extrema_and_bounds_against_a_dense_scan(seed: int) -> None:
    edge, draw = random_edge(seed)
    low, high = edge.domain
    low, high = low - draw.uniform() * (high - low), high + draw.uniform() * (high - low)
    x = np.linspace(low, high, POINTS)
    y = edge(x)
    for level in (0.0, float(draw.normal() * y.std())):
        check_roots(edge, edge.roots(low, high, level=level), x, level)
    check_extrema(edge, edge.extrema(low, high), x)
    lower, upper = edge.bounds(low, high)
    scale = np.abs(edge.coefficients).max() + np.abs(y).max()
    assert -1e-14 * scale <= y.min() - lower <= 1e-3 * scale
    assert -1e-14 * scale <= upper - y.max() <= 1e-3 * scale


def test_the_checks_have_teeth() -> None:
    edge = Edge(knots=range(-1, 6), coefficients=[1, -1, 1, -1, 1], degree=1)
    x = np.linspace(0.0, 3.9, POINTS)  # no root is a point of the scan
    roots, extrema = edge.roots(), edge.extrema()
    check_roots(edge, roots, x, 0.0)
    check_extrema(edge, extrema, x)
    for wrong, why in (
        (roots[1:], "missed"),
        (roots + 1e-6, "no root"),
        (np.sort(np.append(roots, roots[0])), "repeated"),
    ):
        with pytest.raises(AssertionError, match=why):
            check_roots(edge, wrong, x, 0.0)
    for wrong, why in ((extrema[1:], "missed"), (np.append(extrema, 3.5), "no turn")):
        with pytest.raises(AssertionError, match=why):
            check_extrema(edge, wrong, x)


def power_edge(knots: np.ndarray, degree: int, power: int, at: float) -> Edge:
    """Return (x - at)**power on the grid, exactly: its polar form at successive knots."""
    coefficients = [
        np.mean([np.prod(np.array(some) - at) for some in combinations(inner, power)])
        for inner in (knots[i + 1 : i + degree + 1] for i in range(knots.size - degree - 1))
    ]
    return Edge(knots=knots, coefficients=coefficients, degree=degree)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("degree", "power"), [(d, p) for d in range(1, 6) for p in range(1, d + 1)]
)
def test_a_root_of_any_multiplicity_is_one_root(degree: int, power: int) -> None:
    draw = np.random.default_rng(degree)
    for _ in range(20):
        knots = np.cumsum(draw.uniform(0.2, 1.0, 9 + 2 * degree))
        knots -= knots.mean()
        at = draw.uniform(-0.8, 0.8)
        edge = power_edge(knots, degree, power, at)
        roots, extrema = edge.roots(), edge.extrema()
        assert roots.shape == (1,) and abs(roots[0] - at) <= 10 * 1e-14 ** (1 / power)
        assert extrema.size == (power % 2 == 0)
        assert np.abs(extrema - at).max(initial=0.0) <= 10 * 1e-14 ** (1 / power)


def test_the_zero_edge_and_a_plateau_give_the_ends_of_the_stretch() -> None:
    knots = np.arange(-3.0, 12.0)
    nothing = Edge(knots=knots, coefficients=np.zeros(11), degree=3)
    assert_close(nothing.roots(), np.array([0.0, 8.0]))
    assert nothing.roots(level=1.0).size == 0
    assert nothing.extrema().size == 0
    assert nothing.bounds() == (0.0, 0.0)
    plateau = Edge(knots=knots, coefficients=[0, 1, 2, 2, 2, 2, 2, 2, 1, 0, 0], degree=3)
    assert_close(plateau.roots(level=2.0), np.array([2.0, 5.0]))
    assert_close(plateau.extrema(), np.array([2.0, 5.0]))
    rising = Edge(knots=knots, coefficients=[0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5], degree=3)
    assert rising.extrema().size == 0


def test_the_base_alone() -> None:
    knots, nothing = np.arange(-3.0, 12.0), np.zeros(11)
    silu = Edge(
        knots=knots,
        coefficients=nothing,
        degree=3,
        functions=FunctionSum.of(("silu", 1.0, 0.0, 2.0)),
    )
    assert_close(silu.extrema(-50.0, 50.0), np.array([-1.2784645427610738]))
    assert_close(silu.roots(-50.0, 50.0), np.zeros(1), rtol=0, atol=1e-15)
    assert silu.bounds(-50.0, 0.0)[0] == pytest.approx(2 * -0.2784645427610738, rel=1e-15)
    level = -0.2784645427610738
    touching = silu.roots(-50.0, 50.0, level=2 * level)
    assert_close(touching, np.array([-1.2784645427610738]), rtol=0, atol=1e-7)
    assert silu.roots(-50.0, 50.0, level=2 * level - 1e-12).size == 0
    assert silu.roots(-50.0, 50.0, level=2 * level + 1e-12).size == 2


def test_a_query_of_one_point_and_of_part_of_a_piece() -> None:
    tent = Edge(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
    assert_close(tent.roots(0.0, 0.0), np.zeros(1))
    assert tent.roots(0.5, 0.5).size == 0
    assert tent.bounds(0.25, 0.25) == (0.25, 0.25)
    assert tent.extrema(0.25, 0.75).size == 0
    assert tent.extrema(1.0, 2.0).size == 0  # an end is not inside
    assert_close(tent.roots(-3.0, 5.0), np.array([0.0, 2.0]))
