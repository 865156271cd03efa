"""What holds for the whole package: imports point down, files and functions stay short, and more.

Every rule is a function from a module's name and source to its complaints, so that each can be
shown to complain about a module that breaks it.
"""

import ast
import functools
import graphlib
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import kanlens

ROOT = Path(kanlens.__file__).parent
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"  # beside the package


def modules_in(root: Path) -> dict[str, Path]:
    """Find the modules of a top-level package by name; its tests are none."""
    paths = [path.relative_to(root.parent) for path in sorted(root.rglob("*.py"))]
    return {
        ".".join(path.with_suffix("").parts): root.parent / path
        for path in paths
        if path.parts[1] != "tests"
    }


PACKAGE = modules_in(ROOT)
MODULES = PACKAGE | modules_in(BENCHMARKS)
SOURCES = {module: path.read_text() for module, path in MODULES.items()}

TOP = "kanlens"  # the package itself, whose names are those of every group
OWN = (TOP, BENCHMARKS.name, "tests")  # nothing imports the last
GROUPS = [  # lowest first; groups of one row know nothing of each other
    ["_display", "_lazy", "_plain_json"],
    ["errors"],
    ["_checks"],
    ["_runtime"],
    ["_atomic_files"],
    ["_files", "_resources"],
    ["functions"],
    ["splines", "data"],
    ["model"],
    ["sparsity"],
    ["_model_inputs"],
    ["io"],
    ["training"],
    ["attribution", "certificates"],
    ["pruning"],
    ["symbolic"],
    ["discovery", "imitation"],
    ["exporters", "plotting", "editing"],
    ["distributed"],
    ["reporting"],
    ["estimators"],
    [TOP],
    ["cli"],
    ["__main__"],
    ["benchmarks"],
]
RANK = {name: rank for rank, names in enumerate(GROUPS) for name in names}

HEAVY = (
    "matplotlib",
    "captum",
    "sympy",
    "pandas",
    "sklearn",
    "typer",
    "rich",
    "numba",
    "llvmlite",
    "scipy",
    "jinja2",
)
FILE_LINES, CLASS_LINES = 400, 600  # of a file, and of one that is mostly a single class
FUNCTION_LINES, FUNCTION_LIMIT = 30, 45
LOADERS = ("import_module", "__import__", "optional_module")
MODULE = re.compile(rf"(?:{'|'.join(OWN)})(?:\.\w+)+")
PICKLES = ("pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
READS_PICKLES = "kanlens.io.importers._containers"  # its unpickler makes nothing but inert objects
MODULE_NAMES = {"plot", "sparsity"}  # public names that are modules on purpose
EDGES = {"KANLinear", "EdgeLayer", "Edge", "Term", "EdgeTerm", "Enclosure", "NoEnclosure", "Pieces"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "base", "shared"}

VAGUE_NAMES = {"found", "given", "made", "asked", "said", "kept"}
VAGUE_LINE = re.compile(
    r"^(What|Whether|How|Which|Where)\b|\b(beside|so many|alive|is none|at hand)\b"
)
MOST_VAGUE = (1, 0)  # names and first lines of the package; may only become smaller
MOST_UNTYPED = 206  # arguments and variables of type Any; likewise


# --- the rules ----------------------------------------------------------------------------------


@functools.cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@functools.cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(source)))


def spelled(node: ast.AST) -> str:
    """Return the source of an expression; that of dotted names at once, which calls mostly have."""
    if isinstance(node, ast.Attribute):
        return f"{spelled(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)


def dotted(module: str) -> str:
    """Name a module as an import does."""
    return module.removesuffix(".__init__")


def group_of(module: str) -> str:
    """Name the group a module belongs to."""
    parts = module.split(".")
    if parts[0] != TOP:
        return parts[0]
    return TOP if len(parts) == 1 or parts[1] == "__init__" else parts[1]


def imported(module: str, source: str) -> set[str]:
    """Name every group that a source imports, anywhere in it and in any spelling."""
    found = {group_of(name) for name in loaded_by_name(module, source)}
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            found |= {group_of(a.name) for a in node.names if a.name.split(".")[0] in OWN}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OWN:
            if node.module == TOP:
                names = {alias.name for alias in node.names}
                found |= {name if name in RANK else TOP for name in names}
            else:
                found.add(group_of(node.module))
    return found


def loaded_by_name(module: str, source: str) -> set[str]:
    """Name every own module that a source loads by a string; one with a dot at its end begins some.

    Strings count wherever they stand in a source that loads modules so.
    """
    nodes = nodes_of(source)
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    if not any(spelled(call.func).split(".")[-1] in LOADERS for call in calls):
        return set()
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    found = {text for text in texts if isinstance(text, str) and MODULE.fullmatch(text)}
    for node in nodes:
        start = ast.unparse(node)[2:].partition("{")[0] if isinstance(node, ast.JoinedStr) else ""
        if start.split(".")[0] in OWN and start.endswith("."):
            found.add(start)
        elif isinstance(node, ast.JoinedStr) and ast.unparse(node).startswith("f'{__name__}."):
            found.add(f"{dotted(module)}.")
    return found


def imports_upwards(module: str, source: str) -> list[str]:
    """List the groups a module may not import."""
    own = group_of(module)
    others = imported(module, source) - {own}
    return sorted(name for name in others if RANK.get(name, len(GROUPS)) >= RANK[own])


def modules_imported(module: str, source: str, known: set[str]) -> set[str]:
    """Name every known module that a source imports when it runs, anywhere in it."""
    names = loaded_by_name(module, source)
    typed = {
        part
        for node in nodes_of(source)
        if isinstance(node, ast.If) and spelled(node.test).endswith("TYPE_CHECKING")
        for line in node.body
        for part in ast.walk(line)
    }
    for node in set(nodes_of(source)) - typed:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = {alias: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else node.module or "" for name in full.values()}
    starts = tuple(name for name in names if name.endswith("."))
    return {one for one in known - {dotted(module)} if one in names or one.startswith(starts)}


def circle(sources: dict[str, str]) -> list[str]:
    """Name modules that import one another, or nothing."""
    known = set(map(dotted, sources))
    within = {dotted(name): modules_imported(name, one, known) for name, one in sources.items()}
    try:
        graphlib.TopologicalSorter(within).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def bodies(source: str) -> dict[str, int]:
    """Count the lines of every function's body, its docstring left out."""
    found = {}
    for node in nodes_of(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            found[f"{node.name}:{node.lineno}"] = lines
    return found


def pickles(module: str, node: ast.AST) -> bool:
    """Tell whether a statement or call is about to run a pickle."""
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in PICKLES for alias in node.names)
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
        allowed = {"UnpicklingError"} | ({"Unpickler"} if module == READS_PICKLES else set())
        return not {alias.name for alias in node.names} <= allowed
    if isinstance(node, ast.Call) and spelled(node.func) == "torch.load":
        return "weights_only=True" not in map(ast.unparse, node.keywords)
    named = isinstance(node, ast.Call) and spelled(node.func).split(".")[-1] in LOADERS
    return named and any(ast.unparse(one) in map(repr, PICKLES) for one in node.args)


def forbidden(source: str, module: str = "") -> list[str]:
    """List statements that the package does without."""
    found = []
    for node in nodes_of(source):
        if isinstance(node, ast.Assert):
            found.append(f"assert:{node.lineno}")
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"bare except:{node.lineno}")
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.append(f"relative import:{node.lineno}")
        elif pickles(module, node):
            found.append(f"pickle:{node.lineno}")
        elif isinstance(node, ast.Call):
            called = spelled(node.func)
            if called in ("isinstance", "issubclass") and EDGES & set(
                re.findall(r"\w+", ast.unparse(node.args[1]))
            ):
                found.append(f"a kind of edge or layer:{node.lineno}")
            if called in ("print", "exec", "eval", "torch.manual_seed", "np.random.seed"):
                found.append(f"{called}:{node.lineno}")
    return found


def defined_twice(sources: dict[str, str]) -> list[str]:
    """List classes whose name, an underscore or not, another class has."""
    names = [
        node.name.lstrip("_")
        for source in sources.values()
        for node in nodes_of(source)
        if isinstance(node, ast.ClassDef)
    ]
    return sorted({name for name in names if names.count(name) > 1})


def shadowed(names: set[str], modules: set[str]) -> list[str]:
    """List public names that a module of the same name would hide once it is loaded."""
    return sorted((names - MODULE_NAMES) & {module.rpartition(".")[2] for module in modules})


def vague(source: str) -> tuple[int, int]:
    """Count locals and arguments that name no object, and first lines that begin with no verb."""
    names = lines = 0
    for node in nodes_of(source):
        if isinstance(node, ast.arg) or (
            isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ):
            names += (node.arg if isinstance(node, ast.arg) else node.id) in VAGUE_NAMES
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            lines += VAGUE_LINE.search(first) is not None
    return names, lines


def fresh(code: str) -> str:
    """Run code in a new interpreter and return what it writes."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# --- the package keeps them ---------------------------------------------------------------------


def test_every_top_level_module_has_a_place_in_the_order():
    assert {group_of(module) for module in MODULES} <= set(RANK)


@pytest.mark.slow  # takes a while
def test_imports_point_down():
    bad = {module: imports_upwards(module, source) for module, source in SOURCES.items()}
    assert not any(bad.values()), {module: names for module, names in bad.items() if names}


@pytest.mark.slow  # takes a while
def test_modules_do_not_import_one_another_in_circles():
    assert circle(SOURCES) == []


def too_long(source: str) -> bool:
    """Tell whether a file has more lines than it may."""
    count = len(source.splitlines())
    classes = [node for node in parsed(source).body if isinstance(node, ast.ClassDef)]
    longest = max(((node.end_lineno or 0) - node.lineno for node in classes), default=0)
    return count > (CLASS_LINES if longest > 0.75 * count else FILE_LINES)


@pytest.mark.slow  # takes a while
def test_files_stay_short():
    long = [module for module, source in SOURCES.items() if too_long(source)]
    assert not long, f"too long: {long}"


def test_length_is_judged_by_what_a_file_holds():
    one = "class A:\n" + "    x = 1\n" * 500
    assert not too_long(one)
    assert too_long(one + "    x = 1\n" * 100)
    assert too_long("x = 1\n" * 401)
    assert not too_long("x = 1\n" * 400)


@pytest.mark.slow  # takes a while
def test_functions_stay_short(record_property):
    counts = {
        f"{module}.{name}": lines
        for module, source in SOURCES.items()
        for name, lines in bodies(source).items()
    }
    long = {name: lines for name, lines in counts.items() if lines > FUNCTION_LINES}
    record_property("long_functions", long)
    too_long = {name: lines for name, lines in long.items() if lines > FUNCTION_LIMIT}
    assert not too_long, f"over {FUNCTION_LIMIT} lines: {too_long}; over {FUNCTION_LINES}: {long}"


@pytest.mark.slow  # takes a while
def test_nothing_forbidden_stands_in_the_package():
    bad = {module: forbidden(source, module) for module, source in SOURCES.items()}
    assert not any(bad.values()), {module: found for module, found in bad.items() if found}


def test_no_two_classes_have_one_name():
    assert defined_twice({name: SOURCES[name] for name in PACKAGE}) == []


def test_modules_are_named_for_one_job():
    assert not {module.rpartition(".")[2] for module in MODULES} & VAGUE


@pytest.mark.slow  # takes a while
def test_names_and_first_lines_become_plainer():
    counts = zip(*(vague(SOURCES[module]) for module in PACKAGE), strict=True)
    names, lines = (sum(part) for part in counts)
    assert names <= MOST_VAGUE[0], names
    assert lines <= MOST_VAGUE[1], lines


def test_fewer_values_are_of_any_type():
    count = sum(SOURCES[module].count(": Any") for module in PACKAGE)
    assert count <= MOST_UNTYPED, count


RUN = (
    "with kernels.use({path!r}):\n"
    "    model(torch.zeros(4, 2)).sum().backward()\n"
    "    model.update_grid(torch.rand(9, 2))\n"
    "    kanlens.trace(model, torch.rand(9, 2)).edge_values(0)\n"
)
STAGES = {  # one after the other in one interpreter, and what heavy may be loaded after each
    "import": ("import kanlens", set()),
    "torch": ("import torch.utils.checkpoint", set()),
    "attribution": ("import kanlens.attribution as a; a.attribute; a.compare", set()),
    "model": (
        "import torch\nfrom kanlens.model import kernels\nmodel = kanlens.KAN([2, 3, 1])\n"
        "kanlens.KANLinear(3, 2).forward_torch(torch.zeros(1, 3))",
        set(),
    ),
    "torch path": (RUN.format(path="torch"), set()),
    "kernels": (RUN.format(path="sparse"), {"numba", "llvmlite", "scipy"}),  # numba loads scipy
}


@pytest.mark.slow  # another interpreter
def test_nothing_heavy_is_loaded_before_it_is_needed():
    loaded = f"print([name for name in {HEAVY} if name in sys.modules])"
    code = "\n".join(f"{stage}\n{loaded}" for stage, _ in STAGES.values())
    lines = fresh(f"import sys\n{code}").splitlines()
    found = {name: set(ast.literal_eval(line)) for name, line in zip(STAGES, lines, strict=True)}
    by_torch = set(found["torch"])  # old versions load sympy
    found = {name: names - by_torch for name, names in found.items()}
    assert found == {name: heavy for name, (_, heavy) in STAGES.items()}


def test_no_module_hides_a_public_function():
    assert shadowed(set(kanlens.__all__), set(PACKAGE)) == []


def test_every_public_name_is_itself_after_every_module_is_loaded():
    for info in pkgutil.walk_packages(kanlens.__path__, "kanlens."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
    for name in kanlens.__all__:
        found = getattr(kanlens, name)
        assert isinstance(found, ModuleType) == (name in MODULE_NAMES), name
    for module in PACKAGE:
        package, _, last = module.rpartition(".")
        if last == "__init__" and package != TOP:
            names = getattr(sys.modules[package], "__all__", [])
            for name in names:
                assert not isinstance(getattr(sys.modules[package], name), ModuleType), name


def test_public_names_are_listed_and_unknown_ones_refused():
    assert set(dir(kanlens)) == set(kanlens.__all__)
    with pytest.raises(AttributeError, match=r"^module 'kanlens' has no attribute 'unknown'$"):
        _ = kanlens.unknown


# --- the rules have teeth -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "bad"),
    [
        ("kanlens.splines._spline", "from kanlens.plotting import _style as style", ["plotting"]),
        ("kanlens.model._network", "def f():\n    import kanlens.training._fit", ["training"]),
        (
            "kanlens.attribution._method_runs",
            "from kanlens.certificates import certify",
            ["certificates"],
        ),
        ("kanlens.certificates._certify", "from kanlens import attribution", ["attribution"]),
        ("kanlens.model._kan_linear", "from kanlens import __version__", ["kanlens"]),
        ("kanlens.errors", "from kanlens._checks import check_count", ["_checks"]),
        ("kanlens.model._kan_linear", "from kanlens.inventions import x", ["inventions"]),
        ("kanlens.model._kan_linear", "from kanlens.splines._spline import fit\nimport torch", []),
        ("kanlens.cli._options", "import kanlens\nfrom kanlens.reporting import report", []),
        ("kanlens.__main__", "from kanlens.cli import main", []),
        ("kanlens.__main__", "from benchmarks import machine", ["benchmarks"]),
        ("benchmarks.commands", "from tests.attribution.conftest import build", ["tests"]),
        ("benchmarks.commands", "from kanlens.cli import run\nimport benchmarks.machine", []),
        ("kanlens.errors", "import_module('kanlens._checks')", ["_checks"]),
        ("kanlens.errors", "import importlib as i\ni.import_module(f'kanlens.cli.{x}')", ["cli"]),
        ("kanlens.model._kan_linear", "__import__('kanlens.io._checkpoint')", ["io"]),
        ("kanlens.model._kan_linear", "H = {'a': 'kanlens.io'}\nimport_module(H[x])", ["io"]),
        (
            "kanlens.model._kan_linear",
            "import_module(f'{__name__}.{x}')\nimport_module('numba')",
            [],
        ),
        ("kanlens.model._kan_linear", "form = 'kanlens.training'", []),
    ],
)
def test_import_rule_has_teeth(module, source, bad):
    assert imports_upwards(module, source) == bad


@pytest.mark.parametrize(
    ("second", "is_one"),
    [
        ("", False),
        ("if TYPE_CHECKING:\n    from kanlens.a.one import x", False),
        ("def f():\n    from kanlens.a.one import x", True),
        ("def f():\n    import kanlens.a.one", True),
        ("def f():\n    importlib.import_module('kanlens.a.one')", True),
        ("def f(name):\n    importlib.import_module(f'kanlens.a.{name}')", True),
        ("HOMES = {'x': 'kanlens.a.one'}\nf = lambda name: import_module(HOMES[name])", True),
        ("FORMAT = 'kanlens.a.one'", False),
        ("from kanlens import a", False),
    ],
)
def test_circle_rule_has_teeth(second, is_one):
    sources = {"kanlens.a.one": "from kanlens.a import two", "kanlens.a.two": second}
    assert bool(circle({**sources, "kanlens.a.__init__": ""})) == is_one
    package = {"kanlens.a.__init__": "import_module(f'{__name__}.{x}')"}
    assert circle({**package, "kanlens.a.one": "from kanlens.a import asked"})


def test_length_rule_has_teeth():
    lines = "\n".join(f"    x = {i}" for i in range(46))
    source = f'def f():\n    """Doc.\n\n    More.\n    """\n{lines}\n\ndef g():\n    pass\n'
    assert bodies(source) == {"f:1": 46, "g:53": 1}
    assert max(bodies(source).values()) > FUNCTION_LIMIT


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("assert True", ["assert:1"]),
        ("print(1)", ["print:1"]),
        ("try:\n    x = 1\nexcept:\n    pass", ["bare except:3"]),
        ("from . import x", ["relative import:1"]),
        ("import pickle", ["pickle:1"]),
        ("from pickle import Unpickler", ["pickle:1"]),
        ("from pickle import UnpicklingError, loads", ["pickle:1"]),
        ("from pickle import UnpicklingError", []),
        ("import_module('dill')", ["pickle:1"]),
        ("torch.load(path)", ["pickle:1"]),
        ("torch.load(path, weights_only=False)", ["pickle:1"]),
        ("torch.load(path, weights_only=True)", []),
        ("import torch\ntorch.manual_seed(0)", ["torch.manual_seed:2"]),
        ("console.print(1)", []),
        ("isinstance(a, Edge | None)", ["a kind of edge or layer:1"]),
        ("isinstance(a, (int, layers.KANLinear))", ["a kind of edge or layer:1"]),
        ("isinstance(a, nn.Linear)", []),
    ],
)
def test_statement_rule_has_teeth(source, bad):
    assert forbidden(source) == bad


def test_one_module_reads_pickles():
    assert forbidden("from pickle import Unpickler", READS_PICKLES) == []
    assert forbidden("from pickle import Unpickler, loads", READS_PICKLES) == ["pickle:1"]
    assert forbidden("import pickle", READS_PICKLES) == ["pickle:1"]


def test_class_rule_has_teeth():
    sources = {"a": "class A:\n    class B: ...", "b": "def f():\n    class _A: ...\nclass C: ..."}
    assert defined_twice(sources) == ["A"]


def test_plain_words_rule_has_teeth():
    source = "def f(given):\n    'How it is.'\n    found, value = g\nclass A:\n    'Edges alive.'"
    assert vague(source) == (2, 2)
    assert vague("def f(x):\n    'Return edges.'\n    return found, x.made") == (0, 0)


def test_name_rule_has_teeth():
    modules = {"kanlens.model.trace", "kanlens.report", "kanlens.sparsity"}
    assert shadowed({"trace", "report", "sparsity", "fit"}, modules) == ["report", "trace"]


def test_light_import_check_has_teeth():
    code = "import sys, decimal; print([n for n in ('decimal', 'rich') if n in sys.modules])"
    assert fresh(code).strip() == "['decimal']"
