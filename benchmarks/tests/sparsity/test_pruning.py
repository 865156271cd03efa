"""Scores against true damage, and budgets on tables: the numbers are what they say."""

from __future__ import annotations

import copy

import pandas as pd
import pytest
import torch

from benchmarks.harness import Setup
from benchmarks.sparsity.budgets import ARMS, BUDGETS, parts
from benchmarks.sparsity.damage import DAMAGE, agreement, true_damage
from benchmarks.sparsity.experiments import SPARSITY
from benchmarks.sparsity.pictures import PICTURES
from kanlens import KAN
from kanlens.pruning import SCORES, edge_scores


@pytest.fixture
def model():
    found = KAN([3, 4, 1], generator=torch.Generator().manual_seed(0), scale_noise=2.0).double()
    found.layers[0].mask[2, 1] = 0
    return found


def rows(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, dtype=torch.float64, generator=generator) * 2 - 1
    return x, x[:, :1].square() + x[:, 1:2]


def test_true_damage_is_what_removing_by_hand_costs(model):
    (x, _), (test, y) = rows(40), rows(60, seed=2)
    found = true_damage(model, x, (test, y))
    names = edge_scores(model, x)["name"].tolist()
    assert len(found) == len(names) == 15
    hidden = model.scale_inputs(x)
    cut = copy.deepcopy(model)
    with torch.no_grad():
        cut.layers[0].bias[1] += model.layers[0].edge_values(hidden)[:, 1, 2].mean()
        cut.layers[0].mask[1, 2] = 0
        rise = ((cut(test) - y).square().mean() - (model(test) - y).square().mean()) / y.var(
            correction=0
        )
    assert found[names.index("x3 -> h1_2")] == pytest.approx(float(rise), rel=1e-9)
    assert found[0] != pytest.approx(float(rise), rel=1e-3)


def test_damage_on_the_rows_themselves_is_the_score(model):
    x, y = rows(40)
    scores = edge_scores(model, x, y)["damage"]
    true = true_damage(model, x, (x, y))
    scale = float(y.var(correction=0) / model.output_scale.square())
    assert [each * scale for each in true] == pytest.approx(scores.tolist(), rel=1e-9)
    assert agreement(scores.tolist(), true) == 1.0
    assert agreement((-scores).tolist(), true) == -1.0


def test_a_table_is_parted_without_overlap():
    x = torch.arange(100.0)[:, None]
    groups = parts(x, 2 * x, seed=3)
    assert [len(part) for part, _ in groups] == [60, 20, 20]
    assert torch.cat([part for part, _ in groups]).sort(0).values.equal(x)
    assert all(torch.equal(y, 2 * part) for part, y in groups)
    assert not torch.equal(groups[0][0], parts(x, x, seed=4)[0][0])


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    setup = Setup(seeds=(0,), smoke=True)
    found = SPARSITY.run(setup, folder, parts=["damage", "budgets"], progress=False)
    assert found.skipped == {}
    return folder, found


@pytest.mark.slow  # with those after it: a network is pruned in every way
def test_smoke_fills_both_tables(smoke):
    tables, titles = smoke[1].tables, smoke[1].summaries
    damage, budgets = tables["sparsity-damage"], tables["sparsity-budgets"]
    assert damage["score"].tolist() == list(SCORES)
    assert damage["spearman"].between(-1, 1).all()
    assert list(dict.fromkeys(budgets["arm"])) == list(ARMS)
    assert set(SCORES) < set(ARMS)
    assert (budgets["edges"] < budgets["edges_before"]).all()
    assert (budgets["rise"] <= budgets["budget"] * (1 + 1e-4)).all()  # rounded in the file
    assert "rank correlation with true damage" in titles
    assert len(titles["budgets on composed"]) == len(budgets)


@pytest.mark.slow
def test_pictures_are_drawn_from_the_tables(smoke):
    folder, tables = smoke[0], smoke[1].tables
    for name in ("sparsity-damage", "sparsity-budgets"):
        picture = PICTURES[name]
        figure = picture.draw({need: tables[need] for need in picture.needs})
        assert all(ax.has_data() for ax in figure.axes)
        assert picture.caption.endswith(".")
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    drawn = PICTURES["sparsity-damage"].draw(tables).axes[0]
    assert [label.get_text() for label in drawn.get_yticklabels()] == list(SCORES)[::-1]
    panels = PICTURES["sparsity-budgets"].draw(tables).axes
    assert len(panels[0].containers) == len(ARMS)
    points = panels[0].containers[0].lines[0].get_ydata().tolist()
    frame = tables["sparsity-budgets"]
    assert points == pd.Series(frame.loc[frame["arm"] == "l1", "edges"]).tolist()


def test_plans_name_the_tables_and_say_what_is_missing(tmp_path):
    setup = Setup(seeds=(0, 1), data=tmp_path)
    plan = BUDGETS.plan(setup)
    assert plan.keys == ()
    assert set(plan.skipped) == {"concrete", "california_housing"}
    keys = DAMAGE.plan(setup).keys
    assert ("composed", 1) in keys
    assert not {"concrete", "I.12.11"} & {name for name, _ in keys}
