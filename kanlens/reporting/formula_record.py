"""The formula in the forms in which people take it along: text, LaTeX, Python, MathML."""

from __future__ import annotations

import builtins
import dataclasses
import keyword
import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanlens.reporting.analysis import Analysis

DIGITS = 4
LONGEST = 90  # nodes of an expression that is still set as mathematics
LONGEST_TERM = 110  # characters of a term that is
LINE = 72  # characters of terms in one line of mathematics


def describe_formula(analysis: Analysis) -> dict[str, Any] | None:
    """Write a symbolic result as plain types; None when there is none.

    Returns
    -------
    dict or None
        output, equation (text, rounded), names (which stand in backticks), latex, python, mathml
        (None when the formula is too long to be set), equations (one record per row, the picked
        one marked), receipt, summary, trustworthy.
    """
    from kanlens.symbolic.wording import latex_name, legend, written

    result = analysis.formula
    if result is None:
        return None
    output = min(analysis.subject.target, len(result.output_names) - 1)
    name = result.output_names[output]
    table = result.equations_
    rows = table[table["output"] == name].to_dict(orient="records")
    best = result.get_best(output)
    records = [
        {
            **{str(k): v for k, v in row.items()},
            "sympy_format": result.text(index, output),
            "picked": index == best.name,
        }
        for index, row in zip(table.index[table["output"] == name], rows, strict=True)
    ]
    expression = best["sympy_format"]
    logits = analysis.subject.model.task == "classification"
    alone = logits and len(result.output_names) == 1
    left, word = (f"logit({each})" if alone else each for each in (name, written(name)))
    complexity = int(best["complexity"])
    return {
        "output": name,
        "equation": f"{word} = {best['equation']}",
        "names": legend(result.feature_names),
        "complexity": complexity,
        "latex": f"{latex_name(name)} = {result.latex(None, output, digits=DIGITS)}",
        "python": python_source(expression, result.feature_names, name),
        "mathml": mathml(expression, left) if complexity <= LONGEST else None,
        "equations": records,
        "receipt": dataclasses.asdict(result.receipt),
        "summary": result.receipt.summary(),
        "trustworthy": result.receipt.trustworthy,
    }


def mathml(expression: Any, name: str) -> str | None:
    """Return a formula as presentation MathML, in lines of bearable length.

    Names stand in it as they are, escaped. None when a term is too long to be set.
    """
    import sympy

    from kanlens.symbolic.result import rounded

    short = rounded(expression, DIGITS)
    printer = _printer(any(len(str(symbol)) > 1 for symbol in short.free_symbols))
    terms = short.as_ordered_terms() if short.is_Add else [short]
    if max(len(str(term)) for term in terms) > LONGEST_TERM:
        return None
    rows, length = [f"{printer.doprint(sympy.Symbol(name))}<mo>=</mo>"], 0
    for place, term in enumerate(terms):
        negative = term.could_extract_minus_sign()
        sign = "<mo>\N{MINUS SIGN}</mo>" if negative else "<mo>+</mo>" if place else ""
        size = len(str(term))
        if length and length + size > LINE:
            rows.append("")
            length = 0
        rows[-1] += sign + printer.doprint(-term if negative else term)
        length += size
    lines = "".join(f"<mtr><mtd>{_with_minus(row)}</mtd></mtr>" for row in rows)
    return f'<math display="block"><mtable columnalign="left">{lines}</mtable></math>'


def _printer(long_names: bool) -> Any:
    """Return a printer that leaves names alone, and sets a dot between factors with long ones."""
    from sympy.printing.mathml import MathMLPresentationPrinter

    printer = MathMLPresentationPrinter({"mul_symbol": "dot" if long_names else None})
    indexed = printer._print_Symbol

    def print_name(symbol: Any, style: str = "plain") -> Any:
        if re.fullmatch(r"[A-Za-z]_?\d+", symbol.name):
            return indexed(symbol, style)
        element = printer.dom.createElement("mi")
        element.appendChild(printer.dom.createTextNode(escape(symbol.name)))  # sympy does not
        return element

    printer._print_Symbol = print_name
    return printer


def _with_minus(row: str) -> str:
    minus = "<mo>\N{MINUS SIGN}</mo>"
    return row.replace("<mo>-</mo>", minus).replace("<mn>-", f"{minus}<mn>")


def python_source(expression: Any, names: tuple[str, ...], output: str) -> str | None:
    """Return a formula as a Python function that needs only the standard library.

    Names that Python does not allow are replaced by x1, x2, ... and explained. None when a spline
    is left in the formula.

    Examples
    --------
    >>> import sympy
    >>> print(python_source(sympy.sin(sympy.Symbol("blood sugar")), ("blood sugar",), "y"))
    import math
    <BLANKLINE>
    <BLANKLINE>
    def y(x1):
        # x1: 'blood sugar'
        return math.sin(x1)
    """
    import sympy
    from sympy.printing.pycode import pycode

    if any(hasattr(node, "_imp_") for node in expression.atoms(sympy.Function)):
        return None
    used = {str(symbol) for symbol in expression.free_symbols}
    plain = {name: _identifier(name, i) for i, name in enumerate(names, 1) if name in used}
    if len(set(plain.values())) < len(plain):
        plain = {name: f"x{i}" for i, name in enumerate(names, 1) if name in used}
    symbols = {s: sympy.Symbol(plain[str(s)], real=True) for s in expression.free_symbols}
    body = pycode(expression.xreplace(symbols), fully_qualified_modules=True)
    if "Not supported" in body:
        return None
    notes = [f"    # {new}: {old!r}" for old, new in plain.items() if old != new]
    head = f"def {_identifier(output, 0, 'formula')}({', '.join(plain.values())}):"
    return "\n".join(["import math", "", "", head, *notes, f"    return {body}"])


def _identifier(name: str, place: int, other: str = "") -> str:
    taken = keyword.iskeyword(name) or name == "math" or hasattr(builtins, name)
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not taken
    return name if plain else other or f"x{place}"
