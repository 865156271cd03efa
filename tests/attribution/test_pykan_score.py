"""pykan's backward score of features."""

from __future__ import annotations

import pytest
import torch

from kanlens.attribution.problem import Problem
from kanlens.attribution.pykan_score import pykan
from kanlens.model.analysis import private_copy
from tests.attribution import oracles


def problem(model, x, target=0):
    return Problem(model=private_copy(model), x=x, rows=None, target=target)


@pytest.mark.parametrize("widths", [[3, 2], [3, 4, 2], [3, (2, 1), 3, 2], [3, (1, [3]), 2]])
@pytest.mark.parametrize("target", [0, 1])
def test_is_its_definition(network, draw, widths, target):
    model, x = network(widths), draw(20, 3)
    found = pykan(problem(model, x, target)).values
    torch.testing.assert_close(found, oracles.pykan(model, x, x, target))


def test_a_sum_that_stands_still_passes_nothing_on(network, draw):
    model, x = network([3, 2, 1]), draw(9, 3)
    with torch.no_grad():
        model.layers[0].mask[0] = 0
    found = pykan(problem(model, x)).values
    assert bool(torch.isfinite(found).all())
    with torch.no_grad():
        model.layers[1].mask[0, 0] = 0
    torch.testing.assert_close(pykan(problem(model, x)).values, found)


def test_units_play_no_part(network, draw):
    model, x = network([3, 4, 2]), draw(20, 3)
    before = pykan(problem(model, x, 1)).values
    with torch.no_grad():
        model.layers[-1].spline_weight *= 1e-6
        model.layers[-1].base_weight *= 1e-6
    torch.testing.assert_close(pykan(problem(model, x, 1)).values, before)
