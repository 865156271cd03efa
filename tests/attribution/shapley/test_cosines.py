"""Edges as cosines: how close they come, and that the bound holds."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanlens.attribution.shapley._cosines import CosineSeries, Samples, fit
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.functions._elementary import repeated
from kanlens.functions._sums import FunctionSum
from tests.attribution.shapley.curves import Edge, near_and_far, spline, summed


def distance(edge: Edge, series: CosineSeries, seed: int = 0) -> float:
    """The largest distance found, sought for where it is likely."""
    points = near_and_far(edge, series.low, series.high, np.random.default_rng(seed))
    return float(np.abs(summed(series, points) - edge(points)).max())


@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
@pytest.mark.parametrize("degree", [1, 3, 5])
@pytest.mark.parametrize("ends", [(-0.7, 0.9), (-2.5, 3.0), (1.5, 4.0)])
def test_no_point_is_farther_than_the_bound(degree, extrapolation, ends):
    edge = spline(degree, degree=degree, extrapolation=extrapolation)
    series = fit(edge, *ends, tolerance=1e-4, most=600)
    assert distance(edge, series) <= series.error
    assert series.error <= 1e-4 or degree == 1


@pytest.mark.parametrize("ends", [(-0.9, 0.8), (-1.5, 1.3)])
def test_the_bound_is_near_the_truth(ends):
    series = fit(spline(1), *ends, tolerance=1e-6)
    assert 5e-7 < series.error <= 1e-6
    assert distance(spline(1), series) > 0.3 * series.error


def test_few_cosines_do():
    inside = [len(fit(spline(1), -0.9, 0.8, tolerance=t).cosines) for t in (1e-3, 1e-6, 1e-9)]
    assert inside < [30, 200, 2000] and inside == sorted(inside)
    assert len(fit(spline(1), -1.5, 1.3, tolerance=1e-6).cosines) < 1000  # kinks at the grid's ends


def test_a_bound_that_is_not_measured_is_found_out():
    edge = spline(2)
    series = fit(edge, -1.2, 1.1, tolerance=1e-6)
    half = dataclasses.replace(series, cosines=series.cosines[: len(series.cosines) // 2])
    assert distance(edge, half) > half.error
    moved = series.cosines.copy()
    moved[3] += 3e-6
    assert distance(edge, dataclasses.replace(series, cosines=moved)) > series.error
    shifted = dataclasses.replace(series, polynomial=series.polynomial + 3e-6 * np.eye(5)[0])
    assert distance(edge, shifted) > series.error


@pytest.mark.slow  # takes a while
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_bound_holds_for_any_spline_in_any_units(data):
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    degree, pieces = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    width, height = (10.0 ** data.draw(st.integers(-6, 6)) for _ in range(2))
    gaps = draw.uniform(0.05, 1.0, pieces + 2 * degree)
    name = data.draw(st.sampled_from(["silu", "tanh", "gelu", "x", "constant"]))
    edge = Edge(
        knots=np.concatenate([[0.0], np.cumsum(gaps)]),
        coefficients=height * draw.normal(size=pieces + degree),
        degree=degree,
        functions=FunctionSum.of((name, 1.0, 0.0, height * draw.normal())),
        extrapolation=data.draw(st.sampled_from(["linear", "zero"])),
        input_shift=width * draw.normal(),
        input_scale=width,
    )
    low, high = edge.domain
    ends = np.sort(low + (high - low) * draw.uniform(-1, 2, 2))
    series = fit(edge, *ends, tolerance=height * 10.0 ** draw.uniform(-7, -1), most=200)
    assert distance(edge, series) <= series.error


@pytest.mark.slow  # 25 series
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_bound_holds_for_every_function(data):
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    name = data.draw(st.sampled_from(sorted(n for n, g in FUNCTIONS.items() if g.turning_known)))
    a, b, c, d = (float(number) for number in draw.normal(size=4) * [3, 1, 2, 1])
    edge = Edge.of(name, a=a, b=b, c=c, d=d)
    ends = np.sort(draw.uniform(-2, 2, 2))
    if not np.isfinite(edge.bounds(*ends)).all():
        with pytest.raises(MethodError, match="finite"):
            fit(edge, *ends, tolerance=1e-4)
    else:
        series = fit(edge, *ends, tolerance=1e-4, most=200)
        assert distance(edge, series) <= series.error


def turns(name: str, places: tuple[float, ...]) -> list[float]:
    """Between which places the second derivative of a function rises and falls."""
    domain, edge = FUNCTIONS[name].domain, Edge.of(name)
    inner = "unit" in str(domain) or domain == "tangent"
    low = 1e-2 if domain in ("positive", "nonnegative", "nonzero") else -2.0
    low, high = (-0.99, 0.99) if inner else (low, 2.0)
    cuts = [low, *repeated(places, FUNCTIONS[name].period, low, high), high]
    found = []
    for start, end in itertools.pairwise(cuts):
        second = edge.derivative(np.linspace(start, end, 401)[1:-1], 2)
        ways, size = np.diff(second), 1e-9 * (1 + np.abs(second).max())
        if (ways < -size).any() and (ways > size).any():
            found.append(start)
    return found


def test_it_is_known_where_second_derivatives_turn():
    known = {name: g.turning(2) for name, g in FUNCTIONS.items() if g.turning_known}
    assert None not in known.values()
    assert [name for name, places in known.items() if turns(name, places)] == []
    assert turns("gaussian", (0.0,)) and turns("tanh", ())  # places left out are missed


@pytest.mark.parametrize("name", ["constant", "x", "x^2", "x^3", "x^4", "x^3-x"])
def test_powers_need_no_cosine(name):
    series = fit(Edge.of(name, c=2.0, b=0.3), -1.5, 2.0, tolerance=1e-7)
    assert len(series.cosines) == 0
    assert series.error < (1e-7 if name.startswith(("x^3", "x^4")) else 1e-11)


def test_a_kink_costs_many_cosines_and_the_bound_says_so():
    few, many = (fit(Edge.of("abs"), -1.0, 1.3, tolerance=1e-9, most=m) for m in (200, 1600))
    assert 6 < few.error / many.error < 10
    assert 2e-4 < many.error < 2e-3


def test_a_jump_stays():
    edge = Edge.of("sign", c=0.5)  # from -0.5 to 0.5
    series = fit(edge, -1.0, 2.0, tolerance=1e-3)
    assert 0.5 <= distance(edge, series) <= series.error


@pytest.mark.parametrize("a", [300.0, 1e5, 1e12])
def test_waves_too_short_to_follow_are_bounded(a):
    edge = Edge.of("sin", a=a, c=0.5)
    series = fit(edge, -1.0, 2.0, tolerance=1e-3, most=100)
    assert 0.3 < distance(edge, series) <= series.error


def test_roots_with_no_slope_at_their_end_are_bounded():
    for name in ("sqrt", "x^1.5"):
        edge = Edge.of(name)
        series = fit(edge, 0.0, 1.0, tolerance=1e-3, most=500)
        assert distance(edge, series) <= series.error < 0.2


@pytest.mark.parametrize(
    ("name", "ends"),
    [("1/x", (-1.0, 1.0)), ("log", (-0.5, 1.0)), ("tan", (1.0, 2.0)), ("arcsin", (0.5, 1.5))],
)
def test_a_pole_is_refused(name, ends):
    text = f"finite at all values that coalitions reach, for .*{name}"
    with pytest.raises(MethodError, match=text):
        fit(Edge.of(name), *ends, tolerance=1e-3)
    with pytest.raises(MethodError, match="finite"):
        fit(Edge.of("1/x"), 0.0, 0.0, tolerance=1e-3)
    assert fit(Edge.of("arcsin"), 1.0, 1.0, tolerance=1e-3).error < 1e-12


def test_a_dead_edge_has_no_pole():
    series = fit(Edge.of("1/x", c=0.0, d=2.0), -1.0, 1.0, tolerance=1e-3)
    assert summed(series, np.array([0.0, 0.5])).tolist() == [2.0, 2.0]


def test_a_function_of_which_too_little_is_known_is_refused(monkeypatch):
    g = dataclasses.replace(FUNCTIONS["log"], name="mine", turns=((), ()))
    monkeypatch.setitem(FUNCTIONS, "mine", g)
    with pytest.raises(MethodError, match=r"'mine'.*enumeration"):
        fit(Edge.of("mine"), 0.0, 1.0, tolerance=1e-3)


@pytest.mark.parametrize("low", [0.3, 0.0, -7.0, 1e6])
def test_an_interval_may_be_a_point(low):
    edge = spline(3)
    series = fit(edge, low, low, tolerance=1e-9)
    assert len(series.cosines) == 0 and series.error < 1e-12 * (1 + abs(low))
    assert abs(summed(series, np.array([low])) - edge(low)) <= series.error
    tiny = fit(edge, low, float(np.nextafter(low, np.inf)), tolerance=1e-9)
    assert abs(summed(tiny, np.array([low])) - edge(low)) <= tiny.error


def test_breaks_on_the_ends_of_cells_are_in_both():
    found = Samples(Edge.of("abs"), -1.0, 1.0, 2)
    assert found.jumps[1].tolist() == [4.0, 4.0]


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, np.inf), (np.nan, 1.0)])
def test_what_is_no_interval_is_refused(ends):
    with pytest.raises(InvalidValueError, match="low <= high"):
        fit(spline(0), *ends, tolerance=1e-3)
