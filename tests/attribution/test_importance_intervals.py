"""The interval of an importance: its definition, how often it covers, and few or equal rows."""

import math

import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import skew, t

from kanlens.attribution._result import Attribution

SPREADS = {  # |values| with their true mean
    "uniform": (lambda u, z: u, 0.5),
    "half-normal": (lambda u, z: z.abs(), math.sqrt(2 / math.pi)),
    "exponential": (lambda u, z: -u.log(), 1.0),
    "log-normal": (lambda u, z: z.exp(), math.exp(0.5)),
    "zeros": (lambda u, z: -u.log() * (z > 0.524400512708041), 0.3),  # 70% of them
}
PROMISED = {  # by rows, as the docstring of to_importance says, with 10,000 cases here
    10: (0.97, 0.95, 0.94, 0.905, 0.91),
    20: (0.97, 0.95, 0.945, 0.92, 0.96),
    50: (0.96, 0.95, 0.95, 0.93, 0.96),
    100: (0.955, 0.95, 0.95, 0.94, 0.955),
}


def found(values):
    """Return the importance of attributions (batch, in)."""
    zero = torch.zeros(len(values), dtype=values.dtype)
    names = tuple(f"x{index}" for index in range(values.shape[1]))
    return Attribution(
        values=values,
        output=values.sum(1),
        reference=zero,
        baseline="output at zero",
        method="secant",
        features=names,
        target="y",
    ).to_importance()


def draws(name, rows, cases, seed=0):
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(rows, cases, generator=generator, dtype=torch.float64)
    normal = torch.randn(rows, cases, generator=generator, dtype=torch.float64)
    make, truth = SPREADS[name]
    return make(uniform, normal), truth


@pytest.mark.parametrize("rows", PROMISED)
@pytest.mark.slow  # many cases
def test_intervals_cover_as_often_as_promised(rows):
    for name, promised in zip(SPREADS, PROMISED[rows], strict=True):
        values, truth = draws(name, rows, 10_000)
        one = found(values)
        share = float(((one.low <= truth) & (truth <= one.high)).double().mean())
        assert share == pytest.approx(promised, abs=0.011), name


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("rows", [4, 25])
def test_ends_solve_the_equation_of_the_corrected_statistic(name, rows):
    values = draws(name, rows, 6, seed=1)[0]
    one = found(values)
    for column, mean, low, high in zip(values.T, one.values, one.low, one.high, strict=True):
        error = float(column.std()) / math.sqrt(rows)
        if error == 0:
            continue
        g = float(skew(column.numpy())) / math.sqrt(rows)
        quantile = t.ppf(0.975, rows - 1)

        def corrected(x, g=g):
            return x + g * x**2 / 3 + g**2 * x**3 / 27 + g / 6

        ends = [
            float(mean) - error * brentq(lambda x, q=q: corrected(x) - q, -1e4, 1e4, xtol=1e-13)
            for q in (quantile, -quantile)
        ]
        assert float(low) == pytest.approx(max(ends[0], 0.0), rel=1e-9, abs=1e-12)
        assert float(high) == pytest.approx(ends[1], rel=1e-9)


@pytest.mark.parametrize(("rows", "dtype"), [(2, torch.float64), (7, torch.float32)])
def test_ends_are_finite_and_hold_the_mean(rows, dtype):
    columns = [draws(name, rows, 50, seed=rows)[0] for name in SPREADS]
    values = torch.cat([*columns, torch.eye(rows, dtype=torch.float64)], dim=1).to(dtype)
    one = found(values)
    assert bool(one.low.isfinite().all() & one.high.isfinite().all())
    assert bool((one.low >= 0).all())
    assert bool((one.low <= one.values).all() & (one.values <= one.high).all())
    assert one.low.dtype == one.high.dtype == dtype


def test_equal_values_have_intervals_without_width_and_units_do_not_matter():
    one = found(torch.tensor([[0.0, -2.0, 0.1]] * 5, dtype=torch.float64))
    for end in (one.low, one.high):
        torch.testing.assert_close(end, torch.tensor([0.0, 2.0, 0.1], dtype=torch.float64))
    values = draws("exponential", 12, 20)[0]
    one = found(values)
    for scale in (1e-150, 1e120):
        other = found(values * scale)
        torch.testing.assert_close(other.low / scale, one.low, rtol=1e-12, atol=0)
        torch.testing.assert_close(other.high / scale, one.high, rtol=1e-12, atol=0)
