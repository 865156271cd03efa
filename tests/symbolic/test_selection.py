import copy

import pytest
import torch

from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._kan_linear import KANLinear
from kanlens.symbolic._assignment import (
    Candidate,
    EdgeChoice,
    assign_layer,
    information_scores,
    rank_candidates,
)
from kanlens.symbolic._edge_fitting import EdgeSamples, fit_edges, sample_edges
from kanlens.symbolic._library import library
from tests.symbolic.made import spline_layer

MEMBERS = {  # on [-1, 1]: (a, b) of edges as they come out of training
    "x": [(1.0, 0.0)],
    "x^2": [(1.0, 0.0), (1.0, 0.4)],
    "x^3": [(1.0, 0.0), (1.0, -0.3)],
    "1/x": [(1.0, 1.3), (-1.0, 1.6)],
    "log": [(1.0, 1.2), (-1.0, 1.5)],
    "sqrt": [(1.0, 1.1)],
    "exp": [(1.0, 0.0), (-2.0, 0.0)],
    "sin": [(3.0, 0.0), (4.5, 1.0), (2.0, 1.5)],
    "tanh": [(2.0, 0.5), (3.0, 0.0)],
    "gaussian": [(1.5, 0.0), (2.0, 0.4)],
    "cosh": [(1.8, 0.3)],
}


def ranked(grid_size):
    truth, functions = [], []
    for name, members in MEMBERS.items():
        for a, b in members:
            truth.append(name)
            functions.append(lambda x, g=FUNCTIONS[name].value, a=a, b=b: 2 * g(a * x + b) - 1)
    layer = spline_layer([[f] for f in functions], [(-1.0, 1.0)], grid_size=grid_size)
    x = torch.linspace(-1, 1, 500, dtype=torch.float64)[:, None]
    fits = fit_edges(sample_edges(layer, x).samples, library())
    return truth, rank_candidates(fits, float(layer.degrees_of_freedom))


def share_right(truth, found):
    return sum(f[0].function == name for name, f in zip(truth, found, strict=True)) / len(truth)


def test_true_function_is_first_on_splines_of_five_intervals():
    assert share_right(*ranked(5)) >= 0.95


def test_true_function_is_always_first_on_fine_splines():
    truth, found = ranked(20)
    assert share_right(truth, found) == 1.0
    assert all(len(candidates) == 3 for candidates in found)
    assert all(candidates[0].score == 0.0 for candidates in found)


def test_best_fit_alone_would_choose_worse():
    """The check has teeth: ranking by R2 fails it."""
    truth, functions = ["x"] * 8, []
    generator = torch.Generator().manual_seed(0)
    for _ in truth:
        noise = 1e-3 * torch.randn(128, generator=generator, dtype=torch.float64)
        functions.append(lambda x, n=noise: x + n)
    x = torch.linspace(-1, 1, 128, dtype=torch.float64).repeat(8, 1)
    y = torch.stack([f(row) for f, row in zip(functions, x, strict=True)])
    one = torch.ones(8, dtype=torch.float64)
    fits = fit_edges(EdgeSamples(x=x, y=y, low=-one, high=one, uniform=128), library())
    best = fits.r2.argmax(1)
    assert [fits.families[k].name for k in best] != truth
    assert [c[0].function for c in rank_candidates(fits, 8.0)] == truth


def test_constant_never_competes():
    x = torch.linspace(-1, 1, 64, dtype=torch.float64).repeat(2, 1)
    y = torch.stack((torch.full((64,), 2.5, dtype=torch.float64), 1e-6 * x[0]))
    one = torch.ones(2, dtype=torch.float64)
    points = EdgeSamples(x=x, y=y, low=-one, high=one, uniform=64)
    flat, line = rank_candidates(fit_edges(points, library()), 8.0)
    assert [c.function for c in flat] == ["constant"]
    assert flat[0].parameters[3] == 2.5
    assert line[0].function == "x"


def test_the_criterion_prices_parameters_and_misfit():
    families = library(["x^2", "cosh"])

    def scores(misfit, coefficients=8.0):
        return information_scores(torch.tensor([misfit]).double(), families, coefficients)[0]

    for misfit in (0.0, 1e-6, 0.5, 1.0):
        assert scores([misfit] * 3).argsort().tolist() == [0, 1, 2]  # the simpler of equals
    gaps = [float(scores([1.0, v, v]).diff()[1]) for v in (1e-1, 1e-3, 1e-6)]
    assert 0 < gaps[0] < gaps[1] < gaps[2]  # a parameter pays more where there is less noise
    assert scores([0.3, 0.2, 1e-5]).argmin().item() == 2
    few = scores([0.0] * 3, 2.0)
    assert bool(torch.isfinite(few).all())
    assert few.argmin().item() == 0


@pytest.mark.parametrize(("least", "function"), [(0.8, "x"), (0.99, "sin"), (0.9999, "spline")])
def test_acceptance_takes_the_best_that_explains_enough(least, function):
    poor = Candidate(function="x", parameters=(1, 0, 1, 0), r2=0.9, score=0.0)
    good = Candidate(function="sin", parameters=(1, 0, 1, 0), r2=0.999, score=2.0)
    choice = EdgeChoice(layer=0, out=0, in_=0, candidates=(poor, good), importance=1.0)
    layer = copy.deepcopy(KANLinear(1, 1).double())
    assign_layer(layer, [choice], least, torch.linspace(-1, 1, 9).double()[:, None])
    assert layer.functions == ((function,),)
