"""Mutation testing: ``python -m tests.mutation --mutants 60 --seed 0``.

Faults are planted one at a time into a copy of the tree, evenly over the rooms, and the tests that
mirror the room are run on each until one fails. Docstrings, messages, type hints and what only
shows an object are left alone. A fault that no test notices may also be none: a survivor is to be
read.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHOLE = ("functions", "model", "training", "pruning")  # rooms with all they hold
EXACT = ("integration", "shapley/enumeration", "shapley/values", "shapley/cosines")
ROOMS = {  # patterns of its sources, and of the tests that mirror them
    **{name: ([f"kanlens/{name}"], [f"tests/{name}"]) for name in WHOLE},
    "splines": (["kanlens/splines"], ["tests/splines", "tests/model/test_spline_edge.py"]),
    "exact attribution": (
        [f"kanlens/attribution/{name}*" for name in EXACT],
        ["tests/attribution/integration*", "tests/attribution/shapley*"],
    ),
}
COMPILED = "kanlens/model/kernels"  # numba's cache knows no change in what a kernel calls
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "figures", "docs", "tutorials")
SWAPPED = (  # each for the other
    "Lt LtE, Gt GtE, Lt GtE, Gt LtE, Eq NotEq, Is IsNot, In NotIn, Add Sub, Mult Div, And Or, "
    "min max, minimum maximum, amin amax, argmin argmax"
)
SWAPS: dict[str, list[str]] = {"Pow": ["Mult"], "Mod": ["Mult"], "FloorDiv": ["Mult"]}
for one, other in (pair.split() for pair in SWAPPED.split(", ")):
    SWAPS.setdefault(one, []).append(other)
    SWAPS.setdefault(other, []).append(one)
SHOWN = {"__repr__", "__str__", "extra_repr"}
Change = tuple[str, ast.AST, ast.AST]
HINTS = ("annotation", "returns", "decorator_list", "type_params")


@dataclass(frozen=True)
class Mutant:
    """One fault: what stands between two places of a file, and what is put there."""

    path: Path  # relative to the root
    line: int
    start: int
    end: int
    kind: str
    before: str
    after: str

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]

    def __str__(self) -> str:
        words = (" ".join(text.split())[:60] for text in (self.before, self.after))
        return f"{self.path}:{self.line} {self.kind}: {' -> '.join(words)}"


# --- faults -------------------------------------------------------------------------------------


def mutants_of(path: Path, source: bytes) -> list[Mutant]:
    """List every fault that can be planted into a source."""
    lines = source.splitlines(keepends=True)
    starts = [sum(map(len, lines[:row])) for row in range(len(lines))]
    found = []
    for node in counted(ast.parse(source)):
        for kind, old, new in variants(node):
            start = starts[old.lineno - 1] + old.col_offset
            end = starts[old.end_lineno - 1] + old.end_col_offset
            after = ast.unparse(new)
            after = after if isinstance(new, ast.stmt) else f"({after})"
            before = source[start:end].decode()
            found.append(Mutant(path, old.lineno, start, end, kind, before, after))
    return found


def counted(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through a tree, past what only explains or shows."""
    yield node
    if isinstance(node, ast.Raise):
        return
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        if name not in HINTS:
            for child in children:
                if isinstance(child, ast.AST) and not _explains(child):
                    yield from counted(child)


def _explains(node: ast.AST) -> bool:
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.annotation) == "TypeAlias"
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith(("Error", "Warning"))
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.FunctionDef):
        return node.name in SHOWN
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def variants(node: ast.AST) -> Iterator[Change]:
    """Yield a kind of fault, the node it replaces, and by what."""
    yield from _swaps(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "sign dropped", node, node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        flags = isinstance(node.value, bool)
        for value in (not node.value,) if flags else (node.value + 1, node.value - 1):
            yield "constant", node, ast.Constant(value)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", node.test, ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        yield "return", node, ast.Return(ast.Constant(None))
    elif _acts(node):
        yield "statement", node, ast.Pass()


def _swaps(node: ast.AST) -> Iterator[Change]:
    """Yield operators, comparisons and extrema in the place of others."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for swap in SWAPS[type(node.ops[0]).__name__]:
            yield "comparison", node, _with(node, ops=[getattr(ast, swap)()])
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        for swap in SWAPS.get(type(node.op).__name__, []):
            yield "operator", node, _with(node, op=getattr(ast, swap)())
    elif isinstance(node, ast.Call):
        field = "attr" if isinstance(node.func, ast.Attribute) else "id"
        for swap in SWAPS.get(getattr(node.func, field, ""), []):
            yield "extremum", node, _with(node, func=_with(node.func, **{field: swap}))


def _acts(node: ast.AST) -> bool:
    """Tell whether a statement does something without which the next ones still run."""
    if isinstance(node, ast.Assign):
        return not isinstance(node.targets[0], ast.Name | ast.Tuple)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    return isinstance(node, ast.AugAssign | ast.Raise)


def _with(node: ast.AST, **changes: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in changes.items():
        setattr(new, name, value)
    return new


# --- tests on them ------------------------------------------------------------------------------


def files(root: Path, patterns: Iterable[str], name: str = "*.py") -> list[Path]:
    """List files relative to a root: those that patterns name, and those of folders they name."""
    found: set[Path] = set()
    for place in (place for pattern in patterns for place in root.glob(pattern)):
        found |= set(place.rglob(name)) if place.is_dir() else {place}
    return sorted(path.relative_to(root) for path in found)


def in_turn(root: Path, mirrors: Iterable[str], path: Path) -> list[Path]:
    """Order tests for a source: the file named like it, its doctests, what imports it, the rest."""
    module = ".".join(path.with_suffix("").parts)

    def rank(test: Path) -> tuple[bool, bool, Path]:
        named = path.stem in test.stem
        return not named, module not in (root / test).read_text(), test

    tests = sorted(files(root, mirrors, "test_*.py"), key=rank)
    own = sum(path.stem in test.stem for test in tests)
    return [*tests[:own], path, *tests[own:]]


def run(root: Path, tests: Sequence[Path], *, cache: Path, limit: float | None) -> tuple[str, int]:
    """Run tests until one fails: what became of a fault in them, and seconds of processor time."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(cache), "CI": "1"}
    if limit is not None:  # byte code is that of the tree without faults
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, *map(str, tests)], cwd=root, env=environment, **quiet)
    if limit is not None:
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
    try:
        code = process.wait(None if limit is None else 10 * limit)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {0: "survived", 1: "caught", 2: "caught"}.get(code, "ended"), round(seconds)


def drawn(known: Sequence[Mutant], number: int, draw: random.Random) -> list[Mutant]:
    """Draw faults, of each kind about as many: half of all would be constants."""
    kinds: dict[str, int] = Counter()
    order = []
    for mutant in draw.sample(known, len(known)):
        kinds[mutant.kind] += 1
        order.append((kinds[mutant.kind], len(order), mutant))
    return [mutant for *_, mutant in sorted(order, key=lambda each: each[:2])][:number]


def judged(root: Path, room: str, number: int, seed: int, cache: Path) -> Iterator[tuple]:
    """Plant faults into a room of a copy, which is itself again after each; yield what came."""
    sources, mirrors = ROOMS[room]
    paths = files(root, sources)
    known = [each for path in paths for each in mutants_of(path, (root / path).read_bytes())]
    if not known:
        return
    came, seconds = run(root, files(root, mirrors, "test_*.py"), cache=cache, limit=None)
    if came != "survived":
        raise SystemExit(f"mutation: expected tests of {room} to pass without a fault, they fail")
    limit = 60 + 3 * seconds
    for mutant in drawn(known, number, random.Random(f"{seed} {room}")):
        target = root / mutant.path
        kept = target.with_suffix(".kept")
        shutil.copy2(target, kept)
        target.write_bytes(mutant.applied(kept.read_bytes()))
        with tempfile.TemporaryDirectory() as own:
            compiled = mutant.path.is_relative_to(COMPILED)
            tests = in_turn(root, mirrors, mutant.path)
            yield mutant, *run(root, tests, cache=Path(own) if compiled else cache, limit=limit)
        shutil.move(kept, target)


def main(argv: Sequence[str] | None = None) -> None:
    """Print what became of each fault as it comes, a table of the rooms, and the survivors."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--mutants", type=int, default=60, help="number of faults in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to try")
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS), choices=list(ROOMS))
    asked = parser.parse_args(argv)
    counts: dict[str, Counter[str]] = {room: Counter() for room in asked.rooms}
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "tree"), Path(folder, "cache")
        shutil.copytree(asked.root, root, ignore=LEFT_OUT)
        for room in asked.rooms:
            number = -(-asked.mutants // len(asked.rooms))
            for mutant, came, seconds in judged(root, room, number, asked.seed, cache):
                counts[room][came] += 1
                survivors += [mutant] if came == "survived" else []
                print(f"{time.strftime('%H:%M')} {came:8} {seconds:4} s  {mutant}", flush=True)
    print(f"\n{'room':20}{'faults':>8}{'caught':>8}{'ended':>8}{'survived':>10}")
    for room, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        caught, ended, survived = (count[came] for came in ("caught", "ended", "survived"))
        print(f"{room:20}{count.total():8}{caught:8}{ended:8}{survived:10}")
    print("\nsurvivors (ended: out of time or memory, or killed; counts as caught)")
    print("\n".join(map(str, survivors)) or "none")


if __name__ == "__main__":
    main()
