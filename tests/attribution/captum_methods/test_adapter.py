"""What every method of captum's shares."""

import copy
import warnings
from functools import partial

import pytest
import torch

from kanlens.attribution import METHODS, attribute
from kanlens.attribution._attribute import REFUSED
from kanlens.attribution.captum_methods._adapter import five_runs, quiet
from kanlens.attribution.captum_methods._table import CAPTUM_METHODS
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model import _analysis as analysis
from kanlens.model._network import KAN

NAMES = [method.name for method in CAPTUM_METHODS.values()]
FITS, EXACT = "kernel_shap lime shapley_value_sampling", "deep_lift deep_lift_shap shapley_values"
RANDOM = [method.name for method in CAPTUM_METHODS.values() if method.random]


def few(name):
    options = METHODS[name].options
    return {"n_samples": 20} if "n_samples" in options else {}


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("captum_shapley_value_sampling", 1e-12),
        ("captum_integrated_gradients", 1e-3),
        ("captum_kernel_shap", 1e-4),
        ("captum_lime", 1e-4),
    ],
)
@pytest.mark.slow  # many cases
def test_on_one_layer_and_one_background_row_all_agree(method, tolerance, network, draw):
    model, x, row = network([4, 2]), draw(3, 4), draw(1, 4, seed=2)
    options = {"n_samples": 10} if "sampling" in method else {}  # of a sum, every order is exact
    found = attribute(model, x, method=method, background=row, target=1, **options)
    layer = model.layers[0]
    change = layer.edge_values(model.scale_inputs(x)) - layer.edge_values(model.scale_inputs(row))
    expected = change[:, 1] * model.output_scale[1]
    torch.testing.assert_close(found.values, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", RANDOM)
@pytest.mark.slow  # many cases
def test_generators_decide_the_draws(method, network, draw):
    model, x, rows = network([5, 3, 1]), draw(2, 5), draw(2, 5, seed=2)

    def values(generator):
        return attribute(
            model, x, method=method, background=rows, generator=generator, n_samples=10
        ).values

    seeded = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    first, same, other = (values(g) for g in seeded)
    assert torch.equal(first, same)
    if method != "captum_feature_permutation":  # two samples can only change places
        assert not torch.equal(first, other)
        assert not torch.equal(values(seeded[0]), first)  # the generator has moved on
    assert torch.equal(values(None), values(None))  # torch's own has not


def test_five_runs_have_the_mean_and_its_standard_error(problem):
    given = problem([2, 1], batch=1)
    sizes, answers = [], iter([1.0, 2.0, 3.0, 4.0, 5.0])

    def run(size):
        sizes.append(size)
        return torch.full((1, 2), next(answers), dtype=torch.float64)

    mean, error = five_runs(given, run, 12)
    assert sizes == [3, 3, 2, 2, 2]
    expected = (3 * 1 + 3 * 2 + 2 * 3 + 2 * 4 + 2 * 5) / 12
    variance = sum(n * (v - expected) ** 2 for n, v in zip(sizes, range(1, 6), strict=True)) / 12
    torch.testing.assert_close(mean, torch.full_like(mean, expected))
    torch.testing.assert_close(error, torch.full_like(error, (variance / 4) ** 0.5))


@pytest.mark.parametrize("method", ["captum_kernel_shap", "captum_lime"])  # fitted in float32
def test_a_feature_without_a_path_gets_exactly_nothing(method, network, draw):
    model, x = network([4, 3, 1]), draw(6, 4)
    model.layers[0].mask[:, 1] = 0
    found = attribute(model, x, method=method, background=x, **few(method))
    assert bool((found.values[:, 1] == 0).all())
    assert bool((found.values[:, [0, 2, 3]] != 0).all())


@pytest.mark.slow
@pytest.mark.parametrize("method", NAMES)
def test_methods_run_where_gradients_are_off_and_warn_of_nothing(method, network, draw):
    model, x, rows = network([3, 2, 1]), draw(2, 3), draw(2, 3, seed=2)
    found = []
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context(), warnings.catch_warnings():
            warnings.simplefilter("error")
            inside, others = x * 1, rows * 1
            found.append(
                attribute(model, inside, method=method, background=others, **few(method)).values
            )
    torch.testing.assert_close(found[0].clone(), found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[2].clone(), found[1], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in NAMES if name not in RANDOM])
def test_parts_of_the_work_add_up_to_the_whole(method, problem, monkeypatch):
    options = {"n_steps": 20} if "n_steps" in METHODS[method].options else {}
    function = partial(METHODS[method].function, **options)
    given = problem([3, (2, 1), 2], batch=5, rows=4)
    whole = function(given)
    for module in ("model._analysis", "attribution.captum_methods._perturbation"):
        monkeypatch.setattr(f"kanlens.{module}.BUDGET", 2**8)  # four of five samples
    parts = function(given)
    torch.testing.assert_close(parts.values, whole.values, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("method", ["captum_shapley_value_sampling", "captum_kernel_shap"])
def test_parts_of_a_batch_get_the_same_draws(method, network, draw, monkeypatch):
    model, x, rows = network([3, 2, 1]), draw(3, 3), draw(2, 3, seed=2)
    options = {"method": method, "background": rows, "n_samples": 5}
    found = []
    for budget in (2**22, 2 * 3 * 16 * 3):  # all at once, and two samples at once
        monkeypatch.setattr(analysis, "BUDGET", budget)
        g = torch.Generator().manual_seed(0)
        found.append(attribute(model, x, generator=g, **options).values)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", [name for name in NAMES if "permutation" not in name])
@pytest.mark.parametrize("widths", [[1, 1], [3, (1, [2, 3]), 2]])
def test_one_sample_that_is_the_only_background_row(method, widths, network, draw):
    model = network(widths)
    x = draw(1, model.widths[0])
    found = attribute(model, x, method=method, background=x, target=-1 % model.widths[-1])
    assert bool(torch.isfinite(found.values).all())
    if METHODS[method].complete:
        assert float(found.values.abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("method", "option", "value", "least"),
    [
        ("captum_integrated_gradients", "n_steps", 0, 1),
        ("captum_layer_conductance", "n_steps", 0, 1),
        ("captum_layer_integrated_gradients", "n_steps", 0, 1),
        ("captum_internal_influence", "n_steps", 0, 1),
        ("captum_internal_influence", "layer", 0, 1),
        ("captum_gradient_shap", "n_samples", 4, 5),
        ("captum_noise_tunnel", "n_samples", 9, 10),
        ("captum_shapley_value_sampling", "n_samples", 4, 5),
        ("captum_feature_permutation", "n_samples", 4, 5),
        ("captum_kernel_shap", "n_samples", 2, 3),
        ("captum_lime", "n_samples", 3, 4),
        ("captum_occlusion", "window", 0, 1),
    ],
)
def test_too_small_counts_are_refused(method, option, value, least, network, draw):
    text = f"expected {option} to be a whole number of at least {least}, got {value}"
    with pytest.raises(InvalidValueError, match=text):
        attribute(
            network([2, 1]), draw(2, 2), method=method, background=draw(2, 2), **{option: value}
        )


@pytest.mark.parametrize("method", [name for name in NAMES if METHODS[name].needs_background])
def test_a_model_that_is_undefined_at_the_background_is_refused(method, network):
    given = network([3, 2, 2])
    layers = [copy.deepcopy(layer) for layer in given.layers]
    layers[0].assign(0, 1, "log", (1.0, 0.0, 0.7, 0.0))
    model = KAN.from_layers(layers, given.schema)
    model.input_shift.zero_()
    x = torch.tensor([[0.1, 0.5, 0.3], [0.2, 0.7, 0.1]], dtype=torch.float64)
    rows = x * torch.tensor([1.0, -1.0, 1.0])
    if method == "captum_noise_tunnel":  # slopes at the samples; the background only scales noise
        attribute(model, x, method=method, background=rows, target=1, noise=1e-6)
        return
    with pytest.raises(MethodError, match="the samples and the background, got NaN or infinity"):
        attribute(model, x, method=method, background=rows, target=1)


def test_that_captum_lacks_a_bar_is_not_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet():
            warnings.warn("IProgress not found. Please update jupyter", UserWarning, stacklevel=1)
            with pytest.raises(UserWarning, match="something else"):
                warnings.warn("something else", UserWarning, stacklevel=1)


def test_methods_without_meaning_are_refused_with_the_reason(network, draw):
    assert len(REFUSED) == 15
    assert not REFUSED & set(METHODS)
    for method in REFUSED:
        with pytest.raises(MethodError, match=f"valid for a KAN, got {method!r}"):
            attribute(network([2, 1]), draw(2, 2), method=method, background=draw(2, 2))
