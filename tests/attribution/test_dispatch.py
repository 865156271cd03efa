"""`attribute`: what it accepts, and what it says when it does not."""

import copy
import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch

from kanlens.attribution import METHODS, attribute, compare, importance
from kanlens.attribution._problem import Baseline, borrowed_randomness
from kanlens.errors import DataError, InvalidValueError, MethodError, ShapeError
from kanlens.model._network import KAN


@pytest.fixture
def model(network):
    return network([3, 2, 2])


@pytest.fixture
def x(draw):
    return draw(4, 3)


@pytest.fixture
def rows(draw):
    return draw(3, 3, seed=2)


def check(error, text, *arguments, **options):
    with pytest.raises(error, match=f"^attribute: .*{re.escape(text)}"):
        attribute(*arguments, **options)


def test_tensor_array_and_frame_are_the_same(model, x, rows):
    expected = attribute(model, x, background=rows, target="y1")
    found = attribute(model, x.numpy(), background=rows.numpy(), target=0)
    torch.testing.assert_close(found.values, expected.values)
    frame = pd.DataFrame(x.numpy()[:, ::-1], columns=["x3", "x2", "x1"])
    found = attribute(model, frame, background=rows, target=0)
    torch.testing.assert_close(found.values, expected.values)
    torch.testing.assert_close(found.x, x)
    assert found.features == ("x1", "x2", "x3")
    model.background = rows
    torch.testing.assert_close(attribute(model, x, target=0).values, expected.values)


def test_results_know_output_unit_and_groups(model, x, rows):
    schema = model.schema
    feature = dataclasses.replace(schema.features[0], column="x3")
    outputs = (schema.outputs[0], dataclasses.replace(schema.outputs[1], unit="kg"))
    model.schema = dataclasses.replace(
        schema, features=(feature, *schema.features[1:]), outputs=outputs
    )
    found = attribute(model, x, background=rows, target="y2")
    assert (found.target, found.unit) == ("y2", "kg")
    assert found.grouped().features == ("x3", "x2")
    torch.testing.assert_close(found.output, model(x)[:, 1].detach())
    model.schema = dataclasses.replace(schema, task="classification", class_labels=("no", "yes"))
    logit = attribute(model, x, background=rows, target=1)
    torch.testing.assert_close(logit.values, found.values)
    assert logit.unit == "log-odds"


def test_float32_models_are_explained_in_float64(network, x, rows):
    model = network([3, 2, 1])
    expected = attribute(model, x.float().double(), background=rows.float().double())
    model.float()
    found = attribute(model, x.float(), background=rows)
    assert found.values.dtype == found.output.dtype == torch.float32
    torch.testing.assert_close(found.values.double(), expected.values, rtol=1e-5, atol=1e-6)


def test_hooks_that_cannot_be_copied_do_no_harm(model, x, rows):
    lines = (line for line in ())  # generators cannot be copied
    seen = []

    def hook(*_, source=lines):
        seen.append(source)

    model.layers[0].register_forward_hook(hook)
    holder = type("Holder", (), {"__deepcopy__": lambda self, memo: 1 / 0, "__call__": hook})()
    model.register_forward_hook(holder)
    attribute(model, x, background=rows, target=0)
    assert seen == []


def test_unknown_methods_get_the_nearest_name(model, x, rows):
    for name, text in (
        ("shaply", "expected method to be one of"),
        ("shaply", "got 'shaply'. Did you mean 'shapley'?"),
        ("zzz", "got 'zzz'. Choose one of"),
        (["shapley"], "got ['shapley']. Did you mean 'shapley'"),
    ):
        check(InvalidValueError, text, model, x, background=rows, method=name)


def test_unknown_options_are_refused(model, x, rows):
    text = "expected options of method 'secant' (it has none), got 'n_steps'"
    check(InvalidValueError, text, model, x, background=rows, method="secant", n_steps=3)
    text = "'shapley' (groups, algorithm, tolerance, time_limit), got 'n_steps'"
    check(InvalidValueError, text, model, x, background=rows, n_steps=3)


def test_a_missing_background_is_asked_for(model, x):
    text = "expected background rows for method 'secant', got None"
    check(MethodError, text, model, x, method="secant", target=0)
    assert attribute(model, x, method="captum_input_x_gradient", target=0).baseline
    assert f"{Baseline.ZERO}" == "output at zero" == Baseline.ZERO


def test_the_target_is_checked(model, x, rows):
    text = "expected target to be one of the 2 outputs ('y1', 'y2'), got "
    check(InvalidValueError, f"{text}2", model, x, background=rows, target=2)
    check(InvalidValueError, f"{text}None", model, x, background=rows)


def test_x_and_the_background_are_checked(model, x, rows):
    spoiled = x.clone()
    spoiled[2, 1] = torch.nan
    for error, wrong, text in (
        (ShapeError, x[:, :2], "expected x of shape (batch, 3), got (4, 2)"),
        (ShapeError, x[:0], "expected at least 1 row, got 0"),
        (DataError, spoiled, "finite numbers, got nan at row 2, column 'x2' (1 such cell)"),
    ):
        check(error, text, model, wrong, background=rows, target=0)
        check(error, "background: expected", model, x, background=wrong, target=0)
        check(error, text, model, x, background=wrong, target=0)


def test_a_model_without_finite_outputs_is_refused(model, x, rows):
    with torch.no_grad():
        model.layers[1].bias[0] = model.output_scale[0] = 1e200
    text = "expected a model with finite outputs, got NaN or infinity"
    check(MethodError, text, model, x, background=rows, target=0)
    assert attribute(model, x, background=rows, target=1).target == "y2"


def test_every_method_says_what_it_is():
    for name, method in METHODS.items():
        assert method.name == name
        assert method.scope in ("local", "global")
        assert method.summary
        assert re.search(r", (19|20)\d\d", method.reference)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"additive"}))
def test_a_random_method_draws_from_the_generator_and_no_other_does(name, network, draw):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    few = {"n_samples": 10} if "n_samples" in METHODS[name].options else {}
    rows = draw(3, 2)
    attribute(network([2, 2, 1]), rows, method=name, background=rows, generator=generator, **few)
    assert METHODS[name].random != torch.equal(generator.get_state(), before)


def test_unknown_names_of_the_package_are_refused():
    import kanlens.attribution

    with pytest.raises(AttributeError, match=r"^module 'kanlens.attribution' has no attribute"):
        _ = kanlens.attribution.no_such_name


def test_a_bar_is_drawn_only_when_asked(model, x, rows, capsys):
    for method in ("shapley", "secant", "captum_deep_lift", "captum_kernel_shap"):
        attribute(model, x, method=method, background=rows, target=0, progress=True)
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "")  # stderr is no terminal here


def test_what_draws_must_be_a_generator(model, x, rows):
    for call in (attribute, compare, importance):
        text = rf"^{call.__name__}: expected generator as a torch\.Generator, got 3\."
        with pytest.raises(InvalidValueError, match=text):
            call(model, x, background=rows, target=0, generator=3)


@pytest.fixture
def pole():
    """A network whose first layer has a logarithm, which is undefined below 0."""
    model = KAN([2, 2, 1], generator=torch.Generator().manual_seed(0)).double()
    layers = [copy.deepcopy(layer) for layer in model.layers]
    layers[0].assign(0, 0, "log", (1.0, 0.0, 1.0, 0.0))
    return KAN.from_layers(layers, model.schema)


@pytest.mark.parametrize("method", ["secant", "gradient_x_input", "weight_l1"])
def test_numbers_that_are_not_finite_are_refused(pole, method):
    x = torch.full((3, 2), 0.5, dtype=torch.float64)
    text = f"expected finite numbers from method {method!r}, got NaN or infinity"
    check(MethodError, text, pole, x, background=x - 3, method=method)
    if method != "weight_l1":
        assert attribute(pole, x, background=x + 1, method=method).shares


def test_numbers_too_large_for_the_model_are_refused(x, rows):
    model = KAN([3, 1])
    model.output_scale.fill_(1e38)
    assert bool(attribute(model, x, background=rows).values.isfinite().all())
    with pytest.raises(MethodError, match="got NaN or infinity"):
        attribute(model, 1e4 * x, background=rows)


def test_randomness_is_given_back_after_an_error():
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    g = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(2):
        with pytest.raises(RuntimeError), borrowed_randomness(g, torch.device("cpu")):
            drawn.append((float(torch.rand(1)), np.random.random()))  # noqa: NPY002
            raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numbers  # noqa: NPY002
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_without_a_generator_all_draws_are_those_of_torchs_seed():
    drawn = []
    for _ in range(2):
        np.random.seed(len(drawn) + 5)  # noqa: NPY002 - it does not matter
        with torch.random.fork_rng():
            torch.manual_seed(0)
            with borrowed_randomness(None, torch.device("cpu")):
                drawn.append((float(torch.rand(1)), np.random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
