"""What is left makes up for what went: least squares, kept where it helps, and training."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.model.recording import store_statistics
from kanlens.pruning.cutting import hold_out
from kanlens.pruning.propagation import RIDGE, covariance, factors_for
from kanlens.pruning.removal import Tuner
from kanlens.training.objective import task_loss
from tests.made import draw as drawn
from tests.made import made

Build = Callable[..., kanlens.KAN]
Draw = Callable[..., Tensor]


def prune(model: kanlens.KAN, x: Any, y: Any = None, **options: Any) -> kanlens.PruneResult:
    return kanlens.prune(model, x, y, progress=False, **options)


def noisy(model: kanlens.KAN, x: Tensor, size: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        y = model(x)
    return y + size * y.std(0) * torch.randn(y.shape, generator=generator, dtype=y.dtype)


def blended(draw: Draw, rows: int = 200) -> Tensor:
    """Three columns that go along with each other."""
    x = draw(rows)
    x[:, 1] = 0.9 * x[:, 0] + 0.1 * x[:, 1]
    return x


def fitted(lost: Tensor, left: Tensor) -> Tensor:
    """The factors from covariances that are merged from two parts of the rows."""
    values = torch.cat([left, lost[:, None]], dim=1)
    return factors_for(covariance([values[:17], values[17:]]))


def test_factors_solve_the_ridge_problem(draw: Draw) -> None:
    left, lost = draw(100) * torch.tensor([1.0, 100.0, 0.01]), draw(100, 1, seed=4)[:, 0]
    lost = lost + 0.7 * left[:, 0] + 0.02 * left[:, 1] + 5
    factors = fitted(lost, left)
    centred = (left - left.mean(0)).numpy()
    sizes = centred.std(0)
    rows = np.vstack([centred / sizes / 10, np.sqrt(RIDGE) * np.eye(3)])  # 10 = sqrt(100)
    right = np.concatenate([(lost - lost.mean()).numpy() / 10, np.zeros(3)])
    change = np.linalg.lstsq(rows, right, rcond=None)[0] / sizes
    np.testing.assert_allclose(factors.numpy(), 1 + change, rtol=1e-9)
    assert abs(float(factors[0]) - 1.7) < 0.2


def test_twins_share_and_flat_edges_are_left_alone() -> None:
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)
    factors = fitted(x, torch.stack([x, x, 1e-9 * x, torch.ones_like(x)], dim=1))
    assert_close(factors[0], factors[1])
    assert_close(factors, torch.tensor([1.5, 1.5, 1.0, 1.0]).double(), rtol=0, atol=1e-3)
    assert fitted(x, torch.ones(50, 2).double()).tolist() == [1.0, 1.0]


def test_a_twin_makes_up_for_an_edge(network: Build, draw: Draw) -> None:
    """One column twice, the same function on both: one edge does the work of two."""
    model, x = network((2, 1)), draw(100, 2)
    x[:, 1] = x[:, 0]
    model.input_shift[1], model.input_scale[1] = model.input_shift[0], model.input_scale[0]
    with torch.no_grad():
        for name in ("base_weight", "spline_weight", "spline_scaler"):
            getattr(model.layers[0], name)[0, 1] = getattr(model.layers[0], name)[0, 0]
        before = model(x)
    assert prune(model, x, budget=0.01).removed == ()
    result = prune(model, x, budget=0.01, compensate=True)
    assert result.edges_after == 1
    assert result.loss_after < 1e-5
    assert_close(result.model(x[:, [0]]), before, rtol=0, atol=1e-2 * float(before.std()))


@pytest.mark.parametrize("score", ["l1", "damage"])
def test_compensation_is_kept_only_where_the_loss_falls(
    network: Build, draw: Draw, score: str
) -> None:
    model, x = network((3, 4, 1)), blended(draw)
    y = noisy(model, x)
    plain = prune(model, x, y, threshold=0.6, score=score)
    made_up = prune(model, x, y, threshold=0.6, score=score, compensate=True)
    assert [r["name"] for r in made_up.removed] == [r["name"] for r in plain.removed]
    helped = 0
    for record in made_up.removed:
        then = made_up.at(record["step"])
        alone = copy.deepcopy(then)
        index, out, in_ = record["layer"], record["out"], record["in"]
        hidden = kanlens.trace(then, x).inputs[index]
        with torch.no_grad():
            values = alone.layers[index].edge_values(hidden)[:, out, in_]
            alone.layers[index].mask[out, in_] = 0
            alone.layers[index].bias[out] += values.mean()
            loss = float(task_loss(alone, alone(x), y))
        assert record["loss_after"] <= loss * (1 + 1e-10)
        helped += record["loss_after"] < loss * (1 - 1e-6)
    assert helped > 0
    assert made_up.loss_after < plain.loss_after


def test_factors_that_do_not_help_are_dropped(
    network: Build, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = network((3, 4, 1)), blended(draw)
    y = noisy(model, x)
    plain = prune(model, x, y, budget=2.0)
    monkeypatch.setattr("kanlens.pruning.removal.factors_for", lambda s: 9.0 + 0 * s[0, 1:])
    result = prune(model, x, y, budget=2.0, compensate=True)
    assert [r["name"] for r in result.removed] == [r["name"] for r in plain.removed]
    assert_close(dict(result.model.state_dict()), dict(plain.model.state_dict()), rtol=0, atol=0)


def test_a_budget_holds_with_compensation_and_mostly_goes_further(
    network: Build, draw: Draw
) -> None:
    left: dict[bool, list[int]] = {False: [], True: []}
    for seed in range(6):
        model, x = network((3, 5, 2), seed=seed), blended(draw)
        y = noisy(model, x, 0.5)
        for compensate, edges in left.items():
            result = prune(model, x, y, budget=0.5, compensate=compensate)
            assert result.loss_after <= 1.5 * result.loss_before * (1 + 1e-12)
            edges.append(result.edges_after)
    assert sum(left[True]) < sum(left[False])


def test_compensation_of_factors_and_functions(with_functions: Callable[[], kanlens.KAN]) -> None:
    for model in (
        made([3, (1, [2, 3]), 2]),
        made([3, (1, 2), 2], functions=True),
        with_functions(),
    ):
        x = drawn(80, 3)
        x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
        result = prune(model, x, budget=0.5, compensate=True)
        assert result.edges_after < result.edges_before
        kept = [model.feature_names.index(name) for name in result.model.feature_names]
        with torch.no_grad():
            before, after = model(x), result.model(x[:, kept])
        change = ((after - before).square().mean(0) / before.var(0, correction=0)).mean()
        assert_close(float(change), result.loss_after, rtol=1e-9, atol=1e-15)
        assert result.loss_after <= 0.5


def test_tuning_goes_further_within_the_same_budget(network: Build, draw: Draw) -> None:
    model, x = network((3, 4, 1)), blended(draw, 300)
    y = noisy(model, x)
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


def test_tuning_is_the_same_from_the_same_seed_and_needs_no_statistics(
    network: Build, draw: Draw
) -> None:
    model, x = network((3, 4, 1)), draw(100)
    y = noisy(model, x)
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


def test_tuning_without_y_teaches_what_the_model_said(network: Build, draw: Draw) -> None:
    model, x = network((3, 4, 1)), draw(200)
    generator = torch.Generator().manual_seed(0)
    plain = prune(model, x, threshold=0.5)
    result = prune(model, x, threshold=0.5, finetune=3, generator=generator)
    assert result.tuned
    assert result.loss_after < 0.6 * plain.loss_after


def test_training_that_does_not_help_is_dropped(network: Build, draw: Draw) -> None:
    model, x = network((3, 4, 1)), draw(100)
    with torch.no_grad():
        y = model(x)
    held_out = hold_out(100, torch.Generator().manual_seed(0))
    tuner = Tuner(x, y, held_out, 2)
    kept, loss = tuner.tuned(model, lambda found: 1.0 if found is model else 1.0 + 1e-9)
    assert kept is model
    assert loss == 1.0
    kept, loss = tuner.tuned(model, lambda found: 1.0 if found is model else 0.5)
    assert kept is not model
    assert loss == 0.5
    with torch.no_grad():
        model.layers[0].bias.fill_(float("inf"))  # training cannot start
    assert tuner.tuned(model, lambda _: 1.0)[0] is model


def test_a_budget_of_zero_neither_makes_up_nor_trains(network: Build, draw: Draw) -> None:
    model, x = network((3, 4, 1)), draw(50)
    result = prune(model, x, noisy(model, x), budget=0, compensate=True, finetune=5)
    assert_close(dict(result.model.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    assert result.tuned == result.removed == ()


def test_tuning_that_cannot_be_is_refused(network: Build, draw: Draw) -> None:
    model, x = network((3, 1)), draw()
    text = "prune: expected at least 5 rows for finetune, got 4. Pass more rows, or finetune=0."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        prune(model, x[:4], budget=0.1, finetune=1)
    labels = ["a" if value > 0 else "b" for value in x[:, 0]]
    kanlens.fit(model, (x, labels), steps=1, progress=False, generator=torch.Generator())
    text = "prune: expected y for finetune of a classifier, got none. Pass targets, or finetune=0."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        prune(model, x, budget=0.1, finetune=1)
    generator = torch.Generator().manual_seed(0)
    result = prune(model, x, labels, budget=0.5, finetune=1, generator=generator)
    assert result.loss_after <= 1.5 * result.loss_before


def test_a_frozen_network_is_not_tuned(network: Build, draw: Draw) -> None:
    model, x = network().requires_grad_(False), draw()
    text = (
        "prune: expected parameters to train for finetune, got frozen ones. "
        "Unfreeze them, or pass finetune=0."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        prune(model, x, budget=0.1, finetune=1)
    assert len(prune(model, x, budget=0.1).removed) > 0


def test_what_is_no_generator_is_refused(network: Build, draw: Draw) -> None:
    text = "prune: expected generator as a torch.Generator, got 5. "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        prune(network(), draw(), budget=0.1, generator=5)
