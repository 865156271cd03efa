"""No formula is chosen that is worse on rows it was not fitted to than a shorter one."""

import numpy as np
import pytest
import sympy
import torch

from kanlens._runtime import Deadline
from kanlens.discovery._discover import chosen_entry
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._scaling import table_of
from kanlens.symbolic import symbolize
from kanlens.symbolic._partition import partition, places_of
from tests.symbolic.made import spline_network

X1, X2 = sympy.symbols("x1 x2", real=True)


def table(rows, outliers):
    """Return rows on which an exponential helps, and some, far out, on which it breaks down."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (rows, 2))
    x[outliers, 1] = 12.0
    y = x[:, 0] + 0.05 * np.exp(3 * np.minimum(x[:, 1], 1.0))
    return x, y[:, None]


def loss_on(x, y, values):
    return np.square(values - y).mean() / y.var()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["best", "accuracy", "score"])
def test_an_exponential_that_explodes_on_other_rows_is_not_the_formula(rule):
    rows = partition(600, None).choosing.numpy()
    x, y = table(600, rows[:3])
    model, _ = spline_network([[[lambda v: v, lambda v: 0.05 * torch.exp(3 * v)]]], [(-1, 1)] * 2)
    found = symbolize(model, x, y, functions=("x", "exp"), model_selection=rule)
    table_, best = found.equations_, found.get_best()
    losses = [loss_on(x[rows], y[rows], found.predict(x[rows], k)) for k in table_.index]
    np.testing.assert_allclose(table_["loss"], losses, rtol=1e-9)
    chosen = losses[table_.index.get_loc(best.name)]
    shorter = [
        v for v, c in zip(losses, table_["complexity"], strict=True) if c < best["complexity"]
    ]
    assert all(chosen < other for other in shorter)
    assert chosen < loss_on(x[rows], y[rows], y.mean())
    assert not found.sympy().has(sympy.exp)
    inside = symbolize(model, *table(600, []), functions=("x", "exp"), model_selection=rule)
    assert inside.sympy().has(sympy.exp)  # the same, but for the outliers


@pytest.mark.slow  # derives formulas
def test_rows_to_judge_choose_where_they_show_that_a_shorter_formula_is_better():
    model, _ = spline_network([[[lambda v: v, lambda v: 0.05 * torch.exp(3 * v)]]], [(-1, 1)] * 2)
    x, y = table(600, [])
    for outliers in ([], [7]):
        x_test, y_test = table(100, outliers)
        found = symbolize(model, x, y, functions=("x", "exp"), x_test=x_test, y_test=y_test)
        receipt, exploded = found.receipt, len(outliers) > 0
        assert found.sympy().has(sympy.exp) == (not exploded)
        assert (receipt.chosen_on, receipt.held_out) == (exploded, not exploded)
        assert receipt.rows == (220 if exploded else 100)
        losses = [
            loss_on(x_test, y_test, found.predict(x_test, k)) for k in range(len(found.stages))
        ]
        best = found.get_best()
        sizes = found.equations_["complexity"]
        shorter = [losses[k] for k in sizes.index if sizes[k] < best["complexity"]]
        assert all(losses[best.name] < other for other in shorter)


@pytest.mark.slow  # derives formulas
def test_the_search_leaves_out_what_explodes_on_rows_it_has_not_seen():
    used = np.linspace(0, 2999, 2000).round().astype(int)
    unseen = np.setdiff1d(np.arange(3000), used)
    told = (([], True, 500), (unseen[:4:2], False, 500), (unseen[1:4:2], False, 1000))
    for outliers, expected, rows in told:
        sample = table_of(*table(3000, outliers), None, None)
        front = Front(sample.scaled(), Deadline.after(600.0), exact=sample.rounding)
        front.start()
        for formula in (X1 * sympy.Float(1.0), X1 + sympy.Float(0.05) * sympy.exp(3 * X2)):
            front.submit(formula)
        assert front.chosen().expression.has(sympy.exp)
        sample, chosen = chosen_entry(sample, front)
        assert chosen.expression.has(sympy.exp) == expected
        _, y, fitted, chose = sample.judged
        assert (len(y), len(fitted), chose) == (rows, 2000, rows == 1000)


SIZES = {
    2: [2, 0, 0],
    19: [19, 0, 0],
    20: [16, 4, 0],
    999: [799, 200, 0],
    1000: [700, 200, 100],
    5000: [3500, 1000, 500],
}  # rows, and those of each part


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("drawn", [False, True])
def test_parts_are_apart_and_whole(rows, drawn):
    generator = torch.Generator().manual_seed(0) if drawn else None
    x = torch.rand(rows, 2, generator=torch.Generator().manual_seed(1))
    parts, places = partition(rows, generator), places_of(x, generator)
    assert [len(part) for part in parts] == SIZES[rows]
    assert len(places.judging) == SIZES[rows][2]
    assert len(places.fitted) <= 2004
    for joined in (torch.cat(parts), torch.cat(places)):
        assert joined.sort().values.tolist() == list(range(rows))


def test_rows_that_are_fitted_to_hold_the_ends_of_every_feature():
    x = torch.rand(9000, 2, generator=torch.Generator().manual_seed(0))
    fitted, none, also_none = places_of(x, None, split=False)
    assert len(fitted) <= 2004
    assert len(none) == len(also_none) == 0
    assert {*x.argmin(0).tolist(), *x.argmax(0).tolist()} <= set(fitted.tolist())
