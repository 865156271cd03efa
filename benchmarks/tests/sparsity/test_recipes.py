"""Training by recipes: schedules, shifts, constant starts, averaged weights."""

from __future__ import annotations

import gzip
import re

import pytest
import torch

from benchmarks.sparsity.digits import RECIPES
from benchmarks.sparsity.recipes import Recipe, parameters, shifted, train
from benchmarks.sparsity.starts import MNIST_WIDTHS, STARTS_BY_NAME, Start, mnist, small_digits
from kanlens import KAN
from kanlens.errors import FileFormatError, MissingFileError


def trained(recipe, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows, test = small_digits()
    model = KAN([64, 8, 10], generator=draw)
    return train(model, rows, test, recipe, generator=draw)


def test_a_network_learns_digits():
    result = trained(Recipe(epochs=3, rate=1e-2))
    assert len(result.scores) == 3
    assert result.scores[-1] > 0.8


def test_biases_stay_zero_unless_asked_for():
    result = trained(Recipe(epochs=1))
    assert all(not bool(layer.bias.any()) for layer in result.model.layers)
    assert any(
        bool(layer.bias.any()) for layer in trained(Recipe(epochs=1, bias=True)).model.layers
    )


def test_constant_starts_replace_what_was_drawn():
    model = KAN([64, 8, 10], generator=torch.Generator().manual_seed(0))
    rows, test = small_digits()
    recipe = Recipe(epochs=1, rate=1e-12, base=1.0, scaler=0.5)
    train(model, rows, test, recipe, generator=torch.Generator())
    for layer in model.layers:
        torch.testing.assert_close(layer.base_weight, torch.ones_like(layer.base_weight))
        torch.testing.assert_close(layer.spline_scaler, 0.5 * torch.ones_like(layer.spline_scaler))


def test_averaged_weights_are_tested_and_differ_from_the_last():
    average, last = trained(Recipe(epochs=2, average=0.9)), trained(Recipe(epochs=2))
    gap = average.model.layers[0].base_weight - last.model.layers[0].base_weight
    assert 0 < gap.abs().max() < 0.1


def test_rates_fall_by_the_epoch_or_along_a_cosine():
    falling = Recipe(rate=1.0, gamma=0.5)
    assert [falling.rate_at(step, 10) for step in (0, 9, 10, 25)] == [1.0, 1.0, 0.5, 0.25]
    cosine = Recipe(rate=1.0, schedule="cosine", epochs=2, warmup=0.5)
    assert cosine.rate_at(0, 10) < cosine.rate_at(4, 10) < cosine.rate_at(5, 10) == 1.0
    assert cosine.rate_at(19, 10) < 0.05


def test_images_move_by_whole_pixels_and_fill_with_background():
    image = torch.full((200, 25), -1.0)
    image[:, 12] = 1.0
    moved = shifted(image, 1, torch.Generator().manual_seed(0))
    places = moved.argmax(1)
    assert set(places.tolist()) == {6, 7, 8, 11, 12, 13, 16, 17, 18}
    torch.testing.assert_close(moved.sum(1), image.sum(1))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_the_same_parameters(name):
    model = KAN(MNIST_WIDTHS, generator=torch.Generator())
    reference = 784 * 64 * 10 + 64 * 10 * 10
    biases = sum(layer.bias.numel() for layer in model.layers)
    assert not RECIPES[name].bias
    assert parameters(model) - biases == reference


def test_the_first_constant_start_is_efficient_kans():
    assert STARTS_BY_NAME["uniform"] == Start(base=None, scaler=None, beyond="zero")
    assert STARTS_BY_NAME["constant 1"] == Start(base=1.0, scaler=1.0, beyond="zero")


def write(path, header, values):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(header + bytes(values)))


def test_mnist_is_read_and_scaled(tmp_path):
    for part in ("train", "t10k"):
        header = b"\0\0\x08\x03" + (2).to_bytes(4, "big") + bytes(8)
        write(tmp_path / "mnist" / f"{part}-images-idx3-ubyte.gz", header, [0, 255, 51, 0])
        header = b"\0\0\x08\x01" + (2).to_bytes(4, "big")
        write(tmp_path / "mnist" / f"{part}-labels-idx1-ubyte.gz", header, [3, 9])
    (x, y), _ = mnist(tmp_path)
    torch.testing.assert_close(x, torch.tensor([[-1.0, 1.0], [-0.6, -1.0]]))
    assert y.tolist() == [3, 9]


def test_what_is_not_mnist_is_refused(tmp_path):
    name = "mnist/train-images-idx3-ubyte.gz"
    text = f"benchmarks: expected the file {name}, got no data folder"
    with pytest.raises(MissingFileError, match=re.escape(text)):
        mnist(None)
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    write(path, b"something else", [1, 2, 3])
    with pytest.raises(FileFormatError, match=r"expected an idx file, got .*Get it again"):
        mnist(tmp_path)
