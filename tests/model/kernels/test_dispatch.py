"""Where a kernel cannot run the torch path does, and gives the same numbers."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

from kanlens.model import kernels
from kanlens.model._network import KAN
from kanlens.model.kernels import _autograd as fused_autograd
from tests.model.kernels.layers import Case, make
from tests.model.layers_for_tests import EXACT, seeded

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # torch's own use of it
]


class Counted:
    """Counts the forward passes of the kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, right = 0, fused_autograd.FusedSum.forward

        def counting(*args: object) -> object:
            self.calls += 1
            return right(*args)

        monkeypatch.setattr(fused_autograd.FusedSum, "forward", staticmethod(counting))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture(autouse=True)
def path():
    with kernels.use("sparse"):
        yield


def expected(case: Case) -> Tensor:
    with torch.no_grad():
        return case.layer.forward_torch(case.x)


# --- compilers and tracers -------------------------------------------------------------------


@pytest.mark.slow  # the compiler itself takes seconds
def test_compile(counted):
    case = make()
    compiled = torch.compile(case.layer, fullgraph=True, backend="aot_eager")
    x = case.x.clone().requires_grad_()
    y = compiled(x)
    found = torch.autograd.grad(y, [x, *case.layer.parameters()], case.grad)
    x = case.x.clone().requires_grad_()
    wanted = torch.autograd.grad(
        case.layer.forward_torch(x), [x, *case.layer.parameters()], case.grad
    )
    assert counted.calls == 0
    assert_close(y, expected(case), **EXACT)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, **EXACT)


@pytest.mark.slow  # the exporter itself takes seconds
@pytest.mark.parametrize("strict", [True, False])
def test_export(counted, strict):
    case = make()
    program = torch.export.export(case.layer, (case.x,), strict=strict)
    assert counted.calls == 0
    assert_close(program.module()(case.x), expected(case), **EXACT)
    assert any("linear" in str(node.target) for node in program.graph.nodes)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_trace(counted):
    case = make()
    traced = torch.jit.trace(case.layer, (case.x,), check_trace=False)
    assert counted.calls == 0
    other = case.x.flip(0) / 2
    assert_close(traced(other), case.layer.forward_torch(other), **EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_records_operations_and_not_their_result(mode):
    case = make()

    def call(x: Tensor) -> Tensor:
        return case.layer(x)

    graph = make_fx(call, tracing_mode=mode, _allow_non_fake_inputs=True)(case.x)
    other = case.x.flip(0) / 2
    assert_close(graph(other), case.layer.forward_torch(other), **EXACT)


# --- torch.func and forward mode -------------------------------------------------------------


def test_vmap_over_rows(counted):
    case = make()
    found = vmap(case.layer)(case.x)
    assert counted.calls == 0
    assert_close(found, expected(case), **EXACT)


def test_vmap_over_layers():
    cases = [make(seed=seed, grid="uneven") for seed in range(3)]
    parameters, buffers = stack_module_state([case.layer for case in cases])

    def call(parameters: dict, buffers: dict, x: Tensor) -> Tensor:
        return functional_call(cases[0].layer, (parameters, buffers), (x,))

    found = vmap(call, in_dims=(0, 0, None))(parameters, buffers, cases[0].x)
    for y, case in zip(found, cases, strict=True):
        assert_close(y, case.layer.forward_torch(cases[0].x), **EXACT)


def test_grad_and_jacobians():
    case = make(batch=4)

    def loss(weights: dict, x: Tensor) -> Tensor:
        return functional_call(case.layer, weights, (x,)).square().sum()

    weights = {name: each.detach() for name, each in case.layer.named_parameters()}
    found = grad(loss)(weights, case.x)
    y = case.layer.forward_torch(case.x)
    wanted = torch.autograd.grad(y.square().sum(), list(case.layer.parameters()))
    for name, other in zip(weights, wanted, strict=True):
        assert_close(found[name], other, **EXACT)
    forward, reverse = jacfwd(case.layer)(case.x), jacrev(case.layer)(case.x)
    plain = torch.autograd.functional.jacobian(case.layer.forward_torch, case.x)
    assert_close(forward, plain, **EXACT)
    assert_close(reverse, plain, **EXACT)


@pytest.mark.parametrize("graded", [False, True])
def test_what_a_transform_left_behind(counted, graded):
    case, kept = make(), []

    def call(x: Tensor) -> Tensor:
        kept.append(x.clone())
        return x.sum()

    grad(call)(case.x)
    with torch.set_grad_enabled(graded):
        found = case.layer(kept[0])
    assert counted.calls == 0
    assert_close(found, expected(case), **EXACT)


@pytest.mark.parametrize("name", ["x", "spline_weight", "spline_scaler", "base_weight", "bias"])
def test_forward_mode_along_every_input(name):
    case = make()
    with forward_ad.dual_level():
        tensors = {key: each.detach() for key, each in case.layer.named_parameters()}
        tensors["x"] = case.x
        tensors[name] = forward_ad.make_dual(tensors[name], torch.ones_like(tensors[name]))
        x = tensors.pop("x")
        found = forward_ad.unpack_dual(functional_call(case.layer, tensors, (x,))).tangent
        with kernels.use("torch"):
            wanted = forward_ad.unpack_dual(functional_call(case.layer, tensors, (x,))).tangent
    assert found is not None
    assert_close(found, wanted, **EXACT)


# --- other kinds of tensors ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(counted, dtype):
    layer = make().layer.to(dtype)
    x = make().x.to(dtype).requires_grad_()
    y = layer(x)
    assert counted.calls == 0 and y.dtype == dtype
    assert_close(y, layer.forward_torch(x), rtol=0, atol=0)
    y.sum().backward()
    assert x.grad.dtype == dtype


def test_autocast(counted):
    layer, x = make(dtype=torch.float32).layer, make(dtype=torch.float32).x
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, wanted = layer(x), layer.forward_torch(x)
    assert counted.calls == 0 and y.dtype == wanted.dtype
    assert_close(y, wanted, rtol=0, atol=0)


def test_networks_run_under_autocast():
    model = KAN([2, 3, 1], generator=seeded())
    x = torch.linspace(-1, 1, 8).reshape(4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    with kernels.use("torch"):
        assert_close(y.float(), model(x), rtol=0.05, atol=0.05)


def test_backward_under_autocast_keeps_the_dtype():
    case = make(dtype=torch.float32)
    y = case.layer(case.x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(y, list(case.layer.parameters()), case.grad)
    assert {each.dtype for each in found} == {torch.float32}
    wanted = torch.autograd.grad(case.layer(case.x), list(case.layer.parameters()), case.grad)
    for one, other in zip(found, wanted, strict=True):  # torch's products may round to half
        assert_close(one, other, rtol=0, atol=0.02 * float(other.abs().max()))


def test_meta_device():
    layer = make().layer.to("meta")
    y = layer(torch.empty(7, 3, dtype=torch.float64, device="meta"))
    assert y.shape == (7, 5) and y.device.type == "meta"


class Marked(Tensor):
    """A tensor whose operations give tensors of its own kind."""


def test_tensors_of_another_class_keep_it(counted):
    case = make()
    y = case.layer(case.x.as_subclass(Marked))
    assert type(y) is Marked and counted.calls == 0
    assert_close(y.as_subclass(Tensor).detach(), expected(case), **EXACT)


@pytest.mark.parametrize(
    "name", ["spline_weight", "spline_scaler", "base_weight", "bias", "mask", "grid"]
)
def test_weights_of_another_class_are_left_to_torch(counted, name):
    case = make()
    tensors = {name: case.layer.state_dict()[name].as_subclass(Marked)}
    y = functional_call(case.layer, tensors, (case.x,))
    assert type(y) is Marked and counted.calls == 0


def test_a_mask_or_a_grid_with_a_gradient_is_left_to_torch(counted):
    case = make()
    for name in ("mask", "grid"):
        tensor = case.layer.state_dict()[name].clone().requires_grad_()
        y = functional_call(case.layer, {name: tensor}, (case.x,))
        (found,) = torch.autograd.grad(y.sum(), tensor)
        assert found.abs().sum() > 0
    assert counted.calls == 0


def test_parametrized_weights(counted):
    class Doubled(nn.Module):
        def forward(self, tensor: Tensor) -> Tensor:
            return 2 * tensor

    case = make()
    plain = copy.deepcopy(case.layer)
    nn.utils.parametrize.register_parametrization(case.layer, "spline_weight", Doubled())
    with torch.no_grad():
        plain.spline_weight *= 2
    y = case.layer(case.x)
    assert counted.calls == 1
    assert_close(y, plain.forward_torch(case.x), **EXACT)
    original = case.layer.parametrizations.spline_weight.original
    (found,) = torch.autograd.grad(y, original, case.grad)
    (wanted,) = torch.autograd.grad(plain.forward_torch(case.x), plain.spline_weight, case.grad)
    assert_close(found, 2 * wanted, **EXACT)
