"""Edges whose function is known: they are what they say, and what counts as one is no cheat."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from benchmarks.symbolic.edges import (
    Truth,
    as_model,
    count_as_one,
    draw_truth,
    fitted_layer,
    spline_model,
)
from kanlens.symbolic._library import library

FAMILIES = library()
NAMES = [family.name for family in FAMILIES]
X = torch.linspace(-1.0, 1.0, 300, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def truth_of(*members):
    families = [FAMILIES[NAMES.index(name)] for name, _, _ in members]
    rows = [(a, b, 1.0, 0.0) for _, a, b in members]
    return Truth(families=tuple(families), parameters=torch.tensor(rows, dtype=torch.float64))


def test_every_family_has_members_that_are_defined_and_bend():
    truth = draw_truth(FAMILIES, 20, seeded())
    values = truth(X)
    assert [family.name for family in truth.families] == [n for n in NAMES for _ in range(20)]
    assert bool(torch.isfinite(values).all())
    line = torch.stack((torch.ones_like(X), X), dim=1)
    rest = values - line @ torch.linalg.lstsq(line, values).solution
    bend = (rest.square().mean(0) / values.var(0)).reshape(len(NAMES), 20)
    assert {NAMES[k] for k in (bend.amax(1) < 1e-9).nonzero()[:, 0]} == {"x"}
    assert float(bend[1:].min()) > 1e-4


def test_spline_follows_the_function_and_noise_is_as_large_as_said():
    truth = truth_of(("exp", 1.0, 0.0), ("sin", 3.0, 0.0))
    clean = spline_model(truth, 20, 0.0, seeded())
    assert_close(clean(X[:, None]), truth(X), atol=1e-4, rtol=0)
    long = truth_of(*[("sin", 3.0, 0.0)] * 100)
    noisy = spline_model(long, 20, 0.01, seeded()).layers[0].spline_weight
    plain = spline_model(long, 20, 0.0, seeded()).layers[0].spline_weight
    ratio = (noisy - plain).std() / plain.std(2).mean()
    assert_close(ratio, torch.tensor(0.01, dtype=torch.float64), rtol=0.1, atol=0)


def test_a_layer_is_fitted_on_the_range_of_each_input():
    x = torch.stack((X, 3 * X + 5), dim=1)
    y = torch.stack((torch.sin(x[:, 0]), x[:, 1] ** 2), dim=1)[:, None]
    model = as_model([fitted_layer(x, y, 20, 0.0, seeded())], seeded())
    assert_close(model(x), y.sum(2), atol=1e-5, rtol=0)


def same(truth, grid_size, noise):
    model = spline_model(truth, grid_size, noise, seeded())
    return count_as_one(truth, model, X[:, None], FAMILIES)


def test_without_noise_exact_functions_count_as_themselves_only():
    found = same(truth_of(("x^2", 1.0, -0.2), ("x^3", 1.0, 0.1), ("x", 1.0, 0.0)), 5, 0.0)
    assert found == [{"x^2"}, {"x^3"}, {"x"}]


def test_what_noise_hides_counts_as_one():
    truth = truth_of(("arctan", 0.15, 0.0), ("sin", 4.0, 0.3))  # the first is all but a line
    hidden, plain = same(truth, 5, 0.02)
    assert {"arctan", "x"} <= hidden
    assert plain == {"sin"}


def test_what_is_dearer_never_counts():
    """A sine of low frequency is a parabola, but a parabola named so is a mistake."""
    (found,) = same(truth_of(("x^2", 1.0, 0.0)), 5, 0.05)
    assert "x^2" in found
    own = FAMILIES[NAMES.index("x^2")]
    for name in found:
        other = FAMILIES[NAMES.index(name)]
        assert other.parameters <= own.parameters
        assert other.function.complexity <= own.function.complexity
