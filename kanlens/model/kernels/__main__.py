"""``python -m kanlens.model.kernels``: compile the passes of cubic layers, once on a machine."""

import torch

from kanlens.model import kernels
from kanlens.model.layers import KANLinear

if __name__ == "__main__":
    with kernels.use("sparse"):
        for dtype in (torch.float32, torch.float64):
            layer, x = KANLinear(2, 2).to(dtype), torch.rand(9, 2, dtype=dtype)
            (layer(x).sum() + layer.activation_l1(x).sum()).backward()
