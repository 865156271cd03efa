import re

import pytest

from kanlens import memory
from kanlens.errors import InvalidValueError


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
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    assert memory.available_memory() == left
    monkeypatch.setattr(memory, "_of_machine", lambda: 60)
    assert memory.available_memory() == min(60, left if left is not None else 60)


def test_only_work_that_is_large_and_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 5)
    memory.check_memory("fit", 1e8, "work", "Rest")
    text = (
        "fit: expected work that fits into the 0.0 GB of memory available, got work that takes at "
        "least 2.0 GB. Rest."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        memory.check_memory("fit", 2e9, "work", "Rest")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    memory.check_memory("fit", 1e30, "work", "Rest")
