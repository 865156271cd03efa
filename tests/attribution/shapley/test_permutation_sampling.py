"""Shapley values from sampled orders."""

import dataclasses
import itertools
import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from kanlens import _runtime as runtime
from kanlens._runtime import Deadline
from kanlens.attribution.shapley import _permutation_paths as permutations
from kanlens.attribution.shapley import _permutation_sampling as sampling
from kanlens.attribution.shapley._enumeration import enumerated
from kanlens.attribution.shapley._games import Game, games
from kanlens.attribution.shapley._permutation_paths import Surrogate
from kanlens.attribution.shapley._permutation_sampling import MIN_PAIRS, PROGRESS_STEPS, sampled
from kanlens.model._network import KAN
from tests.attribution.conftest import build, problem_of
from tests.attribution.shapley.definition import KINDS, network


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def game_of(model, *, batch=3, rows=4, target=0, member=None, seed=1):
    d, generator = model.widths[0], seeded(seed)
    x = torch.randn(batch, d, generator=generator, dtype=torch.float64)
    b = torch.randn(rows, d, generator=generator, dtype=torch.float64)
    problem = problem_of(model, x, b, target)
    return games(problem, torch.eye(d, dtype=torch.float64) if member is None else member)[0]


def deviations(found, exact):
    """Errors in standard errors; rounding is none."""
    error = (found.values - exact).abs()
    return (error - 1e-13).clamp_min(0) / found.standard_error.clamp_min(1e-300)


def check(game, exact, *, seeds=2, **options):
    """Complain where a value is 5 standard errors off, or values do not add up."""
    for seed in range(seeds):
        found = sampled(game, generator=seeded(seed), **options)
        assert float(deviations(found, exact).max()) < 5
        gap = found.values.sum(1) - exact.sum(1)
        assert float(gap.abs().max()) < 1e-12 * max(1.0, float(exact.abs().max()))
    return found


# --- the values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "one layer"])
@pytest.mark.slow  # many cases
def test_every_kind_of_network_is_met_within_the_errors(kind):
    model, target = network(kind)
    game = game_of(model, target=target)
    check(game, enumerated(game).values, tolerance=0.0, most=4 * 2 * MIN_PAIRS)


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("widths", [[12, 4, 3, 1], [10, (2, 2), 2, 1], [9, 12, 2, 1]])
def test_games_of_many_players_are_met_within_the_errors(widths):
    game = game_of(build(widths))
    exact = enumerated(game).values
    found = check(game, exact, tolerance=1e-3 * float(exact.std()), most=8000)
    assert float(found.standard_error.max()) < 0.01 * float(exact.std())


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("tolerance", [1.0, 0.05])
def test_errors_are_honest(rows, tolerance):
    game = game_of(build([8, 3, 2, 1]), rows=rows, batch=2)
    exact = enumerated(game).values
    tolerance *= float(exact.std())
    runs = [sampled(game, tolerance=tolerance, generator=seeded(k)) for k in range(60)]
    inside = torch.stack([deviations(run, exact) < 1.96 for run in runs]).double().mean()
    assert 0.88 < float(inside) < 0.99
    off = torch.stack([deviations(run, exact * 1.2) < 1.96 for run in runs]).double().mean()
    assert float(off) < 0.88


@pytest.mark.parametrize("name", ["shares", "values"])
def test_a_polynomial_with_wrong_values_is_caught(name, monkeypatch):
    game = game_of(build([8, 3, 2, 1]))
    exact = enumerated(game).values
    real = getattr(Surrogate, name)
    monkeypatch.setattr(Surrogate, name, lambda *given: 1.1 * real(*given))
    with pytest.raises(AssertionError):
        check(game, exact, tolerance=0.0, most=20 * 2 * MIN_PAIRS)


def test_columns_of_a_table_play_together():
    member = torch.zeros(9, 7, dtype=torch.float64)
    member[torch.arange(9), torch.tensor([0, 1, 1, 2, 3, 3, 4, 5, 6])] = 1.0
    game = game_of(build([9, 4, 3, 1]), member=member)
    assert game.size == 7
    found = check(game, enumerated(game).values, tolerance=0.0, most=4 * 2 * MIN_PAIRS)
    assert found.values.shape == found.standard_error.shape == (3, 7)


def test_a_player_who_changes_nothing_gets_nothing_for_sure():
    game = game_of(build([8, 3, 2, 1]), rows=1)
    x = game.x.clone()
    x[1, 2] = game.rows[0, 2]
    game = dataclasses.replace(game, x=x)
    found = check(game, enumerated(game).values, tolerance=0.0, most=4 * 2 * MIN_PAIRS)
    assert float(found.values[1, 2]) == float(found.standard_error[1, 2]) == 0.0
    assert float(found.standard_error[0, 2]) > 0


@pytest.mark.parametrize("n", [1, 2])
def test_games_of_one_and_two_players_are_exact(n):
    game = game_of(build([n, 3, 2, 1]))
    found = sampled(game, tolerance=1e-12, generator=seeded())
    torch.testing.assert_close(found.values, enumerated(game).values, rtol=1e-12, atol=1e-14)
    assert found.stopped == "tolerance"
    assert float(found.standard_error.max()) < 1e-14


# --- when it stops --------------------------------------------------------------------------------


def test_it_stops_when_all_errors_are_small_enough():
    game = game_of(build([12, 4, 3, 1]), batch=4)
    loose, tight = (sampled(game, tolerance=t, generator=seeded()) for t in (1e-3, 1e-4))
    assert loose.stopped == tight.stopped == "tolerance"
    assert 1e-4 < float(loose.standard_error.max()) <= 1e-3
    assert float(tight.standard_error.max()) <= 1e-4
    assert loose.permutations < tight.permutations
    assert loose.evaluations < tight.evaluations


@pytest.mark.parametrize("most", [1, 2 * MIN_PAIRS, 2 * MIN_PAIRS * 7 + 1])
def test_it_stops_after_so_many_orders(most):
    game = game_of(build([12, 4, 3, 1]))
    found = sampled(game, tolerance=0.0, most=most, generator=seeded())
    assert found.stopped == "permutations"
    assert found.permutations == max(2 * MIN_PAIRS, most - most % (2 * MIN_PAIRS))
    looks = 0 if most < 4 * MIN_PAIRS else 4 * 2 * 28
    assert found.evaluations == found.permutations * 11 + looks + 4 + 1


def test_evaluations_are_counted(monkeypatch):
    game = game_of(build([12, 4, 3, 1]))
    real, seen = Game.outputs, []
    monkeypatch.setattr(
        Game,
        "outputs",
        lambda self, sums: seen.append(sums[..., 0].numel()) or real(self, sums),
    )
    found = sampled(game, tolerance=0.0, most=900, generator=seeded())
    assert sum(seen) == 3 * found.evaluations - 2 * 4  # the rows are evaluated once for all


@pytest.mark.parametrize(("limit", "end"), [(5.5, 4.0), (41.0, 40.0)])
def test_no_round_begins_that_would_end_too_late(clock, monkeypatch, limit, end):
    def slow(name, seconds):
        method = getattr(sampling._JointSampling, name)

        def slowed(self, who):
            clock[0] += seconds
            return method(self, who)

        monkeypatch.setattr(sampling._JointSampling, name, slowed)

    slow("_round", 2.0)
    slow("_fit", 6.0)
    game = game_of(build([12, 4, 3, 1]), batch=2, rows=2)
    found = sampled(
        game, tolerance=0.0, deadline=Deadline.after(limit), most=10**9, generator=seeded()
    )
    assert (found.stopped, clock[0]) == ("time limit", end)


@pytest.mark.parametrize(
    ("rows", "limit", "met"),
    [(40, 1e-9, sampling.MIN_BACKGROUND_ROWS), (40, 12.0, 12), (1, 1e-9, 8), (3, 1e-9, 9)],
)
def test_without_time_for_a_round_some_rows_are_met(clock, monkeypatch, rows, limit, met):
    def slow(self, who, rows, order, real=sampling.PermutationPaths.walk):
        clock[0] += len(rows)
        return real(self, who, rows, order)

    monkeypatch.setattr(sampling.PermutationPaths, "walk", slow)
    monkeypatch.setattr(sampling.PermutationPaths, "at_once", lambda *_: 100)
    game = game_of(build([12, 4, 3, 1]), batch=3, rows=rows)
    trial = min(sampling.MIN_BACKGROUND_ROWS, rows)  # seconds of it, before
    found = sampled(game, tolerance=0.0, deadline=Deadline.after(trial + limit), generator=seeded())
    every = sampled(game, tolerance=0.0, most=2 * MIN_PAIRS, generator=seeded())
    assert found.permutations == 2 * met
    assert found.stopped == "time limit"
    assert float((found.values.sum(1) - every.values.sum(1)).abs().max()) < 1e-12
    assert float(found.standard_error.min()) > 0
    assert float(deviations(found, enumerated(game).values).max()) < 5


def test_without_time_parts_are_larger(monkeypatch):
    made = []

    def counted(game, x):
        made.append(len(x))
        return permutations.PermutationPaths(game, x)

    monkeypatch.setattr(sampling, "PermutationPaths", counted)
    game = game_of(build([12, 11, 1]), batch=200, rows=300)
    found = sampled(game, tolerance=0.0, deadline=Deadline.after(1e-9), generator=seeded())
    assert made == [sampling.MIN_BACKGROUND_ROWS, 200]  # a part of a whole round has three samples
    assert found.values.shape == (200, 12)


def test_parts_share_the_time(monkeypatch):
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))  # a second at every look
    monkeypatch.setattr(runtime, "time", clock)
    monkeypatch.setattr(sampling, "BUDGET", 1)
    game = game_of(build([12, 4, 3, 1]), batch=3, rows=2)
    found = sampled(
        game, tolerance=0.0, deadline=Deadline.after(30.0), most=10**9, generator=seeded()
    )
    worst = found.standard_error.amax(1)
    assert next(ticks) < 35
    assert float(worst.max() / worst.min()) < 30  # a part of one round is far worse


def test_outputs_that_are_no_numbers_end_the_work():
    game = game_of(build([8, 3, 2, 1]))
    game.model.layers[1].bias.fill_(math.nan)
    found = sampled(game, tolerance=1e-3, generator=seeded())
    assert bool(found.values.isnan().all())
    assert found.permutations == 2 * MIN_PAIRS


# --- randomness -----------------------------------------------------------------------------------


def test_the_same_generator_gives_the_same_numbers():
    game = game_of(build([9, 4, 3, 1]))
    one, two, other = (sampled(game, tolerance=1e-4, generator=seeded(k)) for k in (3, 3, 4))
    assert torch.equal(one.values, two.values)
    assert not torch.equal(one.values, other.values)
    generator = seeded(3)
    first, second = (sampled(game, tolerance=1e-4, generator=generator) for _ in range(2))
    assert torch.equal(first.values, one.values)
    assert not torch.equal(second.values, one.values)


def test_torchs_own_state_is_used_and_left_alone():
    game = game_of(build([9, 4, 3, 1]))
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        first, second = (sampled(game, tolerance=1e-4) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first.values, second.values)
        torch.rand(1)
        assert not torch.equal(sampled(game, tolerance=1e-4).values, first.values)


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_a_sample_alone_gets_the_same(tolerance):
    game = game_of(build([9, 4, 3, 1]), batch=5)
    whole = sampled(game, tolerance=tolerance, most=5 * 2 * MIN_PAIRS, generator=seeded())
    for k in range(5):
        alone = dataclasses.replace(game, x=game.x[k : k + 1])
        one = sampled(alone, tolerance=tolerance, most=5 * 2 * MIN_PAIRS, generator=seeded())
        torch.testing.assert_close(one.values[0], whole.values[k], rtol=1e-10, atol=1e-15)
        error = whole.standard_error[k]
        torch.testing.assert_close(one.standard_error[0], error, rtol=1e-8, atol=1e-15)


def test_small_blocks_give_the_same(monkeypatch):
    game = game_of(build([9, 4, 3, 1]), batch=4, rows=5)
    whole = sampled(game, tolerance=0.0, most=1000, generator=seeded())
    monkeypatch.setattr(permutations, "BUDGET", 1)
    monkeypatch.setattr(sampling, "BUDGET", 8000)
    parts = sampled(game, tolerance=0.0, most=1000, generator=seeded())
    torch.testing.assert_close(parts.values, whole.values, rtol=1e-10, atol=1e-15)
    assert parts.evaluations == whole.evaluations


def test_games_of_other_players_have_other_orders():
    game = game_of(build([9, 4, 3, 1]))
    other = dataclasses.replace(game, players=game.players + 1)
    one, two = (sampled(each, tolerance=1.0, generator=seeded()) for each in (game, other))
    assert not torch.equal(one.values, two.values)


def test_the_bar_moves_to_its_end(monkeypatch):
    moves = []

    @contextmanager
    def bar(description, total, *, shown):
        moves.append(-total)
        yield lambda steps, note: moves.append(steps)

    monkeypatch.setattr(sampling, "progress_bar", bar)
    monkeypatch.setattr(sampling, "BUDGET", 1)
    sampled(game_of(build([9, 4, 3, 1])), tolerance=2e-4, generator=seeded())
    assert sum(moves) == 0
    assert moves[0] == -3 * PROGRESS_STEPS
    assert len(moves) > 4
    assert min(moves[1:]) >= 0


# --- what it saves --------------------------------------------------------------------------------


def deep_game(widths, *, batch, rows):
    """A game of a fresh network whose samples and background lie inside the grid."""
    model = KAN(widths, scale_noise=0.3, generator=seeded()).double()
    x = 2 * torch.rand(batch + rows, widths[0], generator=seeded(1), dtype=torch.float64) - 1
    member = torch.eye(widths[0], dtype=torch.float64)
    return games(problem_of(model, x[:batch], x[batch:]), member)[0]


def variance_of_single_orders(game, evaluations):
    """Of the mean over orders that each start from one row, at so many evaluations."""
    whole, rows = permutations.PermutationPaths(game, game.x), len(game.rows)
    orders = torch.rand(rows, 40, game.size, generator=seeded(5)).argsort(-1)
    both = torch.arange(len(game.x)), torch.arange(rows)
    u = whole.walk(*both, orders).u
    gains = permutations.marginal_contributions(
        game.outputs(whole.middle(*both)[:, :, None, None] + u), orders
    )
    return float(gains.var(2).mean()) * (game.size - 1) / evaluations


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize(
    ("widths", "pairs", "polynomials"),
    [([20, 8, 4, 1], 4, 100), ([18, (2, 2), 1], 4, 150), ([30, 6, 1], 3, 60)],
)
def test_pairs_and_polynomials_take_variance_away(widths, pairs, polynomials, monkeypatch):
    game = deep_game(widths, batch=2, rows=20)
    with_all = sampled(game, tolerance=0.0, most=20 * 2 * 100, generator=seeded())
    monkeypatch.setattr(sampling._JointSampling, "_pays", lambda self, worst: worst < 0)
    paired = sampled(game, tolerance=0.0, most=20 * 2 * 100, generator=seeded())
    one, two = (float(found.standard_error.square().mean()) for found in (paired, with_all))
    assert variance_of_single_orders(game, paired.evaluations) > pairs * one
    assert one * paired.evaluations > polynomials * two * with_all.evaluations
