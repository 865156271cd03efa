"""Rows that belong together are held out together, whatever trains."""

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens import distributed
from kanlens.data._groups import row_groups
from kanlens.discovery._scaling import table_of
from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.pruning._prune import hold_out
from kanlens.symbolic._partition import places_of
from kanlens.training import _default_ensemble as ensemble
from kanlens.training._default_ensemble import EnsembleRun


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(ensemble, "UPDATES", (60, 1000, 60))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(copies, shift=0.0):
    x = torch.randn(150, 3, generator=seeded(1), dtype=torch.float64)
    y = torch.randn(150, 1, generator=seeded(2), dtype=torch.float64)
    jitter = [shift * torch.randn(x.shape, generator=seeded(3 + i)) for i in range(copies)]
    return torch.cat([x + one for one in jitter]), y.repeat(copies, 1)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1e-6])
def test_copies_of_noise_explain_nothing(shift):
    found = kanlens.fit_default(noise(3, shift), generator=seeded(), progress=False)
    assert found.metric < 0.05
    assert found.model.widths == (3, 1)


def test_copies_are_judged_by_members_that_have_seen_none():
    x, y = noise(3)
    model = kanlens.KAN([3, 48, 1], generator=seeded()).double()
    run = EnsembleRun(model, x, y, None, seeded())
    run.begin()
    assert torch.equal(run.folds[:150], run.folds[150:300])
    assert run.folds.bincount().tolist() == [75] * 6
    assert torch.equal(run.judged.float().argmax(1), run.folds)


def match_rows(x, some):
    """Return positions of some rows in x, other ones for each copy."""
    places = (some.unsqueeze(1) == x).all(2).nonzero()[:, 1]
    return places[: len(some) * 3].unique()


def held_out_by_each_way():
    """Return the rows held out by every call that holds some out, on rows given three times."""
    x, y = noise(3)
    model = kanlens.KAN([3, 1], generator=seeded()).double()
    options = {"generator": seeded(), "progress": False, "steps": 1}
    yield "fit", kanlens.fit(model, (x, y), **options).held_out, 90
    path = kanlens.sparsity_path(model, (x, y), strengths=[0, 0.1], **options)
    yield "sparsity_path", path.held_out, 90
    found = distributed.fit(model, (x, y), restarts=2, **options)
    yield "restarts", found[1].held_out, 90
    yield "prune", hold_out(450, seeded(), row_groups(x, call="prune")), 90
    for generator in (None, seeded()):
        yield "symbolize", places_of(x, generator, y).choosing, 90
        table = table_of(x, y, None, generator)
        yield "discover", match_rows(x, torch.from_numpy(table.x[table.held_out])), 135


@pytest.mark.slow  # trains networks
def test_copies_are_held_out_together_everywhere():
    for call, held_out, rows in held_out_by_each_way():
        assert len(held_out) == rows, call
        assert len(np.unique(held_out % 150)) == rows // 3, call


def people():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 2)), columns=["a", "b"])
    frame["who"] = [f"p{i // 6}" for i in range(120)]
    return frame.assign(y=frame["a"] - frame["b"])


@pytest.mark.slow  # trains networks
def test_a_column_of_groups_is_no_feature_and_is_held_out_whole():
    frame = people()
    numbers = frame.assign(who=frame["who"].str[1:].astype(int))
    x, y = frame[["a", "b"]].to_numpy(), frame["y"].to_numpy()
    options = {"generator": seeded(), "progress": False}
    for data, groups in (
        (kanlens.read_table(frame, target="y", groups="who"), None),
        (kanlens.read_table(numbers, target="y"), "who"),
        (kanlens.read_table(frame, target="y", drop="who"), frame["who"]),
        ((frame[["a", "b", "who"]], y), "who"),
        ((x, y), frame["who"].tolist()),
    ):
        kan = kanlens.KAN([2, 1], generator=seeded()).double()
        found = kanlens.fit(kan, data, steps=1, groups=groups, **options)
        held = frame["who"][found.held_out.tolist()]
        assert (len(held), held.nunique()) == (24, 4)
    found = kanlens.fit_default((frame[["a", "b", "who"]], y), groups="who", **options)
    assert found.model.widths[0] == 2
    assert frame["who"].groupby(found.folds.numpy()).nunique().sum() == 20


def test_an_estimator_takes_groups():
    frame = people()
    for groups, people_held in ((frame["who"], 4), (None, 16)):
        one = kanlens.KANRegressor(hidden=(), steps=1, random_state=0)
        found = one.fit(frame[["a", "b"]], frame["y"], groups=groups).result_
        assert len(found.held_out) == 24
        assert (frame["who"][found.held_out.tolist()].nunique() == 4) == (people_held == 4)


@pytest.mark.slow  # trains networks
def test_groups_that_cannot_be_held_out_are_refused(tmp_path):
    frame = people()
    with pytest.raises(InvalidValueError) as caught:
        kanlens.fit_default(kanlens.read_table(frame.assign(who=1), target="y"), groups="who")
    advice = "Leave groups out, or name another column."
    assert str(caught.value) == f"fit_default: expected at least two groups, got one. {advice}"
    path = tmp_path / "run"
    table = kanlens.read_table(frame, target="y", drop="who")
    kanlens.fit_default(table, groups=frame["who"], checkpoint=path, progress=False)
    with pytest.raises(FileFormatError, match="same data, model and options"):
        kanlens.fit_default(table, checkpoint=path, resume=True, progress=False)
