"""What the package claims of attributions is measured, and a broken method is noticed."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.attribution import claims
from benchmarks.harness import Setup

TIMED = {"a pair", "exact Shapley values", "times as fast"}


def run(kind):
    return claims.CLAIMS.run(Setup(smoke=True), (kind,))


@pytest.mark.parametrize(
    "kind", ["completeness", "additive", "cosines", "planted_games", "deep_lift", "speed"]
)
@pytest.mark.slow  # many cases
def test_claims_are_kept(kind):
    found = run(kind)
    assert found
    for row in found:
        if not any(row["what"].endswith(word) for word in TIMED):  # not on a busy machine
            assert row["kept"] is not False, row["what"]


def test_captums_own_deep_lift_is_off():
    stock, edge_view = run("deep_lift")
    assert stock["figure"] > 5
    assert edge_view["figure"] < 1e-12


@pytest.mark.parametrize("kind", ["completeness", "additive", "cosines", "deep_lift"])
@pytest.mark.slow  # many cases
def test_teeth_a_broken_method_keeps_no_claim(kind, monkeypatch):
    attribute = claims.attribute

    def broken(*arguments, **options):
        found = attribute(*arguments, **options)
        if options.get("algorithm") == "enumeration":  # the truth
            return found
        return dataclasses.replace(found, values=found.values * (1 + 1e-4))

    monkeypatch.setattr(claims, "attribute", broken)
    assert any(row["kept"] is False for row in run(kind))
