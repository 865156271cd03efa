"""Captum's traps, one by one."""

from __future__ import annotations

import re

import pytest
import torch

import kanlens
from kanlens.attribution import attribute
from kanlens.attribution.captum_methods import borrowed_randomness
from kanlens.errors import InvalidValueError, MethodError

SAMPLING = ("captum_shapley_value_sampling", "captum_kernel_shap")


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("shapley", 1e-12),
        ("secant", 1e-12),
        ("captum_deep_lift", 1e-12),
        ("captum_feature_ablation", 1e-12),
        ("captum_integrated_gradients", 1e-3),
        ("captum_shapley_value_sampling", 1e-5),
        ("captum_kernel_shap", 1e-4),
    ],
)
def test_on_one_layer_and_one_background_row_all_agree(method, tolerance, network, draw):
    model, x, row = network([4, 2]), draw(3, 4), draw(1, 4, seed=2)
    found = attribute(model, x, method=method, background=row, target=1)
    layer = model.layers[0]
    with torch.no_grad():
        change = layer.edge_values(model.scale_inputs(x)) - layer.edge_values(
            model.scale_inputs(row)
        )
    expected = change[:, 1] * model.output_scale[1]
    torch.testing.assert_close(found.values, expected, rtol=0, atol=tolerance)


def test_sampling_is_as_close_to_the_exact_values_as_it_says(network, draw):
    model, x, rows = network([3, 3, 1]), draw(3, 3), draw(5, 3, seed=2)
    exact = attribute(model, x, background=rows.mean(0, keepdim=True))
    g = torch.Generator().manual_seed(0)
    found = attribute(model, x, method=SAMPLING[0], background=rows, generator=g)
    assert found.standard_error.shape == x.shape
    distance = (found.values - exact.values).abs()
    assert bool((distance <= 5 * found.standard_error + 1e-6).all())
    assert 0 < float(found.standard_error.max()) < 0.3 * float(exact.values.abs().max())
    torch.testing.assert_close(found.reference, exact.reference)


def test_a_large_output_costs_kernel_shap_no_digits(network, draw):
    model, x, rows = network([3, 2, 1]), draw(2, 3), draw(2, 3, seed=2)
    found = []
    for shift in (0.0, 1e6):
        model.output_shift.fill_(shift)
        g = torch.Generator().manual_seed(0)
        found.append(attribute(model, x, method=SAMPLING[1], background=rows, generator=g).values)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", SAMPLING)
def test_generators_decide_the_draws(method, network, draw):
    model, x, rows = network([5, 3, 1]), draw(2, 5), draw(2, 5, seed=2)

    def values(generator):
        return attribute(
            model, x, method=method, background=rows, generator=generator, n_samples=10
        ).values

    seeded = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    first, same, other = (values(g) for g in seeded)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(values(seeded[0]), first)  # the generator has moved on
    assert torch.equal(values(None), values(None))  # torch's own has not


def test_parts_of_a_batch_get_the_same_orders(network, draw, monkeypatch):
    from kanlens.attribution import problem

    model, x, rows = network([3, 2, 1]), draw(3, 3), draw(2, 3, seed=2)
    options = {"method": SAMPLING[0], "background": rows, "n_samples": 5}
    found = []
    for budget in (2**22, 2 * 3 * 16 * 3):  # all at once, and two samples at once
        monkeypatch.setattr(problem, "BUDGET", budget)
        g = torch.Generator().manual_seed(0)
        found.append(attribute(model, x, generator=g, **options).values)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", [*SAMPLING, "captum_feature_ablation", "captum_deep_lift"])
def test_one_feature_gets_the_whole_change(method, network, draw):
    model, x, row = network([1, 2, 1]), draw(3, 1), draw(1, 1, seed=2)
    found = attribute(model, x, method=method, background=row)
    expected = found.output - found.reference
    torch.testing.assert_close(found.values[:, 0], expected, rtol=1e-6, atol=1e-7)


def test_more_steps_bring_integrated_gradients_closer(network, draw):
    model, x, rows = network([3, 4, 1]), draw(3, 3), draw(2, 3, seed=2)
    gaps = [
        float(
            attribute(model, x, method="captum_integrated_gradients", background=rows, n_steps=n)
            .completeness_gap.abs()
            .max()
        )
        for n in (5, 200)
    ]
    assert gaps[1] < gaps[0] / 20


def test_methods_run_where_gradients_are_off(network, draw):
    model, x, rows = network([3, 2, 1]), draw(2, 3), draw(2, 3, seed=2)
    expected = attribute(model, x, method="captum_integrated_gradients", background=rows)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            inside = x * 1
            found = attribute(
                model, inside, method="captum_integrated_gradients", background=rows * 1
            )
        torch.testing.assert_close(found.values, expected.values)


def test_randomness_is_given_back_after_an_error():
    before = torch.get_rng_state()
    g = torch.Generator().manual_seed(0)
    with pytest.raises(RuntimeError), borrowed_randomness(g, torch.device("cpu")):
        torch.rand(5)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (
            "captum_guided_backprop",
            "Captum returns the plain gradient of a model without ReLU",
        ),
        (
            "captum_deconvolution",
            "Captum returns the plain gradient of a model without ReLU",
        ),
        ("captum_lrp", "Captum has no rule for SiLU, nor for the edges of a KAN"),
    ],
)
def test_methods_that_say_nothing_are_refused_with_the_reason(method, reason, network, draw):
    text = f"attribute: expected a method that says something about a KAN, got {method!r}. "
    text += f"{reason}; use method='secant' or method='captum_deep_lift'."
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        attribute(network([2, 1]), draw(2, 2), method=method, background=draw(2, 2))


@pytest.mark.parametrize(
    ("method", "option", "value", "least"),
    [
        ("captum_integrated_gradients", "n_steps", 0, 1),
        ("captum_shapley_value_sampling", "n_samples", 4, 5),
        ("captum_kernel_shap", "n_samples", 2, 3),
    ],
)
def test_too_small_counts_are_refused(method, option, value, least, network, draw):
    text = f"attribute: expected {option} to be a whole number of at least {least}, "
    text += f"got {value}. Change it."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        attribute(
            network([2, 1]), draw(2, 2), method=method, background=draw(2, 2), **{option: value}
        )


@pytest.mark.parametrize(
    "method", ["captum_kernel_shap", "captum_shapley_value_sampling", "captum_feature_ablation"]
)
def test_a_feature_without_a_path_gets_exactly_nothing(method: str) -> None:
    model = kanlens.KAN([4, 3, 1], generator=torch.Generator().manual_seed(0)).double()
    model.layers[0].mask[:, 1] = 0
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = kanlens.attribute(model, x, method=method, background=x, progress=False)
    assert bool((found.values[:, 1] == 0).all())
    assert bool((found.values[:, [0, 2, 3]] != 0).all())
    if method != "captum_feature_ablation":
        assert found.completeness_gap.abs().max() < 1e-5
