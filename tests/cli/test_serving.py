"""Reports in a browser of this machine."""

from __future__ import annotations

import re
import threading
from http.client import HTTPConnection
from http.server import HTTPServer

import pytest

from kanlens.cli import main
from kanlens.cli._console import Terminal
from kanlens.cli._picture_commands import Latest, server
from kanlens.errors import DataError, OutputError


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1")
    return path


@pytest.fixture
def running(tmp_path, source):
    def write():
        if source.read_text() == "bad":
            raise DataError("report", "rows", "<none>", "Add some")
        for name in ("report.html", "report.json"):
            (tmp_path / name).write_text(f"{name} of {source.read_text()}")

    with server(tmp_path, Latest(write, [source]), 0, Terminal("serve")) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def got(server, path, host=None):
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_a_page_is_written_anew_when_its_source_changes(running, source, capsys):
    assert got(running, "/") == (200, "report.html of 1")
    source.write_text("22")
    assert got(running, "/report.json") == (200, "report.json of 22")
    source.write_text("bad")
    assert got(running, "/") == (200, "report.html of 22")
    assert "got <none>. Add some. The previous page" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("port", [99999, -1])
def test_a_port_that_no_machine_has_is_refused(tmp_path, port):
    text = f"serve: expected a port from 0 to 65535, got {port}. Choose another with --port."
    with pytest.raises(OutputError, match=f"^{re.escape(text)}$"):
        server(tmp_path, Latest(lambda: None, []), port, Terminal("serve"))


def test_an_unchanged_source_is_not_read_again(source):
    written = []
    latest = Latest(lambda: written.append(source.read_text()), [source, source.parent / "none"])
    for text in ("1", "1", "333", "333"):
        source.write_text(text) if source.read_text() != text else None
        latest.update()
    assert written == ["1", "333"]


@pytest.mark.parametrize("path", ["/data.csv", "/../data.csv", "/report.html/"])
def test_nothing_else_is_given(running, path):
    assert got(running, path)[0] == 404


@pytest.mark.parametrize("host", ["example.org:80", "127.0.0.1.example.org:80", "localhost"])
def test_names_that_lead_here_from_elsewhere_are_refused(running, host):
    assert got(running, "/", host)[0] == 403


def test_it_listens_on_this_machine_alone(running):
    assert running.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_told_before_the_work(running, workshop, capsys):
    words = ["serve", f"{workshop}/model.safetensors", f"{workshop}/data.csv"]
    assert main([*words, "--port", f"{running.server_port}"]) == 1
    assert f"expected a port that is free, got {running.server_port}" in capsys.readouterr().err


@pytest.mark.slow  # starts another interpreter
@pytest.mark.usefixtures("undrawn")
def test_the_page_is_ready_when_the_address_is_told_and_ctrl_c_ends_it(
    workshop, monkeypatch, capsys
):
    def interrupted(self, poll_interval):
        raise KeyboardInterrupt

    monkeypatch.setattr(HTTPServer, "serve_forever", interrupted)
    words = ["serve", f"{workshop}/model.safetensors", f"{workshop}/data.csv", "--no-formula"]
    assert main([*words, "--max-rows", "6", "--port", "0", "--seed", "0"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("http://127.0.0.1:")
    assert "report.html" in said.err
