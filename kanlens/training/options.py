"""The choices of one training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kanlens.checks import check_choice, check_count, check_positive
from kanlens.errors import InvalidValueError
from kanlens.sparsity import PENALTIES

OPTIMIZERS = ("lbfgs", "adam", "adamw")
LEARNING_RATES = {"lbfgs": 1.0, "adam": 1e-2, "adamw": 1e-2}
ENTROPY_WEIGHT = 2.0

PenaltyChoice = str | Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The choices of one run, as `kanlens.fit` takes them; a checkpoint belongs to exactly these.

    Choices are refused that are outside what they may be, or would have no effect.
    """

    optimizer: str = "lbfgs"
    steps: int = 100
    learning_rate: float | None = None
    batch_size: int = 256
    weight_decay: float = 0.0
    penalty: PenaltyChoice = None
    strength: float = 0.0
    entropy_weight: float | None = None
    proximal: bool = False
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
        check_positive("fit", "learning_rate", self.rate)
        for name in ("weight_decay", "strength", "validation"):
            check_positive("fit", name, getattr(self, name), zero=True)
        check_positive("fit", "entropy_weight", self.entropy, zero=True)
        if self.validation >= 1:
            expected, got = "to be a share below 1", repr(self.validation)
            raise InvalidValueError("fit", expected, got, "For example 0.2", argument="validation")
        self._check_penalty()
        self._refuse_idle()

    @property
    def rate(self) -> float:
        """The learning rate: the one given, else the optimizer's usual one."""
        if self.learning_rate is None:
            return LEARNING_RATES[self.optimizer]
        return self.learning_rate

    @property
    def entropy(self) -> float:
        """The weight of the entropy: the one given, else 2, and none beside a proximal step."""
        if self.entropy_weight is None:
            return 0.0 if self.proximal else ENTROPY_WEIGHT
        return self.entropy_weight

    @property
    def weights(self) -> dict[str, float]:
        """The norms of the penalty with their weights."""
        if self.penalty is None:
            return {}
        return {self.penalty: 1.0} if isinstance(self.penalty, str) else dict(self.penalty)

    def _check_penalty(self) -> None:
        if not isinstance(self.penalty, (str, Mapping, type(None))):
            expected, got = "to be a name, or a dict of weights", repr(self.penalty)
            advice = "For example {'activation_l1': 1.0, 'curvature': 1e-3}"
            raise InvalidValueError("fit", expected, got, advice, argument="penalty")
        for name, weight in self.weights.items():
            check_choice("fit", "penalty", name, PENALTIES)
            check_positive("fit", f"the weight of {name}", weight)

    def _refuse_idle(self) -> None:
        """Refuse choices that would silently have no effect."""
        if self.strength and not self.weights:
            expected, penalty = "a penalty for the strength", sorted(PENALTIES)[0]
            raise InvalidValueError("fit", expected, "none", "Choose {penalty}", penalty=penalty)
        if self.weight_decay and self.optimizer != "adamw":
            expected, advice = "only with the optimizer 'adamw'", "Choose adamw, or leave it out"
            got = f"{self.weight_decay} with {self.optimizer!r}"
            raise InvalidValueError("fit", expected, got, advice, argument="weight_decay")
        if self.proximal and "activation_l2" not in self.weights:
            expected, got = "the penalty 'activation_l2' for a proximal step", repr(self.penalty)
            either = "Choose that penalty", "pass {proximal}"
            raise InvalidValueError("fit", expected, got, *either, proximal=False)
        if self.proximal and self.entropy:
            expected, got = "no entropy beside a proximal step", f"a weight of {self.entropy}"
            raise InvalidValueError("fit", expected, got, "Pass {entropy_weight}", entropy_weight=0)

    def grid_steps(self) -> set[int]:
        """Return the steps before which grids move to the data: from the first to half way."""
        last = max(1, self.grid_updates - 1)
        return {i * self.steps // (2 * last) for i in range(self.grid_updates)}
