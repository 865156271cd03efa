"""Options of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Real

import numpy as np

from kanlens._checks import check_choice, check_count, check_positive
from kanlens.data._schema import Schema
from kanlens.errors import InvalidValueError
from kanlens.model._losses import LOSSES
from kanlens.sparsity import PENALTIES

OPTIMIZERS = ("lbfgs", "adam", "adamw")
LEARNING_RATES = {"lbfgs": 1.0, "adam": 1e-2, "adamw": 1e-2}
ENTROPY_WEIGHT = 2.0

PenaltyChoice = str | Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of one training run, for `kanlens.fit`.

    Options that are out of range, or that would have no effect, are refused.

    Attributes
    ----------
    optimizer : {"lbfgs", "adam", "adamw"}
        LBFGS uses all rows at once, with a strong-Wolfe line search; the others use batches and a
        learning rate that falls along a cosine.
    steps : int
        Steps of LBFGS (ten iterations each), or passes over the data.
    learning_rate : float, optional
        Default 1 for LBFGS and 0.01 for the others.
    batch_size : int
        Rows of one batch; not for LBFGS.
    weight_decay : float
        Weight decay of AdamW.
    penalty : str or dict of str to float, optional
        Sum over the edges of a norm of `kanlens.sparsity`: ``"activation_l1"`` (the paper's),
        ``"activation_l2"`` (the standard deviation of the function), both over the rows of a step,
        ``"weight_l1"`` (around each edge's mean over the grid), ``"raw_l1"`` (efficient-kan's) or
        ``"curvature"``; or several with their weights.
    strength : float
        Factor of the penalty; 0 for none.
    entropy_weight : float, optional
        Factor of the norms' entropy in the penalty, except curvature. Default 2, and 0 with a
        proximal step, which allows no other.
    proximal : bool
        Make edges exactly zero, with ``"activation_l2"``: see `kanlens.training._proximal`. They
        stay zero until the slope of the loss outweighs the penalty.
    validation : float
        Share of rows held out.
    patience : int
        Steps without improvement after which training ends.
    grid_updates : int
        Number of grid updates, evenly spaced over the first half of the steps. At the end grids are
        updated once more if hidden values have left them and the loss does not rise.
    scale : bool, optional
        Set the scaling from the data. Default: only when the model has never been scaled.
    constraints : mapping of column names, optional
        "increasing" or "decreasing": raising the column never lowers, or never raises, an output.
        Not for LBFGS.

    Raises
    ------
    InvalidValueError
        If an option is out of range or would have no effect.

    Examples
    --------
    >>> FitOptions(optimizer="adam").rate
    0.01
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
    constraints: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.penalty, Mapping):
            object.__setattr__(self, "penalty", dict(self.penalty))
        check_choice("fit", "optimizer", self.optimizer, OPTIMIZERS)
        for name, least in (("steps", 0), ("batch_size", 1), ("patience", 1), ("grid_updates", 0)):
            check_count("fit", name, getattr(self, name), least=least)
        check_positive("fit", "learning_rate", self.rate)
        check_positive("fit", "weight_decay", self.weight_decay, zero=True)
        check_positive("fit", "strength", self.strength, zero=True)
        check_positive("fit", "validation", self.validation, zero=True)
        check_positive("fit", "entropy_weight", self.entropy, zero=True)
        if self.validation >= 1:
            expected, got = "to be a share below 1", repr(self.validation)
            raise InvalidValueError("fit", expected, got, "For example 0.2", argument="validation")
        if not isinstance(self.penalty, (str, Mapping, type(None))):
            expected, got = "to be a name, or a dict of weights", repr(self.penalty)
            advice = "For example {'activation_l1': 1.0, 'curvature': 1e-3}"
            raise InvalidValueError("fit", expected, got, advice, argument="penalty")
        for name, weight in self.weights.items():
            check_choice("fit", "penalty", name, PENALTIES)
            check_positive("fit", f"the weight of {name}", weight)
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Refuse options that would have no effect."""
        if self.strength and not self.weights:
            expected, penalty = "a penalty for the strength", sorted(PENALTIES)[0]
            raise InvalidValueError("fit", expected, "none", "Choose {penalty}", penalty=penalty)
        if self.weight_decay and self.optimizer != "adamw":
            expected, advice = "only with the optimizer 'adamw'", "Choose adamw, or leave it out"
            got = f"{self.weight_decay} with {self.optimizer!r}"
            raise InvalidValueError("fit", expected, got, advice, argument="weight_decay")
        if self.constraints and self.optimizer == "lbfgs":  # whose curvature they would spoil
            expected, got = "a first-order optimizer for constraints", "'lbfgs'"
            raise InvalidValueError("fit", expected, got, "Pass {optimizer}", optimizer="adam")
        if self.proximal and "activation_l2" not in self.weights:
            expected, got = "the penalty 'activation_l2' for a proximal step", repr(self.penalty)
            either = "Choose that penalty", "pass {proximal}"
            raise InvalidValueError("fit", expected, got, *either, proximal=False)
        if self.proximal and self.entropy:
            expected, got = "no entropy with a proximal step", f"a weight of {self.entropy}"
            raise InvalidValueError("fit", expected, got, "Pass {entropy_weight}", entropy_weight=0)

    @property
    def rate(self) -> float:
        """The learning rate, by default that of the optimizer."""
        default = LEARNING_RATES[self.optimizer]
        return default if self.learning_rate is None else self.learning_rate

    @property
    def entropy(self) -> float:
        """The weight of the entropy, by default 2, and 0 with a proximal step."""
        default = 0.0 if self.proximal else ENTROPY_WEIGHT
        return default if self.entropy_weight is None else self.entropy_weight

    @property
    def weights(self) -> dict[str, float]:
        """The norms of the penalty with their weights."""
        if self.penalty is None:
            return {}
        return {self.penalty: 1.0} if isinstance(self.penalty, str) else dict(self.penalty)

    def grid_steps(self) -> set[int]:
        """Return the steps before which the grids are updated."""
        last = max(1, self.grid_updates - 1)
        return {i * self.steps // (2 * last) for i in range(self.grid_updates)}


def choose_loss(
    schema: Schema,
    loss: str | None,
    quantile: float | Sequence[float] | None,
    power: float | None,
    *,
    call: str,
) -> Schema:
    """Return a schema with a loss; unchanged if `loss` is None."""
    for name, own, value in (("quantile", "quantile", quantile), ("power", "tweedie", power)):
        if value is not None and loss != own:
            got, advice = f"{name}={value!r} with loss={loss!r}", f"Pass loss={own!r}"
            raise InvalidValueError(call, f"{name} only with loss={own!r}", got, advice)
    if loss is None:
        return schema
    check_choice(call, "loss", loss, LOSSES)
    levels = [] if quantile is None else np.ravel(quantile).tolist()
    sound = all(isinstance(level, int | float) for level in levels)
    sound = sound and all(low < high for low, high in pairwise([0, *levels, 1]))
    if not sound or (quantile is not None and not levels):
        fields = "to be shares between 0 and 1, increasing", repr(quantile), "For example 0.9"
        raise InvalidValueError(call, *fields, argument="quantile")
    if power is not None and not (isinstance(power, Real) and 1 <= power <= 2):
        fields = "to be from 1 to 2", repr(power), "Pass 1 (Poisson), 2 (gamma) or a number between"
        raise InvalidValueError(call, *fields, argument="power")
    parameter = tuple(levels) if len(levels) > 1 else levels[0] if levels else power
    return replace(schema, loss=loss, loss_parameter=parameter)
