"""Input checks: each lets the good through and words its refusal in full."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch

import kanlens
from kanlens import _checks as checks
from kanlens import errors
from kanlens.errors import (
    DataError,
    InvalidValueError,
    MissingDependencyError,
    ShapeError,
    reworded,
)


def refused(error: type[Exception], text: str):
    return pytest.raises(error, match=f"^{re.escape(text)}$")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("zz", "Choose one of: l1, shapley."),
        ("shaply?.", "Did you mean 'shapley'?"),
        (None, "Choose one of: l1, shapley."),
    ],
)
def test_choices(value, advice):
    checks.check_choice("prune", "score", "l1", ["shapley", "l1"])
    text = f"prune: expected score to be one of l1, shapley, got {value!r}. {advice}"
    with refused(InvalidValueError, text):
        checks.check_choice("prune", "score", value, ["shapley", "l1"])


def test_positive_numbers():
    for value in (1, 0.5, 10**400, np.float32(2.0), np.int64(3), 5e-324):
        checks.check_positive("fit", "rate", value)
    for value in (0, -1, math.nan, math.inf, -math.inf, True, "1", None, 1j, torch.ones(())):
        text = f"fit: expected rate to be a positive number, got {value!r}. Pass a number above 0."
        with refused(InvalidValueError, text):
            checks.check_positive("fit", "rate", value)
    checks.check_positive("fit", "rate", 0.0, zero=True)
    text = "fit: expected rate to be a number of at least 0, got -0.1. Pass 0 or a number above 0."
    with refused(InvalidValueError, text):
        checks.check_positive("fit", "rate", -0.1, zero=True)


def test_counts():
    for value in (1, np.int32(4)):
        checks.check_count("fit", "steps", value)
    for value in (0, -3, 1.0, True, "2", None):
        text = (
            f"fit: expected steps to be a whole number of at least 1, got {value!r}. "
            "Pass a whole number such as 1."
        )
        with refused(InvalidValueError, text):
            checks.check_count("fit", "steps", value)


@pytest.mark.parametrize(("shape", "width"), [((16, 4), 3), ((2, 3, 2), 3), ((), 3), ((2, 2), 1)])
def test_columns(shape, width):
    checks.check_columns("f", torch.zeros(width), width)
    features = "1 feature" if width == 1 else "3 features"
    text = (
        f"f: expected x of shape (batch, {width}), got {shape}. The model takes {features}; pass "
        "only those."
    )
    with refused(ShapeError, text):
        checks.check_columns("f", torch.zeros(shape), width)


def test_finite_names_the_first_cell():
    x = torch.zeros(4, 2)
    checks.check_finite("f", x)
    x[2, 1], x[3, 0] = math.nan, -math.inf
    text = (
        "f: expected finite numbers, got nan at row 2, column 'b' (2 such cells). "
        "Drop or impute those rows."
    )
    with refused(DataError, text):
        checks.check_finite("f", x, ["a", "b"])


@pytest.mark.parametrize(
    ("x", "where"),
    [
        (torch.tensor(math.inf), ""),
        (torch.tensor([0.0, math.inf]), " at row 1"),
        (torch.tensor([[0.0, math.inf]]), " at row 0, column 1"),
    ],
)
def test_finite_of_any_number_of_axes(x, where):
    text = f"f: expected finite numbers, got inf{where} (1 such cell). Drop or impute those rows."
    with refused(DataError, text):
        checks.check_finite("f", x)


def test_reworded_keeps_the_class_and_the_reason():
    error = reworded("prune", DataError("trace: x", "a: b", "c", "Do d"))
    assert type(error) is DataError
    assert str(error) == "prune: expected a: b, got c. Do d."
    assert type(reworded("load", error, ShapeError)) is ShapeError
    again = reworded("fit", reworded("prune", error, part="others['b']"))
    assert str(again) == "fit: others['b']: expected a: b, got c. Do d."
    assert str(copy.copy(again)) == str(again) == again.args[0]


ERRORS = [one for one in vars(errors).values() if hasattr(one, "reason")]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_holds_what_it_says(kind):
    fields = ("fit", "below 1", "2", "Lower it", "pass {resume}")
    error = kind(*fields, argument="fraction", resume=True)
    problem = "expected fraction below 1, got 2"
    if kind is errors.InterruptedWarning:
        problem = "interrupted"
    text = f"fit: {problem}. Lower it, or pass resume=True."
    for one in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert type(one) is kind
        assert (str(one), one.args) == (text, (text,))
        assert (one.call, one.expected, one.got, *one.advice) == fields
        assert (one.argument, one.settings) == ("fraction", {"resume": True})
        assert one.reason == text.removeprefix("fit: ")
    with pytest.raises(kind.__mro__[-4 if issubclass(kind, Warning) else 2]):
        raise error


def test_advice_is_left_out_where_it_cannot_be_followed():
    error = DataError("fit", "{a} to be", "{a}", "Pass {a}", "do b", a=1)
    assert str(error) == "fit: expected a=1 to be, got {a}. Pass a=1, or do b."
    error.write = lambda name, value: None
    assert str(error) == "fit: expected a=1 to be, got {a}. Do b."
    error = reworded("train", DataError("fit", "b", "c", "Pass {a}", argument="a", a=...))
    assert str(error) == "train: expected a b, got c. Pass a=...."
    error.write = lambda name, value: f"--{name}"
    assert str(reworded("run", error)) == "run: expected --a b, got c. Pass --a."


def test_nearest_is_the_only_one_that_contains_it():
    names = ["yearly income (EUR)", "age", "visits", "visits abroad"]
    assert checks.nearest("Income", names) == "yearly income (EUR)"
    assert checks.nearest("bro", names) == "visits abroad"
    assert checks.nearest("visits", ["visits of friends at home", "visits of friends away"]) is None


def test_nearest_of_nothing_like_it():
    assert checks.nearest("qqq", ["a", "b"]) is None


X = torch.zeros(4, 1)


@pytest.mark.parametrize(
    ("call", "refused"),
    [
        ("KAN", lambda wrong: kanlens.KAN([1, 1], generator=wrong)),
        ("KANLinear", lambda wrong: kanlens.KANLinear(1, 1, generator=wrong)),
        ("fit", lambda wrong: kanlens.fit(kanlens.KAN([1, 1]), (X, X), generator=wrong)),
        (
            "sparsity_path",
            lambda wrong: kanlens.sparsity_path(kanlens.KAN([1, 1]), (X, X), generator=wrong),
        ),
        ("report", lambda wrong: kanlens.report(kanlens.KAN([1, 1]), X, generator=wrong)),
    ],
)
@pytest.mark.parametrize("wrong", [0, "abc"])
def test_what_is_no_generator_is_refused_by_every_call_that_draws(call, refused, wrong):
    text = f"{call}: expected generator as a torch.Generator, got {wrong!r}. "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        refused(wrong)


def test_a_missing_optional_package_is_told_with_its_extra():
    text = (
        "export: expected the package kanlens_lacks, got none. "
        "Install it with pip install 'kanlens[export]'."
    )
    with refused(MissingDependencyError, text):
        checks.optional_module("kanlens_lacks", call="export", extra="export")


def test_version_of_a_package_that_is_installed_or_not():
    assert checks.version_of("numpy") == np.__version__
    assert checks.version_of("no-such-package-of-kanlens") == "unknown"
