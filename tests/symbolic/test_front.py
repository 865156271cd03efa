import math
from itertools import pairwise

import numpy as np
import pytest

from kanlens.symbolic._pareto_front import choose, front, front_and_beyond, scores


def test_a_front_holds_exactly_what_nothing_beats():
    generator = np.random.default_rng(0)
    for _ in range(50):
        sizes = generator.integers(1, 8, 12).tolist()
        losses = generator.choice([0.1, 0.2, 0.3, 0.5], 12).tolist()
        rows = front(sizes, losses)
        for k in range(12):
            better = [
                j
                for j in range(12)
                if (sizes[j] <= sizes[k] and losses[j] <= losses[k])
                and (sizes[j], losses[j]) != (sizes[k], losses[k])
            ]
            same = [j for j in rows if (sizes[j], losses[j]) == (sizes[k], losses[k])]
            assert len(same) == (0 if better else 1)
        assert all(sizes[a] < sizes[b] and losses[a] > losses[b] for a, b in pairwise(rows))


def test_of_equal_rows_the_later_stays_and_rounding_is_equal():
    assert front([3, 3], [0.1, 0.1]) == [1]
    assert front([3, 5], [1e-27, 1e-31]) == [0]
    assert front([3, 5], [math.nan, 0.1]) == [0, 1]
    assert front([1], [math.inf]) == [0]


def test_scores_are_the_fall_of_the_log_loss_per_node():
    found = scores([1, 4, 5], [1.0, math.exp(-6), math.exp(-7)])
    assert found == pytest.approx([0.0, 2.0, 1.0])
    assert scores([1, 2], [math.inf, 0.1]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("rule", "options", "expected"),
    [
        ("best", {}, 2),
        ("accuracy", {}, 3),
        ("score", {}, 1),
        ("best", {"negligible": 0.09}, 1),
        ("best", {"limit": 0.01}, 3),
        ("best", {"limit": 1e-9}, 3),
    ],
)
def test_what_the_rules_take(rule, options, expected):
    sizes, losses = [1, 2, 6, 9], [1.0, 0.1, 0.013, 0.01]
    found = scores(sizes, losses)
    assert found[1] > found[2] > found[3] > found[0]
    assert choose(sizes, losses, rule, **options) == expected
    assert choose([1], [math.inf], rule) == 0
    assert choose([1, 9, 397], [1.0, 0.2, 11.0], rule) == 1


def test_partial_rows_keep_no_other_off_and_follow_at_the_end():
    generator = np.random.default_rng(1)
    for _ in range(100):
        sizes = generator.integers(1, 20, 10).tolist()
        losses = generator.uniform(0, 1, 10).tolist()
        partial = (generator.uniform(0, 1, 10) < 0.4).tolist()
        if all(partial):
            continue
        rows = front_and_beyond(sizes, losses, partial)
        whole = [k for k in range(10) if not partial[k]]
        best = [whole[k] for k in front([sizes[k] for k in whole], [losses[k] for k in whole])]
        assert rows[: len(best)] == best
        assert all(partial[k] for k in rows[len(best) :])
        assert all(sizes[a] < sizes[b] and losses[a] > losses[b] for a, b in pairwise(rows))
    assert front_and_beyond([3], [0.1], [True]) == [0]
