"""Captum's gradient methods: their quadrature, their noise, and what they cost."""

import re

import pytest
import torch

from kanlens.attribution import METHODS, attribute
from kanlens.errors import InvalidValueError

captum_gradient_shap = METHODS["captum_gradient_shap"].function
captum_input_x_gradient = METHODS["captum_input_x_gradient"].function
captum_integrated_gradients = METHODS["captum_integrated_gradients"].function
captum_noise_tunnel = METHODS["captum_noise_tunnel"].function
captum_saliency = METHODS["captum_saliency"].function


def test_gradient_shap_is_complete_on_average(problem):
    given = problem([3, 4, 1], batch=3)
    steep = captum_integrated_gradients(given, n_steps=400).values
    gaps = []
    for n in (100, 10_000):
        found = captum_gradient_shap(given, n_samples=n)
        far = (found.values - steep).abs()
        assert bool((far <= 6 * found.standard_error + 1e-9).all())
        gaps.append(
            float((given.output(given.x) - found.reference - found.values.sum(1)).abs().max())
        )
    assert 0 < gaps[1] < gaps[0] / 3


def test_gradient_shap_under_noise_says_where_it_looked(problem):
    found = captum_gradient_shap(problem([3, 2, 1]), noise=0.2)
    assert re.fullmatch(
        r"noise of 0.2 standard deviations of the background; \d+\.\d% of the evaluated "
        "inputs lie outside the training range",
        found.remark,
    )
    assert captum_gradient_shap(problem([3, 2, 1])).remark == ""


# --- noise tunnel -------------------------------------------------------------------------------


def by_hand(given, of, kind, noise, n=40_000):
    """Means over our own noise, one sample at a time."""
    unit = given.background.std(0, correction=0)
    generator = torch.Generator().manual_seed(8)
    found = []
    for x in given.x:
        noisy = x + noise * unit * torch.randn(n, len(x), generator=generator, dtype=x.dtype)
        with torch.enable_grad():
            free = noisy.requires_grad_()
            values = torch.autograd.grad(given.output(free).sum(), free)[0]
        values = values.abs() if of == "saliency" else values * noisy.detach()
        moments = {
            "smoothgrad": values.mean(0),
            "smoothgrad_sq": values.square().mean(0),
            "vargrad": values.var(0),
        }
        found.append(moments[kind])
    return torch.stack(found)


@pytest.mark.parametrize("of", ["saliency", "input_x_gradient"])
@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_noise_has_the_deviations_of_the_background(of, kind, problem):
    given = problem([3, 2, 1], batch=2, rows=6)
    given.background[:, 1] *= 10
    found = captum_noise_tunnel(given, of=of, kind=kind, n_samples=4000, noise=0.3)
    far = (found.values - by_hand(given, of, kind, 0.3)).abs()
    assert bool((far <= 6 * found.standard_error + 0.02 * found.values.abs()).all())
    assert found.remark.startswith(f"{kind} of {of}, noise of 0.3 standard deviations")


def test_a_variance_of_few_draws_is_as_large_as_one_of_many(problem):
    """Captum divides by n; a mean over runs of two draws would be half of the variance."""
    given = problem([2, 2, 1], batch=40)
    few = captum_noise_tunnel(given, kind="vargrad", n_samples=10, noise=0.01).values
    many = captum_noise_tunnel(given, kind="vargrad", n_samples=2000, noise=0.01).values
    ratio = few / many
    assert abs(float(ratio.mean()) - 1) < 0.25


@pytest.mark.parametrize("of", ["saliency", "input_x_gradient", "integrated_gradients"])
def test_without_noise_to_speak_of_the_method_itself_is_left(of, network, draw):
    model, x, rows = network([3, (1, 1), 1]), draw(3, 3), draw(4, 3, seed=2)
    found = attribute(
        model, x, method="captum_noise_tunnel", background=rows, of=of, noise=1e-9, n_steps=40
    )
    options = {"n_steps": 40} if of == "integrated_gradients" else {}
    alone = attribute(
        model, x, method=f"captum_{of}", background=rows.mean(0, keepdim=True), **options
    )
    torch.testing.assert_close(found.values, alone.values, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.reference, alone.reference, equal_nan=True)
    assert found.baseline in (alone.baseline, "output at the mean of the background")


def test_constant_features_get_no_noise(problem):
    given = problem([2, 2, 1], rows=1)
    quiet = captum_noise_tunnel(given, noise=5.0)
    torch.testing.assert_close(quiet.values, captum_saliency(given).values, rtol=1e-6, atol=1e-9)
    assert float(quiet.standard_error.max()) < 1e-6


def test_the_share_outside_the_grid_is_counted(network, draw):
    model = network([2, 1])
    model.input_shift.zero_()
    model.input_scale.fill_(1.0)  # the grid ends at 1
    inside, far = torch.zeros(2, 2).double(), torch.full((2, 2), 50.0).double()
    rows = 0.01 * draw(5, 2)
    for x, text in ((inside, " 0.0% of"), (far, " 100.0% of")):
        found = attribute(model, x, method="captum_noise_tunnel", background=rows)
        assert text in found.remark


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"of": "shap"}, "be one of input_x_gradient, integrated_gradients, saliency, got 'shap'"),
        ({"kind": "vargrd"}, "kind to be one of smoothgrad, smoothgrad_sq, vargrad, got 'vargrd'"),
        ({"noise": 0}, "attribute: expected noise to be a positive number, got 0"),
    ],
)
def test_unknown_kinds_of_noise_are_refused(options, text, problem):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        captum_noise_tunnel(problem([2, 1]), **options)


def test_integrated_gradients_are_captums_averaged_over_the_background(network, draw):
    from captum.attr import IntegratedGradients

    model, x, rows = network([8, 5, 1]).requires_grad_(False), draw(4, 8), draw(6, 8, seed=2)
    left = x.repeat_interleave(6, 0).requires_grad_()
    with torch.enable_grad():
        method = IntegratedGradients(lambda z: model(z)[:, 0])
        stock = method.attribute(left, rows.repeat(4, 1), n_steps=12).detach()
    found = attribute(model, x, method="captum_integrated_gradients", background=rows, n_steps=12)
    torch.testing.assert_close(found.values, stock.reshape(4, 6, 8).mean(1), rtol=1e-6, atol=1e-8)
