"""The form of small networks: a link function of a sum of curves and products of sums of curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kanlens.errors import MethodError
from kanlens.model._edge import Edge
from kanlens.model._network import KAN


@dataclass(eq=False)
class SumForm:
    """An intercept, weighted sums of curves, products of two of them, and a link, if any."""

    model: KAN
    level: float
    sums: list[tuple[int, float]]  # first-layer sum, weight
    products: list[tuple[int, int, float]]  # two first-layer sums, weight
    link: tuple[Edge, float, float] | None  # edge, factor, shift

    @property
    def subnodes(self) -> list[int]:
        """Indices of the first layer's sums that enter the form, in order."""
        return sorted({sub for sub, _ in self.sums}.union(*(pair[:2] for pair in self.products)))


def read_form(model: KAN, target: int) -> SumForm:
    """Return the form of an output; refuse a network that does not have it."""
    factor, level = float(model.output_scale[target]), float(model.output_shift[target])
    reads, link = [(target, factor)], None
    for index in range(len(model.layers) - 1, 0, -1):
        if len(reads) != 1:
            raise _no_terms(model)
        ((node, factor),) = reads
        layer, nodes = model.layers[index], model.nodes[index]
        if nodes.normalized or node >= nodes.grouping.sums:
            raise _no_terms(model)
        if nodes.scaled:
            level += factor * float(nodes.shift[node])
            factor *= float(nodes.scale[node])
        level += factor * float(layer.bias[node])
        sources = layer.nonzero_edges()[node].nonzero()[:, 0].tolist()
        edges = [layer.edge(node, source) for source in sources]
        if all(map(_is_line, edges)):
            starts = [float(edge(0.0)) for edge in edges]
            pairs = zip(sources, edges, starts, strict=True)
            reads = [(source, factor * (float(edge(1.0)) - low)) for source, edge, low in pairs]
            level += factor * sum(starts)
        elif len(edges) == 1 and link is None:
            link = edges[0], factor, level
            reads, level = [(sources[0], 1.0)], 0.0
        else:
            raise _no_terms(model)
    form = _first_layer(SumForm(model, level, [], [], link), reads)
    if not model.layers[0].nonzero_edges()[form.subnodes].any():
        expected, advice = "an output that depends on some column", "Name another output"
        raise MethodError("terms", expected, "a constant", advice, "train the model")
    return form


def _is_line(edge: Edge) -> bool:
    flat = edge.single is not None or not edge.coefficients.any()
    return flat and all(function.line is not None for function in edge.functions.functions)


def _first_layer(form: SumForm, reads: Sequence[tuple[int, float]]) -> SumForm:
    """Add the first-layer nodes that the second layer reads, with their weights."""
    layer, nodes = form.model.layers[0], form.model.nodes[0]
    read = layer.nonzero_edges().any(1).tolist()
    bias = layer.bias.tolist()
    for node, slope in reads:
        members = sorted(nodes.grouping.members(node), key=read.__getitem__)  # constants first
        if nodes.normalized or len(members) > 2:
            raise _no_terms(form.model)
        weight = slope * (float(nodes.scale[node]) if nodes.scaled else 1.0)
        form.level += slope * (float(nodes.shift[node]) if nodes.scaled else 0.0)
        if len(members) == 2 and read[members[0]]:
            form.products.append((members[0], members[1], weight))
            continue
        if len(members) == 2:
            weight *= bias[members[0]]
        form.level += weight * bias[members[-1]]
        form.sums.append((members[-1], weight))
    return form


def _no_terms(model: KAN) -> MethodError:
    expected = "a model of one layer, or one grown by kanlens.frontier"
    got = f"one of shape {list(model.shape)}"
    return MethodError("terms", expected, got, "Call kanlens.frontier for a model with terms")
