"""The mean of |phi| of every edge and its gradients from their definitions, and how to compare."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanlens.model._kan_linear import KANLinear
from tests.model.kernels.definition import Array, base_function, values_and_slopes, wide
from tests.model.kernels.layers import make
from tests.model.layers_for_tests import seeded

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-6}
DOUBT = {torch.float64: 1e-13, torch.float32: 1e-6}  # of the terms: a smaller value has no sign


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Rows of which some lie beyond the grid."""
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype) * 2.4 - 1.2


def rough(
    n_in: int = 3,
    n_out: int = 9,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **options: object,
) -> KANLinear:
    """A layer all of whose weights are far from their initial values, on an even grid."""
    return make(n_in=n_in, n_out=n_out, grid="even", dtype=dtype, seed=seed, **options).layer


@dataclass(frozen=True)
class Wanted:
    """What a tensor should hold, the size of its terms, and what values without a sign may add."""

    value: Array
    terms: Array
    doubt: Array

    def misfit(self, got: Tensor) -> float:
        """The largest error, less what is in doubt, over the largest terms."""
        if got.shape != self.value.shape:
            return np.inf
        error = np.maximum(np.abs(wide(got) - self.value) - self.doubt, 0).max(initial=0)
        scale = self.terms.max(initial=0)
        if not np.isfinite(error):
            return np.inf
        return float(error / scale) if scale else (0.0 if error == 0 else np.inf)


def norms_by_definition(layer: KANLinear, x: Tensor, grad: Tensor) -> dict[str, Wanted]:
    """The norms (out, in) under "norms", and the gradients of sum(norms * grad) by name."""
    tensors = {name: wide(tensor) for name, tensor in layer.state_dict().items()}
    points, given, mask = wide(x), wide(grad) / len(x), tensors["mask"]
    pairs = [
        values_and_slopes(points[:, i], tensors["grid"][i], layer.spline_order, layer.extrapolation)
        for i in range(layer.in_features)
    ]
    values, slopes = (np.stack(each, axis=1) for each in zip(*pairs, strict=True))
    base, base_slope = base_function(layer.base_name, points)
    scaler = tensors.get("spline_scaler", np.ones_like(mask))
    spline, weight = tensors["spline_weight"], mask * tensors["base_weight"]
    coef = spline * (mask * scaler)[..., None]

    def edges(values: Array, base: Array, coef: Array, weight: Array) -> Array:
        return np.einsum("bik,oik->boi", values, coef) + base[:, None] * weight

    phi, phi_slope = edges(values, base, coef, weight), edges(slopes, base_slope, coef, weight)
    largest, base_size = np.maximum(1, np.abs(values)), np.maximum(1, np.abs(base))
    size = edges(largest, base_size, np.abs(coef), np.abs(weight))
    unsure = np.abs(phi) <= DOUBT[x.dtype] * size
    sign = np.where(unsure, 0, np.sign(phi))
    steep = np.abs(slopes) + layer.spline_order / np.diff(tensors["grid"]).min()
    rise = edges(steep, np.maximum(1, np.abs(base_slope)), np.abs(coef), np.abs(weight))

    def by_weights(what: Array, values: Array, base: Array) -> tuple[Array, Array]:
        return np.einsum("oi,boi,bik->oik", given, what, values), np.einsum(
            "oi,boi,bi->oi", given, what, base
        )

    def absolute(what: Array) -> tuple[Array, Array]:
        return tuple(np.abs(each) for each in by_weights(what * np.sign(given), largest, base_size))

    (per_spline, per_base), doubts = by_weights(sign, values, base), absolute(unsure)
    terms = absolute(np.ones_like(phi))
    outer, doubt_x = (mask * scaler)[..., None], np.abs(phi_slope) * unsure
    found = {
        "norms": Wanted(np.abs(phi).mean(0), size.mean(0), np.zeros_like(mask)),
        "spline_weight": Wanted(
            per_spline * outer, terms[0] * np.abs(outer), doubts[0] * np.abs(outer)
        ),
        "base_weight": Wanted(per_base * mask, terms[1] * mask, doubts[1] * mask),
        "x": Wanted(
            np.einsum("oi,boi->bi", given, sign * phi_slope),
            np.einsum("oi,boi->bi", np.abs(given), rise),
            np.einsum("oi,boi->bi", np.abs(given), doubt_x),
        ),
    }
    if "spline_scaler" in tensors:
        found["spline_scaler"] = Wanted(
            (per_spline * spline).sum(2) * mask,
            (terms[0] * np.abs(spline)).sum(2) * mask,
            (doubts[0] * np.abs(spline)).sum(2) * mask,
        )
    return found


def run_norms(layer: KANLinear, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """The same from `activation_l1`."""
    x = x.clone().requires_grad_()
    parameters = {n: p for n, p in layer.named_parameters() if n != "bias"}
    norms = layer.activation_l1(x)
    found = torch.autograd.grad(norms, [x, *parameters.values()], grad)
    return dict(zip(["norms", "x", *parameters], [norms.detach(), *found], strict=True))


def norm_misfits(layer: KANLinear, x: Tensor, seed: int = 5) -> dict[str, float]:
    """The relative errors of the norms and of every gradient, for some gradient of the norms."""
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(layer.mask.shape, generator=generator, dtype=x.dtype)
    wanted, found = norms_by_definition(layer, x, grad), run_norms(layer, x, grad)
    assert found.keys() == wanted.keys()
    assert all(each.dtype == x.dtype for each in found.values())
    return {name: wanted[name].misfit(found[name]) for name in wanted}


def norms_agree(layer: KANLinear, x: Tensor) -> bool:
    """Tell whether norms and gradients are within the tolerance of the dtype."""
    return max(norm_misfits(layer, x).values()) <= TOLERANCES[x.dtype]
