from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from kanlens.data.table_reader import read_table
from kanlens.errors import DataError, InvalidValueError, ShapeError
from kanlens.model.network import KAN
from kanlens.reporting.subject import read_subject, spread
from tests.reporting.conftest import network, schema

FRAME = pd.DataFrame(
    {"a": [0.1, 0.2, 0.3, 0.4], "b": [1.0, 0.5, 0.2, 0.1], "y": [1.0, 2.0, 3.0, 5.0]}
)


def named() -> KAN:
    model = network([2, 1])
    model.schema = schema(["a", "b"], ["y"], target="y")
    return model


def test_every_kind_of_data_gives_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    FRAME.to_csv(path, index=False)
    x, y = FRAME[["a", "b"]], FRAME["y"]
    kinds = {
        "t.csv": path,
        "DataFrame": FRAME,
        "arrays": (torch.tensor(x.to_numpy()), torch.tensor(y.to_numpy())),
    }
    for source, data in kinds.items():
        found = read_subject(named(), data, None)
        torch.testing.assert_close(found.x, torch.tensor(x.to_numpy()))
        assert found.y is not None
        torch.testing.assert_close(found.y[:, 0], torch.tensor(y.to_numpy()))
        assert found.source == source
        assert found.names == (0, 1, 2, 3)
    assert read_subject(named(), (x, y), None).source == "DataFrame"
    assert read_subject(named(), read_table(path, target="y"), None).source == "t.csv"
    assert read_subject(named(), torch.tensor(x.to_numpy()), None).y is None


def test_a_table_is_read_by_name_when_the_model_kept_other_features() -> None:
    model = network([1, 1])
    model.schema = schema(["b"], ["y"], target="y")
    found = read_subject(model, read_table(FRAME, target="y"), None)
    assert found.x[:, 0].tolist() == FRAME["b"].tolist()
    assert found.y is not None


def test_row_numbers_are_those_of_the_source() -> None:
    table = read_table(FRAME, target="y").take([3, 1])
    found = read_subject(named(), table, None)
    assert (found.names, found.index) == ((3, 1), "")
    frame = FRAME.set_axis(pd.Index(["oslo", "lima", "rome", "bern"], name="city"))
    for data in (frame, (frame[["a", "b"]], frame["y"])):
        found = read_subject(named(), data, None)
        assert (found.names, found.index) == (("oslo", "lima", "rome", "bern"), "city")
    assert read_subject(named(), FRAME, None).index is None


def test_class_codes_follow_the_model_and_not_the_table() -> None:
    model = network([1, 1])
    labels = ("no", "maybe")
    model.schema = schema(
        ["a"], ["y=maybe"], target="y", task="classification", class_labels=labels
    )
    frame = pd.DataFrame({"a": [0.1, 0.2, 0.3], "y": ["no", "maybe", "no"]})
    found = read_subject(model, read_table(frame, target="y"), None)
    assert found.y is not None
    assert found.y.tolist() == [0, 1, 0]  # the table would say 1, 0, 1


def test_the_output_is_that_of_the_model_on_all_rows(model: KAN, rows: torch.Tensor) -> None:
    found = read_subject(model, rows, None)
    torch.testing.assert_close(found.output, model(rows).detach())


def test_messages(model: KAN, rows: torch.Tensor) -> None:
    text = "report: expected at least 2 rows, got 1. Pass more data."
    with pytest.raises(ShapeError, match=re.escape(text)):
        read_subject(model, rows[:1], None)
    text = (
        "report: expected x of shape (batch, 3), got (60, 2). The model takes 3 features; "
        "pass only those."
    )
    with pytest.raises(ShapeError, match=re.escape(text)):
        read_subject(model, rows[:, :2], None)
    text = (
        "report: expected target to be one of the 2 outputs ('y1', 'y2'), got None. Pass an "
        "index below 2 or a name."
    )
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        read_subject(network([3, 2]), rows, None)
    bad = rows.clone()
    bad[4, 1] = torch.nan
    text = (
        "report: expected finite numbers, got nan at row 4, column 'x2' (1 such cell). Drop or "
        "impute those rows."
    )
    with pytest.raises(DataError, match=re.escape(text)):
        read_subject(model, bad, None)


def test_spread_keeps_the_ends_and_the_order() -> None:
    for rows in (1, 2, 7, 1000):
        for most in (1, 2, 5, 2000):
            found = spread(rows, most)
            assert len(found) == min(rows, most)
            assert len(found.unique()) == len(found)
            assert found[0] == 0
            if most > 1:
                assert found[-1] == rows - 1


def test_spread() -> None:
    assert spread(10, 3).tolist() == [0, 4, 9]
    assert spread(2, 3).tolist() == [0, 1]
