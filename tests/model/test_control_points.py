"""Bernstein control points against the polynomials they stand for."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BPoly
from torch.testing import assert_close

from kanlens.model._enclosure_tables import (
    ControlPoints,
    chebyshev,
    from_nodes,
    restrict,
    to_bernstein,
)
from tests.model.layers_for_tests import EXACT

COUNTS = (1, 2, 3, 4, 6)


def powers(count: int) -> np.ndarray:
    """Coefficients of a polynomial, constant first."""
    return np.random.default_rng(count).normal(size=count)


@pytest.mark.parametrize("count", COUNTS)
def test_control_points_are_those_of_the_polynomial(count: int) -> None:
    of_powers = powers(count)
    points = to_bernstein(count) @ torch.from_numpy(of_powers)
    x = np.linspace(-1, 1, 9)
    bernstein = BPoly(points.numpy()[:, None], [-1.0, 1.0])
    np.testing.assert_allclose(
        bernstein(x), np.polynomial.Polynomial(of_powers)(x), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("count", COUNTS)
def test_values_at_the_nodes_give_the_powers_back(count: int) -> None:
    of_powers, nodes = powers(count), chebyshev(count)
    np.testing.assert_allclose(
        nodes.numpy(), np.polynomial.chebyshev.chebroots([0] * count + [1])[::-1], atol=1e-14
    )
    values = torch.from_numpy(np.polynomial.Polynomial(of_powers)(nodes.numpy()))
    assert_close(from_nodes(count) @ values, torch.from_numpy(of_powers), **EXACT)


@pytest.mark.parametrize("count", COUNTS)
def test_a_part_has_the_control_points_of_its_own_polynomial(count: int) -> None:
    of_powers = powers(count)
    middle = torch.tensor([[0.0, 0.25], [-0.5, 0.9]], dtype=torch.float64)
    half = torch.tensor([[1.0, 0.5], [0.0, 0.1]], dtype=torch.float64)  # all of it, and a point
    points = restrict(middle, half, count) @ torch.from_numpy(of_powers)
    assert points.shape == (2, 2, count)
    for row in np.ndindex(2, 2):
        inner = np.polynomial.Polynomial([float(middle[row]), float(half[row])])
        part = np.polynomial.Polynomial(of_powers)(inner)
        t = np.linspace(-1, 1, 9)
        found = BPoly(points[row].numpy()[:, None], [-1.0, 1.0])(t)
        np.testing.assert_allclose(found, part(t), rtol=1e-12, atol=1e-12)


def test_bounds_hold_the_hull_of_all_pieces_and_what_was_found_otherwise() -> None:
    def tensor(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    points = tensor(0.0, 2.0, -1.0, 1.0, 3.0, 2.0).reshape(1, 1, 1, 2, 3)
    pieces = tensor(-0.5, -0.25).reshape(1, 1, 1, 2), tensor(0.5, 0.25).reshape(1, 1, 1, 2)
    ends = tensor(0.0, 1.0).reshape(1, 1, 2), tensor(1.0, 2.0).reshape(1, 1, 2)

    def bounds(lower: float, upper: float) -> list[float]:
        whole = tensor(lower).reshape(1, 1, 1), tensor(upper).reshape(1, 1, 1)
        edge = ControlPoints(
            points=points,
            below=pieces[0],
            above=pieces[1],
            start=ends[0],
            end=ends[1],
            lower=whole[0],
            upper=whole[1],
        )
        return [float(bound) for bound in edge.bounds()]

    assert bounds(-9.0, 9.0) == [-1.5, 3.25]
    assert bounds(-1.0, 3.0) == [-1.0, 3.0]
