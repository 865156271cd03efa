"""What is no KAN is refused by every call that takes a model."""

import re

import pytest
import torch

import kanlens
from kanlens.errors import DTypeError

X = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "run"),
    [
        ("trace", lambda model: kanlens.trace(model, X)),
        ("fit", lambda model: kanlens.fit(model, (X, X[:, :1]))),
        ("prune", lambda model: kanlens.prune(model, X, threshold=0.1)),
        ("attribute", lambda model: kanlens.attribute(model, X)),
        ("compare", lambda model: kanlens.compare(model, X)),
        ("symbolize", lambda model: kanlens.symbolize(model, X)),
    ],
)
def test_another_model_is_refused_in_one_line(call, run):
    text = f"{call}: expected a KAN, got Linear. Bring it in with import_model first."
    with pytest.raises(DTypeError, match=re.escape(text)):
        run(torch.nn.Linear(2, 1))
