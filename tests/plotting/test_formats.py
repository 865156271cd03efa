from __future__ import annotations

from typing import Any

import pytest

from kanlens.plotting._formats import FILTERS, tick

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
CASES: dict[str, dict[Any, str]] = {
    "number": {
        1234: "1,234",
        0.123456: "0.123",
        12345.6: "12,346",
        None: DASH,
        -45.678: f"{MINUS}45.7",
        2.5e-7: "2.5\N{MULTIPLICATION SIGN}10⁻⁷",
        0.0: "0",
        float("inf"): DASH,
        True: DASH,
    },
    "signed": {0.5: "+0.500", -2.0: f"{MINUS}2.00", 0.0: "0", None: DASH},
    "fixed": {1.0: "1.00", -0.097: f"{MINUS}0.10", None: DASH},
    "percent": {
        0.1234: "12.3%",
        0.0: "0%",
        0.00001: "<0.1%",
        1.0: "100%",
        0.99999: ">99.9%",
        None: DASH,
    },
    "tiny": {3e-16: "<10⁻¹²", 0.0: "0%", 0.0123: "1.2%", None: DASH},
    "shade": {1.0: 60, 0.5: 30, -0.2: 0, None: 0},
    "listed": {("a",): "a", ("a", "b", "c"): "a, b and c", (): ""},
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_and_names_are_written_as_people_read_them(name):
    write: Any = FILTERS[name]
    assert {value: write(value) for value in CASES[name]} == CASES[name]


def test_words_around_them():
    filters: dict[str, Any] = FILTERS
    assert filters["listed"](["a", "b", "c"], most=2) == "a, b and 1 other"
    assert filters["listed"](["a", "b", "c", "d"], most=2) == "a, b and 2 others"
    assert filters["with_unit"]("3", "mm") == "3\N{NO-BREAK SPACE}mm"
    assert filters["with_unit"]("3", "") == "3"
    counted = filters["counted"]
    assert (counted(1, "row"), counted(2000, "row")) == ("1 row", "2,000 rows")
    assert counted(2, "class", "classes") == "2 classes"


def test_ticks_set_off_thousands_from_five_digits_on():
    values = (2020, -1500, 10000, 123456.5, 2021.5, 0)
    texts = ["2020", f"{MINUS}1500", "10,000", "123,456.5", "2021.5", "0"]
    assert [tick(value) for value in values] == texts
