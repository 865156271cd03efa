"""What is made of the texts of options."""

from __future__ import annotations

import pytest

from kanlens.cli.attribution_commands import _given
from kanlens.cli.model_commands import _strengths
from kanlens.cli.options import factor, hidden_nodes, norms, output_index, split_names


@pytest.mark.parametrize(
    ("read", "text", "found"),
    [
        (output_index, "2", 2),
        (output_index, "price", "price"),
        (split_names, 'a, b, "c,d"', ["a", "b", "c,d"]),
        (norms, "weight_l1", "weight_l1"),
        (norms, "activation_l1=1,curvature=0.001", {"activation_l1": 1.0, "curvature": 0.001}),
        (hidden_nodes, "5,3:2", [5, (3, 2)]),
        (hidden_nodes, "0", []),
        (_strengths, "8", 8),
        (_strengths, "0,0.01", [0.0, 0.01]),
        (_given, "a=0:1, b=-2:2.5", {"a": (0.0, 1.0), "b": (-2.0, 2.5)}),
        (_given, "color=red, dark=0:1", {"color=red, dark": (0.0, 1.0)}),  # names with signs
    ],
)
def test_texts_are_read(read, text, found):
    assert read(text) == found


def test_a_penalty_has_a_factor():
    assert (factor("weight_l1", 0.1), factor(None, None)) == (0.1, 0.0)
