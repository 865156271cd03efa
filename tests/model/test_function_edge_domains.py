"""Roots, extrema, bounds and integrals of function edges inside, across and outside the domain."""

import dataclasses
import math
import re
import zlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._edge import Edge

KNOWN = [name for name, g in FUNCTIONS.items() if g.turning_known]  # else some roots are missed
NAMES = sorted(KNOWN, key=lambda name: (not FUNCTIONS[name].searched, name))


def draws(name, count, seed):
    """Edges c * g(a * u + b) + d and intervals, many of them across an end of the domain."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    for _ in range(count):
        a, c = generator.choice([0.5, 2.0, -1.0, -3.0]), generator.choice([1.0, -0.3, 7.0])
        b, d, low, high = (generator.integers(-40, 41, size=4) / 10).tolist()
        edge = Edge.of(name, a=a, b=b, c=c, d=d, input_shift=0.5, input_scale=2.0)
        yield edge, min(low, high), max(low, high) + 0.1


def scanned(edge, x, y):
    """Every crossing of zero of a dense scan, by brentq; a jump or a pole is none."""
    cross = np.flatnonzero(np.isfinite(y[:-1]) & np.isfinite(y[1:]) & (y[:-1] * y[1:] < 0))
    found = [brentq(edge, x[k], x[k + 1], xtol=1e-13) for k in cross]
    return [place for place in found if abs(float(edge(place))) < 1e-6 * (1 + abs(edge.single.d))]


@pytest.mark.parametrize("name", NAMES)
def test_no_root_of_a_dense_scan_is_missed_and_every_root_is_one(name):
    for edge, low, high in draws(name, 20, seed=1):
        x = np.linspace(low, high, 1001)
        y = edge(x)
        level = float(np.random.default_rng(1).choice([*y[np.isfinite(y)], edge.single.d]))
        roots = edge.roots(low, high, level=level)
        assert (np.diff(roots) > 0).all()
        assert ((low <= roots) & (roots <= high)).all()
        if name != "sign":  # whose stretches end at the jump, where its value is another
            step = 4 * np.spacing(np.abs(roots) + 4.0)
            around = np.stack([edge(roots - step), edge(roots), edge(roots + step)]) - level
            room = 1e-13 * (1 + abs(level))
            assert (np.nanmin(around, axis=0, initial=math.inf) <= room).all()
            assert (np.nanmax(around, axis=0, initial=-math.inf) >= -room).all()
        lowered = dataclasses.replace(edge, coefficients=edge.coefficients - level)
        for place in scanned(lowered, x, y - level):
            near = 1e-7 if name == "morlet" else 1e-9  # turns so often that levels touch it
            assert np.abs(roots - place).min() < near


@pytest.mark.parametrize("name", NAMES)
def test_extrema_are_those_of_a_dense_scan(name):
    for edge, low, high in draws(name, 20, seed=2):
        x = np.linspace(low, high, 1001)
        slopes = edge.derivative(x)
        slopes[np.abs(slopes) < 1e-15] = 0.0  # at a turn that an end of the interval hits
        cross = np.flatnonzero((slopes[:-1] * slopes[1:] < 0) & np.isfinite(edge(x[:-1])))
        found = edge.extrema(low, high)
        for left, right in zip(x[cross], x[cross + 1], strict=True):
            pole = not np.isfinite(edge.bounds(left, right)).all()
            assert pole or ((left <= found) & (found <= right)).sum() == 1
        sides = edge(found - 2e-3), edge(found), edge(found + 2e-3)
        assert ((sides[0] - sides[1]) * (sides[2] - sides[1]) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bounds_and_integral_where_the_function_is_defined(name):
    for edge, low, high in draws(name, 12, seed=3):
        least, most = edge.bounds(low, high)
        inner = np.sort(edge.single.a * (np.array([low, high]) - 0.5) / 2 + edge.single.b)
        if not bool(FUNCTIONS[name].defined(*torch.as_tensor(inner))):
            assert (least, most) == (-math.inf, math.inf)
            with pytest.raises(MethodError, match=r"expected an interval on which"):
                edge.integral(low, high)
            continue
        values = edge(np.linspace(low, high, 401))
        room = 1e-12 * (1 + np.abs(values).max())
        assert least - room <= values.min()
        assert values.max() <= most + room
        area = edge.integral(low, high)
        assert edge.integral(high, low) == pytest.approx(-area, rel=1e-12)
        cuts = [low, *(x for x in edge.breakpoints if low < x < high), high]
        oracle = sum(quad(edge, p, q, limit=500)[0] for p, q in pairwise(cuts))
        assert area == pytest.approx(oracle, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("sqrt", 0.5, [0.25]),
        ("sqrt", 0.0, [0.0]),
        ("sqrt", -0.5, []),
        ("x^1.5", 0.0, [0.0]),
        ("log", -1.0, [math.exp(-1)]),
        ("log", -700.0, [math.exp(-700)]),
        ("1/sqrt", 2.0, [0.25]),
        ("1/x^1.5", 8.0, [0.25]),
        ("arcsin", math.pi / 2, [1.0]),
        ("arcsin", -0.5, [math.sin(-0.5)]),
        ("arctanh", 5.0, [math.tanh(5.0)]),
        ("1/sqrt(1-x^2)", 1.0, [0.0]),
        ("1/sqrt(1-x^2)", 2.0, [-math.sqrt(0.75), math.sqrt(0.75)]),
        ("1/x", 0.0, []),
        ("1/x", 1e9, [1e-9]),
        ("1/x^3", -1e15, [-1e-5]),
        ("1/x^2", 1e300, [-1e-150, 1e-150]),
        ("tan", 0.0, [0.0]),
        ("tan", 1e6, [math.atan(1e6) - math.pi, math.atan(1e6)]),
        ("sign", 0.5, []),
        ("sign", 0.0, [0.0]),
        ("sign", -1.0, [-3.0, 0.0]),
        ("relu", 0.0, [-3.0, 0.0]),
        ("constant", 0.0, [-3.0, 3.0]),
    ],
)
def test_roots_across_the_ends_of_the_domain(name, level, expected):
    roots = Edge.of(name).roots(-3.0, 3.0, level=level)
    assert roots == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_roots_at_ends_that_are_rounded():
    edge = Edge.of("sqrt", a=3.0, b=-0.3)
    np.testing.assert_allclose(edge.roots(0.1, 1.0), [0.1], rtol=1e-15)
    assert edge.bounds(0.1, 1.0) == pytest.approx((0.0, math.sqrt(2.7)), abs=1e-15)
    assert edge.integral(0.1, 1.0) == pytest.approx(2 / 9 * 2.7**1.5, rel=1e-12)
    mirrored = Edge.of("arcsin", a=-10.0, b=2.0)
    np.testing.assert_allclose(mirrored.roots(0.1, 0.3, level=math.pi / 2), [0.1], rtol=1e-15)
    wave = Edge.of("sin")
    np.testing.assert_array_equal(wave.roots(math.pi, 6.0), [math.pi])


def test_a_narrow_peak_is_integrated():
    peak = Edge.of("gaussian", a=1e6, b=-3e5, d=1.0)
    assert peak.integral(-1.0, 1.0) == pytest.approx(2.0 + 1e-6 * math.sqrt(math.pi), rel=1e-12)


def test_a_constant_edge():
    edge = Edge.of("log", a=0.0, b=math.e, c=2.0, d=1.0)
    assert edge.roots(level=3.0).tolist() == [-1.0, 1.0]
    assert edge.roots(level=2.0).size == edge.extrema().size == 0
    assert edge.integral(0.0, 2.0) == pytest.approx(6.0)
    assert Edge.of("log", a=0.0, b=-1.0).roots().size == 0
    assert Edge.of("sin", c=0.0, d=2.0).roots(level=2.0).tolist() == [-1.0, 1.0]


def test_the_derivative_is_nan_where_the_function_is():
    for name in NAMES:
        u = np.linspace(-3.0, 3.0, 61)
        edge = Edge.of(name)
        with np.errstate(all="ignore"):
            outside = np.isnan(edge(u))
        assert np.isnan(edge.derivative(u)[outside]).all(), name
        assert not np.isnan(edge.derivative(u)[~outside]).any(), name


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda e: e.roots(1.0, -1.0),
            "roots: expected finite ends with low <= high, got 1.0 and -1.0. Pass the "
            "lower end first.",
        ),
        (
            lambda e: e.roots(level=math.nan),
            "roots: expected a finite level, got nan. Pass a finite number.",
        ),
        (
            lambda e: e.extrema(0.0, math.inf),
            "extrema: expected finite ends with low <= high, got 0.0 and inf. Pass the "
            "lower end first.",
        ),
        (
            lambda e: e.bounds(math.nan, 1.0),
            "bounds: expected finite ends with low <= high, got nan and 1.0. Pass the "
            "lower end first.",
        ),
        (
            lambda e: e.integral(0.0, math.inf),
            "integral: expected a finite b, got inf. Pass a finite number.",
        ),
    ],
)
def test_bad_intervals_are_refused(call, text):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(f'Edge.{text}')}$"):
        call(Edge.of("sin"))


def test_turns_that_cannot_be_counted_are_refused():
    text = (
        "Edge: expected an interval of at most 500,000 periods, got -1e+12 to 1e+12, of "
        "period 6.28319. Narrow it."
    )
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        Edge.of("sin", a=1e12).roots()
