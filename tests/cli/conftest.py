"""A small table and a model trained on it, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kanlens.cli import main


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data.csv and the model that the command train made of it."""
    folder = tmp_path_factory.mktemp("workshop")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (120, 3)), columns=["width", "height", "noise"])
    frame["area"] = np.sin(3 * frame["width"]) + frame["height"] ** 2
    frame.to_csv(folder / "data.csv", index=False)
    words = ["train", f"{folder}/data.csv", "--target", "area", "--hidden", "2", "--steps", "5"]
    assert main([*words, "--seed", "0", "-o", f"{folder}/model.safetensors", "--quiet"]) == 0
    return folder


@pytest.fixture(scope="session")
def flat(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of one layer of the same table, where the whole job is short."""
    out = tmp_path_factory.mktemp("flat") / "model.safetensors"
    words = ["train", f"{workshop}/data.csv", "--target", "area", "--hidden", "0", "--steps", "5"]
    assert main([*words, "--seed", "0", "-o", str(out), "--quiet"]) == 0
    return out
