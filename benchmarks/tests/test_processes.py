"""Measurements in processes of their own: what comes back when there is no answer."""

from benchmarks.processes import ask


def test_a_process_that_takes_too_long_is_ended_and_late():
    found = ask("this", {}, timeout=1e-3)
    assert found["late"] is True
    assert found["failed"].endswith("without an answer")


def test_a_process_that_breaks_or_says_nothing_is_not_late():
    assert set(ask("no_such_module", {})) == {"failed"}
    assert ask("this", {}) == {"failed": "process gave no answer"}
