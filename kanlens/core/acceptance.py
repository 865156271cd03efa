"""The check that a model is one of kanlens' own."""

from __future__ import annotations

from kanlens.checks import message
from kanlens.core.network import KAN
from kanlens.errors import DTypeError


def check_model(call: str, model: object) -> None:
    """Refuse what is no KAN.

    Raises
    ------
    DTypeError
        If `model` is something else.

    Examples
    --------
    >>> check_model("trace", KAN([1, 1]))
    """
    if not isinstance(model, KAN):
        got, advice = type(model).__name__, "Bring it in with import_model first"
        raise DTypeError(message(call, "a KAN", got, advice))
