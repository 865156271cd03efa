"""A model that no training can have made is refused in one line, wherever it comes from."""

import math
import re

import pytest
import torch
from safetensors.torch import save_file

from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.io._checkpoint import CHECKSUM, load, read_metadata, save
from kanlens.io.importers import import_model
from kanlens.model._network import KAN
from tests.made import made

DIVERGED = "finite numbers in NAME, got 1 of {} that are NaN or infinite. "
DIVERGED += "The training diverged; train it again."
FALLING = "NAME to rise along each row, got equal or falling knots. "
FALLING += "Update the grid on data without repeated values and save again."
ZERO = "NAME without zeros, got 1 of them. Use the spread of the data, or 1."
MASK = "NAME of zeros and ones, got {:g}. "
MASK += "Use 0 for a removed edge and 1 for any other."
FAULTS = [
    ("layers.0.base_weight", (1, 0), math.nan, DIVERGED.format(8)),
    ("layers.1.spline_weight", (0, 1, 2), math.inf, DIVERGED.format(32)),
    ("layers.1.bias", (0,), -math.inf, DIVERGED.format(1)),
    ("layers.0.spline_scaler", (0, 0), math.nan, DIVERGED.format(8)),
    ("layers.0.mask", (3, 1), math.nan, DIVERGED.format(8)),
    ("layers.0.grid", (1, 4), math.nan, DIVERGED.format(24)),
    ("input_shift", (1,), math.nan, DIVERGED.format(2)),
    ("input_low", (1,), math.nan, DIVERGED.format(2)),
    ("output_scale", (0,), math.inf, DIVERGED.format(1)),
    *[("layers.0.grid", (1, 5), knot, FALLING) for knot in (-40.0, 40.0)],
    *[(name, (0,), 0.0, ZERO) for name in ("input_scale", "output_scale")],
    *[("layers.0.mask", (2, 0), value, MASK.format(value)) for value in (0.5, -1.0, 2.0)],
]


def spoiled(name, place, value):
    model = made([2, 4, 1])
    with torch.no_grad():
        model.state_dict()[name][place] = value
    return model


def written(model, path):
    """Write a model that `save` refuses, as versions before did."""
    save(KAN.from_config(model.config).to(model.dtype), path)
    metadata = read_metadata(path, call="load")
    del metadata[CHECKSUM]
    save_file(dict(model.state_dict()), path, metadata)


@pytest.mark.parametrize(("name", "place", "value", "text"), FAULTS)
@pytest.mark.slow  # many cases
def test_an_impossible_tensor_is_refused_in_one_line(tmp_path, name, place, value, text):
    model, path = spoiled(name, place, value), tmp_path / "model.safetensors"
    words = f"expected {text}"
    torch.save(model.state_dict(), tmp_path / "model.pt")
    for source in (model, model.state_dict(), tmp_path / "model.pt"):
        full = f"import_model: {words.replace('NAME', name)}"
        with pytest.raises(InvalidValueError, match=f"^{re.escape(full)}$"):
            import_model(source)
    full = f"save: {words.replace('NAME', name)}"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(full)}$"):
        save(model, path)
    written(model, path)
    full = words.replace("NAME", f"{name} of 'model.safetensors'")
    for read, call in ((load, "load"), (import_model, "import_model")):
        with pytest.raises(FileFormatError, match=f"^{call}: {re.escape(full)}$"):
            read(path)


def test_a_range_that_falls_is_refused(tmp_path):
    model = made([2, 4, 1])
    model.input_low.fill_(2.0)
    model.input_high.fill_(1.0)
    with pytest.raises(InvalidValueError, match=r"^save: expected a range of 'x1' that rises, got"):
        save(model, tmp_path / "model.safetensors")
    written(model, tmp_path / "model.safetensors")
    text = "load: expected a range of 'x1' that rises of 'model.safetensors', got 2 to 1."
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}"):
        load(tmp_path / "model.safetensors")


def test_parameters_of_functions_and_scales_of_nodes_count_too(tmp_path):
    model = made([2, (1, 1), 1], functions=True, scaled_nodes=True)
    for name in ("layers.0.affine", "nodes.0.scale"):
        tensor = model.state_dict()[name]
        kept = tensor.clone()
        tensor.view(-1)[0] = math.nan
        with pytest.raises(InvalidValueError, match=rf"^save: expected finite numbers in {name}, "):
            save(model, tmp_path / "m.safetensors")
        written(model, tmp_path / "m.safetensors")
        with pytest.raises(FileFormatError, match=rf"^load: expected finite numbers in {name} of"):
            load(tmp_path / "m.safetensors")
        tensor.copy_(kept)
    save(model, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").layers[0].edge_terms()


def test_small_large_and_masked_numbers_are_fine(tmp_path):
    model = KAN([2, 3, 1]).double()
    with torch.no_grad():
        model.layers[0].mask[0] = 0
        model.layers[0].base_weight.fill_(1e300)
        model.input_scale.fill_(1e-300)
        model.output_scale.fill_(-1.0)
    save(model, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").edges_alive == 7
    assert import_model(model.state_dict()).edges_alive == 7
