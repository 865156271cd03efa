"""Networks trained on a problem, and what is made of them: tiny ones."""

import time

import numpy as np
import pytest
import sympy
import torch

import kanlens
from kanlens.discovery import finding, networks, search
from kanlens.discovery.front import Front
from kanlens.discovery.networks import (
    View,
    formula_of,
    interpolator,
    network_formulas,
    trained,
    views,
)
from kanlens.discovery.problems import SearchProblem
from kanlens.discovery.scheduling import BudgetedFront, Deferred, PriorityFront
from kanlens.discovery.search import explore, part_of
from kanlens.errors import InterruptedWarning
from kanlens.long_work import Deadline
from kanlens.symbolic.composition import evaluator

A, B, C = sympy.symbols("a b c", real=True)


def problem(function, width=2, *, count=200, noise=0.0, low=1.0, high=4.0, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.uniform(low, high, (count, width))
    y = function(*x.T)
    y = y + noise * y.std() * draw.normal(size=count)
    return SearchProblem(x, (A, B, C)[:width], y, np.arange(count) % 3 == 0)


def front_of(given, seconds=20.0):
    front = Front(given, Deadline.after(seconds))
    front.start()
    return front


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_view_goes_there_and_back():
    given = problem(lambda a, b: -a * b)
    for view in views(given):
        plain = View(view.logs, 0)
        names = tuple(plain.formula(x, given.names) for x in sympy.symbols("x1 x2", real=True))
        made = evaluator(names, given.names)(given.columns)
        np.testing.assert_allclose(made, view.inputs(given.columns), rtol=1e-12)
        back = view.target(view.output(given.target))
        np.testing.assert_allclose(back, given.target, rtol=1e-12)
        t = sympy.Symbol("t")
        written = sympy.lambdify(t, view.formula(t, given.names), "numpy")(
            view.output(given.target)
        )
        np.testing.assert_allclose(written, given.target, rtol=1e-12)


def test_what_has_no_logarithm_is_seen_as_it_is():
    given = problem(lambda a, b: a - b, low=-1.0, high=1.0)
    assert views(given) == [View((False, False), 0)]


def test_a_network_knows_values_and_slopes():
    given = problem(lambda a, b: a * np.sin(b), count=150)
    found = interpolator(given, Deadline.after(600.0), draws())
    assert found.error < 1e-2
    x, y, judged = given.columns, given.target, given.held_out
    gap = np.mean((found(x[judged]) - y[judged]) ** 2)
    assert found.error == pytest.approx(gap / y[judged].var(), rel=1e-12)
    slopes = found.slopes
    for i in range(2):
        move = np.zeros(2)
        move[i] = 1e-6
        view = found.view
        high, low = (view.output(found(x + s * move)) for s in (1, -1))
        np.testing.assert_allclose(slopes[:, i], (high - low) / 2e-6, rtol=1e-4, atol=1e-6)


def test_slopes_are_by_the_columns_where_these_are_seen_by_logarithms():
    given = problem(lambda a, b: a * b)
    view = View((True, True), 1)
    found = trained(given, [2, 1], view, Deadline.after(600.0), draws(), 10)
    assert found.error < 1e-5
    np.testing.assert_allclose(found.slopes[:9], 1 / given.columns[:9], rtol=0.05)
    assert found.sizes.tolist() == [1.0] * 200


def test_training_is_repeatable_and_seeds_nothing():
    given, state = problem(lambda a, b: a * b), torch.get_rng_state()
    view = views(given)[0]
    made = [trained(given, [2, 2, 1], view, Deadline.after(600.0), draws(5), 3) for _ in range(2)]
    np.testing.assert_array_equal(made[0](given.columns), made[1](given.columns))
    assert bool((torch.get_rng_state() == state).all())


def test_no_time_and_few_rows_give_no_network():
    given = problem(lambda a, b: a * b)
    assert interpolator(given, Deadline.after(0.0), draws()) is None
    assert interpolator(problem(lambda a, b: a, count=20), Deadline.after(600.0), draws()) is None


def test_training_ends_with_the_time():
    given = problem(lambda a, b: np.sin(9 * a) * b, count=1500)
    start = time.process_time()
    found = trained(given, [2, 5, 1], views(given)[0], Deadline.after(0.3), draws(), 10_000)
    assert time.process_time() - start < 3.0
    assert np.isfinite(found.error)


def test_an_interrupt_goes_through_training(monkeypatch):
    given = problem(lambda a, b: a * b)

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(networks, "_watching", lambda deadline: lambda *_, **__: interrupted(0))
    with pytest.raises(KeyboardInterrupt):
        trained(given, [2, 1], views(given)[0], Deadline.after(600.0), draws(), 3)


def test_a_portion_ends_before_the_whole_and_shares_its_formulas():
    given = problem(lambda a, b: a * b)
    front = front_of(given, 100.0)
    part = BudgetedFront(BudgetedFront(front, 0.5), 0.5)
    assert 20 < part.deadline.left < 26
    part.offer(1.05 * A * B)
    assert front.best_error < 1e-20
    assert part.done
    assert part.whole is front
    assert part.is_new(A)
    assert not front.is_new(A)


def test_a_portion_takes_nothing_when_its_time_is_over():
    front = front_of(problem(lambda a, b: a * b), 100.0)
    BudgetedFront(front, 0.0).offer(A * B)
    assert front.best_error > 0.5
    assert not front.done


def test_deferred_work_runs_once_after_a_count_of_pieces_of_work():
    runs = []
    front = front_of(problem(lambda a, b: a * b), 100.0)
    queue = PriorityFront(front, Deferred(runs.append, 1, share=0.5))
    assert queue.is_new(A)
    assert not queue.is_new(A)
    queue.run_deferred()
    assert runs == []
    assert BudgetedFront(queue, 0.5).is_new(B)
    assert not queue.done  # reading it runs nothing
    assert runs == []
    queue.run_deferred()
    queue.run_deferred()
    assert len(runs) == 1
    assert 0 < runs[0].deadline.left < 51
    late = Deferred(runs.append, 5, share=0.5)
    late.run(front, 1.0)
    late.run(front, 1.0)
    assert len(runs) == 2
    assert runs[1].deadline.left > 90


def test_deferred_work_asks_once_how_much_longer_it_waits():
    runs, calls = [], []
    front = front_of(problem(lambda a, b: a * b), 100.0)
    more = lambda: calls.append(1) or 2  # noqa: E731
    queue = PriorityFront(front, Deferred(runs.append, 1, more=more, share=0.5))
    for k in range(3):
        queue.is_new(A + k)
        queue.run_deferred()
    assert (calls, runs) == ([1], [])
    queue.is_new(B)
    queue.run_deferred()
    assert (calls, len(runs)) == ([1], 1)


def test_deferred_work_is_dropped_after_an_exact_formula():
    runs = []
    front = front_of(problem(lambda a, b: a * b))
    front.offer(1.5 * A * B)
    Deferred(runs.append, 9, share=0.5).run(front)
    assert runs == []


def test_networks_are_read_as_formulas(monkeypatch):
    monkeypatch.setattr(networks, "shapes", lambda width: [[width, 1]])
    given = problem(lambda a, b: np.sin(a) + b**2)
    front = front_of(given, 60.0)
    network_formulas(given, BudgetedFront(front), View((False, False), 0), draws())
    assert front.best_error < 1e-3
    assert {A, B} <= front.chosen().expression.free_symbols


def test_a_network_with_a_product_is_read():
    given = problem(lambda a, b: a * b, low=-1.0, high=1.0)
    found = trained(given, [2, (0, 1), 1], views(given)[0], Deadline.after(600.0), draws(1), 20)
    x = torch.from_numpy(given.columns)
    formula = formula_of(found.network, x, torch.from_numpy(given.target)[:, None])
    names = sympy.symbols("x1 x2", real=True)
    made = evaluator((formula,), names)(given.columns)[:, 0]
    np.testing.assert_allclose(made, given.target, atol=0.05)


def test_an_interrupt_goes_through_reading(monkeypatch):
    given = problem(lambda a, b: a + b)
    found = trained(given, [2, 1], views(given)[0], Deadline.after(600.0), draws(), 3)

    def interrupted(*_, stop, **__):
        stop.happened = True

    monkeypatch.setattr(networks, "assign_functions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        networks.read(found, front_of(given))


def test_a_part_of_a_sum_is_that_part_and_a_constant():
    x = np.random.default_rng(0).uniform(size=(50, 3))
    made = part_of(lambda x: np.sin(x[:, 0]) + x[:, 1] * x[:, 2], x, {0})
    assert np.ptp(made - np.sin(x[:, 0])) < 1e-12


def solved(monkeypatch, given, *names):
    """Explore a problem, of whose searches one is of some names; return the best formula."""
    seen, within, real = [], [], search.search

    def watched(each, front, **options):
        if not within:  # what a search leads to is not what the network showed
            seen.append(set(each.names))
        within.append(each)
        real(each, front, **options)
        within.pop()

    monkeypatch.setattr(search, "search", watched)
    monkeypatch.setattr(search, "network_formulas", lambda *_: None)
    front = front_of(given, 60.0)
    explore(given, BudgetedFront(front), draws())
    assert set(names) in seen
    return front.chosen().expression


def test_a_symmetry_is_used_in_spite_of_noise(monkeypatch):
    given = problem(lambda a, b: np.exp(-((a - b) ** 2)), noise=0.01, count=200)
    found = solved(monkeypatch, given, A - B)
    made = evaluator((found,), given.names)(given.columns)[:, 0]
    truth = np.exp(-((given.columns[:, 0] - given.columns[:, 1]) ** 2))
    assert np.mean((made - truth) ** 2) < 1e-3 * truth.var()


def test_what_leaves_only_noise_is_left_alone(monkeypatch):
    given = problem(lambda a, b: a * b, noise=0.01, count=400)
    front = front_of(given)
    front.offer(1.0 * A * B)
    monkeypatch.setattr(search, "network_formulas", pytest.fail)
    explore(given, BudgetedFront(front), draws())
    assert front.chosen().expression.has(A * B)


def test_discover_trains_networks_when_the_search_has_nothing(monkeypatch):
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 3, (300, 2))
    y = np.sin(x[:, 0]) + x[:, 1] ** 2 + 0.01 * draw.normal(size=300)
    monkeypatch.setattr(finding, "search", lambda problem, front, **_: None)
    monkeypatch.setattr(search, "search", lambda problem, front, **_: None)
    monkeypatch.setattr(networks, "shapes", lambda width: [[width, 1]])
    found = kanlens.discover(x, y, time_limit=60.0, progress=False)
    assert found.equations_["loss"].min() < 0.01
    assert found.stopped_because in ("every way was tried", "only noise was left")


def test_no_networks_are_trained_in_a_moment(monkeypatch):
    given = problem(lambda a, b: a * np.sin(b))
    monkeypatch.setattr(search, "interpolator", pytest.fail)
    explore(given, BudgetedFront(front_of(given, 0.5)), draws())


def test_an_interrupted_training_leaves_what_was_found(monkeypatch):
    x = np.random.default_rng(0).uniform(1, 2, (60, 1))

    def found(problem, front, **_):
        front.offer(2 * problem.names[0])

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(finding, "search", found)
    monkeypatch.setattr(finding, "explore", interrupted)
    with pytest.warns(InterruptedWarning, match="^discover: "):
        made = kanlens.discover(x, 2 * x[:, 0] + 1e-3 * np.sin(9 * x[:, 0]), progress=False)
    assert made.stopped_because == "interrupted"
    assert made.sympy() == 2 * sympy.Symbol("x1")


def test_networks_are_not_trained_for_what_is_found_anyway(monkeypatch):
    monkeypatch.setattr(finding, "explore", pytest.fail)
    x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    made = kanlens.discover(x, x[:, 0] / x[:, 1], progress=False)
    assert made.stopped_because == "an exact formula was found"
