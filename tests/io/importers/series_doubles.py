"""Doubles of libraries whose edges are bumps, waves, wavelets or polynomials of tanh."""

import itertools
import math

import torch
from torch.nn.functional import silu

from tests.io.importers.doubles import Double


def network(layer, widths=(3, 4, 2), **options):
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        d.steps.append(layer(d, f"layers.{i}.", n_in, n_out, **options))
    return d


def gaussian(u):
    return torch.exp(-(u**2))


def fast_kan(d, start, n_in, n_out, n=5, *, base=True, spacing=None):
    grid = d.keep(f"{start}rbf.grid", torch.linspace(-2, 2, n, dtype=torch.float64))
    weight, scale = d.draw(f"{start}spline_linear.weight", n_out, n_in * n), spacing or 4 / (n - 1)
    line, bias = torch.zeros(n_out, n_in).double(), 0
    if base:
        line = d.draw(f"{start}base_linear.weight", n_out, n_in)
        bias = d.draw(f"{start}base_linear.bias", n_out)
    return lambda x: (
        gaussian((x[..., None] - grid) / scale).flatten(1) @ weight.T + silu(x) @ line.T + bias
    )


def faster_kan(d, start, n_in, n_out, n=5):
    grid = d.keep(f"{start}rbf.grid", torch.linspace(-1.2, 0.2, n, dtype=torch.float64))
    d.keep(f"{start}rbf.inv_denominator", torch.tensor(0.7, dtype=torch.float64))
    weight = d.draw(f"{start}spline_linear.weight", n_out, n_in * n)
    return lambda x: (1 - torch.tanh(x[..., None] - grid) ** 2).flatten(1) @ weight.T


def rbf_kan(d, start, n_in, n_out, n=5):
    grid = d.keep(f"{start}rbf_linear.grid", torch.linspace(-2, 2, n, dtype=torch.float64))
    weight = d.draw(f"{start}rbf_linear.spline_weight", n_in * n, n_out)
    line = d.draw(f"{start}base_linear.weight", n_out, n_in)
    bias = d.draw(f"{start}base_linear.bias", n_out)
    return lambda x: gaussian(x[..., None] - grid).flatten(1) @ weight + silu(x) @ line.T + bias


def kanlib_grbf(d, start, n_in, n_out, n=6):
    weight = d.draw(f"{start}coefficients", n_out, n_in, n)
    grid, eps = d.draw(f"{start}basis.grid", n_in, n), d.draw(f"{start}basis.epsilon", n_in, 1)
    scale, base = (d.draw(start + key, n_out, n_in) for key in ("weight_spline", "weight_residual"))
    bias, weight = d.draw(f"{start}bias_output", n_out), weight * scale[..., None]
    return lambda x: (
        torch.einsum("bin,oin->bo", gaussian(eps * (x[..., None] - grid)), weight)
        + silu(x) @ base.T
        + bias
    )


def relu_kan(d, start, n_in, n_out, g=4, k=3, *, trained=False):
    phase = torch.arange(-k, g, dtype=torch.float64).expand(n_in, -1) / g
    if trained:
        phase = phase + 0.1 * torch.rand(phase.shape, generator=d.generator, dtype=torch.float64)
    low = d.keep(f"{start}phase_low", phase)
    high = d.keep(f"{start}phase_height", low + (k + 1) / g)
    weight = d.draw(f"{start}equal_size_conv.weight", n_out, 1, g + k, n_in)
    bias = d.draw(f"{start}equal_size_conv.bias", n_out)

    def forward(x):
        bumps = torch.relu(x[..., None] - low) * torch.relu(high - x[..., None])
        bumps = (bumps * (4 * g * g / (k + 1) ** 2)) ** 2  # (batch, in, g + k)
        image = bumps.reshape(len(x), 1, g + k, n_in)  # the library's own reshape
        return torch.nn.functional.conv2d(image, weight, bias).reshape(len(x), n_out)

    return forward


def waves(x, cos, sin):  # (batch, in), (out, in, n) -> (batch, out)
    u = x[..., None] * torch.arange(1, cos.shape[-1] + 1)
    return torch.einsum("bik,oik->bo", u.cos(), cos) + torch.einsum("bik,oik->bo", u.sin(), sin)


def fourier(d, start, n_in, n_out, n=3):
    cos, sin = d.draw(f"{start}fouriercoeffs", 2, n_out, n_in, n)
    bias = d.draw(f"{start}bias", 1, n_out)
    return lambda x: waves(x, cos, sin) + bias


def lkan_fft(d, start, n_in, n_out, n=3):
    both = d.draw(f"{start}coeff", 2, n_out, n_in, n)
    base, scale = (d.draw(start + name, n_out, n_in) for name in ("scale_base", "scale_spline"))
    d.draw(f"{start}bias", n_out)  # which the library leaves out
    d.keep(f"{start}k", torch.arange(1, n + 1).reshape(1, 1, n))
    return lambda x: waves(x, *(both * scale[..., None])) + silu(x) @ base.T


def sine(d, start, n_in, n_out, n=4):
    weight, freq = d.draw(f"{start}amplitudes", n_out, n_in, n), d.draw(f"{start}freq", 1, 1, 1, n)
    phase, bias = d.draw(f"{start}phase", 1, 1, n_in, n), d.draw(f"{start}bias", 1, n_out)
    return lambda x: (
        torch.einsum("bin,oin->bo", torch.sin(x[..., None] * freq[0, 0] + phase[0, 0]), weight)
        + bias[0]
    )


def meyer(u):
    v = u.abs()
    t = 2 * v - 1
    angle = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3) * math.pi / 2
    window = torch.where(v <= 0.5, 1.0, torch.where(v >= 1, 0.0, torch.cos(angle)))
    return torch.sin(math.pi * v) * window


WAVELETS = {
    "mexican_hat": lambda u: 2 / (3**0.5 * math.pi**0.25) * (u**2 - 1) * torch.exp(-(u**2) / 2),
    "morlet": lambda u: torch.cos(5 * u) * torch.exp(-(u**2) / 2),
    "dog": lambda u: -u * torch.exp(-(u**2) / 2),
    "meyer": meyer,
    "shannon": lambda u: (
        torch.sinc(u / math.pi) * torch.hamming_window(u.shape[-1], periodic=False, dtype=u.dtype)
    ),
}


def wav_kan(d, start, n_in, n_out, kind="mexican_hat", *, base=False):
    names = ("scale", "translation", "wavelet_weights", "weight1")
    scale, shift, weight, line = (d.draw(start + name, n_out, n_in) for name in names)
    mean, gamma, beta = (
        d.draw(f"{start}bn.{n}", n_out) for n in ("running_mean", "weight", "bias")
    )
    var = d.keep(f"{start}bn.running_var", torch.rand(n_out, generator=d.generator).double() + 0.5)
    d.keep(f"{start}bn.num_batches_tracked", torch.tensor(3))

    def forward(x):
        y = (weight * WAVELETS[kind]((x[:, None] - shift) / scale)).sum(2)
        y = y + silu(x) @ line.T if base else y
        return (y - mean) / (var + 1e-5).sqrt() * gamma + beta

    return forward


def other_jacobi(n, a, b, t):
    """OrthogPolyKANs' own recurrence."""
    if n == 0:
        return torch.ones_like(t)
    if n == 1:
        return 0.5 * (a - b) + (a + b + 2) * t / 2
    last, before, s = other_jacobi(n - 1, a, b, t), other_jacobi(n - 2, a, b, t), 2 * n + a + b
    first = (s - 1) * s * (s - 2) * t * last - (s - 1) * (a * a - b * b) * last
    rest = (n + a + b - 1) * (n + a - 1) * (n + b - 1) * s * before
    return (first - rest) / (2 * n * (n + a + b) * (s - 2))


def three_terms(first, second, step):
    def value(n, t):
        before, now = first(t), second(t)
        for k in range(2, n + 1):
            before, now = now, step(k, t, now, before)
        return before if n == 0 else now

    return value


def ones(t):
    return torch.ones_like(t)


def scipy_function(name, *args):
    def value(n, t):
        from scipy import special

        return torch.from_numpy(getattr(special, name)(n, *args, t.numpy()))

    return value


POLYNOMIALS = {
    "cheby": (lambda n, t: torch.cos(n * torch.acos(t)), {}),
    "legendre": (scipy_function("eval_legendre"), {}),
    "cheby2": (three_terms(ones, lambda t: 2 * t, lambda n, t, p, q: 2 * t * p - q), {}),
    "hermite": (
        three_terms(ones, lambda t: 2 * t, lambda n, t, p, q: 2 * t * p - 2 * (n - 1) * q),
        {},
    ),
    "laguerre": (scipy_function("eval_genlaguerre", 2.0), {"alpha": 2.0}),
    "gegenbauer": (scipy_function("eval_gegenbauer", 3.0), {"alpha": 3.0}),
    "lucas": (three_terms(lambda t: 2 + 0 * t, lambda t: t, lambda n, t, p, q: t * p + q), {}),
    "fib": (three_terms(lambda t: 0 * t, ones, lambda n, t, p, q: t * p + q), {}),
    "bessel": (three_terms(ones, lambda t: t + 1, lambda n, t, p, q: (2 * n - 1) * t * p + q), {}),
    "jacobi": (
        scipy_function("eval_jacobi", 1.0, 0.5),
        {"polynomials": "JacobiKAN", "a": 1, "b": 0.5},
    ),
    "jacobi, other": (
        lambda n, t: other_jacobi(n, 2.0, 3.0, t),
        {"polynomials": "OrthogPolyKANs", "alpha": 2.0, "beta": 3.0},
    ),
}


def polynomial(d, start, n_in, n_out, kind="cheby", degree=4):
    weight, value = (
        d.draw(f"{start}{kind.partition(',')[0]}_coeffs", n_in, n_out, degree + 1),
        POLYNOMIALS[kind][0],
    )
    d.keep(f"{start}arange", torch.arange(degree + 1))

    def forward(x):
        basis = torch.stack([value(n, torch.tanh(x)) for n in range(degree + 1)], -1)
        return torch.einsum("bid,iod->bo", basis, weight)

    return forward
