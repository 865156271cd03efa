"""Parts of benchmarks in general: units in processes of their own, names, and results as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import campaign
from benchmarks.campaign import Campaign, Findings, Part, Plan, Setup, chosen, marks
from benchmarks.sparsity.running import EXPERIMENTS
from benchmarks.symbolic.running import PARTS
from kanlens.errors import InvalidValueError
from kanlens.interruption import Interruption


@dataclass(frozen=True, kw_only=True)
class Pair(Part):
    """Two tables."""

    @property
    def tables(self):
        return {"first": ("n", "double"), "second": ("n",)}

    def rows(self, setup, key):
        return {"first": [{"n": key[0], "double": 2 * key[0]}], "second": [{"n": key[0]}]}


def plan(setup):
    return Plan(keys=tuple((seed,) for seed in setup.seeds), skipped={"that": "why"})


PAIR = Pair(name="pair", question="?", keys=("n",), plan=plan)


def test_units_are_stored_and_not_run_again(tmp_path):
    skipped = {}
    work = Campaign(call="benchmarks x", setup=Setup(seeds=(1, 2)), folder=tmp_path, jobs=1)
    records, count = work.run(PAIR, skipped)
    assert (count, skipped) == (2, {"pair: that": "why"})
    assert records["first"].rows == [{"n": 1, "double": 2}, {"n": 2, "double": 4}]
    assert work.run(PAIR, {})[1] == 0
    assert (tmp_path / "second.csv").exists()


def test_what_an_interrupt_cuts_short_is_no_measurement(tmp_path, monkeypatch):
    whole = Pair.rows

    def cut(self, setup, key):
        with Interruption().kept():  # as training does, which returns what it has
            if key == (2,):
                raise KeyboardInterrupt
        return whole(self, setup, key)

    work = Campaign(call="benchmarks x", setup=Setup(seeds=(1, 2)), folder=tmp_path, jobs=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Pair, "rows", cut)
        work.run(PAIR, {})
    assert pd.read_csv(tmp_path / "first.csv")["n"].tolist() == [1]
    assert work.run(PAIR, {})[1] == 1


def test_the_first_table_is_stored_last(tmp_path, monkeypatch):
    order = []
    store = campaign.Records.store
    monkeypatch.setattr(
        campaign.Records, "store", lambda r, *a: (order.append(r.path.stem), store(r, *a))
    )
    Campaign(call="benchmarks x", setup=Setup(seeds=(1,)), folder=tmp_path, jobs=1).run(PAIR, {})
    assert order == ["second", "first"]


@pytest.mark.parametrize("part", [*EXPERIMENTS.values(), *PARTS.values()], ids=lambda p: p.name)
def test_every_part_can_be_sent_to_a_process(part):
    assert len(ForkingPickler.dumps(part)) > 0
    assert all(set(part.keys) <= set(columns) for columns in part.tables.values())


def test_unknown_names_and_counts_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match=r"Did you mean 'pair'\?"):
        chosen("benchmarks x", "part", {"pair": PAIR}, ["pear"])
    assert chosen("benchmarks x", "part", {"pair": PAIR}, []) == [PAIR]
    for setup, jobs in ((Setup(seeds=()), 1), (Setup(), 0)):
        with pytest.raises(InvalidValueError):
            Campaign(call="benchmarks x", setup=setup, folder=tmp_path, jobs=jobs).run(PAIR, {})


def test_findings_become_json():
    class Found(Findings):
        def summaries(self):
            return {"title": pd.DataFrame({"a": [1.0, None]})}

    found = Found(tables={}, skipped={"x": "y"}, files=(Path("a.csv"),), measured=3)
    plain = json.loads(found.to_json())
    assert plain["summaries"] == {"title": [{"a": 1.0}, {"a": None}]}
    assert plain["files"] == ["a.csv"]
    assert found.to_frame()["table"].tolist() == ["title", "title"]


def test_marks_are_those_asked_for():
    assert list(marks(("cpu", "date"))) == ["cpu", "date"]
