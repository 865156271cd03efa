"""Methods that take samples one by one are run on some at a time, with what all at once give."""

import functools
import re

import pytest
import torch
from torch.testing import assert_close

from kanlens.attribution import METHODS, attribute
from kanlens.attribution import _attribute as attribute_module
from kanlens.attribution._problem import Method
from kanlens.attribution.shapley._games import Solution
from kanlens.errors import MethodError
from kanlens.model import _analysis as analysis
from tests.attribution.test_attribution_contract import FEW

ROWS, BACKGROUND = 11, 2
BY_ROW = sorted(name for name, method in METHODS.items() if method.by_row)


def numbers(found):
    parts = {name: getattr(found, name) for name in attribute_module.PER_SAMPLE}
    parts |= {f"path {index}": one for index, one in enumerate(found.paths or ())}
    parts |= {"gap": found.completeness_gap, "reference": found.reference, "x": found.x}
    return {name: one for name, one in parts.items() if one is not None}


@pytest.fixture
def counted(monkeypatch):
    """Take three samples at a time, and note the samples of every call of a method."""
    seen = []

    def start(name):
        monkeypatch.setattr(analysis, "BUDGET", 3 * 16 * 4)
        plain = METHODS[name]

        @functools.wraps(plain.function)
        def function(problem, **options):
            seen.append((problem.first, len(problem.x)))
            return plain.function(problem, **options)

        known = {**vars(plain), "function": function}
        monkeypatch.setitem(METHODS, name, Method(**known))
        return seen

    return start


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_ROW)
def test_some_samples_at_a_time_give_what_all_give(name, network, draw, counted):
    shape = [4, 1] if name == "additive" else [4, (2, 1), 1]
    if "deep_lift" in name or name == "captum_layer_conductance":
        shape = [4, 3, 1]
    model, x, rows = network(shape), draw(ROWS, 4), draw(BACKGROUND, 4, seed=2)
    whole = attribute(model, x, method=name, background=rows, **FEW.get(name, {}))
    seen = counted(name)
    found = attribute(model, x, method=name, background=rows, **FEW.get(name, {}))
    assert seen == [(0, 3), (3, 3), (6, 3), (9, 2)]
    for fact in ("baseline", "features", "evaluations", "remark", "owners"):
        assert getattr(found, fact) == getattr(whole, fact)
    assert numbers(found).keys() == numbers(whole).keys()
    for part, one in numbers(found).items():
        assert_close(one, numbers(whole)[part], rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("name", ["shapley", "integrated_gradients", "captum_kernel_shap"])
def test_methods_that_look_at_all_samples_or_draw_are_given_all(name, network, draw, counted):
    model, x = network([4, 3, 1]), draw(ROWS, 4)
    seen = counted(name)
    options = {"generator": torch.Generator(), **FEW.get(name, {})}
    attribute(model, x, method=name, background=x[:2], **options)
    assert seen == [(0, ROWS)]
    assert METHODS[name].random or METHODS[name].together


def test_an_error_names_the_sample_among_all(network, draw, counted, monkeypatch):
    model, x = network([4, 3, 1]), draw(ROWS, 4)

    def broken(problem, *_):
        bad = torch.where(problem.x == x[7], torch.nan, problem.x)
        return Solution(values=bad, evaluations=1.0)

    monkeypatch.setattr("kanlens.attribution.shapley._values._sum", broken)
    counted("interactions")
    with pytest.raises(MethodError, match=re.escape("NaN or infinity for sample 7.")):
        attribute(model, x, method="interactions", background=x[:2])
