"""The problems of the sparsity benchmark: functions and tables with inputs that do not matter."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.data import TABLES, data_file, rows_of, there
from benchmarks.equations import read_equations
from benchmarks.harness import Setup, Units
from benchmarks.sparsity.planted import PLANTED, Masks, graph_of_product
from kanlens.checks import check_choice

__all__ = ["NAMES", "Data", "RowCounts", "SparsityProblem", "plan_problems", "problem"]

NOISE = 0.3  # deviation of the noise on training targets, in deviations of the function
SHUFFLED = 4  # columns added to a real table, each a shuffled copy of one of its own
HIDDEN = 5  # width of the networks trained on equations and tables

EQUATIONS = {"I.34.8": 8, "I.12.11": 5}  # and the irrelevant inputs of each
NAMES = (*PLANTED, *EQUATIONS, "concrete", "california_housing")
Pair = tuple[Tensor, Tensor]  # x (rows, in) and y (rows, 1)


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """How many rows of each kind a problem hands out, at most."""

    train: int = 400
    validation: int = 200
    test: int = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """RowCounts of one problem, float64.

    Attributes
    ----------
    train, validation : (Tensor, Tensor)
        x (rows, in) and y (rows, 1) with noise: to fit on, and to choose by.
    test : (Tensor, Tensor)
        The same without noise where the function is known.
    """

    train: Pair
    validation: Pair
    test: Pair


@dataclass(frozen=True, kw_only=True, eq=False)
class SparsityProblem:
    """A function or a table, and what is known of its structure.

    Attributes
    ----------
    name, formula : str
        Its name, and the function or the target in words.
    widths : tuple of int
        Of the network that is trained.
    relevant : tuple of int
        Inputs the function depends on; those of a table that are its own columns.
    masks : tuple of Tensor, or None
        The true edges, where they are known.
    draw : callable
        ``draw(rows, generator)`` returns `Data`.
    """

    name: str
    formula: str
    widths: tuple[int, ...]
    relevant: tuple[int, ...]
    masks: Masks | None
    draw: Callable[[RowCounts, torch.Generator], Data]

    @property
    def true_edges(self) -> int:
        """Number of true edges; 0 where they are not known."""
        return 0 if self.masks is None else sum(int(mask.sum()) for mask in self.masks)

    def data(self, seed: int, rows: RowCounts | None = None) -> Data:
        """Draw the rows of one seed.

        Examples
        --------
        >>> problem("composed").data(0).train[0].shape
        torch.Size([400, 10])
        """
        return self.draw(rows or RowCounts(), torch.Generator().manual_seed(seed))


def problem(name: str, folder: Path | None = None) -> SparsityProblem:
    """Return one of the problems.

    Parameters
    ----------
    name : str
        One of ``NAMES``.
    folder : Path, optional
        Where feynman.csv and tabular/ lie; planted problems need none.

    Returns
    -------
    SparsityProblem

    Raises
    ------
    InvalidValueError
        If there is no problem of that name.
    MissingFileError
        If its data is not there.

    Examples
    --------
    >>> problem("composed").formula
    'exp(sin(pi x1) + x2^2)'
    """
    check_choice("benchmarks sparsity", "problem", name, NAMES)
    if name in PLANTED:
        return _planted(name)
    if name in EQUATIONS:
        return _equation(name, data_file(folder, "feynman.csv"))
    return _with_shuffled(name, *rows_of(name, folder))


def _planted(name: str) -> SparsityProblem:
    plant = PLANTED[name]
    return SparsityProblem(
        name=name,
        formula=plant.formula,
        widths=plant.widths,
        relevant=plant.relevant,
        masks=plant.masks,
        draw=_drawn(plant, plant.draw),
    )


def _drawn(
    function: Callable[[Tensor], Tensor], inputs: Callable[[int, torch.Generator], Tensor]
) -> Callable[[RowCounts, torch.Generator], Data]:
    """Return what draws inputs, and noisy targets for all but the test rows."""

    def draw(rows: RowCounts, generator: torch.Generator) -> Data:
        counts = [rows.train, rows.validation, rows.test]
        x = inputs(sum(counts), generator)
        y = function(x)[:, None]
        noise = torch.randn(*y.shape, generator=generator, dtype=torch.float64)
        noise[rows.train + rows.validation :] = 0
        y = y + NOISE * y.std() * noise
        train, validation, test = zip(x.split(counts), y.split(counts), strict=True)
        return Data(train=train, validation=validation, test=test)

    return draw


def _equation(name: str, path: Path) -> SparsityProblem:
    known = {each.name: each for each in read_equations(path, "feynman")}
    found = known[name]
    count = len(found.variables)
    ends = [*found.ranges, *[(1.0, 5.0)] * EQUATIONS[name]]
    low, high = torch.tensor(ends, dtype=torch.float64).T

    def inputs(rows: int, generator: torch.Generator) -> Tensor:
        share = torch.rand(rows, len(ends), generator=generator, dtype=torch.float64)
        return torch.lerp(low, high, share)

    def function(x: Tensor) -> Tensor:
        return torch.as_tensor(found.values(x[:, :count].numpy()))

    return SparsityProblem(
        name=name,
        formula=found.text,
        widths=(len(ends), HIDDEN, 1),
        relevant=tuple(range(count)),
        masks=graph_of_product(count, len(ends)) if found.tier == "1" else None,
        draw=_drawn(function, inputs),
    )


def _with_shuffled(name: str, x: Tensor, y: Tensor) -> SparsityProblem:
    """Return a real table with columns added that are shuffled, and so irrelevant."""
    own = x.shape[1]

    def draw(rows: RowCounts, generator: torch.Generator) -> Data:
        order = torch.randperm(len(x), generator=generator)
        columns = torch.randperm(own, generator=generator)[:SHUFFLED]
        copies = [x[torch.randperm(len(x), generator=generator), i] for i in columns]
        wide, target = torch.column_stack([x, *copies])[order], y[order]
        counts = _shares(len(x), rows)
        train, validation, test = zip(
            wide[: sum(counts)].split(counts), target[: sum(counts)].split(counts), strict=True
        )
        return Data(train=train, validation=validation, test=test)

    return SparsityProblem(
        name=name,
        formula=f"{TABLES[name]} of {len(x)} rows",
        widths=(own + SHUFFLED, HIDDEN, 1),
        relevant=tuple(range(own)),
        masks=None,
        draw=draw,
    )


def _shares(available: int, rows: RowCounts) -> list[int]:
    """Return how many rows to train, choose and test on: all asked for, or a share of what is."""
    asked = [rows.train, rows.validation, rows.test]
    if sum(asked) <= available:
        return asked
    part = [int(available * share) for share in (0.6, 0.2)]
    return [*part, available - sum(part)]


def plan_problems(setup: Setup, *parts: Sequence[Any], names: Sequence[str] = NAMES) -> Units:
    """Return one unit per problem that is there, per choice of each part, and per seed.

    Parameters
    ----------
    setup : Setup
        Gives seeds and data.
    *parts : sequence
        Choices of the key's other places, between problem and seed.
    names : sequence of str
        The problems.

    Examples
    --------
    >>> plan = plan_problems(Setup(seeds=(0,)), ["on", "off"], names=["composed", "concrete"])
    >>> plan.keys
    (('composed', 'on', 0), ('composed', 'off', 0))
    >>> list(plan.skipped)
    ['concrete']
    """
    found, missing = there(names, lambda name: problem(name, setup.data))
    skipped = {k: why for k, why in missing.items() if not setup.smoke or k in PLANTED}
    keys = tuple(itertools.product(found, *parts, setup.seeds))
    return Units(keys=keys, skipped=skipped)
