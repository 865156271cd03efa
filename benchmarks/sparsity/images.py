"""Handwritten digits: MNIST from a folder, or the small ones that come with scikit-learn."""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.sparsity.problems import data_file
from kanlens.checks import message
from kanlens.errors import FileFormatError

__all__ = ["Images", "mnist", "small_digits"]

Images = tuple[Tensor, Tensor]  # pixels (rows, pixel) from -1 to 1, and labels (rows,)
HEADERS = {"images": 16, "labels": 8}  # bytes


def mnist(folder: Path | None) -> tuple[Images, Images]:
    """Return the images to train on (60,000) and to test on (10,000), pixels scaled to [-1, 1].

    Parameters
    ----------
    folder : Path, optional
        Holds mnist/ with the four files of the database.

    Raises
    ------
    MissingFileError
        If they are not there.
    FileFormatError
        If one of them is something else.
    """
    train, test = (
        (
            _read(folder, f"{part}-images-idx3-ubyte.gz"),
            _read(folder, f"{part}-labels-idx1-ubyte.gz"),
        )
        for part in ("train", "t10k")
    )
    return _scaled(*train), _scaled(*test)


def _read(folder: Path | None, name: str) -> Tensor:
    path = data_file(folder, f"mnist/{name}")
    raw = gzip.decompress(path.read_bytes())
    header = HEADERS["images" if "images" in name else "labels"]
    count = int.from_bytes(raw[4:8], "big")
    if raw[:2] != b"\0\0" or (len(raw) - header) % max(count, 1):
        advice = "Get it again"
        raise FileFormatError(message("benchmarks sparsity", "an idx file", f"{path}", advice))
    return torch.frombuffer(bytearray(raw[header:]), dtype=torch.uint8).view(count, -1)


def _scaled(pixels: Tensor, labels: Tensor) -> Images:
    return pixels.float() / 127.5 - 1, labels[:, 0].long()


def small_digits() -> tuple[Images, Images]:
    """Return the 8 x 8 digits of scikit-learn: 1,400 to train on, 397 to test on.

    Examples
    --------
    >>> small_digits()[1][0].shape
    torch.Size([397, 64])
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).float() / 8 - 1
    y = torch.from_numpy(labels).long()
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])
