import pytest
import torch
from torch.testing import assert_close

from kanlens.model._kan_linear import KANLinear
from kanlens.symbolic._edge_fitting import EdgeSamples, fit_edges, sample_edges
from kanlens.symbolic._library import library
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


@pytest.mark.slow  # derives formulas
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


@pytest.mark.slow  # derives formulas
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


def test_constant_edges_are_marked_and_harmless():
    flat = [lambda u: torch.full_like(u, 3.0), torch.zeros_like, lambda u: u]
    fits = fit_edges(samples(flat), FAMILIES)
    assert fits.constant.tolist() == [True, True, False]
    assert fits.mean[0] == pytest.approx(3.0)
    assert bool(torch.isfinite(fits.parameters).all())
    point, end = torch.ones(1, 64).double(), torch.ones(1).double()
    fits = fit_edges(EdgeSamples(x=point, y=point, low=end, high=end, uniform=64), FAMILIES)
    assert fits.constant.tolist() == [True]


def test_many_edges_are_fitted_in_chunks():
    fits = fit_edges(samples(members() * 3), library(["sin", "exp"]))
    assert fits.r2.shape == (3 * len(NAMES), 3)
    assert_close(fits.r2[: len(NAMES)], fits.r2[-len(NAMES) :], atol=1e-9, rtol=0)
    alone = fit_edges(samples(members()[12:13]), library(["sin", "exp"]))
    assert_close(fits.r2[12:13], alone.r2, atol=1e-6, rtol=0)


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


def test_samples_are_values_of_the_edges():
    generator = torch.Generator().manual_seed(0)
    layer = KANLinear(2, 3, generator=generator).double()
    layer.mask[1, 0] = 0.0
    x = torch.rand(300, 2, generator=generator, dtype=torch.float64)
    edges = sample_edges(layer, x)
    assert edges.out.tolist() == [0, 0, 1, 2, 2]
    assert edges.in_.tolist() == [0, 1, 1, 0, 1]
    points = edges.samples
    for k, (o, i) in enumerate(zip(edges.out.tolist(), edges.in_.tolist(), strict=True)):
        assert_close(torch.as_tensor(layer.edge(o, i)(points.x[k].numpy())), points.y[k])
    assert bool((points.x >= points.low[:, None] - 1e-12).all())
    assert_close(points.x[:, :64].diff(dim=1).std(1), torch.zeros(5).double(), atol=1e-12, rtol=0)


def test_an_outlier_does_not_stretch_the_range():
    layer = KANLinear(1, 1).double()
    x = torch.cat((torch.linspace(0, 1, 2000), torch.tensor([100.0]))).double()[:, None]
    assert sample_edges(layer, x).samples.high[0] < 1.01


def test_between_two_values_an_edge_is_a_straight_line():
    layer = spline_layer([[torch.sin, torch.square]], [(0.0, 1.0), (0.0, 1.0)])
    x = torch.tensor([[0.0, 0.0], [1.0, 0.3], [0.0, 1.0], [1.0, 0.9]]).double()
    points = sample_edges(layer, x.repeat(50, 1)).samples
    line = points.x[0] * torch.sin(torch.tensor(1.0).double())
    assert_close(points.y[0], line, atol=1e-6, rtol=0)
    assert not torch.allclose(points.y[1], points.x[1])


def test_importance_is_relative_to_the_node():
    layer = spline_layer([[lambda x: 10 * x, lambda x: 0.01 * x]], [(-1.0, 1.0), (-1.0, 1.0)])
    x = torch.linspace(-1, 1, 101).double()
    edges = sample_edges(layer, torch.stack((x, x.flip(0)), dim=1))
    assert_close(
        edges.importance, torch.tensor([10 / 9.99, 0.01 / 9.99]).double(), rtol=1e-3, atol=0
    )


def test_space_is_what_the_splines_can_say():
    layer = KANLinear(2, 3, grid_size=6, generator=torch.Generator().manual_seed(0)).double()
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    samples = sample_edges(layer, x * 2 - 1).samples
    assert samples.place.tolist() == [0, 1, 0, 1, 0, 1]
    for space in samples.space:
        used = space[:, space.square().sum(0) > 0.5]
        assert_close(used.T @ used, torch.eye(used.shape[1]).double(), atol=1e-9, rtol=0)
        assert_close(used.sum(0), torch.zeros(used.shape[1]).double(), atol=1e-9, rtol=0)
        assert 7 <= used.shape[1] <= layer.degrees_of_freedom
    y = samples.y - samples.y.mean(1, keepdim=True)
    space = samples.space[samples.place]
    again = (space @ (y[:, None] @ space).transpose(1, 2))[..., 0]
    assert_close(again, y, atol=2e-3 * float(y.abs().max()), rtol=0)
    outside = torch.sin(40 * samples.x) - torch.sin(40 * samples.x).mean(1, keepdim=True)
    lost = outside - (space @ (outside[:, None] @ space).transpose(1, 2))[..., 0]
    assert float(lost.square().sum() / outside.square().sum()) > 0.5


def test_splines_that_the_data_do_not_reach_say_nothing():
    layer = KANLinear(1, 1, grid_size=20, base_activation="zero").double()
    x = torch.linspace(-1.0, -0.5, 100, dtype=torch.float64)[:, None]
    few = sample_edges(layer, x).samples.space.shape[2]
    many = sample_edges(layer, torch.linspace(-1, 1, 100).double()[:, None]).samples.space.shape[2]
    assert few <= 9
    assert many == 22
