"""Networks trained on a problem, and what is made of them: tiny ones."""

import numpy as np
import pytest
import sympy
import torch

import kanlens
from kanlens._runtime import Deadline
from kanlens.discovery import _discover as discover
from kanlens.discovery import _network_ansatz as network_ansatz
from kanlens.discovery import _search as search
from kanlens.discovery._network_ansatz import (
    View,
    formula_of,
    interpolator,
    network_formulas,
    trained,
    views,
)
from kanlens.discovery._search import explore
from kanlens.discovery._search_schedule import BudgetedFront, Deferred, PriorityFront
from kanlens.errors import InterruptedWarning
from kanlens.symbolic._composition import evaluator
from tests.discovery.conftest import NAMES, front_of
from tests.discovery.conftest import problem as uniform

A, B, *_ = NAMES
NEVER = Deadline.after(None)


def problem(text, *, count=200, **options):
    return uniform(text, count=count, **options)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_view_goes_there_and_back():
    given = problem("-a*b")
    for view in views(given):
        plain = View(view.logs, 0)
        names = tuple(plain.formula(x, given.names) for x in sympy.symbols("x1 x2", real=True))
        inputs = evaluator(names, given.names)(given.columns)
        np.testing.assert_allclose(inputs, view.inputs(given.columns), rtol=1e-12)
        output, t = view.output(given.target), sympy.Symbol("t")
        np.testing.assert_allclose(view.target(output), given.target, rtol=1e-12)
        written = sympy.lambdify(t, view.formula(t, given.names), "numpy")(output)
        np.testing.assert_allclose(written, given.target, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "low", "kinds"),
    [
        ("-a**2*b", 1.0, [(False, 0), (True, 0), (False, -1), (True, -1)]),
        ("a - b", -1.0, [(False, 0)]),
    ],
)
def test_logarithms_are_seen_where_there_are_any(text, low, kinds):
    assert views(problem(text, low=low)) == [View((log, log), sign) for log, sign in kinds]


@pytest.mark.slow  # searches formulas
def test_a_network_knows_values_and_slopes():
    given = problem("a*sin(b)", count=150)
    found = interpolator(given, NEVER, draws())
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
    given = problem("a*b")
    view = View((True, True), 1)
    found = trained(given, [2, 1], view, NEVER, draws(), 10)
    assert found.error < 1e-5
    np.testing.assert_allclose(found.slopes[:9], 1 / given.columns[:9], rtol=0.05)
    assert found.sizes.tolist() == [1.0] * 200


def test_training_is_repeatable_and_seeds_nothing():
    given, state = problem("a*b"), torch.get_rng_state()
    first, second = (trained(given, [2, 2, 1], views(given)[0], NEVER, draws(5), 3) for _ in "ab")
    np.testing.assert_array_equal(first(given.columns), second(given.columns))
    assert bool((torch.get_rng_state() == state).all())


def test_no_time_and_few_rows_give_no_network():
    assert interpolator(problem("a*b"), Deadline.after(0.0), draws()) is None
    assert interpolator(problem("a", count=20), NEVER, draws()) is None


def test_an_interrupt_goes_through_training(monkeypatch):
    given = problem("a*b")

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        network_ansatz, "_watching", lambda deadline: lambda *_, **__: interrupted(0)
    )
    with pytest.raises(KeyboardInterrupt):
        trained(given, [2, 1], views(given)[0], NEVER, draws(), 3)


def test_a_portion_ends_before_the_whole_and_shares_its_formulas():
    given = problem("a*b")
    front = front_of(given, 100.0)
    part = BudgetedFront(BudgetedFront(front, 0.5), 0.5)
    assert 20 < part.deadline.left < 26
    part.submit(1.05 * A * B)
    assert front.best_error < 1e-20
    assert part.done
    assert part.whole is front
    assert part.whole.is_new(A)
    assert not front.is_new(A)


def test_a_portion_takes_nothing_when_its_time_is_over():
    front = front_of(problem("a*b"), 100.0)
    BudgetedFront(front, 0.0).submit(A * B)
    assert front.best_error > 0.5
    assert not front.done


def test_deferred_work_runs_once_when_it_is_due():
    runs = []
    front = front_of(problem("a*b"), 100.0)
    queue = PriorityFront(front, Deferred(runs.append, lambda pieces: pieces > 1))
    for k, count in ((A, 0), (A, 0), (B, 1), (A + B, 1)):
        front.is_new(k)
        assert not queue.done  # reading it runs nothing
        queue.deferred.run_if_due(queue)
        assert len(runs) == count
    assert 0 < runs[0].deadline.left < 81
    late = Deferred(runs.append, lambda pieces: False)
    late.run_if_due(queue)
    for _ in range(2):
        late.run(front)
    assert len(runs) == 2
    assert runs[1].deadline.left > 90
    front.submit(1.5 * A * B)
    Deferred(runs.append, lambda pieces: True).run(front)
    assert len(runs) == 2  # an exact formula leaves nothing to do


@pytest.mark.slow  # searches formulas
def test_networks_are_read_as_formulas(monkeypatch):
    monkeypatch.setattr(network_ansatz, "shapes", lambda width: [[width, 1]])
    given = problem("sin(a) + b**2")
    front = front_of(given, 60.0)
    network_formulas(given, BudgetedFront(front), View((False, False), 0), draws())
    assert front.best_error < 1e-3
    assert {A, B} <= front.chosen().expression.free_symbols


def test_a_network_with_a_product_is_read():
    given = problem("a*b", low=-1.0, high=1.0)
    found = trained(given, [2, (0, 1), 1], views(given)[0], NEVER, draws(1), 20)
    x = torch.from_numpy(given.columns)
    formula = formula_of(found.network, x, torch.from_numpy(given.target)[:, None])
    names = sympy.symbols("x1 x2", real=True)
    made = evaluator((formula,), names)(given.columns)[:, 0]
    np.testing.assert_allclose(made, given.target, atol=0.05)


def test_an_interrupt_goes_through_reading(monkeypatch):
    given = problem("a + b")
    found = trained(given, [2, 1], views(given)[0], NEVER, draws(), 3)

    def interrupted(*_, stop, **__):
        stop.happened = True

    monkeypatch.setattr(network_ansatz, "assign_functions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        network_ansatz.read(found, front_of(given))


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


@pytest.mark.slow  # searches formulas
def test_a_symmetry_is_used_in_spite_of_noise(monkeypatch):
    given = problem("exp(-(a - b)**2)", noise=0.007, count=200)
    found = solved(monkeypatch, given, A - B)
    made = evaluator((found,), given.names)(given.columns)[:, 0]
    truth = np.exp(-((given.columns[:, 0] - given.columns[:, 1]) ** 2))
    assert np.mean((made - truth) ** 2) < 1e-3 * truth.var()


def test_what_leaves_only_noise_is_left_alone(monkeypatch):
    given = problem("a*b", noise=0.005, count=400)
    front = front_of(given)
    front.submit(1.0 * A * B)
    monkeypatch.setattr(search, "network_formulas", pytest.fail)
    explore(given, BudgetedFront(front), draws())
    assert front.chosen().expression.has(A * B)


@pytest.mark.slow  # searches formulas
def test_discover_trains_networks_when_the_search_has_nothing(monkeypatch):
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 3, (300, 2))
    y = np.sin(x[:, 0]) + x[:, 1] ** 2 + 0.01 * draw.normal(size=300)
    monkeypatch.setattr(discover, "search", lambda problem, front, **_: None)
    monkeypatch.setattr(search, "search", lambda problem, front, **_: None)
    monkeypatch.setattr(network_ansatz, "shapes", lambda width: [[width, 1]])
    found = kanlens.discover(x, y, time_limit=60.0, progress=False)
    assert found.equations_["loss"].min() < 0.01
    assert found.stopped_because in ("every way was tried", "only noise was left")


def test_no_networks_are_trained_in_a_moment(monkeypatch):
    given = problem("a*sin(b)")
    monkeypatch.setattr(search, "interpolator", pytest.fail)
    explore(given, BudgetedFront(front_of(given, 0.5)), draws())


def test_an_interrupted_training_leaves_what_was_found(monkeypatch):
    x = np.random.default_rng(0).uniform(1, 2, (60, 1))

    def found(problem, front, **_):
        front.submit(2 * problem.names[0])

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(discover, "search", found)
    monkeypatch.setattr(discover, "explore", interrupted)
    with pytest.warns(InterruptedWarning, match="^discover: "):
        made = kanlens.discover(x, 2 * x[:, 0] + 1e-3 * np.sin(9 * x[:, 0]), progress=False)
    assert made.stopped_because == "interrupted"
    assert made.sympy() == 2 * sympy.Symbol("x1")


def test_networks_are_not_trained_for_what_is_found_anyway(monkeypatch):
    monkeypatch.setattr(discover, "explore", pytest.fail)
    x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    made = kanlens.discover(x, x[:, 0] / x[:, 1], progress=False)
    assert made.stopped_because == "an exact formula was found"
