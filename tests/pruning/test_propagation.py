"""Node values under the removal of edges: exact, cheap, and undone without a trace."""

from __future__ import annotations

import copy

import torch
from torch.testing import assert_close

from kanlens.model._kan_linear import KANLinear
from kanlens.pruning._propagation import Propagation
from tests.pruning.conftest import noisy, prune


def test_propagation_is_a_full_run_and_can_be_undone(network, with_functions, draw):
    for model in (network((3, 4, 3, 2)), with_functions()):
        x = draw()
        state = Propagation(model, x)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        output = state.output
        state.remove((0, 1, 2))
        assert not torch.equal(state.output, output)
        state.undo()
        state.undo()  # nothing is left to undo
        assert torch.equal(state.output, output)
        assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
        for edge in [(0, 3, 0), (0, 1, 2), (1, 0, 3), (0, 1, 0), (1, 0, 1)]:
            state.remove(edge)
            with torch.no_grad():
                assert_close(state.output, model(x), rtol=0, atol=1e-12)


def test_an_edge_is_thought_away_without_a_trace(network, with_functions, draw):
    for model in (network((3, 4, 3, 2)), with_functions()):
        x = draw()
        state = Propagation(model, x)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        for edge in [(0, 3, 0), (0, 1, 2), (1, 0, 3), (0, 3, 0)]:
            found = state.without(edge)
            assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
            removed = copy.deepcopy(model)
            Propagation(removed, x).remove(edge)
            with torch.no_grad():
                assert_close(found, removed(x), rtol=0, atol=1e-12)
        state.remove((0, 1, 0))
        found = state.without((0, 1, 2))  # what was remembered of it is no longer true
        state.remove((0, 1, 2))
        with torch.no_grad():
            assert_close(found, model(x), rtol=0, atol=1e-12)


def test_propagation_without_memory_and_with_refreshes_is_the_same(network, draw, monkeypatch):
    model, x = network((3, 4, 2)), draw()
    y = noisy(model, x)
    usual = prune(model, x, y, budget=1.0)
    monkeypatch.setattr("kanlens.pruning._propagation.MAX_CACHED_VALUES", 0)
    monkeypatch.setattr("kanlens.pruning._propagation.REFRESH", 2)
    other = prune(model, x, y, budget=1.0)
    assert [r["name"] for r in other.removed] == [r["name"] for r in usual.removed]
    assert_close(other.loss_after, usual.loss_after)


def test_pruning_runs_few_layers_in_full(network, draw, monkeypatch):
    calls: list[int] = []
    forward = KANLinear.forward

    def counted(self, x):
        calls.append(len(x))
        return forward(self, x)

    model, x = network((13, 5, 1)), draw(200, 13)
    y = noisy(model, x)
    monkeypatch.setattr(KANLinear, "forward", counted)
    result = prune(model, x, y, budget=0.05)
    assert result.edges_before == 70
    assert len(calls) < 15  # a run of the network takes two
