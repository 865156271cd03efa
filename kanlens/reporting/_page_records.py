"""Edges, interactions, flows and the formula of a report as records."""

from __future__ import annotations

import builtins
import dataclasses
import keyword
import re
from html import escape
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._plain_json import to_plain
from kanlens.attribution._problem import is_additive
from kanlens.attribution._terms import Terms
from kanlens.model._network import KAN
from kanlens.model._trace import edge_moments
from kanlens.model._training_record import GrowthRecord
from kanlens.plotting._frontier import headline
from kanlens.reporting._analysis import Analysis
from kanlens.reporting._report_data import Subject, spread
from kanlens.splines._spline import quantiles

if TYPE_CHECKING:
    from sympy import Expr, Symbol

    from kanlens.symbolic._result import SymbolicResult

MAX_LISTED_EDGES = 200  # edges of a layer that are listed, the strongest first
MIN_SIGN_SHARE = 0.99  # share of the rows on which an effect must have one sign
TREND_ROWS = 1000  # rows, at most, for the signs of effects
TREND_LEVELS = 33  # of an input, at most, between which effects are measured
LISTED = 100  # pairs, the strongest
DIGITS = 4
MAX_TERM_LENGTH = 110  # characters
LINE = 72  # characters of terms in one line of mathematics


def describe_edges(analysis: Analysis) -> list[dict[str, Any]]:
    """Return up to `MAX_LISTED_EDGES` nonzero edges of each layer, the strongest first."""
    model = analysis.subject.model
    records: list[dict[str, Any]] = []
    for index, layer in enumerate(model.layers):
        mean, std = edge_moments(layer, analysis.trace.inputs[index])
        nonzero = (layer.mask != 0).cpu()
        std = torch.where(nonzero, std, torch.zeros_like(std))
        largest = float(std.max()) or 1.0
        order = std.flatten().argsort(descending=True, stable=True).tolist()
        edges = [divmod(place, std.shape[1]) for place in order]
        edges = [edge for edge in edges if bool(nonzero[edge])][:MAX_LISTED_EDGES]
        for (out, in_), trend in zip(edges, _trends(analysis, index, edges), strict=True):
            records.append(
                {
                    "layer": index,
                    "out": out,
                    "in": in_,
                    "name": model.edge_name(index, out, in_),
                    "source": model.node_name(index, in_),
                    "destination": model.subnode_name(index, out),
                    "std": float(std[out, in_]),
                    "mean": float(mean[out, in_]),
                    "relative": float(std[out, in_]) / largest,
                    "function": layer.functions[out][in_],
                    "trend": trend,
                    "outside": float(analysis.trace.outside[index][in_]),
                }
            )
    return records


def _trends(analysis: Analysis, index: int, edges: list[tuple[int, int]]) -> list[str]:
    """Return the effect of a higher input of each edge, in words."""
    record = analysis.trace
    picks = spread(len(record.x), TREND_ROWS)
    layer, x = record.layers[index], record.inputs[index][picks]
    model, target = analysis.subject.model, analysis.subject.target
    with torch.enable_grad():  # gradient of the explained output, or in the last layer of each
        sums = record.pre_activations[index][picks].detach().requires_grad_()
        outputs = model.run(model.nodes[index](sums), start=index + 1) * model.output_scale
        outputs = outputs if index == len(model.layers) - 1 else outputs[:, target]
        (gains,) = torch.autograd.grad(outputs.sum(), sums)  # (batch, out)
    lower, higher = torch.stack([_neighbors(column) for column in x.unbind(1)], 2)
    counts = torch.zeros(2, layer.out_features, layer.in_features)
    size = max(1, 2**22 // (layer.in_features * layer.out_features))
    for rows in torch.arange(len(x)).split(size):
        steps: Tensor = layer.edge_values(higher[rows]) - layer.edge_values(lower[rows])
        effects = steps * gains[rows, :, None]  # (batch, out, in)
        counts += torch.stack([(effects > 0).sum(0), (effects < 0).sum(0)]).cpu()
    shares = counts / counts.sum(0).clamp_min(1)
    flat = counts.sum(0) == 0
    return [_trend(float(shares[0, out, in_]), bool(flat[out, in_])) for out, in_ in edges]


def _neighbors(column: Tensor) -> Tensor:  # (batch,) -> (2, batch)
    """Return the levels below and above each value."""
    levels = column.unique()
    if len(levels) > TREND_LEVELS:
        levels = quantiles(levels, torch.linspace(0, 1, TREND_LEVELS, dtype=torch.float64))
    at = torch.searchsorted(levels, column.contiguous())
    return torch.stack([levels[(at - 1).clamp(min=0)], levels[(at + 1).clamp(max=len(levels) - 1)]])


def _trend(raising: float, flat: bool) -> str:
    """Return the share of rows with a raised output, in words."""
    if flat:
        return "has no effect"
    if raising >= MIN_SIGN_SHARE:
        return "raises it"
    if raising <= 1 - MIN_SIGN_SHARE:
        return "lowers it"
    return f"raises it on {raising:.0%} of the rows, lowers it on the others"


def describe_pairs(analysis: Analysis) -> dict[str, Any] | None:
    """Return the strongest interactions and their share, if known."""
    attribution, planned = analysis.pairs, analysis.plan.pairs
    if attribution is None or attribution.interactions is None:
        return None
    background_rows = analysis.background_rows
    if analysis.attribution.interactions is None and planned is not None:
        background_rows = len(planned[1])
    values, features = attribution.interactions, attribution.features
    sizes, means = values.abs().mean(0), values.mean(0)
    together = float(sizes.triu(1).sum())
    total = float(sizes.diagonal().sum()) + together or 1.0
    left, right = np.triu_indices(len(features), 1)
    order = np.argsort(-sizes[left, right].cpu().numpy(), kind="stable")[:LISTED]
    pairs = [
        {
            "features": [features[i], features[j]],
            "size": float(sizes[i, j]),
            "mean": float(means[i, j]),
            "share": float(sizes[i, j]) / total,
        }
        for i, j in zip(left[order].tolist(), right[order].tolist(), strict=True)
    ]
    return {
        "method": attribution.method,
        "rows": len(attribution.values),
        "background_rows": background_rows,
        "share": together / total,
        "pairs": pairs,
    }


def describe_growth(terms: Terms, model: KAN) -> dict[str, Any]:
    """Return the terms of a network that grew, and the scores of all sizes."""
    record = cast("GrowthRecord", model.growth)
    names = "name", "kind", "importance"
    return {
        "headline": headline(record),
        "terms": [{name: getattr(term, name) for name in names} for term in terms.terms],
        "link": terms.link is not None,
        **{key: value for key, value in to_plain(record).items() if key != "weights"},
    }


def without_pairs(analysis: Analysis) -> str | None:
    """Return the reason why there are no interactions, in one word; None if there are."""
    if analysis.pairs is not None:
        return None
    if is_additive(analysis.subject.model, analysis.subject.target):
        return "additive"
    return "large" if analysis.plan.pairs is None else "undefined"


def describe_formula(result: SymbolicResult, subject: Subject) -> dict[str, Any]:
    """Return a symbolic result as plain types, with MathML if short."""
    from kanlens.symbolic._notation import latex_name, legend, written
    from kanlens.symbolic._pareto_front import READABLE

    output = min(subject.target, len(result.output_names) - 1)
    name = result.output_names[output]
    table, best = result.equations_, result.get_best(output)
    records = [
        {**row, "sympy_format": result.text(cast(int, index), output), "picked": index == best.name}
        for index, row in table[table["output"] == name].to_dict(orient="index").items()
    ]
    expression, texts = best["sympy_format"], " ".join(row["equation"] for row in records)
    alone = subject.model.task == "classification" and len(result.output_names) == 1
    form = f"{subject.unit} of {{}}" if subject.model.loss.log else "logit({})" if alone else "{}"
    left, word = map(form.format, (name, written(name)))
    complexity = int(best["complexity"])
    return {
        "output": name,
        "equation": f"{word} = {best['equation']}",
        "names": legend(feature for feature in result.feature_names if written(feature) in texts),
        "complexity": complexity,
        "latex": f"{latex_name(name)} = {result.latex(None, output, digits=DIGITS)}",
        "python": python_source(expression, result.feature_names, name),
        "mathml": mathml(expression, left) if complexity <= READABLE else None,
        "equations": records,
        "receipt": dataclasses.asdict(result.receipt),
        "summary": result.receipt.summary(),
        "trustworthy": result.receipt.trustworthy,
    }


def mathml(expression: Expr, name: str) -> str | None:
    """Return a formula as MathML in several lines; None if a term is too long."""
    import sympy

    from kanlens.symbolic._result import rounded

    short = rounded(expression, DIGITS)
    printer = _printer(any(len(str(symbol)) > 1 for symbol in short.free_symbols))
    terms = short.as_ordered_terms() if short.is_Add else [short]
    if max(len(str(term)) for term in terms) > MAX_TERM_LENGTH:
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
    lines = "".join(f"<mtr><mtd>{row}</mtd></mtr>" for row in rows)
    minus = "<mo>\N{MINUS SIGN}</mo>"
    lines = lines.replace("<mo>-</mo>", minus)
    lines = re.sub("<mn>-([^<]*</mn>)", rf"<mrow>{minus}<mn>\1</mrow>", lines)
    return f'<math display="block"><mtable columnalign="left">{lines}</mtable></math>'


def _printer(long_names: bool) -> Any:
    """Return a MathML printer that leaves names unchanged, except for indices such as x1."""
    from sympy.printing.mathml import MathMLPresentationPrinter

    printer = MathMLPresentationPrinter({"mul_symbol": "dot" if long_names else None})
    indexed = printer._print_Symbol

    def print_name(symbol: Symbol, style: str = "plain") -> Any:
        if re.fullmatch(r"[A-Za-z]_?\d+", symbol.name):
            return indexed(symbol, style)
        element = printer.dom.createElement("mi")
        element.appendChild(printer.dom.createTextNode(escape(symbol.name)))  # sympy does not
        return element

    printer._print_Symbol = print_name
    return printer


def python_source(expression: Expr, names: tuple[str, ...], output: str) -> str | None:
    """Return a formula as a Python function; None with splines."""
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
    """Return a name as a Python identifier."""
    taken = keyword.iskeyword(name) or name == "math" or hasattr(builtins, name)
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not taken
    return name if plain else other or f"x{place}"
