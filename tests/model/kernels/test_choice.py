"""The rule that chooses a kernel, and the override."""

import contextvars
import math
import os
import re
import runpy
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from kanlens.errors import InvalidValueError
from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from kanlens.model.kernels import ASKED
from kanlens.model.kernels import _autograd as fused_autograd
from kanlens.model.kernels import _choice as choice
from kanlens.model.kernels import _forward_backward as entry_points
from kanlens.model.kernels import _pool as pool
from kanlens.model.kernels._choice import PATHS


def test_the_rule_is_asked_for_outside():
    assert ASKED.get() == "auto"


@pytest.mark.parametrize("path", PATHS)
def test_use_nests_and_restores(path):
    with kernels.use(path):
        assert ASKED.get() == path
        with kernels.use("torch"):
            assert ASKED.get() == "torch"
            with kernels.use("auto"):
                assert ASKED.get() == "auto"
            assert ASKED.get() == "torch"
        assert ASKED.get() == path
    assert ASKED.get() == "auto"


def test_use_restores_after_an_error():
    with pytest.raises(KeyError), kernels.use("torch"), kernels.use("sparse"):
        raise KeyError
    assert ASKED.get() == "auto"


CHOICES = "auto, sparse, torch"
REFUSED = {
    "fast": f"Choose one of: {CHOICES}.",
    "Sparse": "Did you mean 'sparse'?",
    "": f"Choose one of: {CHOICES}.",
    None: f"Choose one of: {CHOICES}.",
    3: f"Choose one of: {CHOICES}.",
}


@pytest.mark.parametrize("path", REFUSED)
def test_use_refuses_what_is_no_path(path):
    text = f"kernels.use: expected path to be one of {CHOICES}, got {path!r}. {REFUSED[path]}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"), kernels.use(path):
        pass
    assert ASKED.get() == "auto"


def test_use_holds_in_a_context_copied_from_here():
    with kernels.use("sparse"):
        context = contextvars.copy_context()
    assert ASKED.get() == "auto"
    assert context.run(ASKED.get) == "sparse"


@pytest.fixture
def disk(monkeypatch):
    """Kernels in numba's cache, none yet, and the code of processes that were started."""
    disk = SimpleNamespace(full=False, started=[])
    monkeypatch.setattr(fused_autograd, "_compilations", {})
    monkeypatch.setattr(fused_autograd, "on_disk", lambda kernel, arguments: disk.full)
    monkeypatch.setattr(choice, "COMPILE_AFTER", 1.0)
    monkeypatch.setattr(choice, "start", lambda code: disk.started.append(code) or Mock())
    return disk


def runs_kernels(layer: KANLinear, x: torch.Tensor) -> bool:
    """Return whether the path asked for runs kernels; nothing is computed."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_autograd, "run", lambda kernel, *_: seen.append(kernel))
        patch.setattr(KANLinear, "forward_torch", lambda layer, x: x)
        layer(x)
    return bool(seen)


@pytest.mark.parametrize("rows", [64, 3_000_000])
@pytest.mark.parametrize(("path", "kernel"), [("auto", False), ("sparse", True), ("torch", False)])
def test_no_call_waits_for_a_compiler_but_where_kernels_are_asked_for(disk, rows, path, kernel):
    layer, x = KANLinear(3, 1), torch.zeros(1, 3).expand(rows, 3)
    with kernels.use(path):
        assert runs_kernels(layer, x) is kernel


def test_kernels_are_compiled_once_they_have_been_missed_for_longer_than_compiling_takes(disk):
    layer, x = KANLinear(3, 1), torch.zeros(4, 3)
    calls = int(choice.COMPILE_AFTER / kernels.CALL)
    for _ in range(calls - 100):
        assert not runs_kernels(layer, x)
    assert disk.started == []
    for _ in range(200):
        runs_kernels(layer, x)
    assert disk.started == [
        "from kanlens.model.kernels.__main__ import compile_passes; compile_passes('float32', 3)"
    ]
    disk.full = True
    assert any(runs_kernels(layer, x) for _ in range(calls))
    assert runs_kernels(layer, x)
    assert len(disk.started) == 1


def test_kernels_that_a_call_asked_for_run_from_the_next_one_on(disk):
    layer, x = KANLinear(3, 1), torch.zeros(4, 3)
    assert not runs_kernels(layer, x)
    with kernels.use("sparse"):
        assert runs_kernels(layer, x)
    disk.full = True
    assert runs_kernels(layer, x)
    assert disk.started == []


def test_kernels_on_disk_run_at_once(disk):
    disk.full = True
    assert runs_kernels(KANLinear(3, 1), torch.zeros(4, 3))
    assert disk.started == []


def test_few_rows_take_the_pass_that_is_compiled(disk, monkeypatch):
    monkeypatch.setattr(fused_autograd, "on_disk", lambda kernel, arguments: kernel in of_all)
    of_all, seen = {entry_points.forward, entry_points.backward}, []
    monkeypatch.setattr(fused_autograd, "run", lambda kernel, *_: seen.append(kernel))
    layer, x = KANLinear(64, 64), torch.zeros(1, 64)
    with torch.no_grad():
        layer(x)
        of_all.add(entry_points.forward_single)
        fused_autograd._compilations.clear()
        layer(x)
    assert seen == [entry_points.forward, entry_points.forward_single]


@pytest.mark.parametrize(("seconds", "path"), [(math.inf, "auto"), (60.0, "auto"), (1.0, "torch")])
def test_numba_is_not_loaded_close_to_a_deadline(seconds, path):
    with kernels.use_within(seconds):
        assert ASKED.get() == path
    with kernels.use("torch"), kernels.use_within(seconds):
        assert ASKED.get() == "torch"


def test_a_pass_that_ran_is_stored(monkeypatch):
    layer, x = KANLinear(2, 3).double(), torch.zeros(4, 2, dtype=torch.float64)
    with kernels.use("sparse"):
        layer(x).sum().backward()
    monkeypatch.setattr(fused_autograd, "_compilations", {})
    assert runs_kernels(layer, x)


def test_the_second_process_runs_the_code(tmp_path):
    process = choice.start(f"open({str(tmp_path / 'done')!r}, 'w').write('x' * os.nice(0))")
    assert process.wait(60) == 0
    assert len((tmp_path / "done").read_text()) == min(19, os.nice(0) + 10)


def test_the_second_process_imports_nothing_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert choice.start("import hostile").wait(60) != 0
    assert not (tmp_path / "ran").exists()
    sys.path.insert(0, str(tmp_path))  # what this process may import, the second may
    assert choice.start("import hostile").wait(60) == 0


def test_where_no_second_process_compiles(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert choice.start("pass") is None
    monkeypatch.delattr(sys, "frozen")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Mock(side_effect=OSError))
        assert choice.start("pass") is None
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choice.start("pass") is None


@pytest.mark.slow  # many layers
def test_the_module_compiles_the_passes_beforehand(monkeypatch):
    seen = set()
    monkeypatch.setattr(
        pool, "share", lambda kernel, arguments, *_: seen.add((kernel.__name__, len(arguments)))
    )
    runpy.run_module("kanlens.model.kernels", run_name="__main__")
    names = {name for name, _ in seen}
    assert names >= {"forward", "backward", "forward_single", "forward_spans", "norms_of"}
