"""Doubles of other libraries: their tensors by their names, and what they compute, in formulas."""

import functools
import itertools

import torch
from torch.nn.functional import gelu, silu

from kanlens.io.importers import import_model
from tests.io.importers.test_efficient_kan import reference_basis


class Double:
    """Tensors of a network, drawn in float64, and its function of x (batch, in)."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.state, self.steps = {}, []

    def draw(self, key, *shape):
        """Draw a tensor and keep it under its name."""
        self.state[key] = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        return self.state[key]

    def keep(self, key, value):
        self.state[key] = torch.as_tensor(value)
        return self.state[key]

    def grid(self, key, n_in, size=4, order=3, *, outer=True):
        """Draw rising knots, with those beyond the grid or without."""
        count = size + 1 + 2 * order * outer
        steps = 0.2 + torch.rand(n_in, count, generator=self.generator, dtype=torch.float64)
        return self.keep(key, steps.cumsum(1) * 3 / count - 2)

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x


def extended(cuts, order):
    """Knots beyond either end, at the mean step."""
    step = (cuts[:, -1:] - cuts[:, :1]) / (cuts.shape[1] - 1)
    far = torch.arange(1, order + 1, dtype=cuts.dtype)
    return torch.cat([cuts[:, :1] - step * far.flip(0), cuts, cuts[:, -1:] + step * far], 1)


def splines(x, knots, coef):  # (batch, in), (in, knot), (out, in, basis) -> (batch, out)
    order = knots.shape[1] - coef.shape[2] - 1
    return torch.einsum("bik,oik->bo", reference_basis(x, knots, order), coef)


def rows(double, width, count=40):
    """Rows inside and outside every grid, and some of its knots."""
    x = torch.randn(count, width, generator=double.generator, dtype=torch.float64) * 1.5
    for grid in [value for key, value in double.state.items() if "grid" in key][:1]:
        flat = grid.flatten()[: 4 * width].double()
        x[: len(flat) // width] = flat[: len(flat) // width * width].reshape(-1, width)
    return x


def equal(double, width, state, **settings):
    x = rows(double, width)
    expected = double(x)
    model = import_model(state, **settings)
    with torch.no_grad():
        error = (model(x) - expected).abs().max()
    assert error <= 1e-12 * expected.abs().max()
    return model


# --- B-splines ---------------------------------------------------------------------------------


def spline_layer(d, names, n_in, n_out, *, order=3, act=silu, shared=False):
    """Draw knots, coefficients and, where they have names, base, scaler and bias of a layer."""
    knots, coef, base, scale, bias = (*names, *[None] * (5 - len(names)))
    knots, coef = d.grid(knots, n_in, 4, order), d.draw(coef, n_out, n_in, 4 + order)
    base = d.draw(base, n_out, n_in) if base else torch.zeros(n_out, n_in).double()
    if scale:
        scaler = d.draw(scale, *((1,) if shared else (n_out, n_in)))
        coef = coef * scaler.expand(n_out, n_in)[..., None]
    shift = d.draw(bias, n_out) if bias else 0
    return lambda x: act(x) @ base.T + splines(x, knots, coef) + shift


def spline_layers(d, names, widths, **options):
    """Draw layers whose number stands for {} in names; return what they compute."""
    return [
        spline_layer(d, [name.format(i) for name in names], *ends, **options)
        for i, ends in enumerate(itertools.pairwise(widths))
    ]


def spline_network(names, widths=(3, 4, 2), **options):
    d = Double()
    d.steps = spline_layers(d, names, widths, **options)
    return d


def numbered(names, start="layers.{}."):
    return [start + name for name in names.split()]


EFFICIENT = "grid spline_weight base_weight spline_scaler"
efficient_kan = functools.partial(spline_network, numbered(EFFICIENT))
lkan = functools.partial(spline_network, numbered("grid coeff scale_base scale_spline bias"))
TORCHKAN = ("grid_{}", "spline_weights.{}", "base_weights.{}", "spline_scalers.{}")
torchkan = functools.partial(spline_network, TORCHKAN, act=gelu)


def kanlib(widths=(3, 4, 2), *, bare=False):
    names = numbered("basis.grid coefficients weight_residual weight_spline bias_output", "{}.")
    return spline_network(names[: 2 if bare else 5], widths, order=2)


def kanx(widths=(3, 3, 2)):
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        base = d.draw(f"{i}.base_weight", n_in, n_out)
        coef = d.draw(f"{i}.spline_weight", n_in, n_out, 7)
        knots = extended(d.grid(f"{i}.grid", n_in, 4, outer=False), 3)
        d.steps.append(
            lambda x, k=knots, c=coef, b=base: silu(x) @ b + splines(x, k, c.transpose(0, 1))
        )
    return d


def cubic(widths=(3, 4, 2), *, packed=True):
    """inkan packs its weights; flashkan, and inkan before 0.4, do not."""
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        starts = d.keep(f"layers.{i}.grid_starts", torch.arange(8, dtype=torch.float64) * 0.4 - 2.2)
        knots = (starts[0] + 0.4 * torch.arange(12, dtype=torch.float64)).expand(n_in, -1)
        coef, base = d.draw("coef", n_out, n_in, 8), d.draw("base", n_out, n_in)
        del d.state["coef"], d.state["base"]
        if packed:
            d.keep(f"layers.{i}.weight", torch.cat([coef.flatten(1), base], 1))
        else:
            d.keep(f"layers.{i}.spline_weight", coef)
            d.keep(f"layers.{i}.base_weight", base)
        d.steps.append(lambda x, k=knots, c=coef, b=base: silu(x) @ b.T + splines(x, k, c))
    return d


def kangam(n_features=3):
    d = Double()
    parts = [
        spline_layers(d, numbered(EFFICIENT, f"models.{i}.layers.{{}}."), (1, 2, 1))
        for i in range(n_features)
    ]
    weight, bias = d.draw("linear.weight", 2, n_features), d.draw("linear.bias", 2)
    d.steps.append(
        lambda x: torch.cat([p[1](p[0](x[:, i : i + 1])) for i, p in enumerate(parts)], 1)
    )
    d.steps.append(lambda x: x @ weight.T + bias)
    return d


def convkan(groups=2, n_in=3, n_out=2):
    d = Double()
    base, scale = (
        d.draw(f"kan_layer.{n}", groups, n_out, n_in) for n in ("base_weight", "spline_scaler")
    )
    coef = d.draw("kan_layer.spline_weight", groups, n_out, n_in, 7)
    knots = d.keep("kan_layer.grid", d.grid("grid", groups * n_in).reshape(groups, n_in, -1))
    del d.state["grid"]

    def one(x, g):
        part = x[:, g * n_in : (g + 1) * n_in]
        return silu(part) @ base[g].T + splines(part, knots[g], coef[g] * scale[g][..., None])

    d.steps.append(lambda x: torch.cat([one(x, g) for g in range(groups)], 1))
    return d


def kanditioned(n_in=3, n_out=2, count=6, width=3.0):
    d = Double()
    values = d.draw("0.kan_weight", n_in, count, n_out)
    d.keep("0.local_bias", torch.arange(count).reshape(1, -1, 1))
    d.keep("0.feature_offset", torch.arange(n_in).reshape(1, -1) * count)

    def layer(x):
        u = (x + width / 2) * (count - 1) / width
        low = u.floor().clamp(0, count - 2)
        t, index = (u - low)[..., None], low.long()
        each = torch.arange(n_in)
        return ((1 - t) * values[each, index] + t * values[each, index + 1]).sum(1)

    d.steps.append(layer)
    return d


def normed_row():
    """efficient-kan's layers with torch's linear layer and batch normalization between."""
    d = Double()
    first = spline_layers(d, numbered("grid spline_weight base_weight", "{}."), (3, 4))
    mean, weight, bias = (d.draw(f"1.{n}", 4) for n in ("running_mean", "weight", "bias"))
    var = d.keep("1.running_var", torch.rand(4, generator=d.generator, dtype=torch.float64) + 0.1)
    d.keep("1.num_batches_tracked", torch.tensor(7))
    line, shift = d.draw("2.weight", 2, 4), d.draw("2.bias", 2)
    d.steps += [*first, lambda x: (x - mean) / (var + 1e-5).sqrt() * weight + bias]
    d.steps.append(lambda x: x @ line.T + shift)
    return d


# --- pykan -------------------------------------------------------------------------------------

FUNCTIONS = {
    "x": lambda u: u,
    "x^2": lambda u: u**2,
    "1/x^2": lambda u: u**-2,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sgn": torch.sign,
    "arctan": torch.arctan,
    "gaussian": lambda u: torch.exp(-(u**2)),
    "sigmoid": torch.sigmoid,
    "0": lambda u: 0 * u,
}


def pykan_layer(d, i, n_in, sums, arity, own, both, base):
    """Draw a layer with symbolic edges `own` by (out, in), of which `both` are splines too."""
    n_out, start = sums + sum(arity), f"act_fun.{i}."
    knots, coef = d.grid(f"{start}grid", n_in), d.draw(f"{start}coef", n_in, n_out, 7)
    line, scale, mask = (d.draw(start + n, n_in, n_out) for n in ("scale_base", "scale_sp", "mask"))
    smask = d.keep(f"symbolic_fun.{i}.mask", torch.zeros(n_out, n_in, dtype=torch.float64))
    affine = d.draw(f"symbolic_fun.{i}.affine", n_out, n_in, 4)
    mask.abs_()[0, 0] = 0
    for o, j in own:
        mask[j, o] *= (i, o, j) in both
        smask[o, j] = 0.7
    sub = [d.draw(f"subnode_{name}_{i}", n_out) for name in ("scale", "bias")]
    node = [d.draw(f"node_{name}_{i}", sums + len(arity)) for name in ("scale", "bias")]

    def layer(x):
        weight = (coef * (scale * mask)[..., None]).transpose(0, 1)
        y = base(x) @ (line * mask) + splines(x, knots, weight)
        for (o, j), name in own.items():
            t = affine[o, j]
            y[:, o] += smask[o, j] * (t[2] * FUNCTIONS[name](t[0] * x[:, j] + t[1]) + t[3])
        y = sub[0] * y + sub[1]
        factors = y[:, sums:].split(list(arity), 1)
        y = torch.cat([y[:, :sums], *(one.prod(1, keepdim=True) for one in factors)], 1)
        return node[0] * y + node[1]

    return layer


def pykan(widths=((3, 0), (1, 2), (2, 0)), arity=((), (2, 3), ()), names=None, both=(), base=silu):
    """Products, masks that are fractions or zero, and symbolic edges by (layer, out, in).

    Those in `both` are added to a spline.
    """
    d, names = Double(), names or {}
    arity = arity if not isinstance(arity, int) else [(arity,) * m for _, m in widths]
    for i, (ends, (sums, _)) in enumerate(itertools.pairwise(widths)):
        own = {(o, j): name for (layer, o, j), name in names.items() if layer == i}
        d.steps.append(pykan_layer(d, i, sum(ends), sums, arity[i + 1], own, both, base))
    table = [
        [["0"] * (n + m) for _ in range(s + sum(arity[i + 1]))]
        for i, ((n, m), (s, _)) in enumerate(itertools.pairwise(widths))
    ]
    for (i, o, j), name in names.items():
        table[i][o][j] = name
    d.facts = {f"symbolic.funs_name.{i}": one for i, one in enumerate(table)}
    d.facts |= {"width": [list(w) for w in widths], "mult_arity": [list(a) for a in arity]}
    d.facts |= {"base_fun_name": "silu", "symbolic_enabled": True, "k": 3, "grid": 4}
    return d


def old_pykan(widths=(3, 4, 2), *, shared=False):
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        bias, start = d.draw(f"biases.{i}.weight", 1, n_out), f"act_fun.{i}."
        cuts = d.grid(f"{start}grid", n_in * n_out, 3, outer=False)
        if shared:
            cuts = d.keep(f"{start}grid", cuts[:n_in].repeat(n_out, 1))
        coef = d.draw(f"{start}coef", n_in * n_out, 6)
        base, scale, mask = (
            d.draw(start + n, n_in * n_out) for n in ("scale_base", "scale_sp", "mask")
        )
        d.keep(f"symbolic_fun.{i}.mask", torch.zeros(n_out, n_in, dtype=torch.float64))
        d.draw(f"symbolic_fun.{i}.affine", n_out, n_in, 4)

        def layer(x, n_out=n_out, n_in=n_in, k=cuts, c=coef, b=base, s=scale, m=mask, t=bias):
            basis = reference_basis(x.repeat(1, n_out), extended(k, 3), 3)  # of every edge
            edges = m * (b * silu(x).repeat(1, n_out) + s * (basis * c).sum(2))
            return edges.reshape(-1, n_out, n_in).sum(2) + t

        d.steps.append(layer)
    return d
