"""The rule that chooses a kernel, and the override."""

import contextvars
import math
import re
import sys
import threading

import pytest
import torch

from kanlens.errors import InvalidValueError
from kanlens.model import kernels
from kanlens.model.kernels import PATHS, asked, compiling, passes
from kanlens.model.layers import KANLinear


def test_the_rule_is_asked_for_outside():
    assert asked() == "auto"


@pytest.mark.parametrize("path", PATHS)
def test_use_nests_and_restores(path):
    with kernels.use(path):
        assert asked() == path
        with kernels.use("torch"):
            assert asked() == "torch"
            with kernels.use("auto"):
                assert asked() == "auto"
            assert asked() == "torch"
        assert asked() == path
    assert asked() == "auto"


def test_use_restores_after_an_error():
    with pytest.raises(KeyError), kernels.use("torch"), kernels.use("sparse"):
        raise KeyError
    assert asked() == "auto"


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
    assert asked() == "auto"


def test_use_holds_for_one_thread():
    seen: list[str] = []
    started, done = threading.Event(), threading.Event()

    def other() -> None:
        with kernels.use("torch"):
            started.set()
            done.wait(10)
            seen.append(asked())

    with kernels.use("sparse"):
        thread = threading.Thread(target=other)
        thread.start()
        started.wait(10)
        assert asked() == "sparse"
        done.set()
        thread.join()
        assert asked() == "sparse"
    assert seen == ["torch"]


def test_use_holds_in_a_context_copied_from_here():
    with kernels.use("sparse"):
        context = contextvars.copy_context()
    assert asked() == "auto"
    assert context.run(asked) == "sparse"


def test_kernels_are_ready_once_they_are_compiled_or_there_is_time_for_it(monkeypatch):
    monkeypatch.setattr(compiling, "is_compiled", lambda kernel, dtype: False)
    assert not kernels.ready_within(kernels.COMPILING)
    assert kernels.ready_within(kernels.CAUTION * kernels.COMPILING)
    monkeypatch.setattr(compiling, "is_compiled", lambda kernel, dtype: True)
    assert kernels.ready_within(kernels.COMPILING)


@pytest.mark.parametrize(
    ("seconds", "share", "path"),
    [
        (60.0, 1.0, "auto"),
        (60.0, 0.3, "torch"),  # where compiling would take three times as long
        (10.0, 1.0, "torch"),
        (math.inf, 0.01, "auto"),
    ],
)
def test_a_busy_machine_has_less_time_for_kernels(monkeypatch, seconds, share, path):
    monkeypatch.setattr(compiling, "is_compiled", lambda kernel, dtype: False)
    monkeypatch.setattr(kernels, "processor_share", lambda: share)
    with kernels.use_within(seconds):
        assert asked() == path


def test_numba_is_not_loaded_where_that_takes_too_long(monkeypatch):
    monkeypatch.setattr(kernels, "processor_share", lambda: 0.1)
    monkeypatch.delitem(sys.modules, "numba")
    with kernels.use_within(10.0):
        assert asked() == "torch"


def test_a_kernel_that_ran_is_compiled_for_its_numbers():
    layer = KANLinear(2, 3).double()
    with torch.no_grad(), kernels.use("sparse"):
        layer(torch.zeros(4, 2, dtype=torch.float64))
    assert compiling.is_compiled(passes.forward, "float64")
    assert not compiling.is_compiled(passes.forward, "complex64")
