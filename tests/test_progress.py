"""The bar shows on a terminal's stderr alone, and goes away."""

import io
import subprocess
import sys

import pytest

from kanlens._runtime import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(shown: bool | None = None) -> None:
    with progress_bar("fitting [edges]", 4, shown=shown) as advance:
        for step in range(4):
            advance(note=f"loss [{step}]")


def seen(monkeypatch: pytest.MonkeyPatch, shown: bool | None = None) -> str:
    """Return what a terminal receives on stderr while there is work."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    work(shown)
    return stream.getvalue()


def test_a_terminal_sees_the_bar_with_its_words_as_they_are(monkeypatch, capsys):
    text = seen(monkeypatch)
    assert "fitting [edges]" in text
    assert "4/4" in text
    assert "loss [3]" in text
    assert capsys.readouterr().out == ""


def test_the_bar_goes_away(monkeypatch):
    assert seen(monkeypatch).endswith("\x1b[2K")  # the line is cleared


def test_no_bar_when_it_is_not_wanted(monkeypatch):
    assert seen(monkeypatch, shown=False) == ""


@pytest.mark.parametrize("shown", [None, False])
def test_silent_where_stderr_is_no_terminal(capfd, shown):
    work(shown)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_errors_pass_through():
    with pytest.raises(KeyError), progress_bar("work", 2) as advance:
        advance(2, note="half")
        raise KeyError("cause")


def test_rich_is_loaded_by_the_first_bar_alone():
    code = (
        "import sys\n"
        "from kanlens._runtime import progress_bar\n"
        "with progress_bar('work', 1, shown=False) as advance: advance()\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
