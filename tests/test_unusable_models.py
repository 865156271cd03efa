"""Models without finite weights, and tensors without values, are refused by every public call."""

from __future__ import annotations

import math
import re

import pytest
import torch

import kanlens
from kanlens import distributed, plot
from kanlens.errors import DTypeError, InvalidValueError
from tests.estimators import test_models as models

X = torch.tensor(models.X.to_numpy())
Y = torch.tensor(models.Y.to_numpy())
CALLS = {  # which `test_models` holds to be every public function of a model
    **models.CALLS,
    "plot.effect": lambda model, x, y, path: plot.effect(model, "force", x),
    "distributed.attribute": lambda model, x, y, path: distributed.attribute(model, X, path / "o"),
    "distributed.fit": lambda model, x, y, path: distributed.fit(model, (X, Y), restarts=2),
}


def spoken(name: str) -> str:
    return models.spoken(name).removeprefix("distributed.")


def network() -> kanlens.KAN:
    return kanlens.KAN([2, 4, 1], feature_names=["force", "arm"]).double()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", CALLS)
def test_weights_that_are_not_finite_are_refused(name, value, tmp_path):
    model = network()
    with torch.no_grad():
        model.layers[1].base_weight[0, 1] = value
    text = (
        f"{spoken(name)}: expected finite numbers in layers.1.base_weight, "
        "got 1 of 4 that are NaN or infinite. The training diverged; train it again."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        CALLS[name](model, models.X, models.Y, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CALLS)
def test_weights_without_values_are_refused(name, tmp_path):
    text = (
        f"{spoken(name)}: expected values in input_shift, got a tensor on "
        "the meta device. Load the weights into the model first."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        CALLS[name](network().to("meta"), models.X, models.Y, tmp_path)


def test_rows_without_values_are_refused():
    model, nothing = kanlens.KAN([2, 1]).double(), X.to("meta")
    calls = {
        "attribute": lambda: kanlens.attribute(model, nothing, background=X),
        "trace": lambda: kanlens.trace(model, nothing),
        "prune": lambda: kanlens.prune(model, nothing, budget=0.1),
        "fit": lambda: kanlens.fit(model, (nothing, Y)),
    }
    for name, call in calls.items():
        text = f"{name}: expected x to have values, got a tensor on the meta device. "
        with pytest.raises(DTypeError, match=f"^{re.escape(text)}Pass x with its values\\.$"):
            call()
    with pytest.raises(DTypeError, match=r"^fit: expected y to have values, got a tensor on the"):
        kanlens.fit(model, (X, nothing[:, 0]))


def test_features_without_a_range_are_no_fault():
    model = kanlens.KAN([2, 1], extrapolation="linear").double()
    assert not bool(model.input_low.isfinite().any())
    assert kanlens.trace(model, X)
