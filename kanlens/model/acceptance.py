"""Check that a model is one of kanlens' own, or an estimator that holds one."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from kanlens.errors import DTypeError, message, rewording
from kanlens.model.network import KAN


class HasNetwork(Protocol):
    """A fitted estimator: `network_` is the KAN it predicts with."""

    @property
    def network_(self) -> KAN:
        """The network; refused before the estimator is fitted."""
        ...


Model: TypeAlias = KAN | HasNetwork


def held_network(call: str, given: Any) -> Any:
    """Return the network of a fitted estimator; whatever else was given, as it is."""
    if not hasattr(type(given), "network_"):
        return given
    with rewording(call):
        return given.network_


def check_model(call: str, model: object) -> KAN:
    """Return the KAN that was given, or that a fitted estimator holds; refuse all else."""
    found = held_network(call, model)
    if not isinstance(found, KAN):
        got, advice = type(found).__name__, "Bring it in with import_model first"
        raise DTypeError(message(call, "a KAN", got, advice))
    return found
