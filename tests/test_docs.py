"""The pages hold what they show: their code runs, and prints what stands below it."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
from pathlib import Path

import pytest
import sklearn
import typer

import kanlens
from kanlens.cli._command import app, load_commands

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
    if "```python" in page.read_text() and "_build" not in page.parts
]


LONG = "symbolize(model, table.x, table.y, progress=False"  # a minute with all rows and functions
SHORT = 'symbolize(model, table.x[:150], table.y[:150], functions=["x", "x^2", "sin", "exp"]'


OF_NEW_VERSIONS = {"frontier", "imitate", "intervals"}  # which train, as scikit-learn and torch do


def run(page: str) -> list[str]:
    """Run the blocks of a page one after the other; return what they printed in place of what."""
    names: dict[str, object] = {"__name__": "page"}
    check = doctest.OutputChecker().check_output
    wrong = []
    for code, expected in BLOCK.findall(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "page", "exec"), names)  # noqa: S102
        if expected and not check(expected, printed.getvalue(), doctest.ELLIPSIS):
            wrong.append(f"expected:\n{expected}got:\n{printed.getvalue()}")
    return wrong


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_prints_what_stands_below_it(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    if page.stem == "frontier":
        assert LONG in text
        text = text.replace(LONG, f"{SHORT}, progress=False")
    old = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9)
    assert run(text) == [] or (old and page.stem in OF_NEW_VERSIONS)


def test_a_page_that_shows_something_else_is_noticed():
    assert run("```python\nprint(1)\n```\n\n```text\n2\n```\n") == ["expected:\n2\ngot:\n1\n"]
    assert run("```python\nprint(12)\n```\n\n```text\n1...\n```\n") == []
    with pytest.raises(NameError):
        run("```python\nunknown\n```\n")


def test_every_public_name_is_in_the_reference():
    listed = set((DOCS / "api.md").read_text().split())
    modules = {"plot": kanlens.plot, "sparsity": kanlens.sparsity}
    names = {name for name in kanlens.__all__ if name not in modules} - {"__version__"}
    modules["distributed"] = kanlens.distributed
    names |= {f"{short}.{name}" for short, module in modules.items() for name in module.__all__}
    others = set(kanlens.attribution.__all__) - set(kanlens.__all__)
    names |= {f"attribution.{name}" for name in others}
    errors = {name for name in vars(kanlens.errors) if name.endswith(("Error", "Warning"))}
    names |= {f"errors.{name}" for name in errors - {"KanlensError"}}
    assert sorted(names - listed) == []


def test_every_command_has_a_page_that_shows_its_help():
    load_commands()
    commands = typer.main.get_command(app).commands.items()
    names = {name for name, command in commands if not hasattr(command, "commands")}
    pages = {page.stem: page.read_text() for page in (DOCS / "commands").glob("*.md")}
    assert sorted(names - set(pages)) == []
    for name in names:
        assert f"{{{{ commands.{name.replace('-', '_')} }}}}" in pages[name], name


def test_the_help_of_a_command_ends_with_the_example_of_its_page():
    load_commands()
    for name, command in typer.main.get_command(app).commands.items():
        example = command.epilog.removeprefix("Example: ")
        assert f"\n{example}\n" in (DOCS / "commands" / f"{name}.md").read_text()
        given = [word for word in example.split() if word.startswith("-")]
        assert set(given) <= {flag for option in command.params for flag in option.opts}, name


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.slow  # many models
def test_the_numbers_of_readme_are_those_that_were_measured(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    numbers = importlib.import_module("sources.measured").measured()
    for text in (
        "{speed_low} to {speed_high} times one `nn.Linear`",
        "at most {speed_many} from 1024 rows on",
        "{shapley_faster} times as fast",
        "{certificates_attempts} attacks on {certificates_networks} networks broke "
        "{certificates_broken}",
        "{recovery_plain} runs on AI Feynman's equations",
    ):
        assert text.format(**numbers) in README


def test_links_of_readme_lead_somewhere():
    paths = re.findall(r"\]\(([^)#]+)", README)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", ["measured", "writing"])
def test_the_examples_of_what_writes_pages_hold(name, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    module = importlib.import_module(f"sources.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_citation_and_the_changelog_are_of_this_version():
    assert f"version: {kanlens.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    releases = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == kanlens.__version__
