"""Agreement of models trained from different seeds."""

from __future__ import annotations

import re

import pytest
import torch
from torch.testing import assert_close

from kanlens.attribution.metrics import spearman, stability_across
from kanlens.errors import ShapeError
from tests.attribution.metrics import cases

VALUES = [cases.draw(5, 4, seed=seed) for seed in (1, 2, 3)]
FOUND = [cases.attribution(values) for values in VALUES]


def test_importance_is_compared_in_pairs():
    table = stability_across(FOUND)
    for i, a in enumerate(VALUES):
        for j, b in enumerate(VALUES):
            expected = spearman(a.abs().mean(0)[None], b.abs().mean(0)[None])[0]
            assert_close(table[i, j], expected)
    assert_close(table.diagonal(), torch.ones(3).double())


def test_models_that_agree_are_better_than_models_that_do_not():
    near = [cases.attribution(VALUES[0] + 1e-3 * noise) for noise in VALUES]
    close, far = (stability_across(found) for found in (near, FOUND))
    assert float(close.min()) > float(far.min()) + 0.3


def test_what_cannot_be_compared_is_refused():
    def check(text, attributions):
        with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
            stability_across(attributions)

    text = "stability_across: expected at least two attributions, got 1. "
    check(text + "Pass one of each trained model.", FOUND[:1])
    other = cases.attribution(VALUES[0][:, :3])
    text = "stability_across: expected features ['x0', 'x1', 'x2', 'x3'], got ['x0', 'x1', 'x2']. "
    check(text + "Train the models on the same table.", [FOUND[0], other])
    fewer = cases.attribution(VALUES[0][:3])
    assert stability_across([FOUND[0], fewer]).shape == (2, 2)
