"""Workers of Dask do what one process does, also when one of them dies."""

import contextlib
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
import torch

from kanlens._runtime import unfinished
from kanlens.distributed import _analyses as analyses
from kanlens.distributed import _jobs as tasks
from kanlens.distributed import attribute, importance
from kanlens.distributed._jobs import completed, workers_for
from kanlens.errors import KanlensError, MethodError
from tests.made import draw

BACKGROUND = draw(10, 3, seed=5)
SAMPLED = {"method": "captum_gradient_shap", "n_samples": 5}

pytestmark = [
    pytest.mark.slow,  # starts processes
    pytest.mark.usefixtures("small_blocks"),
]


@pytest.fixture
def run(model, data, tmp_path):
    def run(name, **options):
        given = {"background": BACKGROUND, **SAMPLED, "part_rows": 50, **options}
        generator = torch.Generator().manual_seed(3)
        return attribute(model, data, tmp_path / name, generator=generator, progress=False, **given)

    return run


@pytest.mark.slow  # starts another interpreter
def test_workers_find_what_one_process_finds(run, scheduler, model, data):
    alone, shared = run("alone"), run("shared", workers=scheduler, part_rows=100)
    assert shared.to_frame().equals(alone.to_frame())
    given = {"background": BACKGROUND, "part_rows": 100, "progress": False}
    found = importance(model, data, workers=scheduler, **given)
    assert found.equals(importance(model, data, **given))


def test_a_worker_that_is_killed_is_replaced_and_no_row_is_doubled(run, scheduler, monkeypatch):
    killed, alone = [], run("alone").to_frame()

    def killing(client, *given):
        for number, done in enumerate(completed(client, *given)):
            if number == 3:
                worker = sorted(client.scheduler_info()["workers"])[0]
                killed.extend(client.run(os.getpid, workers=[worker]).values())
                os.kill(killed[0], signal.SIGKILL)
            yield done

    monkeypatch.setattr(analyses, "completed", killing)
    found = run("killed", workers=scheduler)
    assert len(killed) == 1
    assert found.rows == len(found.to_frame()) == 500
    assert found.to_frame().equals(alone)
    names = [f"part-{n:06d}.parquet" for n in range(10)]
    assert sorted(path.name for path in found.folder.iterdir()) == ["_manifest.json", *names]


def test_what_a_worker_refuses_is_one_line(run, data, scheduler):
    (data / "2.parquet").write_bytes((data / "2.parquet").read_bytes()[:-9])
    with pytest.raises(KanlensError, match=r"^attribute: expected [^\n]*$"):
        run("out", workers=scheduler)


def allow_no_failure(dask_scheduler):
    dask_scheduler.allowed_failures = 0


def die(job, task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_kills_every_worker_ends_in_one_line(scheduler):
    with (
        pytest.raises(MethodError, match=r"^attribute: .* a task, got tcp://\S+, which died\. "),
        workers_for("attribute", scheduler) as client,
    ):
        client.run_on_scheduler(allow_no_failure)
        list(completed(client, "attribute", die, None, [0]))


@pytest.mark.slow  # starts processes
def test_a_task_that_fails_is_tried_again_and_its_error_raised(scheduler):
    with workers_for("attribute", scheduler) as client, pytest.raises(ZeroDivisionError):
        list(completed(client, "attribute", divmod, 1, [0]))


def test_a_scheduler_without_workers_is_refused_in_one_line(monkeypatch):
    import distributed

    monkeypatch.setattr("kanlens.distributed._jobs.SCHEDULER_TIMEOUT", 1.0)
    options = {"n_workers": 0, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(**options) as cluster,
        pytest.raises(MethodError, match=r"^attribute: expected workers at [^\n]*, got none\."),
        workers_for("attribute", cluster.scheduler_address),
    ):
        pass


@pytest.mark.slow  # starts processes
def test_scratch_files_of_workers_here_go_with_them():
    folders = []

    def cluster(**_):
        folders.append(Path(dask.config.get("temporary-directory")))
        assert folders[0].is_dir()
        assert folders[0] in unfinished  # and with a command that is left
        found = contextlib.ExitStack()
        found.scheduler_address = "here"
        return found

    with tasks._local(SimpleNamespace(LocalCluster=cluster), 2) as address:
        assert address == "here"
    assert not folders[0].exists()
    assert folders[0] not in unfinished
