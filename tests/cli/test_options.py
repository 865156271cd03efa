"""What is made of the texts of options."""

from __future__ import annotations

import pytest

from kanlens import KAN
from kanlens.cli import main
from kanlens.cli._attribution_commands import read_ranges
from kanlens.cli._options import (
    CHOICES,
    factor,
    hidden_nodes,
    norms,
    output_index,
    read_interactions,
    read_strengths,
    split_names,
)
from kanlens.data._column_types import IMPUTATIONS
from kanlens.data._columns import DECIMALS, TASKS
from kanlens.exporters._export import FORMATS
from kanlens.model._losses import LOSSES
from kanlens.pruning._scores import SCORES
from kanlens.symbolic._pareto_front import RULES
from kanlens.training._options import OPTIMIZERS


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
        (read_strengths, "8", 8),
        (read_strengths, "0,0.01", [0.0, 0.01]),
        (read_interactions, None, None),
        (read_interactions, "0", 0),
        (read_interactions, 'age:dose, "a,b: c"', [("age", "dose"), ("a,b", "c")]),
        (read_ranges, "a=0:1, b=-2:2.5", {"a": (0.0, 1.0), "b": (-2.0, 2.5)}),
        (read_ranges, "color=red, dark=0:1", {"color=red, dark": (0.0, 1.0)}),  # names with signs
    ],
)
def test_texts_are_read(read, text, found):
    assert read(text) == found


def test_a_penalty_has_a_factor():
    assert (factor("weight_l1", 0.1), factor(None, None)) == (0.1, 0.0)


def test_the_choices_are_those_that_there_are():
    known = {"task": TASKS, "impute": IMPUTATIONS, "optimizer": OPTIMIZERS, "score": SCORES}
    known |= {"loss": LOSSES, "model_selection": RULES, "to": FORMATS, "decimal": DECIMALS}
    assert {name: set(CHOICES[name]) for name in known} == {n: set(v) for n, v in known.items()}
    (left,) = CHOICES.keys() - known.keys()
    for word in CHOICES[left]:
        KAN([1, 1], **{left: word})


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["train", "none.csv", "--target", "y", "--optimizer", "sgd"], "optimizer"),
        (["prune", "none", "none", "--score", "l9"], "score"),
        (["symbolize", "none", "none", "--model-selection", "nicest"], "model_selection"),
        (["export", "none", "-o", "m.xml", "--to", "pmml"], "to"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_is_read(words, option, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert repr(words[-1]) in said
    assert all(f"'{word}'" in said for word in CHOICES[option])


@pytest.mark.parametrize(
    ("command", "option", "text"),
    [
        ("sparsity-path", "--strengths", "a,b"),
        ("sparsity-path", "--strengths", "1,x"),
        ("frontier", "--interactions", "width"),
        ("frontier", "--interactions", "a:b:c"),
        ("train", "--hidden", "3:x"),
        ("train", "--hidden", ":2"),
        ("train", "--penalty", "activation_l1=much"),
    ],
)
def test_texts_that_cannot_be_read_are_wrong_usage(
    workshop, tmp_path, capsys, command, option, text
):
    words = [command, f"{workshop}/data.csv", "--target", "area", "--strength", "1"]
    words = words if command == "train" else words[:-2]
    assert main([*words, option, text, "-o", f"{tmp_path}/m.safetensors"]) == 2
    assert option in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
