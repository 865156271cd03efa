"""Everything that takes a network, on layers of every kind, against slow and obvious versions.

Layers whose edges are sums of bumps, waves, polynomials of tanh or kinks beside splines, some edges
replaced by functions, and layers whose sums are normalized: the checks are those of networks that
multiply.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.model._network import KAN
from tests import test_products_contract as contract
from tests.attribution import test_attribution_contract as attribution
from tests.made import draw, made
from tests.model.layers_for_tests import SERIES

X, ROWS, MANY = draw(3, 3), draw(2, 3, seed=2), draw(60, 3, seed=3)
KINDS = ("normalization", "bumps", "waves", "polynomials of tanh", "kinks and powers")


def network(kind: str) -> KAN:
    if kind == "normalization":
        return made([3, 3, 2], scaled_nodes=True, normalized=[2, 0])
    return made([3, (1, 1), 2], series=SERIES[kind], scaled_nodes=True)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> KAN:
    return network(request.param)


def test_the_network_is_the_loop(model: KAN) -> None:
    assert_close(model(MANY).detach(), contract.output(model, MANY), rtol=1e-11, atol=1e-11)


EXACT = [
    (name, kind)
    for kind in KINDS
    for name in ("shapley", "integrated_gradients", "secant")
    if (name, kind) != ("secant", "normalization")  # defined by products: tests/model
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), EXACT)
def test_exact_method_is_its_definition(name: str, kind: str) -> None:
    attribution.check_exact(name, network(kind), X, ROWS)


@pytest.mark.slow  # every public function once
@pytest.mark.usefixtures("few_points")
def test_certificates_are_bounds(model: KAN) -> None:
    domain = torch.stack([MANY.amin(0), MANY.amax(0)], 1)
    values = contract.output(model, MANY)[:, 1]
    (proven,) = kanlens.certify(model, domain, target=1, max_boxes=2).outputs
    assert -math.inf < proven.range.low <= float(values.min())
    assert float(values.max()) <= proven.range.high < math.inf


ONE = {"certify": "bumps", "report": "bumps"}  # which take longest, and have their own tests
PLACES = [
    pytest.param(name, kind, marks=contract.marks(name))
    for name in sorted(contract.FUNCTIONS)
    for kind in KINDS[:2]
    if ONE.get(name, kind) == kind
]


@pytest.mark.slow  # every public function once
@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_public_function(name: str, kind: str, tmp_path: Path) -> None:
    model = network(kind)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    contract.FUNCTIONS[name](model, tmp_path)
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
