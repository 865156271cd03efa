"""What tests of several rooms share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawing of reports out, which other tests are about: most of their time."""
    monkeypatch.setattr("kanlens.reporting.writing._page", lambda *_: "<!DOCTYPE html>\n")
