"""`discover`: which formulas it finds, what it refuses, and how it keeps its time."""

import json
import pickle
import re
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

import kanlens
from kanlens.discovery._discover import StopReason, rule_of, shown
from kanlens.discovery._pareto_front import Entry
from kanlens.errors import (
    DataError,
    DTypeError,
    InterruptedWarning,
    InvalidValueError,
    ShapeError,
)
from kanlens.symbolic._pareto_front import choose

X1, X2 = sympy.symbols("x1 x2")


def rows(text, *, count=100, seed=0, **ranges):
    """Return symbols, expression, x and y of an equation on uniform rows."""
    draw = np.random.default_rng(seed)
    x = np.stack([draw.uniform(low, high, count) for low, high in ranges.values()], axis=1)
    symbols = {name: sympy.Symbol(name) for name in ranges}
    truth = sympy.sympify(text, locals=symbols)
    y = np.broadcast_to(sympy.lambdify(list(symbols.values()), truth, "numpy")(*x.T), (count,))
    return list(ranges), truth, x, np.array(y)


def close(found, truth, names, ranges):
    """Say whether two formulas agree to 1e-9 on fresh rows."""
    draw = np.random.default_rng(99)
    x = np.stack([draw.uniform(low, high, 200) for low, high in ranges.values()], axis=1)
    symbols = [sympy.Symbol(name) for name in names]
    one, two = (sympy.lambdify(symbols, e, "numpy")(*x.T) for e in (found, truth))
    return bool(np.abs(one - two).max() <= 1e-9 * np.abs(two).max())


P = (1.0, 4.0)
EQUATIONS = {
    "a*b**2/c": {"a": P, "b": P, "c": P},
    "a*(b + c*sin(d))": {"a": P, "b": P, "c": P, "d": P},
    "sqrt(a**2 + b**2)": {"a": P, "b": P},
    "(a*b + c*d)/(a + c)": {"a": P, "b": P, "c": P, "d": P},
    "a*b - c/2": {"a": (-1.0, 1.0), "b": (-2.0, 2.0), "c": (-3.0, 3.0)},
    "exp(sin(pi*a) + b**2)": {"a": (-1.0, 1.0), "b": (-1.0, 1.0)},
    "exp(-a/3)*cos(4*a)": {"a": (0.0, 6.0)},
    "a*sin(b) + 0*c": {"a": P, "b": P, "c": (-1.0, 1.0)},
    "a - cos(b)/a": {"a": (0.5, 4.0), "b": (-2.0, 2.0)},
    "1/(exp(a*b/c) - 1)": {"a": P, "b": P, "c": P},
    "asin(sin(a)/b)": {"a": (-1.2, 1.2), "b": (1.1, 2.5)},
}


SLOW = ("a*(b + c*sin(d))", "(a*b + c*d)/(a + c)", "1/(exp(a*b/c) - 1)")  # a deep search
CASES = [pytest.param(text, marks=pytest.mark.slow if text in SLOW else ()) for text in EQUATIONS]


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("text", CASES)
def test_equations_are_found_again(text):
    names, truth, x, y = rows(text, **EQUATIONS[text])
    found = kanlens.discover(x, y, names, time_limit=20.0, progress=False)
    assert close(found.sympy(), truth, names, EQUATIONS[text])
    assert found.stopped_because == "an exact formula was found"


def test_the_comparison_refuses_a_wrong_formula():
    names, truth, *_ = rows("a*b**2/c", **EQUATIONS["a*b**2/c"])
    assert not close(1.0001 * truth, truth, names, EQUATIONS["a*b**2/c"])


@pytest.mark.slow  # searches formulas
def test_constants_become_exact_in_the_units_of_the_data():
    names, _, x, y = rows("a*(b + c**2/2)", count=300, a=(1e3, 5e3), b=(1e5, 9e5), c=(100, 900))
    noise = 1e-3 * y.std() * np.random.default_rng(1).normal(size=len(y))
    found = kanlens.discover(x, y + noise, names, time_limit=1.5, progress=False)
    assert sympy.expand(found.sympy() - sympy.sympify("a*(b + c**2/2)")) == 0
    assert "1/2" in found.receipt.snapped


@pytest.mark.slow  # searches formulas
def test_what_was_chosen_is_given_beside_what_follows_the_noise():
    names, truth, x, y = rows("log((1 + a)*(1 + a**2))", count=20, seed=1, a=(0.0, 2.0))
    noise = np.random.default_rng(1).standard_normal(20)
    found = kanlens.discover(x, y + 0.001 * y.std() * noise, names, time_limit=60, progress=False)
    assert found.get_best()["loss"] > 1.5 * found.equations_["loss"].min()
    assert sympy.simplify(sympy.exp(found.sympy() - truth)) == 1


def test_the_result_has_a_front_and_a_receipt():
    names, _, x, y = rows("a*sin(b)", a=P, b=P)
    found = kanlens.discover(x, y, names, progress=False)
    table = found.equations_
    assert isinstance(found, kanlens.SymbolicResult)
    assert table["complexity"].is_monotonic_increasing
    assert table["loss"].is_monotonic_decreasing
    assert found.model is None
    assert found.receipt.chosen_on
    assert not found.receipt.held_out
    assert found.receipt.explains
    np.testing.assert_allclose(found.predict(x)[:, 0], y, rtol=1e-12)


@pytest.mark.slow  # every way is tried
def test_what_has_no_formula_gets_a_short_one_that_says_so():
    from scipy import special

    x = np.random.default_rng(0).uniform(1.0, 4.0, (300, 3))
    y = special.j0(2 * x[:, 0] * x[:, 1]) * special.gamma(x[:, 2]) + special.j1(x[:, 2] * x[:, 0])
    found = kanlens.discover(x, y, time_limit=0.7, progress=False)
    for k in range(len(found.equations_)):
        assert 1 + sum(len(each.args) - 1 for each in found.sympy(k).atoms(sympy.Add)) <= 12
    assert found.receipt.approximate
    assert "NOTE: the formula is an approximation, which leaves" in found.receipt.summary()


def test_what_is_exact_or_leaves_only_noise_is_no_approximation():
    names, _, x, y = rows("a*b", a=P, b=P, count=200)
    noise = 0.01 * y.std() * np.random.default_rng(1).normal(size=len(y))
    for target in (y, y + noise):
        found = kanlens.discover(x, target, names, time_limit=10.0, progress=False)
        assert not found.receipt.approximate
        assert "approximation" not in found.receipt.summary()


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("seed", [4, 65])
def test_columns_of_few_values_are_taken(seed):
    draw = np.random.default_rng(seed)
    count = int(draw.integers(3, 25))
    x = draw.integers(0, draw.integers(2, 4), (count, draw.integers(1, 5))).astype(float)
    for y in (x[:, 0] * x[:, -1], np.abs(x[:, 0] - x[:, -1]), 1.0 * (draw.random(len(x)) > 0.5)):
        found = kanlens.discover(x, y, time_limit=0.3, progress=False)
        assert np.isfinite(float(found.get_best()["loss"]))


def test_where_rows_that_judge_have_one_target_there_is_a_receipt():
    x = np.arange(1.0, 13)
    y = np.array([1, 2.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1.0])
    found = kanlens.discover(x, y, time_limit=1.0, progress=False)
    assert found.receipt.loss is None
    assert "is an approximation; no exact one was found." in str(found.receipt)


def test_the_receipt_is_about_the_formula_that_is_given():
    chosen = Entry(X1, 0.03, 7)
    entries = [Entry(sympy.Float(2), 1.2, 1), Entry(X2, 1.5, 5), chosen, Entry(X1 * X2, 0.007, 9)]
    found = shown(entries, chosen)
    sizes, errors = [e.complexity for e in found], [e.error for e in found]
    assert found[choose(sizes, errors, "best", **rule_of(chosen))] is chosen
    assert entries[-1] not in found
    assert shown([*entries[:-1], Entry(X1 * X2, 0.029, 9)], chosen)[-1].error == 0.029


@pytest.mark.parametrize("count", [2, 3])
def test_a_few_rows_get_a_line_and_a_warning(count):
    x = np.arange(1.0, count + 1)
    found = kanlens.discover(x, 2 * x, progress=False)
    assert found.sympy() == 2 * sympy.Symbol("x1")
    assert found.receipt.explains
    assert not found.receipt.trustworthy
    assert "other formulas may too: there are too few different rows." in found.receipt.summary()
    np.testing.assert_array_equal(found.predict(x), found.predict(x[:, None]))


def test_whole_numbers_and_frames_are_taken():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.integers(1, 10, (100, 2)), columns=["lambda", "b c"])
    y = pd.Series(frame["lambda"] ** 2 + frame["b c"], name="out")
    found = kanlens.discover(frame, y, progress=False)
    assert found.sympy() == sympy.Symbol("lambda") ** 2 + sympy.Symbol("b c")
    assert found.output_names == ("out",)


@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        ([[1.0], [np.nan], [2.0]], [1, 2, 3], DataError, "finite numbers, got nan at row 1"),
        ([[1.0], [2.0]], [1, np.inf], DataError, "finite numbers, got inf at row 1"),
        ([[1.0]], [1.0], ShapeError, "at least 2 rows, got 1"),
        (np.zeros((0, 2)), np.zeros(0), ShapeError, "at least 2 rows, got 0"),
        (np.zeros((3, 0)), np.zeros(3), ShapeError, "x of shape (row, feature)"),
        (np.zeros((3, 2)), np.zeros((3, 2)), ShapeError, "y of shape (3,), got (3, 2)"),
        (np.array([["a"], ["b"]]), [1, 2], DTypeError, "discover: expected x to be"),
        ([[10**400], [2], [3]], [1, 2, 3], DTypeError, "list (int too large to convert to float)"),
        ([[1], [2], [3]], [10**400, 2, 3], DTypeError, "list (int too large to convert to float)"),
        (
            pd.DataFrame({"a": [10**400, 2]}, dtype=object),
            [1, 2],
            DataError,
            "got inf at row 0, column 'a'",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(x, y, error, text):
    with pytest.raises(error) as caught:
        kanlens.discover(x, y, progress=False)
    assert text in str(caught.value)
    assert str(caught.value).startswith("discover")
    assert "\n" not in str(caught.value)


DATES = pd.date_range("2020-01-01", periods=60)
LEFT_OUT = "discover: expected columns of numbers, got text or dates in {}. They are left out."


@pytest.mark.parametrize("kind", ["text", "dates", "both"])
def test_columns_of_text_and_dates_are_left_out_with_a_warning(kind):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(1.0, 3.0, (60, 2)), columns=["a", "b"])
    if kind != "dates":
        frame.insert(0, "where", ["north", "south", "east"] * 20)
    if kind != "text":
        frame.insert(1, "day", DATES)
    names = [name for name in frame if name not in ("a", "b")]
    text = LEFT_OUT.format(", ".join(map(repr, names)))
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        found = kanlens.discover(frame, frame["a"] * frame["b"], progress=False)
    assert found.feature_names == ("a", "b")
    assert found.sympy() == sympy.sympify("a*b")
    np.testing.assert_allclose(found.predict(frame)[:, 0], frame["a"] * frame["b"])


def test_names_that_are_given_are_those_of_all_columns():
    frame = pd.DataFrame({"a": DATES, "b": np.linspace(0, 1, 60)})
    with pytest.warns(UserWarning, match="left out"):
        found = kanlens.discover(frame, 2 * frame["b"], ["day", "height"], progress=False)
    assert found.feature_names == ("height",)


def test_a_table_without_columns_of_numbers_is_refused():
    text = "discover: expected columns of numbers, got text or dates in 'day'. "
    with pytest.raises(DTypeError, match=f"^{text}Convert them to numbers.$"):
        kanlens.discover(pd.DataFrame({"day": DATES}), np.arange(60.0), progress=False)


def test_names_must_fit():
    with pytest.raises(ShapeError, match="2 different feature_names"):
        kanlens.discover(np.ones((3, 2)), np.ones(3), ["a", "a"], progress=False)


@pytest.mark.slow  # searches formulas
def test_errors_that_numpy_raises_do_not_end_a_search():
    x = np.random.default_rng(0).uniform(-3.0, 3.0, (60, 2))
    with np.errstate(all="raise"):
        found = kanlens.discover(
            x, np.exp(-9 * x[:, 0] ** 2) + x[:, 1], time_limit=0.3, progress=False
        )
        assert np.isfinite(found.predict(x)).all()


def test_a_time_limit_must_be_positive():
    with pytest.raises(InvalidValueError, match="time_limit"):
        kanlens.discover(np.ones((3, 2)), np.ones(3), time_limit=0, progress=False)


@pytest.mark.slow  # starts another interpreter
def test_the_time_is_kept_and_nothing_is_left_behind():
    x = np.random.default_rng(0).normal(size=(600, 5))
    y = np.sin(x[:, 0] * x[:, 1] + x[:, 2]) * np.cos(x[:, 3] * x[:, 4]) + x[:, 0] ** 2
    kanlens.discover(x[:50], x[:50, 0], progress=False)  # imports
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM)]
    threads, state = threading.active_count(), torch.get_rng_state()
    start = time.process_time()
    found = kanlens.discover(x, y, time_limit=0.7, progress=False)
    assert time.process_time() - start < 1.0
    assert found.stopped_because == "the time limit was reached"
    assert np.isfinite(found.predict(x)).all()
    after = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM)]
    assert handlers == after
    assert threading.active_count() == threads
    assert bool((torch.get_rng_state() == state).all())


def test_an_interrupt_returns_the_best_so_far(monkeypatch):
    from kanlens.discovery import _discover as discover

    def interrupted(problem, front, **_):
        front.submit(2 * problem.names[0])
        front.refit()
        raise KeyboardInterrupt

    monkeypatch.setattr(discover, "search", interrupted)
    x = np.random.default_rng(0).uniform(1, 2, (50, 1))
    with pytest.warns(InterruptedWarning, match="interrupted"):
        found = kanlens.discover(x, 2 * x[:, 0] + 1e-3 * np.sin(9 * x[:, 0]), progress=False)
    assert found.stopped_because == "interrupted"
    assert found.sympy() == 2 * sympy.Symbol("x1")


@pytest.mark.slow  # searches formulas
def test_a_generator_makes_the_run_repeatable():
    names, _, x, y = rows("a*sin(b)", count=2500, a=P, b=P)
    found = [
        kanlens.discover(x, y, names, generator=torch.Generator().manual_seed(4), progress=False)
        for _ in range(2)
    ]
    assert found[0].sympy() == found[1].sympy()
    assert found[0].receipt.rmse == found[1].receipt.rmse
    assert (found[0].receipt.rows, found[0].receipt.held_out) == (250, True)


def test_reasons_to_stop_print_their_words():
    words = "the time limit was reached"
    assert f"{StopReason.TIME} {StopReason.TIME!r}" == f"{words} {words!r}"
    assert json.dumps([*StopReason][:2]) == '["an exact formula was found", "only noise was left"]'
    assert pickle.loads(pickle.dumps(StopReason.NOISE)) is StopReason.NOISE  # noqa: S301


def test_what_is_no_generator_is_refused():
    x = np.ones((5, 1)) * np.arange(5.0)[:, None]
    with pytest.raises(InvalidValueError, match=r"^discover: expected generator as a torch\."):
        kanlens.discover(x, x[:, 0], generator=5)
