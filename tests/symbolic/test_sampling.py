import torch
from torch.testing import assert_close

from kanlens.model.layers import KANLinear
from kanlens.symbolic.edge_fitting import sample_edges
from tests.symbolic.made import spline_layer


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
