"""Cuts: what is kept is what was asked for, and what is lost is only what varied."""

from __future__ import annotations

import itertools

import pytest
import torch

from benchmarks.sparsity.cutting import Candidate, Cut, Cutter, Shape, best, choose, cut, nested
from benchmarks.sparsity.paths import ARMS, Effort, deviations, norms, path
from benchmarks.sparsity.problems import RowCounts, problem
from benchmarks.sparsity.structure import live
from kanlens import KAN


@pytest.fixture
def model():
    return KAN([3, 4, 1], generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(50, 3, dtype=torch.float64, generator=generator) * 2 - 1


def counts(masks):
    return sum(int(mask.sum()) for mask in masks)


def test_edges_go_in_the_order_of_their_scores(model, x):
    by = deviations(model, x)
    found = nested(by, [16, 12, 8, 4, 2])
    sizes = list(found)
    assert sizes == [16, 12, 8, 4, 2]
    for size, masks in found.items():
        assert counts(masks) <= size
        assert [m.tolist() for m in live(masks)] == [m.tolist() for m in masks]
    for larger, smaller in itertools.pairwise(sizes):
        kept = zip(found[larger], found[smaller], strict=True)
        assert all(bool((small <= large).all()) for large, small in kept)


def test_some_path_always_stays():
    scores = [torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0]])]
    found = nested(scores, [3, 2, 1])
    assert counts(found[2]) == 2
    assert 1 not in found


def test_an_edge_that_leads_nowhere_goes_with_the_one_that_cut_it_off():
    scores = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.01, 1.0]])]
    assert nested(scores, [5])[5][0].tolist() == [[False, False], [True, True]]


def test_a_cut_keeps_the_mean_of_what_it_takes(model, x):
    keep = [torch.ones(4, 3, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)]
    keep[1][0, 2] = False
    before, left = model(x), cut(model, keep, x)
    torch.testing.assert_close(left.model(x).mean(), before.mean())
    assert left.columns == (0, 1, 2)
    assert left.model.widths == (3, 3, 1)
    torch.testing.assert_close(model(x), before)


def test_a_cut_without_cuts_changes_nothing(model, x):
    whole = [torch.ones_like(layer.mask, dtype=torch.bool) for layer in model.layers]
    torch.testing.assert_close(cut(model, whole, x).model(x), model(x))


def test_the_error_is_in_deviations_of_the_target(model, x):
    y = model(x).detach()
    left = Cut(model=model, columns=(0, 1, 2))
    assert left.error(x, y) == 0
    moved = y + y.std(correction=0)
    assert left.error(x, moved) == pytest.approx(1.0)


def test_rescaling_takes_back_what_a_line_can(model, x):
    y = 3 * model(x).detach() + 2
    left = Cut(model=model, columns=(0, 1, 2))
    assert left.error(x, y) > 0.5
    assert left.rescaled(x, y).error(x, y) < 1e-12
    assert left.error(x, y) > 0.5


def test_tuning_lowers_the_error_and_leaves_the_cut_as_it_was(model, x):
    y = x[:, :1].square() + x[:, 1:2]
    masks = nested(deviations(model, x), [6])[6]
    left = cut(model, masks, x)
    before = left.error(x, y)
    after = left.tuned(x, y, steps=3)
    assert after.error(x, y) < before
    assert left.error(x, y) == before
    assert after.model.edges_alive == left.model.edges_alive


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_a_path_and_ranks_its_edges(arm):
    data = problem("composed").data(0, RowCounts(train=40, validation=20, test=20))
    effort = Effort(first=1, steps=1, shares=(0.1, 5.0), tuning=1, sizes=(3, 6))
    model = KAN([10, 2, 1], generator=torch.Generator().manual_seed(0)).double()
    stages = list(path(model, data.train, ARMS[arm], effort))
    assert [stage.index for stage in stages] == [0, 1]
    assert [stage.share for stage in stages] == ([0.1, 5.0] if ARMS[arm].penalty else [0.0, 0.0])
    assert stages[0].model is not stages[1].model
    cutter = Cutter(data, effort)
    for stage in stages:
        scores = norms(stage.model, data.train[0], ARMS[arm])
        assert [tuple(score.shape) for score in scores] == [(2, 10), (1, 2)]
        for plain, tuned in cutter.candidates(stage, scores, [3, 6]):
            assert plain.shape.kept == tuned.shape.kept <= plain.size
            assert plain.validation >= 0 and plain.spread > 0


def test_the_best_of_every_size_are_tuned_and_no_others():
    data = problem("composed").data(0, RowCounts(train=40, validation=20, test=20))
    effort = Effort(first=1, steps=1, shares=(0.1, 1.0, 2.0), tuning=2, finalists=2)
    model = KAN([10, 1], generator=torch.Generator().manual_seed(0)).double()
    cutter, found = Cutter(data, effort), []
    for stage in path(model, data.train, ARMS["weight_l1"], effort):
        scores = norms(stage.model, data.train[0], ARMS["weight_l1"])
        found += [rescaled for _, rescaled in cutter.candidates(stage, scores, [3, 6])]
    result = cutter.tuned(found)
    assert [each.size for each in result] == [3, 3, 6, 6]
    shares = {each.shape.share for each in result if each.size == 6}
    rescaled = {each.shape.share: each.validation for each in found if each.size == 6}
    assert shares == set(sorted(rescaled, key=rescaled.get)[:2])


def test_two_networks_of_a_path_are_cut_apart_from_each_other():
    data = problem("composed").data(0, RowCounts(train=40, validation=20, test=20))
    effort = Effort(first=1, steps=2, shares=(1.0, 1.0))
    model = KAN([10, 1], generator=torch.Generator().manual_seed(0)).double()
    first, second = path(model, data.train, ARMS["none"], effort)
    cutter = Cutter(data, effort)
    whole = [torch.ones(1, 10)]
    left, right = (cutter.candidates(stage, whole, [10])[0][0] for stage in (first, second))
    assert left.validation != right.validation


def candidate(size, validation, spread=0.0):
    shape = Shape(share=1.0, size=size, masks=[])
    return Candidate(shape=shape, cut=None, validation=validation, spread=spread)


def test_the_smallest_network_within_one_standard_error_is_chosen():
    found = [candidate(8, 0.10, 0.02), candidate(4, 0.115), candidate(2, 0.13), candidate(8, 0.5)]
    assert choose(found).size == 4
    assert [each.validation for each in best(found).values()] == [0.13, 0.115, 0.10]
    assert choose([candidate(8, 0.10, 0.0), candidate(4, 0.115)]).size == 8
