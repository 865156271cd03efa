"""Training of what is left, kept where it helps, within the same budget."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.model._trace import store_statistics
from kanlens.pruning._prune import hold_out
from kanlens.pruning._removal import fine_tune
from kanlens.training._objective import task_loss
from tests.pruning.conftest import noisy, prune


def blended(draw, rows=200):
    """Three columns that go along with each other."""
    x = draw(rows)
    x[:, 1] = 0.9 * x[:, 0] + 0.1 * x[:, 1]
    return x


@pytest.mark.slow  # removes many edges
def test_tuning_goes_further_within_the_same_budget(network, draw):
    model, x = network((3, 4, 1)), blended(draw, 300)
    y = noisy(model, x, 0.05)
    options = {"budget": 1.0, "generator": torch.Generator().manual_seed(0)}
    result = prune(model, x, y, finetune=3, **options)
    assert result.tuned
    assert result.edges_after < prune(model, x, y, budget=1.0).edges_after
    assert result.loss_after <= 2 * result.loss_before
    held_out = hold_out(300, torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = float(task_loss(model, model(x[held_out]), y[held_out]))
        kept = [model.feature_names.index(name) for name in result.model.feature_names]
        last = float(task_loss(model, result.model(x[held_out][:, kept]), y[held_out]))
    assert_close(result.loss_before, first)
    assert_close(result.loss_after, last, rtol=1e-9, atol=0)


def test_tuning_is_the_same_from_the_same_seed_and_needs_no_statistics(network, draw):
    model, x = network((3, 4, 1)), draw(100)
    y = noisy(model, x, 0.05)
    state = torch.get_rng_state()
    found = [
        prune(model, x, y, threshold=0.5, finetune=2, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert found[0].loss_after == found[1].loss_after
    assert len(found[0].tuned) == 1
    assert found[0].tuned[0]["step"] <= len(found[0].removed)
    store_statistics(model, x)
    assert prune(model, x, y, threshold=0.5, finetune=2).model.statistics is not None


def test_tuning_without_y_teaches_what_the_model_said(network, draw):
    model, x = network((3, 4, 1)), draw(200)
    generator = torch.Generator().manual_seed(0)
    plain = prune(model, x, threshold=0.5)
    result = prune(model, x, threshold=0.5, finetune=3, generator=generator)
    assert result.tuned
    assert result.loss_after < 0.6 * plain.loss_after


@pytest.mark.parametrize(("shift", "starts"), [(10.0, True), (math.nan, True), (0.0, False)])
def test_training_that_does_not_help_is_dropped(network, draw, monkeypatch, shift, starts):
    def worse(trained, *_):
        trained.layers[-1].bias.add_(shift)
        return starts

    monkeypatch.setattr("kanlens.pruning._removal.fine_tune", worse)
    model, x = network((3, 4, 1)), draw(100)
    result, plain = (prune(model, x, threshold=0.5, finetune=count) for count in (2, 0))
    assert result.tuned == ()
    assert_close(dict(result.model.state_dict()), dict(plain.model.state_dict()), rtol=0, atol=0)


def test_training_that_cannot_start_is_no_training(network, draw):
    model, x = network((3, 4, 1)), draw(100)
    y = model(x).detach()
    with torch.no_grad():
        model.layers[0].bias.fill_(math.inf)
    assert not fine_tune(model, x, y, hold_out(100, None), 2)


def test_a_budget_of_zero_does_not_train(network, draw):
    model, x = network((3, 4, 1)), draw(50)
    result = prune(model, x, noisy(model, x, 0.05), budget=0, finetune=5)
    assert_close(dict(result.model.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    assert result.tuned == result.removed == ()


def test_tuning_that_cannot_be_is_refused(network, draw):
    model, x = network((3, 1)), draw()
    with pytest.raises(InvalidValueError, match="expected at least 5 rows for finetune, got 4"):
        prune(model, x[:4], budget=0.1, finetune=1)
    labels = ["a" if value > 0 else "b" for value in x[:, 0]]
    kanlens.fit(model, (x, labels), steps=1, progress=False, generator=torch.Generator())
    with pytest.raises(InvalidValueError, match="y for finetune of a classifier, got none"):
        prune(model, x, budget=0.1, finetune=1)
    generator = torch.Generator().manual_seed(0)
    result = prune(model, x, labels, budget=0.5, finetune=1, generator=generator)
    assert result.loss_after <= 1.5 * result.loss_before


def test_a_frozen_network_is_not_tuned(network, draw):
    model, x = network().requires_grad_(False), draw()
    with pytest.raises(InvalidValueError, match="to train for finetune, got frozen ones"):
        prune(model, x, budget=0.1, finetune=1)
    assert len(prune(model, x, budget=0.1).removed) > 0


def test_what_is_no_generator_is_refused(network, draw):
    with pytest.raises(InvalidValueError, match=r"generator as a torch\.Generator, got 5\. "):
        prune(network(), draw(), budget=0.1, generator=5)
