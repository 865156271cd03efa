"""KernelShap and Lime: what their fits are against, and what float32 leaves of them."""

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest
import torch

from kanlens.attribution import METHODS, attribute
from kanlens.errors import InvalidValueError

captum_kernel_shap = METHODS["captum_kernel_shap"].function
captum_lime = METHODS["captum_lime"].function


def test_kernel_shap_comes_close_to_the_exact_values(network, draw):
    model, x, rows = network([4, 3, 1]), draw(3, 4), draw(5, 4, seed=2)
    exact = attribute(model, x, background=rows.mean(0, keepdim=True))
    far = []
    for n in (20, 400):
        g = torch.Generator().manual_seed(0)
        options = {"method": "captum_kernel_shap", "background": rows, "generator": g}
        found = attribute(model, x, n_samples=n, **options)
        assert float(found.relative_gap.max()) < 1e-3
        far.append(float((found.values - exact.values).abs().max()))
    assert far[1] < far[0] / 2
    assert far[1] < 0.05 * float(exact.values.abs().max())


@pytest.mark.parametrize("function", [captum_kernel_shap, captum_lime])
def test_every_sample_has_units_of_its_own(function, problem):
    """A sample with a huge change must not cost the others their digits."""
    given = problem([3, 2, 1], batch=2)
    alone = function(dataclasses.replace(given, x=given.x[:1])).values
    wild = torch.cat([given.x[:1], 1e6 * given.x[1:]])
    again = dataclasses.replace(given, x=wild, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(function(again).values[0], alone[0], rtol=1e-12, atol=1e-14)


def by_hand(given, width):
    """Lime's fit over all coalitions, each as often as the others: no sampling."""
    found, d = [], given.x.shape[1]
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=d)))
    weights = np.exp(-(d - masks.sum(1)) / (2 * width**2))
    for x in given.x:
        mixed = torch.where(torch.from_numpy(masks) != 0, x, given.mean_row)
        y = given.output(mixed).numpy()
        design = np.column_stack([masks, np.ones(len(masks))])
        root = np.sqrt(weights)[:, None]
        solved = np.linalg.lstsq(design * root, y * root[:, 0], rcond=None)[0]
        found.append(torch.from_numpy(solved[:d]))
    return torch.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 0.7])
def test_lime_is_a_weighted_fit_to_coalitions(width, problem):
    given = problem([3, 4, 1], batch=1)
    found = captum_lime(given, n_samples=3000, kernel_width=width)
    expected = by_hand(given, 0.75 * math.sqrt(3) if width is None else width)
    torch.testing.assert_close(
        found.values, expected, rtol=0, atol=0.1 * float(expected.abs().max())
    )


def test_a_penalty_leaves_fewer_features(problem):
    given = problem([5, 3, 1], batch=1)
    counts = []
    for penalty in (0.0, 0.01, 10.0):
        again = dataclasses.replace(given, generator=torch.Generator().manual_seed(3))
        counts.append(int((captum_lime(again, penalty=penalty).values != 0).sum()))
    assert counts[0] == 5
    assert counts[1] <= 5
    assert counts[2] == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kernel_width": 0.1}, "kernel_width from 0.11 to 1e+06 for 3 features, got 0.1"),
        ({"kernel_width": 1e300}, "kernel_width from 0.11 to 1e+06 for 3 features, got 1e+300"),
        ({"penalty": 1e300}, "penalty of at most 1e+06, got 1e+300"),
    ],
)
def test_lime_refuses_what_leaves_nothing_to_fit(options, text, network, draw):
    x = draw(2, 3)
    with pytest.raises(InvalidValueError, match=re.escape(f"attribute: expected {text}. ")):
        attribute(network([3, 2, 1]), x, method="captum_lime", background=x, **options)
