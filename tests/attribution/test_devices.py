"""Methods return their results on the device of the model, on CUDA and on one that is pretended."""

import copy

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.attribution import METHODS
from tests.attribution.conftest import build
from tests.attribution.test_attribution_contract import FEW
from tests.elsewhere import elsewhere

OWN_TENSORS = {"captum_shapley_values", "captum_shapley_value_sampling"}  # a class of their own
ONE_LAYER = {"additive"}


def explained(name: str, device: torch.device | str) -> object:
    model = copy.deepcopy(build([2, 1] if name in ONE_LAYER else [2, 2, 1])).to(device)
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2).to(device)
    background = x[:2] if METHODS[name].needs_background else None
    options = {"generator": torch.Generator().manual_seed(0), **FEW.get(name, {})}
    if "n_samples" in options:
        options["n_samples"] = 10  # each takes the same operations
    return kanlens.attribute(model, x, method=name, background=background, **options)


@pytest.mark.slow  # every method on many layers
@pytest.mark.parametrize("name", sorted(set(METHODS) - OWN_TENSORS))
def test_results_are_where_the_model_is(name):
    wanted = explained(name, "cpu")
    with elsewhere() as device:
        found = explained(name, device)
        assert found.values.device == device
        values = found.values.cpu()
    assert_close(values, wanted.values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", sorted(METHODS))
def test_results_are_on_the_gpu(name):
    found, wanted = explained(name, "cuda"), explained(name, "cpu")
    assert found.values.is_cuda and found.values.shape == wanted.values.shape
    if METHODS[name].exact:
        assert_close(found.values.cpu(), wanted.values)


@pytest.mark.slow
def test_a_tensor_on_the_wrong_device_is_noticed():
    with elsewhere() as device:
        x = torch.ones(3, device=device)
        for wrong in (lambda: x + torch.ones(3), lambda: torch.rand(3).addcmul(x, x)):
            with pytest.raises(RuntimeError, match="two devices"):
                wrong()
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, generator=torch.Generator(), device=device)
        assert (x * 2 + torch.tensor(1.0)).sum().item() == 9
        assert x[[0, 1]].cpu().numpy().tolist() == [1, 1]
