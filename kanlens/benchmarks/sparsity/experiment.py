"""What every experiment of the sparsity benchmark is: units of work that fill tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from kanlens.benchmarks.sparsity.planted import PLANTED
from kanlens.benchmarks.sparsity.problems import NAMES, problem
from kanlens.errors import MissingFileError

__all__ = [
    "STAMP",
    "Experiment",
    "Key",
    "Plan",
    "Setup",
    "Tables",
    "data_beside_checkout",
    "plan_problems",
]

Key: TypeAlias = tuple[Any, ...]
Tables: TypeAlias = dict[str, list[dict[str, Any]]]  # rows by table

STAMP = ("date", "kanlens", "torch", "cpu")  # columns that say where and when a row was made


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the user chose.

    Attributes
    ----------
    seeds : tuple of int
        Seeds of the repetitions.
    data : Path, optional
        Folder of the data; problems that need it are left out without it.
    smoke : bool
        Everything tiny, to see that it runs; the numbers mean nothing.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    data: Path | None = None
    smoke: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The units of an experiment, and what is left out.

    Attributes
    ----------
    keys : tuple of tuple
        One key per unit of work.
    skipped : dict of str to str
        What is left out, and why.
    """

    keys: tuple[Key, ...]
    skipped: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question and how it is answered.

    Attributes
    ----------
    name, question : str
        Its name on the command line, and what it asks.
    columns : dict of str to sequence of str
        Columns of each table, by the name of its file without suffix. The first table is stored
        last, so that a unit which is in it is whole.
    keys : tuple of str
        The columns that name a unit, in all tables.
    plan : callable
        From a `Setup` to a `Plan`.
    run : callable
        From a `Setup` and a key to the rows of each table.
    alone : bool
        Whether it measures time and must not share the machine with other units.
    """

    name: str
    question: str
    columns: Mapping[str, Sequence[str]]
    keys: tuple[str, ...]
    plan: Callable[[Setup], Plan]
    run: Callable[[Setup, Key], Tables]
    alone: bool = False


def data_beside_checkout() -> Path | None:
    """Return the folder of the data when it lies beside a checkout of kanlens, else None."""
    folder = Path(__file__).parents[4] / "shared" / "data"
    return folder if folder.is_dir() else None


def plan_problems(setup: Setup, *parts: Sequence[Any], names: Sequence[str] = NAMES) -> Plan:
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
    import itertools

    there, skipped = [], {}
    for name in names:
        try:
            there.append(problem(name, setup.data).name)
        except MissingFileError as error:
            if not (setup.smoke and name not in PLANTED):
                skipped[name] = str(error)
    keys = tuple(itertools.product(there, *parts, setup.seeds))
    return Plan(keys=keys, skipped=skipped)
