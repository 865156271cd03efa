"""Output files: whole or not at all, and refused before the work."""

import os
import re
import stat
from pathlib import Path

import pytest

from kanlens import _atomic_files as atomic_files
from kanlens._atomic_files import atomic_write, check_writable
from kanlens._runtime import unfinished
from kanlens.errors import MissingFileError, OutputError


def refused(error: type[Exception], text: str):
    return pytest.raises(error, match=f"^{re.escape(text)}$")


def make(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_writes_under_another_name_first(tmp_path):
    path = make(tmp_path, "model.v1.safetensors", "old")
    with atomic_write(path, call="save") as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".safetensors"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_block_leaves_the_old_file_alone(tmp_path):
    path = make(tmp_path, "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path, call="save") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    text = (
        f"save: expected a file to write, got 'No space left on device' at {str(path)!r}. "
        "Name a file and a folder that you may write to."
    )
    with refused(OutputError, text), atomic_write(path, call="save"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_errors_about_other_files_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "a", call="save"):
        (tmp_path / "other").read_text()
    assert not isinstance(caught.value, OutputError)
    refusal = MissingFileError("load", "a file", "none", "Check the path")
    with pytest.raises(MissingFileError), atomic_write(tmp_path / "a.txt", call="save"):
        raise refusal
    assert not list(tmp_path.iterdir())


def test_makes_parent_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with atomic_write(path, call="save") as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path):
    plain = make(tmp_path, "plain", "")
    with atomic_write(tmp_path / "new", call="save"):
        pass
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode
    plain.chmod(0o640)
    with atomic_write(plain, call="save"):
        pass
    assert stat.S_IMODE(plain.stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    real = make(tmp_path, "real.txt", "old")
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    with atomic_write(link, call="save") as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


@pytest.mark.parametrize("attempt", [check_writable, "atomic_write"])
def test_refuses_folders_devices_and_files_as_folders(tmp_path, attempt):
    def write(path):
        if attempt is check_writable:
            check_writable(path, call="save")
        else:
            with atomic_write(path, call="save"):
                raise AssertionError("must not come so far")

    text = f"save: expected a file to write, got a folder, {str(tmp_path)!r}. Name a file."
    with refused(OutputError, text):
        write(tmp_path)
    if Path("/dev/null").is_char_device():
        text = "save: expected a file to write, got a device, '/dev/null'. Name a file."
        with refused(OutputError, text):
            write("/dev/null")
        assert Path("/dev/null").is_char_device()
    path = make(tmp_path, "file", "") / "a.csv"
    with pytest.raises(OutputError, match=re.escape(f"at {str(path)!r}. Name a file and a folder")):
        write(path)
    with pytest.raises(OutputError, match="null"):
        write("a\0b")


def test_read_only_files_are_not_replaced(tmp_path, monkeypatch):
    path = make(tmp_path, "a.txt", "old")
    monkeypatch.setattr(atomic_files.os, "access", lambda *_: False)
    text = (
        f"save: expected a file to write, got 'Permission denied' at {str(path)!r}. "
        "Name a file and a folder that you may write to."
    )
    with refused(OutputError, text), atomic_write(path, call="save") as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"


def test_check_writable_leaves_no_trace(tmp_path):
    path = make(tmp_path, "a.txt", "old")
    check_writable(path, call="save")
    check_writable(tmp_path / "b.txt", call="save")
    check_writable(tmp_path / "new" / "folder" / "c.txt", call="save")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_who_leaves_abruptly_knows_the_files_that_are_being_written(tmp_path):
    with atomic_write(tmp_path / "a.txt", call="save") as temporary:
        assert unfinished == {temporary}
    assert not unfinished
    with pytest.raises(OutputError):
        check_writable(make(tmp_path, "file", "") / "a.csv", call="save")
    assert not unfinished
