"""Formulas of symbolic models as text: for sympy and in LaTeX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sympy import Function

from kanlens.exporters._exported_model import Export, Format, refuse, rendered
from kanlens.functions._elementary import Array
from kanlens.symbolic._composition import Expr, compose, evaluator, feature_symbols, plain, rounded
from kanlens.symbolic._notation import formula_text, latex, latex_name, parse_formula, written

DIGITS = 15  # of the numbers in LaTeX


def _formulas(subject: Export) -> tuple[Expr, ...]:
    """Return the formula of every output; refuse splines."""
    formulas = tuple(map(plain, compose(subject.exact)))
    functions = {atom.func for formula in formulas for atom in formula.atoms(Function)}
    if count := sum(hasattr(function, "spline") for function in functions):
        edges = "1 spline" if count == 1 else f"{count} splines"
        refuse("a model of functions alone", edges, "Call symbolize and export its model")
    return formulas


def _held(subject: Export) -> list[str]:
    """Return the ranges that features are clipped to, as text."""
    names, (low, high) = subject.description.features, subject.description.scaling[:2]
    ends = zip(map(written, names), low.tolist(), high.tolist(), strict=True)
    return [f"{name} from {a!r} to {b!r}" for name, a, b in ends if b < np.inf or a > -np.inf]


def _write_sympy(subject: Export, path: Path) -> None:
    names = map(written, subject.description.outputs)
    pairs = zip(names, _formulas(subject), strict=True)
    lines = [f"{name} = {formula_text(formula, exact=True)}" for name, formula in pairs]
    head = [f"# {subject.title}", *(f"# within {text}" for text in _held(subject))]
    path.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")


def _write_latex(subject: Export, path: Path) -> None:
    pairs = zip(subject.description.outputs, _formulas(subject), strict=True)
    lines = [f"{latex_name(name)} &= {latex(rounded(form, DIGITS))}" for name, form in pairs]
    title = "\n".join([subject.title, *(f"% within {text!a}" for text in _held(subject))])
    text = rendered("document.tex.j2", title=title, formulas=" \\\\\n".join(lines))
    path.write_text(text, encoding="utf-8")


def _evaluated(subject: Export, formulas: tuple[Expr, ...]) -> list[Array]:
    low, high = subject.description.scaling[:2]
    symbols = tuple(map(plain, feature_symbols(subject.exact)))
    return [evaluator(formulas, symbols)(np.clip(subject.rows, low, high))]


def _run_sympy(subject: Export, path: Path) -> list[Array]:
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = [f"{written(name)} = " for name in subject.description.outputs]
    texts = map(str.removeprefix, lines[-len(heads) :], heads)
    return _evaluated(subject, tuple(map(parse_formula, texts)))


def _run_latex(subject: Export, path: Path) -> list[Array]:
    """Evaluate the formulas in sympy; the LaTeX itself is not parsed."""
    return _evaluated(subject, tuple(rounded(form, DIGITS) for form in _formulas(subject)))


SYMPY = Format(name="sympy", ending=".txt", write=_write_sympy, run=_run_sympy, classifies=False)
LATEX = Format(name="latex", ending=".tex", write=_write_latex, run=_run_latex, classifies=False)
