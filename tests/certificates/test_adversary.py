"""No claim of any certificate is broken, and the adversary does break claims that are wrong."""

from dataclasses import replace

import pytest
import torch

from benchmarks.attribution.adversary import broken
from benchmarks.attribution.random_networks import random_model
from kanlens.certificates._certify import certify
from kanlens.certificates._statements import Bound, Certificate
from kanlens.model._network import KAN


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.slow  # divides many boxes
@pytest.mark.usefixtures("few_points")
@pytest.mark.parametrize("seed", (*range(5), 10))
def test_no_claim_is_broken(seed):
    model, domain = random_model(seed)
    certificate = certify(model, domain, max_boxes=100)
    names, attempts = broken(model, certificate, seeded(seed), 200)
    assert names == []
    assert attempts > 500


@pytest.fixture(scope="module")
def rising() -> tuple[KAN, Certificate]:
    """An additive model that rises in every feature: corners are its extremes."""
    model = KAN([2, 1], base_activation="zero", spline_order=1, generator=seeded()).double()
    with torch.no_grad():
        layer = model.layers[0]
        layer.spline_scaler.fill_(1.0)
        layer.spline_weight.copy_(torch.linspace(-1, 1, 6).double().expand(1, 2, 6))
    domain = torch.tensor([[-1.0, 1.0]] * 2).double()
    certificate = certify(model, domain)
    assert broken(model, certificate, seeded(1), 500)[0] == []
    return model, certificate


def shrunk(bound: Bound) -> Bound:
    return replace(bound, bound=bound.bound * (1 - 1e-6))


def test_a_range_that_is_too_narrow_by_a_millionth_is_broken(rising):
    model, certificate = rising
    claim = certificate.outputs[0]
    width = claim.range.high - claim.range.low
    for change in (
        {"high": claim.range.high - 1e-6 * width},
        {"low": claim.range.low + 1e-6 * width},
    ):
        wrong = replace(claim, range=replace(claim.range, **change))
        assert "range" in attacked(model, certificate, wrong)


def test_a_slope_effect_or_constant_that_is_too_small_by_a_millionth_is_broken(rising):
    model, certificate = rising
    claim = certificate.outputs[0]
    first = claim.features[0]
    steep = replace(first.slope, high=first.slope.high * (1 - 1e-6))
    for name, feature in (
        ("slope", replace(first, slope=steep)),
        ("rises x1", replace(first, rises=shrunk(first.rises))),
        ("decreasing x1", replace(first, verdict="decreasing")),
        ("constant x1", replace(first, verdict="constant")),
    ):
        wrong = replace(claim, features=(feature, claim.features[1]))
        assert name in attacked(model, certificate, wrong)
    for norm in ("2", "inf", "1"):
        wrong = replace(claim, lipschitz={**claim.lipschitz, norm: shrunk(claim.lipschitz[norm])})
        assert f"gradient {norm}" in attacked(model, certificate, wrong)


@pytest.mark.slow  # proves bounds
def test_an_interaction_that_is_denied_is_broken():
    model = KAN([2, 4, 1], scale_noise=3.0, generator=seeded()).double()
    certificate = certify(model, torch.tensor([[-1.0, 1.0]] * 2), max_boxes=200)
    claim = certificate.outputs[0]
    near = replace(claim.additivity, distance=Bound(bound=claim.additivity.least / 4, seen=0.0))
    names = attacked(model, certificate, replace(claim, additivity=near))
    assert {"additivity", "additivity by mixed differences"} <= set(names)


def test_pairs_that_were_not_evaluated_are_refused(rising):
    model, certificate = rising
    claim = certificate.outputs[0]
    first = claim.features[0]
    moved = replace(first.rise, x=first.rise.x + torch.tensor([[0.0, 0.1], [0.0, 0.0]]))
    wrong = replace(claim, features=(replace(first, rise=moved), claim.features[1]))
    assert "pairs x1" in attacked(model, certificate, wrong)


def attacked(model: KAN, certificate: Certificate, wrong: object) -> list[str]:
    return broken(model, replace(certificate, outputs=(wrong,)), seeded(1), 500)[0]
