"""A formula as a module of torch that can be trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, cast

import numpy as np
import sympy
import torch
from torch import Tensor, nn

from kanlens.checks import check_columns
from kanlens.errors import DTypeError, MethodError
from kanlens.symbolic.composition import Expr
from kanlens.symbolic.notation import formula_text

_ALIKE = "exp log sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"
_ALIKE += " sign erf erfc erfinv floor"  # called the same by both
_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    **{getattr(sympy, name): getattr(torch, name) for name in _ALIKE.split()},
    sympy.Abs: torch.abs,
    sympy.loggamma: torch.lgamma,
    sympy.ceiling: torch.ceil,
    sympy.Not: torch.logical_not,
    sympy.Pow: torch.pow,
    sympy.Gt: torch.gt,
    sympy.Ge: torch.ge,
    sympy.Lt: torch.lt,
    sympy.Le: torch.le,
    sympy.Eq: torch.eq,
    sympy.Ne: torch.ne,
}
_FOLDED: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
    sympy.Add: torch.add,
    sympy.Mul: torch.mul,
    sympy.Max: torch.maximum,
    sympy.Min: torch.minimum,
    sympy.And: torch.logical_and,
    sympy.Or: torch.logical_or,
}


class TorchFormula(nn.Module):
    """Formulas whose inexact numbers are parameters and whose exact ones are buffers.

    Every Float of the expressions is one parameter, once for each place where it stands;
    rationals and constants like pi are buffers. Splines are evaluated as they are: they have a
    gradient in their input, and nothing to train.

    Parameters
    ----------
    expressions : sequence of sympy.Expr
        One per output.
    names : sequence of str
        Of the columns of x.

    Raises
    ------
    MethodError
        If an expression holds a function that torch does not have.

    Examples
    --------
    >>> module = TorchFormula([2.5 * sympy.Symbol("x") ** 2], ["x"])
    >>> module(torch.tensor([[2.0]])).item(), len(list(module.parameters()))
    (10.0, 1)
    """

    def __init__(self, expressions: Sequence[Expr], names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.numbers = nn.ParameterList()
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))
        # of every value: the name of a column, parameter or buffer, or a function and its inputs
        self._steps: list[tuple[Any, tuple[int, ...]]] = []
        self._shared: dict[Expr, int] = {}
        self._outputs = [self._build(sympy.sympify(expression)) for expression in expressions]
        self._text = ", ".join(formula_text(expression) for expression in expressions)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (batch, in), in the units of the data, to y (batch, out).

        Raises
        ------
        DTypeError
            If `x` is no Tensor.
        ShapeError
            If `x` has another number of columns.
        """
        if not isinstance(x, Tensor):
            got, advice = type(x).__name__, "Convert it first, its columns in the order of names"
            raise DTypeError("TorchFormula.forward", "a Tensor", got, advice)
        check_columns("TorchFormula.forward", x, len(self.names))
        columns = zip(self.names, x.to(self.get_buffer("unit")).unbind(-1), strict=True)
        known = dict([*self.named_parameters(), *self.named_buffers()])
        known |= {f"column {name}": column for name, column in columns}
        values: list[Tensor] = []
        for source, inputs in self._steps:
            given = (values[k] for k in inputs)
            values.append(source(*given) if callable(source) else known[source])
        return torch.stack([values[k].expand(x.shape[:-1]) for k in self._outputs], dim=-1)

    def extra_repr(self) -> str:
        """Return the formulas the module was made from."""
        return self._text

    def _build(self, node: Expr) -> int:
        """Add the steps that evaluate an expression; return the place of its value."""
        if node in self._shared:
            return self._shared[node]
        if node.is_Symbol:
            self._shared[node] = self._step(f"column {node.name}")
            return self._shared[node]
        if node.is_Float:
            self.numbers.append(nn.Parameter(torch.tensor(float(node), dtype=torch.float64)))
            return self._step(f"numbers.{len(self.numbers) - 1}")
        if not node.args:
            return self._constant(node)
        if isinstance(node, sympy.Piecewise):
            return self._pieces(node)
        inputs = [self._build(arg) for arg in node.args]
        if type(node) not in _FOLDED:
            return self._step(_function(node), *inputs)
        return reduce(partial(self._step, _FOLDED[type(node)]), inputs)

    def _pieces(self, node: Expr) -> int:
        """Add the steps that choose between the pieces of a formula; NaN where none holds."""
        place = self._build(sympy.nan)
        for value, condition in reversed(node.args):
            inside, whole = self._build(value), condition == sympy.true
            step = torch.where
            place = inside if whole else self._step(step, self._build(condition), inside, place)
        return place

    def _constant(self, node: Expr) -> int:
        """Hold a rational or a constant like pi as a buffer, one for all its places."""
        if not node.is_extended_real and node is not sympy.nan:
            raise _refusal(str(node))
        name = f"exact_{len(self._shared)}"
        self.register_buffer(name, torch.tensor(float(node), dtype=torch.float64))
        self._shared[node] = self._step(name)
        return self._shared[node]

    def _step(self, source: Any, *inputs: int) -> int:
        self._steps.append((source, inputs))
        return len(self._steps) - 1


def _function(node: Expr) -> Callable[..., Tensor]:
    """Return what evaluates the outermost function of an expression."""
    kind = type(node)
    if kind in _FUNCTIONS:
        return _FUNCTIONS[kind]
    if hasattr(kind, "spline"):
        return partial(_spline, *kind.spline)
    if hasattr(kind, "_imp_"):
        return cast("Callable[..., Tensor]", kind._imp_)
    raise _refusal(kind.__name__)


def _refusal(name: str) -> MethodError:
    advice = "Evaluate the formula with predict"
    return MethodError("SymbolicResult.pytorch", "functions that torch has", name, advice)


def _spline(edge: Any, order: int, u: Tensor) -> Tensor:
    """Evaluate a spline of the formula, or a derivative of it."""
    apply: Any = _SplineValues.apply
    found: Tensor = apply(u, edge, order)
    return found


class _SplineValues(torch.autograd.Function):
    """A spline that NumPy evaluates, with its exact derivatives of any order."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, edge: Any, order: int) -> Tensor:
        ctx.save_for_backward(u)
        ctx.spline = edge, order
        places = u.detach().cpu().double().numpy()
        values = edge(places) if order == 0 else edge.derivative(places, order)
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(u)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        edge, order = ctx.spline
        return upstream[0] * _spline(edge, order + 1, u), None, None
