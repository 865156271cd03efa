"""Cases to judge: a weighted sum whose best explanation is known, and networks."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution import Attribution
from kanlens.attribution._direct_methods import secant
from kanlens.attribution._problem import Baseline, Problem
from kanlens.attribution.metrics import Case, case_for
from kanlens.attribution.metrics._evaluation import Function
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN

WEIGHTS = torch.tensor([8.0, -4.0, 2.0, 1.0, 0.5, 0.0], dtype=torch.float64)


def attribution(values: Tensor, output: Tensor | None = None, **parts: Any) -> Attribution:
    """An attribution with these values; complete unless an output is given."""
    values = values.double()
    output = values.sum(1) if output is None else output
    parts = {"baseline": Baseline.MEAN_OUTPUT, "reference": torch.zeros_like(output), **parts}
    names = tuple(f"x{i}" for i in range(values.shape[1]))
    return Attribution(
        values=values, output=output, method="secant", features=names, target="y", **parts
    )


def draw(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHTS[: x.shape[1]] + 3.0


class AnyModel:
    """A model of one layer whose output is any function of x."""

    layers = (None,)

    def __init__(self, function: Function, outside: Function = torch.zeros_like) -> None:
        self.function, self.outside = function, lambda x: outside(x).bool()

    def scale_inputs(self, x: Tensor) -> Tensor:
        return x

    def levels(self, x: Tensor) -> Any:
        return (x, self.function(x)[:, None]), None

    def scale_outputs(self, y: Tensor) -> Tensor:
        return y


def case(
    values: Tensor,
    x: Tensor,
    rows: Tensor | None = None,
    *,
    output: Function = linear,
    outside: Function = torch.zeros_like,
    method: Function | None = None,
    **parts: Any,
) -> Case:
    """The case of an attribution of `linear`, counted from its mean over rows."""
    rows = x if rows is None else rows
    reference = linear(rows).mean().expand(len(x))
    found = attribution(values, linear(x), x=x, reference=reference)
    again = method and (lambda _, points: method(points))
    parts = {"background": rows, "method_on": again, **parts}
    return Case(attribution=found, model=AnyModel(output, outside), **parts)


def exact(x: Tensor, rows: Tensor | None = None) -> Tensor:
    """Shapley values of `linear`."""
    rows = x if rows is None else rows
    return (x - rows.mean(0)) * WEIGHTS[: x.shape[1]]


def inside(model: KAN, n: int, seed: int = 1, share: float = 0.95) -> Tensor:
    """Rows inside the first grid, whose ends are -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    u = 2 * torch.rand(n, model.widths[0], generator=generator, dtype=torch.float64) - 1
    return model.input_shift.double() + model.input_scale.double() * u * share


def network_case(model: KAN, x: Tensor, rows: Tensor, target: int = 0, **parts: Any) -> Case:
    """The case of the secant decomposition of a network."""

    def values_on(other: KAN, points: Tensor) -> Tensor:
        with torch.no_grad():
            problem = Problem(model=other, x=points, rows=rows, target=target)
            return secant(problem).values

    copy = float64_copy(model)
    problem = Problem(model=copy, x=x, rows=rows, target=target)
    values = values_on(copy, x)
    reference = torch.full(
        (len(x),), problem.counted_from(Baseline.MEAN_OUTPUT), dtype=torch.float64
    )
    found = attribution(values, problem.output_in_parts(x), x=x, reference=reference)
    found = dataclasses.replace(found, features=model.feature_names)
    parts = {"background": rows, "target": target, "method_on": values_on, **parts}
    return case_for(model, found, **parts)
