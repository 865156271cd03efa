"""What becomes of a formula that was found: is it the equation, and if not, why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.equations import Equation, is_recovered, r2_score
from kanlens.symbolic._notation import formula_text
from kanlens.symbolic._receipt import EXPLAINED

if TYPE_CHECKING:
    import sympy

ACCURATE = EXPLAINED  # R2 on fresh rows above which a formula counts as accurate
REASONS = ("structure", "edge family", "constants", "time", "failed")
VERDICT = ("recovered", "rounded", "accurate", "r2", "reason", "formula")  # columns of `judge`
_DIGITS, _NOTHING = 3, 1e-4  # of SRBench: what is kept of numbers, and what counts as zero
_MOST_OPERATIONS = 400  # of a formula that is multiplied out


def judge(formula: Any, equation: Equation, stopped: str, seed: int) -> dict[str, Any]:
    """Return the columns ``VERDICT`` of a formula, judged by fresh rows without noise.

    `recovered` is 1 where it is the equation but for a constant term or factor; `rounded`, 1 where
    it is so after its numbers were rounded as SRBench does, which is what noise leaves room for;
    `accurate`, 1 where its R2 is above 0.999; `reason` is empty where it was recovered. `stopped`
    is why the search ended.
    """
    recovered = is_recovered(formula, equation, np.random.default_rng([seed, 2]))
    r2 = r2_score(formula, equation, np.random.default_rng([seed, 3]))
    near = recovered or same_but_rounded(formula, equation, np.random.default_rng([seed, 2]))
    return {
        "recovered": int(recovered),
        "rounded": int(near),
        "accurate": int(r2 > ACCURATE),
        "r2": r2 if np.isfinite(r2) else None,
        "reason": "" if recovered else reason(formula, equation, r2, stopped),
        "formula": formula_text(formula, exact=True),
    }


def same_but_rounded(
    formula: sympy.Expr, equation: Equation, generator: np.random.Generator
) -> bool:
    """Return whether a formula with rounded numbers is an equation, as it is or rounded alike.

    This is SRBench's rule: numbers with a point are rounded to three decimals and to the 13 bits
    that sympy keeps of three digits, and those below 1e-4 are dropped, before the comparison.
    """
    from dataclasses import replace

    found = rounded(formula)
    if not found.free_symbols:
        return False
    truths = (equation, replace(equation, text=str(rounded(_in_decimals(equation.expression)))))
    return any(is_recovered(found, truth, generator) for truth in truths)


def rounded(expression: Any) -> Any:
    """Round numbers with a point to three decimals and 13 bits; those below 1e-4 are dropped."""
    import sympy

    table = {each: _short(float(each)) for each in expression.atoms(sympy.Float)}
    return expression.xreplace(table)


def _short(value: float) -> Any:
    import sympy

    if abs(value) < _NOTHING:
        return sympy.Integer(0)
    return sympy.Float(float(sympy.Float(round(value, _DIGITS), _DIGITS)))


def _in_decimals(node: Any) -> Any:
    """Write numbers that are not whole, such as sqrt(2) * pi, with a point."""
    import sympy

    if not node.free_symbols:
        return node if node.is_Integer else sympy.Float(node.evalf())
    if node.is_Mul or node.is_Add:
        plain = [arg for arg in node.args if not arg.free_symbols]
        number = _in_decimals(node.func(*plain))
        return node.func(number, *(_in_decimals(arg) for arg in node.args if arg.free_symbols))
    return node.func(*map(_in_decimals, node.args)) if node.args else node


def reason(formula: Any, equation: Equation, r2: float, stopped: str) -> str:
    """Return why a formula is not the equation.

    "constants" where it is but for its numbers; "time" where the search ended early without an
    accurate formula; "edge family" where it combines the same variables in the same way, with other
    functions of one variable; else "structure".
    """
    truth = equation.expression
    if any(_bare(a) == _bare(b) for a, b in _forms(formula, truth)):
        return "constants"
    if "time" in stopped and r2 <= ACCURATE:
        return "time"
    alike = any(_combined(a) == _combined(b) for a, b in _forms(formula, truth))
    return "edge family" if alike else "structure"


def _forms(a: Any, b: Any) -> list[tuple[Any, Any]]:
    """Return both as they are, and multiplied out where they are short."""
    import sympy

    short = max(a.count_ops(), b.count_ops()) <= _MOST_OPERATIONS
    return [(a, b), (sympy.expand(a), sympy.expand(b))] if short else [(a, b)]


def _bare(node: Any) -> str:
    """Return a form without its numbers; powers are told apart by halves."""
    if node.is_Symbol:
        return str(node.name)
    if not node.free_symbols:
        return "#"
    if node.is_Add or node.is_Mul:
        parts = sorted(part for part in map(_bare, node.args) if part != "#")
        return parts[0] if len(parts) == 1 else f"{type(node).__name__}({','.join(parts)})"
    if node.is_Pow and not node.base.free_symbols:
        return f"exp({_bare(node.exp)})"
    if node.is_Pow and not node.exp.free_symbols:
        power = round(2 * float(node.exp)) / 2
        return _bare(node.base) if power == 1 else f"({_bare(node.base)})^{power:g}"
    name = {"cos": "sin"}.get(type(node).__name__, type(node).__name__)  # one but for a phase
    return f"{name}({','.join(map(_bare, node.args))})"


def _combined(node: Any) -> str:
    """Return how variables are combined; what is done to one variable or to a whole is left out."""
    names = sorted(symbol.name for symbol in node.free_symbols)
    if len(names) < 2:
        return names[0] if names else "#"
    parts = {part for part in map(_combined, node.args) if part != "#"}
    if len(parts) == 1:
        return parts.pop()
    kind = type(node).__name__ if node.is_Add or node.is_Mul else "other"
    return f"{kind}({','.join(sorted(parts))})"
