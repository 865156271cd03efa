"""Networks with every base activation: analyses are exact, and bounds hold and are narrow."""

import pytest
import torch

import kanlens
from kanlens.functions._catalog import BASES


def built(name):
    """Return a network and rows for it."""
    generator = torch.Generator().manual_seed(1)
    options = {"grid_range": (-4, 4), "scale_noise": 0.6, "generator": generator}
    model = kanlens.KAN([2, 2, 1], base_activation=name, **options).double()
    return model.requires_grad_(False), 8 * torch.rand(2000, 2, generator=generator).double() - 4


@pytest.mark.slow
@pytest.mark.usefixtures("few_points")
@pytest.mark.parametrize("name", BASES)
def test_bounds_hold_and_are_narrow(name):
    model, x = built(name)
    domain = torch.tensor([[-4.0, 4.0]] * 2, dtype=torch.float64)
    proven = kanlens.certify(model, domain, max_boxes=20, progress=False).outputs[0].range
    values = model(x)
    least, most = float(values.min()), float(values.max())
    assert proven.low <= least < most <= proven.high
    assert proven.high - proven.low <= 1.2 * (most - least)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.slow  # many cases
def test_attributions_are_complete_and_files_compute_the_same(name, tmp_path):
    model, x = built(name)
    for method in ("shapley", "integrated_gradients"):
        found = kanlens.attribute(model, x[:3], method=method, background=x[3:12])
        assert float(found.completeness_gap.abs().max()) <= 1e-13 * float(model(x).abs().max())
    assert kanlens.export(model, tmp_path / "model.py").error <= 1e-14


@pytest.mark.parametrize("name", BASES)
def test_far_out_a_base_is_bounded_by_what_it_goes_on_as(name):
    layer = built(name)[0].layers[0]
    ends = torch.tensor([[-200.0, -100.0], [40.0, 150.0]], dtype=torch.float64)
    for low, high in ends.tolist():
        x = torch.linspace(low, high, 501, dtype=torch.float64)[:, None].expand(-1, 2)
        values = layer.edge_values(x)
        lower, upper = layer.edge_bounds(x[:1], x[-1:])
        assert bool((lower[0] <= values.amin(0)).all())
        assert bool((upper[0] >= values.amax(0)).all())
