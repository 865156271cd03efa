import torch
from torch.testing import assert_close

from kanlens.core.layers import KANLinear
from kanlens.symbolic.sampling import sample_edges
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
