import os
import re
import sys
from typing import Any

import pytest

from kanlens import _resources as resources
from kanlens.errors import InvalidValueError
from tests.model.kernels.processes import python


@pytest.mark.parametrize(
    ("names", "contents", "left"),
    [
        (("memory.max", "memory.current"), ("1000", "400"), 650),
        (("memory.max", "memory.current"), ("max", "400"), None),
        (
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
            ("1000", "900"),
            150,
        ),
        ((), (), None),
    ],
)
def test_what_a_container_leaves(tmp_path, monkeypatch, names, contents, left):
    (tmp_path / "memory").mkdir()
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_text(content + "\n")
        (tmp_path / name).with_name("memory.stat").write_text("anon 7\ninactive_file 50\n")
    monkeypatch.setattr(resources, "_GROUP", tmp_path)
    monkeypatch.setattr(resources, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.delattr(os, "sysconf")
    assert resources.available_memory() == left
    (tmp_path / "meminfo").write_text("MemTotal:    2 kB\nMemAvailable:   1 kB\n")
    assert resources.available_memory() == min(1024, left if left is not None else 1024)


def test_only_work_that_is_large_and_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 5)
    resources.check_memory("fit", 1e8, "work", "Rest")
    text = (
        "fit: expected work that fits into the 0.0 GB of memory available, got work that takes at "
        "least 2.0 GB. Rest."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        resources.check_memory("fit", 2e9, "work", "Rest")
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    resources.check_memory("fit", 1e30, "work", "Rest")


@pytest.mark.parametrize(
    ("given", "size"),
    [(2**26, 2**26), ("1GB", 10**9), ("1.5 gb", 15 * 10**8), ("100M", 10**8), ("1GiB", 2**30)],
)
def test_a_budget_is_read_from_bytes_and_from_text(given, size):
    assert resources.parse_memory("prune", given) == size
    with resources.memory_limit("prune", given):
        assert resources.allowed_memory() == size


@pytest.mark.parametrize("given", ["much", "1XB", "-1GB", 5, "63MB", True, "IB", 1.5])
def test_a_budget_that_is_none_is_refused(given):
    with pytest.raises(InvalidValueError, match=r"^prune: expected max_memory .* got .*\. For"):
        resources.parse_memory("prune", given)


def test_a_quarter_of_what_is_free_is_allowed_by_default(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 2**32)
    assert resources.allowed_memory() == 2**30
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    assert resources.allowed_memory() == resources.UNKNOWN


def test_the_keyword_of_a_function_is_in_force_within_it():
    @resources.within_memory
    def work(x, *, max_memory=None):
        return x, resources.allowed_memory()

    before = resources.allowed_memory()
    assert work(3, max_memory="1GB") == (3, 10**9)
    with resources.memory_limit("outer", "2GB"):
        assert work(3)[1] == 2 * 10**9
    with pytest.raises(InvalidValueError, match=r"^work: expected max_memory"):
        work(3, max_memory="no")
    assert abs(resources.allowed_memory() / before - 1) < 0.5


FAULTS = """
import resource, torch, kanlens

def faults():
    model, x = kanlens.KAN([10, 10, 1]), torch.randn(300, 10)
    kanlens.attribute(model, x[:9], method="secant", background=x[:5])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kanlens.attribute(model, x, method="secant", background=x[:100])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


@pytest.mark.slow  # another interpreter
@pytest.mark.skipif(sys.platform != "linux", reason="told to glibc")
def test_memory_that_is_freed_is_kept_unless_the_environment_says_otherwise():
    here: dict[str, Any] = {}
    exec(FAULTS, here)  # noqa: S102
    kept = here["faults"]()
    returned = int(python(FAULTS + "print(faults())", MALLOC_TRIM_THRESHOLD_=str(2**17)))
    assert kept < returned / 3
