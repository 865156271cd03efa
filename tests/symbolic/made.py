"""Networks whose splines are fitted to known functions, so that nothing needs training."""

import torch

from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.splines import _spline as spline


def spline_layer(functions, ranges, *, grid_size=20):
    """Return a layer of splines through functions[out][in] on ranges[in]; None is a dead edge."""
    n_out, n_in = len(functions), len(functions[0])
    layer = KANLinear(n_in, n_out, grid_size=grid_size, base_activation="zero").double()
    low, high = torch.tensor(ranges, dtype=torch.float64).unbind(1)
    with torch.no_grad():
        layer.grid = torch.cat(
            [
                spline.uniform_knots(1, float(a), float(b), grid_size, degree=3).double()
                for a, b in zip(low, high, strict=True)
            ]
        )
        layer.base_weight.zero_()
        layer.spline_scaler.fill_(1.0)
        x = low + (high - low) * torch.linspace(0, 1, 400, dtype=torch.float64)[:, None]
        y = torch.zeros(400, n_out, n_in, dtype=torch.float64)
        for o, row in enumerate(functions):
            for i, function in enumerate(row):
                if function is None:
                    layer.mask[o, i] = 0.0
                else:
                    y[:, o, i] = function(x[:, i])
        layer.spline_weight.copy_(spline.fit(x, y, layer.grid, 3))
    return layer


def spline_network(layers, ranges, *, grid_size=20, names=None):
    """Return a network of such layers; ranges of hidden layers follow from the data."""
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor(ranges, dtype=torch.float64).unbind(1)
    x = low + (high - low) * torch.rand(600, len(ranges), generator=generator, dtype=torch.float64)
    made, hidden = [], x
    for functions in layers:
        ends = [(float(c.min()) - 1e-6, float(c.max()) + 1e-6) for c in hidden.T]
        made.append(spline_layer(functions, ends, grid_size=grid_size))
        hidden = made[-1](hidden).detach()
    schema = KAN([len(ranges), len(layers[-1])], feature_names=names).schema
    return KAN.from_layers(made, schema), x


def toy():
    """exp(sin(pi x1) + x2^2), the example of the KAN paper."""
    layers = [[[lambda x: torch.sin(torch.pi * x), torch.square]], [[torch.exp]]]
    model, x = spline_network(layers, [(-1.0, 1.0), (-1.0, 1.0)])
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    return model, x, y
