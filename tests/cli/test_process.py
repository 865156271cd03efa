"""An interrupt ends the process of a command with one line, wherever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

import kanlens
from kanlens.cli import _signals as signals
from kanlens.cli._signals import Interrupts, _importing

CHILD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
CHILD += "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
STUCK = """
import ctypes, sys
from kanlens.cli import _signals as process
process.INTERRUPT_TIMEOUT = 0.1
interrupts = process.Interrupts()
interrupts.install()
interrupts.running = True
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # of this thread alone
text = b"ready\\n" + b"." * 10**6  # more than a pipe holds: the call that writes it is stuck
ctypes.CDLL(None).write(1, text, len(text))
"""
SLOW_MODULE = """
import sys, time
print("ready", flush=True)
try:
    time.sleep(60)
except BaseException:
    raise ImportError("the interrupt is swallowed") from None
"""


@pytest.mark.slow  # starts another interpreter
def test_a_result_that_cannot_be_printed_is_one_line():
    words = [sys.executable, "-m", "kanlens", "methods"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    text = "kanlens: the result could not be printed: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, text)


class Left(Exception):
    """The process would have ended here."""


@pytest.fixture
def lines(monkeypatch):
    found = []

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(signals.os, "_exit", leave)
    monkeypatch.setattr(signals.os, "write", lambda _, text: found.append(text.decode()))
    return found


SIGNALS = [signal.SIGINT, signal.SIGTERM]
KEEPING = """
import time
from kanlens.cli._signals import run
from kanlens._runtime import temporary_folder, unfinished
def command():
    with temporary_folder() as folder:
        (folder / "part").touch()
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print(folder.is_dir(), flush=True)
    print(folder.is_dir(), flush=True)
    return 130
import sys
sys.argv = ["kanlens", "info"]
run(lambda: command)
"""


def interrupted(code: str, folder: Path, number: int = signal.SIGINT) -> tuple[int, str]:
    """Run code in a new process, interrupt it when it says that it is ready."""
    path = os.pathsep.join([str(folder), str(Path(signals.__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, "-c", CHILD + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        return child.wait(30), "".join(child.communicate())


def test_two_that_leave_at_once_say_so_once(lines, monkeypatch):
    left, end = threading.Event(), threading.Event()
    monkeypatch.setattr(signals.os, "_exit", lambda code: (left.set(), end.wait()))
    interrupts = Interrupts()
    leave = {"target": interrupts.leave, "args": ("words",), "daemon": True}
    both = [threading.Thread(**leave) for _ in range(2)]
    both[0].start()
    assert left.wait(5)
    both[1].start()
    both[1].join(0.05)
    assert lines == ["kanlens: interrupted; words\n"]
    end.set()
    both[0].join()  # the other waits for the end of the process


@pytest.mark.skipif(os.name == "nt", reason="interrupts are Python's own there")
@pytest.mark.parametrize("number", SIGNALS)
def test_modules_that_swallow_interrupts_do_not_keep_the_process(tmp_path, number):
    (tmp_path / "typer.py").write_text(SLOW_MODULE)
    ended = interrupted("from kanlens.cli import run\nrun()", tmp_path, number)
    assert ended == (130, "kanlens: interrupted; nothing had begun\n")


@pytest.mark.skipif(os.name == "nt", reason="interrupts are Python's own there")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_native_call_that_does_not_return_is_left(tmp_path, number):
    code, said = interrupted(STUCK, tmp_path, number)
    assert code == 130
    assert said.lstrip(".") == "kanlens: interrupted; no file is left half written\n"


@pytest.mark.skipif(os.name == "nt", reason="interrupts are Python's own there")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_gets_either_signal_as_an_interrupt(tmp_path, number):
    assert interrupted(KEEPING, tmp_path, number) == (130, "True\nFalse\n")


@pytest.mark.skipif(os.name == "nt", reason="interrupts are Python's own there")
@pytest.mark.parametrize(
    ("ignored", "torchrun", "taken"),
    [
        (False, False, SIGNALS),
        (True, False, [signal.SIGTERM]),  # as in the background of a script
        (False, True, [signal.SIGINT]),  # whose signal tells of a lost process
        (True, True, []),
    ],
)
def test_signals_are_taken_from_nobody(monkeypatch, ignored, torchrun, taken):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(signals.threading, "Thread", lambda **_: types.SimpleNamespace(start=int))
    monkeypatch.setattr(signals.signal, "set_wakeup_fd", lambda *_, **__: -1)
    monkeypatch.setattr(signals.sys, "unraisablehook", sys.unraisablehook)
    if torchrun:
        monkeypatch.setenv("WORLD_SIZE", "1")
    try:
        how = signal.SIG_IGN if ignored else signal.default_int_handler
        signal.signal(signal.SIGINT, how)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        interrupts = Interrupts()
        interrupts.install()
        own = [number for number in SIGNALS if signal.getsignal(number) == interrupts.take]
        assert own == interrupts.taken == taken
        interrupts.ignore()
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in taken)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_before_the_command_runs_the_process_leaves(lines):
    with pytest.raises(Left):
        Interrupts().take(signal.SIGINT, None)
    assert lines == ["kanlens: interrupted; nothing had begun\n"]


def test_a_command_is_interrupted_once():
    interrupts = Interrupts()
    interrupts.running = True
    with pytest.raises(KeyboardInterrupt):
        interrupts.take(signal.SIGINT, sys._getframe())
    interrupts.take(signal.SIGINT, sys._getframe())  # the next one is for the thread that watches


def test_an_import_is_not_interrupted(tmp_path, monkeypatch):
    interrupts = Interrupts()
    interrupts.running = True
    monkeypatch.setattr(signals, "interrupts", interrupts, raising=False)
    (tmp_path / "interrupted_module.py").write_text(
        "import signal, sys\nfrom kanlens.cli import _signals as process\n"
        "process.interrupts.take(signal.SIGINT, sys._getframe())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import interrupted_module  # type: ignore[import-not-found]

    assert interrupted_module
    assert not interrupts.raised
    assert not _importing(sys._getframe())


def test_an_interrupt_that_a_finalizer_lost_comes_again(capsys):
    interrupts = Interrupts()
    interrupts.running = interrupts.raised = True
    interrupts.pass_over(types.SimpleNamespace(exc_type=KeyboardInterrupt))
    assert not interrupts.raised
    assert capsys.readouterr().err == ""


def test_only_a_process_of_its_own_takes_interrupts():
    before = signal.getsignal(signal.SIGINT)
    Interrupts().ignore()
    assert signal.getsignal(signal.SIGINT) is before


def test_who_leaves_takes_half_files_along(lines, tmp_path):
    interrupts, half = Interrupts(), tmp_path / ".half"
    half.touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "part").touch()
    interrupts.unfinished = {half, folder, tmp_path / "gone"}
    with pytest.raises(Left):
        interrupts.leave("now")
    assert lines == ["kanlens: interrupted; now\n"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "kanlens: interrupted; no file is left half written\n"),
        (ImportError("no module"), 3, "kanlens: this is a bug"),
    ],
)
def test_errors_that_came_of_an_interrupt_are_one(error, code, said, capfd):
    assert signals._failed(error) == code
    assert said in capfd.readouterr().err
    try:
        raise ImportError("half a module") from error
    except ImportError as later:
        assert signals._failed(later) == code


def alone(*words: str) -> str:
    """Run the command line in a process; return its words, its code and what it loaded."""
    script = (
        f"import sys; sys.argv = {['kanlens', *words]!r}\n"
        "from kanlens.cli import run\n"
        "try: run()\n"
        "except SystemExit as stop: print(stop.code, sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow  # runs commands
@pytest.mark.parametrize("words", ["--version", "--help", "train --help"])
def test_the_version_and_help_are_printed_without_loading_torch(words):
    printed = alone(*words.split())
    assert printed.startswith((f"kanlens {kanlens.__version__}\n", " " * 80))
    assert printed.endswith("\n0 []\n")


COMPLETE = """
import os
from kanlens.cli import run
for words in ("kanlens tr", "kanlens train --valid"):
    os.environ |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    try: run()
    except SystemExit: print(flush=True)
"""


@pytest.mark.slow  # runs commands
def test_shells_complete_commands_and_options():
    asked = {**os.environ, "_KANLENS_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", COMPLETE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=asked)
    assert done.stdout.split() == ["train", "--validation"]
