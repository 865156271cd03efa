"""Domains are read by shape and by name; every other one is refused in one clear line."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.certificates._certify import read_domain
from kanlens.errors import DataError, DTypeError, InvalidValueError, ShapeError

NAMES = ("age", "dose")


@pytest.mark.parametrize(
    "domain",
    [
        torch.tensor([[0.0, 1.0], [2.0, 2.0]]),
        np.array([[0, 1], [2, 2]]),
        [[0, 1], [2, 2]],
        {"dose": (2, 2), "age": (0, 1)},
        {"dose": [2.0, 2.0], "age": np.array([0, 1])},
    ],
)
def test_a_domain_by_shape_or_by_name(domain):
    found = read_domain(domain, NAMES)
    assert found.dtype == torch.float64
    assert found.tolist() == [[0.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize(
    ("domain", "error", "text"),
    [
        ({"age": (0, 1)}, InvalidValueError, "got none for dose"),
        ({"age": (0, 1), "dsoe": (0, 1)}, InvalidValueError, "among age, dose, got 'dsoe'"),
        ({"age": (0, 1), "dose": (3, 1)}, InvalidValueError, "end of 'dose' first, got 3.0 to 1.0"),
        ({"age": (0, 1), "dose": 3}, DTypeError, "certify: expected two numbers for 'dose', got 3"),
        (torch.tensor([[0.0, float("nan")], [0.0, 1.0]]), DataError, "for 'age', got 0.0 to nan"),
        (torch.tensor([[0.0, 1.0], [0.0, float("inf")]]), DataError, "for 'dose', got 0.0 to inf"),
        (torch.zeros(3, 2), ShapeError, "certify: expected a domain of shape (2, 2), got (3, 2)"),
        ("everything", DTypeError, "of numbers: a tensor (in, 2), or {name: (low, high)}, got str"),
        ([["0", "1"], ["0", "1"]], DTypeError, "tensor (in, 2), or {name: (low, high)}, got list"),
        ({"age": "01", "dose": (0, 1)}, DTypeError, "expected two numbers for 'age', got '01'"),
        (
            torch.zeros(2, 2, dtype=torch.complex64),
            DTypeError,
            "certify: expected a domain of numbers: a tensor (in, 2), or {name: (low, high)}, got"
            " torch.complex64 (torch.strided, cpu). Give two numbers per feature.",
        ),
        (None, DTypeError, "of numbers: a tensor (in, 2), or {name: (low, high)}, got NoneType"),
        (pd.DataFrame({"age": [0, 1], "dose": [2, 3]}), DTypeError, "got a DataFrame"),
    ],
)
def test_a_domain_that_is_none_is_refused_in_one_line(domain, error, text):
    with pytest.raises(error, match=re.escape(text)):
        read_domain(domain, NAMES)


@pytest.mark.slow  # proves bounds
def test_ranges_that_are_not_named_are_those_of_the_training():
    x = 3 * torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = kanlens.KAN([2, 1], feature_names=NAMES).double()
    kanlens.fit(model, (x, x[:, :1]), steps=1, validation=0.0, progress=False)
    ends = torch.stack(x.aminmax(dim=0), dim=1)
    whole = kanlens.certify(model, max_boxes=4, progress=False)
    assert_close(whole.domain, ends, rtol=1e-12, atol=0)
    part = kanlens.certify(model, {"dose": (0, 1)}, max_boxes=4, progress=False)
    assert_close(part.domain, torch.stack([ends[0], torch.tensor([0.0, 1.0]).double()]))
    with pytest.raises(InvalidValueError, match="got a model without statistics of its training"):
        kanlens.certify(kanlens.KAN([2, 1]))
