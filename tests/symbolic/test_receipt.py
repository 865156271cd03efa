import math

import numpy as np
import pytest
import sympy
import torch

from kanlens.core.function_layer import FunctionLinear
from kanlens.core.network import KAN
from kanlens.symbolic.composition import feature_symbols
from kanlens.symbolic.receipt import examine
from tests.symbolic.made import toy


@pytest.fixture(scope="module")
def made():
    return toy()


def right(model):
    x1, x2 = feature_symbols(model)
    return sympy.exp(sympy.sin(sympy.pi * x1) + x2**2)


def test_numbers_of_a_right_formula(made):
    model, x, y = made
    receipt = examine((right(model),), model, x, y, snapped=("pi",))
    gap = np.abs(y.numpy() - model(x).detach().numpy())
    assert receipt.max_deviation == pytest.approx(gap.max())
    assert receipt.mean_deviation == pytest.approx(gap.mean())
    assert receipt.rmse < 1e-12
    assert receipt.r2 == pytest.approx(1.0)
    assert receipt.model_r2 < receipt.r2
    assert receipt.trustworthy
    assert receipt.undefined_rows == 0
    assert receipt.defined_beyond
    assert receipt.outside_share == 0.0
    assert "Exact constants: pi." in receipt.summary()
    assert "WARNING" not in receipt.summary()


def test_a_wrong_formula_is_called_wrong(made):
    model, x, y = made
    receipt = examine((right(model) + feature_symbols(model)[0],), model, x, y)
    assert not receipt.trustworthy
    assert receipt.relative_rmse > 0.3
    text = "WARNING: the formula does not follow the model; do not use it for it."
    assert text in receipt.summary().splitlines()


def test_a_formula_slightly_wrong_shows_it_in_numbers(made):
    model, x, y = made
    receipt = examine((right(model) + 0.01,), model, x, y)
    assert receipt.mean_deviation == pytest.approx(0.01, rel=0.1)
    assert receipt.rmse == pytest.approx(0.01)


def test_an_undefined_formula_is_called_undefined(made):
    model, x, _ = made
    receipt = examine((sympy.log(feature_symbols(model)[0]),), model, x)
    below = int((x[:, 0] <= 0).sum())
    assert receipt.undefined_rows == below
    assert not receipt.trustworthy
    assert f"WARNING: the formula is not finite on {below} rows." in receipt.summary()
    nowhere = examine((sympy.nan,), model, x)
    assert nowhere.max_deviation == math.inf


def test_a_pole_just_outside_the_data_is_seen(made):
    model, x, _ = made
    x1, _ = feature_symbols(model)
    near, far = (examine((sympy.log(x1 + s) + right(model),), model, x) for s in (1.02, 1.5))
    assert near.undefined_rows == 0
    assert not near.defined_beyond
    assert far.defined_beyond
    text = "WARNING: the formula is not finite everywhere within 5 % beyond the data's ranges."
    assert text in near.summary().splitlines()


def test_rows_outside_the_training_ranges_are_counted(made):
    model, x, _ = made
    receipt = examine((right(model),), model, torch.cat((x, x + 5.0)))
    assert receipt.outside_share == pytest.approx(0.5, abs=0.01)
    assert "lie outside the training ranges" in receipt.summary()


def test_classification_counts_right_classes():
    layer = FunctionLinear(1, 2, [["x"], ["constant"]]).double()
    with torch.no_grad():
        layer.affine[1, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    schema = KAN([1, 2]).schema
    model = KAN.from_layers(
        [layer],
        type(schema)(
            features=schema.features,
            outputs=schema.outputs,
            task="classification",
            class_labels=("a", "b"),
        ),
    )
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    y = (x[:, 0] < 0).long()
    (x1,) = feature_symbols(model)
    good = examine((x1, sympy.Integer(0)), model, x, y)
    bad = examine((-x1, sympy.Integer(0)), model, x, y)
    assert (good.accuracy, good.model_accuracy, bad.accuracy) == (1.0, 1.0, 0.0)
    assert "Against y: accuracy 1.0000 (model 1.0000)." in good.summary()
    assert good.r2 is None


def test_a_pole_between_the_points_is_noticed():
    s = sympy.Symbol("x1", real=True)
    model = KAN([1, 1], generator=torch.Generator().manual_seed(0)).double()
    x = torch.linspace(-1, 1, 300, dtype=torch.float64)[:, None]
    assert not examine((1 / (s - 0.123),), model, x).defined_beyond
    assert not examine((1 / (s - 0.123) ** 2,), model, x).defined_beyond
    assert not examine((sympy.tan(2 * s),), model, x).defined_beyond
    assert examine((1 / (s - 1.5),), model, x).defined_beyond
    assert examine((1 / (s**2 + 1),), model, x).defined_beyond


def test_a_formula_of_noise_is_not_trusted_for_beating_a_poor_model():
    s = sympy.Symbol("x1", real=True)
    generator = torch.Generator().manual_seed(0)
    model = KAN([1, 1], generator=generator).double()
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    noise = torch.randn(50, 1, generator=generator, dtype=torch.float64)
    mean = sympy.Float(float(noise.mean())) + 0 * s
    receipt = examine((mean,), model, x, noise)
    assert receipt.r2 is not None
    assert receipt.model_r2 is not None
    assert receipt.r2 > receipt.model_r2
    assert not receipt.trustworthy


def test_a_formula_that_recovers_every_output_is_trusted():
    s = sympy.Symbol("x1", real=True)
    model = KAN([1, 2], generator=torch.Generator().manual_seed(0)).double()
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    both = torch.cat([x**2, x], 1)
    assert examine((s**2, s), model, x, both).trustworthy
    assert not examine((s**2, s + 0.1 * sympy.sin(9 * s)), model, x, both).trustworthy


def test_r2_leaves_out_constant_targets():
    s = sympy.Symbol("x1", real=True)
    model = KAN([1, 2], generator=torch.Generator().manual_seed(0)).double()
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    target = torch.cat([x**2, torch.full_like(x, 3.5)], 1)
    receipt = examine((s**2, sympy.Float(3.5)), model, x, target)
    assert receipt.r2 == 1
    assert examine((s, s), model, x, torch.ones_like(target)).r2 is None
