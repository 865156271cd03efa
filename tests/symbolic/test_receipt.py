import math

import numpy as np
import pytest
import sympy
import torch

from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.symbolic.composition import feature_symbols
from kanlens.symbolic.pipeline import symbolize
from kanlens.symbolic.receipt import Receipt, examine
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
    layer = KANLinear(1, 2, functions=[["x"], ["constant"]]).double()
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
    assert "Against the targets: accuracy 1.0000 (model 1.0000)." in good.summary()
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


def test_a_formula_that_explains_every_output_is_trusted():
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


def test_held_out_rows_and_what_they_cost():
    model, x, y = toy()
    found = symbolize(model, x[:400], y[:400], x_test=x[400:], y_test=y[400:])
    receipt = found.receipt
    assert (receipt.rows, receipt.held_out, receipt.fitted_rows) == (200, True, 320)
    gap = np.abs(found.predict(x[400:]) - model(x[400:]).detach().numpy())
    assert receipt.max_deviation == pytest.approx(gap.max())
    assert receipt.mean_deviation == pytest.approx(gap.mean())
    assert receipt.loss < 1e-12
    assert receipt.summary().startswith(
        "Over 200 rows kept out of its fit (not of the model's) the formula differs"
    )
    assert len(receipt.snap_costs) == len(receipt.snapped) > 0
    assert max(receipt.snap_costs) < 1e-6
    assert "the dearest cost" in receipt.summary()
    receipt = symbolize(model, x, y).receipt
    assert (receipt.rows, receipt.held_out, receipt.fitted_rows) == (120, False, 480)
    assert receipt.chosen_on
    assert receipt.summary().startswith("Over the 120 rows that chose it the formula differs")


def test_loss_of_a_formula_by_hand(made):
    model, x, y = made
    wrong = right(model) + sympy.Float(0.1) * feature_symbols(model)[0]
    receipt = examine((wrong,), model, x, y)
    expected = float((0.1 * x[:, 0]).square().mean() / y.var(unbiased=False))
    assert receipt.loss == pytest.approx(expected)


def test_the_domain_of_validity_is_in_the_receipt(made):
    model, x, _ = made
    x1, _ = feature_symbols(model)
    receipt = examine((sympy.log(x1 + 1.5),), model, x)
    low, high = receipt.valid_ranges["x1"]
    assert -1.5 < low < -1.48
    assert high > 2.9
    assert receipt.broken_parts == ()
    broken = examine((sympy.log(x1 + 1.01),), model, x)
    assert broken.broken_parts == ("log(x1 + 1.01)",)
    assert "Not defined there: log(x1 + 1.01)." in broken.summary()


def test_without_a_model_the_formula_is_held_against_y():
    s = sympy.Symbol("a", real=True)
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    good = examine((s**2,), None, x, x**2, feature_names=["a"])
    assert (good.max_deviation, good.relative_rmse, good.model_r2) == (None, None, None)
    assert good.r2 == pytest.approx(1.0)
    assert good.trustworthy
    assert good.summary().startswith("Checked on 50 rows.\nAgainst the targets: RMSE")
    assert "model" not in good.summary()
    noisy = examine((s,), None, x, x**2, feature_names=["a"])
    assert not noisy.trustworthy
    assert "NOTE: the formula leaves a part of y unexplained" in noisy.summary()
    assert "nothing to check" in examine((s,), None, x, feature_names=["a"]).summary()


def test_an_approximation_says_what_it_leaves():
    receipt = Receipt(rows=9, r2=0.75, rmse=0.1, loss=0.25, approximate=True)
    assert receipt.summary().splitlines()[-1] == (
        "NOTE: the formula is an approximation, which leaves 2.5e-01 of the variance of y; "
        "no exact one was found."
    )


def test_constants_are_listed_once():
    receipt = Receipt(rows=9, snapped=("0", "pi", "0", "1/2", "0"), snap_costs=(0.0, 2e-9, 0, 0, 0))
    assert "Exact constants: 0 (3 times), pi, 1/2; the dearest cost 2.0e-09." in receipt.summary()
    assert str(receipt) == receipt.summary()


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.94, "NOTE: the formula tells the classes"), (0.9, "WARNING: the formula does not")],
)
def test_a_classifier_is_told_by_its_classes_where_its_odds_are_not(accuracy, words):
    receipt = Receipt(rows=50, relative_rmse=0.3, accuracy=accuracy, model_accuracy=0.95)
    assert not receipt.trustworthy
    assert words in receipt.summary()
