"""Ctrl-C while pruning within a budget: the network of the last removal is returned."""

from __future__ import annotations

import re

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import InterruptedWarning
from kanlens.pruning import _removal as removal
from kanlens.pruning._propagation import Propagation
from kanlens.pruning._scores import LossEvaluator, Scorer

PLACES = [
    (Propagation, "remove", 4),
    (LossEvaluator, "loss", 6),
    (kanlens.KAN, "edge_name", 3),  # between the two records of a removal
    (Scorer, "matrices", 3),
]


def prune(model, x, **options):
    return kanlens.prune(model, x, budget=1.0, progress=False, **options)


def interrupt(patch, owner, name, call):
    """Have Ctrl-C come when a method has done its work for a number of times."""
    whole, calls = getattr(owner, name), []

    def cut(self, *given, **options):
        found = whole(self, *given, **options)
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return found

    patch.setattr(owner, name, cut)


@pytest.mark.parametrize(("owner", "name", "call"), PLACES)
@pytest.mark.slow  # many cases
def test_the_network_of_the_last_removal_is_returned(network, draw, monkeypatch, owner, name, call):
    model, x = network((3, 4, 1)), draw()
    whole = prune(model, x)
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning) as said:
        interrupt(patch, owner, name, call)
        found = prune(model, x)
    text = f"prune: interrupted. The model is pruned so far, to {found.edges_after} edges."
    assert [str(one.message) for one in said] == [text]
    own = [record for record in found.removed if record["reason"] == "score"]
    count = int(re.fullmatch(r"interrupted after (\d+) removals", found.stopped_because)[1])
    assert 0 < len(own) == count < len(whole.removed)
    assert list(own) == list(whole.removed[:count])
    assert found.loss_after <= found.loss_allowed
    with torch.no_grad():
        assert_close(found.at(-1)(x), whole.at(count)(x), rtol=0, atol=1e-12)
        columns = [model.feature_names.index(name) for name in found.model.feature_names]
        assert_close(found.model(x[:, columns]), whole.at(count)(x), rtol=0, atol=1e-12)
    assert f'"{found.stopped_because}"' in found.to_json()


def test_an_interrupt_while_tuning_keeps_the_cuts(network, draw, monkeypatch):
    model, x = network((3, 4, 1)), draw()
    interrupt(monkeypatch, removal, "fine_tune", 1)
    with pytest.warns(InterruptedWarning):
        found = prune(model, x, finetune=1, generator=torch.Generator().manual_seed(0))
    assert found.removed
    assert not found.tuned


def test_an_interrupt_before_the_first_removal_passes(network, draw, monkeypatch):
    interrupt(monkeypatch, Propagation, "remove", 1)
    with pytest.raises(KeyboardInterrupt):
        prune(network((3, 4, 1)), draw())


def test_why_no_more_edges_went_is_said(network, draw):
    model, x = network((3, 4, 1)), draw()
    assert (
        prune(model, x).stopped_because
        == "no other edge can go within the budget and leave a path to an output"
    )
    found = kanlens.prune(model, x, threshold=0.1, progress=False)
    assert found.stopped_because == "every edge below the threshold is gone"
