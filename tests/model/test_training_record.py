"""The record of training: its JSON, its hashes, and files that hold a broken one."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import kanlens
from kanlens.errors import FileFormatError
from kanlens.model._config import KANConfig
from kanlens.model._training_record import GrowthRecord, TrainingRecord, fingerprint, row_hashes


def rows(count=50, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return x, x.sum(1, keepdim=True)


def record(model, hashes=(), **changes):
    import base64

    about = {
        "metric": "R2",
        "scores": {"network": 0.9, "mean": -0.01, "linear": None},
        "rows": 50,
        "folds": 6,
        "features": model.schema.features,
        "held_out": base64.b64encode(np.array(hashes, dtype="<u8").tobytes()).decode(),
        "given_away": {"x1": 0.999},
        "weights": fingerprint(model.state_dict().values()),
    }
    return TrainingRecord(**{**about, **changes})


def test_a_file_keeps_the_record_and_models_without_one_their_bytes(tmp_path):
    model = kanlens.KAN([3, 1], generator=torch.Generator().manual_seed(0))
    plain = kanlens.save(model, tmp_path / "plain.safetensors").read_bytes()
    assert b"record" not in plain
    model.record = record(model, row_hashes(*rows()))
    again = kanlens.load(kanlens.save(model, tmp_path / "m.safetensors"))
    assert again.record == model.record
    assert again.record.weights == fingerprint(again.state_dict().values())
    assert KANConfig.from_json(again.config.to_json()) == model.config
    again.record = None
    assert kanlens.save(again, tmp_path / "again.safetensors").read_bytes() == plain


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"metric": "<b>"}, "ValueError: a record of training has '<b>' of "),
        ({"scores": {"other": 1.0}}, "ValueError: a record of training has 'R2' of "),
        ({"scores": {"mean": float("nan")}}, "ValueError: a record of training has 'R2' of "),
        ({"scores": {"mean": "x"}}, "TypeError: "),
        ({"rows": float("inf")}, "ValueError: a record of training has 'R2' of "),
        ({"held_out": "?"}, "Error: "),
        ({"held_out": "AAAA"}, "ValueError: buffer size must be a multiple of element size"),
        ({"features": 3}, "TypeError: "),
        ({"more": 3}, "TypeError: "),
    ],
)
def test_a_broken_record_is_refused(changes, text):
    model = kanlens.KAN([3, 1])
    model.record = record(model)
    data = json.loads(model.config.to_json())
    data["record"] |= changes
    with pytest.raises(FileFormatError) as caught:
        KANConfig.from_json(json.dumps(data))
    start = "KANConfig: expected a kanlens configuration, got "
    assert str(caught.value).startswith(start)
    assert text in str(caught.value)


GROWTH = {
    "metric_name": "R2",
    "rows": 50,
    "steps": [{"edges": 3, "score": 0.9, "loss": 0.1, "standard_error": 0.01, "added": "link"}],
    "chosen": 0,
    "references": [["boosting", 0.9], ["EBM", 0.8]],
}


def test_a_file_keeps_the_record_of_growth(tmp_path):
    model = kanlens.KAN([3, 1])
    assert b"growth" not in kanlens.save(model, tmp_path / "plain.safetensors").read_bytes()
    model.growth = GrowthRecord.from_dict(GROWTH)
    again = kanlens.load(kanlens.save(model, tmp_path / "m.safetensors"))
    assert again.growth == model.growth
    assert again.growth.steps[0].added == "link"
    assert [name for name, _ in again.growth.references] == ["boosting", "EBM"]


@pytest.mark.parametrize(
    "changes",
    [
        {"metric_name": "<b>"},
        {"references": [["EBM", float("nan")]]},
        {"references": [["EBM"]]},
        {"steps": [{**GROWTH["steps"][0], "score": float("inf")}]},
        {"steps": [{**GROWTH["steps"][0], "score": "<b>"}]},
        {"steps": [{}]},
        {"chosen": 1},
        {"more": 3},
    ],
)
def test_a_broken_record_of_growth_is_refused(changes):
    data = json.loads(kanlens.KAN([3, 1]).config.to_json())
    data["growth"] = GROWTH | changes
    with pytest.raises(FileFormatError, match=r"got (Value|Type)Error: "):
        KANConfig.from_json(json.dumps(data))


def test_hashes_tell_rows_apart_and_not_their_dtype():
    x, y = rows(20_000)
    hashes = row_hashes(x, y)
    assert len(np.unique(hashes)) == 20_000
    np.testing.assert_array_equal(hashes, row_hashes(x.float(), y.float()))
    np.testing.assert_array_equal(hashes, row_hashes(x * (1 + 1e-15), y))
    zeros = torch.zeros(1, 3)
    np.testing.assert_array_equal(row_hashes(zeros, zeros[:, 0]), row_hashes(-zeros, zeros[:, 0]))
    grid = torch.cartesian_prod(*[torch.arange(20.0)] * 3)
    assert len(np.unique(row_hashes(grid, grid[:, 0]))) == 8000
    assert row_hashes(grid, grid[:, 0])[1] != row_hashes(grid.flip(1), grid[:, 0])[1]


def test_hashes_do_not_change():
    x = torch.tensor([[1.5, -2.0], [0.0, 3.25]], dtype=torch.float64)
    known = [3543245623567160020, 9920147458802986413]
    assert row_hashes(x, torch.tensor([1, 0])).tolist() == known


def test_rows_are_counted_as_often_as_they_were_held_out():
    x, y = rows(6)
    hashes = row_hashes(x, y)
    model = kanlens.KAN([3, 1])
    held = record(model, hashes[[0, 0, 1, 2]])
    assert held.count_held_out(hashes) == 3
    assert held.count_held_out(hashes[[0, 0, 0, 5]]) == 2
    assert held.count_held_out(hashes[3:]) == 0
    assert record(model).count_held_out(hashes) == 0


def test_training_again_drops_the_record_and_a_failure_keeps_it():
    model = kanlens.KAN([3, 1], generator=torch.Generator().manual_seed(0)).double()
    model.record = record(model)
    x, y = rows()
    with pytest.raises(kanlens.errors.KanlensError):
        kanlens.fit(model, (x, y * torch.inf), progress=False)
    assert model.record is not None
    kanlens.fit(model, (x, y), steps=1, progress=False)
    assert model.record is None


def test_facts_name_the_metric_and_what_a_constant_is():
    found = record(kanlens.KAN([3, 1]))
    assert found.facts() == {"mean_R2": -0.01, "linear_R2": None}
    found = dataclasses.replace(found, metric="accuracy")
    assert found.facts() == {"majority_accuracy": -0.01, "linear_accuracy": None}
