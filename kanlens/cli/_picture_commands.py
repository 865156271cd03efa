"""Commands that show a model or write it for other programs: plot, report, export, serve."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import typer

import kanlens
from kanlens._runtime import temporary_folder
from kanlens.cli._command import command
from kanlens.cli._console import Generator, Terminal, seeded
from kanlens.cli._options import output_index, split_names
from kanlens.errors import KanlensError, OutputError

HOST = "127.0.0.1"
PAGES = {"/": ("report.html", "text/html"), "/report.json": ("report.json", "application/json")}
IDLE = 5.0  # seconds after which a silent connection is closed


@command(
    example="kanlens plot model.safetensors -o network.svg",
    data="Table for the ranges and sizes of curves.  [default: those stored in the model]",
    edge="Draw one edge, layer:out:in, for example 0:2:1.",
    effect="Draw the effect of a feature on an output.",
    output="Picture to write: .svg, .pdf or .png.",
)
def plot(
    model: Path,
    data: Path | None = None,
    *,
    column: str | None = None,
    edge: str | None = None,
    effect: str | None = None,
    output_name: str | None = None,
    output: Path = Path("figure.svg"),
    terminal: Terminal,
) -> None:
    """Draw the network with its edge functions, one edge, or the effect of a feature."""
    from kanlens.cli._model_data import read_rows

    if edge is not None and effect is not None:
        raise typer.BadParameter("draw one picture at a time", param_hint="--edge, --effect")
    terminal.check([model, data], picture=output)
    kan = kanlens.load(model)
    x = None if data is None else read_rows(data, kan, column, terminal).x
    if effect is not None:
        axes = kanlens.plot.effect(kan, effect, x, target=output_index(output_name))
    elif edge is None:
        axes = kanlens.plot.network(kan, x=x)
    else:
        axes = kanlens.plot.edge(kan, *_place(edge), data=x)
    terminal.write(axes, output)
    terminal.emit({"figure": str(output)})


def _place(text: str) -> tuple[int, int, int]:
    """Return layer, out and in of an edge as layer:out:in."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        advice = "write it as layer:out:in, for example 0:2:1"
        raise typer.BadParameter(f"{text!r} names no edge; {advice}", param_hint="--edge")
    layer, out, in_ = (int(part) for part in parts)
    return layer, out, in_


@command(
    example="kanlens report model.safetensors data.csv -o report.html",
    output="Page to write.",
    title="Title of the page.",
    formula="Derive a formula from the model.",
    certify="Prove bounds over the ranges of the data, which may take minutes.",
    methods="Attribution methods to compare, comma-separated.",
    others="Model to compare with; may be given several times.",
    max_rows="Rows to attribute.",
    fail_on="Exit with code 1 if limits are exceeded, such as r2<0.8,offgrid>0.05.",
    show="Open the page when it is written.",
)
def report(
    model: Path,
    data: Path,
    *,
    column: str | None = None,
    output: Path = Path("report.html"),
    title: str | None = None,
    formula: bool = True,
    certify: bool = False,
    methods: str | None = None,
    background: Path | None = None,
    output_name: str | None = None,
    others: list[Path] | None = None,
    max_rows: int = 200,
    fail_on: str | None = None,
    show: bool = False,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Write an HTML report about a model, and its numbers as JSON."""
    from kanlens.cli._model_data import background_rows, output_to_explain, read_rows
    from kanlens.reporting._alerts import broken, read_limits

    limits = read_limits(fail_on) if fail_on else []
    twin = output.parent / f"{output.stem}.json"
    terminal.check([model, data, background, *(others or [])], page=output, twin=twin)
    kan = kanlens.load(model)
    models = {path.stem: kanlens.load(path) for path in others or []}
    if len({model.stem, *models}) <= len(others or []):
        raise typer.BadParameter("two models have one file name", param_hint="--compare")
    without = "predictions have no score on the page"
    table = read_rows(data, kan, column, terminal, without=without)
    against = None  # the page names the substitute rows
    if background is not None:
        against = background_rows(background, kan, table, None, terminal)
    target = output_to_explain(terminal, kan, output_name, table.x)
    quiet, results = terminal.progress, []
    if certify:
        ends = zip(table.x.amin(0).tolist(), table.x.amax(0).tolist(), strict=True)
        box = dict(zip(kan.feature_names, ends, strict=True))
        results.append(kanlens.certify(kan, box, target=target, max_boxes=4096, progress=quiet))
    result = kanlens.report(
        kan,
        table,
        terminal.place(output),
        results=results,
        title=title,
        background=against,
        target=target,
        methods=split_names(methods) or None,
        formula=formula,
        others={model.stem: kan, **models},
        max_rows=max_rows,
        generator=generator,
        progress=quiet,
    )
    terminal.wrote(result.path, result.json_path)
    terminal.emit({"report": str(result.path), "json": str(result.json_path)})
    if show:
        typer.launch(str(result.path.resolve()))
    if past := broken(result.content, limits):
        expected, advice = f"--fail-on {fail_on} not to be met", "See the page for the causes"
        raise KanlensError("report", expected, "; ".join(past), advice)


@command(
    "export",
    example="kanlens export model.safetensors -o model.onnx",
    to="Format of the file.  [default: by the ending of -o]",
    output="File to write.",
    explain="Also write the contribution of each feature (onnx).",
    table="Name of the table that SQL reads.",
    keep="Columns of the SQL table to keep, comma-separated.  [default: the features]",
    interval="Add intervals that cover this share of new rows, as predict does.",
)
def export_command(
    model: Path,
    *,
    to: str | None = None,
    output: Path,
    explain: bool = False,
    table: str = "data",
    keep: str | None = None,
    interval: float | None = None,
    terminal: Terminal,
) -> None:
    """Export a model to another format, run the export, and report the largest difference."""
    terminal.check([model], file=output)
    kan = kanlens.load(model)
    result = kanlens.export(
        kan, output, to=to, explain=explain, table=table, keep=split_names(keep), interval=interval
    )
    terminal.wrote(output)
    facts = {"file": str(output), "format": result.format, "rows_compared": result.rows}
    terminal.facts("exported", {**facts, "largest_error": result.error})


class Latest:
    """A report that is rewritten when one of its source files has changed."""

    def __init__(self, write: Callable[[], None], sources: list[Path]) -> None:
        self.write, self.sources = write, sources
        self.written: list[tuple[int, int] | None] = []

    def update(self) -> None:
        """Write the report if a source file has changed."""
        files = [path.stat() if path.is_file() else None for path in self.sources]
        state = [file and (file.st_mtime_ns, file.st_size) for file in files]
        if state != self.written:
            self.written = state
            self.write()


def server(folder: Path, latest: Latest, port: int, terminal: Terminal) -> HTTPServer:
    """Return a server of the report in a folder, for this machine only."""

    class PageHandler(BaseHTTPRequestHandler):
        timeout = IDLE

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (HOST, "localhost"):  # a foreign name that resolves to this machine
                return self.send_error(HTTPStatus.FORBIDDEN)
            if self.path not in PAGES:
                return self.send_error(HTTPStatus.NOT_FOUND)
            try:
                latest.update()
            except KanlensError as error:
                terminal.say(f"kanlens: {error} The previous page is shown.")
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
            """Log no requests."""

    try:
        return HTTPServer((HOST, port), PageHandler)
    except OverflowError:
        advice = "Choose another with --port"
        raise OutputError("serve", "a port from 0 to 65535", str(port), advice) from None
    except OSError as error:
        got, advice = f"{port} ({error.strerror})", "Choose another with --port"
        raise OutputError("serve", "a port that is free", got, advice) from None


@command(
    example="kanlens serve model.safetensors data.csv",
    title="Title of the page.",
    formula="Derive a formula from the model.",
    max_rows="Rows to attribute.",
    port="Port on this machine; 0 chooses a free one.",
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
    seed: int = 0,
) -> None:
    """Serve the report on this machine; a reload rebuilds it if a file has changed."""
    with temporary_folder() as folder:

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
                generator=seeded(seed),
            )

        latest = Latest(write, [path for path in (model, data, background) if path is not None])
        with server(folder, latest, port, terminal) as running:
            latest.update()
            address = f"http://{HOST}:{running.server_port}/"
            terminal.text(f"{address} (Ctrl-C ends it)")
            terminal.emit({"address": address})
            if show:
                typer.launch(address)
            try:
                running.serve_forever(poll_interval=0.2)
            except KeyboardInterrupt:
                terminal.say("ended")
