"""A run that was cut off goes on as if it had not been."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
import torch

import kanlens
from kanlens.errors import FileFormatError, InterruptedWarning, OutputError
from kanlens.training import _checkpointing as checkpointing
from kanlens.training import _training_loop as run_module
from kanlens.training._checkpointing import Checkpoint, read_state, write_state
from kanlens.training._training_loop import TrainingRun
from tests.training.conftest import run, seeded

ADAM = {"optimizer": "adam", "batch_size": 16, "learning_rate": 0.05}


def interrupt_in(monkeypatch, name, *, call):
    """Make the n-th call of a method of runs an interrupt."""
    method, calls = getattr(TrainingRun, name), []

    def interrupted(self, *arguments):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt
        return method(self, *arguments)

    monkeypatch.setattr(TrainingRun, name, interrupted)


def bytes_of(net):
    return b"".join(value.numpy().tobytes() for value in net.state_dict().values())


PENALTY = {"penalty": "weight_l1", "strength": 0.01}
PROXIMAL = {"penalty": "activation_l2", "strength": 0.01, "proximal": True}
INTERRUPTED = "^fit: interrupted. The model has the state of step "


WAYS = {
    "lbfgs": {},
    "lbfgs-proximal": {"validation": 0.0, **PROXIMAL},
    "adam": ADAM,
    "adamw-penalty": {**ADAM, **PENALTY, "optimizer": "adamw", "weight_decay": 0.01},
    "adam-proximal": {**ADAM, **PROXIMAL},
}
PLACES = ("_closure", "_one_step", "_refine_best")
UNINTERRUPTED: dict[str, kanlens.FitResult] = {}  # by way, made once


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
@pytest.mark.parametrize(
    ("way", "place"),
    [*((way, "_evaluate") for way in WAYS), *(("lbfgs", p) for p in PLACES), ("adam", "_one_pass")],
)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    network, waves, tmp_path, monkeypatch, way, place
):
    options, path = WAYS[way], tmp_path / "run.safetensors"
    if way not in UNINTERRUPTED:
        UNINTERRUPTED[way] = run(network(), waves, **options)
    whole = UNINTERRUPTED[way]
    saving = {**options, "checkpoint": path}
    cut = network()
    calls = {"_evaluate": 5, "_one_step": 5, "_one_pass": 5, "_closure": 40}
    call, reached = calls.get(place, 1), {"_evaluate": 3, "_closure": 3}.get(place, 4)
    if place not in calls:
        reached = 6  # all of them
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning, match=INTERRUPTED):
        patch.setattr(checkpointing, "COPIED", 0.0)
        interrupt_in(patch, place, call=call)
        some = run(cut, waves, **saving)
    assert read_state(path)["step"] == reached
    assert some.stopped_because == f"interrupted after step {reached}"
    assert len(some.history) == reached
    assert repr(some.history) == repr(whole.history[:reached])
    content = path.read_bytes()
    nets = [network(seed=99)]  # the weights and the generator come from the file
    if place == "_evaluate" and way in ("lbfgs", "adam"):
        nets.append(cut)
    for net in nets:
        path.write_bytes(content)
        again = run(net, waves, resume=True, generator=seeded(77), **saving)
        assert bytes_of(again.model) == bytes_of(whole.model)
        assert repr(again.history) == repr(whole.history)  # NaN too
        assert again.held_out.tolist() == whole.held_out.tolist()
        assert again.best_step == whole.best_step
        assert again.stopped_because == whole.stopped_because
        for one, other in zip(again.model.statistics, whole.model.statistics, strict=True):
            assert torch.equal(one.quantiles, other.quantiles)


def test_a_second_interrupt_goes_through(network, waves, monkeypatch):
    interrupt_in(monkeypatch, "_closure", call=2)
    interrupt_in(monkeypatch, "_load_best", call=1)
    with pytest.raises(KeyboardInterrupt):
        run(network(), waves)


def test_an_interrupt_before_the_first_step_leaves_the_model_alone(network, waves, monkeypatch):
    net = network()
    before = bytes_of(net)
    interrupt_in(monkeypatch, "_evaluate", call=1)
    with pytest.raises(KeyboardInterrupt):
        run(net, waves)
    assert bytes_of(net) == before
    assert not net.scaled


def test_statistics_after_an_interrupt_are_of_some_rows(network, waves, monkeypatch):
    monkeypatch.setattr(run_module, "QUICK", 300)  # 48 rows x 2 features x 8 functions are 768
    interrupt_in(monkeypatch, "_one_step", call=2)
    with pytest.warns(InterruptedWarning):
        found = run(network(), waves)
    kept = torch.ones(60, dtype=torch.bool)
    kept[found.held_out] = False
    some = found.model.scale_inputs(waves[0][kept][::2])
    assert torch.equal(found.model.statistics[0].input_low, some.amin(0))


def test_checkpoints_are_written_by_the_clock(tmp_path):
    now, taken = [0.0], []
    saved = Checkpoint("fit", tmp_path / "c", every=30.0, clock=lambda: now[0])

    def state():
        taken.append(now[0])
        return {"at": now[0], "weight": torch.zeros(1)}

    written = []
    for tick in range(700):  # steps of a tenth of a second
        now[0] = tick / 10
        saved.note(state)
        if saved.written == now[0] and tick:
            written.append(read_state(tmp_path / "c")["at"])
    assert written == [30.0, 60.0]
    assert taken == [tick / 2 for tick in range(140)]  # a copy every half second
    now[0] = 70.1
    saved.note(state, last=True)
    assert read_state(tmp_path / "c")["at"] == 70.1
    now[0] = 70.2
    saved.note(state)
    saved.write()  # as after an interrupt: the last copy
    assert read_state(tmp_path / "c")["at"] == 70.1


@pytest.mark.slow  # trains networks
def test_without_a_generator_a_run_resumes_too(network, waves, tmp_path, monkeypatch):
    options = {**ADAM, "generator": None}
    with torch.random.fork_rng():
        torch.manual_seed(11)
        whole = run(network(), waves, **options)
        torch.manual_seed(11)
        saving = {**options, "checkpoint": tmp_path / "run", "checkpoint_every": 0}
        with monkeypatch.context() as patch, pytest.warns(InterruptedWarning):
            interrupt_in(patch, "_evaluate", call=5)
            run(network(), waves, **saving)
        before = torch.get_rng_state()
        again = run(network(), waves, resume=True, **saving)
        assert torch.equal(torch.get_rng_state(), before)
    assert bytes_of(again.model) == bytes_of(whole.model)


def test_a_finished_run_resumes_to_its_result(network, waves, tmp_path):
    path = tmp_path / "run.safetensors"
    first = run(network(), waves, checkpoint=path, resume=True)  # no file yet: from the start
    again = run(network(seed=5), waves, checkpoint=path, resume=True)
    assert bytes_of(again.model) == bytes_of(first.model)
    assert again.stopped_because == "all 6 steps done"
    assert len(again.history) == 6


@pytest.mark.slow  # trains networks
def test_a_refit_resumes(network, waves, tmp_path, monkeypatch):
    def trained():
        net = network()
        run(net, waves, steps=2)
        return net

    whole, again = run(trained(), waves, **PENALTY), trained()
    saving = {**PENALTY, "checkpoint": tmp_path / "run", "checkpoint_every": 0}
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning):
        interrupt_in(patch, "_evaluate", call=5)
        run(again, waves, **saving)
    fresh = network()  # knows no statistics, which must not matter
    assert bytes_of(run(fresh, waves, resume=True, **saving).model) == bytes_of(whole.model)


def test_options_that_an_earlier_version_did_not_have_take_their_defaults(network, waves, tmp_path):
    path = tmp_path / "run.safetensors"
    first = run(network(), waves, checkpoint=path)
    state = read_state(path)
    del state["identity"]["options"]["constraints"]
    write_state(path, state)
    again = run(network(seed=5), waves, checkpoint=path, resume=True)
    assert bytes_of(again.model) == bytes_of(first.model)


def test_other_options_data_and_models_are_refused(network, waves, tmp_path):
    path = tmp_path / "run.safetensors"
    run(network(), waves, steps=2, checkpoint=path)
    x, y = waves
    changed = x.clone()
    changed[17, 1] += 1e-9
    renamed = network(feature_names=["a", "b"])
    cases: list[tuple[kanlens.KAN, Any, dict[str, Any], str]] = [
        (network(), waves, {"steps": 3}, "options (steps 2 there, 3 here)"),
        (network(), waves, {"validation": 0.1}, "options (validation 0.2 there, 0.1 here)"),
        (network(), waves, {"scale": False}, "options (scale None there, False here)"),
        (network(), (changed, y), {}, "data"),
        (network(), (x[:-1], y[:-1]), {}, "data"),
        (network(), (x, y + 1), {}, "data"),
        (network((2, 3, 1)), waves, {}, "model"),
        (network(grid_size=4), waves, {}, "model"),
        (network().float(), (x, y), {}, "data"),
        (renamed, waves, {}, "model"),
    ]
    for net, data, options, what in cases:
        before = bytes_of(net)
        settings = {"steps": 2, "checkpoint": path, "resume": True, **options}
        with pytest.raises(FileFormatError, match=re.escape(f"options, got one with other {what}")):
            run(net, data, **settings)
        assert bytes_of(net) == before
        assert not net.scaled


def test_files_that_are_no_checkpoint_are_refused(network, waves, tmp_path):
    path = tmp_path / "run.safetensors"
    settings = {"steps": 1, "checkpoint": path, "resume": True}
    advice = "Leave out resume=..., or pass the path of a checkpoint."
    expected = "fit: expected 'run.safetensors' to be the checkpoint of a training run, got"
    kanlens.save(network(), path)
    with pytest.raises(
        FileFormatError, match=f"^{re.escape(f'{expected} {chr(39)}kanlens.model')}"
    ):
        run(network(), waves, **settings)
    path.unlink()
    run(network(), waves, **settings)
    whole = path.read_bytes()
    newer = whole.replace(b'"format_version":"1"', b'"format_version":"2"')
    assert newer != whole
    path.write_bytes(newer)
    text = f"{expected} format version '2'. {advice}"
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        run(network(), waves, **settings)
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"^fit: expected a \.safetensors file, got "):
            run(network(), waves, **settings)
    path.write_bytes(whole)
    run(network(), waves, **settings)


def test_a_checkpoint_is_tensors_and_json(network, waves, tmp_path):
    path = tmp_path / "run.safetensors"
    run(network(), waves, steps=2, checkpoint=path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__")
    assert set(metadata) == {"format", "format_version", "state"}
    json.loads(metadata["state"])
    kinds = {item["dtype"] for item in header.values()}
    assert kinds <= {"F64", "F32", "I64", "U8"}
    assert max(item["data_offsets"][1] for item in header.values()) == len(content) - 8 - size


def test_states_come_back_as_they_were(tmp_path):
    state = {
        "numbers": [1, 2.5, float("inf"), None, True, "text"],
        "by whole number": {0: {"step": torch.tensor(3.0)}, 1: {}},
        "nested": [[torch.arange(3)], {"a": torch.zeros(0)}],
        "transposed": torch.arange(6.0).reshape(2, 3).T,
    }
    write_state(tmp_path / "s", state)
    found = read_state(tmp_path / "s")
    assert repr(found) == repr(state)
    shared = torch.ones(2)
    write_state(tmp_path / "s", [shared, shared])
    assert len(read_state(tmp_path / "s")) == 2


def test_a_failed_write_leaves_the_old_checkpoint_and_the_best_state(
    network, waves, tmp_path, monkeypatch
):
    path = tmp_path / "run.safetensors"
    calls: list[int] = []
    sync = os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    net = network()
    with pytest.raises(OutputError, match="No space left on device"):
        run(net, waves, checkpoint=path, checkpoint_every=0)
    assert read_state(path)["step"] == 1  # the third write, of step 2, failed
    assert [item.name for item in tmp_path.iterdir()] == ["run.safetensors"]
    assert net.statistics is not None


def test_a_checkpoint_that_cannot_be_written_is_refused_at_once(network, waves, tmp_path):
    net = network()
    with pytest.raises(OutputError, match=re.escape(f"to write, got a folder, {str(tmp_path)!r}")):
        run(net, waves, checkpoint=tmp_path)
    assert not net.scaled
