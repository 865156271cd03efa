"""Train a pykan, a FastKAN and a ChebyKAN on one table, and save each the way its users do.

Needs pykan. Run in this folder: ``python make.py``. `expected.csv` holds the outputs of all three.
"""

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import nn


class RadialBasisFunction(nn.Module):
    """Gaussians around fixed centers."""

    def __init__(self, n):
        super().__init__()
        self.grid = nn.Parameter(torch.linspace(-2, 2, n), requires_grad=False)
        self.denominator = 4 / (n - 1)

    def forward(self, x):
        return torch.exp(-(((x[..., None] - self.grid) / self.denominator) ** 2))


class FastKANLayer(nn.Module):
    """Gaussians of normalized inputs, plus a linear map of SiLU of the raw inputs."""

    def __init__(self, n_in, n_out, n=8):
        super().__init__()
        self.layernorm = nn.LayerNorm(n_in)
        self.rbf = RadialBasisFunction(n)
        self.spline_linear = nn.Linear(n_in * n, n_out, bias=False)
        self.base_linear = nn.Linear(n_in, n_out)
        nn.init.trunc_normal_(self.spline_linear.weight, std=0.1)

    def forward(self, x):
        bumps = self.rbf(self.layernorm(x)).flatten(1)
        return self.spline_linear(bumps) + self.base_linear(nn.functional.silu(x))


class FastKAN(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.layers = nn.ModuleList([FastKANLayer(*pair) for pair in pairwise(widths)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class ChebyKANLayer(nn.Module):
    """Chebyshev polynomials of tanh."""

    def __init__(self, n_in, n_out, degree=4):
        super().__init__()
        scale = 1 / (n_in * (degree + 1))
        self.cheby_coeffs = nn.Parameter(scale * torch.randn(n_in, n_out, degree + 1))
        self.register_buffer("arange", torch.arange(degree + 1))

    def forward(self, x):
        t = torch.tanh(x).clamp(-1 + 1e-6, 1 - 1e-6)
        basis = torch.cos(torch.arccos(t)[..., None] * self.arange)
        return torch.einsum("bid,iod->bo", basis, self.cheby_coeffs)


def rows(count, seed):
    """Return x (count, 3): angles, speeds and loads; and y (count,): the forces, with noise."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (count, 3))
    y = np.sin(2.5 * x[:, 0]) + x[:, 1] ** 2 + 0.5 * x[:, 0] * x[:, 2]
    return x, y + 0.02 * draw.normal(size=count)


def train(model, x, y, steps=2000):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    from kan import KAN

    torch.manual_seed(0)
    x, y = (torch.tensor(a, dtype=torch.float32) for a in rows(600, 0))
    y = y[:, None]
    spline = KAN([3, 4, 1], grid=5, k=3, seed=0, auto_save=False)
    data = {"train_input": x, "train_label": y, "test_input": x, "test_label": y}
    spline.fit(data, opt="LBFGS", steps=40)
    fast = train(FastKAN([3, 4, 1]), x, y)
    cheby = train(nn.Sequential(ChebyKANLayer(3, 4), ChebyKANLayer(4, 1)), x, y)
    spline.saveckpt("pykan")
    torch.save(fast.state_dict(), "fastkan.pt")
    torch.save(cheby, "chebykan.pt")
    new = torch.tensor(rows(20, 1)[0], dtype=torch.float32)
    with torch.no_grad():
        outputs = [model(new)[:, 0].numpy() for model in (spline, fast, cheby)]
    frame = pd.DataFrame(dict(zip(("pykan", "fastkan", "chebykan"), outputs, strict=True)))
    frame.insert(0, "x3", new[:, 2])
    frame.insert(0, "x2", new[:, 1])
    frame.insert(0, "x1", new[:, 0])
    frame.to_csv("expected.csv", index=False)
