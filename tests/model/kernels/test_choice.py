"""The rule that chooses a kernel, and the override."""

import contextvars
import itertools
import math
import re
import runpy

import pytest
import torch

from kanlens.errors import InvalidValueError
from kanlens.model import kernels
from kanlens.model.kernels import asked, sparse
from kanlens.model.kernels.choice import PATHS
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


CHOICES = "auto, sparse, stored, torch"
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


def test_use_holds_in_a_context_copied_from_here():
    with kernels.use("sparse"):
        context = contextvars.copy_context()
    assert asked() == "auto"
    assert context.run(asked) == "sparse"


@pytest.fixture
def new(monkeypatch):
    """No pass was asked for yet, and none is compiled."""
    monkeypatch.setattr(sparse, "_stored", {})
    monkeypatch.setattr(sparse, "on_disk", lambda kernel, arguments: False)


def runs_kernels(layer: KANLinear, x: torch.Tensor) -> bool:
    """Whether the path asked for runs kernels; nothing is computed."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "run", lambda kernel, *_: seen.append(kernel))
        patch.setattr(KANLinear, "forward_torch", lambda layer, x: x)
        layer(x)
    return bool(seen)


@pytest.mark.usefixtures("new")
@pytest.mark.parametrize(
    ("rows", "trained", "path", "kernel"),
    [
        (64, True, "auto", False),  # a step of training of a small network
        (569, True, "auto", False),
        (100_000, True, "auto", True),  # of a large one
        (100_000, False, "auto", False),  # a part of an analysis
        (3_000_000, False, "auto", True),
        (3_000_000, True, "stored", False),
        (64, True, "sparse", True),
        (3_000_000, True, "torch", False),
    ],
)
def test_kernels_that_are_not_compiled_run_where_that_pays(rows, trained, path, kernel):
    layer, x = KANLinear(3, 1), torch.zeros(1, 3).expand(rows, 3)
    with kernels.use(path), torch.set_grad_enabled(trained):
        for _ in range(3):  # whatever was called before
            assert runs_kernels(layer, x) is kernel


@pytest.mark.usefixtures("new")
@pytest.mark.parametrize("path", ["auto", "stored"])
def test_kernels_that_were_compiled_before_the_process_asked_run(path, monkeypatch):
    with kernels.use(path):
        assert not runs_kernels(KANLinear(3, 1), torch.zeros(4, 3))
        monkeypatch.setattr(sparse, "on_disk", lambda kernel, arguments: True)
        assert not runs_kernels(KANLinear(3, 1), torch.zeros(4, 3))  # another digit, one call later
        assert runs_kernels(KANLinear(3, 1).double(), torch.zeros(4, 3, dtype=torch.float64))
        assert runs_kernels(KANLinear(3, 1, spline_order=2), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("seconds", "path"), [(math.inf, "auto"), (60.0, "stored"), (1.0, "torch")]
)
def test_nothing_is_compiled_under_a_deadline(seconds, path):
    with kernels.use_within(seconds):
        assert asked() == path
    with kernels.use("torch"), kernels.use_within(seconds):
        assert asked() == "torch"


def test_a_pass_that_ran_is_stored():
    layer, x = KANLinear(2, 3).double(), torch.zeros(4, 2, dtype=torch.float64)
    with kernels.use("sparse"):
        layer(x).sum().backward()
    with pytest.MonkeyPatch.context() as patch, kernels.use("stored"):
        patch.setattr(sparse, "_stored", {})
        assert runs_kernels(layer, x)


def test_the_module_compiles_the_passes_beforehand(monkeypatch):
    seen = []
    monkeypatch.setattr(
        sparse,
        "run",
        lambda kernel, weights, *_: seen.append((kernel.__name__, weights.spline.dtype)),
    )
    runpy.run_module("kanlens.model.kernels", run_name="__main__")
    both = itertools.product((torch.float32, torch.float64), ("forward", "backward"))
    assert seen == [(name, dtype) for dtype, name in both]
