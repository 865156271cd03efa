"""Which columns are the targets beside a model that is trained."""

import re

import numpy as np
import pandas as pd
import pytest

from kanlens.data._cell_parsing import row_text
from kanlens.data._columns import read_targets
from kanlens.data._schema import default_schema
from kanlens.data._table_reader import read_features, read_table
from kanlens.errors import DataError

FRAME = pd.DataFrame({"x1": [1.0, 2.0], "y": [3.5, 4.0], "z": [5.0, 6.5], "word": ["a", "b"]})


def read(schema, given=None, frame=FRAME):
    return read_targets(frame, schema, given, call="prune", place=row_text)


def test_a_model_that_knows_no_target_predicts_the_columns_named_like_its_outputs():
    np.testing.assert_array_equal(read(default_schema(1, 1)), [[3.5], [4.0]])
    both = default_schema(1, 2, output_names=["z", "y"])
    np.testing.assert_array_equal(read(both), [[5.0, 3.5], [6.5, 4.0]])
    assert read(default_schema(1, 1, output_names=["other"])) is None
    assert read(default_schema(1, 2)) is None
    assert read(default_schema(1, 1, output_names=["word"])) is None
    assert read(default_schema(1, 1), frame=FRAME.assign(y=[1.0, np.nan])) is None


def test_a_feature_is_no_target():
    schema = default_schema(2, 1, feature_names=["x1", "y"])
    assert schema.targets_among(["x1", "y", "z"]) == ()
    assert read(schema) is None
    np.testing.assert_array_equal(read(schema, ["z"]), [[5.0], [6.5]])


def test_what_is_given_goes_before_what_was_trained_on():
    schema = read_table(FRAME[["x1", "y"]], target="y").schema
    np.testing.assert_array_equal(read(schema, ["z"]), [[5.0], [6.5]])
    found = read_features(FRAME, schema, call="prune", target=["z"])
    assert found.y.tolist() == [[5.0], [6.5]]
    kinds = read_table(FRAME[["x1", "word"]], target="word").schema
    other = FRAME.assign(word="a", said=["b", "a"])
    assert read(kinds, ["said"], other).tolist() == [1, 0]
    text = "prune: expected only 'a', 'b' in target 'said', got 'c' in row 1. "
    with pytest.raises(DataError, match=f"^{re.escape(text)}"):
        read(kinds, ["said"], other.assign(said=["a", "c"]))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["q"], "target among the columns 'x1', 'y', 'z', 'word', got 'q'. Name a column of the"),
        (["y", "z"], "1 different target column, got 'y', 'z'. Name one for each target of the"),
        (
            ["x1"],
            "a target column, got 'x1', which the model reads as a feature. Name another column.",
        ),
        (
            ["word"],
            "numbers in target 'word', as the model has no class labels, got text. "
            "Import the model with data, target and task to add them.",
        ),
    ],
)
def test_columns_that_cannot_be_the_target_are_refused(given, text):
    with pytest.raises(DataError, match=f"^prune: expected {re.escape(text)}"):
        read(default_schema(1, 1), given)
