"""Every metric against a slow version written from its definition."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from torch.testing import assert_close

from kanlens.attribution.metrics import (
    METRICS,
    area_over,
    change_area,
    gini_index,
    infidelity,
    max_sensitivity,
    pairwise_rank_agreement,
    parameter_randomization,
    prediction_gap,
    rank_correlation,
    relative_l1,
    relative_stability,
    removal_curve,
    removal_infidelity,
    share_entropy,
    sign_match,
    spearman,
    subset_correlation,
    top_agreement,
)
from kanlens.attribution.metrics.faithfulness import removal_masks
from kanlens.attribution.metrics.points import copied_generator, normal, subsets, without
from kanlens.attribution.metrics.rankings import average_ranks, correlation, count_of, dense_ranks
from kanlens.attribution.metrics.stability import NEAR, attributed, mover
from tests.attribution.metrics import cases

X, ROWS, A = cases.draw(4, 5), cases.draw(3, 5, seed=2), cases.draw(4, 5, seed=3)
MASKS = torch.tensor(list(itertools.product([False, True], repeat=5)))[1:]


def curved(x):
    return x[:, 0] * x[:, 1] + x[:, 2].sin() + x[:, 3] ** 2 - x[:, 4]


def removed(b, members):
    """Mean output over the rows with some features of a sample replaced."""
    total = 0.0
    for row in ROWS:
        mixed = X[b].clone()
        for i in members:
            mixed[i] = row[i]
        total += float(curved(mixed[None])[0]) / len(ROWS)
    return total


def members(mask):
    return [i for i in range(5) if mask[i]]


def changes(b):
    return [float(curved(X[b][None])[0]) - removed(b, members(mask)) for mask in MASKS]


def sums(b):
    return [sum(float(A[b, i]) for i in members(mask)) for mask in MASKS]


def close(found, expected):
    expected = torch.tensor(expected, dtype=found.dtype)
    assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_removal():
    expected = [[removed(b, members(mask)) for mask in MASKS] for b in range(4)]
    close(without(curved, X, MASKS, ROWS), expected)


def test_removal_in_parts(monkeypatch):
    whole = without(curved, X, MASKS, ROWS)
    for budget in (1, 16 * 5 * 31, 16 * 5 * 31 * 2, 16 * 5 * 31 * 7):
        monkeypatch.setattr("kanlens.attribution.metrics.points.BUDGET", budget)
        assert_close(without(curved, X, MASKS, ROWS), whole, rtol=1e-13, atol=1e-13)


def test_subset_correlation():
    expected = [pearsonr(sums(b), changes(b)).statistic for b in range(4)]
    close(subset_correlation(curved, X, A, MASKS, ROWS), expected)


@pytest.mark.parametrize("scaled", [False, True])
def test_removal_infidelity(scaled):
    expected = []
    for b in range(4):
        said, change = np.array(sums(b)), np.array(changes(b))
        beta = (said * change).mean() / (said**2).mean() if scaled else 1.0
        expected.append(((beta * said - change) ** 2).mean())
    close(removal_infidelity(curved, X, A, MASKS, ROWS, scaled=scaled), expected)


def test_scaling_is_the_best_one():
    errors = [removal_infidelity(curved, X, s * A, MASKS, ROWS) for s in np.linspace(-3, 3, 601)]
    best = torch.stack(errors).amin(0)
    found = removal_infidelity(curved, X, A, MASKS, ROWS, scaled=True)
    assert bool((found <= best + 1e-12).all())
    assert_close(found, best, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("important", [True, False])
@pytest.mark.parametrize("area", [True, False])
def test_prediction_gap(important, area):
    moved = X + 0.3 * cases.draw(7, 4, 5, seed=4)

    def gap(b, k):
        chosen = sorted(range(5), key=lambda i: -abs(float(A[b, i])))[:k]
        if not important:
            chosen = [i for i in range(5) if i not in chosen]
        total = 0.0
        for point in moved[:, b]:
            mixed = X[b].clone()
            mixed[chosen] = point[chosen]
            total += abs(float(curved(mixed[None])[0] - curved(X[b][None])[0])) / 7
        return total

    expected = []
    for b in range(4):
        curve = [gap(b, k) for k in (1, 2, 3)]
        expected.append(np.trapezoid(curve, [0, 0.5, 1]) if area else curve[2])
    options = {"share": 0.6, "area": area, "important": important}
    close(prediction_gap(curved, X, A, moved, **options), expected)


@pytest.mark.parametrize("insert", [False, True])
def test_curves(insert):
    order = A.argsort(1)
    expected = []
    for b in range(4):
        first = [order[b, :k].tolist() for k in range(6)]
        gone = [[i for i in range(5) if i not in part] for part in first] if insert else first
        expected.append([removed(b, part) for part in gone])
    curve = removal_curve(curved, X, order, ROWS, insert=insert)
    close(curve, expected)
    place = np.linspace(0, 1, 6)
    lines = [row[0] + (row[-1] - row[0]) * place for row in expected]
    areas = [np.trapezoid(row - line, place) for row, line in zip(expected, lines, strict=True)]
    close(area_over(curve), areas)
    sizes = [np.trapezoid(abs(np.array(row) - row[0]), place) for row in expected]
    close(change_area(curve), sizes)


def test_relative_stability():
    moved, theirs = X + 0.1 * cases.draw(3, 4, 5, seed=5), A + 0.1 * cases.draw(3, 4, 5, seed=6)
    floor = torch.full((5,), 0.4, dtype=torch.float64)
    expected = np.zeros((3, 4))
    for s, b in itertools.product(range(3), range(4)):
        least = 1e-3 * max(abs(float(v)) for v in A[b])
        above = below = 0.0
        for i in range(5):
            above += float((theirs[s, b, i] - A[b, i]) / max(abs(float(A[b, i])), least)) ** 2
            below += float((moved[s, b, i] - X[b, i]) / max(abs(float(X[b, i])), 0.4)) ** 2
        expected[s, b] = math.sqrt(above) / math.sqrt(below)
    close(relative_stability(A, theirs, X, moved, floor), expected.tolist())


def test_relative_stability_of_zeros():
    zero = torch.zeros(1, 2, dtype=torch.float64)
    found = relative_stability(zero, zero[None] + 1, zero, zero[None], torch.zeros(2))
    assert bool(found.isnan().all())
    some = torch.tensor([[0.0, 2.0]], dtype=torch.float64)  # a zero that stays does no harm
    moved = torch.tensor([[[0.0, 3.0]]], dtype=torch.float64)
    found = relative_stability(some, moved, some, moved, torch.zeros(2))
    assert found.tolist() == [[1.0]]


def test_max_sensitivity():
    def method(x):
        return torch.stack([x[:, 0] ** 2, x[:, 1] * x[:, 2], x[:, 1]], 1)

    x = X[:, :3]
    moved = x + 0.1 * cases.draw(6, 4, 3, seed=5)
    expected = []
    for b in range(4):
        here = method(x[b : b + 1])[0]
        far = max(math.dist(here, method(point[b : b + 1])[0]) for point in moved)
        expected.append(far / math.hypot(*here))
    close(max_sensitivity(method, x, method(x), moved), expected)


def test_randomization_starts_with_the_last_layer(network):
    model = network([3, 4, 2, 1])
    seen = []

    def method_on(other, x):
        seen.append(
            [
                bool((ours.spline_weight == theirs.spline_weight).all())
                for ours, theirs in zip(model.layers, other.layers, strict=True)
            ]
        )
        return x

    x = cases.draw(2, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = parameter_randomization(method_on, model, x, x, torch.Generator().manual_seed(0))
    assert seen == [[True, True, False], [True, False, False], [False, False, False]]
    assert found.shape == (3, 2)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


# --- rankings ------------------------------------------------------------------------------------

B = cases.draw(6, 7, seed=8).round(decimals=0)  # with ties
C = cases.draw(6, 7, seed=9).round(decimals=0)


def test_ranks_are_scipys():
    close(average_ranks(B), rankdata(B, axis=1).tolist())
    dense = rankdata(-B.abs(), method="dense", axis=1)
    assert dense_ranks(B).tolist() == dense.tolist()
    close(spearman(B, C), [spearmanr(b, c).statistic for b, c in zip(B, C, strict=True)])


def test_size_ranks_are_correlated():
    ranks = [rankdata(-part.abs(), method="dense", axis=1) for part in (B, C)]
    expected = [pearsonr(b, c).statistic for b, c in zip(*ranks, strict=True)]
    close(rank_correlation(B, C), expected)


def test_pairs_in_the_same_order():
    ranks = [rankdata(-part.abs(), method="dense", axis=1) for part in (B, C)]
    expected = []
    for b, c in zip(*ranks, strict=True):
        same = [(b[i] < b[j]) == (c[i] < c[j]) for i, j in itertools.combinations(range(7), 2)]
        expected.append(sum(same) / 21)
    close(pairwise_rank_agreement(B, C), expected)


def slow_agreement(a, b, k, *, rank, sign):
    """OpenXAI's: what the k largest features, written with rank and sign, have in common."""
    words = []
    for values in (a, b):
        first = np.argsort(-np.abs(values), kind="stable")[:k]
        places = rankdata(-np.abs(values), method="dense")
        row = [(int(i),) for i in first]
        if rank:
            row = [(*word, int(places[word[0]])) for word in row]
        if sign:
            row = [(*word, int(np.sign(values[word[0]]))) for word in row]
        words.append(row)
    return len(set(words[0]) & set(words[1])) / k


@pytest.mark.parametrize("rank", [False, True])
@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 1.0])
def test_agreement_at_the_top(rank, sign, share):
    most = count_of(share, 7)
    single, areas = [], []
    for b, c in zip(B.numpy(), C.numpy(), strict=True):
        each = [slow_agreement(b, c, k, rank=rank, sign=sign) for k in range(1, most + 1)]
        single.append(each[-1])
        areas.append(np.trapezoid(each, np.linspace(0, 1, most)) if most > 1 else each[0])
    options = {"share": share, "rank": rank, "sign": sign}
    close(top_agreement(B, C, area=False, **options), single)
    close(top_agreement(B, C, **options), areas)


def test_signs_and_distances():
    same = torch.tensor(np.sign(B.numpy()) == np.sign(C.numpy())).double().mean(1)
    assert_close(sign_match(B, C), same)
    assert_close(relative_l1(B, C), (B - C).abs().sum(1) / C.abs().sum(1))
    rounding = torch.tensor([[1.0, 1e-17, 0.0]], dtype=torch.float64)
    clean = torch.tensor([[1.0, 0.0, -1e-18]], dtype=torch.float64)
    assert sign_match(rounding, clean).tolist() == [1.0]
    assert rank_correlation(rounding, clean).tolist() == [1.0]


def test_subsets_are_all_or_random():
    assert len(subsets(5, 2, 10, copied_generator(None)).unique(dim=0)) == 10
    found = subsets(9, 4, 50, copied_generator(None))
    assert found.shape == (50, 9)
    assert bool((found.sum(1) == 4).all())
    assert len(found.unique(dim=0)) > 25


numbers = st.floats(-5, 5, allow_nan=False).map(lambda v: round(v, 1))
lists = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*(st.lists(numbers, min_size=n, max_size=n) for _ in range(2)))
)


@settings(max_examples=25, deadline=None)
@given(lists)
def test_ranges(pair):
    a, b = (torch.tensor([part], dtype=torch.float64) for part in pair)
    n = a.shape[1]
    for rank, sign, area in itertools.product([False, True], repeat=3):
        found = top_agreement(a, b, rank=rank, sign=sign, area=area)
        assert 0 <= float(found) <= 1
        assert float(top_agreement(a, a, rank=rank, sign=sign, area=area)) == 1.0
    assert float(top_agreement(a, b, sign=True)) <= float(top_agreement(a, b))
    assert 0 <= float(sign_match(a, b)) <= 1
    assert 0 <= float(gini_index(a)) <= 1 - 1 / n + 1e-12
    for found in (spearman(a, b), rank_correlation(a, b), correlation(a, b)):
        assert bool(found.isnan()) or -1 <= float(found) <= 1
    pairs = pairwise_rank_agreement(a, b)
    assert bool(pairs.isnan()) == (n == 1)
    assert n == 1 or 0 <= float(pairs) <= 1
    entropy = share_entropy(a)
    assert bool(entropy.isnan()) == bool((a == 0).all())
    assert bool(entropy.isnan()) or -1e-12 <= float(entropy) <= math.log(n) + 1e-12


# --- captum's own --------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("reference", [False, True])
def test_infidelity_is_captums(scaled, reference):
    from captum.metrics import infidelity as theirs
    from captum.metrics import infidelity_perturb_func_decorator as decorator

    moved = X + 0.4 * cases.draw(9, 4, 5, seed=7)
    row = ROWS[0] if reference else None
    drawn = iter(moved)  # one draw a call, see max_examples_per_batch

    @decorator(multiply_by_inputs=reference)
    def perturb(inputs, baselines=None):
        return next(drawn)

    expected = theirs(
        curved,
        perturb,
        X,
        A,
        baselines=row if row is None else row.expand(4, 5),
        n_perturb_samples=9,
        max_examples_per_batch=4,
        normalize=scaled,
    )
    found = infidelity(curved, X, A, moved, reference=row, scaled=scaled)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_sensitivity_is_captums():
    from captum.metrics import sensitivity_max as theirs

    def method(x):
        parts = [x[:, 0] ** 2, x[:, 1] * x[:, 2], x[:, 4], x[:, 3].sin(), x[:, 0]]
        return torch.stack(parts, 1)

    moved = X + 0.05 * cases.draw(6, 4, 5, seed=7)
    drawn = iter(moved)
    expected = theirs(
        lambda inputs: (method(inputs[0]),),
        X,
        lambda _, radius: (next(drawn),),
        n_perturb_samples=6,
        max_examples_per_batch=4,
    )
    found = max_sensitivity(method, X, method(X), moved)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_sensitivity_n_meets_its_definition():
    judged = cases.case(A, X, ROWS, output=curved)
    parts = []
    for n in (1, 2, 3, 4):
        masks = torch.stack([mask for mask in MASKS if int(mask.sum()) == n])
        parts.append(subset_correlation(curved, X, A, masks, ROWS))
    expected = torch.stack(parts).mean(0)
    assert_close(METRICS["sensitivity_n"].function(judged).rows, expected)


def test_stability_takes_medians_and_maxima(network):
    model = network([3, 4, 1])
    x = cases.inside(model, 6)
    with torch.no_grad():
        model.output_shift -= model(x[:1])[0]  # so that the first output is zero
    judged = cases.network_case(model, x, x)
    moved = mover(judged, NEAR, normal)(x)
    values = attributed(judged.method, moved)
    views = {
        "ris": lambda points: points,
        "ros": model,
        "rrs": lambda points: model.layers[0](model.scale_inputs(points)),
    }
    for name, view in views.items():
        with torch.no_grad():
            seen = [view(points) for points in (torch.cat([x, x]), x)]
            theirs = torch.stack([view(points) for points in moved])
        floor = 1e-3 * seen[0].std(0, correction=0)
        ratios = relative_stability(judged.values, values, seen[1], theirs, floor)
        typical, worst = (METRICS[key].function(judged) for key in (name, name + "_max"))
        assert_close(typical.rows, torch.quantile(ratios, 0.5, dim=0))
        assert_close(worst.rows, ratios.amax(0))
        assert worst.value == pytest.approx(float(ratios.max()))
        assert typical.value == pytest.approx(float(typical.rows.quantile(0.5)))


def test_the_output_is_that_of_the_target(network):
    model = network([3, 4, 2])
    x = cases.inside(model, 4)
    for target in (0, 1):
        watched = cases.network_case(model, x, x, target=target).watched()
        assert_close(watched(x), model(x)[:, target].detach())


def test_agreement_metrics_are_the_functions_of_their_name():
    judged = cases.case(A, X, ROWS, exact=cases.attribution(X))
    expected = {
        "feature_agreement": top_agreement(A, X),
        "sign_agreement": top_agreement(A, X, sign=True),
        "rank_agreement": top_agreement(A, X, rank=True),
        "signed_rank_agreement": top_agreement(A, X, rank=True, sign=True),
        "rank_correlation": rank_correlation(A, X),
        "pairwise_rank_agreement": pairwise_rank_agreement(A, X),
        "shapley_rank": spearman(A, X),
        "shapley_sign": sign_match(A, X),
        "shapley_error": relative_l1(A, X),
    }
    for name, rows in expected.items():
        assert_close(METRICS[name].function(judged).rows, rows)
    others = dataclasses.replace(judged.exact, features=("a", "b", "c", "d", "e"))
    for name in expected:  # of other columns
        found = METRICS[name].function(dataclasses.replace(judged, exact=others))
        assert math.isnan(found.value)


def test_moves_are_in_units_of_the_data():
    x = 7.0 * cases.draw(100, 1)
    width, deviation = float(x.max() - x.min()), float(x.std(correction=0))

    def output(points):
        return points[:, 0]

    judged = cases.case(x, x, output=output, method=lambda points: points)
    mean = 0.1 * width * math.sqrt(2 / math.pi)  # of |a normal number|
    assert METRICS["pgi"].function(judged).value == pytest.approx(mean, rel=0.02)
    furthest = METRICS["max_sensitivity"].function(judged).rows * x[:, 0].abs()
    assert 0.095 * deviation < float(furthest.max()) <= 0.1 * deviation + 1e-12
    moved = mover(judged, NEAR, normal)(x)
    assert float((moved - x).std()) == pytest.approx(1e-3 * deviation, rel=0.05)


def test_random_subsets_hold_something():
    x = cases.draw(2, 6)
    masks = removal_masks(cases.case(x, x), x)
    assert masks.shape == (50, 6)
    assert bool(masks.any(1).all())
    assert 0.4 < float(masks.double().mean()) < 0.6
    few = removal_masks(cases.case(x[:, :3], x[:, :3]), x[:, :3])
    assert len(few.unique(dim=0)) == len(few) == 7
