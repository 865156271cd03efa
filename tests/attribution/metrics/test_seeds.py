"""Agreement of models trained from different seeds."""

from __future__ import annotations

import re

import pytest
import torch
from torch.testing import assert_close

from kanlens.attribution.metrics import spearman, stability_across, top_agreement
from kanlens.errors import InvalidValueError, ShapeError
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


def test_samples_are_compared_in_pairs():
    table = stability_across(FOUND, measure="samples", share=0.5)
    expected = top_agreement(VALUES[0], VALUES[2], share=0.5, rank=True, sign=True).mean()
    assert_close(table[0, 2], expected)
    assert_close(table, table.T)


def test_models_that_agree_are_better_than_models_that_do_not():
    near = [cases.attribution(VALUES[0] + 1e-3 * noise) for noise in VALUES]
    for measure in ("importance", "samples"):
        close, far = (stability_across(found, measure=measure) for found in (near, FOUND))
        assert float(close.min()) > float(far.min()) + 0.3


def test_what_cannot_be_compared_is_refused():
    def check(error, text, *arguments, **options):
        with pytest.raises(error, match=f"^{re.escape(text)}$"):
            stability_across(*arguments, **options)

    text = "stability_across: expected at least two attributions, got 1. "
    check(ShapeError, text + "Pass one of each trained model.", FOUND[:1])
    other = cases.attribution(VALUES[0][:, :3])
    text = "stability_across: expected features ['x0', 'x1', 'x2', 'x3'], got ['x0', 'x1', 'x2']. "
    check(ShapeError, text + "Train the models on the same table.", [FOUND[0], other])
    fewer = cases.attribution(VALUES[0][:3])
    text = "stability_across: expected 5 samples, got 3. "
    text += "Attribute the same samples, or use measure='importance'."
    check(ShapeError, text, [FOUND[0], fewer], measure="samples")
    assert stability_across([FOUND[0], fewer]).shape == (2, 2)
    text = "stability_across: expected measure to be one of importance, samples, got 'rows'."
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        stability_across(FOUND, measure="rows")
