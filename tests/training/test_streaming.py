"""Streams of batches: every row once in an epoch, whatever the processes, and after a break."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.data.source import scan_table
from kanlens.training import streaming
from kanlens.training.streaming import STREAMS, RowStream

ROWS = 1000


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "NUMBERS", 33)  # blocks of 16 rows
    frame = pd.DataFrame({"a": np.arange(ROWS) * 1.0, "y": np.arange(ROWS) % 7 + 0.5})
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=97)
    return scan_table(tmp_path / "t.parquet", target="y")


def stream(source, process=0, processes=1, without=(), batch_size=64):
    model = kanlens.KAN([1, 1]).double()
    model.schema = source.schema
    return RowStream(
        model=model,
        source=source,
        without=np.array(without, dtype=np.int64),
        batch_size=batch_size,
        process=process,
        processes=processes,
    )


def test_every_row_comes_once_and_in_another_order_in_every_epoch(source):
    without = [0, 5, 500, 999]
    found = stream(source, without=without)
    epochs = [torch.cat([x[:, 0] for x, _, _ in found.batches(seed)]) for seed in (1, 2, 1)]
    for rows in epochs:
        assert sorted(rows.tolist()) == [i for i in range(ROWS) if i not in without]
    assert_close(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert found.rows == ROWS - 4


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_batches_do_not_depend_on_the_number_of_processes(source, processes):
    whole = list(stream(source).batches(3))
    shares = [list(stream(source, i, processes).batches(3)) for i in range(processes)]
    assert all(len(share) == len(whole) for share in shares)
    for batch, (x, y, rows) in enumerate(whole):
        parts = [share[batch] for share in shares]
        found = torch.cat([part[0] for part in parts])[:, 0]
        order = found.argsort()
        assert_close(found[order], x[:, 0].sort().values)
        targets = torch.cat([part[1] for part in parts])[order]
        assert_close(targets, y[x[:, 0].argsort()])
        assert {part[2] for part in parts} == {rows} == {len(x)}
    assert all(rows >= 64 for _, _, rows in whole[: len(whole) // 2])


@pytest.mark.parametrize("done", [0, 1, 7, 15])
def test_what_is_done_is_passed_over(source, done):
    whole = list(stream(source).batches(4))
    rest = list(stream(source).batches(4, done))
    assert len(rest) == len(whole) - done
    for (x, y, rows), (x2, y2, rows2) in zip(whole[done:], rest, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
        assert rows == rows2


def test_a_batch_has_rows_of_many_places(source):
    x, _, rows = next(stream(source).batches(0))
    assert rows == 64
    assert len({int(row) // 16 for row in x[:, 0].tolist()}) == STREAMS


def test_classes_are_in_the_codes_of_the_model(tmp_path):
    frame = pd.DataFrame({"a": np.arange(40) * 1.0, "y": ["b", "c"] * 20})
    source = scan_table(frame, target="y")
    found = stream(source)
    found.model.schema = kanlens.KAN([1, 3]).schema
    from kanlens.data.schema import Schema

    labels = Schema(
        features=source.schema.features,
        outputs=kanlens.KAN([1, 3]).schema.outputs,
        task="classification",
        class_labels=("a", "b", "c"),
    )
    found.model.schema = labels
    x, y, _ = next(found.batches(0))
    assert torch.equal(y, torch.where(x[:, 0] % 2 == 0, 1, 2))
