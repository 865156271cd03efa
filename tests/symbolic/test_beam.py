"""The beam decides by the loss of the whole network what edges alone leave open."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from kanlens._runtime import Interruption
from kanlens.symbolic import _beam as module
from kanlens.symbolic._assignment import Candidate, Goal, assign_functions, rank_layer
from kanlens.symbolic._beam import Beam
from kanlens.symbolic._library import library
from tests.symbolic.made import spline_network


def assigned(layers, ranges, *, grid_size=20, families=None):
    """Return a network, what edges alone choose, and the goal: its own exact functions."""
    model, x = spline_network(layers, ranges, grid_size=grid_size)
    hidden = x
    for functions in layers:
        columns = [
            sum(f(hidden[:, i]) for i, f in enumerate(row) if f is not None) for row in functions
        ]
        hidden = torch.stack(columns, dim=1)
    work = copy.deepcopy(model)
    families = families or library()
    choices = assign_functions(work, x, families, 0.99, advance=lambda **_: None)
    return model, work, choices, Goal(x=x, target=hidden, limit=1e-3), families


def misled(choices, wrong):
    """Put a wrong function that fits nearly as well first on every edge of the first layer."""
    misled = []
    for choice in choices:
        first = next(c for c in choice.candidates if c.function == wrong)
        rest = [c for c in choice.candidates if c.function != wrong][:2]
        options = (replace(first, score=0.0), *(replace(c, score=1.0) for c in rest))
        misled.append(replace(choice, candidates=options))
    return misled


@pytest.fixture(scope="module")
def three():
    """tanh of three features, each of which an arctangent explains nearly as well.

    A single change for the better lowers the loss by a third, which is less than it must.
    """
    functions = [lambda v: torch.tanh(1.2 * v + 0.3)] * 3
    model, work, choices, goal, families = assigned([[functions]], [(-2.0, 2.0)] * 3)
    choices = misled(choices, "arctan")
    for choice in choices:
        first = choice.candidates[0]
        work.layers[0].assign(0, choice.in_, first.function, first.parameters)
    return model, work, choices, goal, families


@pytest.mark.slow  # derives formulas
def test_the_beam_finds_what_single_changes_miss(three):
    model, work, choices, goal, families = three
    before = copy.deepcopy(work.state_dict())
    narrow = Beam(model, families, 0.9, goal)
    narrow.width = 1
    single = narrow.search(work, choices)
    assert single.layers[0].functions == (("arctan",) * 3,)
    found = Beam(model, families, 0.9, goal).search(work, choices)
    assert found.layers[0].functions == (("tanh",) * 3,)
    assert all(torch.equal(before[k], v) for k, v in work.state_dict().items())
    assert work.layers[0].functions == (("arctan",) * 3,)


@pytest.mark.slow  # derives formulas
def test_layers_behind_a_change_are_sampled_anew(monkeypatch):
    """What reaches the second layer after a change is what its functions are fitted to."""
    layers = [[[torch.tanh, torch.square]], [[torch.exp]]]
    model, work, choices, goal, families = assigned(layers, [(-2.0, 2.0)] * 2)
    seen = []

    def spy(network, index, inputs, few):
        seen.append((index, inputs))
        return rank_layer(network, index, inputs, few)

    monkeypatch.setattr(module, "rank_layer", spy)
    search = Beam(model, families, 0.9, goal)
    found = {(c.layer, c.out, c.in_): c for c in choices}
    state = module._State(model=work, choices=found)
    line = Candidate(function="x", parameters=(1.0, 0.0, 0.7, 0.1), r2=1.0, score=1.0)
    with torch.no_grad():
        changed = search._changed(state, (0, 0, 0), line)
        expected = changed.model.through(0, search.goal.x)
    ((index, inputs),) = seen
    assert index == 1
    assert torch.equal(inputs, expected)
    assert not torch.equal(inputs, work.through(0, search.goal.x))
    assert changed.function((0, 0, 0)) == "x"
    assert state.function((0, 0, 0)) == "tanh"


@pytest.mark.slow  # derives formulas
def test_a_change_to_what_is_not_defined_is_survived():
    layers = [[[torch.tanh, torch.square]], [[torch.exp]]]
    model, work, choices, goal, families = assigned(layers, [(-2.0, 2.0)] * 2)
    found = {(c.layer, c.out, c.in_): c for c in choices}
    search = Beam(model, families, 0.9, goal)
    root = Candidate(function="sqrt", parameters=(1.0, 0.0, 1.0, 0.0), r2=1.0, score=1.0)
    with torch.no_grad():
        state = search._changed(module._State(model=work, choices=found), (0, 0, 0), root)
        assert search._judged(state).loss == math.inf


def test_needless_edges_become_constants():
    """An edge of 2 % of its sum that the target knows nothing of is left out."""
    model, x = spline_network([[[torch.sin, lambda v: 0.01 * torch.exp(v)]]], [(-2.0, 2.0)] * 2)
    work, families = copy.deepcopy(model), library()
    choices = assign_functions(work, x, families, 0.99, advance=lambda **_: None)
    assert work.layers[0].functions == (("sin", "exp"),)
    goal = Goal(x=x, target=torch.sin(x[:, :1]), limit=1e-3)
    goal = Goal(x=x, target=goal.target + 1e-3 * torch.cos(40 * x[:, :1]), limit=1e-3)
    found = Beam(model, families, 0.99, goal).search(work, choices)
    assert found.layers[0].functions == (("sin", "constant"),)


def test_an_interrupt_keeps_the_best_until_then(three, monkeypatch):
    model, work, choices, goal, families = three
    judged, count = Beam._judged, []

    def interrupted(self, state, needed=math.inf):
        count.append(None)
        if len(count) == 3:
            raise KeyboardInterrupt
        return judged(self, state, needed)

    monkeypatch.setattr(Beam, "_judged", interrupted)
    goal = replace(goal, stop=Interruption())
    found = Beam(model, families, 0.9, goal).search(work, choices)
    assert goal.stop.happened
    assert len(count) == 3
    assert found.layers[0].functions == work.layers[0].functions
