"""Metrics on numbers small enough to check by hand, and what all of them promise."""

import dataclasses
import math

import pytest
import torch
from scipy.stats import entropy, spearmanr
from torch.testing import assert_close

from kanlens.attribution._problem import Baseline
from kanlens.attribution.metrics import (
    METRICS,
    Case,
    case_for,
    gini_index,
    rank_agreement,
    share_entropy,
)
from kanlens.attribution.metrics import _evaluation as evaluation
from tests.attribution.metrics import cases
from tests.made import made

DRAWN = ["pgi", "pgu", "max_sensitivity"]


def make(values, output=None, reference=0.0):
    output = None if output is None else torch.tensor(output, dtype=torch.float64)
    values = torch.tensor(values, dtype=torch.float64)
    found = cases.attribution(values, output)
    return dataclasses.replace(found, reference=torch.full_like(found.output, reference))


def score(name, found, exact=None):
    return METRICS[name].function(Case(attribution=found, exact=exact)).value


def test_gaps():
    found = make([[1.0, 2.0], [0.0, 1.0]], output=[5.0, 1.0], reference=1.0)
    assert found.completeness_gap.tolist() == [1.0, -1.0]
    numbers = {name: score(name, found) for name in METRICS}
    assert numbers["max_gap"] == 1.0
    assert numbers["relative_gap"] == 2 / 4
    rows = METRICS["relative_gap"].function(Case(attribution=found)).rows
    assert rows.tolist() == pytest.approx([1 / 4.002, 1 / 0.002])
    assert math.isnan(numbers["shapley_error"])
    assert math.isnan(numbers["shapley_rank"])


def test_a_gap_next_to_no_change():
    assert score("relative_gap", make([[0.0, 0.0]])) == 0.0
    assert score("relative_gap", make([[1.0, 0.0]], output=[0.0])) == math.inf


def test_rank_agreement_is_scipys_and_leaves_out_rows_without_ranks(draw):
    a, b = draw(6, 5), draw(6, 5, seed=2)
    a[0, :2] = a[0, 2]  # ties
    expected = sum(spearmanr(a[i], b[i]).statistic for i in range(6)) / 6
    assert rank_agreement(a, b) == pytest.approx(expected, abs=1e-12)
    assert (rank_agreement(a, a), rank_agreement(a, -a)) == (1.0, -1.0)
    flat, rising = torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 3.0]])
    assert math.isnan(rank_agreement(flat, rising))
    assert rank_agreement(torch.cat([flat, rising]), rising.repeat(2, 1)) == 1.0
    assert math.isnan(rank_agreement(torch.ones(2, 1), torch.ones(2, 1)))


def test_entropy_is_scipys(draw):
    values = draw(5, 6)
    expected = torch.tensor([entropy(row) for row in values.abs().numpy()])
    assert_close(share_entropy(values), expected, rtol=1e-12, atol=1e-12)
    effective = METRICS["effective_features"].function(Case(attribution=cases.attribution(values)))
    assert_close(effective.rows, expected.exp(), rtol=1e-12, atol=1e-12)
    assert bool(share_entropy(torch.zeros(1, 3)).isnan().all())


def test_gini_is_the_mean_difference(draw):
    values = draw(4, 5)
    sizes = values.abs()
    pairs = (sizes[:, :, None] - sizes[:, None]).abs().mean((1, 2))
    assert_close(gini_index(values), pairs / (2 * sizes.mean(1)), rtol=1e-12, atol=1e-12)


# --- what every metric promises -----------------------------------------------------------------


@pytest.fixture
def whole(network):
    """A case that holds all that any metric needs, with a dead feature."""
    model = network([4, 3, 2])
    with torch.no_grad():
        model.layers[0].mask[:, 2] = 0
    x, rows = cases.inside(model, 6), cases.inside(model, 5, seed=2)
    found = cases.network_case(model, x, rows, target=1)
    return dataclasses.replace(found, exact=found.attribution)


def state() -> list[object]:
    return [torch.get_rng_state().tolist(), torch.get_num_threads(), torch.is_grad_enabled()]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_a_number_a_sample_and_draws_repeat(name, whole):
    generator = torch.Generator().manual_seed(7)
    before, start = state(), generator.get_state()
    found = METRICS[name].function(dataclasses.replace(whole, generator=generator))
    assert state() == before
    again = METRICS[name].function(dataclasses.replace(whole, generator=generator))
    assert torch.equal(found.rows, again.rows)
    assert torch.equal(generator.get_state(), start)
    if name in (*DRAWN, "mprt"):
        assert not torch.equal(METRICS[name].function(whole).rows, found.rows)
    assert found.rows.shape == (6,)
    assert found.rows.dtype == torch.float64
    assert bool(torch.isfinite(found.rows).all())
    assert math.isfinite(found.value)
    if name not in ("relative_gap", "shapley_error"):  # ratios of sums
        largest = name in ("max_gap", "dummy")
        expected = found.rows.max() if largest else found.rows.mean()
        assert found.value == pytest.approx(float(expected), abs=1e-12)


def strange(network) -> dict[str, Case]:
    """Legal attributions that leave metrics little to work with."""
    model = network([3, 2, 1])
    x, rows = cases.inside(model, 3), cases.inside(model, 4, seed=2)
    usual = cases.network_case(model, x, rows)
    zero = dataclasses.replace(usual.attribution, values=torch.zeros_like(x))
    flat = network([3, 2, 1])
    with torch.no_grad():
        flat.layers[1].mask.zero_()
    narrow = network([1, 2, 1])
    one = cases.inside(narrow, 3)
    found = {
        "zero": dataclasses.replace(usual, attribution=zero, exact=zero),
        "constant output": cases.network_case(flat, x, rows),
        "one feature": cases.network_case(narrow, one, one),
        "one row": cases.network_case(model, x[:1], rows[:1]),
        "the row itself": cases.network_case(model, x[:1], x[:1]),
        "no background": dataclasses.replace(usual, background=None),
        "nothing else": Case(attribution=usual.attribution),
        "columns": dataclasses.replace(
            usual, attribution=dataclasses.replace(usual.attribution, x=None)
        ),
        "far outside": cases.network_case(model, x + 50, rows),
        "all far outside": cases.network_case(model, x + 50, rows - 70),
    }
    for baseline in (Baseline.MEAN_ROW, Baseline.ZERO, "something else"):
        changed = dataclasses.replace(usual.attribution, baseline=baseline)
        found[baseline] = dataclasses.replace(usual, attribution=changed)
    return found


@pytest.mark.slow  # takes a while
def test_no_legal_attribution_stops_a_metric(network):
    for label, found in strange(network).items():
        for name, metric in METRICS.items():
            made = metric.function(found)
            assert made.rows.shape == (len(found.values),), (label, name)
            assert isinstance(made.value, float), (label, name)


def test_what_is_missing_is_nan(network):
    found = strange(network)
    for name, metric in METRICS.items():
        alone = metric.function(found["nothing else"])
        assert math.isnan(alone.value) == bool(metric.needs), name
    for name in ("max_sensitivity", "effective_features", "shapley_rank", "infidelity"):
        value = METRICS[name].function(found["zero"]).value
        assert math.isnan(value) == (name != "infidelity"), name
    assert math.isnan(METRICS["infidelity"].function(found["constant output"]).value)
    for name in ("faithfulness_correlation", "shapley_rank"):
        assert math.isnan(METRICS[name].function(found["one feature"]).value)


@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ([3, (2, 1), 1], {}),
        ([3, 2, (1, [2])], {"extrapolation": "zero"}),
        ([3, 2], {"spline_order": 1, "grid_size": 2}),
        ([2, 2, 2, 1], {"spline_order": 5}),
        ([2, 2, 1], {"functions": True}),
    ],
)
def test_every_kind_of_network(network, widths, options):
    model = made(widths, **options) if "functions" in options else network(widths, **options)
    x, rows = cases.inside(model, 3), cases.inside(model, 4, seed=2)
    found = cases.network_case(model, x, rows)
    found = dataclasses.replace(found, exact=found.attribution)
    for name, metric in METRICS.items():
        assert math.isfinite(metric.function(found).value), name


def test_a_float32_model_is_judged_in_float64(network):
    model = network([3, 2, 1]).float()
    x = cases.inside(model, 4)
    found = cases.network_case(model.double(), x, x)
    single = dataclasses.replace(
        found.attribution, values=found.values.float(), x=x.float(), output=linear_output(model, x)
    )
    judged = case_for(model.float(), single, background=x.float())
    for name in ("infidelity", "pgi", "deletion", "gini"):
        theirs = METRICS[name].function(judged).rows
        assert theirs.dtype == torch.float64
        assert_close(theirs, METRICS[name].function(found).rows, rtol=1e-3, atol=1e-4)


def linear_output(model, x):
    return model(x.to(model.dtype))[:, 0].detach().float()


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_samples_may_be_judged_a_few_at_a_time(name, network, monkeypatch):
    model = network([3, 2, 1])
    x, rows = cases.inside(model, 11), cases.inside(model, 4, seed=2)
    exact = cases.network_case(model, x, rows).attribution
    values = exact.values + 0.1 * cases.draw(*exact.values.shape)
    found = dataclasses.replace(exact, values=values)

    def judged():
        case = cases.network_case(model, x, rows)
        return METRICS[name].function(dataclasses.replace(case, attribution=found, exact=exact))

    sizes, whole = [], judged()
    monkeypatch.setattr(evaluation, "BUDGET", 60)
    monkeypatch.setattr(evaluation, "PART", 2)
    whole_slices = evaluation.slices
    monkeypatch.setattr(
        evaluation, "slices", lambda *work: sizes.append(work) or whole_slices(*work)
    )
    parts = judged()
    assert bool(sizes) == (name not in ("max_gap", "relative_gap"))
    assert parts.rows.shape == whole.rows.shape == (11,)
    if name in DRAWN:  # a draw for each part
        assert_close(parts.rows.isnan(), whole.rows.isnan())
        usual = whole.rows.nanmedian()
        assert_close(parts.rows.nanmedian(), usual, rtol=0.3, atol=0.0)
    else:
        assert_close(parts.rows, whole.rows, rtol=1e-10, atol=1e-12, equal_nan=True)
        assert parts.value == pytest.approx(whole.value, rel=1e-10, nan_ok=True)


def test_the_table_is_complete():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.direction in ("higher", "lower", "none")
        assert metric.needs <= {"exact", "model", "method"}
        assert metric.summary
        assert metric.reference
        assert metric.needs_exact == ("exact" in metric.needs)
    assert METRICS["shapley_error"].arrow == "↓"
    assert METRICS["gini"].arrow == ""
