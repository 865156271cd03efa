"""Levenberg-Marquardt on many fits: it finds what scipy finds, on samples and in a space."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from torch.testing import assert_close

from kanlens.symbolic._edge_fitting import EdgeResiduals, Fits
from kanlens.symbolic._library import library

X = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)
NAMES = ("tanh", "sin", "exp", "1/x")
START = {"tanh": (2.0, 0.3), "sin": (3.0, 0.5), "exp": (0.8, 0.0), "1/x": (-1.0, 1.6)}
INSIDE = {("exp", 0), ("1/x", 0), ("sin", 1), ("tanh", 1)}  # the minimum is allowed to the family


def random_space(directions=9, edges=2):
    """Return orthonormal directions that are orthogonal to the constant."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(edges, len(X), directions + 1, generator=generator, dtype=torch.float64)
    columns[..., 0] = 1.0
    return torch.linalg.qr(columns).Q[..., 1:].contiguous()


def fits_of(families):
    rows = [START[family.name] for family in families]
    a, b = torch.tensor(rows, dtype=torch.float64).T
    return Fits.table(a.repeat(2, 1), b.repeat(2, 1))


def edges():
    generator = torch.Generator().manual_seed(1)
    y = torch.stack((torch.exp(0.9 * X), torch.sin(3.3 * X + 0.4)))
    noise = torch.randn(2, len(X), generator=generator, dtype=torch.float64)
    return X.repeat(2, 1), y + 0.05 * noise


def families_of(*names):
    return [family for family in library(names) if family.name in names]


def oracle(family, y, start, space):
    """Minimise the same residual with scipy, c and d by least squares."""
    u0 = np.array(start)
    moving = family.rules[:2].numpy() > 0

    def residual(free):
        a, b = u0.copy()
        ab = np.array([a, b])
        ab[moving] = free
        value = family.value(torch.tensor(ab[0]) * X + ab[1]).numpy()
        columns = (value - value.mean(), y.numpy() - y.mean().item())
        g, target = (
            space.numpy().T @ column if space is not None else column for column in columns
        )
        return target - g * (g @ target) / (g @ g)

    return 2 * least_squares(residual, u0[moving], xtol=1e-14, ftol=1e-14).cost


@pytest.mark.parametrize("within", [False, True])
def test_it_finds_the_minimum_that_scipy_finds(within):
    families, (x, y) = families_of(*NAMES), edges()
    space = random_space() if within else None
    found, sse = EdgeResiduals(families, (x, y), fits_of(families), space).polished(80)
    for k in range(len(sse)):
        family, edge = families[int(found.family[k])], int(found.edge[k])
        if (family.name, edge) not in INSIDE:
            continue
        part = None if space is None else space[edge]
        expected = oracle(family, y[edge], START[family.name], part)
        assert float(sse[k]) <= expected * (1 + 1e-4) + 1e-12


def test_gradient_of_the_normal_equations_is_that_of_the_residual():
    families, (x, y) = families_of("tanh"), edges()
    for space in (None, random_space()):
        fits = fits_of(families)
        problem = EdgeResiduals(families, (x, y), fits, space)
        a, b = fits.a.clone().requires_grad_(), fits.b.clone().requires_grad_()
        slopes = torch.autograd.grad(problem.sse(a, b).sum(), (a, b))
        with torch.no_grad():
            problem.sse(fits.a, fits.b)
            right = torch.from_numpy(problem.equations()[1])
        assert_close(2 * right, torch.stack(slopes, dim=1), rtol=1e-9, atol=1e-9)


def test_each_fit_is_projected_on_the_space_of_its_edge():
    space, edge = random_space(4, 3), torch.tensor([2, 0, 2, 1, 2])
    values, zero = torch.randn(5, len(X), dtype=torch.float64), torch.zeros(5).double()
    fits = Fits(torch.zeros(5).long(), edge, zero, zero)
    samples = X.repeat(3, 1), values[:3]
    inside, plain = (EdgeResiduals(families_of("sin"), samples, fits, s) for s in (space, None))
    expected = torch.stack([space[e].T @ row for e, row in zip(edge, values, strict=True)])
    assert_close(inside.coordinates(values), expected)
    assert_close(inside.coordinates(values + 7.0), expected, atol=1e-12, rtol=0)
    assert_close(plain.coordinates(values), values - values.mean(1, keepdim=True))


def test_no_fits_are_no_trouble():
    empty = torch.zeros(0, dtype=torch.float64)
    none = Fits(empty.long(), empty.long(), empty, empty)
    found, sse = EdgeResiduals(families_of("sin"), edges(), none).polished(3)
    assert len(found.a) == len(sse) == 0
