import pytest
import torch
from torch.testing import assert_close

from kanlens.symbolic.edge_fitting import EdgeSamples, fit_edges, sample_edges
from kanlens.symbolic.library import library
from tests.symbolic.made import spline_layer

SCALED = {  # a and b on inputs in [-1, 1]
    "x": (1.0, 0.0),
    "1/x": (1.0, 1.4),
    "1/x^2": (-1.0, 1.5),
    "1/x^3": (1.0, 1.7),
    "1/x^4": (-1.0, 1.8),
    "1/x^1.5": (1.0, 1.3),
    "1/sqrt": (1.0, 1.2),
    "log": (-1.0, 1.1),
    "sqrt": (1.0, 1.05),
    "x^1.5": (1.0, 1.3),
    "exp": (-1.7, 0.0),
    "sin": (7.3, 2.0),
    "tan": (1.1, 0.2),
    "tanh": (2.5, -1.0),
    "arctan": (4.0, 1.0),
    "gaussian": (2.0, 0.6),
    "1/(1+x^2)": (3.0, -0.5),
    "cosh": (2.0, 0.5),
    "x^3-x": (1.2, 0.1),
    "x^3+x": (0.9, -0.3),
    "sinh": (1.8, 0.4),
    "sqrt(1+x^2)": (3.0, 0.4),
    "1/sqrt(1-x^2)": (0.8, -0.1),
    "arcsin": (0.8, 0.1),
    "arctanh": (0.8, -0.1),
}
FAMILIES = library()
NAMES = [family.name for family in FAMILIES]


def samples(functions, low=-1.0, high=1.0):
    x = torch.linspace(low, high, 128, dtype=torch.float64).repeat(len(functions), 1)
    u = (2 * x - low - high) / (high - low)
    y = torch.stack([function(row) for function, row in zip(functions, u, strict=True)])
    ends = torch.full((len(functions),), 1.0, dtype=torch.float64)
    return EdgeSamples(x=x, y=y, low=low * ends, high=high * ends, uniform=128)


def members(scale=1.0, shift=0.0):
    found = []
    for family in FAMILIES:
        a, b = SCALED.get(family.name, (1.0, -0.3))
        found.append(
            lambda u, g=family.function.value, a=a, b=b: scale * (1.7 * g(a * u + b) - 0.4) + shift
        )
    return found


def true_r2(fits):
    return torch.stack([fits.r2[k, k] for k in range(len(NAMES))])


def test_every_family_finds_its_members():
    fits = fit_edges(samples(members()), FAMILIES)
    worst = {name: float(1 - r2) for name, r2 in zip(NAMES, true_r2(fits), strict=True)}
    kinks = ("abs", "sign", "relu")
    assert max(worst[name] for name in NAMES if name not in kinks) < 1e-12
    assert max(worst[name] for name in kinks) < 2e-2


def test_parameters_describe_the_edge_in_its_own_units():
    points = samples(members(), low=3.0, high=9.0)
    fits = fit_edges(points, FAMILIES)
    for k, family in enumerate(FAMILIES):
        a, b, c, d = fits.parameters[k, k]
        values = c * family.function.value(a * points.x[k] + b) + d
        assert_close((values - points.y[k]).square().sum(), fits.sse[k, k], rtol=1e-4, atol=1e-9)


def test_size_of_an_edge_does_not_matter():
    """A sine of amplitude 1e-6 is as much a sine as one of amplitude 1e6."""
    small = fit_edges(samples(members(1e-6, 3.0)), FAMILIES)
    large = fit_edges(samples(members(1e6)), FAMILIES)
    assert_close(small.r2, large.r2, atol=1e-4, rtol=0)
    assert bool((small.r2 <= 1 + 1e-12).all())


def test_high_frequency_is_found():
    """The grid search of pykan reaches r2 0.013 on this edge."""
    fits = fit_edges(samples([lambda u: torch.sin(18.85 * u + 0.5)]), library(["sin"]))
    assert_close(fits.r2[0, 1], torch.tensor(1.0, dtype=torch.float64))
    assert_close(fits.parameters[0, 1, 0], torch.tensor(18.85, dtype=torch.float64))


def test_a_parabola_has_plain_parameters():
    fits = fit_edges(samples([torch.square], low=-2.0, high=2.0), library(["x^2"]))
    expected = torch.tensor([1.0, 0.0, 0.25, 0.0], dtype=torch.float64)
    assert_close(fits.parameters[0, 1], expected, atol=1e-9, rtol=0)


def test_constant_edges_are_marked_and_harmless():
    flat = [lambda u: torch.full_like(u, 3.0), torch.zeros_like, lambda u: u]
    fits = fit_edges(samples(flat), FAMILIES)
    assert fits.constant.tolist() == [True, True, False]
    assert fits.mean[0] == pytest.approx(3.0)
    assert bool(torch.isfinite(fits.parameters).all())


def test_an_input_of_one_value_makes_a_constant():
    point = torch.ones(1, 64, dtype=torch.float64)
    end = torch.ones(1, dtype=torch.float64)
    fits = fit_edges(EdgeSamples(x=point, y=point, low=end, high=end, uniform=64), FAMILIES)
    assert fits.constant.tolist() == [True]


def test_rows_do_not_influence_each_other():
    together = fit_edges(samples(members()), FAMILIES)
    alone = fit_edges(samples(members()[12:13]), FAMILIES)
    assert_close(together.r2[12:13], alone.r2, atol=1e-6, rtol=0)


def test_many_edges_are_fitted_in_chunks():
    fits = fit_edges(samples(members() * 3), library(["sin", "exp"]))
    assert fits.r2.shape == (3 * len(NAMES), 3)
    assert_close(fits.r2[: len(NAMES)], fits.r2[-len(NAMES) :], atol=1e-9, rtol=0)


def coarse(functions, grid_size=5):
    """Return samples of splines that are too coarse for the functions."""
    layer = spline_layer([[function] for function in functions], [(-1.0, 1.0)], grid_size=grid_size)
    x = torch.linspace(-1.0, 1.0, 500, dtype=torch.float64)[:, None]
    return sample_edges(layer, x).samples


def test_true_function_is_found_exactly_though_the_spline_is_not():
    truth = [
        lambda x: torch.tanh(3.0 * x - 0.6),
        lambda x: 1 / (x + 1.3),
        lambda x: (x - 0.2).abs(),
    ]
    points = coarse(truth)
    fits = fit_edges(points, FAMILIES)
    own = [NAMES.index(name) for name in ("tanh", "1/x", "abs")]
    for edge, family in enumerate(own):
        assert float(fits.misfit[edge, family]) < 1e-5 < 1 - float(fits.r2[edge, family])
    assert_close(
        fits.parameters[0, own[0], :2], torch.tensor([3.0, -0.6]).double(), rtol=2e-3, atol=0
    )
    assert_close(fits.parameters[1, own[1], 1], torch.tensor(1.3).double(), rtol=2e-3, atol=0)
    assert fits.coefficients.tolist() == [8.0] * 3


def test_on_the_samples_alone_it_is_not():
    """The check above has teeth: without what the spline can say there is only R2."""
    points = coarse([lambda x: torch.tanh(3.0 * x - 0.6)])
    plain = EdgeSamples(
        x=points.x, y=points.y, low=points.low, high=points.high, uniform=points.uniform
    )
    fits = fit_edges(plain, FAMILIES)
    assert fits.coefficients is None
    assert_close(fits.misfit, 1 - fits.r2)
    assert float(fits.misfit[0, NAMES.index("tanh")]) > 1e-4


def test_a_step_is_found_between_the_samples():
    fits = fit_edges(coarse([lambda x: torch.sign(x - 0.2345)], 20), FAMILIES)
    index = NAMES.index("sign")
    assert_close(fits.parameters[0, index, 1], torch.tensor(-0.2345).double(), atol=5e-3, rtol=0)
    assert int(fits.misfit[0].argmin()) == index
