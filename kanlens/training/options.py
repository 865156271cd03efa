"""The choices of one training run."""

from __future__ import annotations

from dataclasses import dataclass

from kanlens.checks import check_choice, check_count, check_positive, message
from kanlens.errors import InvalidValueError
from kanlens.sparsity import PENALTIES

__all__ = ["LEARNING_RATES", "OPTIMIZERS", "Options"]

OPTIMIZERS = ("lbfgs", "adam", "adamw")
LEARNING_RATES = {"lbfgs": 1.0, "adam": 1e-2, "adamw": 1e-2}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The choices of one run, as `kanlens.fit` takes them; a checkpoint belongs to exactly these.

    Raises
    ------
    InvalidValueError
        If a choice is outside what it may be, or would have no effect.
    """

    optimizer: str = "lbfgs"
    steps: int = 100
    learning_rate: float = 1.0
    batch_size: int = 256
    weight_decay: float = 0.0
    penalty: str | None = None
    strength: float = 0.0
    entropy_weight: float = 2.0
    validation: float = 0.2
    patience: int = 20
    grid_updates: int = 5
    scale: bool | None = None

    def __post_init__(self) -> None:
        check_choice("fit", "optimizer", self.optimizer, OPTIMIZERS)
        check_count("fit", "steps", self.steps, least=0)
        check_count("fit", "batch_size", self.batch_size)
        check_count("fit", "patience", self.patience)
        check_count("fit", "grid_updates", self.grid_updates, least=0)
        check_positive("fit", "learning_rate", self.learning_rate)
        for name in ("weight_decay", "strength", "entropy_weight", "validation"):
            check_positive("fit", name, getattr(self, name), zero=True)
        if self.validation >= 1:
            expected, got = "validation to be a share below 1", repr(self.validation)
            raise InvalidValueError(message("fit", expected, got, "For example 0.2"))
        if self.penalty is not None:
            check_choice("fit", "penalty", self.penalty, PENALTIES)
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Refuse choices that would silently have no effect."""
        if self.strength and self.penalty is None:
            expected, got = "a penalty for the strength", f"strength={self.strength} without one"
            advice = f"Choose penalty={sorted(PENALTIES)[0]!r}"
            raise InvalidValueError(message("fit", expected, got, advice))
        if self.weight_decay and self.optimizer != "adamw":
            expected = "weight_decay with optimizer='adamw' only"
            got = f"{self.weight_decay} with {self.optimizer!r}"
            raise InvalidValueError(message("fit", expected, got, "Choose adamw, or leave it out"))

    def grid_steps(self) -> set[int]:
        """Return the steps before which grids move to the data: from the first to half way.

        Examples
        --------
        >>> sorted(Options(steps=20, grid_updates=5).grid_steps())
        [0, 2, 5, 7, 10]
        """
        last = max(1, self.grid_updates - 1)
        return {i * self.steps // (2 * last) for i in range(self.grid_updates)}
