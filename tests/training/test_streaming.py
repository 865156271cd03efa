"""Streams of batches: every row once in an epoch, whatever the processes, and after a break."""

import dataclasses
from functools import partialmethod

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens._resources import memory_limit
from kanlens.data import _source as sources
from kanlens.data._source import scan_table
from kanlens.errors import InvalidValueError
from kanlens.training import _default_ensemble as ensemble
from kanlens.training import _fit as fit
from kanlens.training import _fit_default as default
from kanlens.training import _streaming as streaming
from kanlens.training._default_ensemble import EnsembleRun
from kanlens.training._process_group import Ranks
from kanlens.training._streaming import STREAMS, RowStream
from kanlens.training._training_loop import TrainingRun

ROWS = 500


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "NUMBERS", 33)  # blocks of 16 rows
    frame = pd.DataFrame({"a": np.arange(ROWS) * 1.0, "y": np.arange(ROWS) % 7 + 0.5})
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=97)
    return scan_table(tmp_path / "t.parquet", target="y")


def stream(source, process=0, processes=1, without=(), batch_size=64):
    model = kanlens.KAN([1, 1]).double()
    model.schema = source.schema
    without = np.array(without, dtype=np.int64)
    return RowStream(
        model=model,
        source=source,
        sampled=without,
        without=without,
        batch_size=batch_size,
        ranks=Ranks(index=process, count=processes),
    )


@pytest.mark.slow  # trains networks
def test_every_row_comes_once_and_in_another_order_in_every_epoch(source):
    without = [0, 5, 250, 499]
    found = stream(source, without=without)
    epochs = [torch.cat([x[:, 0] for x, _, _ in found.batches(seed)]) for seed in (1, 2, 1)]
    for rows in epochs:
        assert sorted(rows.tolist()) == [i for i in range(ROWS) if i not in without]
    assert_close(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert found.rows == ROWS - 4


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("processes", [2, 5])
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


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("done", [1, 6])
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
    from kanlens.data._schema import Schema

    labels = Schema(
        features=source.schema.features,
        outputs=kanlens.KAN([1, 3]).schema.outputs,
        task="classification",
        class_labels=("a", "b", "c"),
    )
    found.model.schema = labels
    x, y, _ = next(found.batches(0))
    assert torch.equal(y, torch.where(x[:, 0] % 2 == 0, 1, 2))


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Return a table of which memory holds 400 of 1500 rows, and one row with the extremes."""
    monkeypatch.setattr(streaming, "NUMBERS", 200)
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (1500, 2)), columns=["a", "b"])
    frame["y"] = np.sin(3 * frame["a"]) + frame["b"] ** 2
    frame.loc[1234, "a"] = 1.5
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=700)
    source = scan_table(tmp_path / "t.parquet", target="y")
    monkeypatch.setattr(sources, "CELL", 2**26 / 2 / 400 / 5)
    return source


def trained(source, **options):
    generator = torch.Generator().manual_seed(0)
    model = kanlens.KAN([2, 3, 1], generator=generator).double()
    how = {"optimizer": "adam", "steps": 4, "batch_size": 24, "max_memory": "64MiB", **options}
    return kanlens.fit(model, source, generator=generator, progress=False, **how)


@pytest.mark.slow
def test_all_rows_of_a_table_beyond_memory_are_trained_on(large, monkeypatch):
    rows, read = set(), RowStream.read

    def seen(self, start, stop):
        x, y = read(self, start, stop)
        rows.update(zip(x[:, 0].tolist(), x[:, 1].tolist(), strict=True))
        return x, y

    monkeypatch.setattr(RowStream, "read", seen)
    found = trained(large)
    assert found.metric > 0.97
    assert len(found.held_out) in range(78, 83)  # a fifth of the sample
    held = large.take(found.held_out.numpy()).x
    assert not rows & set(zip(held[:, 0].tolist(), held[:, 1].tolist(), strict=True))
    assert len(rows) == 1500 - len(held)
    assert float(found.model.input_high[0]) == 1.5  # though no evenly spread row has it
    assert [record["step"] for record in found.history] == [1, 2, 3, 4]


@pytest.mark.slow  # trains networks
def test_an_epoch_goes_on_after_a_break_as_if_there_were_none(large, tmp_path, monkeypatch):
    odd = {"batch_size": 75, "steps": 2}  # which 16 streams do not share evenly
    whole = trained(large, **odd)
    batches, path = RowStream.batches, tmp_path / "run.safetensors"

    def broken(self, seed, done=0):
        for number, batch in enumerate(batches(self, seed, done)):
            if number == 17:
                raise RuntimeError("killed")
            yield batch

    with monkeypatch.context() as within, pytest.raises(RuntimeError, match="killed"):
        within.setattr(RowStream, "batches", broken)
        trained(large, checkpoint=path, checkpoint_every=0, **odd)
    again = trained(large, checkpoint=path, resume=True, **odd)
    for ours, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert again.history == whole.history


def test_what_needs_all_rows_at_once_is_refused(large):
    with pytest.raises(InvalidValueError, match=r"^fit: expected optimizer 'adam' or 'adamw' for"):
        trained(large, optimizer="lbfgs")
    with pytest.raises(InvalidValueError, match=r"^fit: expected no sample_weight for rows beyond"):
        trained(large, sample_weight=np.ones(1500))


def test_a_source_that_memory_holds_is_a_table(source):
    found = trained(source_of(source), steps=1)
    like = trained(source_of(source).read(0, ROWS), steps=1)
    assert found.history == like.history


def source_of(source):
    frame = source.read(0, ROWS).frame
    return scan_table(frame.assign(b=frame["a"] % 13), target="y", features=["a", "b"])


@pytest.mark.slow  # trains networks
def test_rows_choose_the_network_and_all_are_seen(large, monkeypatch):
    calls = []
    batches = RowStream.batches
    monkeypatch.setattr(RowStream, "batches", lambda *a: (calls.append(1), batches(*a))[1])
    generator = torch.Generator().manual_seed(0)
    found = kanlens.fit_default(large, generator=generator, progress=False, max_memory="64MiB")
    assert found.metric > 0.99
    assert len(calls) == 2  # an epoch each
    assert found.model.feature_names == ("a", "b")


def test_the_work_of_a_model_on_the_rows_that_are_held_counts(large, monkeypatch):
    monkeypatch.setattr(sources, "CELL", 40)
    monkeypatch.setattr(fit, "SAMPLE", 10**9)
    monkeypatch.setattr(sources.Source, "rows", 10**9)
    held = {}
    with memory_limit("fit", "200MB"):
        for width in (1, 100, 1000):
            numbers = sum(kanlens.KAN([2, width, 1]).widths)
            held[width] = fit.held_rows(large, numbers, Ranks(), torch.device("cpu"))[1]
            assert held[width] * (5 * 40 + 32 * numbers) <= 100_000_000  # half of it
    assert held[1] > 5 * held[100] > 25 * held[1000]


@pytest.mark.slow  # trains networks
def test_training_by_default_counts_the_network_it_may_choose(large, monkeypatch):
    numbers, held = [], fit.held_rows

    def seen(data, count, *given):
        numbers.append(count)
        return held(data, count, *given)

    monkeypatch.setattr(default, "held_rows", seen)
    monkeypatch.setattr(ensemble, "UPDATES", (1, 10**9, 1))
    kanlens.fit_default(large, progress=False, max_memory="64MiB")
    assert numbers[0] == 2 + 6 * (8 + 1)


@pytest.mark.slow  # trains three times
@pytest.mark.parametrize("place", ["second", "all rows"])
def test_rows_choose_again_only_where_the_choice_was_not_done(large, tmp_path, monkeypatch, place):
    monkeypatch.setattr(ensemble, "UPDATES", (6, 1000, 8))
    refined = dataclasses.replace(default.REFINED, batch_size=1000)
    monkeypatch.setattr(default, "REFINED", refined)
    path, done = tmp_path / "run.safetensors", []

    def trained_by_default(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        how = {"generator": generator, "progress": False, "max_memory": "64MiB", **options}
        return kanlens.fit_default(large, **how)

    whole, learn = trained_by_default(0), TrainingRun._learn

    def broken(self, function, *given):
        choice = ("first", "second")[len(self.model.layers) - 1]
        done.append("all rows" if function is learn else choice)
        if done.count(place) == 3:
            raise RuntimeError("killed")
        function(self, *given)

    with monkeypatch.context() as within, pytest.raises(RuntimeError, match="killed"):
        for run in (EnsembleRun, TrainingRun):
            within.setattr(run, "_learn", partialmethod(broken, run._learn))
        trained_by_default(0, checkpoint=path, checkpoint_every=0)
    with monkeypatch.context() as within:
        if place == "all rows":  # which network it is, is known
            within.setattr(EnsembleRun, "_learn", pytest.fail)
        again = trained_by_default(1, checkpoint=path, resume=True)
    for ours, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert again.history == whole.history
