"""Functions shared by captum's methods, and the views of a KAN that they run on.

On a plain KAN captum's DeepLift is gradient x (x - baseline). In the edge view each layer is
expand -> activation (batch, out, in) -> sum; products are split by their exact Shapley values.
"""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kanlens._runtime import progress_bar
from kanlens.attribution._problem import Problem, borrowed_randomness
from kanlens.errors import MethodError
from kanlens.model._analysis import over_rows, reaching
from kanlens.model._kan_linear import KANLinear
from kanlens.model._nodes import Nodes

REPEATS = 5  # runs of a sampling method whose spread is its standard error
_TABLE_LOCK = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress captum's warnings about conditions that these modules handle."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        warnings.filterwarnings("ignore", message="Input Tensor 0 did not already require")
        warnings.filterwarnings("ignore", message="IProgress not found")  # of a bar it imports
        yield


def finite(values: Tensor) -> Tensor:
    """Return outputs or values unchanged; refuse NaN and infinity."""
    if not bool(torch.isfinite(values).all()):
        expected = "a model with finite outputs between the samples and the background"
        advice = "A function has a pole or is undefined there; choose other background rows"
        raise MethodError("attribute", expected, "NaN or infinity", advice)
    return values


def total_output(problem: Problem, x: Tensor) -> Tensor:
    """Return the sum of outputs at x (batch, in), shape (1,); captum is 10 times faster on it."""
    return problem.output(x).sum()[None]


def over_parts(problem: Problem, run: Callable[[Tensor], Tensor], *, at_once: int) -> Tensor:
    """Run a gradient method of captum on the samples, part by part."""

    def values(x: Tensor) -> list[Tensor]:
        return [finite(run(x.clone().requires_grad_()).detach())]

    with torch.enable_grad():
        return over_rows(values, problem.x, max(1, at_once))[0]


def five_runs(
    problem: Problem, run: Callable[[int], Tensor], n_samples: int
) -> tuple[Tensor, Tensor]:
    """Divide `n_samples` draws among five runs; return their mean and its standard error."""
    sizes = [len(part) for part in torch.arange(n_samples).tensor_split(REPEATS)]
    mean, spread = torch.zeros_like(problem.x), torch.zeros_like(problem.x)
    with (
        borrowed_randomness(problem.generator, problem.x.device),
        progress_bar("captum", REPEATS, shown=problem.progress) as advance,
    ):
        for size, drawn in zip(sizes, itertools.accumulate(sizes), strict=True):
            step = run(size).sub_(mean)
            mean.add_(step, alpha=size / drawn)  # Welford's update
            spread.add_(step.square_(), alpha=size * (drawn - size) / (drawn * n_samples))
            del step  # frees memory
            advance(1)
    return mean, spread.div_(REPEATS - 1).sqrt_()


# --- views of a KAN for captum's hooks: edge by edge, or from the nodes of a level on -----------


class EdgeActivation(nn.Module):
    """All edge functions of a layer as one elementwise activation."""

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self._layers = (layer,)  # not a submodule

    def forward(self, u: Tensor) -> Tensor:
        """Return phi_oi(u_oi) for u (batch, out, in); inputs are repeated for each output."""
        (layer,) = self._layers
        with torch.no_grad():
            values = layer.edge_values(u[:, 0])
            slopes = layer.edge_derivatives(u[:, 0])
        return values + slopes * (u - u.detach())


def share_products(module: Nodes, inputs: Tensor, *others: Tensor, eps: float = 0.0) -> Tensor:
    """Return DeepLift's multipliers of the factors of products, (2 * batch, sub), for captum.

    `inputs` are sums of samples, then of baselines; the last of `others`, multipliers of nodes.
    """
    ours, theirs = inputs.chunk(2)
    return module.pull(others[-1], ours.repeat(2, 1), theirs.repeat(2, 1))


class EdgeView(nn.Module):
    """One output of a KAN, computed edge by edge."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem = problem
        self.edges = nn.ModuleList(EdgeActivation(layer) for layer in problem.model.layers)
        self.nodes = nn.ModuleList(nn.Identity() if k.plain else k for k in problem.model.nodes)
        self.levels = nn.ModuleList(nn.Identity() for _ in problem.model.nodes)  # for hooks

    def forward(self, x: Tensor) -> Tensor:
        """Return the output at x (batch, in), in the units of the data, shape (batch,)."""
        model, target = self._problem.model, self._problem.target
        hidden = model.scale_inputs(x)
        for index, layer in enumerate(model.layers):
            spread = hidden[:, None, :].expand(-1, layer.out_features, -1)  # (batch, out, in)
            sums = self.edges[index](spread).sum(-1) + layer.bias
            hidden = self.levels[index](self.nodes[index](sums))
        return hidden[:, target] * model.output_scale[target] + model.output_shift[target]


class NodeView(nn.Module):
    """One output of a KAN as a function of the nodes of a level (1: the first hidden layer)."""

    def __init__(self, problem: Problem, layer: int) -> None:
        super().__init__()
        self.nodes = nn.Identity()
        self._problem, self._layer = problem, layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the outputs at x (batch, in), in the units of the data, shape (1,)."""
        model = self._problem.model
        with torch.no_grad():
            hidden = model.run(model.scale_inputs(x), stop=self._layer)
            if self._layer == len(model.layers):
                hidden = model.scale_outputs(hidden)
        return self.above(self.nodes(hidden.requires_grad_())).sum()[None]

    def above(self, hidden: Tensor) -> Tensor:
        """Return the output at nodes (batch, node) of the level, shape (batch,)."""
        model, target = self._problem.model, self._problem.target
        if self._layer < len(model.layers):
            hidden = model.scale_outputs(model.run(hidden, start=self._layer))
        return hidden[:, target]


def live_nodes(problem: Problem, level: int) -> Tensor:
    """Return the mask of a level's nodes with a path of nonzero edges to the output, (node,)."""
    model, target = problem.model, problem.target
    if level == len(model.layers):
        return torch.arange(model.widths[level], device=problem.x.device) == target
    wanted = reaching(model, target)[level]
    return (model.layers[level].nonzero_edges() & wanted[:, None]).any(0)


@contextmanager
def known_to_captum() -> Iterator[None]:
    """Teach captum's DeepLift rules for `EdgeActivation` and `Nodes` while the block runs."""
    from captum.attr._core import deep_lift

    rules = {EdgeActivation: deep_lift.nonlinear, Nodes: share_products}
    with _TABLE_LOCK:
        deep_lift.SUPPORTED_NON_LINEAR.update(rules)
        try:
            yield
        finally:
            for module in rules:
                del deep_lift.SUPPORTED_NON_LINEAR[module]
