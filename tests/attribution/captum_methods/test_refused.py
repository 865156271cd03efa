"""Captum's methods that say something else than they seem to on a KAN are refused."""

from __future__ import annotations

import pytest

from kanlens.attribution import METHODS, attribute
from kanlens.attribution.captum_methods.table import CAPTUM_METHODS
from kanlens.attribution.registry import REFUSED
from kanlens.errors import MethodError


@pytest.mark.parametrize("method", sorted(REFUSED))
def test_refused_with_the_reason(method, network, draw):
    with pytest.raises(MethodError, match=f"about a KAN, got {method!r}"):
        attribute(network([2, 1]), draw(2, 2), method=method, background=draw(2, 2))


def test_no_method_is_both_there_and_refused():
    assert len(REFUSED) == 15
    assert not REFUSED & set(METHODS)
    assert {method.name for method in CAPTUM_METHODS.values()} <= set(METHODS)
