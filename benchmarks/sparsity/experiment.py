"""What every experiment of the sparsity benchmark is: units of work that fill tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.campaign import Key, Part, Plan, Setup, Tables, data_beside_checkout
from benchmarks.sparsity.planted import PLANTED
from benchmarks.sparsity.problems import NAMES, problem
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

STAMP = ("date", "kanlens", "torch", "cpu")  # columns that say where and when a row was made
TEXT = (
    *STAMP,
    "problem",
    "penalty",
    "tuned",
    "optimizer",
    "scale",
    "start",
    "recipe",
    "score",
    "arm",
)


@dataclass(frozen=True, kw_only=True)
class Experiment(Part):
    """One question, answered by tables whose names stand here.

    Attributes
    ----------
    columns : dict of str to sequence of str
        Columns of each table, by the name of its file without suffix.
    run : callable
        From a `Setup` and a key to the rows of each table.
    """

    columns: Mapping[str, Sequence[str]]
    run: Callable[[Setup, Key], Tables]
    text: tuple[str, ...] = TEXT

    @property
    def tables(self) -> Mapping[str, Sequence[str]]:
        """Columns of each table, by the name of its file without suffix."""
        return self.columns

    def rows(self, setup: Setup, key: Key) -> Tables:
        """Run a unit and return its rows of each table."""
        return self.run(setup, key)


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
