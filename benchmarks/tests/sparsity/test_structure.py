"""The comparison of graphs: planted networks are found again, and wrong ones are not."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sparsity.planted import PLANTED, graph_of_product
from benchmarks.sparsity.structure import (
    Recovery,
    live,
    recovered_edges,
    recovered_inputs,
)
from kanlens.errors import ShapeError


def shuffled(masks, generator, *, spare=2):
    """Return the same graph with hidden nodes in another order, among empty ones."""
    wide = [mask.clone() for mask in masks]
    for level in range(len(wide) - 1):
        out = wide[level].shape[0] + spare
        order = torch.randperm(out, generator=generator)
        before = torch.zeros(out, wide[level].shape[1], dtype=torch.bool)
        before[: wide[level].shape[0]] = wide[level]
        after = torch.zeros(wide[level + 1].shape[0], out, dtype=torch.bool)
        after[:, : wide[level + 1].shape[1]] = wide[level + 1]
        wide[level], wide[level + 1] = before[order], after[:, order]
    return wide


def most_shared(found, true):
    """Count the edges that agree under the best matching, by trying all of them."""
    sizes = [max(a.shape[0], b.shape[0]) for a, b in zip(found, true, strict=True)][:-1]
    found, true = (wide(masks, sizes) for masks in (live(found), live(true)))
    best = 0
    for orders in itertools.product(*(itertools.permutations(range(n)) for n in sizes)):
        shared, before = 0, list(range(true[0].shape[1]))
        for level, mask in enumerate(true):
            after = list(orders[level]) if level < len(sizes) else list(range(mask.shape[0]))
            shared += int((found[level][after][:, before] & mask).sum())
            before = after
        best = max(best, shared)
    return best


def wide(masks, sizes):
    outs = [*sizes, masks[-1].shape[0]]
    ins = [masks[0].shape[1], *sizes]
    result = []
    for mask, out, in_ in zip(masks, outs, ins, strict=True):
        bigger = torch.zeros(out, in_, dtype=torch.bool)
        bigger[: mask.shape[0], : mask.shape[1]] = mask
        result.append(bigger)
    return result


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_graph_is_found_whatever_the_order_of_its_nodes(name, seed):
    masks = PLANTED[name].masks
    found = recovered_edges(shuffled(masks, torch.Generator().manual_seed(seed)), masks)
    assert (found.precision, found.recall, found.f1) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", PLANTED)
def test_one_edge_too_many_and_one_too_few_are_counted(name):
    masks = PLANTED[name].masks
    count = sum(int(mask.sum()) for mask in masks)
    more = [mask.clone() for mask in masks]
    more[0][0, -1] = True  # the last input is irrelevant
    assert recovered_edges(more, masks) == Recovery(found=count + 1, true=count, shared=count)
    less = [mask.clone() for mask in masks]
    less[0][0, 0] = False
    assert recovered_edges(less, masks) == Recovery(found=count - 1, true=count, shared=count - 1)


def test_nodes_that_mix_inputs_of_two_true_ones_do_not_pass():
    true = PLANTED["groups"].masks
    mixed = [true[0].clone(), true[1]]
    mixed[0][:, 1:3] = mixed[0][:, 1:3].flip(0)  # x2 and x3 change places
    found = recovered_edges(mixed, true)
    assert (found.shared, found.true) == (4, 6)
    assert recovered_inputs(mixed, PLANTED["groups"].relevant).f1 == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4))
def test_the_matching_of_one_hidden_layer_is_the_best_there_is(seed, hidden, other):
    draw = torch.Generator().manual_seed(seed)
    found = [
        torch.rand(hidden, 4, generator=draw) < 0.5,
        torch.rand(2, hidden, generator=draw) < 0.7,
    ]
    true = [torch.rand(other, 4, generator=draw) < 0.5, torch.rand(2, other, generator=draw) < 0.7]
    assert recovered_edges(found, true).shared == most_shared(found, true)


@pytest.mark.parametrize("seed", range(20))
def test_the_matching_of_two_hidden_layers_comes_close_to_the_best(seed):
    draw = torch.Generator().manual_seed(seed)
    shapes = [(4, 5), (3, 4), (1, 3)]
    found, true = ([torch.rand(*s, generator=draw) < 0.5 for s in shapes] for _ in range(2))
    best = most_shared(found, true)
    assert best - 2 <= recovered_edges(found, true).shared <= best


def test_edges_without_a_path_do_not_count():
    masks = [torch.tensor([[True, True], [True, False]]), torch.tensor([[True, False]])]
    assert [mask.tolist() for mask in live(masks)] == [
        [[True, True], [False, False]],
        [[True, False]],
    ]
    assert recovered_edges(masks, graph_of_product(2, 2)).f1 == 1.0
    none = [torch.zeros(1, 2), torch.ones(1, 1)]
    assert recovered_edges(none, graph_of_product(2, 2)) == Recovery(found=0, true=3, shared=0)


def test_nothing_found_scores_nothing():
    empty = Recovery(found=0, true=3, shared=0)
    assert (empty.precision, empty.recall, empty.f1) == (0.0, 0.0, 0.0)
    assert Recovery(found=0, true=0, shared=0).f1 == 0.0


def test_graphs_of_other_depth_are_refused():
    text = (
        "recovered_edges: expected graphs with the same layers, inputs and outputs, got (1, 2, 1) "
        "and (2, 2, 1). Compare those."
    )
    with pytest.raises(ShapeError, match=re.escape(text)):
        recovered_edges([torch.ones(1, 2)], graph_of_product(1, 2))
