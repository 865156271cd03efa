"""The command that shows a report in a browser of this machine, anew when its files change."""

from __future__ import annotations

import random
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from kanlens.checks import message
from kanlens.cli.application import command
from kanlens.cli.options import SEEDS
from kanlens.cli.picture_commands import report
from kanlens.cli.terminal import Terminal, seeded
from kanlens.errors import KanlensError, OutputError

HOST = "127.0.0.1"
PAGES = {"/": ("report.html", "text/html"), "/report.json": ("report.json", "application/json")}
IDLE = 5.0  # seconds that a connection may be silent


class Latest:
    """A report that is written, and written anew when what it was made of has changed."""

    def __init__(self, write: Callable[[], None], sources: list[Path]) -> None:
        self.write, self.sources = write, sources
        self.written: list[tuple[int, int] | None] = []

    def bring(self) -> None:
        """Write the report if a source has changed since."""
        found = [path.stat() if path.is_file() else None for path in self.sources]
        now = [one and (one.st_mtime_ns, one.st_size) for one in found]
        if now != self.written:
            self.written = now
            self.write()


def server(folder: Path, latest: Latest, port: int, terminal: Terminal) -> HTTPServer:
    """Return a server of the report in a folder, for this machine alone."""

    class Request(BaseHTTPRequestHandler):
        timeout = IDLE

        def do_GET(self) -> None:
            asked = self.headers.get("Host", "").rpartition(":")[0]
            if asked not in (HOST, "localhost"):  # a name of elsewhere that leads here
                return self.send_error(HTTPStatus.FORBIDDEN)
            if self.path not in PAGES:
                return self.send_error(HTTPStatus.NOT_FOUND)
            try:
                latest.bring()
            except KanlensError as error:
                terminal.say(f"kanlens: {error} The page of before is shown.")
            name, kind = PAGES[self.path]
            body = (folder / name).read_bytes()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)
            return None

        def log_message(self, format: str, *values: object) -> None:
            """Say nothing of requests."""

    try:
        return HTTPServer((HOST, port), Request)
    except OSError as error:
        got = f"{port} ({error.strerror})"
        text = message("serve", "a port that is free", got, "Choose another with --port")
        raise OutputError(text) from None


@command(
    example="kanlens serve model.safetensors data.csv",
    title="Title of the page.",
    formula="Read a formula from the model.",
    max_rows="Rows to attribute.",
    port="Port of this machine; 0 takes one that is free.",
    show="Open the page in a browser.",
)
def serve(
    model: Path,
    data: Path,
    *,
    column: str | None = None,
    title: str | None = None,
    formula: bool = True,
    background: Path | None = None,
    output_name: str | None = None,
    max_rows: int = 200,
    port: int = 8000,
    show: bool = False,
    terminal: Terminal,
    seed: int | None = None,
) -> None:
    """Show the report in a browser of this machine; anew at a reload after a file has changed."""
    start = random.randrange(SEEDS["max"]) if seed is None else seed
    with TemporaryDirectory() as name:
        folder = Path(name)

        def write() -> None:
            report(
                model,
                data,
                column=column,
                output=folder / "report.html",
                title=title,
                formula=formula,
                background=background,
                output_name=output_name,
                max_rows=max_rows,
                terminal=Terminal("report", quiet=terminal.quiet),
                generator=seeded(start),
            )

        sources = [path for path in (model, data, background) if path is not None]
        latest = Latest(write, sources)
        with server(folder, latest, port, terminal) as running:
            latest.bring()
            address = f"http://{HOST}:{running.server_port}/"
            terminal.text(f"{address} (Ctrl-C ends it)")
            terminal.emit({"address": address})
            if show:
                typer.launch(address)
            try:
                running.serve_forever(poll_interval=0.2)
            except KeyboardInterrupt:
                terminal.say("ended")
