"""How an output is cut into games."""

import copy

import pytest
import torch

from kanlens.attribution.shapley._games import games, players
from tests.attribution.conftest import build, problem_of
from tests.attribution.shapley.definition import KINDS, masked, network


def cut(model, x, rows, target=0, *, by_column=False):
    problem = problem_of(model, x, rows, target)
    return games(problem, players(problem, by_column=by_column)[1])


def who(found):
    return [game.players.tolist() for game in found]


@pytest.mark.parametrize("kind", KINDS[1:])  # but one layer
def test_parts_add_up_to_the_output(kind, draw):
    model, target = network(kind)
    x, rows = draw(3, model.widths[0]), draw(2, model.widths[0], seed=2)
    x[:, -1] = rows[:, -1] = 0.4  # a feature that never changes
    found = cut(model, x, rows, target)
    # not only at the rows: features may be mixed from several
    points = torch.cat([torch.where(draw(3, 1, seed=3) > 0, x, rows[:1]), x.roll(1, 0), rows])
    rest = model(points)[:, target]
    for game in found:
        assert game.model.widths[0] == len(game.features) == len(game.member)
        assert game.member.shape[1] == game.size == len(game.players)
        torch.testing.assert_close(game.x, x[:, game.features])
        torch.testing.assert_close(game.rows, rows[:, game.features])
        rest = rest - game.model(points[:, game.features])[:, 0]
    torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=0, atol=1e-12)
    assert all(model.widths[0] - 1 not in each for each in who(found))


def test_nodes_are_games_of_the_features_that_lead_to_them(draw):
    model = build([5, 4, 2])
    model.layers[0].mask[0, 3:] = 0
    model.layers[0].mask[1, :2] = 0
    model.layers[0].mask[2, 3:] = 0
    model.layers[1].mask[1, 1] = 0  # node 1 leads to the first output only
    x, rows = draw(2, 5), draw(2, 5, seed=2)
    first, second = cut(model, x, rows, 0), cut(model, x, rows, 1)
    assert who(first) == [[0, 1, 2, 3, 4], [0, 1, 2], [2, 3, 4]]
    assert [game.model.widths for game in first] == [(5, 1, 1), (3, 2, 1), (3, 1, 1)]
    assert who(second) == [[0, 1, 2, 3, 4], [0, 1, 2]]


def test_features_that_never_change_do_not_play(draw):
    model, x, rows = build([3, 2, 1]), draw(2, 3), draw(2, 3, seed=2)
    x[:, 1] = rows[:, 1] = 0.7
    (game,) = cut(model, x, rows)
    assert game.features.tolist() == [0, 2]
    points = draw(4, 3, seed=5)
    points[:, 1] = 0.7
    torch.testing.assert_close(game.model(points[:, [0, 2]]), model(points))


def test_features_behind_a_factor_of_zero_do_not_play(draw):
    model, x, rows = build([3, (1, 1), 1]), draw(2, 3), draw(2, 3, seed=2)
    model.layers[0].mask[0, 2] = 0
    model.layers[0].mask[1] = 0
    model.layers[0].bias[1] = 0  # the first factor of the product
    assert who(cut(model, x, rows)) == [[0, 1]]
    model.layers[0].bias[1] = 2.0
    assert who(cut(model, x, rows)) == [[0, 1, 2], [0, 1]]


def test_what_is_multiplied_by_zero_is_left_out_below(draw):
    model = build([2, 3, (1, 1), 2, 1])
    model.layers[1].mask[0, 1:] = 0
    model.layers[1].mask[1] = 0
    model.layers[1].bias[1] = 0  # so the product is zero, and its other factor leads nowhere
    (game,) = cut(model, draw(2, 2), draw(2, 2, seed=2))
    assert game.model.widths == (2, 1, 2, 2, 1)


def test_nothing_that_changes_is_no_game(draw):
    model, x, rows = build([2, 2, 1]), draw(1, 2), draw(1, 2)
    assert cut(model, x, rows) == []
    model.layers[1].mask.zero_()
    assert cut(model, x, draw(2, 2, seed=2)) == []


def test_games_of_the_same_players_are_one(draw):
    model = build([3, 4, 1])
    model.layers[0].mask[:2, 2] = 0
    found = cut(model, draw(2, 3), draw(2, 3, seed=2))
    assert who(found) == [[0, 1, 2], [0, 1]]
    assert [game.model.widths for game in found] == [(3, 2, 1), (2, 2, 1)]


def test_products_of_many_players_are_kept_apart(draw, monkeypatch):
    model, x, rows = build([3, (2, 2), 1]), draw(2, 3), draw(2, 3, seed=2)
    assert [game.model.shape for game in cut(model, x, rows)] == [(3, (2, 2), 1)]
    monkeypatch.setattr("kanlens.attribution.shapley._games.LIMIT", 2)
    found = cut(model, x, rows)
    assert [game.model.shape for game in found] == [(3, 2, 1), (3, (0, 2), 1)]
    assert [game.additive_nodes for game in found] == [True, False]
    found = cut(build([3, (2, 2), 2, 1]), x, rows)
    assert [game.model.shape for game in found] == [(3, (2, 2), 2, 1)]


def test_deep_games_are_those_of_the_players_that_reach_their_nodes(draw):
    model = build([3, 4, 2, 1])
    model.layers[1].mask[0, 3] = 0
    model.layers[0].mask[:3, 2] = 0  # no third feature for the first node before the output
    x, rows = draw(2, 3), draw(2, 3, seed=2)
    assert who(cut(model, x, rows)) == [[0, 1, 2], [0, 1]]
    model = build([3, 6, 4, 2, 1])
    model.layers[2].mask[0, 3] = 0
    model.layers[1].mask[:3, 5] = 0
    model.layers[0].mask[:5, 2] = 0
    assert who(cut(model, x, rows)) == [[0, 1, 2], [0, 1]]


def test_a_model_is_left_as_it_is(draw):
    model = masked(build([4, (2, 1), 2]), 1)
    x, rows = draw(2, 4), draw(2, 4, seed=2)
    x[:, 0] = rows[:, 0] = 0.5
    problem = problem_of(model, x, rows, 1)
    before = {name: tensor.clone() for name, tensor in problem.model.state_dict().items()}
    for game in games(problem, torch.eye(4, dtype=torch.float64)):
        assert not any(each.requires_grad for each in game.model.parameters())
        for tensor in game.model.state_dict().values():
            tensor.fill_(7)
    for name, tensor in problem.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_nan_counts_as_a_change(draw):
    from kanlens.model._network import KAN

    model = build([2, 1, 1])
    first = copy.deepcopy(model.layers[0])
    first.assign(0, 0, "log", [1.0, 0.0, 1.0, 0.0])
    model = KAN.from_layers([first, model.layers[1]], model.schema)
    rows = -9 * torch.ones(1, 2, dtype=torch.float64)
    x = torch.tensor([[9.0, -9.0]], dtype=torch.float64)
    assert bool(model(rows).isnan())
    assert not bool(model(x).isnan())
    assert who(cut(model, x, rows)) == [[0]]
