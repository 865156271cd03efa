"""Faults are planted where they count, tests catch them, and survivors are named."""

from pathlib import Path

from tests import mutation

SOURCE = '''
"""Numbers 1 < 2."""

def larger(a: int = 3, *, strict: bool = True) -> int | None:
    """Return 1 or 2."""
    if not a > 4:
        raise ValueError("larger", f"at least {a + 5}", 6)
    self.a = max(a, 7)
    return a


class Named:
    def __repr__(self):
        return "8" if self.a > 8 else "9"
'''
TESTED = '''
"""Two functions, one of them without a test."""


def rise(low, high):
    return high - low


def unseen(low, high):
    return high * low
'''
TESTS = """
from kanlens.splines.lines import rise


def test_rise():
    assert rise(2, 5) == 3
"""


def planted(source: str) -> set[tuple[str, str]]:
    found = mutation.mutants_of(Path("a.py"), source.encode())
    for each in found:
        compile(each.applied(source.encode()), "a.py", "exec")
    return {(each.kind, each.after) for each in found}


def test_faults_leave_words_hints_and_shows_alone():
    assert planted(SOURCE) == {
        ("constant", "(4)"),
        ("constant", "(2)"),
        ("constant", "(False)"),
        ("condition", "(not not a > 4)"),
        ("sign dropped", "(a > 4)"),
        ("comparison", "(a >= 4)"),
        ("comparison", "(a <= 4)"),
        ("constant", "(5)"),
        ("constant", "(3)"),
        ("statement", "pass"),
        ("extremum", "(min(a, 7))"),
        ("constant", "(8)"),
        ("constant", "(6)"),
        ("return", "return None"),
    }


def test_arithmetic_and_logic_are_swapped():
    assert planted("x = a + b and c") == {("operator", "(a - b)"), ("operator", "(a + b or c)")}
    assert planted("x = a ** b") == {("operator", "(a * b)")}


def test_a_fault_is_caught_and_a_survivor_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    tree = {
        "kanlens/__init__.py": "",
        "kanlens/splines/__init__.py": "",
        "kanlens/splines/lines.py": TESTED,
        "tests/splines/test_lines.py": TESTS,
    }
    for place, text in tree.items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mutation.main(["--root", str(tmp_path), "--rooms", "splines", "--mutants", "2", "--seed", "4"])
    table, survivors = capsys.readouterr().out.split("\nsurvivors")
    assert "lines.py:6 operator: high - low -> (high + low)" in table
    assert table.splitlines()[-1].split() == ["all", "2", "1", "0", "1"]
    assert "lines.py:10 return: return high * low -> return None" in survivors
    assert ":6" not in survivors
    assert (tmp_path / "kanlens/splines/lines.py").read_text() == TESTED


def test_tests_named_like_a_file_run_first_and_then_those_that_import_it():
    source = Path("kanlens/splines/pieces.py")
    found = mutation.in_turn(mutation.ROOT, ["tests/splines"], source)
    assert found[:2] == [Path("tests/splines/test_pieces.py"), source]
    assert {path.parent.name for path in found} == {"splines"}
