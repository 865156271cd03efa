"""How exact the integrals are, at which price, and that what is wrong is noticed."""

import numpy as np
import pytest
import torch

from kanlens.attribution.integration import _integrated_gradients as quadrature
from kanlens.attribution.integration._integrated_gradients import integrate
from kanlens.attribution.integration._lines import Lines, meeting_points
from kanlens.data._schema import default_schema
from kanlens.model._analysis import float64_copy
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from tests.attribution.integration import brute_force


def uniform(count, features, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, features, generator=generator, dtype=torch.float64) - 1


def fresh(widths):
    """A network as it is before training."""
    return float64_copy(KAN(widths, generator=torch.Generator().manual_seed(0)))


def curved(widths, **options):
    """A network with large splines whose hidden grids lie where hidden inputs do."""
    generator = torch.Generator().manual_seed(0)
    model = KAN(widths, scale_noise=5.0, generator=generator, **options).double()
    model.update_grid(uniform(500, widths[0], seed=5))
    return float64_copy(model)


def lines_of(model, x, rows, **options):
    start, end = model.scale_inputs(rows).expand_as(x), model.scale_inputs(x)
    return Lines(model=model, target=0, start=start, end=end, at_once=8192, **options)


def change(lines):
    model = lines.model
    return (model.run(lines.end) - model.run(lines.start))[:, 0] * model.output_scale[0]


def relative_gap(lines, values):
    """The worst one, as a share of the change and a thousandth of the output's deviation.

    The output itself is not known better than to a few roundings of what it is the sum of.
    """
    expected = change(lines)
    scale = expected.abs() + 1e-3 * lines.model.run(lines.end)[:, 0].std()
    rounding = 8 * torch.finfo(torch.float64).eps * brute_force.sizes(lines)
    gap = ((values.sum(1) - expected).abs() - rounding).clamp(min=0)
    return float((gap / scale).max())


def plain(lines, count):
    """Gauss-Legendre over whole lines."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    t = torch.as_tensor(0.5 + 0.5 * nodes)
    owner = torch.arange(len(lines.start)).repeat_interleave(count)
    rates = lines.rates(owner, t.repeat(len(lines.start))).reshape(len(lines.start), count, -1)
    return torch.einsum("bni,n->bi", rates, torch.as_tensor(0.5 * weights))


@pytest.mark.parametrize("make", [fresh, curved])
@pytest.mark.parametrize(
    ("widths", "gap", "price"), [([8, 5, 1], 1e-12, 200), ([5, 4, 3, 1], 1e-11, 300)]
)
@pytest.mark.slow  # many cases
def test_values_are_complete_to_rounding_at_a_low_price(make, widths, gap, price):
    model, n = make(widths), widths[0]
    lines = lines_of(model, uniform(200, n), uniform(200, n, seed=2))
    found = integrate(lines, meeting_points(model, 0))
    assert relative_gap(lines, found.values) < gap
    assert float(found.evaluations.double().mean()) < price
    assert int(found.evaluations.max()) <= 400 or len(widths) > 3
    assert not bool(found.unsettled.any())


def test_plain_quadrature_is_far_worse_at_the_same_price():
    model = curved([5, 4, 1])
    lines = lines_of(model, uniform(100, 5), uniform(100, 5, seed=2))
    found = integrate(lines, meeting_points(model, 0))
    price = round(float(found.evaluations.double().mean()))
    ours, theirs = (relative_gap(lines, v) for v in (found.values, plain(lines, price)))
    assert ours < 1e-11
    assert theirs > 1e-5
    assert relative_gap(lines, plain(lines, 5 * price)) > 1e5 * ours


def withheld(model):
    """The breakpoints of the first layer only."""
    knots = meeting_points(model, 0)
    return [knots[0], torch.full_like(knots[1], torch.inf)]


def test_crossings_that_are_withheld_are_made_up_for():
    model = curved([4, 3, 1])
    lines = lines_of(model, uniform(30, 4), uniform(30, 4, seed=2))
    right = integrate(lines, meeting_points(model, 0))
    found = integrate(lines, withheld(model))
    torch.testing.assert_close(found.values, right.values, rtol=1e-8, atol=1e-10)
    assert int(found.evaluations.sum()) > 2 * int(right.evaluations.sum())


def test_without_halving_the_gap_shows(monkeypatch):
    monkeypatch.setattr(quadrature, "HALVINGS", 0)
    model = curved([4, 3, 1])
    lines = lines_of(model, uniform(30, 4), uniform(30, 4, seed=2))
    found = integrate(lines, withheld(model))
    assert relative_gap(lines, found.values) > 1e-6
    wrong = (found.values.sum(1) - change(lines)).abs() > 1e-9
    assert bool((found.unsettled > 0)[wrong].all())
    assert bool(wrong.any())


def test_errors_that_cancel_in_the_sum_are_noticed(monkeypatch):
    """Two features whose rates are wrong by opposite amounts add up all the same."""
    model = curved([4, 3, 1])
    lines = lines_of(model, uniform(10, 4), uniform(10, 4, seed=2))
    own, knots = Lines.rates, meeting_points(model, 0)

    def bent(self, owner, t):
        rates = own(self, owner, t).clone()
        kink = 0.1 * (t - 0.4321).clamp(min=0)
        rates[:, 0] += kink
        rates[:, 1] -= kink
        return rates

    monkeypatch.setattr(Lines, "rates", bent)
    with monkeypatch.context() as patch:
        patch.setattr(quadrature, "HALVINGS", 0)
        first = integrate(lines, knots)
    assert relative_gap(lines, first.values) < 1e-11
    assert bool((first.unsettled > 0).all())
    settled = integrate(lines, knots)
    exact = 0.05 * (1 - 0.4321) ** 2
    monkeypatch.undo()
    shift = (settled.values - integrate(lines, knots).values)[:, :2]
    expected = torch.tensor([exact, -exact], dtype=torch.float64).expand(10, 2)
    torch.testing.assert_close(shift, expected, rtol=1e-9, atol=0)


def test_every_gradient_is_counted(monkeypatch):
    model = curved([4, 3, 1])
    lines = lines_of(model, uniform(20, 4), uniform(20, 4, seed=2))
    own, seen = Lines.rates, torch.zeros(20, dtype=torch.long)

    def counted(self, owner, t):
        seen.index_add_(0, owner, torch.ones_like(owner))
        return own(self, owner, t)

    monkeypatch.setattr(Lines, "rates", counted)
    found = integrate(lines, withheld(model))
    assert found.evaluations.tolist() == seen.tolist()


def test_a_looser_tolerance_costs_less():
    model = curved([6, 4, 1])
    lines = lines_of(model, uniform(50, 6), uniform(50, 6, seed=2))
    knots = meeting_points(model, 0)
    strict, loose = (integrate(lines, knots, tolerance=tol) for tol in (1e-12, 1e-5))
    assert int(loose.evaluations.sum()) < 0.7 * int(strict.evaluations.sum())
    assert relative_gap(lines, loose.values) < 1e-5
    tiny = integrate(lines, knots, tolerance=1e-300)
    assert relative_gap(lines, tiny.values) < 1e-12


def test_large_numbers_that_cancel_do_not_keep_it_busy():
    model = curved([4, 3, 1])
    model.output_shift += 1e9
    model.layers[1].bias += 1e6
    lines = lines_of(model, uniform(20, 4), uniform(20, 4, seed=2))
    found = integrate(lines, meeting_points(model, 0))
    assert float(found.evaluations.double().mean()) < 200
    assert not bool(found.unsettled.any())


def test_a_line_that_goes_wrong_leaves_the_others_alone():
    model = curved([4, 3, 1])
    x, rows = uniform(5, 4), uniform(5, 4, seed=2)
    expected = integrate(lines_of(model, x, rows), meeting_points(model, 0)).values
    x[2, 1] = torch.inf
    found = integrate(lines_of(model, x, rows), meeting_points(model, 0))
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(found.values[kept], expected[kept])
    assert not bool(torch.isfinite(found.values[2]).all())


def written(*tables):
    """A network whose edges are functions: name, then a, b, c, d."""
    layers = []
    for table in tables:
        names = [[name for name, *_ in row] for row in table]
        layer = KANLinear(len(table[0]), len(table), functions=names).double()
        for out, row in enumerate(table):
            for in_, (name, *affine) in enumerate(row):
                layer.assign(out, in_, name, affine)
        layers.append(layer)
    return float64_copy(KAN.from_layers(layers, default_schema(len(tables[0][0]), 1)))


ACROSS = torch.tensor([[1.0, 0.5]], dtype=torch.float64)


def test_rounding_in_the_middle_of_a_line_is_taken_for_no_jump():
    layer = KANLinear(2, 1, grid_size=4, spline_order=1, base_activation="zero").double()
    knots = torch.tensor([-2.0, -1.0, 0.3, 0.3001, 0.3002, 1.0, 2.0], dtype=torch.float64)
    layer.grid.copy_(knots.expand(2, -1))
    layer.spline_weight.data.zero_()
    layer.spline_weight.data[0, 0, 2] = 1.0  # a narrow hat
    layer.spline_weight.data[0, 1, 4] = 1e-3
    layer.spline_scaler.data.fill_(1.0)
    wave = written([[("sin", 2.0, 0.3, 1.0, 0.0)]]).layers[0]
    model = float64_copy(KAN.from_layers([layer, wave], default_schema(2, 1)))
    lines = lines_of(model, ACROSS, -ACROSS)
    found = integrate(lines, meeting_points(model, 0))
    assert not bool(found.unsettled.any())
    assert abs(float(found.values.sum() - change(lines))) < 1e-10


def test_a_steep_base_far_inside_a_segment_is_found():
    model = written([[("x", 5000.0, -777.0, 1.0, 0.0), ("x", 1.0, 0.0, 1.0, 0.0)]])
    layer = KANLinear(1, 1, base_activation="tanh").double()
    layer.spline_weight.data.zero_()
    layer.base_weight.data.fill_(1.0)
    model = float64_copy(KAN.from_layers([model.layers[0], layer], default_schema(2, 1)))
    lines = lines_of(model, ACROSS, -ACROSS)
    found = integrate(lines, meeting_points(model, 0))
    assert not bool(found.unsettled.any())
    assert abs(float(found.values.sum() - change(lines))) < 1e-12
