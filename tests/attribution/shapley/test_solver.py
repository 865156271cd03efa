"""Which algorithm solves which game, and that they agree."""

import copy
import math
import re

import pytest
import torch

from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley import _values as values
from kanlens.attribution.shapley._fourier import Expansion
from kanlens.attribution.shapley._games import games
from kanlens.attribution.shapley._permutation_sampling import sampled
from kanlens.attribution.shapley._values import interactions, shapley
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model._network import KAN
from tests.attribution.conftest import build, problem_of
from tests.attribution.shapley.definition import masked, network

COSINES = ("two layers", "order 1", "order 5", "run out", "tanh", "masked")


def asked(kind, draw, *, batch=3, rows=4):
    model, target = network(kind)
    d = model.widths[0]
    return problem_of(model, 1.5 * draw(batch, d), draw(rows, d, seed=2), target)


def with_last(model, name, numbers):
    """The same network with an elementary function on its last edge from the first node."""
    last = copy.deepcopy(model.layers[-1])
    last.assign(0, 0, name, numbers)
    return KAN.from_layers([*model.layers[:-1], last], model.schema, nodes=list(model.nodes))


@pytest.mark.parametrize("kind", COSINES)
@pytest.mark.slow  # many cases
def test_cosines_stay_within_their_bound(kind, draw):
    problem = asked(kind, draw)
    exact = interactions(problem, algorithm="enumeration")
    found = interactions(problem, algorithm="fourier", tolerance=1e-4)
    assert found.remark.count("in cosines")
    assert bool((found.bound <= 1e-4).all())
    error = (found.values - exact.values).abs()
    assert bool((error <= found.bound + 1e-13).all())
    assert bool((error > 1e-12).any())  # the bound says something
    pairs = (found.interactions - exact.interactions).abs()
    pairs.diagonal(dim1=1, dim2=2).zero_()
    assert bool((pairs <= 2 * found.bound[:, :, None] + 1e-13).all())
    torch.testing.assert_close(
        shapley(problem, algorithm="fourier", tolerance=1e-4).values, found.values
    )


def test_default_bounds_are_a_millionth_of_the_range(draw):
    problem = asked("two layers", draw)
    y = torch.cat([problem.output(problem.x), problem.output(problem.background)])
    found = shapley(problem, algorithm="fourier")
    assert float(found.bound.max()) <= 1e-6 * float(y.max() - y.min())
    assert found.standard_error is None
    assert shapley(problem).bound is None


def test_scaled_nodes_in_cosines(draw):
    from tests.attribution.shapley.definition import scaled

    problem = problem_of(scaled(build([4, 3, 2])), draw(3, 4), draw(2, 4, seed=2), 1)
    exact, found = shapley(problem), shapley(problem, algorithm="fourier", tolerance=1e-5)
    assert float((found.values - exact.values).abs().max()) <= float(found.bound.max()) <= 1e-5


def test_bounds_of_several_games_add_up_below_the_tolerance(draw):
    problem = problem_of(masked(build([5, 6, 1]), 1), draw(3, 5), draw(2, 5, seed=2))
    found = shapley(problem, algorithm="fourier", tolerance=1e-5)
    assert ", " in found.remark
    assert 0 < float(found.bound.max()) <= 1e-5
    assert bool(found.bound.std() > 0)  # not all features play in all games
    error = (found.values - shapley(problem).values).abs()
    assert bool((error <= found.bound + 1e-14).all())


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("budget", [1, 40])
def test_blocks_of_cosines_change_nothing(budget, draw, monkeypatch):
    problem = asked("two layers", draw)
    (game,) = games(problem, torch.eye(4, dtype=torch.float64))
    expected = Expansion(game, tolerance=1e-3).solve(interactions=True)
    monkeypatch.setattr("kanlens.attribution.shapley._fourier.BUDGET", budget)
    done = []
    found = Expansion(game, tolerance=1e-3).solve(interactions=True, advance=done.append)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(found.pairs, expected.pairs, rtol=1e-11, atol=1e-14)
    assert sum(done) == 3


def test_many_features_of_two_layers_are_solved_in_cosines(draw, monkeypatch):
    problem = problem_of(build([16, 3, 1]), draw(2, 16), draw(2, 16, seed=2))
    found = shapley(problem)
    assert found.remark == "1 game of 16 features in cosines"
    total = problem.output(problem.x) - found.reference
    assert bool(((found.values.sum(1) - total).abs() <= 16 * found.bound[:, 0]).all())
    monkeypatch.setattr(values, "LIMIT", 16)
    exact = shapley(problem)
    assert exact.remark == "1 game of 16 features enumerated"
    assert bool(((found.values - exact.values).abs() <= found.bound + 1e-13).all())


@pytest.mark.parametrize(("limit", "how"), [(None, "enum"), (40.0, "enum"), (5.0, "sampled")])
def test_what_would_take_long_to_enumerate_is_sampled(draw, clock, monkeypatch, limit, how):
    def slow(game, real=enumeration.enumerated, **options):
        clock[0] += 0.1 * len(game.x) * len(game.rows)
        return real(game, **options)

    monkeypatch.setattr(enumeration, "enumerated", slow)
    problem = problem_of(build([6, 4, 3, 1]), draw(9, 6), draw(20, 6, seed=2))
    monkeypatch.setattr(enumeration, "TRIAL", 2**6 * 15 * 3)  # one sample, three rows: 0.3 s
    assert how in shapley(problem, time_limit=limit).remark
    (game,) = games(problem, torch.eye(6, dtype=torch.float64))
    assert enumeration.seconds(game) == pytest.approx(0.1 * 9 * 20)


@pytest.mark.slow  # takes a while
def test_what_would_take_long_in_cosines_is_sampled(draw, monkeypatch):
    problem = problem_of(build([16, 3, 1]), draw(2, 16), draw(2, 16, seed=2))
    (game,) = games(problem, torch.eye(16, dtype=torch.float64))
    expansion = Expansion(game, tolerance=1e-3)
    cosines = sum(len(series.cosines) for series in expansion.series)
    assert expansion.seconds == pytest.approx(1e-9 * 4 * cosines * 16 * 8)
    assert "sampled" in shapley(problem, time_limit=expansion.seconds).remark  # for a finer one
    with monkeypatch.context() as patch:
        patch.setattr(values, "Expansion", None)  # is not even tried
        assert "sampled" in shapley(problem, time_limit=1e-9).remark
    monkeypatch.setattr(values, "MAX_EXACT_SECONDS", 0.0)
    assert "sampled" in shapley(problem).remark
    assert "cosines" in shapley(problem, time_limit=100.0).remark
    assert "cosines" in shapley(problem, algorithm="fourier").remark
    assert "cosines" in interactions(problem).remark


@pytest.mark.parametrize("widths", [[15, 3, 2, 1], [15, (0, 1), 1], [15, (0, 1)]])
def test_many_features_of_other_networks_are_sampled(widths, draw, monkeypatch):
    problem = problem_of(build(widths), draw(2, 15), draw(2, 15, seed=2))
    found = shapley(problem)
    assert re.match("1 game of 15 features sampled in [0-9]+ orders", found.remark)
    total = problem.output(problem.x) - found.reference
    torch.testing.assert_close(found.values.sum(1), total, rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(values, "LIMIT", 15)
    exact = shapley(problem)
    assert exact.standard_error is None
    error = (found.values - exact.values).abs()
    assert bool((error <= 5 * found.standard_error + 1e-12).all())
    assert float(found.standard_error.max()) > 0


def test_sums_beside_products_are_solved_in_cosines(draw):
    problem = problem_of(build([15, (2, 1), 1]), draw(2, 15), draw(2, 15, seed=2))
    found = shapley(problem)
    assert found.remark.startswith("1 game of 15 features in cosines, 1 game of 15 features sam")
    total = problem.output(problem.x) - found.reference
    gap = (found.values.sum(1) - total).abs()
    assert bool((gap <= 15 * found.bound[:, 0] + 1e-10).all())
    assert float(found.standard_error.max()) > 0


def test_sampling_takes_tolerance_and_generator(draw):
    problem = asked("three layers", draw)
    again = problem_of(problem.model, problem.x, problem.background)
    found = [
        shapley(each, algorithm="sampling", tolerance=1e-3).values for each in (problem, again)
    ]
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert (
        float(shapley(problem, algorithm="sampling", tolerance=1e-3).standard_error.max()) <= 1e-3
    )
    object.__setattr__(again, "generator", torch.Generator().manual_seed(5))
    other = shapley(again, algorithm="sampling", tolerance=1e-3).values
    assert not torch.equal(other, found[0])
    hasty = shapley(problem, algorithm="sampling", tolerance=1e-9, time_limit=1e-3)
    assert "stopped by time limit" in hasty.remark


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("name", ["1/x", "sign"])
def test_poles_and_jumps_are_sampled(name, draw, monkeypatch):
    monkeypatch.setattr(values, "LIMIT", 3)
    model, x, rows = build([4, 3, 1]), draw(2, 4), draw(3, 4, seed=2)
    ends = [model.through(0, model.scale_inputs(each))[0, 0] for each in (x, rows)]
    middle = float(sum(ends)) / 2  # which coalitions come by
    problem = problem_of(with_last(model, name, [1.0, -middle, 3.0, 0.0]), x, rows)
    assert "sampled" in shapley(problem, tolerance=0.5).remark
    if name == "1/x":
        for method in (shapley, interactions):
            with pytest.raises(MethodError, match="pole"):
                method(problem, algorithm="fourier")
        with pytest.raises(MethodError, match="pole"):
            interactions(problem)
    else:
        assert float(shapley(problem, algorithm="fourier").bound.max()) > 1.0
        assert interactions(problem).remark == "1 game of 4 features in cosines"


def refusal(call, error=MethodError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_what_cannot_be_done_is_refused(draw):
    deep, product = asked("three layers", draw), asked("products", draw)
    assert refusal(lambda: shapley(deep, algorithm="fourier")) == (
        "attribute: expected a game of two layers without products for algorithm 'fourier', "
        "got 3 layers. Use algorithm='auto'."
    )
    assert "got products." in refusal(lambda: shapley(product, algorithm="fourier"))
    assert refusal(lambda: interactions(deep, algorithm="sampling")) == (
        "attribute: expected another algorithm for interactions, got 'sampling'. "
        "Use algorithm='auto' on a smaller model, or method='shapley'."
    )
    wide = problem_of(build([15, 2, 2, 1]), draw(1, 15), draw(1, 15, seed=2))
    assert refusal(lambda: interactions(wide)) == (
        "attribute: expected games of at most 14 features, or of two layers without products, "
        "got one of 15 features. Use algorithm='auto' on a smaller model, or method='shapley'."
    )
    assert "algorithm to be one of" in refusal(
        lambda: shapley(deep, algorithm="exact"), InvalidValueError
    )
    for name in ("tolerance", "time_limit"):
        text = refusal(lambda name=name: shapley(deep, **{name: -1.0}), InvalidValueError)
        assert name in text


def test_one_layer_needs_no_algorithm(draw):
    problem = problem_of(build([20, 2]), draw(2, 20), draw(3, 20, seed=2), 1)
    for algorithm in values.ALGORITHMS:
        assert shapley(problem, algorithm=algorithm).remark == "closed form: a sum of functions"


def test_a_feature_alone_is_solved_exactly_whatever_is_asked(draw):
    model = build([3, 3, 1])
    model.layers[0].mask.copy_(torch.eye(3))
    problem = problem_of(model, draw(2, 3), draw(3, 3, seed=2))
    for algorithm in values.ALGORITHMS:
        found = shapley(problem, algorithm=algorithm)
        assert found.remark == "3 games of 1 feature enumerated"
        assert (
            float((problem.output(problem.x) - found.reference - found.values.sum(1)).abs().max())
            < 1e-13
        )


def test_an_output_that_never_changes_does_no_harm(draw):
    model = build([15, 2, 1])
    model.layers[1].base_weight.zero_()
    model.layers[1].spline_weight.fill_(1.0)  # splines that add up to a constant
    problem = problem_of(model, 0.1 * draw(2, 15), 0.1 * draw(2, 15, seed=2))
    assert float(shapley(problem).values.abs().max()) < 1e-5


def test_sampled_games_share_tolerance_and_time(draw, clock, monkeypatch):
    model = build([4, 2, 1])
    model.layers[0].mask[0, 3] = 0
    seen = []

    def watched(game, **options):
        seen.append((game.size, options["tolerance"], options["deadline"].left))
        return sampled(game, **options)

    monkeypatch.setattr(values, "sampled", watched)
    problem = problem_of(model, draw(2, 4), draw(3, 4, seed=2))
    found = shapley(problem, algorithm="sampling", tolerance=0.1, time_limit=10.0)
    assert seen == [(4, 0.1 / 2**0.5, 5.0), (3, 0.1 / 2**0.5, 10.0)]  # what is left
    assert float(found.standard_error.max()) <= 0.1
    shapley(problem, algorithm="sampling")
    y = torch.cat([problem.output(problem.x), problem.output(problem.background)])
    width = float(y.max() - y.min())
    assert seen[2] == (4, pytest.approx(1e-2 * width / 2**0.5), math.inf)
