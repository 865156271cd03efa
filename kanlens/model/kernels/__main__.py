"""``python -m kanlens.model.kernels``: compile the kernels of cubic layers, once per machine."""

import torch

from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear


def compile_passes(dtype: str, degree: int) -> None:
    """Compile the kernels for layers of a dtype and a degree into numba's cache."""
    with kernels.use("sparse"):
        for width, rows in ((2, 9), (600, 1), (600, 9)):  # small layers; few rows of large ones
            layer = KANLinear(width, width, spline_order=degree).to(getattr(torch, dtype))
            x = torch.rand(rows, width, dtype=layer.spline_weight.dtype, requires_grad=True)
            if width > 2:
                layer(x)
            else:
                (layer(x).sum() + layer.activation_l1(x).sum()).backward()


if __name__ == "__main__":
    for name in ("float32", "float64"):
        compile_passes(name, 3)
