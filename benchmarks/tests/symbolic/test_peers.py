"""Other tools: how their formulas are read, that they cannot break a run, and the comparison."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

from benchmarks.harness import Setup
from benchmarks.symbolic import peer_methods, peers
from benchmarks.symbolic.drawn import drawn, names_of
from benchmarks.symbolic.equivalence import VERDICT
from benchmarks.symbolic.peer_methods import METHODS, Method, from_gplearn, from_operon
from benchmarks.symbolic.peers import MODULE, PEERS, unusable

SMOKE = Setup(smoke=True)
KEY = ("kanlens", "smoke", "product", 0.0, 0)
QUESTION = {
    "method": "kanlens",
    "source": "smoke",
    "name": "product",
    "noise": 0.0,
    "seed": 0,
    "limit": 10.0,
    "data": None,
    "smoke": True,
}


def values(expression, **at):
    return float(expression.subs({sympy.Symbol(name): value for name, value in at.items()}))


def test_programs_of_gplearn_are_read():
    found = from_gplearn("sub(mul(exp(neg(X1)), inv(X0)), log(div(cos(X1), -2.0)))", 2)
    expected = np.exp(-0.5) / 2 - np.log(np.cos(0.5) / 2)
    assert values(found, X0=2.0, X1=0.5) == pytest.approx(expected, rel=1e-12)
    assert values(from_gplearn("sqrt(X0)", 1), X0=-4.0) == 2.0  # its root is protected


def test_formulas_of_operon_are_read():
    found = from_operon("(0.5 + (2.0 * ((sin(X2) ^ 2) + square((X1 / 3.0)))))", 2)
    expected = 0.5 + 2 * (np.sin(0.3) ** 2 + (1.5 / 3) ** 2)
    assert values(found, X0=1.5, X1=0.3) == pytest.approx(expected, rel=1e-12)
    assert {symbol.name for symbol in found.free_symbols} == {"X0", "X1"}


@pytest.mark.slow  # starts a process
def test_the_process_answers_in_one_line():
    command = [sys.executable, "-W", "ignore", "-m", MODULE, json.dumps(QUESTION)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["formula"] == "a*b/c"
    assert (found["recovered"], found["rows"]) == (1, 1000)
    assert set(found) == {*VERDICT, "seconds", "stopped", "rows"}


@pytest.fixture
def instead(monkeypatch):
    """Put another method in the place of one."""

    def replace(fit, package="math"):
        method = Method(package=package, distribution="none", fit=fit)
        monkeypatch.setitem(METHODS, "gplearn", method)
        return {**QUESTION, "method": "gplearn"}

    return replace


def test_a_method_that_fails_answers_with_its_reason(instead):
    def broken(x, y, seconds, seed):
        raise ZeroDivisionError("of no\nuse")

    assert peer_methods.answer(instead(broken)) == {"failed": "ZeroDivisionError: of no use"}
    nowhere = instead(broken, package="no_such_package")
    assert peer_methods.answer(nowhere)["failed"].startswith("ModuleNotFoundError")


def test_a_method_gets_the_rows_and_its_formula_the_names(instead):
    def product(x, y, seconds, seed):
        assert x.shape == (1000, 3)
        np.testing.assert_allclose(y, x[:, 0] * x[:, 1] / x[:, 2])
        return sympy.sympify("2*X0*X1/X2"), "at once"

    before = torch.get_rng_state()
    found = peer_methods.answer(instead(product))
    assert (found["formula"], found["recovered"], found["stopped"]) == ("2*a*b/c", 1, "at once")
    assert (torch.get_rng_state() == before).all()


def test_a_method_may_look_for_a_formula_of_a_drawn_suite(instead):
    equation = drawn("tuning", "fraction 031")
    names = [sympy.Symbol(name, real=True) for name in equation.variables]
    truth = equation.expression.subs(dict(zip(names, sympy.symbols("X:6"), strict=False)))
    for found, recovered in ((truth, 1), (truth + sympy.Symbol("X0"), 0)):
        question = {**instead(lambda *_, f=found: (f, "")), "source": "tuning"}
        answer = peer_methods.answer({**question, "name": "fraction 031"})
        assert answer["recovered"] == recovered


LATE = """
import sys, time
from benchmarks.symbolic import peer_methods as p
from benchmarks.symbolic.peer_methods import METHODS, Method
METHODS["gplearn"] = Method(package="math", distribution="", fit=lambda *_: time.sleep(60))
p._write(p.answer({question}))
"""


@pytest.mark.slow  # starts a process
def test_the_process_ends_when_the_time_is_over():
    code = LATE.format(question={**QUESTION, "method": "gplearn", "limit": 0.5})
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 40
    assert json.loads(done.stdout.splitlines()[-1])["late"] is True


@pytest.mark.parametrize(
    ("answer", "reason", "seconds"),
    [
        ({"failed": "no answer after 66 s", "late": True}, "time", peers.SMOKE_LIMIT),
        ({"failed": "ValueError: no"}, "failed", None),
    ],
)
def test_a_failure_is_a_row(monkeypatch, answer, reason, seconds):
    monkeypatch.setattr(peers, "ask", lambda *_, **__: answer)
    (row,) = PEERS.rows(SMOKE, KEY)["symbolic-peers"]
    assert set(row) <= set(PEERS.columns("symbolic-peers"))
    assert (row["recovered"], row["reason"], row["seconds"]) == (0, reason, seconds)
    assert row["stopped"] == answer["failed"]


def test_what_cannot_be_imported_is_left_out_with_its_reason(monkeypatch):
    def answers(module, questions):
        assert all(set(each) == {"method"} for each in questions)
        return [
            {"failed": "ImportError: old"} if each["method"] == "pykan" else {"version": "1"}
            for each in questions
        ]

    monkeypatch.setattr(peers, "ask_all", answers)
    monkeypatch.setattr(peers, "missing", lambda name: "not there" if name == "gplearn" else "")
    plan = PEERS.plan(SMOKE)
    assert plan.skipped == {
        "gplearn": "not there",
        "pykan": "cannot be imported: ImportError: old",
    }
    assert plan.keys == (KEY, ("operon", *KEY[1:]))


@pytest.mark.slow  # starts a process
def test_the_import_of_a_method_is_tried_in_a_process(monkeypatch):
    for name in list(METHODS)[1:]:
        monkeypatch.delitem(METHODS, name)
    assert unusable() == {}


def test_every_third_equation_by_every_method(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "unusable", dict)
    names = "".join(f'e{i},{i + 1}*a,1,"a:[1,2]",1\n' for i in range(7))
    (tmp_path / "feynman.csv").write_text("id,formula,n_vars,ranges,tier\n" + names)
    keys = PEERS.plan(Setup(data=tmp_path)).keys
    equations = len(METHODS) * 3 * len(peers.NOISES)
    assert len(keys) == len(set(keys)) == equations + len(names_of())
    assert {key[2] for key in keys if key[1] == "feynman"} == {"e0", "e3", "e6"}
    assert {(key[0], key[3]) for key in keys if key[1] == "judging"} == {("operon", 0.0)}
    noises = [key[3] for key in keys]
    assert noises == sorted(noises)  # what has no noise comes first
    assert PEERS.plan(Setup()).skipped


def test_methods_are_summed_up_apart(monkeypatch):
    monkeypatch.setattr(peers, "ask", lambda _, question, **__: peer_methods.answer(question))
    (row,) = PEERS.rows(SMOKE, KEY)["symbolic-peers"]
    assert (row["recovered"], row["formula"], row["method"]) == (1, "a*b/c", "kanlens")
    lost = {
        **row,
        "method": "pykan",
        "recovered": 0,
        "rounded": 0,
        "accurate": 0,
        "seconds": None,
        "reason": "failed",
    }
    late = {**lost, "reason": "time", "seconds": 60.0}
    found, failed = PEERS.summary(pd.DataFrame([row, lost, late], dtype=object)).values()
    by = found[found["tier"] == "all"].set_index("method")
    assert by["recovered"].to_dict() == {"kanlens": "100.0%", "pykan": "0.0%"}
    assert by["most seconds"]["pykan"] == 60.0
    counts = failed[failed["tier"] == "all"].set_index("method").loc["pykan"]
    assert (counts["not recovered"], counts["time"], counts["failed"]) == (2, 1, 1)
