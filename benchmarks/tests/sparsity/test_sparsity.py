"""True edges are counted right, tables are parted, and the whole runs in its smallest form."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from benchmarks.harness import Setup
from benchmarks.sparsity.budgets import ARMS, BUDGETS, parts
from benchmarks.sparsity.experiments import SPARSITY
from benchmarks.sparsity.penalties import edges_left
from benchmarks.sparsity.planted import NOISE, PLANTED, f1_of_edges
from kanlens import KAN, prune

TRUE = [{(0, 0), (0, 1), (1, 2)}, {(0, 0), (0, 1)}]  # of widths 3, 3, 1


@pytest.mark.parametrize(
    ("found", "f1"),
    [
        (TRUE, 1.0),
        ([{(2, 0), (2, 1), (0, 2)}, {(0, 2), (0, 0)}], 1.0),  # hidden nodes in another order
        ([{(2, 0), (0, 1), (0, 2)}, {(0, 2), (0, 0)}], 0.8),
        ([{(0, 0)}, {(0, 0)}], 4 / 7),
        ([{(0, 1), (1, 2)}, {(0, 2)}], 0.5),
        ([set(), set()], 0.0),
    ],
)
def test_f1_is_that_of_the_best_order_of_hidden_nodes(found, f1):
    assert f1_of_edges(found, TRUE, [3, 3, 1]) == pytest.approx(f1)


@pytest.mark.parametrize("name", PLANTED)
def test_functions_depend_on_the_inputs_of_their_edges_alone(name):
    task = PLANTED[name]
    (x, noisy), (test_x, y) = (task.draw(0)[part] for part in ("train", "test"))
    torch.testing.assert_close(task.function(test_x)[:, None], y)
    assert float((noisy[:, 0] - task.function(x)).std() / y.std()) == pytest.approx(NOISE, rel=0.2)
    relevant = {in_ for _, in_ in task.edges[0]}
    for column in range(x.shape[1]):
        moved = x.clone()
        moved[:, column] = 0.3
        changed = not torch.equal(task.function(moved), task.function(x))
        assert changed == (column in relevant)


def test_edges_left_are_those_of_the_pruned_model():
    generator = torch.Generator().manual_seed(0)
    model = KAN([3, 2, 1], generator=generator, scale_noise=2.0).double()
    x = torch.rand(40, 3, generator=generator, dtype=torch.float64)
    result = prune(model, x, budget=0.3, progress=False)
    assert 0 < sum(map(len, edges_left(model, result))) == result.edges_after < 8


def test_a_table_is_parted_without_overlap():
    x = torch.arange(100.0)[:, None]
    groups = parts(x, 2 * x, seed=3)
    assert [len(part) for part, _ in groups] == [60, 20, 20]
    assert torch.cat([part for part, _ in groups]).sort(0).values.equal(x)
    assert all(torch.equal(y, 2 * part) for part, y in groups)
    assert not torch.equal(groups[0][0], parts(x, x, seed=4)[0][0])


@pytest.mark.slow  # networks are trained along a path, and one is pruned in every way
def test_smoke_fills_both_tables(tmp_path):
    found = SPARSITY.run(Setup(seeds=(0,), smoke=True), tmp_path, progress=False)
    edges, budgets = found.tables["sparsity-true-edges"], found.tables["sparsity-budgets"]
    assert edges["edge_f1"].between(0, 1).all()
    assert set(edges["true_edges"]) == {3}
    assert list(dict.fromkeys(budgets["arm"])) == list(ARMS)
    assert (budgets["edges"] < budgets["edges_before"]).all()
    assert (budgets["rise"] <= budgets["budget"] * (1 + 1e-4)).all()  # rounded in the file
    assert [path.name for path in found.files][2:] == ["sparsity-budgets.png"]
    points = SPARSITY.pictures["sparsity-budgets"].draw(found.tables).axes[0].containers[0]
    first = pd.Series(budgets.loc[budgets["arm"] == "l1", "edges"]).tolist()
    assert points.lines[0].get_ydata().tolist() == first
    assert list(found.summaries) == ["penalties", "budgets on composed"]


def test_tables_that_are_not_there_are_named(tmp_path):
    plan = BUDGETS.plan(Setup(seeds=(0, 1), data=tmp_path))
    assert (plan.keys, set(plan.skipped)) == ((), {"concrete", "california_housing"})
