"""The order of layers, functions between them, norms beside them, and classes of other forwards."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.io.importers import import_model
from tests.io.importers import doubles, series_doubles
from tests.io.importers.test_efficient_kan import (
    EfficientKAN,
    EfficientKANLinear,
    layer_state,
    network_state,
    points,
    reference_layer,
    reference_network,
)
from tests.io.importers.test_normalized_layouts import bsrbf, gram_basis

FIRST, SECOND = layer_state(3, 4), layer_state(4, 2, seed=1)
X = points(FIRST)[::3]


class Layer(EfficientKANLinear):
    """A layer that can be run."""

    def forward(self, x):
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        return reference_layer(x, tensors, 3)


EfficientKANLinear = type("EfficientKANLinear", (Layer,), {})


def row(*between, after=()):
    """Return a Sequential of two layers with modules between them and after."""
    parts = [EfficientKANLinear(FIRST), *between, EfficientKANLinear(SECOND), *after]
    return nn.Sequential(*parts).double().eval()


def same(model, module, head=lambda y: y):
    with torch.no_grad():
        expected = module(X)
    assert (head(model(X)) - expected).abs().max() <= 1e-12 * expected.abs().max()


def refused(source, text, **options):
    with pytest.raises(InvalidValueError, match=f"^{re.escape(f'import_model: expected {text}')}$"):
        import_model(source, **options)


# --- a state dict without all numbers ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("between", "layers"),
    [
        ([nn.Tanh()], "0,tanh,2"),
        ([nn.Dropout(), nn.Tanh()], "0,dropout,tanh,3"),
        ([nn.Dropout(), nn.Tanh()], ["0", "Tanh", "3"]),
        ([nn.Dropout()], "0,2"),
        ([nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 4)], "0,1,silu,3,4"),
        ([nn.LayerNorm(4), nn.Dropout()], "0,1,dropout,3"),
        ([nn.Mish()], "net.0,mish,net.2"),
        ([nn.ReLU6()], "0,relu6,2"),
        ([nn.Sigmoid(), nn.Softsign()], "0,sigmoid,softsign,3"),
        ([nn.LeakyReLU(0.2)], "0,leaky_relu(0.2),2"),
        ([nn.ELU(0.5), nn.GELU()], "0,elu(0.5),gelu,3"),
        ([nn.Softplus(2.0, threshold=20)], "0,softplus(2),2"),
    ],
)
def test_a_state_dict_with_gaps_is_opened_by_layers(between, layers):
    module = row(*between)
    state = {f"net.{key}": tensor for key, tensor in module.state_dict().items()}
    with pytest.raises(InvalidValueError, match="numbered from 0 without gaps"):
        import_model(state)
    model = import_model(state, layers=layers)
    same(model, module)
    assert "layers=" not in model.provenance
    same(import_model(module), module)


def test_functions_before_the_first_layer_and_after_the_last():
    module = nn.Sequential(nn.Tanh(), *row(), nn.Sigmoid()).eval()
    same(import_model(module.state_dict(), layers="tanh,1,2,sigmoid"), module)
    same(import_model(module), module)


def test_the_refusal_names_layers():
    refused(
        row(nn.Tanh(), nn.Dropout()).state_dict(),
        "layers in the state dict to be numbered from 0 without gaps, got 0, 3. "
        "Pass layers='0,tanh,tanh,3' if tanh stands there, or dropout or another function.",
    )
    refused(
        row(nn.Tanh()).state_dict(),
        "layers to list every layer in the state dict, got a list without '2'. Add it.",
        layers="0,tanh",
    )
    refused(
        row(nn.Tanh()).state_dict(),
        "only activations, Dropout, Identity or Flatten between layers of the state dict, "
        "got glu as glu. "
        "Name a registered function in its place in layers, or pass the part that is a KAN.",
        layers="0,glu,2",
    )


# --- what the last layer is followed by --------------------------------------------------------


@pytest.mark.parametrize("head", [nn.Softmax(-1), nn.LogSoftmax(1)])
def test_a_softmax_at_the_end_leaves_the_logits(tmp_path, head):
    module = row(after=[head])
    torch.save(module, tmp_path / "whole.pt")
    name = type(head).__name__.lower()
    for source in (module, tmp_path / "whole.pt"):
        model = import_model(source)
        same(model, module, head)
        assert model.provenance.endswith(f"its {name} left out: outputs are logits")
    model = import_model(module.state_dict(), layers=f"0,1,{name}")
    same(model, module, head)
    with pytest.raises(InvalidValueError, match=f"got {type(head).__name__} as 1"):
        import_model(row(head))


def test_a_module_may_return_the_logarithms_of_probabilities():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.kan = row()

        def forward(self, x):
            return F.log_softmax(self.kan(x), -1)

    model = import_model(Classifier())
    same(model, Classifier(), lambda y: y.log_softmax(-1))
    assert model.provenance.endswith("its logsoftmax left out: outputs are logits")


# --- norms in blocks and in lists of their own -------------------------------------------------


class Block(nn.Module):
    """A layer and the normalization of its outputs."""

    def __init__(self, state, width):
        super().__init__()
        self.layer, self.layer_norm = EfficientKANLinear(state), nn.LayerNorm(width).double()
        with torch.no_grad():
            self.layer_norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))

    def forward(self, x):
        return self.layer_norm(self.layer(x))


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Block(FIRST, 4), Block(SECOND, 2)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_blocks_of_a_layer_and_a_norm(tmp_path):
    module = Blocks()
    model = import_model(module.state_dict())
    same(model, module)
    order = "layers.0.layer,layers.0.layer_norm,layers.1.layer,layers.1.layer_norm"
    assert f"layers='{order}'" in model.provenance
    same(import_model(module), module)
    torch.save(module, tmp_path / "blocks.pt")
    with pytest.raises(
        InvalidValueError, match=r"got the class .*\.Blocks\. Pass classes='Blocks'"
    ):
        import_model(tmp_path / "blocks.pt")
    same(import_model(tmp_path / "blocks.pt", classes="Blocks,Block"), module)


class Aside(nn.Module):
    """Layers in one list, norms of their inputs in another."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([EfficientKANLinear(FIRST), EfficientKANLinear(SECOND)])
        self.layer_norm = nn.ModuleList([nn.LayerNorm(3).double(), nn.LayerNorm(4).double()])

    def forward(self, x):
        for norm, layer in zip(self.layer_norm, self.layers, strict=True):
            x = layer(norm(x))
        return x


def test_norms_in_a_list_of_their_own():
    module, order = Aside(), "layer_norm.0,layers.0,layer_norm.1,layers.1"
    same(import_model(module), module)
    refused(
        module.state_dict(),
        "one KAN in the state dict, "
        "got layers 'layer_norm.0', 'layer_norm.1', 'layers.0', 'layers.1'. "
        f"Pass layers={order!r} if that is their order, with nothing between.",
    )
    same(import_model(module.state_dict(), layers=order), module)
    model = import_model(module.state_dict(), layers="layers.0,layers.1")
    assert model.provenance.endswith("layer_norm.0, layer_norm.1 left out")


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(4, 0.1), nn.BatchNorm1d(4, 0.1), nn.LayerNorm(4, 0.1, bias=False)]
)
def test_the_eps_of_a_norm_is_read(tmp_path, norm):
    module = row(norm)
    torch.save(module, tmp_path / "whole.pt")
    for source in (module, tmp_path / "whole.pt"):
        model = import_model(source)
        same(model, module)
        assert "eps" not in model.provenance
    if norm.bias is not None:
        assert "eps=1e-05" in import_model(module.state_dict()).provenance


# --- classes of other forwards -----------------------------------------------------------------


class Doubled(EfficientKANLinear):
    def forward(self, x):
        return 2 * super().forward(x)


class Net(EfficientKAN):
    def forward(self, x):
        return 2 * x


def test_a_pickled_subclass_is_refused_or_vouched_for(tmp_path):
    module = nn.Sequential(Doubled(FIRST), EfficientKANLinear(SECOND))
    torch.save(module, tmp_path / "sub.pt")
    place = f"{__name__}.Doubled as '0'"
    text = (
        f"classes of efficient-kan in 'sub.pt', got {place}. "
        "Pass classes='Doubled' if its forward is the library's, or submodule for a part."
    )
    refused(tmp_path / "sub.pt", text)
    model = import_model(tmp_path / "sub.pt", classes="Doubled")
    torch.testing.assert_close(model(X), reference_network(X, [FIRST, SECOND], 3))
    with pytest.raises(InvalidValueError, match="Sequential to compute what its library does"):
        import_model(module)
    with pytest.raises(InvalidValueError, match="Sequential to compute what its library does"):
        import_model(module, extrapolation="linear")


def test_a_network_of_ones_own_is_asked_about_and_its_part_imported(tmp_path):
    torch.save(nn.ModuleDict({"net": Net(network_state()[1])}), tmp_path / "net.pt")
    with pytest.raises(InvalidValueError, match=r"got .*\.Net as 'net'\. Pass classes='Net' if"):
        import_model(tmp_path / "net.pt")
    model = import_model(tmp_path / "net.pt", submodule="net.layers")
    torch.testing.assert_close(model(X), reference_network(X, network_state()[1], 3))
    text = "no classes with a network of efficient-kan, got 'Net'. Leave it out."
    assert import_model(network_state()[0], classes="Net").widths == (3, 4, 2), text


def test_kat_without_absolute_values_is_refused_by_its_class(tmp_path):
    class KAT_Group_Torch(nn.Module):
        pass

    module = nn.Sequential(KAT_Group_Torch(), nn.Linear(4, 2).double())
    module[0].weight_numerator = nn.Parameter(torch.ones(1, 6, dtype=torch.float64))
    module[0].weight_denominator = nn.Parameter(torch.ones(2, 4, dtype=torch.float64))
    globals()["KAT_Group_Torch"] = KAT_Group_Torch
    KAT_Group_Torch.__qualname__ = "KAT_Group_Torch"
    torch.save(module, tmp_path / "kat.pt")
    for source in (module, tmp_path / "kat.pt"):
        for classes in ({}, {"classes": "KAT_Group_Torch"}):
            text = (
                r"got .*\.KAT_Group_Torch as '0'\. Its denominators have no absolute values; train"
            )
            with pytest.raises(InvalidValueError, match=text):
                import_model(source, **classes)
    assert "classes='KAT_Group'" in import_model(module.state_dict()).provenance


class KnownByName(EfficientKANLinear):
    """A class under the library's own name."""

    def forward(self, x):
        return super().forward(torch.tanh(x))


KnownByName.__name__ = KnownByName.__qualname__ = "KANLinear"
KANLinear = KnownByName


@pytest.mark.parametrize("kind", [EfficientKANLinear, KnownByName, Doubled])
def test_a_forward_that_was_not_run_is_assumed_to_be_the_library_s(tmp_path, kind):
    module = nn.Sequential(kind(FIRST), EfficientKANLinear(SECOND))
    torch.save(module, tmp_path / "net.pt")
    said = "forward='efficient-kan' assumed (not in the tensors)"
    for source in (tmp_path / "net.pt", module.state_dict()):
        assert said in import_model(source, classes="Doubled").provenance
    if kind is EfficientKANLinear:
        live = "efficient-kan, imported from the module Sequential"
        assert import_model(module).provenance == live


# --- vectors between layers --------------------------------------------------------------------


def prelu(count=1):
    module = nn.PReLU(count)
    nn.init.normal_(module.weight)
    return module


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize(
    ("between", "after"),
    [([prelu()], []), ([prelu(4)], [nn.Tanh()]), ([nn.BatchNorm1d(4), prelu()], [prelu(2)])],
)
def test_prelu_stands_between_layers(tmp_path, between, after):
    module = row(*between, after=after)
    torch.save(module, tmp_path / "whole.pt")
    same(import_model(module), module)
    same(import_model(tmp_path / "whole.pt"), module)
    model = import_model(module.state_dict())
    assert f"{len(between)}='PReLU'" in model.provenance
    same(model, module, nn.Tanh() if isinstance(module[-1], nn.Tanh) else lambda y: y)


def test_prelu_with_one_slope_stands_before_the_first_layer():
    module = nn.Sequential(prelu(), EfficientKANLinear(FIRST)).double()
    same(import_model(module), module)
    same(import_model(module.state_dict()), module)


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.RMSNorm(4)]
)
def test_a_norm_that_is_no_layer_norm_is_refused_by_its_name(tmp_path, norm):
    torch.save(row(norm), tmp_path / "whole.pt")
    refused(
        tmp_path / "whole.pt",
        "only activations, Dropout, Identity or Flatten between layers of 'whole.pt', "
        f"got {type(norm).__name__} as 1. Name a registered function in its place in layers, or "
        "pass the part that is a KAN.",
    )
    if not isinstance(norm, nn.RMSNorm):
        assert "norm='LayerNorm'" in import_model(row(norm).state_dict()).provenance
    assert "norm=" not in import_model(row(nn.LayerNorm(4))).provenance


@pytest.mark.slow
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm1d])
def test_normalizations_in_a_row_are_composed(norm):
    parts = [nn.LayerNorm(3), norm(3), EfficientKANLinear(FIRST), nn.LayerNorm(4), norm(4)]
    module = nn.Sequential(*parts, EfficientKANLinear(SECOND), nn.LayerNorm(2), norm(2)).double()
    for _ in range(20):
        module(2 * X + 1)
    draw = torch.Generator().manual_seed(0)
    for one in module:
        if not isinstance(one, EfficientKANLinear):
            one.weight.data.uniform_(0.5, 2, generator=draw)
            one.bias.data.normal_(generator=draw)
    same(import_model(module.eval()), module)
    same(import_model(module.state_dict()), module)


@pytest.mark.parametrize("before", [nn.Tanh(), prelu(), prelu(3)])
def test_a_function_stands_before_a_layer_that_normalizes_its_inputs(before):
    double = series_doubles.network(series_doubles.fast_kan, (3, 2))
    norm = {f"layers.0.layernorm.{key}": torch.ones(3).double() for key in ("weight", "bias")}
    state = {key.replace("layers.0", "1"): one for key, one in (double.state | norm).items()}
    state |= {f"0.{key}": one.double() for key, one in before.state_dict().items()}
    layers = {} if len(before.state_dict()) else {"layers": "tanh,1"}
    model = import_model(state, **layers)
    inner = import_model({key[2:]: one for key, one in state.items() if key.startswith("1")})
    torch.testing.assert_close(model(X), inner(before.double()(X).detach()))


class Ended(nn.Module):
    """A layer, and a function after it that its name does not tell."""

    def __init__(self):
        super().__init__()
        self.kan = EfficientKANLinear(FIRST)

    def forward(self, x):
        return torch.tanh(self.kan(x))


def test_the_functions_of_a_forward_are_told_by_layers():
    module = Ended().double()
    with pytest.raises(InvalidValueError, match="or pass layers='0,tanh,2' if tanh is missing"):
        import_model(module)
    same(import_model(module, layers="kan,tanh"), module)


def test_only_the_softmax_at_the_end_is_left_out():
    state = row(nn.Softmax(1), after=[nn.Softmax(1)]).state_dict()
    with pytest.raises(InvalidValueError, match="got softmax as softmax"):
        import_model(state, layers="0,softmax,2,softmax")


# --- functions with parameters, and registered ones --------------------------------------------


def test_softplus_with_another_threshold_is_refused(tmp_path):
    torch.save(row(nn.Softplus(threshold=1)), tmp_path / "whole.pt")
    with pytest.raises(InvalidValueError, match="got Softplus as 1"):
        import_model(tmp_path / "whole.pt")
    with pytest.raises(InvalidValueError, match=r"got Softplus\(beta=1\.0, threshold=1\)"):
        kanlens.KAN([2, 1], base_activation=nn.Softplus(threshold=1))


def test_a_registered_function_is_known_by_its_name_and_module(tmp_path):
    import sympy

    slope, scale = 1.6732632423543772, 1.0507009873554805

    def form(u):
        return scale * sympy.Piecewise((u, u > 0), (slope * (sympy.exp(u) - 1), True))

    module = row(nn.SELU())
    torch.save(module, tmp_path / "whole.pt")
    with pytest.raises(InvalidValueError, match="got SELU as 1"):
        import_model(module)
    with kanlens.register_function("selu", F.selu, form):
        same(import_model(module.state_dict(), layers="0,selu,2"), module)
        for source in (module, tmp_path / "whole.pt"):
            same(import_model(source), module)


# --- layers that were refused for wrong reasons ------------------------------------------------


def test_outer_norms_that_nothing_uses_are_left_out():
    double = series_doubles.network(series_doubles.fourier)
    widths, state = (3, 4), dict(double.state)
    for i, width in enumerate(widths):
        for name in (f"layers.{i}.layernorm", f"layer_norm.{i}"):
            norm = nn.LayerNorm(width).double()
            state |= {f"{name}.{key}": one for key, one in norm.state_dict().items()}
            state[f"{name}.weight"] = state[f"{name}.weight"] * (1 + i)
    model = import_model(state)
    idle = {key: one for key, one in state.items() if not key.startswith("layer_norm")}
    assert torch.equal(model(X), import_model(idle)(X))
    assert "layer_norm.0, layer_norm.1 left out" in model.provenance


def test_gaussians_with_idle_norms_and_packed_weights():
    draw = torch.Generator().manual_seed(0)
    grid, n_in, n_out = torch.linspace(-1.5, 1.5, 6, dtype=torch.float64), 3, 2
    base, weight = (torch.randn(n_out, n, generator=draw).double() for n in (n_in, n_in * 6))
    norm = {f"layernorm.{key}": torch.ones(n_in).double() for key in ("weight", "bias")}
    state = {"base_weight": base, "spline_weight": weight, "rbf.grid": grid, **norm}
    basis = torch.exp(-(((X[..., None] - grid) / 0.6) ** 2))
    expected = F.silu(X) @ base.T + basis.flatten(1) @ weight.T
    torch.testing.assert_close(import_model(state)(X), expected)


def test_a_bias_in_a_row():
    double = doubles.lkan()
    state = {k: v[None] if k.endswith("bias") else v for k, v in double.state.items()}
    x = doubles.rows(double, 3)
    torch.testing.assert_close(import_model(state)(x), double(x), rtol=1e-12, atol=1e-12)


def test_the_kernels_of_a_convolution_are_listed_each():
    state = {
        f"conv1.convs.{n}.conv.{key}": tensor
        for n in range(3)
        for key, tensor in layer_state(9, 1, seed=n).items()
    }
    found = [(one.name, one.widths) for one in kanlens.list_kans(state)]
    assert found == [(f"conv1.convs.{n}", (9, 1)) for n in range(3)]
    assert import_model(state, submodule="conv1.convs.1").widths == (9, 1)


@pytest.mark.parametrize("norm", [nn.LayerNorm(3), nn.BatchNorm1d(3)])
def test_bsrbf_kan_with_another_norm(norm):
    d, norm = doubles.Double(), norm.double().eval()
    bsrbf(d, "", 3, 2)
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(3, generator=d.generator))
    state = {k: v for k, v in d.state.items() if not k.startswith("layernorm")}
    model = import_model(state | {f"norm.{key}": v for key, v in norm.state_dict().items()})
    expected = import_model(state)(norm(X).detach())
    torch.testing.assert_close(model(X), expected, rtol=1e-11, atol=1e-11)


class BottleNeckGRAMLayer(nn.Module):
    """Tensors of torch-conv-kan's layer, and the function that it keeps as `act`."""

    def __init__(self, state, act):
        super().__init__()
        self.act = act
        for name, tensor in state.items():
            owner, _, last = name.rpartition(".")
            if owner and not hasattr(self, owner):
                setattr(self, owner, nn.Module())
            parent = getattr(self, owner) if owner else self
            parent.register_parameter(last, nn.Parameter(tensor))


def test_a_bottleneck_of_gram_polynomials(tmp_path):
    d, n_in, inner, n_out = doubles.Double(5), 4, 2, 3
    into, shift = d.draw("inner_proj.weight", inner, n_in), d.draw("inner_proj.bias", inner)
    outof, after = d.draw("outer_proj.weight", n_out, inner), d.draw("outer_proj.bias", n_out)
    betas, weight = d.draw("beta_weights", 4), d.draw("grams_basis_weights", inner, inner, 4)
    base, gamma, beta = (
        d.draw(key, *shape)
        for key, *shape in (
            ("base_weights", n_out, n_in),
            ("norm.weight", n_out),
            ("norm.bias", n_out),
        )
    )

    def formula(x, act=F.silu):
        values = act(gram_basis(x @ into.T + shift, betas))
        sums = torch.einsum("bld,lod->bo", values, weight) @ outof.T + after + act(x) @ base.T
        return act(F.layer_norm(sums, (n_out,), gamma, beta))

    x = torch.randn(20, n_in, generator=d.generator, dtype=torch.float64)
    torch.testing.assert_close(import_model(d.state)(x), formula(x), rtol=1e-10, atol=1e-10)
    torch.save(nn.Sequential(BottleNeckGRAMLayer(d.state, nn.Tanh())), tmp_path / "gram.pt")
    model, expected = import_model(tmp_path / "gram.pt"), formula(x, torch.tanh)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_two_norms_of_which_the_library_uses_one():
    double = series_doubles.network(series_doubles.fast_kan, (2, 2, 1))
    state = dict(double.state)
    for i in range(2):
        for name in ("layernorm", "norm"):
            state[f"layers.{i}.{name}.weight"] = torch.ones(2, dtype=torch.float64) * len(name)
            state[f"layers.{i}.{name}.bias"] = torch.zeros(2, dtype=torch.float64)
    unused = {k: 0 * v if ".layernorm." in k else v for k, v in state.items()}
    x = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(import_model(state)(x), import_model(unused)(x), rtol=0, atol=0)
