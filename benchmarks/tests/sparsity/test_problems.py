"""The problems: planted functions are what their formulas say, and data is what was asked for."""

from __future__ import annotations

import re

import pytest
import sympy
import torch

from benchmarks.data import TABLES, beside_checkout
from benchmarks.sparsity.planted import PLANTED
from benchmarks.sparsity.problems import NAMES, NOISE, RowCounts, problem
from kanlens.errors import InvalidValueError, MissingFileError

SHARED = beside_checkout()
needs_data = pytest.mark.skipif(SHARED is None, reason="the data folder is not there")


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_network_is_its_formula(name):
    plant = PLANTED[name]
    x = plant.draw(200, torch.Generator().manual_seed(0))
    symbols = [sympy.Symbol(f"x{i + 1}") for i in range(plant.inputs)]
    text = re.sub(r"\|(\w+)\|", r"Abs(\1)", plant.formula).replace("^", "**")
    text = re.sub(r"\b(pi|2) (?=[x(])", r"\1*", text)
    function = sympy.lambdify(symbols, sympy.sympify(re.sub(r"2 x", "2*x", text)), "numpy")
    torch.testing.assert_close(plant(x), torch.as_tensor(function(*x.numpy().T)))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_function_depends_on_its_relevant_inputs_alone(name):
    plant = PLANTED[name]
    x = plant.draw(50, torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(plant(x).sum(), x)
    moved = slope.abs().amax(0) > 1e-6
    assert tuple(moved.nonzero()[:, 0].tolist()) == plant.relevant
    assert len(plant.relevant) < plant.inputs


def test_half_of_the_irrelevant_inputs_go_along_with_relevant_ones():
    x = PLANTED["groups"].draw(4000, torch.Generator().manual_seed(0))
    together = torch.corrcoef(x.mT)
    assert together[4, 0] > 0.8 and together[6, 1] > 0.8
    assert together[5, :4].abs().max() < 0.1 and together[7, :4].abs().max() < 0.1
    assert x.abs().max() <= 1


def test_noise_is_on_the_rows_to_train_on_and_not_on_the_test_rows():
    plant, data = PLANTED["composed"], problem("composed").data(0)
    for x, y in (data.train, data.validation):
        noise = (y[:, 0] - plant(x)).std() / plant(x).std()
        assert 0.8 * NOISE < noise < 1.2 * NOISE
    x, y = data.test
    torch.testing.assert_close(y[:, 0], plant(x))


def test_a_seed_gives_the_same_rows_and_another_one_others():
    first, again, other = (problem("additive").data(seed).train[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_as_many_rows_as_asked_for():
    data = problem("deep").data(0, RowCounts(train=20, validation=10, test=5))
    assert [len(part[0]) for part in (data.train, data.validation, data.test)] == [20, 10, 5]


def test_a_problem_without_its_data_says_what_to_pass(tmp_path):
    text = "benchmarks: expected the file feynman.csv, got no data folder. "
    with pytest.raises(MissingFileError, match=re.escape(text + "Pass the folder with --data.")):
        problem("I.34.8")
    text = f"the file tabular/concrete.csv, got a folder without it, {str(tmp_path)!r}."
    with pytest.raises(MissingFileError, match=re.escape(text)):
        problem("concrete", tmp_path)


def test_an_unknown_problem_is_refused():
    with pytest.raises(InvalidValueError, match=r"Did you mean 'groups'\?"):
        problem("group")


@needs_data
@pytest.mark.parametrize("name", [name for name in NAMES if name not in PLANTED])
def test_problems_of_the_data_folder(name):
    task = problem(name, SHARED)
    data = task.data(0, RowCounts(train=200, validation=50, test=50))
    assert data.train[0].shape[1] == task.widths[0] > len(task.relevant)
    for x, y in (data.train, data.validation, data.test):
        assert bool(torch.isfinite(x).all() and torch.isfinite(y).all())
        assert y.shape == (len(x), 1)


@needs_data
def test_the_columns_added_to_a_table_are_shuffled_copies():
    task = problem("concrete", SHARED)
    x = task.data(0).train[0]
    assert task.masks is None
    assert set(TABLES) & set(NAMES) == {"concrete", "california_housing"}
    own, added = x[:, :8], x[:, 8:]
    assert added.shape[1] == 4
    together = torch.corrcoef(torch.column_stack([own, added]).mT)[8:, :8]
    assert together.abs().max() < 0.25


@needs_data
def test_a_product_has_the_graph_of_a_product():
    task = problem("I.34.8", SHARED)
    assert task.masks is not None
    assert [mask.tolist() for mask in task.masks] == [[[True] * 4 + [False] * 8], [[True]]]
    x, y = task.data(0).test
    torch.testing.assert_close(y[:, 0], x[:, 0] * x[:, 1] * x[:, 2] / x[:, 3])
    assert problem("I.12.11", SHARED).masks is None
