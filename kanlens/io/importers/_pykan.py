"""pykan, old and new, and microkan: splines, symbolic edges, products."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from kanlens.errors import ShapeError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.io.importers._intermediate import Affine, Edges, Stage, one_by_one
from kanlens.io.importers._layout import Group, Layout
from kanlens.io.importers._settings import CALL, SUMS, attribute, refuse
from kanlens.model._terms import SPLINE, FunctionTable
from kanlens.splines._spline import extend

_SUMS = {**SUMS, "arccos": ((("arcsin", 1.0, 0.0, -1.0),), math.pi / 2)}
_SAME = {"sgn": "sign", "0": "constant", "x^0.5": "sqrt"}
_SAME |= {"1/x^0.5": "1/sqrt", "1/sqrt(x)": "1/sqrt"}


def translated(name: str, parameters: Tensor) -> tuple[str, Tensor]:
    """Return kanlens' name for a function of pykan, and its parameters (a, b, c, d) for it."""
    terms, rest = _SUMS.get(name, ((), 0.0))
    if len(terms) == 1:
        ((own, a, b, c),), p = terms, parameters
        return own, torch.stack([p[0] * a, p[1] * a + b, p[2] * c, p[3] + p[2] * rest])
    own = _SAME.get(name, name)
    if own not in FUNCTIONS:
        advice = "Register it with kanlens.register_function, under that name"
        refuse("symbolic edges of registered functions", repr(name), advice)
    return own, parameters


def _symbolic(group: Group, part: Tensor) -> tuple[Tensor, FunctionTable, Tensor | None]:
    """Return mask, names and parameters (out, in, 4) of symbolic edges."""
    shape, mask = part.shape, group.find("symbolic_fun.mask", *part.shape)
    if mask is None or not mask.any() or not group.known("symbolic_enabled", True):
        return torch.zeros_like(part), (), None
    *above, _, layer = group.name.split(".")
    live = group.source.owner(".".join([*above, "symbolic_fun", layer]))
    names = group.source.facts.get(f"symbolic.funs_name.{layer}", attribute(live, "funs_name"))
    rows = names if isinstance(names, list) and len(names) == shape[0] else [()]
    if any(not isinstance(row, list) or len(row) != shape[1] for row in rows):
        count = int((mask != 0).sum())
        expected = f"names of the {count} symbolic edges of layer {layer}, (out, in)"
        got = "none" if names is None else "another shape"
        advice = "Keep _config.yml next to the state of pykan, or pass the model itself"
        refuse(expected, got, advice)
    affine = group.get("symbolic_fun.affine", *shape, 4).clone()
    table = [[SPLINE] * shape[1] for _ in range(shape[0])]
    for out, in_ in mask.nonzero().tolist():
        name = str(rows[out][in_])[:40]
        table[out][in_], affine[out, in_] = translated(name, affine[out, in_])
    affine[..., 2:] *= torch.where(mask == 0, 1.0, mask)[..., None]
    return mask, tuple(map(tuple, table)), affine


def _edges(group: Group, part: Tensor, base: Tensor, scaler: Tensor, **others: Any) -> Edges:
    """Return the edges of a layer; values of masks between 0 and 1 are allowed."""
    mask, names, affine = _symbolic(group, part)
    both = (part != 0) & (mask != 0)
    if affine is not None and bool(both.any()):  # the sum of a spline and a function
        added = {(out, in_): names[out][in_] for out, in_ in both.nonzero().tolist()}
        names = tuple(
            tuple(SPLINE if (out, in_) in added else name for in_, name in enumerate(row))
            for out, row in enumerate(names)
        )
        others["bias"] = (affine[..., 3] * both).sum(1)
        others |= one_by_one(added, affine)
    factor = torch.where(part == 0, 1.0, part)
    return Edges(
        name=group.name,
        base=base * factor,
        activation=group.base(),
        scaler=scaler * factor,
        mask=((part != 0) | (mask != 0)).to(part.dtype),
        functions=names,
        affine=affine,
        extrapolation=group.options.extrapolation or "zero",
        **others,
    )


def _arities(group: Group, nodes: int, subnodes: int) -> tuple[int, ...]:
    """Return the numbers of factors of a layer's products."""
    if subnodes == nodes:
        return ()
    place, lists = int(group.name.rpartition(".")[2]) + 1, group.known("mult_arity")
    if not isinstance(lists, list):
        arity = group.setting("mult_arity")
        arities: tuple[Any, ...] = (arity,) * ((subnodes - nodes) // (arity - 1))
    else:
        own = lists[place] if place < len(lists) else None
        arities = tuple(own) if isinstance(own, list) else ()
    whole = all(type(arity) is int and arity > 1 for arity in arities)
    if not whole or sum(arities) - len(arities) != subnodes - nodes or len(arities) > nodes:
        expected = f"products in {group.name} that combine {subnodes} sums to {nodes} nodes"
        refuse(expected, "another mult_arity", "Pass the configuration of this model")
    return arities


def _layer(group: Group) -> list[Stage]:
    """Return the stages of one layer of pykan 0.1 and later."""
    coef = group.get("act_fun.coef", None, None, None)
    n_in, n_out, _ = coef.shape
    parts = ("mask", "scale_base", "scale_sp")
    mask, base, scaler = (group.get(f"act_fun.{name}", n_in, n_out).T for name in parts)
    knots = group.get("act_fun.grid", n_in, None)
    edges = _edges(group, mask, base, scaler, spline=coef.transpose(0, 1), knots=knots)
    subnodes = [group.get(f"subnode_{name}", n_out) for name in ("scale", "bias")]
    arities = _arities(group, len(group.get("node_scale", None)), n_out)
    width = n_out - sum(arities) + len(arities)
    scale, shift = (group.get(f"node_{name}", width) for name in ("scale", "bias"))
    return [edges.rescaled(*subnodes), Affine(scale=scale, shift=shift, arities=arities)]


def _old_layer(group: Group) -> list[Stage]:
    """Return the stages of a layer of pykan 0.0, in which every edge has knots of its own."""
    bias = group.get("biases.weight", 1, None)[0]
    coef, cuts = group.get("act_fun.coef", None, None), group.get("act_fun.grid", None, None)
    n_out, order = len(bias), coef.shape[1] - cuts.shape[1] + 1
    n_in = len(coef) // max(n_out, 1)
    if order not in range(1, 6) or min(n_in, cuts.shape[1] - 1) < 1:
        expected, got = f"{group.name} of splines of degree 1 to 5", f"degree {order}"
        raise ShapeError(CALL, expected, got, "Train it with another k")
    coef = group.get("act_fun.coef", n_in * n_out, None)
    cuts = group.get("act_fun.grid", len(coef), None)
    parts = ("mask", "scale_base", "scale_sp")
    tensors = [group.get(f"act_fun.{n}", len(coef)).reshape(n_out, n_in) for n in parts]
    knots = extend(cuts, order).reshape(n_out, n_in, -1)
    spline, knots = on_shared_knots(coef.reshape(n_out, n_in, -1), knots)
    edges = _edges(group, *tensors, spline=spline, knots=knots)
    return [edges.rescaled(torch.ones_like(bias), bias)]


def on_shared_knots(coef: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Return coefficients (out, in, basis) and knots (in, knot), each the union over outputs."""
    if bool((knots == knots[:1]).all()):
        return coef, knots[0]
    degree = knots.shape[2] - coef.shape[2] - 1
    unions = [knots[:, i].unique().tolist() for i in range(knots.shape[1])]
    most = max(map(len, unions))
    for union in unions:  # equally many knots for every input; more at the end change nothing
        step = (union[-1] - union[0]) / len(union)
        union += [union[-1] + step * place for place in range(1, most - len(union) + 1)]
    shared = torch.tensor(unions, dtype=torch.float64, device=knots.device)
    return _inserted(coef.double(), knots.double(), shared, degree).to(coef), shared.to(knots)


def _inserted(coef: Tensor, knots: Tensor, union: Tensor, degree: int) -> Tensor:
    """Return coefficients on a union of knots by de Boor's algorithm."""
    n = degree + 1
    union = union.expand(len(knots), -1, -1)  # (out, in, knot)
    low, high = float(union.min()) - 1, float(union.max()) + 1  # where all splines are zero
    wide = pad(pad(knots, (n, 0), value=low), (0, n), value=high)
    places = union.unfold(-1, n + 1, 1)  # (out, in, basis, knot)
    piece = torch.searchsorted(wide, places[..., degree // 2].contiguous(), right=True) - 1
    at = piece[..., None] + torch.arange(-degree, n, device=knots.device)
    around = wide.gather(-1, at.flatten(2)).view_as(at)
    values = pad(coef, (n, n)).gather(-1, at[..., :n].flatten(2)).view(*piece.shape, n)
    for r in range(1, n):
        start, end = around[..., r:n], around[..., n : n + n - r]
        share = (places[..., r, None] - start) / (end - start)
        values = (1 - share) * values[..., :-1] + share * values[..., 1:]
    return values[..., 0]


LAYOUTS = (
    Layout("pykan", _layer, "act_fun.coef node_bias", "symbolic_fun.affine"),
    Layout("pykan 0.0", _old_layer, "act_fun.coef biases.weight", "symbolic_fun.affine"),
)
