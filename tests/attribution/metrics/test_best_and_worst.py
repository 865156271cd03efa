"""Every arrow points from explanations known to be bad to one known to be best."""

import itertools

import pytest
import torch

from kanlens.attribution.metrics import METRICS, removal_curve
from kanlens.attribution.metrics._quality import area_over
from tests.attribution.metrics import cases

X = cases.draw(8, 6)
ROWS = cases.draw(20, 6, seed=2)
BEST = cases.exact(X, ROWS)
WORSE = {
    "negated": -BEST,
    "permuted": BEST[:, [2, 3, 4, 5, 0, 1]],
    "constant": torch.full_like(BEST, 0.7),
    "random": 3 * cases.draw(8, 6, seed=3),
}


def value(name, values, **parts):
    exact = cases.attribution(BEST)
    found = cases.case(values, X, ROWS, exact=exact, **parts)
    return METRICS[name].function(found).value


# what the exact attribution of a weighted sum reaches, where there is a number for it
IDEAL = {
    "max_gap": 0.0,
    "relative_gap": 0.0,
    "shapley_error": 0.0,
    "shapley_rank": 1.0,
    "faithfulness_correlation": 1.0,
    "infidelity": 0.0,
}
BLIND = {  # to a change of places, of all signs, or to values that are all equal
    "max_gap": {"permuted"},
    "relative_gap": {"permuted"},
    "shapley_rank": {"constant"},
    "faithfulness_correlation": {"constant"},
}


@pytest.mark.parametrize("name", IDEAL)
def test_exact_values_of_a_weighted_sum_are_best(name):
    assert value(name, BEST) == pytest.approx(IDEAL[name], abs=1e-12)
    sign = {"higher": 1, "lower": -1}[METRICS[name].direction]
    for label, values in WORSE.items():
        if label not in BLIND.get(name, ()):
            assert sign * (value(name, BEST) - value(name, values)) > 0.02, label


def by_weight(reverse: bool) -> torch.Tensor:
    """Values that rank the features by their weight, or the other way round."""
    ranks = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    return (ranks.flip(0) if reverse else ranks).expand(8, 6)


@pytest.mark.parametrize("name", ["pgi", "pgu"])
def test_moving_the_heaviest_features_matters_most(name):
    even = torch.cat([ROWS, -ROWS])  # so that all features have the same range, about
    scale = even.amax(0) - even.amin(0)
    x, rows = X / scale, even / scale
    found = []
    for reverse in (False, True):
        judged = cases.case(by_weight(reverse), x, rows)
        found.append(METRICS[name].function(judged).value)
    sign = {"higher": 1, "lower": -1}[METRICS[name].direction]
    assert sign * (found[0] - found[1]) > 0.05


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_no_order_beats_the_exact_one_in_area(name):
    x, rows = X[:3, :4], ROWS[:, :4]
    best = METRICS[name].function(cases.case(cases.exact(x, rows), x, rows)).rows
    worst = METRICS[name].function(cases.case(-cases.exact(x, rows), x, rows)).rows
    areas = []
    for places in itertools.permutations(range(4)):
        order = torch.tensor(places).expand(3, 4)
        curve = removal_curve(cases.linear, x, order, rows, insert=name == "insertion")
        areas.append(area_over(curve) * (1 if name == "insertion" else -1))
    areas = torch.stack(areas)
    torch.testing.assert_close(best, areas.amax(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(worst, areas.amin(0), rtol=1e-12, atol=1e-12)
    assert METRICS[name].direction == "higher"
    assert bool((best > worst).all())


def test_a_jumpy_method_is_less_stable(network):
    metric = METRICS["max_sensitivity"]
    model = network([4, 3, 1])
    x = cases.inside(model, 6)
    calm = cases.network_case(model, x, x)

    def jumpy(other, points):
        return calm.method_on(other, points) * (1 + 0.5 * torch.sin(1e5 * points))

    def fixed(other, points):
        return torch.ones_like(points)

    values = jumpy(calm.model, x)
    found = {"calm": metric.function(calm).value}
    for label, method_on in (("jumpy", jumpy), ("fixed", fixed)):
        values = cases.attribution(method_on(calm.model, x), x=x)
        judged = cases.case_for(model, values, background=x, method_on=method_on)
        found[label] = metric.function(judged).value
    assert metric.direction == "lower"
    assert found["fixed"] == 0.0
    assert found["jumpy"] > 2 * found["calm"] > 0.0


def test_a_method_that_does_not_see_the_model_fails_randomization(network):
    model = network([6, 4, 1])
    x = cases.inside(model, 8)
    seeing = METRICS["mprt"].function(cases.network_case(model, x, x)).value
    blind = cases.case_for(
        model, cases.attribution(x, x=x), background=x, method_on=lambda _, points: points
    )
    assert METRICS["mprt"].function(blind).value == pytest.approx(1.0)
    assert METRICS["mprt"].direction == "lower"
    assert seeing < 0.8


def test_a_dead_feature_must_have_no_value(network):
    model = network([3, 2, 1])
    with torch.no_grad():
        model.layers[0].mask[:, 1] = 0
    x = cases.inside(model, 4)
    found = cases.network_case(model, x, x)
    assert METRICS["dummy"].function(found).value == 0.0
    broken = cases.attribution(found.values + torch.tensor([0.0, -0.3, 0.0]), x=x)
    assert METRICS["dummy"].function(cases.case_for(model, broken)).value == pytest.approx(0.3)
    assert METRICS["dummy"].direction == "lower"


def test_every_arrow_is_tested():
    tested = {*IDEAL, "dummy", "pgi", "pgu", "deletion", "insertion", "max_sensitivity", "mprt"}
    assert tested == {name for name, metric in METRICS.items() if metric.direction != "none"}
