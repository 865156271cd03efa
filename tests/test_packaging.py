"""What the package imports is declared, and what is declared is imported."""

import ast
import importlib
import re
import sys
from importlib.metadata import requires
from pathlib import Path

import kanlens

NAMES = {  # distributions not called as their modules
    "interpret": "interpret-core",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def imported(source: str) -> set[str]:
    """Name the packages that a source imports where it runs."""
    tree = ast.parse(source)
    checked = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    typing = {
        part
        for node in checked
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for part in ast.walk(statement)
    }
    names = (node.args[0] for node in ast.walk(tree) if _is_lazy(node))
    found = {ast.literal_eval(name).split(".")[0] for name in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in typing:
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node not in typing:
            found.add((node.module or "").split(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names}


def _is_lazy(node: ast.AST) -> bool:
    """Return whether a call names a module that is loaded when it is first used."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "_Module"


def test_dependencies_are_those_imported():
    sources = [path.read_text("utf-8") for path in Path(kanlens.__file__).parent.rglob("*.py")]
    found = {NAMES.get(name, name) for name in set().union(*map(imported, sources))} - {"kanlens"}
    lines = [line for line in requires("kanlens") if "extra ==" not in line]
    declared = {re.match(r"[\w.-]+", line).group().lower() for line in lines}
    assert found == declared


def test_an_import_is_seen_where_it_runs_only():
    text = "a = _Module('scipy.stats')\n"
    text += (
        "import yaml.x\nif TYPE_CHECKING:\n    import shap\ndef f():\n    from dask import a, b\n"
    )
    assert imported(text) == {"scipy", "yaml", "dask"}


def optional(source: str, constants: dict[str, str]) -> set[tuple[str, str]]:
    """Name packages that are imported where they are installed, each with its extra."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = set()
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "optional_module":
            extras = [one.value for one in call.keywords if one.arg == "extra"]
            (name, *_) = call.args
            module = constants[name.id] if isinstance(name, ast.Name) else ast.literal_eval(name)
            package = module.split(".")[0]
            found |= {(NAMES.get(package, package), ast.literal_eval(one)) for one in extras}
    return found


def test_optional_packages_are_in_the_extra_that_errors_name():
    root, found = Path(kanlens.__file__).parents[1], set()
    for path in (root / "kanlens").rglob("*.py"):
        source = path.read_text("utf-8")
        if "optional_module(" in source:
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            found |= optional(source, vars(importlib.import_module(module)))
    project = (root / "pyproject.toml").read_text("utf-8")
    extras = dict(re.findall(r"^(\w+) = \[(.*?)\]$", project, re.MULTILINE | re.DOTALL))
    assert {("onnx", "export"), ("interpret-core", "bench")} <= found
    assert all(re.search(rf'"{name}\W', extras[extra]) for name, extra in found)
    assert optional("optional_module('a', call='b', extra='c')", {}) == {("a", "c")}
    assert optional("optional_module(A, call='b', extra='c')", {"A": "d.e"}) == {("d", "c")}
