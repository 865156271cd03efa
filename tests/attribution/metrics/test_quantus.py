"""Metrics against Quantus' own, where its definition is the same; needs the `bench` extra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from kanlens.attribution.metrics import (
    gini_index,
    max_sensitivity,
    share_entropy,
    subset_correlation,
)
from tests.attribution.metrics import cases

quantus = pytest.importorskip("quantus", reason="Quantus comes with the bench extra")
pytestmark = [
    pytest.mark.slow,  # loading Quantus takes seconds
    pytest.mark.filterwarnings("ignore"),  # Quantus and what it loads warn of themselves
]

X, A = cases.draw(3, 6), cases.draw(3, 6, seed=2)
Y = np.zeros(3, dtype=int)


class Curved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        x = x.flatten(1)
        y = x[:, 0] * x[:, 1] + x[:, 2].sin() + x[:, 3] ** 2 - x[:, 4]
        return torch.stack([y, 0 * y - 1e3], 1).float()


def output(x):
    return Curved()(x)[:, 0].double()


def theirs(metric, a_batch=None, x=X, **options):
    found = metric(
        model=Curved().eval(),
        x_batch=x.numpy().copy(),
        y_batch=Y[: len(x)],
        a_batch=None if a_batch is None else a_batch.numpy().copy(),
        device="cpu",
        **options,
    )
    return torch.tensor(np.array(found, dtype=float)).reshape(-1)


QUIET = {
    "disable_warnings": True,
    "display_progressbar": False,
    "return_aggregate": False,
    "normalise": False,
}


def test_gini_is_their_sparseness():
    found = theirs(quantus.Sparseness(abs=True, **QUIET), A)
    assert_close(gini_index(A), found, rtol=1e-5, atol=1e-5)  # they add 1e-7 to every value


def test_entropy_is_their_complexity():
    found = theirs(quantus.Complexity(abs=True, **QUIET), A)
    assert_close(share_entropy(A), found, rtol=1e-6, atol=1e-6)


def test_correlation_is_their_faithfulness_correlation():
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=40, subset_size=2, perturb_baseline=0.0, abs=False, **QUIET
    )
    for b in range(3):
        np.random.seed(b)  # noqa: NPY002 (their draws, made again below)
        found = theirs(metric, A[b : b + 1, None], X[b : b + 1, None])  # it refuses two axes
        np.random.seed(b)  # noqa: NPY002
        masks = torch.zeros(40, 6, dtype=torch.bool)
        for mask in masks:
            mask[np.random.choice(6, 2, replace=False)] = True  # noqa: NPY002
        ours = subset_correlation(
            output, X[b : b + 1], A[b : b + 1], masks, torch.zeros(1, 6).double()
        )
        assert_close(ours, found, rtol=1e-5, atol=1e-5)


def explain(x):
    return torch.stack([x[:, i] * x[:, (i + 1) % 6] for i in range(6)], 1)


def their_explain(model, inputs, targets, **options):
    return explain(torch.as_tensor(inputs).double()).numpy()


def shift(arr, **options):
    """One fixed move, so that both look at the same neighbour."""
    return arr + 0.05 * np.cos(np.arange(6))


def test_sensitivity_is_their_max_sensitivity():
    metric = quantus.MaxSensitivity(nr_samples=1, perturb_func=shift, abs=False, **QUIET)
    found = theirs(metric, explain(X), explain_func=their_explain)
    moved = torch.as_tensor(shift(X.numpy()))[None]
    assert_close(max_sensitivity(explain, X, explain(X), moved), found, rtol=1e-5, atol=1e-5)
