"""Groups of rows that folds must not separate: copies, near copies, labels; parts and folds."""

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.data._groups import deal_groups, row_groups, split_groups
from kanlens.errors import DataError, InvalidValueError, ShapeError

DRAW = np.random.default_rng(0)


def groups_of(x, y=None, labels=None):
    x = torch.as_tensor(np.asarray(x, dtype=float))
    return row_groups(x, None if y is None else torch.as_tensor(y), labels, call="fit")


def as_sets(groups):
    return sorted(map(tuple, pd.Series(range(len(groups))).groupby(groups.numpy()).apply(list)))


def test_copies_are_those_that_a_comparison_of_every_two_rows_finds():
    x = np.concatenate((DRAW.normal(size=(40, 3)), DRAW.integers(0, 3, (40, 3))))
    drawn = DRAW.integers(0, 80, 200)
    x, y = x[drawn], DRAW.normal(size=(80, 1))[drawn]
    rows = np.column_stack((x, y))
    groups = groups_of(x, y).numpy()
    np.testing.assert_array_equal(groups[:, None] == groups, (rows[:, None] == rows).all(2))


@pytest.mark.parametrize("columns", [1, 2, 30])
@pytest.mark.parametrize("draw", [DRAW.normal, DRAW.uniform, DRAW.lognormal])
def test_copies_with_noise_of_a_millionth_of_the_range_are_found(draw, columns):
    x = draw(size=(150, columns + 1))
    noise = [1e-6 * np.ptp(x, axis=0) * DRAW.uniform(-1, 1, x.shape) for _ in range(3)]
    rows = np.concatenate([x + one for one in noise])
    groups = groups_of(rows[:, 1:], rows[:, :1])
    assert as_sets(groups) == [(i, i + 150, i + 300) for i in range(150)]


def test_equal_x_with_other_numbers_is_no_copy_and_with_other_classes_is():
    x, y = np.tile(DRAW.normal(size=(50, 2)), (2, 1)), np.arange(100)
    assert len(set(groups_of(x, 1.0 * y[:, None]).tolist())) == 100
    assert as_sets(groups_of(x, y % 2)) == [(i, i + 50) for i in range(50)]
    assert as_sets(groups_of(x)) == [(i, i + 50) for i in range(50)]


def test_a_whole_table_given_twice_is_seen_although_its_values_are_few():
    x, y = DRAW.integers(0, 5, (200, 3)), DRAW.integers(0, 2, 200)
    assert len(groups_of(x, y).unique()) == 200
    groups = groups_of(np.tile(x, (2, 1)), np.tile(y, 2))
    assert torch.equal(groups[:200], groups[200:])


@pytest.mark.parametrize("rows", [1000, 100_000])
def test_a_dense_curve_is_not_one_group(rows):
    x = np.linspace(0, 1, rows)[:, None]
    assert np.bincount(groups_of(x, np.sin(x))).max() <= 2 + 4e-5 * rows


def test_a_bad_cell_does_not_make_all_rows_equal():
    x, y = DRAW.normal(size=(200, 1)), DRAW.normal(size=(200, 1))
    x[7] = y[7] = -1e12
    assert len(set(groups_of(x, y).tolist())) == 200


KINDS = DRAW.integers(0, 5, (2000, 2)) // [[1, 2]]
CODED = np.column_stack((np.eye(5)[KINDS[:, 0]], np.eye(3)[KINDS[:, 1]], np.eye(5)[KINDS[:, 0]]))
CLASSES = (DRAW.uniform(size=2000) < 0.2 + 0.1 * KINDS[:, 0]).astype(int)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (50, 1)), np.tile([0, 1, 1, 0], 50)),
        (np.eye(5)[DRAW.integers(0, 5, 300)], DRAW.integers(0, 2, 300)),
        (DRAW.integers(0, 3, (500, 3)), DRAW.integers(0, 2, 500)),
        (np.zeros((9, 1)), np.zeros((9, 1))),
        (CODED, CLASSES),
        (CODED, 1.0 * CLASSES[:, None]),
        (CODED, CODED[:, :1] + CODED[:, 5:6]),  # what columns say exactly, in few cells
    ],
)
def test_rows_of_few_values_are_equal_by_chance(x, y):
    assert groups_of(x, y).tolist() == list(range(len(x)))


@pytest.mark.slow  # takes a while
def test_many_rows_take_no_time_to_compare():
    x = torch.rand(50_000, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = row_groups(x.repeat(2, 1), x.sum(1, keepdim=True).repeat(2, 1), call="fit")
    assert torch.equal(groups[:50_000], groups[50_000:])
    assert int(groups.max()) + 1 == 50_000


def test_labels_join_rows_and_their_copies():
    x = DRAW.normal(size=(6, 2))[[0, 1, 2, 3, 4, 0]]
    labels = ["a", "b", "b", "c", "d", "d"]
    assert as_sets(groups_of(x, x[:, :1], labels)) == [(0, 4, 5), (1, 2), (3,)]


@pytest.mark.parametrize(
    ("labels", "error", "text"),
    [
        ([1, 2], ShapeError, "groups of shape (3,), got shape (2,). Give each row a label."),
        ([1, None, 2], DataError, "a group for every row, got an empty cell in row 1. Fill it."),
        (
            [1, 1, 1],
            InvalidValueError,
            "at least two groups, got one. Leave groups out, or name another column.",
        ),
    ],
)
def test_labels_that_cannot_be_groups_are_refused(labels, error, text):
    with pytest.raises(error) as caught:
        groups_of(np.arange(3)[:, None], labels=pd.Series(labels, dtype=object))
    assert str(caught.value) == f"fit: expected {text}"


@pytest.mark.parametrize("seed", range(20))
def test_parts_keep_groups_together_and_have_about_their_sizes(seed):
    draw = np.random.default_rng(seed)
    groups = torch.as_tensor(np.unique(draw.integers(0, 60, 200), return_inverse=True)[1])
    order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    parts = split_groups(order, groups, [40, 20])
    assert sorted(torch.cat(parts).tolist()) == list(range(200))
    assert sum(len(groups[part].unique()) for part in parts) == len(groups.unique())
    most = int(groups.bincount().max())
    assert abs(len(parts[0]) - 40) <= most
    assert abs(len(parts[0]) + len(parts[1]) - 60) <= most


def test_a_group_larger_than_a_part_is_left_to_the_rest():
    groups = torch.tensor([0] * 80 + list(range(1, 21)))
    for seed in range(5):
        order = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
        assert len(split_groups(order, groups, [20])[0]) == 20
    halves = torch.tensor([0] * 6 + [1] * 4)
    assert [len(part) for part in split_groups(torch.arange(10), halves, [2])] == [4, 6]


def test_single_rows_are_parted_and_dealt_as_they_are_drawn():
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    singles = torch.arange(10)
    first, none, rest = split_groups(order, singles, [3, 0])
    assert torch.equal(torch.cat((first, rest)), order)
    assert (len(first), len(none)) == (3, 0)
    assert deal_groups(order, singles, 4)[order].tolist() == [0, 1, 2, 3] * 2 + [0, 1]


def test_folds_are_even_in_size_and_in_targets():
    draw = np.random.default_rng(1)
    groups = torch.as_tensor(np.repeat(np.arange(90), draw.integers(1, 6, 90)))
    target = torch.as_tensor(draw.normal(size=90))[groups]
    folds = deal_groups(target.argsort(stable=True), groups, 6)
    assert all(len(set(folds[groups == group].tolist())) == 1 for group in range(90))
    sizes = folds.bincount()
    assert int(sizes.max() - sizes.min()) <= 1
    means = torch.stack([target[folds == fold].mean() for fold in range(6)])
    assert float(means.std()) < 0.5 * float(target.std())


# --- tables ------------------------------------------------------------------------------------


def table(**about):
    frame = pd.DataFrame({"who": np.repeat(list("abcdefgh"), 5), "a": np.arange(40.0)})
    frame["y"] = frame["a"] ** 2
    return kanlens.read_table(frame, target="y", **about)


def test_a_column_of_groups_is_no_feature_and_is_held_out_whole():
    one, other = table(groups="who"), table(drop="who")
    assert one.feature_names == ("a",)
    for seed in range(5):
        for some, groups in ((one, None), (other, "who"), (other, one.frame["who"])):
            parts = some.split(0.25, torch.Generator().manual_seed(seed), groups=groups)
            who = [set(part.frame["who"]) for part in parts]
            assert not who[0] & who[1]
            assert [part.rows for part in parts] == [30, 10]


def test_unknown_columns_of_groups_are_refused():
    with pytest.raises(DataError) as caught:
        table(groups="whom")
    expected = "read_table: expected groups among the columns 'who', 'a', 'y', got 'whom'."
    assert str(caught.value) == f"{expected} Did you mean 'who'?"
    for roles in ({"groups": "y"}, {"groups": "a", "features": ["a"]}):
        with pytest.raises(DataError) as caught:
            table(**roles)
        text = "read_table: expected groups to be a column other than target and features, got "
        assert str(caught.value) == f"{text}{roles['groups']!r}. Name it once."
    with pytest.raises(InvalidValueError, match=r"^Table\.split: expected groups to be one of"):
        table(drop="who").split(0.2, groups="whom")


def test_copies_are_not_parted():
    frame = pd.DataFrame(DRAW.normal(size=(60, 3)), columns=list("aby"))
    frame = pd.concat([frame] * 3, ignore_index=True)
    tripled = kanlens.read_table(frame, target="y")
    training, test = tripled.split(0.2, torch.Generator().manual_seed(0))
    assert (training.rows, test.rows) == (144, 36)
    assert not set(map(tuple, training.frame.to_numpy())) & set(map(tuple, test.frame.to_numpy()))


def test_the_last_rows_are_held_out():
    training, test = table(groups="who").split(0.2, last=True)
    assert (list(training.frame.index), list(test.frame.index)) == ([*range(32)], [*range(32, 40)])
